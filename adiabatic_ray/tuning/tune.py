"""Tunes one trial by itself: a pack with one slot, from the untuned tower to the state that is kept."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from adiabatic_ray.encoders import freezing
from adiabatic_ray.encoders.backbones import Backbone
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tuning.member import EpochReport
from adiabatic_ray.tuning.pack import Pack
from adiabatic_ray.tuning.tuning_data import TuningTriplets


@dataclass(frozen=True)
class Tuned:
    """What tuning leaves."""

    tensors: Mapping[str, np.ndarray]
    """The trained ones, by name: see `Member.trained`."""
    peak_memory_bytes: int
    """Largest resident memory so far of the process that tuned."""


def trainable_names(backbone: Backbone, freeze: str) -> tuple[list[str], list[str]]:
    """Names of the trainable and of the frozen tensors under a freeze plan, in the model's order.

    Raises:
        ValueError: a pattern that matches nothing.
    """
    names = list(backbone.weights)
    trainable = freezing.trainable_names(freezing.parse_plan(freeze), names, backbone.num_blocks)
    return list(trainable), [name for name in names if name not in trainable]


def tune(
    backbone: Backbone,
    spec: TuningSpec,
    triplets: TuningTriplets,
    validation: TuningTriplets,
    token_budget: int,
    report: Callable[[EpochReport], None],
    device: str = "cpu",
) -> Tuned:
    """Tune a query tower.

    Args:
        backbone: where it starts.
        spec: the regime.
        triplets: samples to tune on.
        validation: samples to validate on.
        token_budget: see `encode.plan_batches`; for validation.
        report: called after epoch 0, the untuned tower, and after each epoch; the last report says what stopped it.
        device: where it runs.

    Raises:
        ValueError: fewer samples than one batch, no validation samples, or nothing to train.
    """
    trainable, _ = trainable_names(backbone, spec.freeze)
    pack = Pack(backbone, trainable, spec, 1, triplets, validation, token_budget, device)
    pack.join("alone", spec, trainable)
    current = pack.start()["alone"]
    report(current)
    while current.stopped_by is None:
        current = pack.run_epoch()["alone"]
        report(current)
    return Tuned(pack.leave("alone"), peak_memory_bytes())


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts kilobytes
