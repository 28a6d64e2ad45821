"""One trial inside a pack: its weights' place, its optimizer, its order of the data, and when it stops.

The regime is the paper's (Appendix E): after each epoch a validation; an epoch improves when validation loss and error
count are both below those of the last improved state; tuning stops after so many epochs without improvement.

Legend: B queries of a batch.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping

import numpy as np
import torch

from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.step_rules import is_import_path
from adiabatic_ray.tuning.news import EpochReport, StoppedBy
from adiabatic_ray.tuning.optim import build_optimizer, set_rate
from adiabatic_ray.tuning.precise_steps import PreciseOptimizer
from adiabatic_ray.tuning.saved_states import MemberState
from adiabatic_ray.tuning.schedules import factor_of
from adiabatic_ray.tuning.tuning_data import seeded_batches


class Member:
    """A trial that is being tuned; whoever runs the steps asks it for rows and tells it what an epoch gave."""

    def __init__(self, spec: TuningSpec, parameters: Mapping[str, torch.nn.Parameter], num_samples: int) -> None:
        """Begin a run.

        Args:
            spec: the regime.
            parameters: what the trial trains, by name, holding the weights that it starts from.
            num_samples: of the data to tune on.

        Raises:
            ValueError: an optimizer or schedule of the user's own that can't be used.
        """
        self.spec = spec
        self.parameters = parameters
        self.optimizer = build_optimizer(list(parameters.values()), spec)
        self.reports: list[EpochReport] = []
        self._factor = factor_of(spec)
        self._num_steps = 0
        self._batches = seeded_batches(num_samples, spec.batch_size, spec.seed)
        self._kept: dict[str, torch.Tensor] | None = None
        self._kept_lost: dict[str, torch.Tensor] = {}
        self._started = time.monotonic()

    @property
    def stopped_by(self) -> StoppedBy | None:
        """What ended the run; None while it goes on."""
        return self.reports[-1].stopped_by if self.reports else None

    @property
    def can_be_captured(self) -> bool:
        """Whether its steps can be replayed; of a user's own optimizer nobody knows."""
        return not is_import_path(self.spec.optimizer)

    def begin_step(self) -> np.ndarray:
        """Set the next step's rate; rows [B] of its samples. Not a part of what is captured and replayed."""
        # A constant rate stays as it was given.
        if self.spec.schedule != "constant" or isinstance(self.optimizer, PreciseOptimizer):
            rate = self.spec.learning_rate * self._factor(self._num_steps)
            set_rate(self.optimizer, rate, self._num_steps)
        self._num_steps += 1
        return next(self._batches)

    def finish_epoch(
        self, train_loss: float, validation_loss: float, validation_errors: int, num_validation: int
    ) -> EpochReport:
        """Judge the epoch that just ended; the first call is about epoch 0, the untuned tower.

        Divergence, a loss that is not finite, ends the run; it is a result.
        """
        spec, epoch = self.spec, len(self.reports)
        best = next((report for report in reversed(self.reports) if report.improved), None)
        improved = best is None or (
            validation_loss < best.validation_loss and validation_errors < best.validation_errors
        )
        idle = 0 if best is None else epoch - best.epoch
        stopped_by: StoppedBy | None = None
        if not np.isfinite(validation_loss) or (epoch and not np.isfinite(train_loss)):
            improved, stopped_by = False, "diverged"
        elif spec.idle_epochs is not None and not improved and idle >= spec.idle_epochs:
            stopped_by = "idle"
        elif spec.max_epochs is not None and epoch >= spec.max_epochs:
            stopped_by = "max_epochs"
        if improved and spec.keep == "improved":
            self._kept = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
            self._kept_lost = self._lost()
        report = EpochReport(
            epoch=epoch,
            num_steps=epoch * spec.batches_per_epoch,
            train_loss=train_loss,
            validation_loss=validation_loss,
            validation_errors=validation_errors,
            num_validation=num_validation,
            improved=improved,
            elapsed_s=time.monotonic() - self._started,
            finished_at_ms=int(time.time() * 1000),
            stopped_by=stopped_by,
        )
        self.reports.append(report)
        return report

    def trained(self) -> dict[str, np.ndarray]:
        """Copies, on the CPU, of the tensors in the state that `spec.keep` asks for.

        That is the last improved one (the untuned one when no epoch improved), or the final one. Of a diverged trial
        it is the final one.
        """
        kept = None if self.stopped_by == "diverged" else self._kept
        tensors: Mapping[str, torch.Tensor] = self.parameters if kept is None else kept
        return {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}

    def l2_lost(self) -> dict[str, float] | None:
        """What rounding to float32 leaves out of the tensors of `trained`: Euclidean norms, by name.

        None where nobody knows: float32 forgets what it loses.
        """
        if not isinstance(self.optimizer, PreciseOptimizer):
            return None
        is_kept = self._kept is not None and self.stopped_by != "diverged"
        return {name: float(norm) for name, norm in (self._kept_lost if is_kept else self._lost()).items()}

    def state(self) -> MemberState:
        """Everything needed to go on after the last finished epoch; not for trials with dropout."""
        tensors: dict[str, torch.Tensor] = {f"weights.{name}": one for name, one in self.parameters.items()}
        tensors |= {f"kept.{name}": tensor for name, tensor in (self._kept or {}).items()}
        tensors |= {f"lost.{name}": norm for name, norm in self._kept_lost.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{key}.{name}"] = value
        return MemberState(
            {name: tensor.detach().cpu().numpy().copy() for name, tensor in tensors.items()}, tuple(self.reports)
        )

    def can_resume(self, state: MemberState) -> bool:
        """Whether a state has reports, and weights of the names and shapes of this trial's."""
        stored = {
            name.removeprefix("weights."): tensor.shape
            for name, tensor in state.tensors.items()
            if name.startswith("weights.")
        }
        return bool(state.reports) and stored == {name: one.shape for name, one in self.parameters.items()}

    def resume(self, state: MemberState) -> None:
        """Go on from a state of the same trial."""
        elapsed_s = state.reports[-1].elapsed_s
        self.reports, self._started = list(state.reports), time.monotonic() - elapsed_s
        kept: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            for full_name, stored in state.tensors.items():
                value = torch.from_numpy(stored)
                kind, _, name = full_name.partition(".")
                if kind == "weights":
                    self.parameters[name].copy_(value)
                elif kind == "kept":
                    kept[name] = value.to(self.parameters[name].device, copy=True)
                elif kind == "lost":
                    self._kept_lost[name] = value
                else:
                    key, _, name = name.partition(".")
                    parameter = self.parameters[name]
                    device = parameter.device if key != "step" or self._is_capturable else torch.device("cpu")
                    self.optimizer.state[parameter][key] = value.to(device, copy=True)
        self._kept = kept or None
        self._num_steps = self.reports[-1].epoch * self.spec.batches_per_epoch
        next(itertools.islice(self._batches, self._num_steps, self._num_steps), None)

    def _lost(self) -> dict[str, torch.Tensor]:
        if not isinstance(self.optimizer, PreciseOptimizer):
            return {}
        left_out = {name: self.optimizer.left_out(parameter) for name, parameter in self.parameters.items()}
        return {name: torch.linalg.vector_norm(one, dtype=torch.float64) for name, one in left_out.items()}

    @property
    def _is_capturable(self) -> bool:
        return bool(self.optimizer.defaults.get("capturable"))
