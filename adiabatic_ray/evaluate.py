"""Scores one tower on one shard of an evaluation set, and turns merged counts into rows.

Counts are integers, so partial results merge exactly: one actor, many actors and no Ray at all give the same rows. A
shard is one query language of a pair set or a fixed range of queries of a triplet set, whoever scores it; batches never
cross a shard. The untuned tower goes through the same shards.

Legend: L languages, U unique queries a language, N pairs, C clusters, R relations, M measures (cosine, distance),
Q queries, P passages, D embedding size, K = statistics of a set, ordered as `Counts.keys`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adiabatic_ray import metrics, significance
from adiabatic_ray.backbones import TokenizedTexts, Tower
from adiabatic_ray.encode import encode

MEASURES = ("cosine", "distance")
SHARD_QUERIES = 1024
"""Queries of one shard of a triplet set."""


@dataclass(frozen=True)
class PreparedPairs:
    """Labelled pairs ready to score: token ids of the queries, bank rows of the passages, both language by language."""

    name: str
    languages: tuple[str, ...]
    labels: tuple[str, ...]
    queries: TokenizedTexts  # L * U, language after language
    passages_PD: np.ndarray  # L * N rows, language after language
    query_of_pair_N: np.ndarray
    cluster_of_pair_N: np.ndarray
    label_of_pair_N: np.ndarray

    kind = "pairs"

    @property
    def shards(self) -> list[tuple[int, int]]:
        """Row ranges of the queries: one per language."""
        num_queries = len(self.queries) // len(self.languages)
        return [(place * num_queries, (place + 1) * num_queries) for place in range(len(self.languages))]


@dataclass(frozen=True)
class PreparedTriplets:
    """Queries with positives and negatives ready to score: rows of the bank per query, offsets [Q + 1]."""

    name: str
    queries: TokenizedTexts
    passages_PD: np.ndarray
    positive_rows: np.ndarray
    positive_offsets_Q1: np.ndarray
    negative_rows: np.ndarray
    negative_offsets_Q1: np.ndarray

    kind = "triplets"

    @property
    def shards(self) -> list[tuple[int, int]]:
        """Row ranges of the queries, `SHARD_QUERIES` each."""
        total = len(self.queries)
        return [(start, min(start + SHARD_QUERIES, total)) for start in range(0, total, SHARD_QUERIES)]


Prepared = PreparedPairs | PreparedTriplets
Key = tuple[str, str, str, str]
"""(relation, measure, query language, passage language); languages are empty for triplets."""


@dataclass(frozen=True)
class Counts:
    """Error counts of one set, or of a part of it, by statistic and cluster."""

    set_name: str
    kind: str
    keys: tuple[Key, ...]
    by_positive_KC: np.ndarray
    """int32; pairs: errors of the cluster's positives against all negatives. Triplets: errors of the query."""
    by_negative_KC: np.ndarray
    """int32; pairs: errors of the cluster's negatives against all positives. Triplets: [K, 0]."""
    positives_KC: np.ndarray
    negatives_KC: np.ndarray

    @property
    def errors_K(self) -> np.ndarray:
        """Errors of each statistic, int64."""
        total_K: np.ndarray = self.by_positive_KC.sum(axis=1, dtype=np.int64)
        return total_K

    @property
    def comparisons_K(self) -> np.ndarray:
        """Comparisons of each statistic: all positives x all negatives of the set, or of each query; int64."""
        positives_KC, negatives_KC = self.positives_KC.astype(np.int64), self.negatives_KC.astype(np.int64)
        if self.kind == "pairs":
            product_K: np.ndarray = positives_KC.sum(axis=1) * negatives_KC.sum(axis=1)
        else:
            product_K = (positives_KC * negatives_KC).sum(axis=1)
        return product_K


def score_shard(tower: Tower, prepared: Prepared, shard: tuple[int, int], token_budget: int) -> Counts:
    """Counts of one shard.

    Args:
        tower: the query tower to score.
        prepared: an evaluation set.
        shard: a row range out of `prepared.shards`.
        token_budget: see `encode.plan_batches`.

    Raises:
        ValueError: embeddings that are not finite, or of another size than the bank's.
    """
    queries = prepared.queries.select(np.arange(*shard))
    queries_QD = encode(tower, queries, token_budget)
    if queries_QD.shape[1] != prepared.passages_PD.shape[1]:
        raise ValueError(
            f"a tower must have the embedding size of its bank ({prepared.passages_PD.shape[1]}), got "
            f"{queries_QD.shape[1]}; it was tuned from another backbone"
        )
    if isinstance(prepared, PreparedPairs):
        return _count_pairs(prepared, prepared.shards.index(shard), queries_QD)
    return _count_triplets(prepared, shard, queries_QD)


