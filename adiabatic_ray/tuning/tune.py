"""Tunes one trial by itself: a pack with one slot, from the untuned tower to the state that is kept."""

from __future__ import annotations

import resource
from collections.abc import Callable

from adiabatic_ray.encoders import freezing, towers
from adiabatic_ray.encoders.backbones import Backbone
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.statistics import drift
from adiabatic_ray.statistics.blocks import PASSAGE_TOWER
from adiabatic_ray.tuning.news import EpochReport, Trained, Tuned
from adiabatic_ray.tuning.pack import Pack
from adiabatic_ray.tuning.tuning_data import TuningTriplets


def trainable_names(backbone: Backbone, freeze: str) -> tuple[list[str], list[str]]:
    """Names of the trainable and of the frozen tensors under a freeze plan, in the model's order.

    Raises:
        ValueError: a pattern that matches nothing.
    """
    names = list(backbone.weights)
    trainable = freezing.trainable_names(freezing.parse_plan(freeze), names, backbone.num_blocks)
    return list(trainable), [name for name in names if name not in trainable]


def tuned_names(backbone: Backbone, spec: TuningSpec) -> list[str]:
    """Names of the tensors that a trial trains: of the query tower, then of the passage tower if it is tuned.

    Raises:
        ValueError: a pattern of the freeze plan that matches nothing.
    """
    names, _ = trainable_names(backbone, spec.freeze)
    return names + [PASSAGE_TOWER + name for name in names if spec.towers == "both"]


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
    trainable = tuned_names(backbone, spec)
    pack = Pack(backbone, trainable, spec, 1, triplets, validation, token_budget, device)
    pack.join("alone", spec, trainable)
    current = pack.start()["alone"]
    report(current)
    while current.stopped_by is None:
        current = pack.run_epoch()["alone"]
        report(current)
    return tuned_of(backbone, spec, pack.leave("alone"))


def tuned_of(backbone: Backbone, spec: TuningSpec, trained: Trained) -> Tuned:
    """What there is to say about what tuning leaves.

    Args:
        backbone: where it started.
        spec: the regime.
        trained: of `Pack.leave`.
    """
    tensors = trained.tensors
    num_weights = sum(value.size for value in backbone.weights.values())
    untuned = {name: towers.untuned_tensor(backbone, name) for name in tensors}
    return Tuned(
        tensors=tensors,
        changed=frozenset(towers.changed_tensors(backbone, tensors)),
        drift=drift.drift_rows(untuned, tensors, spec.learning_rate, trained.l2_lost),
        num_frozen=num_weights * (2 if spec.towers == "both" else 1) - sum(one.size for one in tensors.values()),
        queue_s=trained.queue_s,
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,  # Linux counts kilobytes
    )
