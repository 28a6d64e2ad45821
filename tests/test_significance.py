"""Contracts of `statistics.significance`, against hand-made numbers, textbook formulas and a simulated null."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from adiabatic_ray.statistics.metrics import count_errors
from adiabatic_ray.statistics.significance import (
    PAPER_CRITICAL_Z,
    adjust_bh,
    cluster_weights,
    clustered_test,
    pair_influence_KC,
    paper_z,
    resampled_K,
    triplet_influence_KC,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class _Clustered:
    """Random scores of two towers, in clusters of unequal size, and their counts by cluster."""

    def __init__(self, seed: int, num_clusters: int = 7, least: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.num_clusters = num_clusters
        self.m_a, self.n_a = rng.integers(least, 4, size=(2, num_clusters))
        self.m_a[0] = self.n_a[0] = 1
        self.m, self.n = int(self.m_a.sum()), int(self.n_a.sum())
        self.positive_cluster = np.repeat(np.arange(num_clusters), self.m_a)
        self.negative_cluster = np.repeat(np.arange(num_clusters), self.n_a)
        shared = rng.standard_normal(num_clusters)
        # Rounded, so that there are ties.
        self.positives = np.round(1 + shared[self.positive_cluster] + rng.standard_normal((2, self.m)), 1)
        self.negatives = np.round(shared[self.negative_cluster] + rng.standard_normal((2, self.n)), 1)

    def matrix(self, tower: int) -> IntArray:
        """Errors as an M x N matrix of 0 and 1: a literal reading of the kernel."""
        closer: NDArray[np.bool_] = self.positives[tower][:, np.newaxis] > self.negatives[tower][np.newaxis, :]
        return (~closer).astype(np.int64)

    def counts(self, tower: int) -> tuple[IntArray, IntArray]:
        """Errors by cluster, (1, C) each, from the library's counting."""
        by_positive, by_negative = count_errors(self.positives[tower], self.negatives[tower])
        by_cluster = np.zeros((2, 1, self.num_clusters), dtype=np.int64)
        np.add.at(by_cluster[0, 0], self.positive_cluster, by_positive)
        np.add.at(by_cluster[1, 0], self.negative_cluster, by_negative)
        return by_cluster[0], by_cluster[1]

    def influence(self, tower: int) -> FloatArray:
        return pair_influence_KC(*self.counts(tower), self.m_a, self.n_a)

    def theta(self, tower: int) -> float:
        return float(self.matrix(tower).mean())


# --- the paper's test ---


def test_paper_z_by_hand() -> None:
    """100 errors of 1,000 become 130: P = .115, z = .03 / sqrt(2 x .115 x .885 / 1000) = 2.10275."""
    z, p = paper_z(100, 130, 1000)
    assert z == pytest.approx(0.03 / 0.014267094, rel=1e-6)
    assert p == pytest.approx(2 * NormalDist().cdf(-float(z)), rel=1e-12)
    assert p == pytest.approx(0.03549, abs=1e-5)
    assert PAPER_CRITICAL_Z == 1.96


def test_paper_z_sign_shape_and_symmetry() -> None:
    z, p = paper_z(np.array([[100], [130]]), np.array([100, 130]), 1000)
    assert z.shape == p.shape == (2, 2)
    assert z[0, 0] == z[1, 1] == 0
    assert p[0, 0] == 1
    assert z[0, 1] == -z[1, 0] > PAPER_CRITICAL_Z


def test_paper_z_degenerate_cases() -> None:
    with np.errstate(all="raise"):
        z, p = paper_z([0, 9, 0], [0, 9, 0], [9, 9, 0])
    assert z[:2].tolist() == [0, 0]
    assert p[:2].tolist() == [1, 1]
    assert np.isnan([z[2], p[2]]).all()
    with pytest.raises(ValueError, match="got 2 and 10 errors of 9 comparisons"):
        paper_z([1, 2], [1, 10], 9)


# --- influences ---


def test_pair_influence_by_hand() -> None:
    """Two clusters of one positive and one negative; the error matrix is [[1, 0], [1, 0]].

    theta = 1/2; by positive 1, 1; by negative 2, 0. Cluster 0: (1/2 - 1/2)/2 + (2/2 - 1/2)/2 = 1/4; cluster 1: -1/4.
    """
    ones = np.array([1, 1])
    influence = pair_influence_KC(np.array([[1, 1]]), np.array([[2, 0]]), ones, ones)
    assert influence.tolist() == [[0.25, -0.25]]


