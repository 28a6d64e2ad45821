"""Closeness of embeddings and the exact count of comparisons that go wrong.

Everything rests on one kernel, the paper's (section 2.3): a comparison (positive, negative) is an ERROR when the
positive is not strictly closer than the negative, so a tie is an error. Similarities are used throughout: larger means
closer, and a Euclidean distance enters with a minus sign. PND, the positive-negative discrepancy, is errors over
comparisons. An AUC counts half of a tie, so 1 - PND is an AUC only where there are no ties.

Counts come from sorting and bisection, in O((M + N) log (M + N)), and never from an M x N matrix. They are whole
numbers, so partial counts from shards add up exactly. Scores are float64 and row by row, so that neither the number of
threads nor the way rows are split over shards changes a bit of them.

Shape suffixes: P aligned pairs, D embedding dimensions, M positives, N negatives, Q queries, Q1 = Q + 1 offsets.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
AnyFloats = NDArray[np.float32] | NDArray[np.float64]

_ROWS_AT_ONCE = 512
"""Rows converted to float64 at a time: bounds the memory (3 MiB at 384 dimensions) at no cost in time."""

_COLUMNS_AT_ONCE = 4096
"""Half of numpy's iterator buffer (8,192). A longer row is summed in parts that depend on its place in the array."""


def _row_dots(left_PD: FloatArray, right_PD: FloatArray) -> FloatArray:
    """Row-wise inner products; a row's result depends on that row only."""
    dots_P = np.zeros(len(left_PD))
    for start in range(0, left_PD.shape[1], _COLUMNS_AT_ONCE):
        columns = slice(start, start + _COLUMNS_AT_ONCE)
        dots_P += np.einsum("pd,pd->p", left_PD[:, columns], right_PD[:, columns])
    return dots_P


def check_norms(squared_norms_P: FloatArray, side: str, first_row: int) -> None:
    """Refuse vectors that have no direction: the squared norm of a vector shows zeros, NaN and infinity alike."""
    usable_P = np.isfinite(squared_norms_P) & (squared_norms_P > 0)
    if not usable_P.all():
        row = int(np.argmin(usable_P))
        raise ValueError(
            f"every embedding needs finite numbers and a norm above zero; {side} row {first_row + row} has squared "
            f"norm {squared_norms_P[row]}. Check the text of that row and whether the tower has diverged."
        )


def pair_scores(queries_PD: AnyFloats, passages_PD: AnyFloats) -> tuple[FloatArray, FloatArray]:
    """Cosine similarity and minus Euclidean distance of aligned rows: the paper's measures c and d (Table 1).

    The sums run in float64 and, by einsum and not BLAS, in an order that depends neither on the number of threads nor
    on the other rows: scores of a shard are bit-identical to the same rows of the whole.

    Args:
        queries_PD: float32 (or float64) embeddings of the query side, shape (P, D).
        passages_PD: the same for the passage side; row p is compared with query row p.

    Returns:
        `(cosine_P, neg_distance_P)`: cosine in [-1, 1] up to rounding, and minus the distance in embedding units.

    Raises:
        ValueError: shapes that are not (P, D) and equal, a type other than float32 or float64, or a vector that is zero
            or not finite.
    """
    if queries_PD.ndim != 2 or queries_PD.shape != passages_PD.shape:
        raise ValueError(
            f"queries and passages must be aligned row by row, both of shape (P, D); got {queries_PD.shape} and "
            f"{passages_PD.shape}. Index both sides by the same list of pairs."
        )
    for side, array in (("query", queries_PD), ("passage", passages_PD)):
        if array.dtype not in (np.float32, np.float64):
            raise ValueError(
                f"embeddings must be float32 or float64; the {side} side is {array.dtype}. Encode in float32: half "
                "precision moves the counts by about as much as tuning does."
            )
    num_pairs, num_dimensions = queries_PD.shape
    cosine_P, neg_distance_P = np.empty(num_pairs), np.empty(num_pairs)
    # Reused, as new pages cost as much as the arithmetic. In C order, because einsum adds along the fastest axis first:
    # another layout would be another order of summation.
    query_block, passage_block = np.empty((2, min(num_pairs, _ROWS_AT_ONCE), num_dimensions))
    for start in range(0, num_pairs, _ROWS_AT_ONCE):
        rows = slice(start, min(start + _ROWS_AT_ONCE, num_pairs))
        query, passage = query_block[: rows.stop - start], passage_block[: rows.stop - start]
        query[:], passage[:] = queries_PD[rows], passages_PD[rows]
        query_norms, passage_norms = _row_dots(query, query), _row_dots(passage, passage)
        check_norms(query_norms, "query", start)
        check_norms(passage_norms, "passage", start)
        # Multiplied before the root: the cosine of a vector with itself is then exactly 1.
        cosine_P[rows] = _row_dots(query, passage) / np.sqrt(query_norms * passage_norms)
        query -= passage
        neg_distance_P[rows] = -np.sqrt(_row_dots(query, query))
    return cosine_P, neg_distance_P


