"""From a change and its influences to what a reader asks: how large is it, and how sure?

`significance` says whether a change is chance. This file adds the interval on the change, the improvement (equation 1
of the paper) with its interval, and both for means over groups of language pairs. `preservation` tests whether a loss
stays below a margin, `simultaneous` looks at many statistics at once.

Everything is a linear combination of influences, or one smooth function of them, judged by `clustered_test`. So a mean
over language pairs has the variance of the mean: its pairs share premises, and averaging their standard errors, or
adding their variances, would be wrong in opposite directions.

Where no test is possible the numbers are NaN and `reason` says why, in one of the words of `Reason`. No other test
steps in.

Sign: a positive change means that PND rose, which is worse; a positive improvement is better.

Shape suffixes: K statistics (language pairs, relations, measures), C clusters, G groups of statistics.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from adiabatic_ray.statistics.significance import FloatArray, clustered_test

TextArray = NDArray[np.str_]

_ROUNDING_FRAC = 1e-12
"""A sum this small against the sizes of its terms is rounding, not spread. (1e-14 is what 225 terms can leave.)"""

LEAST_PND = 1e-12
"""A PND below this is 0: far below one comparison in a mean of 225 XNLI pairs, 1.6e-9, and far above rounding."""


class Reason(StrEnum):
    """Why a statistic has no ordinary result."""

    NONE = ""
    MISSING = "missing value"
    """A value or an influence is NaN: no comparison was made, or a member of the group is missing."""
    FEW_CLUSTERS = "fewer than 2 clusters"
    """Nothing to take a variance over. All but the estimate is NaN."""
    NOTHING_CHANGED = "nothing changed"
    """The change is 0 and so is every cluster's part in it. Interval [0, 0], z = 0, p = 1."""
    NO_SPREAD = "no spread between clusters"
    """Every cluster changed alike: the standard error is 0, the rest NaN."""
    FEW_CHANGED = "fewer than 6 clusters changed"
    """The normal approximation is too sure: of 5 clusters that all turned worse it makes p = .025, an exact sign test
    .0625. The numbers stand; they are not to be called significant."""
    NO_UNTUNED_ERROR = "untuned value is 0"
    """PND was 0: a relative change of it is not defined. All NaN."""
    NO_TUNED_ERROR = "tuned value is 0"
    """PND became 0: the improvement is 100%, and no cluster says how far from that it might be."""
    FEW_UNTUNED = "untuned value not clearly above 0"
    """The untuned PND is less than 1.96 of its standard errors above 0 (at 95%; mostly, errors in 3 clusters or
    fewer): no finite interval holds a ratio to it. The estimate and its test stand."""


@dataclass(frozen=True)
class Estimates:
    """Estimates with their uncertainty over clusters; every field has one entry a statistic or group."""

    estimate: FloatArray
    """Change in units of PND, or improvement as a fraction (0.1 is 10%)."""
    se: FloatArray
    """Its standard error, in the same units."""
    low: FloatArray
    high: FloatArray
    """Ends of the interval."""
    z: FloatArray
    """Test statistic of "no change"; it has the sign of the estimate."""
    p: FloatArray
    """Two-sided, from the normal distribution."""
    reason: TextArray
    """A word of `Reason`; empty where there is nothing to say."""


def change_interval(delta_K: FloatArray, se_K: FloatArray, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Normal interval on the change of PND: delta -/+ z se, the inversion of `clustered_test`.

    Its ends aren't cut at -1 and 1: it is an interval on a difference that is small against both.

    Args:
        delta_K: change of PND, any shape.
        se_K: its standard error (`ClusteredTest.se`), same shape.
        level: two-sided coverage, between 0 and 1.

    Returns:
        `(low_K, high_K)` in units of PND. [0, 0] where delta and se are both 0; NaN where se alone is 0, as there is no
        spread to judge by, and where either is NaN.

    Raises:
        ValueError: a level outside (0, 1).
    """
    unknown_K = (se_K == 0) & (delta_K != 0)
    half_width_K = normal_quantile(level) * np.where(unknown_K, np.nan, se_K)
    return delta_K - half_width_K, delta_K + half_width_K


def normal_quantile(level: float) -> float:
    """How many standard errors a two-sided normal interval reaches: 1.96 for a level of 0.95.

    Raises:
        ValueError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"a level must lie between 0 and 1; got {level!r}. Pass 0.95 for a 95% interval.")
    return float(ndtri((1 + level) / 2))


