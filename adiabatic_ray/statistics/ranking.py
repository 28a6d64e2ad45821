"""Rank measures of a query: reciprocal rank, average precision, precision at 1, all queries at once.

They are the other measures of the paper's Table 2 (section 2.3), computed from the same scores, in the same compressed
rows, as `metrics.errors_per_query`. Ties are decided as PND decides them, against the positive: a positive ranks BEHIND
every negative that has the same score. So a query has reciprocal rank 1 and precision 1 exactly when one of its
positives is strictly closer than all of its negatives, and average precision 1 exactly when it has no PND error. Each
value is the lowest that any order of the tied passages gives (McSherry & Najork, "Computing Information Retrieval
Performance Measures Efficiently in the Presence of Tied Scores", ECIR 2008, treat the whole range).

Other libraries differ where scores tie: trec_eval, and with it pytrec_eval and ir_measures, orders equal scores by
document name; whoever sorts without a rule gets the order of the input, which rewards a list that names its positives
first. Of `sentence_transformers`, TripletEvaluator counts a tie as an error, as here.

Shape suffixes: Q queries, Q1 = Q + 1 offsets; M positives and N negatives of all queries together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adiabatic_ray.statistics.metrics import AnyFloats, FloatArray, checked_layout


class RankMeasures(NamedTuple):
    """Measures of each query, float64 [Q], in [0, 1], higher is better; NaN for a query without positives."""

    reciprocal_rank_Q: FloatArray
    """1 / rank of the best positive. Their mean over queries is MRR."""
    average_precision_Q: FloatArray
    """Mean over the query's positives of the precision at that positive's rank. Their mean over queries is MAP."""
    precision_at_1_Q: FloatArray
    """1 when the first passage is a positive, else 0. Their mean over queries is P@1."""


def rank_measures(
    positive_scores: AnyFloats,
    positive_offsets_Q1: NDArray[np.integer[Any]],
    negative_scores: AnyFloats,
    negative_offsets_Q1: NDArray[np.integer[Any]],
) -> RankMeasures:
    """Reciprocal rank, average precision and precision at 1 of each query over its own passages.

    Query q ranks `scores[offsets[q]:offsets[q + 1]]` of both sides together, closest first. Its j-th best positive has
    rank r = j + (negatives of the query that score at least as high), and the precision there is j / r. Reciprocal rank
    is 1 / r at j = 1; average precision is the mean of j / r over the positives, all of which are retrieved (Manning,
    Raghavan & Schütze, "Introduction to Information Retrieval", 2008, section 8.4).

    A query without positives has nothing to find: its three values are NaN, as its PND is (pytrec_eval says 0, which
    would pull a mean down). A query with positives and no negatives has 1 throughout.

    A value depends on the scores of its own query only, to the last bit: shards put together equal the whole.

    Args:
        positive_scores: similarities of all queries' positives, one after the other, larger is closer, [M].
        positive_offsets_Q1: where each query's positives begin, and their number at the end.
        negative_scores: similarities of all queries' negatives, [N].
        negative_offsets_Q1: where each query's negatives begin, and their number at the end.

    Returns:
        The three measures, float64 [Q] each.

    Raises:
        ValueError: scores that are not one-dimensional floats, NaN, or offsets that do not describe the scores.
    """
    positive_starts_Q1, negative_starts_Q1 = checked_layout(
        positive_scores, positive_offsets_Q1, negative_scores, negative_offsets_Q1
    )
    num_queries = len(positive_starts_Q1) - 1
    queries_Q = np.arange(num_queries, dtype=np.int64)
    query_M = np.repeat(queries_Q, np.diff(positive_starts_Q1))
    query_N = np.repeat(queries_Q, np.diff(negative_starts_Q1))
    # Whole-number levels keep ties; a key (query, level from the closest down) fits one integer, so that one sort and
    # one bisection serve all queries. Sorting changes no query's place: the offsets stay valid.
    levels, level = np.unique(np.concatenate([positive_scores, negative_scores]), return_inverse=True)
    level = len(levels) - 1 - level
    positive_keys_M = np.sort(query_M * len(levels) + level[: len(positive_scores)])
    negative_keys_N = np.sort(query_N * len(levels) + level[len(positive_scores) :])
    ahead_M = np.searchsorted(negative_keys_N, positive_keys_M, side="right") - negative_starts_Q1[query_M]
    nth_M = np.arange(1, len(query_M) + 1) - positive_starts_Q1[query_M]
    precision_M = nth_M / (nth_M + ahead_M)

    num_positives_Q = np.diff(positive_starts_Q1)
    has_positive_Q = num_positives_Q > 0
    first_Q = positive_starts_Q1[:-1][has_positive_Q]
    reciprocal_rank_Q, precision_at_1_Q = np.full((2, num_queries), np.nan)
    reciprocal_rank_Q[has_positive_Q] = 1 / (1 + ahead_M[first_Q])
    precision_at_1_Q[has_positive_Q] = ahead_M[first_Q] == 0
    # bincount adds a query's precisions one by one, untouched by other queries; a running sum would not be.
    summed_Q = np.bincount(query_M, precision_M, num_queries)
    average_precision_Q = summed_Q / np.where(has_positive_Q, num_positives_Q, np.nan)
    return RankMeasures(reciprocal_rank_Q, average_precision_Q, precision_at_1_Q)
