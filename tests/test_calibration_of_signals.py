"""Rank correlations, the limit of a signal and the rate that reaches it: by hand, against scipy, and as properties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from analysis.calibration import rank_correlation, rate_at, threshold_of, weighted_spearman
from analysis.level import first_crossing

LEVEL = -0.01
PAIRS = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=12)


def arrays(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    first, second = zip(*pairs, strict=True)
    return np.array(first, dtype=float), np.array(second, dtype=float)


@given(PAIRS, st.data())
def test_a_weighted_rank_correlation_is_that_of_repeated_trials(pairs, data):
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(pairs), max_size=len(pairs)).filter(any))
    value_T, harm_T = arrays(pairs)
    found = weighted_spearman(value_T, harm_T, np.array([times], dtype=float))[0]
    repeated = np.repeat(value_T, times), np.repeat(harm_T, times)
    if min(np.ptp(repeated[0]), np.ptp(repeated[1])) == 0:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(spearmanr(*repeated).statistic)


def test_an_interval_resamples_groups():
    """Each group is ordered perfectly, whatever is drawn: then all replicates are -1 if the groups agree."""
    groups_T = np.array([0, 0, 1, 1, 2, 2])
    agreeing = rank_correlation(np.array([1.0, 2, 1, 2, 1, 2]), np.array([0.0, -1, 0, -1, 0, -1]), groups_T)
    assert agreeing == pytest.approx((-1, -1, -1))
    _, low, high = rank_correlation(np.array([1.0, 2, 11, 12, 101, 102]), np.array([0.0, -1, 0, -1, 0, -1]), groups_T)
    assert low == pytest.approx(-1) and high > -1, "one group drawn three times is still in order, three groups are not"


def test_two_groups_have_no_interval():
    found = rank_correlation(np.array([1.0, 2, 3]), np.array([0.0, -1, -2]), np.array([0, 0, 1]))
    assert found[0] == pytest.approx(-1) and math.isnan(found[1]) and math.isnan(found[2])


def test_what_does_not_vary_has_no_correlation():
    assert all(math.isnan(one) for one in rank_correlation(np.ones(4), np.arange(4.0), np.array([0, 1, 2, 3])))


def test_a_limit_by_hand():
    """-3% and -1% are pooled to -2% each; from +1% at 1 to -2% at 2 the line meets -1% after two thirds."""
    assert threshold_of(np.array([3.0, 1, 2]), np.array([-0.01, 0.01, -0.03]), LEVEL) == pytest.approx(1 + 2 / 3)


def test_equal_signals_count_as_their_mean():
    """+2% and 0 are +1%; from there to -3% the line meets -1% half way."""
    assert threshold_of(np.array([1.0, 1, 2]), np.array([0.02, 0.0, -0.03]), LEVEL) == pytest.approx(1.5)


def test_no_limit_where_all_holds_or_all_is_broken():
    assert threshold_of(np.array([1.0, 2]), np.array([0.0, -0.005]), LEVEL) == math.inf
    assert threshold_of(np.array([1.0, 2]), np.array([-0.02, -0.03]), LEVEL) == -math.inf


@pytest.mark.parametrize(
    ("threshold", "expected"), [(2.0, (-7.5, False)), (5.0, (-6.0, True)), (0.0, (-8.5, True)), (1.0, (-8.0, False))]
)
def test_the_rate_that_reaches_a_limit(threshold, expected):
    """From 1 at 1e-8 to 3 at 1e-7: two a decade."""
    assert rate_at(np.array([-8.0, -7.0]), np.array([1.0, 3.0]), threshold) == pytest.approx(expected)


def test_a_signal_that_falls_reaches_nothing():
    log_rate, is_extrapolated = rate_at(np.array([-8.0, -7.0]), np.array([3.0, 1.0]), 4.0)
    assert math.isnan(log_rate) and is_extrapolated


STEPS = st.lists(st.tuples(st.floats(0.1, 1), st.floats(0.1, 1), st.floats(0.003, 0.02)), min_size=2, max_size=6)


@given(STEPS)
def test_a_group_that_calibrates_itself_finds_its_own_boundary_where_signal_and_rate_are_straight(steps):
    """Rising rates, falling improvement, a signal of constant slope: calibration and reading undo one another."""
    by_rate, _, falls = (np.cumsum(one) for one in zip(*steps, strict=True))
    log_rates_R, improvement_R = by_rate - 8, 0.002 - falls
    signal_R = 2 * log_rates_R + 3
    own = first_crossing(log_rates_R, improvement_R[None], LEVEL, np.array([0.5]))[0]
    threshold = threshold_of(signal_R, improvement_R, LEVEL)
    assert math.isfinite(threshold) == math.isfinite(own)
    if math.isfinite(own):
        assert rate_at(log_rates_R, signal_R, threshold)[0] == pytest.approx(own)
