"""Rows about sampled queries: cosines between the untuned and the tuned embedding, and the untuned embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from adiabatic_ray.statistics.counts import Counts
from adiabatic_ray.statistics.query_samples import QuerySample, cosines


def cosine_rows(trial_id: str, untuned: Sequence[Counts], tuned: Sequence[Counts]) -> list[dict[str, Any]]:
    """Rows of the `cosines` table: per set and query language, over its sampled queries."""
    rows = []
    for before, after in zip(untuned, tuned, strict=True):
        for language, sample in after.samples.items():
            base = before.samples[language]
            assert np.array_equal(base.queries_S, sample.queries_S), "two towers with samples of other queries"
            cosine_S = cosines(base.embeddings_SD, sample.embeddings_SD)
            rows.append(
                {
                    "trial_id": trial_id,
                    "set": after.set_name,
                    "query_language": language,
                    "num_texts": len(cosine_S),
                    "mean_cosine": float(cosine_S.mean()),
                    "min_cosine": float(cosine_S.min()),
                }
            )
    return rows


def query_rows(untuned_id: str, untuned: Sequence[Counts]) -> list[dict[str, Any]]:
    """Rows of the `untuned_queries` table: what later trials are compared with."""
    return [
        {
            "untuned_id": untuned_id,
            "set": counts.set_name,
            "query_language": language,
            "query": int(query),
            "embedding": embedding_D,
        }
        for counts in untuned
        for language, sample in counts.samples.items()
        for query, embedding_D in zip(sample.queries_S, sample.embeddings_SD, strict=True)
    ]


def with_samples(counts: Iterable[Counts], rows: Iterable[dict[str, Any]]) -> list[Counts]:
    """Counts with their samples back from rows of the `untuned_queries` table."""
    of_set: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        of_set.setdefault(row["set"], {}).setdefault(row["query_language"], []).append(row)
    return [
        replace(
            one,
            samples={
                language: QuerySample(
                    np.array([row["query"] for row in found], dtype=np.int64),
                    np.array([row["embedding"] for row in found], dtype=np.float32),
                )
                for language, found in of_set.get(one.set_name, {}).items()
            },
        )
        for one in counts
    ]
