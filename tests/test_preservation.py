"""Contracts of `adiabatic_ray.statistics.preservation`: hand-made numbers, agreement with the interval, statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from adiabatic_ray.statistics.inference import Reason, estimate_change, estimate_improvement
from adiabatic_ray.statistics.preservation import mcnemar, non_inferiority
from tests.statistics_cases import FOUR, random_statistics, statistics_of

# --- non-inferiority ---


def test_non_inferiority_by_hand() -> None:
    """Change -.25, se .25. Against a margin of .25 of PND: (-.25 - .25) / .25 = -2, one-sided p .02275.

    Against half of the untuned PND: influences (0, -1/4, 1/8, 1/8), se sqrt(1/8), z = -.5 / .353553 = -1.414214.
    """
    absolute = non_inferiority(*FOUR, margin=0.25, relative=False)
    assert absolute.excess.tolist() == [-0.5]
    assert absolute.z.tolist() == [-2]
    np.testing.assert_allclose(absolute.p, [0.0227501], rtol=1e-5)
    assert absolute.non_inferior.tolist() == [True]
    assert non_inferiority(*FOUR, margin=0.25, relative=False, level=0.99).non_inferior.tolist() == [False]
    relative = non_inferiority(*FOUR, margin=0.5)
    assert relative.excess.tolist() == [-0.5]
    np.testing.assert_allclose(relative.z, [-np.sqrt(2)])
    np.testing.assert_allclose(relative.p, [0.0786496], rtol=1e-5)
    assert relative.non_inferior.tolist() == [False]
    assert relative.reason.tolist() == [""]


@given(st.integers(0, 10**6), st.floats(0.001, 0.3), st.floats(0.5, 0.99))
def test_non_inferiority_by_pnd_is_the_upper_end_of_the_interval(seed: int, margin: float, level: float) -> None:
    statistics = random_statistics(seed)
    decided = non_inferiority(*statistics, margin=margin, relative=False, level=level).non_inferior
    high = estimate_change(statistics[1], statistics[3], level).high
    clear = np.abs(high - margin) > 1e-12
    assert np.array_equal(decided[clear], (high < margin)[clear])


@given(st.integers(0, 10**6), st.floats(0.01, 0.3), st.floats(1.0, 3.0))
def test_a_wider_margin_is_easier_to_keep(seed: int, margin: float, factor: float) -> None:
    statistics = random_statistics(seed)
    narrow, wide = (non_inferiority(*statistics, margin=m, relative=False) for m in (margin, factor * margin))
    assert (wide.p <= narrow.p).all()


def test_a_small_set_shows_neither_a_loss_nor_its_absence() -> None:
    """The change of four queries isn't significant, and isn't shown to be harmless either."""
    assert estimate_change(FOUR[1], FOUR[3]).p[0] > 0.05
    assert not non_inferiority(*FOUR, margin=0.01).non_inferior[0]


def test_non_inferiority_degenerate_cases() -> None:
    untuned = [[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 0, 1, 0]]
    tuned = [[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 1, 0]]
    statistics = statistics_of(untuned, tuned, [2, 2, 2, 2])
    statistics[1][4] = np.nan
    nothing, missing = Reason.NOTHING_CHANGED, Reason.MISSING
    absolute = non_inferiority(*statistics, margin=0.1, relative=False)
    assert absolute.reason.tolist() == [nothing, nothing, Reason.NO_SPREAD, nothing, missing]
    np.testing.assert_array_equal(absolute.p, [0, 0, np.nan, 0, np.nan])
    assert absolute.non_inferior.tolist() == [True, True, False, True, False]
    relative = non_inferiority(*statistics, margin=0.1)
    assert relative.reason.tolist() == [nothing, Reason.NO_UNTUNED_ERROR, Reason.NO_UNTUNED_ERROR, nothing, missing]
    # Where nothing changed it does not matter that the margin, a share of PND .25 with se .144, is uncertain.
    np.testing.assert_array_equal(relative.z, [-np.inf, np.nan, np.nan, -np.inf, np.nan])
    np.testing.assert_array_equal(relative.p, [0, np.nan, np.nan, 0, np.nan])
    interval = estimate_improvement(*(array[:1] for array in statistics))
    assert (interval.low[0], interval.high[0]) == (0, 0), "one decision, whichever number is read"
    # A loss of exactly the margin in every cluster: nothing to judge by.
    exactly = non_inferiority(*(array[2:3] for array in statistics), margin=0.5, relative=False)
    assert exactly.reason.tolist() == [Reason.NO_SPREAD]
    assert np.isnan(exactly.p[0])
    one = np.zeros((1, 1))
    few = non_inferiority(np.array([0.5]), np.array([0.0]), one, one, margin=0.1)
    assert few.reason.tolist() == [Reason.FEW_CLUSTERS]
    assert few.non_inferior.tolist() == [False]


@pytest.mark.parametrize("margin", [0.0, -0.01, np.nan, np.inf])
def test_non_inferiority_refuses_a_margin_that_is_none(margin: float) -> None:
    with pytest.raises(ValueError, match="margin must be above 0"):
        non_inferiority(*FOUR, margin=margin)


# --- McNemar ---


def test_mcnemar_by_hand() -> None:
    """1 of 6 the other way: 2 x (1 + 6) / 64; 0 of 5: 2 / 32; equal or none: 1."""
    p = mcnemar(np.array([[1, 5], [3, 0]]), np.array([[5, 0], [3, 0]]))
    np.testing.assert_allclose(p, [[14 / 64, 2 / 32], [1, 1]])
    assert p.dtype == np.float64
    for wrong in (np.array([0.5]), np.array([-1])):
        with pytest.raises(ValueError, match="whole numbers of 0 or more"):
            mcnemar(wrong, np.array([1]))  # type: ignore[arg-type]


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_agrees_with_statsmodels(worsened: int, improved: int) -> None:
    assume(worsened + improved > 0)
    expected = statsmodels_mcnemar(np.array([[7, worsened], [improved, 9]]), exact=True).pvalue
    assert mcnemar(np.array([worsened]), np.array([improved]))[0] == pytest.approx(expected, rel=1e-10)
