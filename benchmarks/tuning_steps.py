"""Tuning steps to be timed: as the regime is usually written, and in packs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional

from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts
from adiabatic_ray.evaluation.encode import pad
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tuning.optim import build_optimizer
from adiabatic_ray.tuning.pack import Pack
from adiabatic_ray.tuning.tune import trainable_names
from adiabatic_ray.tuning.tuning_data import TuningTriplets

SPEC = TuningSpec(batches_per_epoch=1, idle_epochs=None, max_epochs=10**9, keep="final")


def plain_step(
    backbone: Backbone, triplets: TuningTriplets, passages: TokenizedTexts, device: str
) -> Callable[[], None]:
    """The step as the regime is usually written: three encoder passes on padded batches, nothing from the bank."""
    frozen = backbone.build_tower(device=device)
    tower = backbone.build_tower(trainable_names(backbone, SPEC.freeze)[0], device)
    optimizer = build_optimizer([one for one in tower.parameters() if one.requires_grad], SPEC)
    sides, order = (triplets.positive_rows_Q, triplets.negative_rows_Q), np.random.default_rng(0)

    def step() -> None:
        rows_B = order.choice(len(triplets), SPEC.batch_size, replace=False)
        with torch.no_grad():
            positives_BD, negatives_BD = (frozen(*pad(passages, side[rows_B], torch.device(device))) for side in sides)
        queries_BD = tower(*pad(triplets.queries, rows_B, torch.device(device)))
        loss = functional.triplet_margin_loss(queries_BD, positives_BD, negatives_BD, margin=SPEC.margin)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def pack_of(backbone: Backbone, triplets: TuningTriplets, size: int, num_steps: int, device: str) -> Pack:
    """A pack whose members have rates and orders of the data of their own.

    A validation on a single query ends each epoch of `num_steps`: with five steps under a fortieth of a step.
    """
    trainable, _ = trainable_names(backbone, SPEC.freeze)
    one = TuningTriplets(
        triplets.queries.select(np.arange(1)),
        triplets.positive_rows_Q[:1],
        triplets.negative_rows_Q[:1],
        triplets.passages,
    )
    like = SPEC.model_copy(update={"batches_per_epoch": num_steps})
    pack = Pack(backbone, trainable, like, size, triplets, one, 512, device)
    for member in range(size):
        spec = like.model_copy(update={"seed": member, "learning_rate": (member + 1) * 1e-8})
        pack.join(str(member), spec, trainable)
    return pack
