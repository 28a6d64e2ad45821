"""Is the loss shown to be small? Non-inferiority against a margin, and McNemar's test for sets of one triplet a query.

A test of "no change" answers whether a loss is there, never whether it is small. Who must not lose the other languages
asks the second question, and has to say first what loss would matter.

Sign: a positive change means that PND rose, which is worse.

Shape suffixes: K statistics (language pairs, relations, measures), C clusters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import binom

from adiabatic_ray.statistics.inference import (
    LEAST_PND,
    Reason,
    TextArray,
    normal_quantile,
    reasons,
    tuned_pnd,
    without_rounding,
)
from adiabatic_ray.statistics.significance import FloatArray, clustered_test

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class NonInferiority:
    """Outcome of `non_inferiority`, every field an array of shape (K,)."""

    excess: FloatArray
    """Change of PND less the margin, in units of PND: negative is inside the margin."""
    z: FloatArray
    """excess / se."""
    p: FloatArray
    """One-sided: small when the loss lies well inside the margin."""
    non_inferior: BoolArray
    """True where the loss was shown to lie below the margin; False says no more than that it was not shown."""
    reason: TextArray
    """A word of `Reason`; empty where there is nothing to say."""


def non_inferiority(
    pnd_untuned_K: FloatArray,
    delta_K: FloatArray,
    influence_untuned_KC: FloatArray,
    influence_KC: FloatArray,
    *,
    margin: float,
    relative: bool = True,
    level: float = 0.95,
) -> NonInferiority:
    """Is the loss shown to be smaller than a margin? One-sided test of H0: the loss is at least the margin.

    "No significant loss" is not "preserved": a small set finds nothing significant, whatever was lost. Here a set that
    is too small shows nothing. The margin has to be chosen before the results are seen.

        absolute: H0: delta >= margin.  relative: H0: delta - margin * untuned >= 0 (PND rose by at least that share)

    The relative one is the linear form of a hypothesis on a ratio (Fieller 1954, J. R. Stat. Soc. B 16:175-185): the
    margin moves with the untuned PND, whose own uncertainty enters. A loss is shown to be inside the margin when
    p <= (1 - level) / 2, at .95 the .025 of ICH E9 (1998, section 5.5): for an absolute margin exactly when the
    interval of `change_interval` ends below it.

    Over many pairs: "preserved in every pair" needs no adjustment, it holds when the largest p passes (Berger 1982,
    Technometrics 24:295-300). To list the pairs that are preserved, adjust p (`significance.adjust_bh`).

    Args:
        pnd_untuned_K: PND of the untuned backbone.
        delta_K: change of PND, tuned minus untuned.
        influence_untuned_KC: influence on the untuned PND.
        influence_KC: influence on the change, over the same clusters in the same order.
        margin: the loss that would matter, above 0: share of the untuned PND (0.01: PND may rise by 1% of itself), or
            units of PND when not `relative`.
        relative: which of the two.
        level: of the two-sided interval that this test belongs to.

    Returns:
        A `NonInferiority`. Where no cluster changed, p = 0 by either margin, and the reason says so: a loss of nothing
        is 0% of an untuned PND of any size but 0, so p does not wait for the untuned PND to be known well, and agrees
        with the interval of the improvement, [0, 0]. It is as sure as the clusters are many: where none of C changed,
        up to 3.7 / C of all that there are may (97.5%, one-sided; exactly 1 - .025^(1 / C)).
        Otherwise no spread, no untuned error (relative) or a missing value give NaN and False.

    Raises:
        ValueError: a margin that is not above 0, shapes that do not fit, a PND or level out of range.
    """
    if not (np.isfinite(margin) and margin > 0):
        raise ValueError(
            f"a margin must be above 0 and finite; got {margin!r}. Pass 0.01 to allow PND to rise by 1% of its untuned "
            "value, or an amount of PND with relative=False."
        )
    normal_quantile(level)  # refuses what is no level
    tuned_pnd(pnd_untuned_K, delta_K, influence_untuned_KC, influence_KC)  # refuses what does not fit
    excess_K, excess_KC = delta_K - margin, influence_KC
    if relative:
        excess_K = delta_K - margin * pnd_untuned_K
        margin_KC = margin * influence_untuned_KC
        excess_KC = without_rounding(influence_KC - margin_KC, np.abs(influence_KC) + np.abs(margin_KC))
    test = clustered_test(excess_K, excess_KC)
    reason_K = reasons(excess_K, excess_KC)
    z_K, p_K = test.z.copy(), ndtr(test.z)
    alike_K = np.isin(reason_K, (Reason.NO_SPREAD, Reason.NOTHING_CHANGED))  # no spread in what is left of the margin
    unchanged_K = reasons(delta_K, influence_KC) == Reason.NOTHING_CHANGED  # of the change alone: not of the margin
    undefined_K = (pnd_untuned_K < LEAST_PND) if relative else np.zeros_like(alike_K)
    for where_K, z, p, reason in (
        (alike_K, np.nan, np.nan, Reason.NO_SPREAD),
        (unchanged_K, -np.inf, 0.0, Reason.NOTHING_CHANGED),
        (undefined_K, np.nan, np.nan, Reason.NO_UNTUNED_ERROR),
    ):
        z_K[where_K], p_K[where_K], reason_K[where_K] = z, p, reason
    return NonInferiority(excess_K, z_K, p_K, p_K <= (1 - level) / 2, reason_K)


def mcnemar(num_worsened: NDArray[np.integer[Any]], num_improved: NDArray[np.integer[Any]]) -> FloatArray:
    """Exact two-sided McNemar test: did as many triplets turn wrong as turned right?

    For sets with one triplet a query, where a query changes in one of two ways or not at all (McNemar 1947,
    Psychometrika 12:153-157). Given the number that changed, those that worsened are binomial with probability 1/2
    under H0; p is twice the smaller tail, at most 1. Several triplets of a query, and queries of a paragraph, are not
    independent: use `clustered_test`.

    Args:
        num_worsened: triplets right before and wrong after tuning, any shape.
        num_improved: triplets wrong before and right after, broadcast against it.

    Returns:
        p, float64, of the broadcast shape; 1 where nothing changed.

    Raises:
        ValueError: counts that are not whole numbers of 0 or more.
    """
    worsened, improved = np.broadcast_arrays(np.asarray(num_worsened), np.asarray(num_improved))
    for counts in (worsened, improved):
        if counts.dtype.kind not in "iu" or np.any(counts < 0):
            raise ValueError(
                f"McNemar's test takes whole numbers of 0 or more; got {counts!r}. Pass how many triplets changed each "
                "way, not shares."
            )
    p: FloatArray = np.minimum(1.0, 2 * binom.cdf(np.minimum(worsened, improved), worsened + improved, 0.5))
    return p
