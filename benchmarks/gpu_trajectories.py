"""Does a pack learn the same on the CPU, on a GPU kernel by kernel, and on a GPU as replayed graphs?

Float32 rounds differently in another order of summation, and AdamW makes a whole step of the sign of a gradient near
zero. So trajectories are compared by the distance between the weights relative to the way that they went, over all
weights, and by the share of weights that differ by more than a hundredth of the way that full steps would have led.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from adiabatic_ray.encoders.backbones import Backbone
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tuning.pack import Pack
from adiabatic_ray.tuning.tune import trainable_names
from adiabatic_ray.tuning.tuning_data import TuningTriplets

MEMBERS: dict[str, dict[str, Any]] = {
    "rate 1e-6": {"learning_rate": 1e-6},
    "rate 1e-5, other order": {"learning_rate": 1e-5, "seed": 1},
    "rate 0": {"learning_rate": 0.0},
    "rate 1e-5, frozen block": {"learning_rate": 1e-5, "freeze": "embeddings, B0", "seed": 2},
}
Weights = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Trajectory:
    """What a pack came to."""

    tensors: dict[str, Weights]
    """By member."""
    train_loss: dict[str, float]
    """Of the last epoch, by member."""
    num_captures: int
    num_replays: int


def follow(
    backbone: Backbone, triplets: TuningTriplets, num_steps: int, device: str, graphs: bool = True, batch_size: int = 14
) -> Trajectory:
    """Tune all `MEMBERS` in one pack for two epochs.

    Args:
        backbone: where they start.
        triplets: to tune and to validate on.
        num_steps: of an epoch.
        device: where.
        graphs: whether steps are replayed as graphs, where the device has them.
        batch_size: triplets a step.
    """
    base = TuningSpec(batch_size=batch_size, batches_per_epoch=num_steps, idle_epochs=None, max_epochs=2, keep="final")
    pack = Pack(
        backbone, trainable_names(backbone, base.freeze)[0], base, len(MEMBERS), triplets, triplets, 4096, device
    )
    if not graphs:
        pack.graphs = None
    for name, changes in MEMBERS.items():
        spec = base.model_copy(update=changes)
        pack.join(name, spec, trainable_names(backbone, spec.freeze)[0])
    pack.run_epoch()
    reports = pack.run_epoch()
    counts = (0, 0) if pack.graphs is None else (pack.graphs.num_captures, pack.graphs.num_replays)
    losses = {name: report.train_loss for name, report in reports.items()}
    return Trajectory({name: pack.leave(name).tensors for name in MEMBERS}, losses, *counts)


def apart(one: Weights, other: Weights, start: Weights, full_step: float) -> dict[str, float]:
    """How far two towers are from each other, relative to how far they are from where they began.

    Args:
        one: a tower's trained tensors.
        other: the other's.
        start: the backbone's.
        full_step: rate times steps, the longest way of a weight.

    Returns:
        `distance_frac`: norm of the difference over norm of the way; `max_frac`: largest difference over largest way;
        `far_frac`: share of weights further apart than a hundredth of `full_step`. Key biases are left out: they have
        no gradient but rounding.
    """
    names = [name for name in one if not name.endswith("key.bias")]
    difference = np.concatenate([(one[name] - other[name]).ravel() for name in names])
    way = np.concatenate([(other[name] - start[name]).ravel() for name in names])
    return {
        "distance_frac": float(np.linalg.norm(difference) / np.linalg.norm(way)),
        "max_frac": float(np.abs(difference).max() / np.abs(way).max()),
        "far_frac": float((np.abs(difference) > 0.01 * full_step).mean()),
    }


def is_untouched(tensors: Weights, start: Weights) -> bool:
    """Whether every weight is the number that it was (a zero may have changed its sign)."""
    return all(np.array_equal(value, start[name]) for name, value in tensors.items())


def measure(backbone: Backbone, triplets: TuningTriplets, num_steps: int, device: str) -> dict[str, Any]:
    """Rows for the report: every member, graphs against eager, eager against the CPU, and the CPU against itself."""
    runs = {
        "graphs": follow(backbone, triplets, num_steps, device),
        "eager": follow(backbone, triplets, num_steps, device, graphs=False),
        "eager again": follow(backbone, triplets, num_steps, device, graphs=False),
        "CPU": follow(backbone, triplets, num_steps, "cpu"),
    }
    rows = []
    for name, changes in MEMBERS.items():
        if rate := changes["learning_rate"]:
            for one, other in (("graphs", "eager"), ("eager again", "eager"), ("graphs", "CPU")):
                figures = apart(
                    runs[one].tensors[name], runs[other].tensors[name], backbone.weights, 2 * num_steps * rate
                )
                losses = (runs[one].train_loss[name], runs[other].train_loss[name])
                rows.append({"member": name, "compared": f"{one} / {other}", **figures, "losses": f"{losses}"})
    return {
        "steps": 2 * num_steps,
        "captures": runs["graphs"].num_captures,
        "replays": runs["graphs"].num_replays,
        "rate 0 untouched": {name: is_untouched(run.tensors["rate 0"], backbone.weights) for name, run in runs.items()},
        "trajectories": rows,
    }
