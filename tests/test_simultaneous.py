"""Contracts of `statistics.simultaneous`: hand-made numbers, statsmodels, normal distributions as scipy has them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from statsmodels.stats.multitest import multipletests

from adiabatic_ray.statistics import simultaneous
from adiabatic_ray.statistics.inference import estimate_improvement, log_ratio
from adiabatic_ray.statistics.significance import adjust_bh, clustered_test
from adiabatic_ray.statistics.simultaneous import adjust_by, simultaneous_test
from tests.statistics_cases import random_statistics

FloatArray = NDArray[np.float64]

# --- false discovery rate ---

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_adjust_by_by_hand() -> None:
    """Sorted .01 .02 .03 .5 have .04 .04 .04 .5 by Benjamini-Hochberg; times 1 + 1/2 + 1/3 + 1/4 = 25/12."""
    adjusted = adjust_by([[0.5, 0.01, np.nan], [0.03, np.nan, 0.02]])
    np.testing.assert_allclose(adjusted, [[1, 1 / 12, np.nan], [1 / 12, np.nan, 1 / 12]])
    assert np.isnan(adjust_by([np.nan])).all()
    assert adjust_by([]).shape == (0,)
    with pytest.raises(ValueError, match="p-values must lie in"):
        adjust_by([1.5])


@given(P_VALUES)
def test_adjusted_p_agree_with_statsmodels(p: list[float]) -> None:
    np.testing.assert_allclose(adjust_bh(p), multipletests(p, method="fdr_bh")[1], rtol=1e-12)
    np.testing.assert_allclose(adjust_by(p), multipletests(p, method="fdr_by")[1], rtol=1e-12)


@given(P_VALUES)
def test_benjamini_yekutieli_is_never_below_benjamini_hochberg(p: list[float]) -> None:
    assert (adjust_by(p) >= adjust_bh(p)).all()


# --- max-T and simultaneous bands ---


def _independent(num_statistics: int) -> FloatArray:
    """Influences of statistics that do not depend on each other: contrasts that are orthogonal and sum to zero."""
    rows = np.linalg.qr(np.column_stack([np.ones(16), np.eye(16)[:, :num_statistics]]))[0].T
    return rows[1:]


def test_critical_value_of_independentstatistics_of() -> None:
    """Four of them: P(max |T| < c) = .95 at the normal quantile of (1 + .95 ** (1/4)) / 2, 2.4908; one alone: 1.96."""
    for num_statistics, expected in ((4, 2.490915), (1, 1.959964)):
        influence = _independent(num_statistics)
        test = simultaneous_test(np.zeros(num_statistics), influence, np.random.default_rng(1), 49_999)
        assert test.critical_value == pytest.approx(expected, abs=0.03)


def test_critical_value_and_p_of_dependentstatistics_of() -> None:
    """Three statistics correlated at .5 and -.5, against the trivariate normal distribution as scipy integrates it."""
    correlation = np.array([[1, 0.5, 0.0], [0.5, 1, -0.5], [0.0, -0.5, 1]])
    influence = np.linalg.cholesky(correlation) @ _independent(3)
    normal = multivariate_normal(np.zeros(3), correlation)
    z = np.array([1.5, -2.5, 2.0])
    delta = z * clustered_test(np.zeros(3), influence).se
    test = simultaneous_test(delta, influence, np.random.default_rng(2), 49_999)
    expected = [1 - normal.cdf(np.full(3, size), lower_limit=np.full(3, -size)) for size in np.abs(z)]
    np.testing.assert_allclose(test.p, expected, atol=0.005)
    critical = np.full(3, test.critical_value)
    assert normal.cdf(critical, lower_limit=-critical) == pytest.approx(0.95, abs=0.004)


def test_bands_are_critical_values_times_standard_errors() -> None:
    _, delta, _, influence = random_statistics(4)
    test, single = simultaneous_test(delta, influence, np.random.default_rng(3)), clustered_test(delta, influence)
    np.testing.assert_allclose(test.low, delta - test.critical_value * single.se)
    np.testing.assert_allclose(test.high, delta + test.critical_value * single.se)
    assert test.num_resamples == 9_999


@given(st.integers(0, 10**6))
def test_adjusted_p_are_not_below_raw_ones(seed: int) -> None:
    """But for the error of 1,999 resamples: four standard deviations of a share."""
    _, delta, _, influence = random_statistics(seed, num_statistics=6)
    test, raw = (
        simultaneous_test(delta, influence, np.random.default_rng(seed), 1_999),
        clustered_test(delta, influence),
    )
    assert (test.p >= raw.p - 4 * np.sqrt(raw.p * (1 - raw.p) / 1_999) - 1 / 2_000).all()


@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
def test_a_band_leaves_out_zero_exactly_when_p_says_so(seed: int, level: float) -> None:
    _, delta, _, influence = random_statistics(seed, num_statistics=10)
    test = simultaneous_test(delta, influence, np.random.default_rng(seed), 199, level)
    assert np.array_equal((test.low > 0) | (test.high < 0), test.p <= 1 - level + 1e-12)


@given(st.integers(0, 10**6), st.floats(0.05, 0.98), st.floats(0.05, 0.98))
def test_bands_of_nested_levels_are_nested(seed: int, first: float, second: float) -> None:
    _, delta, _, influence = random_statistics(seed)
    inner, outer = (
        simultaneous_test(delta, influence, np.random.default_rng(seed), 199, level)
        for level in sorted((first, second))
    )
    assert outer.critical_value >= inner.critical_value


def test_the_same_seed_gives_the_same_bytes() -> None:
    _, delta, _, influence = random_statistics(6)
    first, second, other = (simultaneous_test(delta, influence, np.random.default_rng(seed), 999) for seed in (7, 7, 8))
    assert first.p.tobytes() == second.p.tobytes()
    assert first.low.tobytes() == second.low.tobytes()
    assert first.critical_value != other.critical_value


def test_blocks_bound_the_memory_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,000 resamples at once, and in blocks of 7 and of 1."""
    _, delta, _, influence = random_statistics(6)
    whole = simultaneous_test(delta, influence, np.random.default_rng(9), 1_000)
    for size in (7 * 8 * (40 + 2 * 3), 1):
        monkeypatch.setattr(simultaneous, "BLOCK_BYTES", size)
        parts = simultaneous_test(delta, influence, np.random.default_rng(9), 1_000)
        np.testing.assert_allclose(parts.critical_value, whole.critical_value, rtol=1e-12)
        assert np.array_equal(parts.p, whole.p)


