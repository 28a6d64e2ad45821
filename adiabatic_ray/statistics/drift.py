"""What moved in a tuned tower, and what could move at all: per tensor, per block, per tower.

A float32 number in [2^k, 2^(k+1)) is spaced 2^(k-23) from its neighbour; a step below half of that is lost. At the
rates of the adiabatic regime this decides which weights train (see docs and `spec.TuningSpec`). numpy only.

The paper ranks layers by two numbers of its own (Tables 14 and 15), `largest_changed` and `relative_change` here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from adiabatic_ray.statistics.blocks import PASSAGE_TOWER, block_of


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
        l2_change, l2_untuned = float(np.linalg.norm(change)), float(np.linalg.norm(before.astype(np.float64)))
        rows.append(
            {
                "tensor": name,
                "block": block_of(name),
                "num_weights": before.size,
                "movable_frac": movable_frac(before, learning_rate),
                "moved_frac": float(np.mean(after != before)),
                "max_change": float(np.abs(change).max()),
                "l2_change": l2_change,
                "l2_relative": _relative(l2_change, l2_untuned),
                "l2_lost": None if l2_lost is None else l2_lost[name],
                "l2_untuned": l2_untuned,
                "largest_untuned": _largest(before),
                "largest_tuned": _largest(after),
            }
        )
    return rows


def largest_changed(row: Mapping[str, Any]) -> float:
    """The 'change' of Table 14: the largest weight of a tensor, if tuning changed it; else 0.

    The paper says "the maximal weight of the layer if it was changed by the tuning". Its table fits the reading that
    it is the weight that must have changed, and that large means large in magnitude. In the packaged E5 (4-bit weights,
    so only roughly the paper's), key biases aside, whose gradient is zero, the tensors with the largest magnitudes are
    below 8, 1.output.dense.weight (7.41) and 5.output.dense.weight (6.60), which the paper prints at 1e-7; below 4,
    8.output.dense.weight (3.81), then 3.output.dense.weight (3.51) and 2.output.dense.weight (3.40), printed from 5e-8
    to 7e-8; below 2, 5.intermediate.dense.weight (1.93) and 3.attention.output.LayerNorm.weight (1.86), printed at
    2e-8 and 4e-8. Powers of two are where float32's spacing doubles: steps of a low rate can't move what lies above. By
    signed value 5.intermediate.dense.weight has 0.97, behind 18 other tensors below 2; and if any change of the layer
    were enough, 6.output.dense.weight (9.67) would be first at every rate.

    Args:
        row: of the `drift` table, or `combined` numbers.
    """
    after: float = row["largest_tuned"]
    return 0.0 if after == row["largest_untuned"] else after


def relative_change(row: Mapping[str, Any]) -> float:
    """The 'change' of Table 15: (W_t - W_o) / (W_t + W_o) of the largest magnitudes, tuned and untuned; 0 of zeros.

    Negative where the largest weight shrank. Args as of `largest_changed`.
    """
    before, after = row["largest_untuned"], row["largest_tuned"]
    return 0.0 if before == after else (after - before) / (after + before)


def combined(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The numbers of several tensors as if they were one: a block, or a whole tower.

    Args:
        rows: of the `drift` table, at least one.

    Returns:
        `num_tensors`; the columns of the table that are numbers: norms are roots of summed squares, shares are weighted
        by size, the largest weights are the largest of all; and the paper's numbers, `largest_changed` (the largest
        of the tensors') and `relative_change` (of the largest weights of all).
    """
    sizes = np.array([row["num_weights"] for row in rows])
    found: dict[str, Any] = {"num_tensors": len(rows), "num_weights": int(sizes.sum())}
    for name in ("movable_frac", "moved_frac"):
        found[name] = float((sizes * [row[name] for row in rows]).sum() / sizes.sum())
    found["max_change"] = _highest(row["max_change"] for row in rows)
    for name in ("l2_change", "l2_lost", "l2_untuned"):
        norms = [row[name] for row in rows]
        found[name] = None if None in norms else math.hypot(*norms)
    found["l2_relative"] = _relative(found["l2_change"], found["l2_untuned"])
    for name in ("largest_untuned", "largest_tuned"):
        found[name] = _highest(row[name] for row in rows)
    found["largest_changed"] = _highest(largest_changed(row) for row in rows)
    found["relative_change"] = relative_change(found)
    return found


def by_block(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`combined` numbers of each block, in the order of its first tensor.

    Args:
        rows: of the `drift` table, about one trial.
    """
    return {block: combined(of_block) for block, of_block in _grouped(rows, "block").items()}


def by_tower(rows: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """`combined` numbers of the query tower, '', and of the passage tower, `passage_tower`, where it was tuned."""
    named = [{**row, "tower": PASSAGE_TOWER[:-1] if row["block"].startswith(PASSAGE_TOWER) else ""} for row in rows]
    return {tower: combined(of_tower) for tower, of_tower in _grouped(named, "tower").items()}


def _grouped(rows: Iterable[Mapping[str, Any]], column: str) -> dict[str, list[Mapping[str, Any]]]:
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


def _relative(l2_change: float, l2_untuned: float) -> float:
    """A displacement in units of the untuned norm; of a tensor of zeros 0 where it stayed, and no number where not."""
    if l2_untuned == 0:
        return 0.0 if l2_change == 0 else math.nan
    return l2_change / l2_untuned


def _largest(weights: np.ndarray) -> float:
    """The largest magnitude: see `largest_changed`."""
    return float(np.abs(weights).max())


def _highest(values: Iterable[float]) -> float:
    """The largest; not a number where one is none (a tensor that diverged)."""
    return float(np.max(list(values)))
