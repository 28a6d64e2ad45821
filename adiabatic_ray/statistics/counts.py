"""What scoring a tower leaves behind: error counts, and rank measures a query, by statistic and cluster.

A few queries' embeddings come along (`query_samples`).

Counts are integers and rank measures belong to one query each, so partial results merge exactly: one actor, many actors
and no Ray at all give the same. Every test and every interval is computed from these arrays, now (`score_tables`) or
later, from the tables that hold them.

Of triplets, counts stay by query: a shard is a range of queries, and a cluster may lie on both sides of its border. The
cluster of each query travels with them, and `Counts.sum_over_clusters` is where whole clusters come from.

Legend: K statistics of a set, ordered as `Counts.keys`; C clusters of pairs, or queries of triplets; Q queries; S rank
measures, ordered as `RANK_MEASURES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from adiabatic_ray.statistics.query_samples import QuerySample, merge_samples

MEASURES = ("cosine", "distance")
RANK_MEASURES = ("reciprocal_rank", "average_precision", "precision_at_1")
"""The fields of `ranking.RankMeasures`, without their shape suffix."""
Key = tuple[str, str, str, str]
"""(relation, measure, query language, passage language); languages are empty for triplets."""
_COUNT_COLUMNS = ("by_positive", "by_negative", "positives", "negatives")


@dataclass(frozen=True)
class Counts:
    """One set, or a part of it, scored with one tower."""

    set_name: str
    kind: str
    keys: tuple[Key, ...]
    by_positive_KC: np.ndarray
    """int32; pairs: errors of the cluster's positives against all negatives. Triplets: errors of the query."""
    by_negative_KC: np.ndarray
    """int32; pairs: errors of the cluster's negatives against all positives. Triplets: [K, 0]."""
    positives_KC: np.ndarray
    negatives_KC: np.ndarray
    ranks_KSC: np.ndarray
    """float64; triplets: rank measures of each query. Pairs: [K, 0, 0]."""
    cluster_of_query_Q: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    """int32; triplets: cluster of each query, 0 and up, in the whole set. Empty where each query is its own, and for
    pairs, whose columns are clusters already."""
    samples: Mapping[str, QuerySample] = field(default_factory=dict, kw_only=True)
    """Embeddings of sampled queries by query language, '' for triplets. No part of the `untuned` and `influence`
    tables: `cosine_tables` has those that hold what comes of them."""

    @property
    def num_clusters(self) -> int:
        """Clusters of the counts: what a test takes for independent."""
        num_columns: int = self.by_positive_KC.shape[1]
        return len(np.unique(self.cluster_of_query_Q)) if len(self.cluster_of_query_Q) else num_columns

    @property
    def shares_clusters(self) -> bool:
        """Whether any two queries are of one cluster."""
        return self.num_clusters < int(self.by_positive_KC.shape[1])

    def sum_over_clusters(self, values: np.ndarray) -> np.ndarray:
        """Sums over the queries of each cluster.

        Args:
            values: one entry a query (pairs: a cluster) on the last axis.

        Returns:
            One entry a cluster on the last axis, in the order of their numbers; the same array where each query is a
            cluster of its own. Sums of integers are int64, and exact.
        """
        if not self.shares_clusters:
            return values
        # One run of equal numbers a cluster; the sort is stable, so that sums of floats do not depend on how it sorts.
        order_Q = np.argsort(self.cluster_of_query_Q, kind="stable")
        starts_C = np.flatnonzero(np.diff(self.cluster_of_query_Q[order_Q], prepend=-1))
        wide = np.int64 if values.dtype.kind in "iu" else values.dtype
        summed: np.ndarray = np.add.reduceat(values[..., order_Q], starts_C, axis=-1, dtype=wide)
        return summed

    @property
    def errors_K(self) -> np.ndarray:
        """Errors of each statistic, int64."""
        total_K: np.ndarray = self.by_positive_KC.sum(axis=1, dtype=np.int64)
        return total_K

    def num_changed(self, other: Counts) -> int:
        """Comparisons of all statistics that are an error in one of two countings only, at least.

        Changes in opposite directions cancel within a positive's cluster (of triplets: within a query).
        """
        return int(np.abs(self.by_positive_KC.astype(np.int64) - other.by_positive_KC).sum())

    @property
    def comparisons_K(self) -> np.ndarray:
        """Comparisons of each statistic: all positives x all negatives of the set, or of each query; int64."""
        positives_KC, negatives_KC = self.positives_KC.astype(np.int64), self.negatives_KC.astype(np.int64)
        if self.kind == "pairs":
            product_K: np.ndarray = positives_KC.sum(axis=1) * negatives_KC.sum(axis=1)
        else:
            product_K = (positives_KC * negatives_KC).sum(axis=1)
        return product_K


def merge(parts: Sequence[Counts]) -> Counts:
    """Counts of a whole set from those of all its shards, in order: more statistics for pairs, more queries else."""
    first = parts[0]
    is_pairs = first.kind == "pairs"
    return Counts(
        first.set_name,
        first.kind,
        tuple(key for part in parts for key in part.keys) if is_pairs else first.keys,
        *(np.concatenate(arrays, axis=0 if is_pairs else -1) for arrays in zip(*map(_arrays, parts), strict=True)),
        samples=merge_samples(part.samples for part in parts),
    )


