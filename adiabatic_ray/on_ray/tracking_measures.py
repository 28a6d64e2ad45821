"""A trial's final measures under the names by which MLflow's interface shows them.

The interface makes a section of all metrics that share what stands before the last `/`, and orders sections and charts
by name. So names are built such that what is compared stands in one section: a set's measures, the drift of all blocks.
"""

from __future__ import annotations

import re

import numpy as np

from adiabatic_ray import results
from adiabatic_ray.statistics import drift, metrics, significance
from adiabatic_ray.storage import Location


def final_measures(out: Location, trial_id: str) -> dict[str, float]:
    """A trial's measures for MLflow, from the tables `scores`, `drift` and `cosines`.

    Per set, relation and measure, triplets: improvement. Pairs: improvement of the mean PND over language pairs, and
    the number of pairs improved and degraded by the paper's z-test (|z| > 1.96) and by the clustered test
    (Benjamini-Hochberg, 5%). Then how far the tower went, in weights and in embeddings.
    """
    scores = results.read_table(out, "scores", [trial_id]).to_pandas()
    measures: dict[str, float] = {}
    for (name, kind, relation, measure), group in scores.groupby(["set", "kind", "relation", "measure"], sort=False):
        prefix = f"{name}/{relation}/{measure}"
        if kind == "triplets":
            measures[f"{name}/{measure}_improvement"] = float(group["improvement"].iloc[0])
            continue
        untuned, tuned = group["pnd_untuned"].to_numpy(), group["pnd_tuned"].to_numpy()
        tests: dict[str, np.ndarray] = {
            "paper": np.abs(group["paper_z"].to_numpy()) > significance.PAPER_CRITICAL_Z,
            "clustered": group["bh_p"].to_numpy() <= 0.05,
        }
        measures[f"{prefix}/mean_improvement"] = float(metrics.improvement(untuned.mean(), tuned.mean()))
        for test, significant in tests.items():
            measures[f"{prefix}/{test}_improved"] = float((significant & (tuned < untuned)).sum())
            measures[f"{prefix}/{test}_degraded"] = float((significant & (tuned > untuned)).sum())
    return measures | _drift_measures(out, trial_id) | _cosine_measures(out, trial_id)


def _drift_measures(out: Location, trial_id: str) -> dict[str, float]:
    """Of the whole tower, and for each block its displacement relative to its norm (`l2_relative`)."""
    rows = results.read_table(out, "drift", [trial_id]).to_pylist()
    measures = {
        "/".join(part for part in ("drift", tower, name) if part): float(numbers[name])
        for tower, numbers in drift.by_tower(rows).items()
        for name in ("l2_change", "l2_relative", "moved_frac", "max_change")
    }
    blocks = drift.by_block(rows)
    return measures | {f"drift_by_block/{_in_order(block)}": float(blocks[block]["l2_relative"]) for block in blocks}


def _cosine_measures(out: Location, trial_id: str) -> dict[str, float]:
    """Of each set the mean over its query languages, and of labelled pairs the language that was turned most."""
    cosines = results.read_table(out, "cosines", [trial_id]).to_pandas()
    measures: dict[str, float] = {}
    for name, group in cosines.groupby("set", sort=False):
        measures[f"cosine/{name}_mean"] = float(group["mean_cosine"].mean())
        if len(group) > 1:
            measures[f"cosine/{name}_lowest_language"] = float(group["mean_cosine"].min())
    return measures


def _in_order(block: str) -> str:
    """Charts stand in the order of their names: block 2 before block 10."""
    return re.sub(r"\d+$", lambda number: number[0].zfill(2), block)