def check_scores(scores: NDArray[Any], side: str) -> None:
    """Refuse what can't be ordered."""
    if scores.ndim != 1 or scores.dtype.kind != "f":
        raise ValueError(
            f"{side} scores must be a one-dimensional float array; got shape {scores.shape}, type {scores.dtype}. "
            "Score one language pair and measure at a time."
        )
    if np.isnan(scores).any():
        raise ValueError(
            f"{side} scores must not hold NaN, which is neither closer nor farther; the first is number "
            f"{int(np.argmax(np.isnan(scores)))}. A tower that gives NaN has diverged: record that, do not score it."
        )


def count_errors(positives_M: AnyFloats, negatives_N: AnyFloats) -> tuple[IntArray, IntArray]:
    """Errors of every positive against all negatives, and of every negative against all positives.

    These are the paper's XNLI comparisons (section 2.3: each entailment pair against each neutral or contradiction
    pair) summed by row and by column, which is all that a clustered test needs. Ties are errors. Infinite scores are
    ordered like any other.

    Args:
        positives_M: similarities of the positive pairs, larger is closer.
        negatives_N: similarities of the negative pairs.

    Returns:
        `(errors_by_positive_M, errors_by_negative_N)`, int64. Both sum to the errors among the M x N comparisons.

    Raises:
        ValueError: scores that are not one-dimensional floats, or NaN.
    """
    check_scores(positives_M, "positive")
    check_scores(negatives_N, "negative")
    closer_than_M = np.searchsorted(np.sort(negatives_N), positives_M, side="left")
    errors_by_positive_M = len(negatives_N) - closer_than_M.astype(np.int64)
    errors_by_negative_N = np.searchsorted(np.sort(positives_M), negatives_N, side="right").astype(np.int64)
    return errors_by_positive_M, errors_by_negative_N


def checked_offsets(offsets_Q1: NDArray[Any], num_scores: int, side: str) -> IntArray:
    """Offsets of a CSR layout as int64: whole numbers from 0 to the number of scores that never go back."""
    whole = offsets_Q1.ndim == 1 and offsets_Q1.dtype.kind in "iu" and len(offsets_Q1) > 0
    if not whole or offsets_Q1[0] != 0 or offsets_Q1[-1] != num_scores or np.any(offsets_Q1[1:] < offsets_Q1[:-1]):
        raise ValueError(
            f"{side} offsets must be whole numbers that start at 0, never decrease and end at the number of {side} "
            f"scores ({num_scores}); got {offsets_Q1!r}. Build them as 0 and the running sum of the counts per query."
        )
    return offsets_Q1.astype(np.int64)


def checked_layout(
    positive_scores: AnyFloats,
    positive_offsets_Q1: NDArray[np.integer[Any]],
    negative_scores: AnyFloats,
    negative_offsets_Q1: NDArray[np.integer[Any]],
) -> tuple[IntArray, IntArray]:
    """Both sides' offsets as int64, when scores and offsets describe the same queries; arguments of `errors_per_query`.

    Raises:
        ValueError: scores that are not one-dimensional floats, NaN, or offsets that do not describe the scores.
    """
    check_scores(positive_scores, "positive")
    check_scores(negative_scores, "negative")
    positive_starts_Q1 = checked_offsets(positive_offsets_Q1, len(positive_scores), "positive")
    negative_starts_Q1 = checked_offsets(negative_offsets_Q1, len(negative_scores), "negative")
    num_queries = len(positive_starts_Q1) - 1
    if len(negative_starts_Q1) - 1 != num_queries:
        raise ValueError(
            f"both sides must list the same queries; got {num_queries} with positives and "
            f"{len(negative_starts_Q1) - 1} with negatives. Repeat an offset for a query that has none."
        )
    return positive_starts_Q1, negative_starts_Q1


