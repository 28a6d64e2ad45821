"""The tuning loop: a generator of epoch reports that knows nothing of Ray.

Only the query tower runs: positives and negatives are rows of the passage bank. The regime is the paper's (Appendix E):
triplet margin loss on the pooled, unnormalised embeddings; after each epoch a validation; an epoch improves when
validation loss and error count are both below those of the last improved state; tuning stops after so many epochs
without improvement. The data order is a seeded permutation, renewed when the samples are used up.

Legend: Q queries (samples), B queries of a batch, P passages, D embedding size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from adiabatic_ray.backbones import TokenizedTexts, Tower
from adiabatic_ray.encode import encode, pad
from adiabatic_ray.optim import build_optimizer
from adiabatic_ray.spec import TuningSpec

StoppedBy = Literal["idle", "max_epochs", "diverged"]
_ADDED_BY_TORCH = 1e-6
"""`triplet_margin_loss` adds this to every coordinate difference; validation does the same to count what it sees."""


@dataclass(frozen=True)
class TuningTriplets:
    """Triplets ready to tune or validate on: token ids of the queries, rows of the passage bank."""

    queries: TokenizedTexts
    positive_rows_Q: np.ndarray
    negative_rows_Q: np.ndarray
    passages_PD: np.ndarray

    def __len__(self) -> int:
        return len(self.queries)

    def passages(self, rows_B: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings [B, D] of the positives and of the negatives of some samples."""
        positives_BD = torch.from_numpy(self.passages_PD[self.positive_rows_Q[rows_B]])
        negatives_BD = torch.from_numpy(self.passages_PD[self.negative_rows_Q[rows_B]])
        return positives_BD.to(device), negatives_BD.to(device)


@dataclass(frozen=True)
class EpochReport:
    """State after an epoch; epoch 0 is the untuned tower. The last report of a run says what stopped it."""

    epoch: int
    num_steps: int
    train_loss: float
    validation_loss: float
    validation_errors: int
    num_validation: int
    improved: bool
    elapsed_s: float
    finished_at_ms: int
    """Milliseconds since 1970, UTC."""
    stopped_by: StoppedBy | None


def tune(
    tower: Tower, spec: TuningSpec, triplets: TuningTriplets, validation: TuningTriplets, token_budget: int
) -> Iterator[EpochReport]:
    """Tune a query tower in place and report after each epoch.

    When the generator is exhausted the tower holds the state that `spec.keep` asks for: that of the last improved epoch
    (of epoch 0, the untuned tower, when none improved) or the final one. A diverged tower is left as it is.

    Args:
        tower: its parameters with `requires_grad` are trained.
        spec: the regime.
        triplets: samples to tune on.
        validation: samples to validate on, every one of them after every epoch.
        token_budget: see `encode.plan_batches`; for validation.

    Yields:
        One report for epoch 0, then one per epoch. Divergence (a loss that is not finite) ends the run; it is a result.

    Raises:
        ValueError: fewer samples than one batch, no validation samples, or nothing to train.
    """
    _check_sizes(tower, spec, triplets, validation)
    torch.manual_seed(spec.seed)
    tower.train(spec.dropout)
    parameters = [parameter for parameter in tower.parameters() if parameter.requires_grad]
    optimizer = build_optimizer(parameters, spec)
    batches = _batches(len(triplets), spec)
    started = time.monotonic()

    def report(epoch: int, train_loss: float, best: tuple[float, int] | None, idle: int) -> EpochReport:
        loss, errors = _validate(tower, validation, spec.margin, token_budget)
        tower.train(spec.dropout)
        improved = best is None or (loss < best[0] and errors < best[1])
        stopped_by: StoppedBy | None = None
        if not np.isfinite(loss) or (epoch and not np.isfinite(train_loss)):
            improved, stopped_by = False, "diverged"
        elif spec.idle_epochs is not None and not improved and idle + 1 >= spec.idle_epochs:
            stopped_by = "idle"
        elif spec.max_epochs is not None and epoch >= spec.max_epochs:
            stopped_by = "max_epochs"
        return EpochReport(
            epoch=epoch,
            num_steps=epoch * spec.batches_per_epoch,
            train_loss=train_loss,
            validation_loss=loss,
            validation_errors=errors,
            num_validation=len(validation),
            improved=improved,
            elapsed_s=time.monotonic() - started,
            finished_at_ms=int(time.time() * 1000),
            stopped_by=stopped_by,
        )

    current = report(0, float("nan"), None, 0)
    yield current
    best, kept, idle = (current.validation_loss, current.validation_errors), _copy(parameters), 0
    while current.stopped_by is None:
        train_loss = _run_epoch(tower, parameters, optimizer, triplets, batches, spec)
        current = report(current.epoch + 1, train_loss, best, idle)
        idle = 0 if current.improved else idle + 1
        if current.improved:
            best = (current.validation_loss, current.validation_errors)
            if spec.keep == "improved":
                kept = _copy(parameters)
        if current.stopped_by is not None and current.stopped_by != "diverged" and spec.keep == "improved":
            _restore(parameters, kept)
        yield current
    tower.eval()