def test_statistics_without_a_test_take_no_part_in_the_maximum() -> None:
    """Nothing changed: p 1, band [0, 0]; no spread or missing: NaN; and the others are as they are without them."""
    _, delta, _, influence = random_statistics(10, num_statistics=2)
    nothing = np.zeros((1, influence.shape[1]))
    mixed_delta = np.concatenate([[0.0], delta[:1], [0.3], delta[1:], [np.nan]])
    mixed = np.vstack([nothing, influence[:1], nothing, influence[1:], nothing])
    test = simultaneous_test(mixed_delta, mixed, np.random.default_rng(11), 999)
    alone = simultaneous_test(delta, influence, np.random.default_rng(11), 999)
    assert test.critical_value == alone.critical_value
    for name in ("p", "low", "high"):
        expected, value = getattr(alone, name), float(name == "p")
        np.testing.assert_array_equal(getattr(test, name), [value, expected[0], np.nan, expected[1], np.nan])


def test_no_statistic_to_test() -> None:
    for delta, influence in ((np.zeros(2), np.zeros((2, 1))), (np.full(2, np.nan), np.zeros((2, 5)))):
        test = simultaneous_test(delta, influence, np.random.default_rng(0), 99)
        assert np.isnan([test.critical_value, *test.p, *test.low, *test.high]).all()


def test_bands_on_improvements_through_log_ratios() -> None:
    """The recipe of the docstring: bands on the log ratio, carried back, hold the estimates and stay below 100%."""
    statistics = random_statistics(12)
    value, influence = log_ratio(*statistics)
    test = simultaneous_test(value, influence, np.random.default_rng(1), 999)
    relative = estimate_improvement(*statistics)
    assert (-np.expm1(test.high) < relative.low).all()
    assert (relative.high < -np.expm1(test.low)).all()
    assert (-np.expm1(test.low) < 1).all()


def test_simultaneous_test_refuses_too_few_resamples() -> None:
    with pytest.raises(ValueError, match=r"a level of 0\.95 needs at least 19 resamples; got 18"):
        simultaneous_test(np.zeros(1), np.zeros((1, 5)), np.random.default_rng(0), 18)
    assert simultaneous_test(np.zeros(1), np.zeros((1, 5)), np.random.default_rng(0), 19).p == 1
    assert simultaneous_test(np.zeros(1), np.zeros((1, 5)), np.random.default_rng(0), 9, 0.9).p == 1
    with pytest.raises(ValueError, match="level must lie"):
        simultaneous_test(np.zeros(1), np.zeros((1, 5)), np.random.default_rng(0), 99, 1.0)