def estimate_change(delta_K: FloatArray, influence_KC: FloatArray, level: float = 0.95) -> Estimates:
    """Change of PND with its interval and the clustered paired test (`significance.clustered_test`).

    Args:
        delta_K: change of PND, tuned minus untuned.
        influence_KC: influence of each cluster on that change.
        level: of the interval.

    Returns:
        `Estimates` in units of PND.

    Raises:
        ValueError: as `clustered_test`; a level outside (0, 1).
    """
    test = clustered_test(delta_K, influence_KC)
    low_K, high_K = change_interval(delta_K, test.se, level)
    return Estimates(delta_K, test.se, low_K, high_K, test.z, test.p, reasons(delta_K, influence_KC))


def log_ratio(
    pnd_untuned_K: FloatArray, delta_K: FloatArray, influence_untuned_KC: FloatArray, influence_KC: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Logarithm of tuned over untuned PND, and each cluster's influence on it.

    With u untuned, d the change, t = u + d tuned, the delta method gives

        influence(log t / u) = influence(t) / t - influence(u) / u = (influence(d) - influence(u) d / u) / t.

    The last form has no difference of two large terms, and is exactly 0 where nothing changed. Hand both results to
    `simultaneous.simultaneous_test` for bands on the improvement, and turn its ends by `-expm1`.

    Args:
        pnd_untuned_K: PND of the untuned backbone.
        delta_K: change of PND, tuned minus untuned.
        influence_untuned_KC: influence on the untuned PND (`significance.pair_influence_KC` of the untuned counts).
        influence_KC: influence on the change, over the same clusters in the same order.

    Returns:
        `(log_ratio_K, influence_KC)`, natural logarithms; NaN where PND is 0 before or after tuning. The influence is
        also that on the improvement, divided by -tuned / untuned.

    Raises:
        ValueError: shapes that do not fit, or a PND outside [0, 1] before or after.
    """
    tuned_K = tuned_pnd(pnd_untuned_K, delta_K, influence_untuned_KC, influence_KC)
    usable_K = (pnd_untuned_K >= LEAST_PND) & (tuned_K >= LEAST_PND)
    untuned_K = np.where(usable_K, pnd_untuned_K, np.nan)
    tuned_K = np.where(usable_K, tuned_K, np.nan)
    from_untuned_KC = influence_untuned_KC * (delta_K / untuned_K)[:, np.newaxis]
    difference_KC = without_rounding(influence_KC - from_untuned_KC, np.abs(influence_KC) + np.abs(from_untuned_KC))
    return np.log1p(delta_K / untuned_K), difference_KC / tuned_K[:, np.newaxis]


def estimate_improvement(
    pnd_untuned_K: FloatArray,
    delta_K: FloatArray,
    influence_untuned_KC: FloatArray,
    influence_KC: FloatArray,
    level: float = 0.95,
) -> Estimates:
    """Improvement, -(tuned - untuned) / untuned, with the interval of Fieller (1954, J. R. Stat. Soc. B 16:175-185).

    An improvement of g means that the change d of PND is -g times the untuned u: d + g u = 0, which is linear in PNDs
    and can be tested as a change is. The interval is every g that this test does not reject:

        (d + g u)^2 <= q^2 var(d + g u),   q = `normal_quantile(level)`, var of `clustered_test`

    So it leaves out 0 exactly when the test of the change finds one, and -m exactly when `preservation.non_inferiority`
    with a relative margin m does (at (1 - level) / 2, one-sided): one decision, whichever number is read. An interval
    through the log ratio (Katz et al. 1978, Biometrics 34:469-474) agrees with neither where errors are few. z and p
    are those of the change, with the sign of the improvement; the standard error is the delta method's. The interval is
    cut at 100%, which no improvement exceeds.

    Args:
        pnd_untuned_K: PND of the untuned backbone.
        delta_K: change of PND, tuned minus untuned.
        influence_untuned_KC: influence on the untuned PND.
        influence_KC: influence on the change, over the same clusters in the same order.
        level: of the interval.

    Returns:
        `Estimates` in fractions of the untuned PND, positive is better. NaN throughout where the untuned PND is 0;
        where the tuned PND is 0 the estimate is 1 and the rest NaN. No interval where the untuned PND is less than q of
        its standard errors above 0: then no finite one is left (`Reason.FEW_UNTUNED`).

    Raises:
        ValueError: as `log_ratio` and `clustered_test`; a level outside (0, 1).
    """
    log_K, log_influence_KC = log_ratio(pnd_untuned_K, delta_K, influence_untuned_KC, influence_KC)
    no_untuned_K = pnd_untuned_K < LEAST_PND
    untuned_K = np.where(no_untuned_K, np.nan, pnd_untuned_K)
    estimate_K = 0.0 - delta_K / untuned_K  # 0 - 0 is 0, and not -0
    ratio_test = clustered_test(log_K, log_influence_KC)
    change_test = clustered_test(delta_K, influence_KC)
    has_test_K = np.isfinite(ratio_test.z + change_test.z)
    low_K, high_K, is_finite_K = _fieller(
        estimate_K, untuned_K, influence_untuned_KC, np.exp(log_K)[:, np.newaxis] * log_influence_KC, level
    )
    reason_K = reasons(log_K, log_influence_KC)
    reason_K = np.where(reason_K == Reason.NONE, reasons(delta_K, influence_KC), reason_K)
    reason_K[(reason_K == Reason.NONE) & ~is_finite_K] = Reason.FEW_UNTUNED
    known_K = ~np.isnan(pnd_untuned_K + delta_K)
    reason_K[known_K & (pnd_untuned_K + delta_K < LEAST_PND)] = Reason.NO_TUNED_ERROR
    reason_K[known_K & no_untuned_K] = Reason.NO_UNTUNED_ERROR
    return Estimates(
        estimate=estimate_K,
        se=np.exp(log_K) * ratio_test.se,
        low=np.where(has_test_K, low_K, np.nan),
        high=np.where(has_test_K, high_K, np.nan),
        z=np.where(has_test_K, 0.0 - change_test.z, np.nan),
        p=np.where(has_test_K, change_test.p, np.nan),
        reason=reason_K,
    )


def _fieller(
    estimate_K: FloatArray,
    untuned_K: FloatArray,
    influence_untuned_KC: FloatArray,
    influence_ratio_KC: FloatArray,
    level: float,
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Every improvement g = estimate + h with (h u)^2 <= q^2 var(r + h u); r is the part of d + g u left at h = 0.

    As a quadratic in h: (u^2 - q^2 var u) h^2 - 2 q^2 cov(r, u) h - q^2 var r <= 0. Measured from the estimate it has
    no difference of large terms, and is an interval around it where the first bracket is positive.

    Args:
        estimate_K: improvement.
        untuned_K: u, above 0 or NaN.
        influence_untuned_KC: influence on u.
        influence_ratio_KC: influence on tuned / untuned, which is r / u.
        level: of the interval.

    Returns:
        `(low_K, high_K, is_finite_K)`. [0, 0] where nothing changed; NaN where the set is not finite, or not known.
    """
    num_clusters = influence_untuned_KC.shape[1]
    squared = normal_quantile(level) ** 2 * (num_clusters / (num_clusters - 1) if num_clusters > 1 else np.nan)
    relative_KC = influence_untuned_KC / untuned_K[:, np.newaxis]  # all in units of u: var u becomes var u / u^2
    steepness_K = 1 - squared * np.einsum("kc,kc->k", relative_KC, relative_KC)
    shift_K = squared * np.einsum("kc,kc->k", influence_ratio_KC, relative_KC)
    spread_K = squared * np.einsum("kc,kc->k", influence_ratio_KC, influence_ratio_KC)
    is_finite_K = (steepness_K > 0) | (spread_K == 0)
    steepness_K = np.where(steepness_K > 0, steepness_K, np.where(spread_K == 0, 1.0, np.nan))
    reach_K = np.sqrt(shift_K**2 + steepness_K * spread_K)
    low_K, high_K = ((estimate_K + (shift_K + sign * reach_K) / steepness_K) for sign in (-1, 1))
    return low_K, np.minimum(high_K, 1.0), is_finite_K


def weighted_means(
    weights_GK: NDArray[Any], values_K: FloatArray, influence_KC: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Means of statistics over groups, and each cluster's influence on them: averaged as the statistics are.

    The influence of a linear combination is the same combination of the influences. This is where the dependence of
    statistics that share clusters enters, so the results may go into any test of this library as if they were
    statistics themselves.

    Args:
        weights_GK: weight of each statistic in each group, 0 or more, every row summing to 1
            (`language_groups.PairGroups.weights_GK`).
        values_K: PNDs, or changes of PND.
        influence_KC: influence of each cluster on them; all statistics over the same clusters in the same order.

    Returns:
        `(values_G, influence_GC)`. A group with a NaN among its members is NaN.

    Raises:
        ValueError: shapes that do not fit, or weights that make no mean.
    """
    if (
        weights_GK.ndim != 2
        or influence_KC.ndim != 2
        or not weights_GK.shape[1:] == values_K.shape == influence_KC.shape[:1]
    ):
        raise ValueError(
            f"weights (groups, K), values (K,) and influence (K, clusters) must fit; got {weights_GK.shape}, "
            f"{values_K.shape} and {influence_KC.shape}. Take all three from the same list of statistics."
        )
    wrong_G = ~(np.all(weights_GK >= 0, axis=1) & (np.abs(weights_GK.sum(axis=1) - 1) < 1e-9))
    if np.any(wrong_G):
        group = int(np.argmax(wrong_G))
        raise ValueError(
            f"weights of a mean must be 0 or more and sum to 1; those of group {group} sum to "
            f"{weights_GK[group].sum():.6g}, the least is {weights_GK[group].min():.3g}. Divide by the number of "
            "members, and leave out groups without any."
        )
    missing_K = np.isnan(values_K) | np.isnan(influence_KC).any(axis=1)
    present_KC = np.where(missing_K[:, np.newaxis], 0.0, influence_KC)
    mean_G = weights_GK @ np.where(missing_K, 0.0, values_K)
    mean_GC = without_rounding(weights_GK @ present_KC, weights_GK @ np.abs(present_KC))
    incomplete_G = np.any((weights_GK > 0) & missing_K, axis=1)
    mean_G[incomplete_G], mean_GC[incomplete_G] = np.nan, np.nan
    return mean_G, mean_GC


def mean_change(
    weights_GK: NDArray[Any], delta_K: FloatArray, influence_KC: FloatArray, level: float = 0.95
) -> Estimates:
    """Mean change of PND over each group, with the clustered variance of the mean: `estimate_change` of the means.

    Args:
        weights_GK: see `weighted_means`.
        delta_K: change of PND of each statistic.
        influence_KC: influence of each cluster on it.
        level: of the interval.

    Raises:
        ValueError: as `weighted_means` and `estimate_change`.
    """
    return estimate_change(*weighted_means(weights_GK, delta_K, influence_KC), level)


def improvement_of_mean(
    weights_GK: NDArray[Any],
    pnd_untuned_K: FloatArray,
    delta_K: FloatArray,
    influence_untuned_KC: FloatArray,
    influence_KC: FloatArray,
    level: float = 0.95,
) -> Estimates:
    """Improvement of each group's mean PND, a ratio of two means: `estimate_improvement` of the means.

    This is not the mean of the members' improvements, which gives the same weight to a point of PND where few
    comparisons fail and where many do, and is not defined when one member has no untuned error.

    Args:
        weights_GK: see `weighted_means`.
        pnd_untuned_K: PND of the untuned backbone.
        delta_K: change of PND, tuned minus untuned.
        influence_untuned_KC: influence on the untuned PND.
        influence_KC: influence on the change.
        level: of the interval.

    Raises:
        ValueError: as `weighted_means` and `estimate_improvement`.
    """
    untuned_G, influence_untuned_GC = weighted_means(weights_GK, pnd_untuned_K, influence_untuned_KC)
    delta_G, influence_GC = weighted_means(weights_GK, delta_K, influence_KC)
    return estimate_improvement(untuned_G, delta_G, influence_untuned_GC, influence_GC, level)


def reasons(values_K: FloatArray, influence_KC: FloatArray) -> TextArray:
    """The word of `Reason` for each statistic that `clustered_test` was given."""
    width = max(map(len, Reason))
    reason_K = np.full(values_K.shape, Reason.NONE, dtype=f"<U{width}")
    no_spread_K = ~influence_KC.any(axis=1)
    reason_K[no_spread_K] = Reason.NO_SPREAD
    reason_K[no_spread_K & (values_K == 0)] = Reason.NOTHING_CHANGED
    reason_K[np.isnan(values_K) | np.isnan(influence_KC).any(axis=1)] = Reason.MISSING
    if influence_KC.shape[1] < 2:
        reason_K[:] = Reason.FEW_CLUSTERS
    return reason_K


def without_rounding(sums: FloatArray, sizes: FloatArray) -> FloatArray:
    """Sums whose terms cancel but for rounding become 0; `sizes` are the sums of the terms' absolute values."""
    return np.where(np.abs(sums) <= _ROUNDING_FRAC * sizes, 0.0, sums)


def tuned_pnd(
    pnd_untuned_K: FloatArray, delta_K: FloatArray, influence_untuned_KC: FloatArray, influence_KC: FloatArray
) -> FloatArray:
    """PND after tuning; refuses arguments that do not belong together."""
    if (
        not pnd_untuned_K.shape == delta_K.shape == influence_KC.shape[:1]
        or influence_untuned_KC.shape != influence_KC.shape
    ):
        raise ValueError(
            f"untuned PND and change (K,), and both influences (K, clusters), must fit; got {pnd_untuned_K.shape}, "
            f"{delta_K.shape}, {influence_untuned_KC.shape} and {influence_KC.shape}. Take all four from the same "
            "statistics and clusters."
        )
    tuned_K = pnd_untuned_K + delta_K
    for name, pnd_K in (("untuned", pnd_untuned_K), ("tuned", tuned_K)):
        wrong_K = (pnd_K < -LEAST_PND) | (pnd_K > 1 + LEAST_PND)
        if np.any(wrong_K):
            row = int(np.argmax(wrong_K))
            raise ValueError(
                f"a PND must lie in [0, 1]; the {name} PND of statistic {row} is {pnd_K[row]:.6g}. Pass the untuned "
                "PND and the change (tuned minus untuned), as fractions."
            )
    return tuned_K
