"""Small sets of queries with errors before and after tuning, as PNDs, changes and influences."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from adiabatic_ray.statistics.significance import triplet_influence_KC

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Statistics = tuple[FloatArray, FloatArray, FloatArray, FloatArray]
"""Untuned PND (K,), change (K,), influence on either (K, C): the arguments of `estimate_improvement`."""


def statistics_of(untuned_KC: Any, tuned_KC: Any, sizes_C: Any) -> Statistics:
    """From errors of queries before and after, and their numbers of comparisons."""
    untuned_KC, tuned_KC, sizes_C = np.asarray(untuned_KC), np.asarray(tuned_KC), np.asarray(sizes_C)
    total = sizes_C.sum()
    return (
        untuned_KC.sum(axis=1) / total,
        (tuned_KC.sum(axis=1) - untuned_KC.sum(axis=1)) / total,
        triplet_influence_KC(untuned_KC, sizes_C),
        triplet_influence_KC(tuned_KC - untuned_KC, sizes_C),
    )


def random_errors(seed: int, num_statistics: int = 3, num_clusters: int = 40) -> tuple[IntArray, IntArray, IntArray]:
    """Errors before and after, (K, C) each, and the sizes: queries are of unequal difficulty, some change."""
    rng = np.random.default_rng(seed)
    sizes_C = rng.integers(1, 6, size=num_clusters)
    share_KC = rng.beta(2, 3, size=(num_statistics, num_clusters))
    untuned_KC = rng.binomial(sizes_C, share_KC)
    tuned_KC = np.where(rng.random(untuned_KC.shape) < 0.5, rng.binomial(sizes_C, share_KC), untuned_KC)
    return untuned_KC, tuned_KC, sizes_C


def random_statistics(seed: int, num_statistics: int = 3, num_clusters: int = 40) -> Statistics:
    return statistics_of(*random_errors(seed, num_statistics, num_clusters))


# Four queries of one triplet each: errors 1 1 0 0 before and 1 0 0 0 after tuning.
# PND .5 to .25; influences (1/8, 1/8, -1/8, -1/8) on the untuned PND, (1/16, -3/16, 1/16, 1/16) on the change.
FOUR = statistics_of([[1, 1, 0, 0]], [[1, 0, 0, 0]], [1, 1, 1, 1])
