"""What moved in a tuned tower, and what could move at all: step resolution, per tensor.

A float32 number in [2^k, 2^(k+1)) is spaced 2^(k-23) from its neighbour; a step below half of that is lost. At the
rates of the adiabatic regime this decides which weights train (see docs and `spec.TuningSpec`). numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def movable_frac(weights: np.ndarray, learning_rate: float) -> float:
    """Share of float32 weights that a step of the size of the learning rate, up or down, changes.

    An AdamW step is at most about the rate and mostly smaller, so this is an upper bound of what trains.
    """
    step = np.float32(learning_rate)
    return float(np.mean((weights + step != weights) | (weights - step != weights)))


def drift_rows(
    untuned: Mapping[str, np.ndarray],
    tuned: Mapping[str, np.ndarray],
    learning_rate: float,
    l2_lost: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Rows of the `drift` table without their `trial_id`, one per tensor of `tuned`, in its order.

    Args:
        untuned: float32 tensors of the backbone, by name.
        tuned: the trainable tensors after tuning, by name.
        learning_rate: the trial's rate.
        l2_lost: norms of what rounding leaves out of `tuned`, by name, where tuning kept it.
    """
    rows = []
    for name, after in tuned.items():
        before = untuned[name]
        change = after.astype(np.float64) - before.astype(np.float64)
        rows.append(
            {
                "tensor": name,
                "num_weights": before.size,
                "movable_frac": movable_frac(before, learning_rate),
                "moved_frac": float(np.mean(after != before)),
                "max_change": float(np.abs(change).max()),
                "l2_change": float(np.linalg.norm(change)),
                "l2_lost": None if l2_lost is None else l2_lost[name],
                "l2_untuned": float(np.linalg.norm(before.astype(np.float64))),
            }
        )
    return rows