def test_triplet_influence_by_hand() -> None:
    """3 errors of 8 comparisons, theta = 3/8: (2 - 3/2)/8, (1 - 3/4)/8, (0 - 3/4)/8."""
    influence = triplet_influence_KC(np.array([[2, 1, 0]]), np.array([4, 2, 2]))
    assert influence.tolist() == [[0.0625, 0.03125, -0.09375]]


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_pair_influence_sums_to_zero_and_is_linear(seed: int) -> None:
    """The influence of a difference is the difference of the influences, clusters without positives included."""
    data = _Clustered(seed, least=0)
    untuned, tuned = data.counts(0), data.counts(1)
    differences = (tuned[0] - untuned[0], tuned[1] - untuned[1])
    influence = pair_influence_KC(*differences, data.m_a, data.n_a)
    np.testing.assert_allclose(influence, data.influence(1) - data.influence(0), atol=1e-15)
    np.testing.assert_allclose(influence.sum(axis=1), 0, atol=1e-15)
    np.testing.assert_allclose(data.influence(1).sum(axis=1), 0, atol=1e-15)


def _weighted_pair_pnd(data: _Clustered, weight_C: FloatArray) -> float:
    positive, negative = weight_C[data.positive_cluster], weight_C[data.negative_cluster]
    return float(positive @ data.matrix(0) @ negative / (positive.sum() * negative.sum()))


def test_pair_influence_is_the_derivative_by_the_weight_of_a_cluster() -> None:
    data, step = _Clustered(3, least=0), 1e-5
    slopes = [
        (_weighted_pair_pnd(data, 1 + step * unit) - _weighted_pair_pnd(data, 1 - step * unit)) / (2 * step)
        for unit in np.eye(data.num_clusters)
    ]
    np.testing.assert_allclose(data.influence(0)[0], slopes, atol=1e-9)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_triplet_influence_is_the_derivative_of_the_pooled_pnd(clusters: list[tuple[int, int]]) -> None:
    """Each pair gives (errors, comparisons that are no errors); cluster 0 has at least one comparison."""
    errors = np.array([first for first, _ in clusters])
    sizes = errors + np.array([second for _, second in clusters])
    sizes[0] += 1
    step = 1e-5
    slopes = [
        ((errors @ (1 + step * unit)) / (sizes @ (1 + step * unit)) - errors.sum() / sizes.sum()) / step
        for unit in np.eye(len(clusters))
    ]
    influence = triplet_influence_KC(errors[np.newaxis], sizes)
    np.testing.assert_allclose(influence[0], slopes, atol=1e-4)
    np.testing.assert_allclose(influence.sum(), 0, atol=1e-15)


