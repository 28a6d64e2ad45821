"""Queries of one paragraph are one cluster: by hand, over shards, through the tables, and whether the test keeps 5%."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from adiabatic_ray import results
from adiabatic_ray.encoders.backbones import load_backbone
from adiabatic_ray.encoders.towers import tuned_tower
from adiabatic_ray.evaluation import evaluate
from adiabatic_ray.evaluation.closeness import OnHost
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.evaluation.evaluate import PreparedTriplets
from adiabatic_ray.schemas import TABLES
from adiabatic_ray.sources import TripletFile
from adiabatic_ray.statistics.counts import (
    MEASURES,
    RANK_MEASURES,
    Counts,
    counts_from_rows,
    influence_rows,
    merge,
    tuned_counts,
    untuned_rows,
)
from adiabatic_ray.statistics.score_tables import ranking_rows, score_rows
from analysis.comparison import Comparison, Side
from analysis.comparison_tables import print_comparison
from tests.tiny import save_tiny_bert, tiny_spec


def counts(
    errors: Sequence[int] | np.ndarray, negatives: Sequence[int] | None = None, clusters: Sequence[int] = ()
) -> Counts:
    """Queries of one positive each; a row of `errors` a measure, or one for both."""
    by_query = np.atleast_2d(np.asarray(errors, dtype=np.int32))
    by_query = np.repeat(by_query, len(MEASURES), axis=0) if len(by_query) == 1 else by_query
    ones = np.ones_like(by_query)
    return Counts(
        "asked",
        "triplets",
        tuple(("positive-negative", measure, "", "") for measure in MEASURES),
        by_query,
        by_query[:, :0],
        ones,
        ones if negatives is None else ones * np.array(negatives, np.int32),
        np.stack([1 / (1 + by_query)] * len(RANK_MEASURES), axis=1),
        np.array(clusters, dtype=np.int32),
    )


# Queries 0 and 2 are of one paragraph. They make 2 + 1 comparisons, query 1 makes one.
UNTUNED = counts([1, 1, 1], negatives=[2, 1, 1], clusters=[0, 1, 0])
TUNED = counts([0, 1, 0], negatives=[2, 1, 1], clusters=[0, 1, 0])


def test_scores_by_hand() -> None:
    """PND from 3/4 to 1/4. Influence of the paragraphs on the change: (-2 + 3/2) / 4 and (0 + 1/2) / 4, so -1/8, 1/8.

    Variance 2 x 2/64 = 1/16, se 1/4, z = -2. By query it would be 0, 1/8, -1/8, se = sqrt(3/64), z = -2.31.
    """
    first, _ = score_rows("t", [UNTUNED], [TUNED])
    assert (first["pnd_untuned"], first["pnd_tuned"], first["num_comparisons"]) == (0.75, 0.25, 4)
    assert (first["num_clusters"], first["num_changed"]) == (2, 1)
    assert (first["clustered_se"], first["clustered_z"]) == (0.25, -2)
    assert first["clustered_p"] == pytest.approx(0.0455, abs=1e-4)
    assert (first["change_low"], first["change_high"]) == pytest.approx((-0.98999, -0.01001), abs=1e-5)
    assert (first["band_low"], first["maxt_p"]) == (first["change_low"], first["clustered_p"])
    by_query = [replace(one, cluster_of_query_Q=one.cluster_of_query_Q[:0]) for one in (UNTUNED, TUNED)]
    alone, _ = score_rows("t", *([one] for one in by_query))
    assert alone["clustered_se"] == pytest.approx(np.sqrt(3 / 64)) and alone["num_clusters"] == 3


def test_means_over_queries_by_hand() -> None:
    """Own PNDs (1/2, 1, 1) to (0, 1, 0): mean change -1/2; the paragraphs' influences (0 - 1/2) / 3 and 1/2 / 3.

    Variance 2 x 2/36 = 1/9, z = -1.5. Reciprocal ranks (1/2, 1/2, 1/2) to (1, 1/2, 1): +1/3; (1/6 + 1/6) / 3 and
    -1/3 / 3, variance 4/81, z = 1.5.
    """
    rows = {row["statistic"]: row for row in ranking_rows("t", [UNTUNED], [TUNED]) if row["measure"] == "cosine"}
    assert rows["query_pnd"]["change"] == pytest.approx(-0.5) and rows["query_pnd"]["num_queries"] == 3
    assert rows["query_pnd"]["clustered_z"] == pytest.approx(-1.5)
    assert rows["reciprocal_rank"]["change"] == pytest.approx(1 / 3)
    assert rows["reciprocal_rank"]["clustered_z"] == pytest.approx(1.5)


def test_what_one_query_of_a_paragraph_wins_and_another_loses_is_no_change() -> None:
    clusters = [0, 0, 1, 2]
    before, after = counts([1, 0, 1, 0], clusters=clusters), counts([0, 1, 1, 0], clusters=clusters)
    first, _ = score_rows("t", [before], [after])
    assert (first["num_changed"], first["clustered_p"], first["reason"]) == (0, 1.0, "nothing changed")
    assert b"cancel" in TABLES["scores"].field("num_changed").metadata[b"meaning"]


def test_sums_over_a_cluster_may_exceed_32_bits() -> None:
    most = np.array([2**31 - 1] * 3, dtype=np.int32)
    assert UNTUNED.sum_over_clusters(most).tolist() == [2**32 - 2, 2**31 - 1]


@pytest.mark.parametrize("num_clusters", [0, 2])
def test_a_change_that_is_the_same_everywhere_has_no_spread(num_clusters: int) -> None:
    """Reciprocal ranks from 1 to 1/3 in every query, at every size: what rounding leaves is no standard error."""
    for num_queries in range(2, 60):
        clusters = np.arange(num_queries) % num_clusters if num_clusters else ()
        before, after = (counts([errors] * num_queries, [2] * num_queries, clusters) for errors in (0, 2))
        row = ranking_rows("t", [before], [after])[0]
        assert row["reason"] == "no spread between clusters" and np.isnan(row["clustered_z"]), num_queries
        assert np.isnan([row["change_low"], row["clustered_p"]]).all()


def test_rank_measures_say_when_few_clusters_changed() -> None:
    """Five of 50 queries worse: an exact sign test gives p = .0625. Six are enough; swapped within a cluster: none."""
    untuned = counts([0] * 50)
    for num_changed, reason in ((5, "fewer than 6 clusters changed"), (6, "")):
        tuned = counts([1] * num_changed + [0] * (50 - num_changed))
        assert ranking_rows("t", [untuned], [tuned])[0]["reason"] == reason
    together = [0, 0, *range(1, 49)]
    row = ranking_rows("t", *([counts([*two, *[1] * 48], clusters=together)] for two in ((0, 1), (1, 0))))[0]
    assert (row["reason"], row["clustered_p"]) == ("nothing changed", 1.0)


def test_mcnemar_needs_queries_that_are_their_own_clusters() -> None:
    errors = [1, 1, 0, 0, 1, 1], [0, 0, 0, 1, 0, 0]
    alone = [counts(one) for one in errors]
    together = [counts(one, clusters=[0, 0, 1, 2, 3, 4]) for one in errors]
    first, _ = score_rows("t", *([one] for one in alone))
    assert first["mcnemar_p"] == pytest.approx(2 * 6 / 32)  # one of five, or none, by fair coins
    first, _ = score_rows("t", *([one] for one in together))
    assert np.isnan(first["mcnemar_p"]) and np.isfinite(first["clustered_p"])


def frames(untuned: Counts, tuned: Counts) -> list[pd.DataFrame]:
    return [pd.DataFrame(rows("t", [untuned], [tuned])) for rows in (score_rows, ranking_rows)]


def assert_same_rows(one: list[pd.DataFrame], other: list[pd.DataFrame]) -> None:
    for frame, expected in zip(one, other, strict=True):
        pd.testing.assert_frame_equal(frame, expected, check_exact=True)


@given(st.integers(0, 10**6), st.integers(2, 30))
def test_clusters_of_one_query_change_no_number(seed: int, num_queries: int) -> None:
    """Whatever the clusters are called, and to the last bit."""
    draw = np.random.default_rng(seed)
    negatives = draw.integers(1, 4, num_queries)
    plain = [counts(draw.integers(0, negatives + 1), negatives) for _ in range(2)]
    names = draw.permutation(num_queries).astype(np.int32)
    named = [replace(one, cluster_of_query_Q=names) for one in plain]
    assert_same_rows(frames(*named), frames(*plain))


@given(st.integers(0, 10**6))
def test_neither_the_order_of_queries_nor_the_names_of_clusters_count(seed: int) -> None:
    draw = np.random.default_rng(seed)
    clusters, errors = np.sort(draw.integers(0, 12, 40)), draw.integers(0, 2, (2, 40))
    order, names = draw.permutation(40), draw.permutation(12)
    sorted_rows, mixed_rows = (
        frames(*(counts(one[places], clusters=labels) for one in errors))
        for places, labels in ((np.arange(40), clusters), (order, names[clusters[order]]))
    )
    for frame, expected in zip(mixed_rows, sorted_rows, strict=True):
        pd.testing.assert_frame_equal(frame, expected, rtol=1e-9, atol=1e-12)


def test_a_cluster_may_cross_the_border_of_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 queries in shards of 7, five to a paragraph, one paragraph in nearly every shard: the rows of the whole."""
    backbone = load_backbone(tiny_spec(save_tiny_bert(tmp_path / "encoder")))
    untuned, draw = backbone.build_tower(), np.random.default_rng(0)
    changed = {
        name: weight + 0.1 * draw.standard_normal(weight.shape, np.float32) for name, weight in backbone.weights.items()
    }
    tuned = tuned_tower(backbone, changed)
    passages = [f"sentence {number}" for number in range(40)]
    offsets = np.arange(31)
    prepared = PreparedTriplets(
        "asked",
        backbone.tokenize([f"question {number}" for number in range(30)], "query: "),
        encode(untuned, backbone.tokenize(passages, "passage: "), 512),
        np.arange(30),
        offsets,
        (np.arange(60) * 7) % 40,
        2 * offsets,
        np.where(np.arange(30) % 7 == 3, 6, np.arange(30) // 5).astype(np.int32),
    )
    monkeypatch.setattr(evaluate, "SHARD_QUERIES", 7)
    towers, bank = [untuned, tuned], OnHost(prepared.passages_PD)
    by_shard = [evaluate.score_shard(towers, prepared, shard, 512, bank) for shard in prepared.shards]
    parts = [merge(evaluate.checked(found)) for found in zip(*by_shard, strict=True)]
    monkeypatch.setattr(evaluate, "SHARD_QUERIES", 30)
    whole = evaluate.checked(evaluate.score_shard(towers, prepared, (0, 30), 512, bank))
    assert [one.num_clusters for one in (*parts, *whole)] == [7] * 4
    assert (whole[0].by_positive_KC != whole[1].by_positive_KC).any(), "the tuned tower makes other errors"
    assert_same_rows(frames(*parts), frames(*whole))


def test_clusters_come_back_from_the_tables_that_hold_them_once(tmp_path: Path) -> None:
    results.write_table(tmp_path, "untuned", "u", untuned_rows("u", [UNTUNED]))
    results.write_table(tmp_path, "influence", "t", influence_rows("t", [UNTUNED], [TUNED]))
    assert "cluster_of_query" not in TABLES["influence"].names
    before = counts_from_rows(results.read_table(tmp_path, "untuned").to_pylist())
    (after,) = tuned_counts(before, results.read_table(tmp_path, "influence").to_pylist())
    assert_same_rows(frames(before[0], after), frames(UNTUNED, TUNED))


def test_what_is_printed_names_queries_and_clusters() -> None:
    scores, rankings = frames(UNTUNED, TUNED)
    console = Console(width=80, file=io.StringIO())
    empty = pd.DataFrame(columns=TABLES["aggregates"].names)
    print_comparison(Comparison(Side("A", "a"), Side("B", "b"), scores, empty, rankings), console)
    assert "asked: 3 queries in 2 clusters, 4 comparisons" in console.file.getvalue()  # type: ignore[attr-defined]


def test_the_test_by_paragraph_keeps_its_level_and_the_one_by_query_does_not() -> None:
    """1,000 sets of 200 paragraphs with 1 to 8 queries; towers that can be exchanged, and differ by paragraph mostly.

    Two sets stand in the places of the two measures.
    """
    rng, num_runs = np.random.default_rng(5), 1000
    sizes = rng.integers(1, 9, size=200)
    paragraph_of = np.repeat(np.arange(200), sizes)

    def margins(spread: float) -> np.ndarray:
        of_paragraph = rng.standard_normal((num_runs, 200))[:, paragraph_of]
        return spread * (0.8 * of_paragraph + 0.6 * rng.standard_normal(of_paragraph.shape))

    common = 1.0 + margins(1.0)
    errors = [(common + margins(0.3) <= 0).astype(np.int32) for _ in range(2)]
    shares = []
    for clusters in ((), paragraph_of):
        rows = [
            row
            for run in range(0, num_runs, 2)
            for row in score_rows("t", *([counts(one[run : run + 2], clusters=clusters)] for one in errors))
        ]
        shares.append(np.mean([row["clustered_p"] < 0.05 for row in rows]))
    by_query, by_paragraph = shares
    assert by_query > 0.10
    assert abs(by_paragraph - 0.05) < 3 * np.sqrt(0.05 * 0.95 / num_runs)


def test_a_users_clusters_reach_the_counts(tmp_path: Path) -> None:
    """From the file's key to what is scored; a set without the key carries no clusters at all."""
    from adiabatic_ray.corpora.data import load_triplets
    from adiabatic_ray.evaluation.prepare import EvaluationInputs, prepare_sets

    backbone = load_backbone(tiny_spec(save_tiny_bert(tmp_path / "encoder")))
    line = '{{"query": "q{0}", "positives": ["p{0}"], "negatives": ["n"]{1}}}\n'
    sets = []
    for name, keys in (("plain", ["", "", ""]), ("clustered", [', "cluster": "b"', ', "cluster": "a"'] * 2)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(line.format(number, key) for number, key in enumerate(keys)), encoding="utf-8")
        sets.append(load_triplets(TripletFile(name=name, path=str(path)), "evaluation"))
    inputs = EvaluationInputs(backbone, tuple(sets), 512, "float32")
    banks = [
        encode(backbone.build_tower(), backbone.tokenize(texts, "passage: "), 512) for texts in inputs.bank_texts()
    ]
    plain, clustered = evaluate.score_sets(backbone.build_tower(), prepare_sets(inputs, banks), 512)
    assert plain.cluster_of_query_Q.tolist() == [] and plain.num_clusters == 3
    assert clustered.cluster_of_query_Q.tolist() == [0, 1, 0, 1] and clustered.num_clusters == 2
