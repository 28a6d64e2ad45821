"""A few queries of every evaluation set whose embeddings are kept: how far tuning turns an embedding itself.

The sample is fixed by the number of queries alone. The tuned and the untuned tower encode it while they are scored, in
the same batches, so that it costs nothing and a tower that was not changed has a cosine of exactly 1.

Legend: S sampled queries, D embedding size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

SAMPLE_QUERIES = 32
"""Queries of a sample, at most: of a triplet set, or of one language of labelled pairs."""


@dataclass(frozen=True)
class QuerySample:
    """Sampled queries of one set and language, or a shard's part of them, as one tower encodes them."""

    queries_S: np.ndarray
    """int64, rising: numbers of the queries in their set, of labelled pairs among the unique queries of a language."""
    embeddings_SD: np.ndarray
    """float32, pooled and not normalised."""


def sampled_queries(num_queries: int) -> np.ndarray:
    """Numbers of the sampled queries, int64 [S]: evenly spaced from the first on, all of them when they are few.

    Args:
        num_queries: of the whole set (labelled pairs: unique queries of a language), however it is sharded.
    """
    num_sampled = min(num_queries, SAMPLE_QUERIES)
    places_S: np.ndarray = np.arange(num_sampled) * num_queries // max(num_sampled, 1)
    return places_S


def merge_samples(parts: Iterable[Mapping[str, QuerySample]]) -> dict[str, QuerySample]:
    """Samples of a whole set by query language, from those of its shards in order."""
    of_language: dict[str, list[QuerySample]] = {}
    for part in parts:
        for language, sample in part.items():
            of_language.setdefault(language, []).append(sample)
    return {
        language: QuerySample(
            np.concatenate([sample.queries_S for sample in samples]),
            np.concatenate([sample.embeddings_SD for sample in samples]),
        )
        for language, samples in of_language.items()
    }


def cosines(before_SD: np.ndarray, after_SD: np.ndarray) -> np.ndarray:
    """Cosine of each row of one array with that row of the other, float64 [S].

    1 - |u - v|^2 / 2 of the normalised rows: exactly 1 for equal rows, and near 1 what is missing to it has the
    precision of the difference. The sum of products would lose it: it is rounded at 1.
    """
    before_SD, after_SD = before_SD.astype(np.float64), after_SD.astype(np.float64)
    units = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (before_SD, after_SD))
    difference_SD = np.subtract(*units)
    cosine_S: np.ndarray = 1 - (difference_SD * difference_SD).sum(axis=1) / 2
    return cosine_S
