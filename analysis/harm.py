"""What each trial degraded: language pairs, and English sets that it was not tuned on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .curves import ALPHA, criteria, other_triplet_sets
from .resample import Evidence


def harm_by_trial(evidence: Evidence, measure: str) -> pd.DataFrame:
    """Degraded language pairs and English losses of every trial with a rate above 0.

    Args:
        evidence: what `gather` read.
        measure: cosine or distance.

    Returns:
        Index trial id; `num_degraded` and `share` (language pairs, the most in a pair set and relation; clustered test,
        false discovery rate 5%; 0 without scores), `is_worse` (it diverged, or an English set that was not tuned on is
        significantly worse: clustered test, 5%).
    """
    trials = evidence.trials
    pair_sets = [one for one in criteria(evidence.sweep) if one.measure == measure]
    counts = {one: trials[one.column("degraded")].to_numpy(dtype=np.float64) for one in pair_sets}
    is_worse_T = (trials["status"] == "DIVERGED").to_numpy(dtype=bool)
    for name in other_triplet_sets(evidence.sweep):
        gain_T, p_T = (trials[f"{what}/{name}/{measure}"].to_numpy(dtype=np.float64) for what in ("gain", "p"))
        is_worse_T = is_worse_T | ((gain_T < 0) & (p_T <= ALPHA))
    none_T = np.zeros(len(trials))
    sizes = {one: len(evidence.pair_keys(one)) for one in pair_sets}
    return pd.DataFrame(
        {
            "num_degraded": np.fmax.reduce([none_T, *counts.values()]),
            "share": np.fmax.reduce([none_T, *(counts[one] / sizes[one] for one in pair_sets)]),
            "is_worse": is_worse_T,
        },
        index=trials.index,
    )
