"""Errors of an evaluation set as they are usually counted: every positive compared with every negative, by a matrix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from sentence_transformers.util import pairwise_cos_sim, pairwise_euclidean_sim

from adiabatic_ray.corpora.text_sets import PairSet, TripletSet
from adiabatic_ray.statistics.counts import MEASURES, Key

Errors = dict[Key, int]
Scores = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Aligned rows of queries and passages, [P, D] each -> cosine and minus distance, [P]."""
Comparisons = Iterator[tuple[Key, np.ndarray, np.ndarray]]
"""A statistic, scores of positives [M] and of negatives [N], all of which are compared with each other."""


def usual_scores(queries_PD: np.ndarray, passages_PD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores by functions of sentence-transformers, in float32 as its embeddings are."""
    return (
        pairwise_cos_sim(queries_PD, passages_PD).numpy(),
        pairwise_euclidean_sim(queries_PD, passages_PD).numpy(),
    )


def counted(texts: PairSet | TripletSet, queries_QD: np.ndarray, passages_PD: np.ndarray, scores: Scores) -> Errors:
    """Errors of each statistic; a tie is an error.

    Args:
        texts: a set.
        queries_QD: embeddings of its queries, of pairs language after language.
        passages_PD: embeddings of its passages, of pairs language after language.
        scores: how close aligned rows are.
    """
    errors: Counter[Key] = Counter()
    if isinstance(texts, PairSet):
        comparisons = _of_pairs(texts, queries_QD, passages_PD, scores)
    else:
        comparisons = _of_triplets(texts, queries_QD, passages_PD, scores)
    for key, positives_M, negatives_N in comparisons:
        errors[key] += int(np.count_nonzero(positives_M[:, np.newaxis] <= negatives_N[np.newaxis, :]))
    return dict(errors)


def _of_pairs(texts: PairSet, queries_QD: np.ndarray, passages_PD: np.ndarray, scores: Scores) -> Comparisons:
    """Of each language pair all positive and all negative pairs."""
    num_languages = len(texts.languages)
    of_label = [texts.label_of_pair == label for label in range(len(texts.labels))]
    queries, passages = (np.split(side, num_languages) for side in (queries_QD, passages_PD))
    for query_language, queries_UD in zip(texts.languages, queries, strict=True):
        for passage_language, passages_ND in zip(texts.languages, passages, strict=True):
            both = scores(queries_UD[texts.query_of_pair], passages_ND)
            for measure, scores_N in zip(MEASURES, both, strict=True):
                for name, chosen_N in zip(texts.labels[1:], of_label[1:], strict=True):
                    key = f"{texts.labels[0]}-{name}", measure, query_language, passage_language
                    yield key, scores_N[of_label[0]], scores_N[chosen_N]


def _of_triplets(texts: TripletSet, queries_QD: np.ndarray, passages_PD: np.ndarray, scores: Scores) -> Comparisons:
    """Of each query all its positives and all its negatives."""
    sides = (texts.positive_rows, texts.positive_offsets), (texts.negative_rows, texts.negative_offsets)
    for place, query_D in enumerate(queries_QD):
        passages = [passages_PD[rows[offsets[place] : offsets[place + 1]]] for rows, offsets in sides]
        positives, negatives = (scores(np.tile(query_D, (len(side_PD), 1)), side_PD) for side_PD in passages)
        for measure, positives_M, negatives_N in zip(MEASURES, positives, negatives, strict=True):
            yield ("positive-negative", measure, "", ""), positives_M, negatives_N