def merge(parts: Sequence[Counts]) -> Counts:
    """Counts of a whole set from those of all its shards, in the order of `shards`."""
    first = parts[0]
    if first.kind == "pairs":
        return Counts(
            first.set_name,
            first.kind,
            tuple(key for part in parts for key in part.keys),
            *(np.concatenate(arrays) for arrays in zip(*map(_arrays, parts), strict=True)),
        )
    return Counts(
        first.set_name,
        first.kind,
        first.keys,
        *(np.concatenate(arrays, axis=1) for arrays in zip(*map(_arrays, parts), strict=True)),
    )


def score_sets(tower: Tower, prepared: Iterable[Prepared], token_budget: int) -> list[Counts]:
    """Counts of whole sets, one after another in this process: evaluation without Ray."""
    return [merge([score_shard(tower, one, shard, token_budget) for shard in one.shards]) for one in prepared]


def score_rows(trial_id: str, untuned: Sequence[Counts], tuned: Sequence[Counts]) -> list[dict[str, Any]]:
    """Rows of the `scores` table: every statistic of every set, the paper's test and the clustered paired test."""
    rows = []
    for before, after in zip(untuned, tuned, strict=True):
        assert before.keys == after.keys and before.set_name == after.set_name, "counts of different sets"
        errors_before_K, errors_after_K, comparisons_K = before.errors_K, after.errors_K, before.comparisons_K
        pnd_before_K = metrics.pnd(errors_before_K, comparisons_K)
        pnd_after_K = metrics.pnd(errors_after_K, comparisons_K)
        improvement_K = metrics.improvement(pnd_before_K, pnd_after_K)
        z_K, p_K = significance.paper_z(errors_before_K, errors_after_K, comparisons_K)
        test = significance.clustered_test(pnd_after_K - pnd_before_K, _influence_of_change(before, after))
        by_query = (_query_pnd(before), _query_pnd(after))
        for place, (relation, measure, query_language, passage_language) in enumerate(before.keys):
            rows.append(
                {
                    "trial_id": trial_id,
                    "set": before.set_name,
                    "kind": before.kind,
                    "relation": relation,
                    "measure": measure,
                    "query_language": query_language,
                    "passage_language": passage_language,
                    "num_comparisons": int(comparisons_K[place]),
                    "num_clusters": before.by_positive_KC.shape[1],
                    "errors_untuned": int(errors_before_K[place]),
                    "errors_tuned": int(errors_after_K[place]),
                    "pnd_untuned": float(pnd_before_K[place]),
                    "pnd_tuned": float(pnd_after_K[place]),
                    "query_pnd_untuned": float(by_query[0][place]),
                    "query_pnd_tuned": float(by_query[1][place]),
                    "improvement": float(improvement_K[place]),
                    "paper_z": float(z_K[place]),
                    "paper_p": float(p_K[place]),
                    "clustered_se": float(test.se[place]),
                    "clustered_z": float(test.z[place]),
                    "clustered_p": float(test.p[place]),
                }
            )
    return rows


def influence_rows(trial_id: str, untuned: Sequence[Counts], tuned: Sequence[Counts]) -> list[dict[str, Any]]:
    """Rows of the `influence` table: per cluster, tuned minus untuned errors."""
    rows = []
    for before, after in zip(untuned, tuned, strict=True):
        by_positive_KC = after.by_positive_KC - before.by_positive_KC
        by_negative_KC = after.by_negative_KC - before.by_negative_KC
        for place, columns in enumerate(_key_columns(before)):
            counts = {"by_positive": by_positive_KC[place], "by_negative": by_negative_KC[place]}
            rows.append({"trial_id": trial_id, **columns, **counts})
    return rows


def untuned_rows(untuned_id: str, untuned: Sequence[Counts]) -> list[dict[str, Any]]:
    """Rows of the `untuned` table: per cluster, the untuned tower's errors and the sizes."""
    rows = []
    for counts in untuned:
        for place, columns in enumerate(_key_columns(counts)):
            arrays = {
                "by_positive": counts.by_positive_KC[place],
                "by_negative": counts.by_negative_KC[place],
                "positives": counts.positives_KC[place],
                "negatives": counts.negatives_KC[place],
            }
            rows.append({"untuned_id": untuned_id, **columns, **arrays})
    return rows


def counts_from_rows(rows: Iterable[dict[str, Any]]) -> list[Counts]:
    """Counts back from rows of the `untuned` table, sets in the order of their first row."""
    by_set: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_set.setdefault(row["set"], []).append(row)
    return [
        Counts(
            name,
            group[0]["kind"],
            tuple((row["relation"], row["measure"], row["query_language"], row["passage_language"]) for row in group),
            *(
                np.array([row[column] for row in group], dtype=np.int32).reshape(len(group), -1)
                for column in ("by_positive", "by_negative", "positives", "negatives")
            ),
        )
        for name, group in by_set.items()
    ]


