"""Contracts of `statistics.inference`: hand-made numbers, properties, and the clustered test against oracles."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from statistics import NormalDist

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given
from hypothesis import strategies as st
from MLstatkit import Delong_test
from numpy.typing import NDArray
from pauc import ROC, compare

from adiabatic_ray.statistics.inference import (
    Estimates,
    Reason,
    change_interval,
    estimate_change,
    estimate_improvement,
    improvement_of_mean,
    log_ratio,
    mean_change,
    normal_quantile,
    weighted_means,
)
from adiabatic_ray.statistics.metrics import count_errors, improvement
from adiabatic_ray.statistics.preservation import non_inferiority
from adiabatic_ray.statistics.significance import clustered_test, pair_influence_KC
from tests.statistics_cases import FOUR, Statistics, random_errors, random_statistics, statistics_of

FloatArray = NDArray[np.float64]

# --- the change ---


def test_change_by_hand() -> None:
    """Squares sum to 12/256; 4/3 of that is 1/16, so se = 1/4 and z = -1; the interval is -.25 -/+ 1.95996 / 4."""
    change = estimate_change(FOUR[1], FOUR[3])
    assert change.estimate.tolist() == [-0.25]
    assert change.se.tolist() == [0.25]
    assert change.z.tolist() == [-1]
    np.testing.assert_allclose(change.p, 2 * NormalDist().cdf(-1))
    np.testing.assert_allclose([change.low, change.high], [[-0.739991], [0.239991]], atol=1e-6)
    assert change.reason.tolist() == [""]
    with pytest.raises(FrozenInstanceError):
        change.z = change.p  # type: ignore[misc]


def test_interval_by_hand() -> None:
    """At 90% the quantile is 1.644854; nothing at all changed: a point; a change without spread: not known."""
    low, high = change_interval(np.array([0.1, 0.0, 0.1, np.nan]), np.array([0.01, 0.0, 0.0, 0.1]), 0.9)
    np.testing.assert_allclose(low, [0.08355146, 0, np.nan, np.nan], atol=1e-8)
    np.testing.assert_allclose(high, [0.11644854, 0, np.nan, np.nan], atol=1e-8)
    assert normal_quantile(0.95) == pytest.approx(NormalDist().inv_cdf(0.975), rel=1e-12)
    for level in (0.0, 1.0, 95.0, np.nan):
        with pytest.raises(ValueError, match="level must lie between 0 and 1"):
            change_interval(np.zeros(1), np.zeros(1), level)


# --- the improvement ---


def test_improvement_by_hand() -> None:
    """Influence on the log ratio: (3, -1, -1, -1)/4 - (1, 1, -1, -1)/4 = (.5, -.5, 0, 0); se = sqrt(4/3 x 1/2).

    The ratio is 1/2, so se of the improvement = sqrt(2/3) / 2 = .408248; z and p are those of the change. Its interval
    at 50%, q^2 = .454936: at an improvement of .5 + h the influences on change + (.5 + h) x untuned sum to h / 2, with
    variance 1/24 + h^2 / 12 (the two are orthogonal). So h^2 (1/4 - q^2 / 12) = q^2 / 24, h = .298959. At 95% the
    bracket is negative: two errors are too few for an interval.
    """
    value_K, influence_KC = log_ratio(*FOUR)
    np.testing.assert_allclose(value_K, [-np.log(2)])
    np.testing.assert_allclose(influence_KC, [[0.5, -0.5, 0, 0]], atol=1e-16)
    result = estimate_improvement(*FOUR)
    assert result.estimate.tolist() == [0.5]
    np.testing.assert_allclose(result.se, [0.408248], atol=1e-6)
    np.testing.assert_allclose(result.z, [1])
    np.testing.assert_allclose(result.p, 2 * NormalDist().cdf(-1))
    assert np.isnan([result.low, result.high]).all() and result.reason.tolist() == [Reason.FEW_UNTUNED]
    half = estimate_improvement(*FOUR, level=0.5)
    np.testing.assert_allclose([half.low, half.high], [[0.201041], [0.798959]], atol=1e-6)
    assert half.reason.tolist() == [""]


@given(st.integers(0, 10**6), st.floats(0.3, 0.99))
def test_the_interval_holds_what_the_test_of_a_ratio_does_not_reject(seed: int, level: float) -> None:
    """At its ends change + g x untuned lies exactly q standard errors from 0; cut at 100%."""
    untuned, delta, influence_untuned, influence = random_statistics(seed)
    result = estimate_improvement(untuned, delta, influence_untuned, influence, level)
    for end_K in (result.low, result.high):
        inside_K = end_K < 1
        test = clustered_test(delta + end_K * untuned, influence + end_K[:, np.newaxis] * influence_untuned)
        np.testing.assert_allclose(np.abs(test.z[inside_K]), normal_quantile(level), rtol=1e-6)


@given(st.integers(0, 10**6), st.sampled_from([0.01, 0.05, 0.3]))
def test_the_interval_and_non_inferiority_decide_alike(seed: int, margin: float) -> None:
    statistics = random_statistics(seed, num_statistics=20)
    kept = non_inferiority(*statistics, margin=margin)
    assert np.array_equal(estimate_improvement(*statistics).low > -margin, kept.non_inferior)


def test_the_interval_covers_where_errors_are_few() -> None:
    """Ten errors expected, of which 60% stay while 10% as many come: ratio .7. 4,000 sets of 200 queries.

    The interval through the log ratio covers 93.5% here, and in 2% of the sets does not agree with the test.
    """
    rng, shape = np.random.default_rng(0), (4000, 200)
    untuned = (rng.random(shape) < 0.05).astype(np.int64)
    tuned = np.where(untuned == 1, rng.random(shape) < 0.6, rng.random(shape) < 0.1 * 0.05 / 0.95).astype(np.int64)
    result = estimate_improvement(*statistics_of(untuned, tuned, np.ones(200, dtype=np.int64)))
    has_one = np.isfinite(result.low)
    assert has_one.mean() > 0.98
    covered = (result.low <= 0.3) & (result.high >= 0.3)
    assert abs(covered[has_one].mean() - 0.95) < 3 * np.sqrt(0.05 * 0.95 / 4000)
    decides = (result.low > 0) | (result.high < 0)
    assert np.array_equal(decides[has_one], result.p[has_one] < 0.05)


@given(st.integers(0, 10**6))
def test_improvement_agrees_with_equation_1_and_stays_below_one(seed: int) -> None:
    untuned, delta, *influences = random_statistics(seed)
    result = estimate_improvement(untuned, delta, *influences)
    np.testing.assert_allclose(result.estimate, improvement(untuned, untuned + delta), atol=1e-15)
    assert (result.low <= result.estimate).all()
    assert (result.estimate <= result.high).all()
    assert (result.high <= 1).all()
    assert (np.sign(result.z) == -np.sign(delta)).all()


def test_influence_on_the_log_ratio_is_its_derivative() -> None:
    """By the weight of each query, numerically; pooled PNDs before and after."""
    (untuned, tuned, sizes), step = random_errors(5, num_statistics=1, num_clusters=9), 1e-5

    def value(weight_C: FloatArray) -> float:
        return float(np.log((tuned[0] @ weight_C) / (untuned[0] @ weight_C)))

    slopes = [(value(1 + step * unit) - value(1 - step * unit)) / (2 * step) for unit in np.eye(9)]
    _, influence = log_ratio(*statistics_of(untuned, tuned, sizes))
    np.testing.assert_allclose(influence[0], slopes, atol=1e-8)


def test_small_changes_have_nearly_the_same_interval_through_the_log_ratio() -> None:
    """The two agree to first order: of 2,000 queries, 600 wrong, 40 turn wrong and 20 turn right."""
    untuned = np.zeros((1, 2000), dtype=np.int64)
    untuned[0, :600] = 1
    tuned = untuned.copy()
    tuned[0, 600:640], tuned[0, 0:20] = 1, 0
    statistics = statistics_of(untuned, tuned, np.ones(2000, dtype=np.int64))
    relative, (value, influence) = estimate_improvement(*statistics), log_ratio(*statistics)
    low, high = change_interval(value, clustered_test(value, influence).se)
    np.testing.assert_allclose([relative.low, relative.high], [-np.expm1(high), -np.expm1(low)], atol=5e-4)


# --- properties of both ---


def _both(statistics: Statistics, level: float = 0.95) -> tuple[Estimates, Estimates]:
    untuned, delta, influence_untuned, influence = statistics
    return estimate_change(delta, influence, level), estimate_improvement(
        untuned, delta, influence_untuned, influence, level
    )


def _numbers(estimates: Estimates) -> FloatArray:
    """All numbers of some estimates, one row a field."""
    return np.stack([getattr(estimates, field.name) for field in fields(estimates) if field.name != "reason"])


@given(st.integers(0, 10**6))
def test_estimates_do_not_depend_on_the_order_of_clusters(seed: int) -> None:
    untuned, delta, *influences = random_statistics(seed)
    order = np.random.default_rng(seed).permutation(influences[0].shape[1])
    shuffled = (untuned, delta, influences[0][:, order], influences[1][:, order])
    for first, second in zip(_both((untuned, delta, influences[0], influences[1])), _both(shuffled), strict=True):
        np.testing.assert_allclose(_numbers(first), _numbers(second), rtol=1e-9, atol=1e-12)


@given(st.integers(0, 10**6), st.floats(0.01, 1))
def test_scale_carries_over_to_the_change_and_cancels_in_the_improvement(seed: int, scale: float) -> None:
    statistics = random_statistics(seed)
    scaled = tuple(scale * array for array in statistics)
    change, relative = _both(statistics)
    change_scaled, relative_scaled = _both(scaled)  # type: ignore[arg-type]
    np.testing.assert_allclose(change_scaled.low, scale * change.low, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(change_scaled.p, change.p, rtol=1e-9)
    np.testing.assert_allclose(_numbers(relative_scaled), _numbers(relative), rtol=1e-9, atol=1e-12)


@given(st.integers(0, 10**6), st.floats(0.05, 0.99), st.floats(0.05, 0.99))
def test_intervals_of_nested_levels_are_nested(seed: int, first: float, second: float) -> None:
    narrow, wide = (_both(random_statistics(seed), level) for level in sorted((first, second)))
    for inner, outer in zip(narrow, wide, strict=True):
        assert (outer.low <= inner.low).all()
        assert (inner.high <= outer.high).all()


@given(st.integers(0, 10**6))
def test_the_interval_leaves_out_zero_exactly_when_p_is_small(seed: int) -> None:
    for estimates in _both(random_statistics(seed, num_statistics=20)):
        assert np.array_equal((estimates.low > 0) | (estimates.high < 0), estimates.p < 0.05)


# --- means over groups ---


def test_means_by_hand() -> None:
    """Two statistics over two clusters, influences (.1, -.1) and (-.1, .1): their mean has no spread at all.

    With weights 3/4 and 1/4 the influences are (.05, -.05): variance 2 x .005, se .1.
    """
    influence = np.array([[0.1, -0.1], [-0.1, 0.1]])
    mean = mean_change(np.array([[0.5, 0.5], [0.75, 0.25], [0, 1]]), np.array([0.2, 0.4]), influence)
    np.testing.assert_allclose(mean.estimate, [0.3, 0.25, 0.4])
    np.testing.assert_allclose(mean.se, [0, 0.1, 0.2])
    np.testing.assert_allclose(mean.z, [np.nan, 2.5, 2])
    assert mean.reason.tolist() == [Reason.NO_SPREAD, "", ""]
    # Thirds of .1 + .2 - .3 leave 1e-17 in floating point, which is not a spread.
    parts = np.array([0.1, 0.2, -0.3])[:, np.newaxis] * np.array([1, -1])
    assert mean_change(np.full((1, 3), 1 / 3), np.full(3, 0.2), parts).se.tolist() == [0]


def test_improvement_of_the_mean_is_a_ratio_of_means() -> None:
    """PNDs .2 to .1 and .6 to .6: improvements 50% and 0%, mean 25%; mean PND .4 to .35: 12.5%."""
    rng = np.random.default_rng(0)
    influences = [array - array.mean(axis=1, keepdims=True) for array in rng.normal(0, 0.01, size=(2, 2, 30))]
    untuned, delta = np.array([0.2, 0.6]), np.array([-0.1, 0.0])
    result = improvement_of_mean(np.array([[0.5, 0.5]]), untuned, delta, *influences)
    np.testing.assert_allclose(result.estimate, [0.125])


@given(st.integers(0, 10**6))
def test_a_group_of_one_is_its_member(seed: int) -> None:
    statistics = random_statistics(seed)
    change, relative = _both(statistics)
    np.testing.assert_allclose(_numbers(mean_change(np.eye(3), statistics[1], statistics[3])), _numbers(change))
    np.testing.assert_allclose(_numbers(improvement_of_mean(np.eye(3), *statistics)), _numbers(relative))


@given(st.integers(0, 10**6))
def test_the_mean_of_sets_that_share_queries_is_their_pool(seed: int) -> None:
    """Sets of equal sizes query by query: the mean of their PNDs is the PND of all triplets together."""
    untuned, tuned, sizes = random_errors(seed)
    pooled = statistics_of(untuned.sum(axis=0, keepdims=True), tuned.sum(axis=0, keepdims=True), 3 * sizes)
    change, relative = _both(pooled)
    statistics, weights = statistics_of(untuned, tuned, sizes), np.full((1, 3), 1 / 3)
    assume(change.estimate[0] != 0)  # a pooled change of 0 is rounding in the mean
    np.testing.assert_allclose(_numbers(mean_change(weights, statistics[1], statistics[3])), _numbers(change))
    np.testing.assert_allclose(_numbers(improvement_of_mean(weights, *statistics)), _numbers(relative), atol=1e-12)


def test_means_leave_a_missing_value_to_the_groups_that_hold_it() -> None:
    values, influence = np.array([0.1, np.nan, 0.3]), np.array([[0.1, -0.1], [np.nan, 0.1], [0.2, -0.2]])
    mean = mean_change(np.array([[0.5, 0, 0.5], [0.5, 0.5, 0]]), values, influence)
    assert mean.estimate[0] == pytest.approx(0.2)
    assert np.isfinite(mean.p[0])
    assert np.isnan(_numbers(mean)[:, 1]).all()
    assert mean.reason.tolist() == ["", Reason.MISSING]


def test_means_refuse_what_makes_no_mean() -> None:
    values, influence = np.zeros(2), np.zeros((2, 5))
    for weights in ([[0.0, 0.0]], [[1.0, 1.0]], [[2.0, -1.0]], [[np.nan, 1.0]]):
        with pytest.raises(ValueError, match="weights of a mean must be 0 or more and sum to 1; those of group 0"):
            weighted_means(np.array(weights), values, influence)
    for shape in ((2,), (1, 3)):
        with pytest.raises(ValueError, match="must fit"):
            weighted_means(np.ones(shape), values, influence)


# --- where no test is possible ---


def test_every_degenerate_statistic_has_a_reason() -> None:
    """Rows: an ordinary one, nothing changed, all changed alike, no untuned error, no tuned error, no error at all."""
    untuned = [[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    tuned = [[1, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    change, relative = _both(statistics_of(untuned, tuned, [2, 2, 2, 2]))
    assert change.reason.tolist() == ["", Reason.NOTHING_CHANGED, Reason.NO_SPREAD, "", "", Reason.NOTHING_CHANGED]
    no_untuned, no_tuned = Reason.NO_UNTUNED_ERROR, Reason.NO_TUNED_ERROR
    few = Reason.FEW_UNTUNED
    assert relative.reason.tolist() == [few, Reason.NOTHING_CHANGED, no_untuned, no_untuned, no_tuned, no_untuned]
    for estimates in (change, relative):
        assert _numbers(estimates)[:, 1].tolist() == [0, 0, 0, 0, 0, 1]
        assert not np.signbit(_numbers(estimates)[:, 1]).any()
    assert _numbers(change)[:2, 2].tolist() == [0.5, 0]
    assert np.isnan(_numbers(change)[2:, 2]).all()
    assert np.isnan(_numbers(relative)[:, [2, 3, 5]]).all()
    assert relative.estimate[4] == 1
    assert np.isnan(_numbers(relative)[1:, 4]).all()


def test_degenerate_clusters_and_missing_values() -> None:
    for num_clusters in (0, 1):
        none = np.zeros((1, num_clusters))
        for estimates in _both((np.array([0.5]), np.array([0.1]), none, none)):
            assert estimates.reason.tolist() == [Reason.FEW_CLUSTERS]
            assert np.isfinite(estimates.estimate).all()
            assert np.isnan(_numbers(estimates)[1:]).all()
    untuned, delta, influence_untuned, influence = random_statistics(0)
    delta[1], influence[2, 0] = np.nan, np.nan
    for estimates in _both((untuned, delta, influence_untuned, influence)):
        assert estimates.reason.tolist() == ["", Reason.MISSING, Reason.MISSING]
        assert np.isnan(_numbers(estimates)[2:, 1:]).all()


def test_a_ratio_that_is_the_same_everywhere_is_recognised_through_rounding() -> None:
    """Each query has three times as many errors as before: the ratio is 3 in every one, whatever rounding leaves."""
    untuned = np.array([[1, 2, 3, 1, 0, 2, 3]])
    relative = estimate_improvement(*statistics_of(untuned, 3 * untuned, np.full(7, 11)))
    assert relative.se.tolist() == [0]
    assert np.isnan(relative.p[0])
    assert relative.reason.tolist() == [Reason.NO_SPREAD]


def test_improvement_refuses_what_does_not_fit() -> None:
    untuned, delta, influence_untuned, influence = random_statistics(1)
    with pytest.raises(ValueError, match="tuned PND of statistic 0 is 1"):
        estimate_improvement(untuned, delta + 1.5, influence_untuned, influence)
    with pytest.raises(ValueError, match=r"untuned PND of statistic 2 is -0\.5"):
        estimate_improvement(np.array([0.1, 0.1, -0.5]), delta, influence_untuned, influence)
    with pytest.raises(ValueError, match="must fit"):
        estimate_improvement(untuned, delta, influence_untuned[:, 1:], influence)
    with pytest.raises(ValueError, match="must fit"):
        estimate_improvement(untuned[1:], delta, influence_untuned, influence)


# --- oracles for the test itself ---


@pytest.mark.parametrize("seed", range(5))
def test_plain_delong_agrees_with_two_other_implementations(seed: int) -> None:
    """150 positives and 90 negatives, no ties, each text its own cluster, DeLong's factor on either side: same z."""
    rng, num_positives, num_negatives = np.random.default_rng(seed), 150, 90
    labels = np.repeat([1, 0], [num_positives, num_negatives])
    common = labels + rng.standard_normal(240)
    before, after = common + 0.4 * rng.standard_normal((2, 240))
    by_positive, by_negative = np.zeros((2, 240), dtype=np.int64), np.zeros((2, 240), dtype=np.int64)
    for tower, scores in enumerate((before, after)):
        counts = count_errors(scores[:num_positives], scores[num_positives:])
        by_positive[tower, :num_positives], by_negative[tower, num_positives:] = counts
    influence = pair_influence_KC(np.diff(by_positive, axis=0), np.diff(by_negative, axis=0), labels, 1 - labels)
    delta = np.diff(by_positive.sum(axis=1))[0] / (num_positives * num_negatives)
    factors = np.repeat([num_positives / (num_positives - 1), num_negatives / (num_negatives - 1)], [150, 90])
    z = delta / np.sqrt(factors @ influence[0] ** 2)
    assert z == pytest.approx(-Delong_test(labels, before, after, return_ci=False, return_auc=False)[0], abs=1e-10)
    assert z == pytest.approx(compare(ROC(labels, before), ROC(labels, after)).stat, abs=1e-10)
    # The library's one factor for all clusters differs from DeLong's two by less than 1 / 90.
    assert clustered_test(np.array([delta]), influence).z[0] == pytest.approx(z, rel=1 / 90)


def test_clustered_se_of_triplets_agrees_with_cluster_robust_least_squares() -> None:
    """The regression of single comparisons on a constant, residuals clustered by query, in statsmodels."""
    untuned, tuned, sizes = random_errors(3, num_statistics=1, num_clusters=60)
    query_of = np.repeat(np.arange(60), sizes)
    position = np.arange(len(query_of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    change = (position < tuned[0][query_of]).astype(float) - (position < untuned[0][query_of])
    fit = sm.OLS(change, np.ones_like(change)).fit(cov_type="cluster", cov_kwds={"groups": query_of})
    _, delta, _, influence = statistics_of(untuned, tuned, sizes)
    ours = estimate_change(delta, influence)
    np.testing.assert_allclose([ours.estimate[0], ours.se[0]], [fit.params[0], fit.bse[0]], rtol=1e-10)
    np.testing.assert_allclose([ours.low[0], ours.high[0]], fit.conf_int()[0], rtol=1e-10)