def _run_epoch(
    tower: Tower,
    parameters: list[torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    triplets: TuningTriplets,
    batches: Iterator[np.ndarray],
    spec: TuningSpec,
) -> float:
    """Mean loss over the epoch's steps; not finite as soon as one step's loss is not."""
    device = parameters[0].device
    total = 0.0
    for _ in range(spec.batches_per_epoch):
        rows_B = next(batches)
        queries_BD = tower(*pad(triplets.queries, rows_B, device))
        positives_BD, negatives_BD = triplets.passages(rows_B, device)
        loss = functional.triplet_margin_loss(queries_BD, positives_BD, negatives_BD, margin=spec.margin)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        total += loss.item()
        if not np.isfinite(total):
            return total
    return total / spec.batches_per_epoch


def _batches(num_samples: int, spec: TuningSpec) -> Iterator[np.ndarray]:
    """Rows of each batch, without end: one seeded permutation after another; a last short batch is dropped."""
    generator = np.random.default_rng(spec.seed)
    while True:
        order_Q = generator.permutation(num_samples)
        for start in range(0, num_samples - spec.batch_size + 1, spec.batch_size):
            yield order_Q[start : start + spec.batch_size]


def _validate(tower: Tower, validation: TuningTriplets, margin: float, token_budget: int) -> tuple[float, int]:
    """Mean triplet loss, and the number of triplets whose positive is not strictly closer (Euclidean distance)."""
    tower.eval()
    queries_QD = torch.from_numpy(encode(tower, validation.queries, token_budget))
    positives_QD, negatives_QD = validation.passages(np.arange(len(validation)), torch.device("cpu"))
    to_positive_Q = torch.linalg.vector_norm(queries_QD - positives_QD + _ADDED_BY_TORCH, dim=1)
    to_negative_Q = torch.linalg.vector_norm(queries_QD - negatives_QD + _ADDED_BY_TORCH, dim=1)
    loss_Q = torch.relu(to_positive_Q - to_negative_Q + margin)
    return float(loss_Q.double().mean()), int((to_positive_Q >= to_negative_Q).sum())


def _copy(parameters: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def _restore(parameters: list[torch.nn.Parameter], kept: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)


def _check_sizes(tower: Tower, spec: TuningSpec, triplets: TuningTriplets, validation: TuningTriplets) -> None:
    if len(triplets) < spec.batch_size:
        raise ValueError(
            f"tuning needs at least one batch, got {len(triplets)} samples for batch_size {spec.batch_size}; "
            "lower batch_size or give more samples"
        )
    if len(validation) == 0:
        raise ValueError("tuning needs validation samples, got none; set num_validation of the source to 1 or more")
    if not any(parameter.requires_grad for parameter in tower.parameters()):
        raise ValueError(
            f"tuning needs something to train, got the freeze plan {spec.freeze!r}, which freezes all of it"
        )
