"""Contracts of `adiabatic_ray.statistics.metrics`: the kernel with its ties, exact counts, scores of one row only."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from adiabatic_ray.statistics.metrics import count_errors, errors_per_query, improvement, pair_scores, pnd

FloatArray = NDArray[np.float64]

# Few levels, so that ties are the rule; infinities are scores too.
_SCORES = st.lists(st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.25, 0.5, 1.0, np.inf]), max_size=12)


def _floats(values: list[float]) -> FloatArray:
    return np.array(values, dtype=np.float64)


def _embeddings(rows: int, columns: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


# --- pair_scores ---


def test_pair_scores_by_hand() -> None:
    """3-4-5 triangles: exact in floating point."""
    queries = np.array([[3, 4], [1, 0], [2, 0], [3, 4]], dtype=np.float32)
    passages = np.array([[3, 4], [0, 1], [-1, 0], [6, 8]], dtype=np.float32)
    cosine, neg_distance = pair_scores(queries, passages)
    assert cosine.dtype == neg_distance.dtype == np.float64
    assert cosine.tolist() == [1.0, 0.0, -1.0, 1.0]
    assert neg_distance.tolist() == [0.0, -np.sqrt(2.0), -3.0, -5.0]


def test_pair_scores_use_float64() -> None:
    """Differences of the size that tuning makes survive: in float32 both pairs would score alike."""
    queries = np.array([[1, 0], [1, 0]], dtype=np.float32)
    passages = np.array([[1, 1e-5], [1, 2e-5]], dtype=np.float32)
    cosine, _ = pair_scores(queries, passages)
    assert 1 > cosine[0] > cosine[1]
    np.testing.assert_allclose(1 - cosine, [0.5e-10, 2e-10], rtol=1e-5)


@pytest.mark.parametrize("columns", [1, 3, 384, 4097, 9000])
def test_scores_of_a_shard_equal_those_of_the_whole(columns: int) -> None:
    """Bit for bit, wherever the shard is cut; 9,000 columns exceed numpy's iterator buffer."""
    queries, passages = _embeddings(700, columns), _embeddings(700, columns, seed=1)
    whole = pair_scores(queries, passages)
    for start, stop in ((0, 1), (1, 2), (5, 699), (511, 514)):
        shard = pair_scores(queries[start:stop], passages[start:stop])
        for whole_P, shard_P in zip(whole, shard, strict=True):
            assert np.array_equal(whole_P[start:stop], shard_P)


def test_scores_do_not_depend_on_memory_layout() -> None:
    queries, passages = _embeddings(50, 384), _embeddings(50, 384, seed=1)
    spread = np.repeat(passages, 2, axis=1)[:, ::2]
    for first, second in zip(
        pair_scores(queries, passages), pair_scores(np.asfortranarray(queries), spread), strict=True
    ):
        assert np.array_equal(first, second)


def test_pair_scores_leave_the_embeddings_alone() -> None:
    """float64 needs no conversion, and yet the caller's rows must not be overwritten."""
    queries, passages = _embeddings(4, 3).astype(np.float64), _embeddings(4, 3, seed=1).astype(np.float64)
    before = queries.copy()
    pair_scores(queries, passages)
    assert np.array_equal(queries, before)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("side", ["query", "passage"])
def test_vectors_without_direction_are_refused(bad: float, side: str) -> None:
    queries, passages = _embeddings(600, 4), _embeddings(600, 4)
    (queries if side == "query" else passages)[530] = bad
    with pytest.raises(ValueError, match=f"{side} row 530 "):
        pair_scores(queries, passages)


def test_pair_scores_refuse_shapes_and_half_precision() -> None:
    with pytest.raises(ValueError, match="aligned row by row"):
        pair_scores(_embeddings(3, 4), _embeddings(1, 4))
    with pytest.raises(ValueError, match="aligned row by row"):
        pair_scores(_embeddings(3, 4)[0], _embeddings(3, 4)[0])
    with pytest.raises(ValueError, match="passage side is float16"):
        pair_scores(_embeddings(3, 4), _embeddings(3, 4).astype(np.float16))  # type: ignore[arg-type]


# --- count_errors ---


def test_count_errors_by_hand_with_ties() -> None:
    """Positives .9 .5 .5 .1, negatives .5 .1 .7: an error is negative >= positive.

    .9: none; .5: .5 (tie) and .7; .1: all three. By negative: .5 beats or ties .5 .5 .1; .1 ties .1; .7 beats .5 .5 .1.
    """
    by_positive, by_negative = count_errors(_floats([0.9, 0.5, 0.5, 0.1]), _floats([0.5, 0.1, 0.7]))
    assert by_positive.dtype == by_negative.dtype == np.int64
    assert by_positive.tolist() == [0, 2, 2, 3]
    assert by_negative.tolist() == [3, 1, 3]
    assert pnd(by_positive.sum(), 4 * 3) == 7 / 12