def errors_per_query(
    positive_scores: AnyFloats,
    positive_offsets_Q1: NDArray[np.integer[Any]],
    negative_scores: AnyFloats,
    negative_offsets_Q1: NDArray[np.integer[Any]],
) -> IntArray:
    """Errors of each query over all of its positives x all of its negatives (the paper's triplets, section 2.3).

    Query q owns `scores[offsets[q]:offsets[q + 1]]` on either side and has (positives x negatives) comparisons. All
    queries are counted at once: every score becomes a key that orders by query first and score second, so one sort and
    one bisection serve them all. A query without positives or without negatives has 0 comparisons and 0 errors.

    Args:
        positive_scores: similarities of all queries' positives, one after the other, larger is closer.
        positive_offsets_Q1: where each query's positives begin, and their number at the end.
        negative_scores: similarities of all queries' negatives.
        negative_offsets_Q1: where each query's negatives begin, and their number at the end.

    Returns:
        `errors_Q`, int64.

    Raises:
        ValueError: scores that are not one-dimensional floats, NaN, or offsets that do not describe the scores.
    """
    positive_starts_Q1, negative_starts_Q1 = checked_layout(
        positive_scores, positive_offsets_Q1, negative_scores, negative_offsets_Q1
    )
    num_queries = len(positive_starts_Q1) - 1
    # Ranks are whole numbers and keep ties, so a key (query, rank) fits one integer and orders exactly.
    levels, ranks = np.unique(np.concatenate([positive_scores, negative_scores]), return_inverse=True)
    first_keys_Q = np.arange(num_queries, dtype=np.int64) * len(levels)
    positive_keys = np.repeat(first_keys_Q, np.diff(positive_starts_Q1)) + ranks[: len(positive_scores)]
    negative_keys = np.repeat(first_keys_Q, np.diff(negative_starts_Q1)) + ranks[len(positive_scores) :]
    first_not_farther = np.searchsorted(np.sort(negative_keys), positive_keys, side="left")
    errors = np.repeat(negative_starts_Q1[1:], np.diff(positive_starts_Q1)) - first_not_farther
    running = np.zeros(len(errors) + 1, dtype=np.int64)
    np.cumsum(errors, out=running[1:])
    errors_Q: IntArray = np.diff(running[positive_starts_Q1])
    return errors_Q


def pnd(errors: ArrayLike, num_comparisons: ArrayLike) -> FloatArray:
    """Positive-negative discrepancy: share of comparisons that are errors (section 2.3 of the paper).

    Args:
        errors: number of errors, any shape.
        num_comparisons: number of comparisons, broadcast against `errors`.

    Returns:
        Shares in [0, 1], float64, of the broadcast shape (a scalar for scalars). NaN where there is no comparison.

    Raises:
        ValueError: errors below 0 or above the number of comparisons.
    """
    counts, totals = np.asarray(errors, dtype=np.float64), np.asarray(num_comparisons, dtype=np.float64)
    wrong = (counts < 0) | (counts > totals)
    if np.any(wrong):
        first = int(np.argmax(wrong))
        got = [float(np.broadcast_to(array, np.shape(wrong)).flat[first]) for array in (counts, totals)]
        raise ValueError(
            f"errors must lie between 0 and the number of comparisons; got {got[0]:.17g} errors of {got[1]:.17g} "
            "comparisons. Check that both describe the same shards."
        )
    return counts / np.where(totals == 0, np.nan, totals)


def improvement(base: ArrayLike, tuned: ArrayLike, sign: Literal[-1, 1] = -1) -> FloatArray:
    """Relative change of a measure against the untuned backbone: I = s (tuned - base) / base, equation 1 of the paper.

    Args:
        base: the measure for the untuned backbone, any shape.
        tuned: the measure for the tuned tower, broadcast against `base`.
        sign: -1 for PND, which falls when it improves (the default), 1 for measures that rise (MRR, MAP, P@1).

    Returns:
        Fractions (0.1 is 10%), float64, of the broadcast shape (a scalar for scalars); positive is better. NaN where
        `base` is 0, whatever `tuned` is, and where either is NaN.

    Raises:
        ValueError: another sign.
    """
    if sign not in (-1, 1):
        raise ValueError(f"sign must be -1 (the measure falls when it improves) or 1 (it rises); got {sign!r}.")
    before, after = np.asarray(base, dtype=np.float64), np.asarray(tuned, dtype=np.float64)
    return sign * (after - before) / np.where(before == 0, np.nan, before)
