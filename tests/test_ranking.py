"""Rank measures: tables by hand with ties, a brute-force ranking, and two independent libraries on the same scores."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adiabatic_ray.statistics.metrics import errors_per_query, pair_scores, pnd
from adiabatic_ray.statistics.ranking import RankMeasures, rank_measures

Query = tuple[list[float], list[float]]
"""Scores of a query's positives, and of its negatives."""

# Few levels, so that ties are the rule; infinities are scores too.
SCORES = st.lists(st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.25, 1.0, np.inf]), max_size=6)
QUERIES = st.lists(st.tuples(SCORES, SCORES), max_size=8)


def compressed(queries: Sequence[Query]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Positive scores and offsets, negative scores and offsets."""
    arrays = []
    for side in (0, 1):
        scores = [query[side] for query in queries]
        offsets = np.cumsum([0, *(len(one) for one in scores)])
        arrays += [np.array([score for one in scores for score in one], dtype=np.float64), offsets]
    return arrays[0], arrays[1], arrays[2], arrays[3]


def measures(queries: Sequence[Query]) -> RankMeasures:
    return rank_measures(*compressed(queries))


@pytest.mark.parametrize(
    ("positives", "negatives", "reciprocal_rank", "average_precision", "precision_at_1"),
    [
        ([3.0], [2.0, 1.0], 1, 1, 1),
        ([2.0], [3.0, 1.0], 1 / 2, 1 / 2, 0),
        ([3.0, 1.0], [2.0], 1, (1 / 1 + 2 / 3) / 2, 1),
        ([1.0, 3.0], [2.0], 1, (1 / 1 + 2 / 3) / 2, 1),  # in any order
        ([3.0, 2.0, 0.0], [4.0, 1.0], 1 / 2, (1 / 2 + 2 / 3 + 3 / 5) / 3, 0),
        ([1.0], [1.0], 1 / 2, 1 / 2, 0),  # a tie is an error
        ([1.0], [1.0, 1.0, 0.0], 1 / 3, 1 / 3, 0),
        ([1.0, 1.0], [1.0], 1 / 2, (1 / 2 + 2 / 3) / 2, 0),  # one negative, then both positives
        ([2.0, 2.0], [1.0], 1, 1, 1),  # ties among positives cost nothing
        ([2.0, 1.0], [1.0, 1.0], 1, (1 / 1 + 2 / 4) / 2, 1),
        ([-0.0], [0.0], 1 / 2, 1 / 2, 0),
        ([np.inf], [np.inf, 1.0], 1 / 2, 1 / 2, 0),
        ([1.0, 2.0], [], 1, 1, 1),
        ([], [1.0], math.nan, math.nan, math.nan),
        ([], [], math.nan, math.nan, math.nan),
    ],
)
def test_one_query_by_hand(positives, negatives, reciprocal_rank, average_precision, precision_at_1):
    found = measures([(positives, negatives)])
    assert all(one.dtype == np.float64 and one.shape == (1,) for one in found)
    np.testing.assert_array_equal(np.concatenate(found), [reciprocal_rank, average_precision, precision_at_1])


def test_queries_keep_apart_and_empty_ones_keep_their_place():
    found = measures([([], [5.0]), ([1.0], [9.0]), ([], []), ([9.0], []), ([2.0], [1.0])])
    np.testing.assert_array_equal(found.reciprocal_rank_Q, [np.nan, 0.5, np.nan, 1, 1])
    np.testing.assert_array_equal(found.average_precision_Q, [np.nan, 0.5, np.nan, 1, 1])
    np.testing.assert_array_equal(found.precision_at_1_Q, [np.nan, 0, np.nan, 1, 1])
    assert [one.shape for one in measures([])] == [(0,)] * 3


def brute_force(positives: list[float], negatives: list[float]) -> tuple[float, float, float]:
    """One query ranked as a list: by score, negatives first where scores are equal."""
    if not positives:
        return math.nan, math.nan, math.nan
    ranked = sorted([(-score, 1) for score in positives] + [(-score, 0) for score in negatives])
    precisions, found = [], 0
    for rank, (_, is_positive) in enumerate(ranked, start=1):
        if is_positive:
            found += 1
            precisions.append((found, rank))
    return 1 / precisions[0][1], sum(n / rank for n, rank in precisions) / len(positives), float(ranked[0][1])


@given(QUERIES)
def test_against_a_ranking_by_hand(queries):
    expected = np.array([brute_force(*query) for query in queries]).reshape(-1, 3)
    np.testing.assert_allclose(np.stack(measures(queries), axis=1), expected, rtol=1e-15)


@given(QUERIES)
def test_ties_are_decided_as_in_pnd(queries):
    """All first, exactly when there is no error; first at all, exactly when one positive beats every negative."""
    scores = compressed(queries)
    found, errors_Q = rank_measures(*scores), errors_per_query(*scores)
    for place, (positives, negatives) in enumerate(queries):
        if positives:
            assert (found.average_precision_Q[place] == 1) == (errors_Q[place] == 0)
            first = not negatives or max(positives) > max(negatives)
            assert (found.reciprocal_rank_Q[place] == 1) == (found.precision_at_1_Q[place] == 1) == first


@given(QUERIES, st.integers(0, 8))
def test_shards_equal_the_whole_bit_for_bit(queries, cut):
    whole = measures(queries)
    parts = [measures(queries[:cut]), measures(queries[cut:])]
    for place in range(3):
        assert np.concatenate([part[place] for part in parts]).tobytes() == whole[place].tobytes()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({0: np.array([1.0, np.nan])}, "positive scores must not hold NaN"),
        ({2: np.array([np.nan, 1.0])}, "negative scores must not hold NaN"),
        ({0: np.array([[1.0, 2.0]])}, "one-dimensional float array"),
        ({2: np.array([1, 2])}, "one-dimensional float array"),
        ({1: np.array([0, 1])}, "positive offsets must be whole numbers"),
        ({3: np.array([0, 2, 1, 2])}, "negative offsets must be whole numbers"),
        ({3: np.array([0, 1, 1, 2])}, "2 with positives and 3 with negatives"),
    ],
)
def test_bad_input_is_refused(changes, said):
    arrays = list(compressed([([1.0], [0.0]), ([2.0], [1.0])]))
    for place, array in changes.items():
        arrays[place] = array
    with pytest.raises(ValueError) as caught:
        rank_measures(*arrays)
    assert said in str(caught.value)


def test_an_independent_library_agrees_where_nothing_ties():
    """trec_eval's code, by pytrec_eval, on the same scores."""
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="the extra [dev] is not installed")
    random = np.random.default_rng(7)
    queries: list[Query] = []
    for _ in range(300):
        num_positives, num_negatives = int(random.integers(1, 6)), int(random.integers(0, 40))
        # 24-bit whole numbers: trec_eval keeps scores in single precision, where closer ones would tie.
        scores = random.choice(1 << 24, num_positives + num_negatives, replace=False).astype(float).tolist()
        queries.append((scores[:num_positives], scores[num_positives:]))
    relevance = {
        f"q{q}": {f"d{d}": int(d < len(positives)) for d in range(len(positives) + len(negatives))}
        for q, (positives, negatives) in enumerate(queries)
    }
    run = {
        f"q{q}": {f"d{d}": score for d, score in enumerate(positives + negatives)}
        for q, (positives, negatives) in enumerate(queries)
    }
    theirs = pytrec_eval.RelevanceEvaluator(relevance, {"recip_rank", "map", "P_1"}).evaluate(run)
    for ours_Q, name in zip(measures(queries), ("recip_rank", "map", "P_1"), strict=True):
        np.testing.assert_allclose(ours_Q, [theirs[f"q{q}"][name] for q in range(300)], rtol=1e-14)