@settings(deadline=None)
@given(_SCORES, _SCORES)
def test_count_errors_equals_the_double_loop(positives: list[float], negatives: list[float]) -> None:
    by_positive, by_negative = count_errors(_floats(positives), _floats(negatives))
    assert by_positive.tolist() == [sum(not positive > negative for negative in negatives) for positive in positives]
    assert by_negative.tolist() == [sum(not positive > negative for positive in positives) for negative in negatives]
    assert by_positive.sum() == by_negative.sum()


def test_count_errors_refuses_what_cannot_be_ordered() -> None:
    good = _floats([0.1, 0.2])
    with pytest.raises(ValueError, match=r"negative scores must not hold NaN.* number 1\."):
        count_errors(good, _floats([0.0, np.nan]))
    with pytest.raises(ValueError, match="positive scores must be a one-dimensional float array"):
        count_errors(good[np.newaxis], good)
    with pytest.raises(ValueError, match="int64"):
        count_errors(good, np.array([1, 2]))


# --- errors_per_query ---


def test_errors_per_query_by_hand() -> None:
    """Query 0: .5 against .5 .4 (a tie), 1: nothing to compare with, 2: .3 .9 against .3 .8 1 (3 and 1 errors)."""
    errors = errors_per_query(
        _floats([0.5, 0.7, 0.3, 0.9]),
        np.array([0, 1, 2, 4]),
        _floats([0.5, 0.4, 0.3, 0.8, 1.0]),
        np.array([0, 2, 2, 5]),
    )
    assert errors.dtype == np.int64
    assert errors.tolist() == [1, 0, 4]


@settings(deadline=None)
@given(st.lists(st.tuples(_SCORES, _SCORES), max_size=6))
def test_errors_per_query_equals_the_double_loop(queries: list[tuple[list[float], list[float]]]) -> None:
    positives = _floats([score for query, _ in queries for score in query])
    negatives = _floats([score for _, query in queries for score in query])
    offsets = [np.cumsum([0] + [len(query[side]) for query in queries]) for side in (0, 1)]
    errors = errors_per_query(positives, offsets[0], negatives, offsets[1])
    assert errors.tolist() == [sum(not p > n for p in positive for n in negative) for positive, negative in queries]
    unsigned = errors_per_query(positives, offsets[0].astype(np.uint64), negatives, offsets[1].astype(np.uint64))
    assert unsigned.tolist() == errors.tolist()


def test_errors_per_query_adds_up_over_shards() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, size=(2, 40))
    offsets = [np.concatenate([[0], np.cumsum(side)]) for side in counts]
    positives, negatives = (np.round(rng.random(int(side[-1])), 1) for side in offsets)
    parts = [
        errors_per_query(
            positives[offsets[0][start] : offsets[0][stop]],
            offsets[0][start : stop + 1] - offsets[0][start],
            negatives[offsets[1][start] : offsets[1][stop]],
            offsets[1][start : stop + 1] - offsets[1][start],
        )
        for start, stop in ((0, 13), (13, 14), (14, 40))
    ]
    assert np.array_equal(np.concatenate(parts), errors_per_query(positives, offsets[0], negatives, offsets[1]))


@pytest.mark.parametrize("offsets", [[0, 1], [1, 2, 3], [0, 2, 1, 3], [[0, 3]], [0.0, 3.0], []])
def test_offsets_that_do_not_describe_the_scores_are_refused(offsets: list[int]) -> None:
    scores = _floats([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="negative offsets must be whole numbers"):
        errors_per_query(scores, np.array([0, 3]), scores, np.array(offsets))


def test_both_sides_must_list_the_same_queries() -> None:
    scores = _floats([0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="got 1 with positives and 2 with negatives"):
        errors_per_query(scores, np.array([0, 3]), scores, np.array([0, 1, 3]))


# --- pnd and improvement ---


def test_pnd_broadcasts_and_is_nan_without_comparisons() -> None:
    shares = pnd(np.array([[1, 2], [0, 4]]), np.array([4, 8]))
    assert shares.tolist() == [[0.25, 0.25], [0.0, 0.5]]
    with np.errstate(all="raise"):
        assert np.isnan(pnd([0, 1], [0, 4])).tolist() == [True, False]
    assert f"{pnd(1, 4):.2f}" == "0.25"


@pytest.mark.parametrize(("errors", "total"), [([1, 5], 4), ([-1, 0], 4), ([1, 0], 0)])
def test_pnd_refuses_impossible_counts(errors: list[int], total: int) -> None:
    with pytest.raises(ValueError, match="errors must lie between 0 and the number of comparisons"):
        pnd(errors, total)


def test_improvement_is_equation_1() -> None:
    """From 20% to 15% errors is a quarter better; MRR from .4 to .5 is a quarter better as well."""
    assert improvement(0.20, 0.25) == pytest.approx(-0.25)
    np.testing.assert_allclose(improvement([0.2, 0.1], [0.15, 0.1]), [0.25, 0.0])
    assert improvement(0.4, 0.5, sign=1) == pytest.approx(0.25)
    with np.errstate(all="raise"):
        assert np.isnan(improvement([0.0, 0.0, np.nan, 0.1], [0.0, 0.1, 0.1, np.nan])).all()
    with pytest.raises(ValueError, match="sign must be -1"):
        improvement(0.4, 0.5, sign=2)  # type: ignore[arg-type]
