"""Scores one tower on one shard of an evaluation set.

Partial results merge exactly (`counts`): one actor, many actors and no Ray at all give the same rows. A shard is one
query language of a pair set or a fixed range of queries of a triplet set, whoever scores it; batches never cross a
shard. The untuned tower goes through the same shards.

Legend: L languages, U unique queries a language, N pairs, C clusters, R relations, M measures (cosine, distance),
Q queries, S sampled queries, P passages, D embedding size, K = statistics of a set, ordered as `Counts.keys`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from adiabatic_ray.encoders.backbones import TokenizedTexts, Tower
from adiabatic_ray.evaluation.closeness import Closeness, closeness_for
from adiabatic_ray.evaluation.encode import encode_together
from adiabatic_ray.spec import Precision
from adiabatic_ray.statistics import metrics
from adiabatic_ray.statistics.counts import MEASURES, Counts, Key, merge, no_ranks
from adiabatic_ray.statistics.query_samples import QuerySample, sampled_queries
from adiabatic_ray.statistics.ranking import rank_measures

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
    """Queries with positives and negatives ready to score: rows of the bank per query, offsets [Q + 1], clusters."""

    name: str
    queries: TokenizedTexts
    passages_PD: np.ndarray
    positive_rows: np.ndarray
    positive_offsets_Q1: np.ndarray
    negative_rows: np.ndarray
    negative_offsets_Q1: np.ndarray
    cluster_of_query_Q: np.ndarray
    """int32; empty where each query is a cluster of its own."""

    kind = "triplets"

    @property
    def shards(self) -> list[tuple[int, int]]:
        """Row ranges of the queries, `SHARD_QUERIES` each."""
        total = len(self.queries)
        return [(start, min(start + SHARD_QUERIES, total)) for start in range(0, total, SHARD_QUERIES)]


Prepared = PreparedPairs | PreparedTriplets


def score_shard(
    towers: Sequence[Tower],
    prepared: Prepared,
    shard: tuple[int, int],
    token_budget: int,
    closeness: Closeness,
    precision: Precision = "float32",
) -> list[Counts | ValueError]:
    """Counts of one shard for each of some towers, which encode its queries together.

    Args:
        towers: the query towers to score, on one device.
        prepared: an evaluation set.
        shard: a row range out of `prepared.shards`.
        token_budget: see `encode.plan_batches`.
        closeness: over `prepared.passages_PD`.
        precision: see `encode.encode_together`.

    Returns:
        For each tower its counts, or why it has none: its embeddings are not finite. The others are scored all the
        same.

    Raises:
        ValueError: embeddings of another size than the bank's.
    """
    queries = prepared.queries.select(np.arange(*shard))
    found: list[Counts | ValueError] = []
    for queries_QD in encode_together(towers, queries, token_budget, precision):
        if queries_QD.shape[1] != prepared.passages_PD.shape[1]:
            raise ValueError(
                f"a tower must have the embedding size of its bank ({prepared.passages_PD.shape[1]}), got "
                f"{queries_QD.shape[1]}; it was tuned from another backbone"
            )
        try:
            if isinstance(prepared, PreparedPairs):
                counts = _count_pairs(prepared, prepared.shards.index(shard), queries_QD, closeness)
            else:
                counts = _count_triplets(prepared, shard, queries_QD, closeness)
            found.append(replace(counts, samples=_samples(prepared, shard, queries_QD)))
        except ValueError as error:
            found.append(error)
    return found


def embed_shard(
    towers: Sequence[Tower], passages: TokenizedTexts, shard: tuple[int, int], token_budget: int
) -> list[np.ndarray]:
    """Embeddings [S, D], float32, of a range of passages under each of some passage towers."""
    return encode_together(towers, passages.select(np.arange(*shard)), token_budget)


def score_sets(tower: Tower, prepared: Iterable[Prepared], token_budget: int) -> list[Counts]:
    """Counts of whole sets, one after another in this process: evaluation without Ray.

    Raises:
        ValueError: embeddings that are not finite, or of another size than the bank's.
    """
    device = next(tower.parameters()).device.type
    scored = []
    for one in prepared:
        closeness = closeness_for(one.passages_PD, device)
        parts = [score_shard([tower], one, shard, token_budget, closeness)[0] for shard in one.shards]
        scored.append(merge(checked(parts)))
    return scored


def checked(parts: Iterable[Counts | ValueError]) -> list[Counts]:
    """The counts of all shards of a set.

    Raises:
        ValueError: of the first shard that has none.
    """
    counts = []
    for part in parts:
        if isinstance(part, ValueError):
            raise part
        counts.append(part)
    return counts


def _samples(prepared: Prepared, shard: tuple[int, int], queries_QD: np.ndarray) -> dict[str, QuerySample]:
    """Embeddings of the sampled queries that are in a shard."""
    start, stop = shard
    if isinstance(prepared, PreparedPairs):
        language = prepared.languages[prepared.shards.index(shard)]
        queries_S = sampled_queries(stop - start)
        return {language: QuerySample(queries_S, queries_QD[queries_S])}
    queries_S = sampled_queries(len(prepared.queries))
    queries_S = queries_S[(start <= queries_S) & (queries_S < stop)]
    return {"": QuerySample(queries_S, queries_QD[queries_S - start])}


def _count_pairs(prepared: PreparedPairs, query_place: int, queries_UD: np.ndarray, closeness: Closeness) -> Counts:
    """One query language against all passage languages: every positive pair against every negative pair."""
    num_pairs = len(prepared.label_of_pair_N)
    num_clusters = int(prepared.cluster_of_pair_N.max()) + 1
    of_label = [prepared.label_of_pair_N == label for label in range(len(prepared.labels))]
    clusters = [prepared.cluster_of_pair_N[chosen_N] for chosen_N in of_label]
    sizes = [np.bincount(cluster, minlength=num_clusters).astype(np.int32) for cluster in clusters]
    keys: list[Key] = []
    by_positive, by_negative, positives, negatives = [], [], [], []
    for passage_place, passage_language in enumerate(prepared.languages):
        passage_of_pair_N = np.arange(passage_place * num_pairs, (passage_place + 1) * num_pairs)
        scored = closeness.scores(queries_UD, prepared.query_of_pair_N, passage_of_pair_N)
        for measure, scores_N in zip(MEASURES, scored, strict=True):
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
    return Counts(prepared.name, prepared.kind, tuple(keys), *arrays, no_ranks(len(keys)))


def _count_triplets(
    prepared: PreparedTriplets, shard: tuple[int, int], queries_QD: np.ndarray, closeness: Closeness
) -> Counts:
    """All positives against all negatives of each query of the shard."""
    start, stop = shard
    sides = []
    for rows, offsets_Q1 in (
        (prepared.positive_rows, prepared.positive_offsets_Q1),
        (prepared.negative_rows, prepared.negative_offsets_Q1),
    ):
        shard_offsets_Q1 = offsets_Q1[start : stop + 1]
        counts_Q = np.diff(shard_offsets_Q1)
        passage_of_N = rows[shard_offsets_Q1[0] : shard_offsets_Q1[-1]]
        scores = closeness.scores(queries_QD, np.repeat(np.arange(stop - start), counts_Q), passage_of_N)
        sides.append((scores, shard_offsets_Q1 - shard_offsets_Q1[0], counts_Q.astype(np.int32)))
    (positive_scores, positive_offsets_Q1, positives_Q), (negative_scores, negative_offsets_Q1, negatives_Q) = sides
    layout = [
        (positive_scores[place], positive_offsets_Q1, negative_scores[place], negative_offsets_Q1)
        for place in range(len(MEASURES))
    ]
    errors_KQ = np.stack([metrics.errors_per_query(*one) for one in layout])
    return Counts(
        prepared.name,
        prepared.kind,
        tuple(("positive-negative", measure, "", "") for measure in MEASURES),
        errors_KQ.astype(np.int32),
        np.zeros((len(MEASURES), 0), dtype=np.int32),
        np.stack([positives_Q] * len(MEASURES)),
        np.stack([negatives_Q] * len(MEASURES)),
        np.stack([np.stack(rank_measures(*one)) for one in layout]),
        prepared.cluster_of_query_Q[start:stop],
    )