def _count_pairs(prepared: PreparedPairs, query_place: int, queries_UD: np.ndarray) -> Counts:
    """One query language against all passage languages: every positive pair against every negative pair."""
    num_pairs = len(prepared.label_of_pair_N)
    num_clusters = int(prepared.cluster_of_pair_N.max()) + 1
    queries_ND = queries_UD[prepared.query_of_pair_N]
    of_label = [prepared.label_of_pair_N == label for label in range(len(prepared.labels))]
    clusters = [prepared.cluster_of_pair_N[chosen_N] for chosen_N in of_label]
    sizes = [np.bincount(cluster, minlength=num_clusters).astype(np.int32) for cluster in clusters]
    keys: list[Key] = []
    by_positive, by_negative, positives, negatives = [], [], [], []
    for passage_place, passage_language in enumerate(prepared.languages):
        passages_ND = prepared.passages_PD[passage_place * num_pairs : (passage_place + 1) * num_pairs]
        for measure, scores_N in zip(MEASURES, metrics.pair_scores(queries_ND, passages_ND), strict=True):
            for label in range(1, len(prepared.labels)):
                errors = metrics.count_errors(scores_N[of_label[0]], scores_N[of_label[label]])
                keys.append(
                    (
                        f"{prepared.labels[0]}-{prepared.labels[label]}",
                        measure,
                        prepared.languages[query_place],
                        passage_language,
                    )
                )
                by_positive.append(np.bincount(clusters[0], errors[0], num_clusters).astype(np.int32))
                by_negative.append(np.bincount(clusters[label], errors[1], num_clusters).astype(np.int32))
                positives.append(sizes[0])
                negatives.append(sizes[label])
    arrays = (np.stack(by_positive), np.stack(by_negative), np.stack(positives), np.stack(negatives))
    return Counts(prepared.name, prepared.kind, tuple(keys), *arrays)


def _count_triplets(prepared: PreparedTriplets, shard: tuple[int, int], queries_QD: np.ndarray) -> Counts:
    """All positives against all negatives of each query of the shard."""
    start, stop = shard
    sides = []
    for rows, offsets_Q1 in (
        (prepared.positive_rows, prepared.positive_offsets_Q1),
        (prepared.negative_rows, prepared.negative_offsets_Q1),
    ):
        shard_offsets_Q1 = offsets_Q1[start : stop + 1]
        passages = prepared.passages_PD[rows[shard_offsets_Q1[0] : shard_offsets_Q1[-1]]]
        counts_Q = np.diff(shard_offsets_Q1)
        scores = metrics.pair_scores(np.repeat(queries_QD, counts_Q, axis=0), passages)
        sides.append((scores, shard_offsets_Q1 - shard_offsets_Q1[0], counts_Q.astype(np.int32)))
    (positive_scores, positive_offsets_Q1, positives_Q), (negative_scores, negative_offsets_Q1, negatives_Q) = sides
    errors_KQ = np.stack(
        [
            metrics.errors_per_query(
                positive_scores[place], positive_offsets_Q1, negative_scores[place], negative_offsets_Q1
            )
            for place in range(len(MEASURES))
        ]
    )
    return Counts(
        prepared.name,
        prepared.kind,
        tuple(("positive-negative", measure, "", "") for measure in MEASURES),
        errors_KQ.astype(np.int32),
        np.zeros((len(MEASURES), 0), dtype=np.int32),
        np.stack([positives_Q] * len(MEASURES)),
        np.stack([negatives_Q] * len(MEASURES)),
    )


def _influence_of_change(before: Counts, after: Counts) -> np.ndarray:
    """Influence [K, C] of each cluster on the change of PND. Relations differ in their negatives: one at a time."""
    change_by_positive_KC = after.by_positive_KC.astype(np.int64) - before.by_positive_KC
    if before.kind == "triplets":
        comparisons_C = before.positives_KC[0].astype(np.int64) * before.negatives_KC[0]
        return significance.triplet_influence_KC(change_by_positive_KC, comparisons_C)
    change_by_negative_KC = after.by_negative_KC.astype(np.int64) - before.by_negative_KC
    influence_KC = np.empty(change_by_positive_KC.shape)
    relations = np.array([key[0] for key in before.keys])
    for relation in dict.fromkeys(relations):
        rows = np.flatnonzero(relations == relation)
        influence_KC[rows] = significance.pair_influence_KC(
            change_by_positive_KC[rows],
            change_by_negative_KC[rows],
            before.positives_KC[rows[0]],
            before.negatives_KC[rows[0]],
        )
    return influence_KC


def _query_pnd(counts: Counts) -> np.ndarray:
    """Mean over queries of the query's own PND [K]; NaN for pairs, where queries share comparisons."""
    if counts.kind == "pairs":
        return np.full(len(counts.keys), np.nan)
    comparisons_KC = counts.positives_KC.astype(np.int64) * counts.negatives_KC
    mean_K: np.ndarray = (counts.by_positive_KC / comparisons_KC).mean(axis=1)
    return mean_K


def _arrays(counts: Counts) -> tuple[np.ndarray, ...]:
    return counts.by_positive_KC, counts.by_negative_KC, counts.positives_KC, counts.negatives_KC


def _key_columns(counts: Counts) -> list[dict[str, str]]:
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