def test_counts_stored_as_int32_do_not_overflow() -> None:
    """The results tables hold int32; 2**31 is passed by 100,000 x 100,000 comparisons."""
    num = 100_000
    by_positive, by_negative = (np.full((1, num), num // 2, dtype=np.int32) for _ in range(2))
    by_positive[0, :2] += np.array([1, -1], dtype=np.int32)
    ones = np.ones(num, dtype=np.int32)
    influence = pair_influence_KC(by_positive, by_negative, ones, ones)
    np.testing.assert_allclose(influence[0, :3], [1e-10, -1e-10, 0], atol=1e-20)


def test_influences_refuse_what_does_not_fit() -> None:
    ones, counts = np.array([1, 1]), np.array([[1, 0]])
    with pytest.raises(ValueError, match="statistic 0 has 1 and 2"):
        pair_influence_KC(counts, 2 * counts, ones, ones)
    with pytest.raises(ValueError, match="negatives: counts must have shape"):
        pair_influence_KC(counts, counts, ones, np.array([1, 1, 1]))
    with pytest.raises(ValueError, match="same statistics and clusters"):
        pair_influence_KC(counts, np.array([[1, 0], [1, 0]]), ones, ones)
    with pytest.raises(ValueError, match="positives: cluster sizes must be 0 or more and not all 0"):
        pair_influence_KC(counts, counts, 0 * ones, ones)
    with pytest.raises(ValueError, match="triplets: counts must have shape"):
        triplet_influence_KC(counts[0], ones)
    with pytest.raises(ValueError, match="whole numbers; got float64"):
        triplet_influence_KC(counts / 2, ones)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cluster sizes must be 0 or more"):
        triplet_influence_KC(counts, np.array([3, -1]))


# --- the clustered test ---


def test_clustered_test_by_hand() -> None:
    """Influences .01, .02, -.03: variance = 3/2 x .0014 = .0021; a change of .09 has z = .09 / sqrt(.0021)."""
    test = clustered_test(np.array([0.09, -0.09]), np.array([[0.01, 0.02, -0.03], [0.01, 0.02, -0.03]]))
    np.testing.assert_allclose(test.se, np.sqrt([0.0021, 0.0021]))
    np.testing.assert_allclose(test.z, [1.963961, -1.963961], rtol=1e-6)
    np.testing.assert_allclose(test.p, 2 * NormalDist().cdf(-1.963961), rtol=1e-5)
    assert test.delta.tolist() == [0.09, -0.09]
    assert test.num_clusters.tolist() == [3, 3]
    assert {getattr(test, field.name).shape for field in fields(test)} == {(2,)}
    with pytest.raises(FrozenInstanceError):
        test.z = test.p  # type: ignore[misc]


def _obuchowski_terms(data: _Clustered, first: int, second: int) -> float:
    """Covariance of two AUC-like statistics, term by term and by loops, as printed in Obuchowski (1997)."""
    clusters, m, n = range(data.num_clusters), data.m, data.n
    v10, v01 = [], []
    for tower in (first, second):
        wrong, theta = data.matrix(tower), data.theta(tower)
        v10.append([wrong[data.positive_cluster == a].sum() / n - data.m_a[a] * theta for a in clusters])
        v01.append([wrong[:, data.negative_cluster == a].sum() / m - data.n_a[a] * theta for a in clusters])
    with_positive, with_negative, total = (data.m_a > 0).sum(), (data.n_a > 0).sum(), data.num_clusters
    s10 = with_positive / ((with_positive - 1) * m) * sum(v10[0][a] * v10[1][a] for a in clusters)
    s01 = with_negative / ((with_negative - 1) * n) * sum(v01[0][a] * v01[1][a] for a in clusters)
    s11 = total / (total - 1) * sum(v10[0][a] * v01[1][a] for a in clusters)
    s11_turned = total / (total - 1) * sum(v10[1][a] * v01[0][a] for a in clusters)
    return float(s10 / m + s01 / n + s11 / (m * n) + s11_turned / (m * n))


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_clustered_test_equals_obuchowski(seed: int) -> None:
    """Single PNDs and the paired difference, clusters of 1 to 3 positives and negatives, with ties."""
    data = _Clustered(seed)
    single = clustered_test(np.array([data.theta(0)]), data.influence(0))
    np.testing.assert_allclose(single.se**2, _obuchowski_terms(data, 0, 0), rtol=1e-9, atol=1e-18)
    delta = np.array([data.theta(1) - data.theta(0)])
    paired = clustered_test(delta, data.influence(1) - data.influence(0))
    variance = _obuchowski_terms(data, 0, 0) + _obuchowski_terms(data, 1, 1) - 2 * _obuchowski_terms(data, 0, 1)
    np.testing.assert_allclose(paired.se**2, variance, rtol=1e-9, atol=1e-15)


def _delong_variance(positives_2M: FloatArray, negatives_2N: FloatArray) -> float:
    """Variance of the difference of two AUCs, DeLong et al. (1988): kernel 1, 1/2, 0 and sample covariances."""
    difference = positives_2M[:, :, np.newaxis] - negatives_2N[:, np.newaxis, :]
    kernel = np.where(difference > 0, 1.0, np.where(difference == 0, 0.5, 0.0))
    contrast = np.array([-1.0, 1.0])
    of_positives, of_negatives = (contrast @ np.cov(kernel.mean(axis=axis)) @ contrast for axis in (2, 1))
    return float(of_positives / positives_2M.shape[1] + of_negatives / negatives_2N.shape[1])


def test_clusters_of_one_text_give_delong() -> None:
    """200 clusters of one positive and 200 of one negative: the factors differ, 400/399 here, 200/199 in DeLong's."""
    rng, num = np.random.default_rng(5), 200
    common = rng.standard_normal(num)
    positives = 1 + common + 0.3 * rng.standard_normal((2, num))
    negatives = rng.standard_normal(num) + 0.3 * rng.standard_normal((2, num))
    by_positive = np.zeros((2, 2 * num), dtype=np.int64)
    by_negative = np.zeros((2, 2 * num), dtype=np.int64)
    for tower in (0, 1):
        by_positive[tower, :num], by_negative[tower, num:] = count_errors(positives[tower], negatives[tower])
    has_positive = np.repeat([1, 0], num)
    influence = pair_influence_KC(
        by_positive[1:] - by_positive[:1], by_negative[1:] - by_negative[:1], has_positive, 1 - has_positive
    )
    delta = (by_positive[1:].sum(axis=1) - by_positive[:1].sum(axis=1)) / num**2
    test = clustered_test(delta, influence)
    expected = _delong_variance(positives, negatives) * (400 / 399) / (200 / 199)
    np.testing.assert_allclose(test.se**2, expected, rtol=1e-12)


def test_clustered_test_degenerate_cases() -> None:
    """Nothing changed; every cluster changed alike; one cluster; a statistic that is NaN."""
    ones = np.ones(4, dtype=np.int64)
    unchanged, alike = np.zeros((1, 4), dtype=np.int64), np.ones((1, 4), dtype=np.int64)
    test = clustered_test(np.array([0.0]), pair_influence_KC(unchanged, unchanged, ones, ones))
    assert [test.se.item(), test.z.item(), test.p.item()] == [0, 0, 1]
    test = clustered_test(np.array([0.25]), pair_influence_KC(alike, alike, ones, ones))
    assert test.se == 0
    assert np.isnan([test.z, test.p]).all()
    for num_clusters in (0, 1):
        test = clustered_test(np.zeros(2), np.zeros((2, num_clusters)))
        assert np.isnan([test.se, test.z, test.p]).all()
        assert test.num_clusters.tolist() == [num_clusters, num_clusters]
    test = clustered_test(np.array([np.nan, 0.1]), np.array([[np.nan, 0.1], [-0.1, 0.1]]))
    assert np.isnan([test.se[0], test.z[0], test.p[0]]).all()
    assert test.z[1] == pytest.approx(0.5)


def test_equal_contributions_have_no_spread_at_all() -> None:
    """Seven clusters with 3 of 7 errors each: with rounded shares the standard error would be tiny instead of 0."""
    sevens = np.full((1, 7), 3)
    ones = np.ones(7, dtype=np.int64)
    assert not pair_influence_KC(sevens, sevens, ones, ones).any()
    assert not triplet_influence_KC(sevens, 7 * ones).any()


def test_clustered_test_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="delta must have shape"):
        clustered_test(np.zeros(2), np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"statistic 1 sums to 0\.3"):
        clustered_test(np.zeros(2), np.array([[0.1, -0.1], [0.1, 0.2]]))


def _null_counts(rng: np.random.Generator, num_premises: int) -> tuple[IntArray, IntArray]:
    """Errors by premise, (2 towers, C) each, when tuning has no effect: the towers can be exchanged.

    A premise carries one positive and one negative. Half of each score's variance is the premise's, in the part that
    the towers share and in the part that they don't. Scores of the two towers correlate at .99; PND is about .108.
    """
    means = np.array([1.75, 0.0])[:, np.newaxis]

    def part(num_towers: int) -> FloatArray:
        of_premises = rng.standard_normal((num_towers, 1, num_premises))
        parts: FloatArray = np.sqrt(0.5) * (of_premises + rng.standard_normal((num_towers, 2, num_premises)))
        return parts

    scores = means + np.sqrt(0.99) * part(1) + np.sqrt(0.01) * part(2)
    counts = [count_errors(positives, negatives) for positives, negatives in scores]
    return np.array([count[0] for count in counts]), np.array([count[1] for count in counts])


def test_false_positives_under_a_simulated_null() -> None:
    """The clustered test keeps its 5%, plain DeLong (no cross term) falls below it, the paper's test is far above."""
    rng, num_runs, num_premises = np.random.default_rng(20), 1000, 1200
    ones = np.ones(num_premises, dtype=np.int64)
    apart = np.repeat([1, 0], num_premises)
    rejected = {"clustered": 0, "plain": 0, "paper": 0}
    for _ in range(num_runs):
        by_positive, by_negative = _null_counts(rng, num_premises)
        errors = by_positive.sum(axis=1)
        delta = (errors[1:] - errors[:1]) / num_premises**2
        of_positives, of_negatives = np.diff(by_positive, axis=0), np.diff(by_negative, axis=0)
        clustered = clustered_test(delta, pair_influence_KC(of_positives, of_negatives, ones, ones))
        nothing = np.zeros_like(of_positives)
        split = np.hstack([of_positives, nothing]), np.hstack([nothing, of_negatives])
        plain = clustered_test(delta, pair_influence_KC(*split, apart, 1 - apart))
        z, _ = paper_z(errors[0], errors[1], num_premises**2)
        rejected["clustered"] += int(clustered.p[0] < 0.05)
        rejected["plain"] += int(plain.p[0] < 0.05)
        rejected["paper"] += int(abs(z) > PAPER_CRITICAL_Z)
    binomial_sd = np.sqrt(0.05 * 0.95 / num_runs)
    assert abs(rejected["clustered"] / num_runs - 0.05) < 2.5 * binomial_sd
    assert rejected["plain"] / num_runs < 0.05 - 2.5 * binomial_sd
    assert rejected["paper"] / num_runs > 0.3


# --- false discovery rate and resampling ---


def test_adjust_bh_by_hand() -> None:
    """Sorted .01 .02 .03 .5 times 4/rank: .04 .04 .04 .5. NaN is no member of the family."""
    adjusted = adjust_bh([[0.5, 0.01, np.nan], [0.03, np.nan, 0.02]])
    np.testing.assert_allclose(adjusted, [[0.5, 0.04, np.nan], [0.04, np.nan, 0.04]])
    assert np.isnan(adjust_bh([np.nan, np.nan])).all()
    assert adjust_bh([]).shape == (0,)
    with pytest.raises(ValueError, match=r"got -2\.1 to 0\.5"):
        adjust_bh([0.5, -2.1, np.nan])


def test_cluster_weights_are_counts_and_repeat_with_the_seed() -> None:
    weights = cluster_weights(np.random.default_rng(1), 30, 2000)
    assert weights.shape == (2000, 30)
    assert weights.dtype == np.int64
    assert (weights.sum(axis=1) == 30).all()
    assert np.array_equal(weights, cluster_weights(np.random.default_rng(1), 30, 2000))
    # Variance of a multinomial count is 1 - 1/C.
    np.testing.assert_allclose(weights.var(axis=0).mean(), 1 - 1 / 30, rtol=0.03)
    for sizes in ((0, 5), (5, 0)):
        with pytest.raises(ValueError, match="at least 1 cluster and 1 resample"):
            cluster_weights(np.random.default_rng(1), *sizes)


def test_resampled_by_hand() -> None:
    """Weights 2 0 1: theta + influence_0 - influence_1."""
    theta, influence = np.array([0.5, 0.25]), np.array([[0.5, -0.25, -0.25], [0.0, 0.125, -0.125]])
    resampled = resampled_K(theta, influence, np.array([[2, 0, 1], [1, 1, 1]]))
    assert resampled.tolist() == [[1.25, 0.125], [0.5, 0.25]]


def test_resampling_agrees_with_recounting() -> None:
    """300 clusters: to first order a recount of each resample, and its spread is the standard error."""
    data = _Clustered(11, num_clusters=300)
    theta = np.array([data.theta(0)])
    weights = cluster_weights(np.random.default_rng(2), data.num_clusters, 2000)
    resampled = resampled_K(theta, data.influence(0), weights)
    se = float(clustered_test(theta, data.influence(0)).se[0])
    recounted = [_weighted_pair_pnd(data, weight.astype(np.float64)) for weight in weights[:40]]
    assert np.abs(resampled[:40, 0] - recounted).max() < 0.25 * se
    assert resampled.std() == pytest.approx(se, rel=0.05)


@pytest.mark.parametrize(
    ("theta", "influence", "weights"),
    [((2,), (1, 3), (5, 3)), ((1,), (1, 3), (5, 4)), ((1,), (3,), (5, 3)), ((1,), (1, 3), (3,))],
)
def test_resampled_refuses_what_does_not_fit(theta: Any, influence: Any, weights: Any) -> None:
    with pytest.raises(ValueError, match="must fit"):
        resampled_K(np.zeros(theta), np.zeros(influence), np.zeros(weights))
