"""Many statistics at once: adjusted p-values and bands that hold for all language pairs together.

225 tests at 5% find eleven changes where there are none. `significance.adjust_bh` and `adjust_by` bound the share of
false finds; `simultaneous_test` bounds the chance of even one, and gives bands that cover all true changes together.
The pairs share their premises, so their estimates move together, and a bound that knows how (max-T) is much closer than
Bonferroni's.

Sign: a positive change means that PND rose, which is worse.

Shape suffixes: K statistics (language pairs, relations, measures), C clusters, B resamples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from adiabatic_ray.statistics.inference import normal_quantile
from adiabatic_ray.statistics.significance import FloatArray, adjust_bh, clustered_test

BLOCK_BYTES = 64 * 2**20
"""Memory of one block of resamples: its multipliers and its statistics, however many resamples are asked for."""


def adjust_by(p: ArrayLike) -> FloatArray:
    """Benjamini-Yekutieli adjusted p-values (2001, Ann. Stat. 29:1165-1188): valid under any dependence.

    With m tests they are the Benjamini-Hochberg ones times 1 + 1/2 + ... + 1/m (6.0 for 225 tests), at most 1.

    Args:
        p: p-values of one family, any shape; all entries are adjusted together. NaN (no test was possible) stays NaN
            and does not count as a member of the family.

    Returns:
        Adjusted p-values, float64, same shape: those at most q are significant at a false discovery rate of q.

    Raises:
        ValueError: a value outside [0, 1].
    """
    adjusted = adjust_bh(p)
    num_tests = np.count_nonzero(~np.isnan(adjusted))
    harmonic = float(np.sum(1 / np.arange(1, num_tests + 1)))
    return np.minimum(1.0, harmonic * adjusted)


@dataclass(frozen=True)
class SimultaneousTest:
    """Outcome of `simultaneous_test`; arrays have shape (K,)."""

    p: FloatArray
    """Max-T adjusted: those at most 1 - level are significant with a family-wise error of 1 - level."""
    low: FloatArray
    high: FloatArray
    """Bands in units of the statistics: all true values lie inside together with probability `level`."""
    critical_value: float
    """Bands reach this many standard errors; NaN where no statistic could be tested."""
    num_resamples: int
    """B."""


def simultaneous_test(
    delta_K: FloatArray,
    influence_KC: FloatArray,
    rng: np.random.Generator,
    num_resamples: int = 9_999,
    level: float = 0.95,
) -> SimultaneousTest:
    """Max-T test and simultaneous bands from one Gaussian multiplier bootstrap.

    Each resample gives every cluster a standard normal multiplier, shared by all statistics, and takes

        T_bk = sum_a multiplier_ba influence_ka / sqrt(sum_a influence_ka^2),  M_b = max_k |T_bk|.

    Given the data T_b is normal with unit variances and the correlation of the estimates, so M_b has the distribution
    of max |z| when nothing changed, to first order; it holds for more statistics than clusters too (Chernozhukov,
    Chetverikov and Kato 2013, Ann. Stat. 41:2786-2819). Bands are delta -/+ critical value x se, the sup-t bands of
    Montiel Olea and Plagborg-Moller (2019, J. Appl. Econometrics 34:1-17); p is single-step max-T (Westfall and Young
    1993, chapter 2; Hothorn, Bretz and Westfall 2008, Biometrical Journal 50:346-363, who integrate the same normal
    distribution). Single-step bounds the family-wise error whichever statistics did change.

    The standard errors are those of the data in every resample. Estimating them anew in each would correct for the
    skewness of the influences if the multipliers had any, but normal ones have none; held fixed, a statistic on its own
    gets the critical value of the unadjusted test, 1.96, and adjusted p are never below unadjusted ones but for the
    bootstrap's own error.

    p is (1 + resamples with M_b >= |z|) / (1 + B), which is never 0 (Phipson and Smyth 2010, Stat. Appl. Genet. Mol.
    Biol. 9:39). The critical value is the order statistic of M that belongs to it: a band leaves out 0 exactly when
    p <= 1 - level.

    Args:
        delta_K: changes of PND, or other estimates with influences: means over groups (`inference.weighted_means`),
            log ratios (`inference.log_ratio`).
        influence_KC: influence of each cluster on them; all statistics over the same clusters in the same order.
        rng: the generator to draw from; the same state gives the same result.
        num_resamples: B; the smallest p is 1 / (1 + B). 9,999 resolve p to .0001.
        level: of the bands.

    Returns:
        A `SimultaneousTest`. Statistics without spread, and NaN, take no part in the maximum: where nothing changed
        p = 1 and the band is [delta, delta] = [0, 0], otherwise both are NaN, as with `clustered_test`. Fewer than 2
        clusters: all NaN. Memory beyond the arguments: a copy of the influences, and blocks of `BLOCK_BYTES` (or one
        resample, if that is larger).

    Raises:
        ValueError: as `clustered_test`; a level outside (0, 1), or too few resamples for it.
    """
    normal_quantile(level)  # refuses what is no level
    num_allowed = int((1 - level) * (num_resamples + 1) + 1e-9)  # of B + 1; a hair more, as .1 * 10 may be .99999
    if num_allowed < 1:
        raise ValueError(
            f"a level of {level} needs at least {int(np.ceil(1 / (1 - level) - 1e-9)) - 1} resamples; got "
            f"{num_resamples}. Take 9,999 or more: below about 1,000 the critical value is coarse."
        )
    test = clustered_test(delta_K, influence_KC)
    tested_K = np.isfinite(test.z) & (test.se > 0)
    p_K = np.where(test.p == 1, 1.0, np.nan)  # of the untested: 1 where nothing changed
    critical_value = np.nan
    if tested_K.any():
        maxima_B = np.sort(_maxima_B(influence_KC[tested_K], rng, num_resamples))
        num_reached_K = num_resamples - np.searchsorted(maxima_B, np.abs(test.z[tested_K]), side="left")
        p_K[tested_K] = (1 + num_reached_K) / (1 + num_resamples)
        critical_value = float(maxima_B[num_resamples - num_allowed])
    half_width_K = np.where(tested_K, critical_value * test.se, np.where(np.isnan(p_K), np.nan, 0.0))
    return SimultaneousTest(p_K, delta_K - half_width_K, delta_K + half_width_K, critical_value, num_resamples)


def _maxima_B(influence_KC: FloatArray, rng: np.random.Generator, num_resamples: int) -> FloatArray:
    """Largest |T| of each resample. The multipliers do not depend on how the resamples are cut into blocks."""
    num_statistics, num_clusters = influence_KC.shape
    unit_KC = influence_KC / np.sqrt(np.einsum("kc,kc->k", influence_KC, influence_KC))[:, np.newaxis]
    block = max(1, BLOCK_BYTES // (8 * (num_clusters + 2 * num_statistics)))
    maxima_B = np.empty(num_resamples)
    for start in range(0, num_resamples, block):
        stop = min(start + block, num_resamples)
        multipliers = rng.standard_normal((stop - start, num_clusters))
        maxima_B[start:stop] = np.abs(multipliers @ unit_KC.T).max(axis=1)
    return maxima_B