def no_ranks(num_statistics: int) -> np.ndarray:
    """`ranks_KSC` of labelled pairs, which have none."""
    return np.zeros((num_statistics, 0, 0))


def untuned_rows(untuned_id: str, untuned: Sequence[Counts]) -> list[dict[str, Any]]:
    """Rows of the `untuned` table: per cluster (triplets: query) errors, rank measures and sizes; the clusters."""
    return [
        {"untuned_id": untuned_id, "cluster_of_query": counts.cluster_of_query_Q}
        | columns
        | {name: array[place] for name, array in zip(_COUNT_COLUMNS, _arrays(counts), strict=False)}
        | _rank_columns(counts.ranks_KSC[place])
        for counts in untuned
        for place, columns in enumerate(key_columns(counts))
    ]


def influence_rows(trial_id: str, untuned: Sequence[Counts], tuned: Sequence[Counts]) -> list[dict[str, Any]]:
    """Rows of the `influence` table: per cluster (triplets: query), tuned minus untuned errors and rank measures."""
    rows = []
    for before, after in zip(untuned, tuned, strict=True):
        by_positive_KC = after.by_positive_KC - before.by_positive_KC
        by_negative_KC = after.by_negative_KC - before.by_negative_KC
        ranks_KSC = after.ranks_KSC - before.ranks_KSC
        for place, columns in enumerate(key_columns(before)):
            counts = {"by_positive": by_positive_KC[place], "by_negative": by_negative_KC[place]}
            rows.append({"trial_id": trial_id} | columns | counts | _rank_columns(ranks_KSC[place]))
    return rows


def counts_from_rows(rows: Iterable[dict[str, Any]]) -> list[Counts]:
    """Counts back from rows of the `untuned` table, sets in the order of their first row."""
    by_set: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_set.setdefault(row["set"], []).append(row)
    return [_from_rows(name, group) for name, group in by_set.items()]


def tuned_counts(untuned: Sequence[Counts], rows: Iterable[dict[str, Any]]) -> list[Counts]:
    """Counts of a tuned tower from rows of the `influence` table: the untuned ones plus what changed.

    Errors are those that were counted. Rank measures may differ in the last bit, where the difference was rounded.

    Raises:
        ValueError: rows about other sets or statistics than the untuned counts, or about other clusters or queries.
    """
    by_key = {(row["set"], *_key(row)): row for row in rows}
    if by_key.keys() != {(before.set_name, *key) for before in untuned for key in before.keys}:
        raise ValueError("influences must be about the statistics of the untuned counts; copy both tables anew")
    return [_plus(before, [by_key[before.set_name, *key] for key in before.keys]) for before in untuned]


def _plus(before: Counts, rows: list[dict[str, Any]]) -> Counts:
    changes = (_column(rows, "by_positive"), _column(rows, "by_negative"), _ranks(before.kind, rows))
    arrays = (before.by_positive_KC, before.by_negative_KC, before.ranks_KSC)
    shapes = [[array.shape for array in of] for of in (arrays, changes)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"influences must be about the clusters of the untuned counts, shapes {shapes[0]} in {before.set_name}, "
            f"got {shapes[1]}; copy both tables anew"
        )
    by_positive_KC, by_negative_KC, ranks_KSC = (one + change for one, change in zip(arrays, changes, strict=True))
    return replace(before, by_positive_KC=by_positive_KC, by_negative_KC=by_negative_KC, ranks_KSC=ranks_KSC)


def _from_rows(set_name: str, rows: list[dict[str, Any]]) -> Counts:
    kind = rows[0]["kind"]
    arrays = [_column(rows, name) for name in _COUNT_COLUMNS]
    arrays += [_ranks(kind, rows), np.array(rows[0]["cluster_of_query"], dtype=np.int32)]
    return Counts(set_name, kind, tuple(map(_key, rows)), *arrays)


def _key(row: dict[str, Any]) -> Key:
    return row["relation"], row["measure"], row["query_language"], row["passage_language"]


def _column(rows: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.array([row[name] for row in rows], dtype=np.int32).reshape(len(rows), -1)


def _ranks(kind: str, rows: list[dict[str, Any]]) -> np.ndarray:
    if kind == "pairs":
        return no_ranks(len(rows))
    return np.array([[row[name] for name in RANK_MEASURES] for row in rows])


def key_columns(counts: Counts) -> list[dict[str, str]]:
    """The columns that name each statistic, in the order of `keys`."""
    return [
        {
            "set": counts.set_name,
            "kind": counts.kind,
            "relation": relation,
            "measure": measure,
            "query_language": query_language,
            "passage_language": passage_language,
        }
        for relation, measure, query_language, passage_language in counts.keys
    ]


def _rank_columns(ranks_SC: np.ndarray) -> dict[str, Any]:
    if not len(ranks_SC):
        return {name: [] for name in RANK_MEASURES}
    return dict(zip(RANK_MEASURES, ranks_SC, strict=True))


def _arrays(counts: Counts) -> tuple[np.ndarray, ...]:
    return (
        counts.by_positive_KC,
        counts.by_negative_KC,
        counts.positives_KC,
        counts.negatives_KC,
        counts.ranks_KSC,
        counts.cluster_of_query_Q,
    )
