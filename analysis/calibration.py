"""From a signal and the measured harm: do they go together, which value is the limit, which rate reaches it.

Legend: T trials, G groups, B replicates, R rates, U distinct values.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from .influences import Floats
from .level import first_crossing

NUM_REPLICATES = 1000
LEAST_GROUPS = 3
"""Fewer groups give no interval: there is next to nothing to resample."""
MIDDLE = np.array([0.5])
"""Place of a boundary in the gap below a diverged rate, as in `level`."""


def rank_correlation(value_T: Floats, harm_T: Floats, groups_T: NDArray[np.int64]) -> tuple[float, float, float]:
    """Spearman's rank correlation with a 95% percentile interval that resamples groups.

    A group drawn twice counts as two: replicates are correlations of weighted midranks.

    Args:
        value_T: any finite numbers.
        harm_T: the others.
        groups_T: number of each trial's group, from 0.

    Returns:
        Correlation and both ends; NaN where either side does not vary, the ends also for fewer than `LEAST_GROUPS`.
    """
    ones_1T = np.ones((1, len(value_T)))
    correlation = float(weighted_spearman(value_T, harm_T, ones_1T)[0])
    num_groups = int(groups_T.max()) + 1
    if num_groups < LEAST_GROUPS:
        return correlation, math.nan, math.nan
    equal_G = np.full(num_groups, 1 / num_groups)
    drawn_BG = np.random.default_rng(0).multinomial(num_groups, equal_G, NUM_REPLICATES)
    replicates_B = weighted_spearman(value_T, harm_T, drawn_BG[:, groups_T].astype(np.float64))
    known_B = replicates_B[np.isfinite(replicates_B)]
    if not len(known_B):
        return correlation, math.nan, math.nan
    return correlation, float(np.quantile(known_B, 0.025)), float(np.quantile(known_B, 0.975))


def threshold_of(signal_T: Floats, improvement_T: Floats, level: float) -> float:
    """The signal's value at which a falling monotone fit of the improvement first falls below the level.

    Trials of one value count as their mean, with their number as weight. Between values the fit is straight.

    Args:
        signal_T: finite, on the axis on which the crossing is read.
        improvement_T: finite.
        level: see `left_out_table`.

    Returns:
        inf: the fit never falls below; -inf: it is below at the lowest value.
    """
    values_U, place_T, counts_U = np.unique(signal_T, return_inverse=True, return_counts=True)
    means_U = np.bincount(place_T, weights=improvement_T) / counts_U
    fit_U = isotonic_regression(means_U, weights=counts_U.astype(np.float64), increasing=False).x
    return float(first_crossing(values_U, fit_U[None], level, MIDDLE)[0])


def rate_at(log_rates_R: Floats, signal_R: Floats, threshold: float) -> tuple[float, bool]:
    """log10 of the rate at which a group's signal first exceeds a value, and whether that is extrapolated.

    Args:
        log_rates_R: log10 of the rates, going up, at least two.
        signal_R: the signal there, finite.
        threshold: the value, finite.

    Returns:
        NaN where the signal does not grow with the rate and never passes the value.
    """
    inside = float(first_crossing(log_rates_R, -signal_R[None], -threshold, MIDDLE)[0])
    if math.isfinite(inside):
        return inside, False
    slope = float(np.polyfit(log_rates_R, signal_R, 1)[0])
    if slope <= 0:
        return math.nan, True
    end = -1 if inside > 0 else 0
    return float(log_rates_R[end] + (threshold - signal_R[end]) / slope), True


def weighted_spearman(value_T: Floats, harm_T: Floats, weights_BT: Floats) -> Floats:
    """Spearman's rank correlation in each replicate, in which a trial is there as often as its weight says.

    That is Pearson's correlation of weighted midranks.

    Args:
        value_T: any finite numbers.
        harm_T: the others.
        weights_BT: 0 or more, not all 0 in any replicate.

    Returns:
        NaN where one of the two is constant.
    """
    first_BT, second_BT = (_midranks(numbers_T, weights_BT) for numbers_T in (value_T, harm_T))
    share_BT = weights_BT / weights_BT.sum(axis=1, keepdims=True)
    first_BT, second_BT = (ranks - (share_BT * ranks).sum(axis=1, keepdims=True) for ranks in (first_BT, second_BT))
    product_B, one_B, other_B = (
        (share_BT * a * b).sum(axis=1) for a, b in ((first_BT, second_BT), (first_BT, first_BT), (second_BT, second_BT))
    )
    scale_B = np.sqrt(one_B * other_B)
    varies_B = (one_B > _ROUNDING) & (other_B > _ROUNDING)
    correlation_B: Floats = np.divide(product_B, scale_B, out=np.full(len(product_B), np.nan), where=varies_B)
    return correlation_B


_ROUNDING = 1e-9
"""Variance of ranks below which they are all alike; that of two different ones is 0.25 / T or more."""


def _midranks(numbers_T: Floats, weights_BT: Floats) -> Floats:
    """Mean rank, less one half, that each number has when it is there as often as its weight says."""
    _, place_T = np.unique(numbers_T, return_inverse=True)
    is_value_TU = place_T[:, None] == np.arange(place_T.max() + 1)
    times_BU = weights_BT @ is_value_TU
    midranks_BT: Floats = (np.cumsum(times_BU, axis=1) - times_BU / 2)[:, place_T]
    return midranks_BT
