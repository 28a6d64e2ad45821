"""Scoring of towers: hand-checked counts, exact merging, rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts, load_backbone
from adiabatic_ray.evaluation import evaluate
from adiabatic_ray.evaluation.closeness import OnHost
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.evaluation.evaluate import PreparedPairs, PreparedTriplets
from adiabatic_ray.statistics.counts import Counts, counts_from_rows, influence_rows, merge, no_ranks, untuned_rows
from adiabatic_ray.statistics.score_tables import aggregate_rows, ranking_rows, score_rows
from tests.tiny import save_tiny_bert, tiny_spec

BUDGET = 512


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_spec(save_tiny_bert(tmp_path_factory.mktemp("encoder"))))


def _pairs(backbone: Backbone) -> PreparedPairs:
    """Three premises, two languages; each premise has one pair of each of three labels."""
    languages, num_premises = ("de", "en"), 3
    queries = [f"{language} premise {premise}" for language in languages for premise in range(num_premises)]
    passages = [f"{language} passage {pair}" for language in languages for pair in range(3 * num_premises)]
    bank_PD = encode(backbone.build_tower(), backbone.tokenize(passages, "passage: "), BUDGET)
    cluster_N = np.repeat(np.arange(num_premises), 3)
    return PreparedPairs(
        "three",
        languages,
        ("same", "near", "far"),
        backbone.tokenize(queries, "query: "),
        bank_PD,
        cluster_N,
        cluster_N,
        np.tile(np.arange(3), num_premises),
    )


def _triplets(backbone: Backbone, num_queries: int, clusters: Sequence[int] = ()) -> PreparedTriplets:
    texts = [f"question {number}" for number in range(num_queries)]
    passages = [f"answer {number}" for number in range(50)]
    draw = np.random.default_rng(0)
    positives_Q, negatives_Q = draw.integers(1, 3, num_queries), draw.integers(1, 4, num_queries)
    return PreparedTriplets(
        "asked",
        backbone.tokenize(texts, "query: "),
        encode(backbone.build_tower(), backbone.tokenize(passages, "passage: "), BUDGET),
        draw.integers(0, 50, positives_Q.sum()),
        np.concatenate([[0], np.cumsum(positives_Q)]),
        draw.integers(0, 50, negatives_Q.sum()),
        np.concatenate([[0], np.cumsum(negatives_Q)]),
        np.array(clusters, np.int32),
    )


def _similarities(left_PD: np.ndarray, right_PD: np.ndarray, measure: str) -> np.ndarray:
    left_PD, right_PD = left_PD.astype(np.float64), right_PD.astype(np.float64)
    if measure == "distance":
        return -np.linalg.norm(left_PD - right_PD, axis=1)
    return (left_PD * right_PD).sum(1) / np.linalg.norm(left_PD, axis=1) / np.linalg.norm(right_PD, axis=1)


def test_pair_counts_agree_with_every_comparison_done_one_by_one(backbone: Backbone) -> None:
    prepared = _pairs(backbone)
    tower = backbone.build_tower()
    (counts,) = evaluate.score_sets(tower, [prepared], BUDGET)
    queries = encode(tower, prepared.queries, BUDGET).reshape(2, 3, -1)
    passages = prepared.passages_PD.reshape(2, 9, -1)
    assert len(counts.keys) == 2 * 2 * 2 * 2
    for place, (relation, measure, query_language, passage_language) in enumerate(counts.keys):
        query_place, passage_place = (prepared.languages.index(one) for one in (query_language, passage_language))
        scores_N = _similarities(queries[query_place][prepared.query_of_pair_N], passages[passage_place], measure)
        negative_label = prepared.labels.index(relation.removeprefix("same-"))
        by_positive, by_negative = np.zeros(3, int), np.zeros(3, int)
        for positive in np.flatnonzero(prepared.label_of_pair_N == 0):
            for negative in np.flatnonzero(prepared.label_of_pair_N == negative_label):
                if not scores_N[positive] > scores_N[negative]:
                    by_positive[prepared.cluster_of_pair_N[positive]] += 1
                    by_negative[prepared.cluster_of_pair_N[negative]] += 1
        assert counts.by_positive_KC[place].tolist() == by_positive.tolist()
        assert counts.by_negative_KC[place].tolist() == by_negative.tolist()
    assert counts.comparisons_K.tolist() == [9] * 16


def test_triplet_counts_agree_with_every_comparison_done_one_by_one(backbone: Backbone) -> None:
    prepared = _triplets(backbone, 20)
    tower = backbone.build_tower()
    (counts,) = evaluate.score_sets(tower, [prepared], BUDGET)
    queries_QD = encode(tower, prepared.queries, BUDGET)
    for place, measure in enumerate(evaluate.MEASURES):
        for query in range(20):
            sides = []
            for rows, offsets in (
                (prepared.positive_rows, prepared.positive_offsets_Q1),
                (prepared.negative_rows, prepared.negative_offsets_Q1),
            ):
                chosen = prepared.passages_PD[rows[offsets[query] : offsets[query + 1]]]
                sides.append(_similarities(np.tile(queries_QD[query], (len(chosen), 1)), chosen, measure))
            errors = sum(not positive > negative for positive in sides[0] for negative in sides[1])
            assert counts.by_positive_KC[place, query] == errors
    sizes = np.diff(prepared.positive_offsets_Q1) * np.diff(prepared.negative_offsets_Q1)
    assert counts.comparisons_K.tolist() == [sizes.sum()] * 2


def test_shards_of_a_large_triplet_set_merge_to_the_whole(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = _triplets(backbone, 30)
    monkeypatch.setattr(evaluate, "SHARD_QUERIES", 7)
    assert prepared.shards == [(0, 7), (7, 14), (14, 21), (21, 28), (28, 30)]
    tower = backbone.build_tower()
    bank = OnHost(prepared.passages_PD)
    parts = [evaluate.score_shard([tower], prepared, shard, BUDGET, bank)[0] for shard in prepared.shards]
    merged = merge(evaluate.checked(parts))
    assert merged.by_positive_KC.shape == (2, 30) and merged.ranks_KSC.shape == (2, 3, 30)
    monkeypatch.setattr(evaluate, "SHARD_QUERIES", 30)
    whole = evaluate.score_sets(tower, [prepared], BUDGET)[0]
    assert np.array_equal(merged.by_positive_KC, whole.by_positive_KC), "queries keep their place"
    assert np.allclose(merged.ranks_KSC, whole.ranks_KSC)


def _counts(by_positive: list[list[int]], by_negative: list[list[int]]) -> Counts:
    """Two statistics, three clusters of one positive and one negative each."""
    keys = (("a-b", "cosine", "en", "en"), ("a-b", "distance", "en", "en"))
    ones = np.ones((2, 3), np.int32)
    errors = np.array(by_positive, np.int32), np.array(by_negative, np.int32)
    return Counts("set", "pairs", keys, *errors, ones, ones, no_ranks(2))


def test_score_rows_by_hand() -> None:
    untuned = _counts([[1, 2, 0], [0, 0, 0]], [[1, 1, 1], [0, 0, 0]])
    tuned = _counts([[1, 1, 0], [0, 0, 0]], [[0, 1, 1], [0, 0, 0]])
    first, second = score_rows("t", [untuned], [tuned])
    assert (first["errors_untuned"], first["errors_tuned"], first["num_comparisons"], first["num_clusters"]) == (
        3,
        2,
        9,
        3,
    )
    assert first["pnd_untuned"] == 3 / 9 and first["improvement"] == pytest.approx(1 / 3)
    # P = 5/18; z = (2/9 - 3/9) / sqrt(2 * 5/18 * 13/18 / 9)
    assert first["paper_z"] == pytest.approx(-(1 / 9) / np.sqrt(2 * 5 / 18 * 13 / 18 / 9))
    # Influence of the change (-1 of 9): clusters' parts (positive, negative): (0, -1), (-1, 0), (0, 0), each / 3 / 3,
    # minus 2 * theta / 3 with theta = -1/9; so -1/9 + 2/27, the same, +2/27. Variance = 3/2 * sum of squares.
    influence = np.array([-1 / 9 + 2 / 27, -1 / 9 + 2 / 27, 2 / 27])
    assert first["clustered_se"] == pytest.approx(np.sqrt(1.5 * (influence**2).sum()))
    assert first["clustered_z"] == pytest.approx((-1 / 9) / first["clustered_se"])
    assert np.isnan(first["query_pnd_tuned"])
    assert np.isnan(second["improvement"]) and second["clustered_p"] == 1.0


def test_adjusted_p_intervals_and_reasons_by_hand() -> None:
    untuned = _counts([[1, 2, 0], [0, 0, 0]], [[1, 1, 1], [0, 0, 0]])
    tuned = _counts([[1, 1, 0], [0, 0, 0]], [[0, 1, 1], [0, 0, 0]])
    first, second = score_rows("t", [untuned], [tuned])
    half_width = 1.959963984540054 * first["clustered_se"]
    assert first["change_low"] == pytest.approx(-1 / 9 - half_width)
    assert first["change_high"] == pytest.approx(-1 / 9 + half_width)
    # One statistic a family: nothing to adjust.
    assert first["bh_p"] == first["by_p"] == first["maxt_p"] == first["clustered_p"]
    assert (first["band_low"], first["band_high"]) == (first["change_low"], first["change_high"])
    assert np.isnan(first["improvement_low"]) and np.isnan(first["improvement_high"])
    assert np.isnan(first["mcnemar_p"])
    assert first["num_changed"] == 2
    assert first["reason"] == "untuned value not clearly above 0; fewer than 6 clusters changed"
    assert second["reason"] == "nothing changed; untuned value is 0"
    assert second["change_low"] == second["change_high"] == 0


def test_means_over_groups_by_hand() -> None:
    keys = tuple(("a-b", "cosine", query, passage) for query in ("de", "en") for passage in ("de", "en"))
    ones = np.ones((4, 3), np.int32)

    def counts(errors: list[list[int]]) -> Counts:
        by_cluster = np.array(errors, np.int32)
        return Counts("set", "pairs", keys, by_cluster, by_cluster, ones, ones, no_ranks(4))

    untuned = counts([[1, 0, 0], [2, 1, 0], [0, 3, 0], [1, 1, 1]])
    tuned = counts([[1, 1, 0], [2, 1, 1], [0, 2, 0], [0, 0, 1]])
    rows = {(row["axis"], row["group"]): row for row in aggregate_rows("t", [untuned], [tuned])}
    every, same, cross = rows["all", "all"], rows["same language", "same"], rows["same language", "cross"]
    assert every["reason"].endswith("; fewer than 6 clusters changed")
    assert (every["num_pairs"], same["num_pairs"], cross["num_pairs"]) == (4, 2, 2)
    assert every["pnd_untuned"] == pytest.approx(10 / 36) and every["pnd_tuned"] == pytest.approx(9 / 36)
    assert every["improvement"] == pytest.approx(1 / 10)
    assert same["change"] == pytest.approx((2 - 1 - 3 + 1) / 2 / 9) and same["improvement"] == pytest.approx(1 / 4)
    assert cross["change"] == pytest.approx((4 - 3 + 2 - 3) / 2 / 9)
    assert rows["query language", "en"]["change"] == pytest.approx((2 - 3 + 1 - 3) / 2 / 9)
    assert rows["query script", "Latn"]["num_pairs"] == 4
    # By cluster, summed over the pairs: -1, -1, +1 on either side; mean over 4 pairs and 9 comparisons. A cluster's
    # influence is twice (its change - their mean) / 36, the variance 3/2 of the sum of squares.
    influence = 2 * (np.array([-1, -1, 1]) + 1 / 3) / 36
    assert every["clustered_z"] == pytest.approx((-1 / 36) / np.sqrt(1.5 * (influence**2).sum()))


def test_rank_measures_and_mcnemar_by_hand() -> None:
    """Four queries with one triplet each: one turns right, one turns wrong, two stay as they were."""
    keys = (("positive-negative", "cosine", "", ""),)
    ones, none = np.ones((1, 4), np.int32), np.zeros((1, 0), np.int32)

    def counts(wrong: list[int]) -> Counts:
        errors = np.array([wrong], np.int32)
        rank = np.where(errors, 0.5, 1.0)  # second of two, or first
        return Counts("set", "triplets", keys, errors, none, ones, ones, np.stack([rank, rank, 1.0 - errors], axis=1))

    untuned, tuned = counts([1, 0, 1, 0]), counts([0, 1, 1, 0])
    rows = {row["statistic"]: row for row in ranking_rows("t", [untuned], [tuned])}
    assert rows["reciprocal_rank"]["untuned"] == rows["reciprocal_rank"]["tuned"] == 0.75
    assert rows["query_pnd"]["untuned"] == 0.5 and rows["precision_at_1"]["num_queries"] == 4
    # Changes +.5, -.5, 0, 0: mean 0, variance of the mean 4/3 * (.25 + .25) / 16.
    half_width = 1.959963984540054 * np.sqrt(4 / 3 * 0.5 / 16)
    assert rows["reciprocal_rank"]["change_high"] == pytest.approx(half_width)
    (score,) = score_rows("t", [untuned], [tuned])
    assert score["mcnemar_p"] == 1.0  # one each way
    better = {row["statistic"]: row for row in ranking_rows("t", [untuned], [counts([0, 0, 1, 0])])}
    assert better["reciprocal_rank"]["improvement"] == pytest.approx(0.125 / 0.75)
    assert better["query_pnd"]["improvement"] == pytest.approx(0.5)
    # Precision from 2/4 to 3/4: 2 of 4 queries are too few for a relative change, in one direction or the other.
    assert np.isnan(better["precision_at_1"]["improvement_low"])
    # Reciprocal ranks (.5, 1, .5, 1) to (1, 1, .5, 1): the mean .75 is 5.2 standard errors above 0.
    assert better["reciprocal_rank"]["improvement_low"] < 0.125 / 0.75 < better["reciprocal_rank"]["improvement_high"]


def test_the_untuned_table_gives_the_counts_back(backbone: Backbone) -> None:
    prepared = [_pairs(backbone), _triplets(backbone, 9), _triplets(backbone, 6, [0, 0, 1, 0, 2, 2])]
    prepared[2] = replace(prepared[2], name="clustered")
    counts = evaluate.score_sets(backbone.build_tower(), prepared, BUDGET)
    again = counts_from_rows(untuned_rows("u", counts))
    for before, after in zip(counts, again, strict=True):
        assert (before.set_name, before.kind, before.keys) == (after.set_name, after.kind, after.keys)
        for name in (
            "by_positive_KC",
            "by_negative_KC",
            "positives_KC",
            "negatives_KC",
            "ranks_KSC",
            "cluster_of_query_Q",
        ):
            assert np.array_equal(getattr(before, name), getattr(after, name))
    assert [one.num_clusters for one in again] == [3, 9, 3]


def test_influence_is_the_difference_and_sums_to_the_change(backbone: Backbone) -> None:
    prepared = _pairs(backbone)
    (before,) = evaluate.score_sets(backbone.build_tower(), [prepared], BUDGET)
    shuffled = PreparedPairs(**{**prepared.__dict__, "passages_PD": prepared.passages_PD[::-1].copy()})
    (after,) = evaluate.score_sets(backbone.build_tower(), [shuffled], BUDGET)
    rows = influence_rows("t", [before], [after])
    for row, change in zip(rows, after.errors_K - before.errors_K, strict=True):
        assert row["by_positive"].sum() == row["by_negative"].sum() == change


def test_a_tower_of_another_size_is_refused(backbone: Backbone) -> None:
    prepared = _triplets(backbone, 5)
    narrow = PreparedTriplets(**{**prepared.__dict__, "passages_PD": prepared.passages_PD[:, :16]})
    with pytest.raises(ValueError, match=r"embedding size of its bank \(16\), got 32"):
        evaluate.score_sets(backbone.build_tower(), [narrow], BUDGET)


def test_padding_does_not_reach_the_counts(backbone: Backbone, tmp_path: Path) -> None:
    prepared = _triplets(backbone, 12)
    tower = backbone.build_tower()
    assert isinstance(prepared.queries, TokenizedTexts)
    wide = evaluate.score_sets(tower, [prepared], 4096)[0]
    narrow = evaluate.score_sets(tower, [prepared], 64)[0]
    assert np.array_equal(wide.by_positive_KC, narrow.by_positive_KC)