@pytest.mark.slow
def test_sentence_transformers_agrees_on_one_triplet_a_query():
    """Its TripletEvaluator on the same embeddings: accuracy is 1 - PND, P@1 too, and a tie is an error for both."""
    evaluation = pytest.importorskip(
        "sentence_transformers.sentence_transformer.evaluation", reason="the extra [bench] is not installed"
    )
    random = np.random.default_rng(3)
    anchors, positives, negatives = random.standard_normal((3, 2000, 16)).astype(np.float32)
    negatives[:100] = positives[:100]

    class Precomputed:
        """Stands in for a model: texts are row numbers of embeddings that are there already."""

        model_card_data = None
        similarity_fn_name = "cosine"

        def encode_query(self, texts, **_):
            return anchors[texts]

        def encode_document(self, texts, **_):
            return np.concatenate([positives, negatives])[texts]

    rows = np.arange(2000)
    evaluator = evaluation.TripletEvaluator(
        rows, rows, rows + 2000, similarity_fn_names=["cosine", "euclidean"], write_csv=False
    )
    evaluator.store_metrics_in_model_card_data = lambda *_: None
    theirs = evaluator(Precomputed())
    offsets = np.arange(2001)
    for name, positive_scores, negative_scores in zip(
        ("cosine", "euclidean"), pair_scores(anchors, positives), pair_scores(anchors, negatives), strict=True
    ):
        scores = (positive_scores, offsets, negative_scores, offsets)
        errors = errors_per_query(*scores).sum()
        assert 100 < errors < 1200
        # Theirs is a mean in single precision; in whole queries it must be the same number.
        assert round(theirs[f"{name}_accuracy"] * 2000) == 2000 - errors
        assert 1 - pnd(errors, 2000) == pytest.approx(rank_measures(*scores).precision_at_1_Q.mean(), abs=1e-12)


def test_the_papers_size_is_far_below_two_seconds():
    """7,000 queries, 357,642 triplets (Appendix A); 0.04 s on one core when it was written."""
    random = np.random.default_rng(0)
    bounds = np.array([0, *np.sort(random.integers(0, 357_642, 6999)), 357_642])
    positives, negatives = random.standard_normal(7000), random.standard_normal(357_642)
    started = time.perf_counter()
    found = rank_measures(positives, np.arange(7001), negatives, bounds)
    assert time.perf_counter() - started < 2
    assert np.isfinite(np.stack(found)).all()
