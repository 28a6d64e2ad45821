"""Sampled queries: which ones, the same however a set is sharded, and cosines that keep their digits near 1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adiabatic_ray import results
from adiabatic_ray.encoders.backbones import Backbone, load_backbone
from adiabatic_ray.encoders.towers import tuned_tower
from adiabatic_ray.evaluation import evaluate
from adiabatic_ray.evaluation.closeness import OnHost
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.evaluation.evaluate import PreparedPairs, PreparedTriplets
from adiabatic_ray.orchestration.orchestrator import untuned_counts
from adiabatic_ray.statistics.cosine_tables import cosine_rows
from adiabatic_ray.statistics.counts import Counts, merge
from adiabatic_ray.statistics.query_samples import QuerySample, cosines, sampled_queries
from tests.tiny import save_tiny_bert, tiny_spec

BUDGET = 512


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_spec(save_tiny_bert(tmp_path_factory.mktemp("encoder"))))


def _triplets(backbone: Backbone, num_queries: int) -> PreparedTriplets:
    """Each query has a passage of its own as positive, and the next one's as negative."""
    everyone, offsets_Q1 = np.arange(num_queries), np.arange(num_queries + 1)
    passages = [f"answer {number}" for number in everyone]
    return PreparedTriplets(
        "asked",
        backbone.tokenize([f"question {number} of {num_queries}" for number in everyone], "query: "),
        encode(backbone.build_tower(), backbone.tokenize(passages, "passage: "), BUDGET),
        everyone,
        offsets_Q1,
        np.roll(everyone, -1),
        offsets_Q1,
        np.zeros(0, dtype=np.int32),
    )


def _pairs(backbone: Backbone, num_queries: int) -> PreparedPairs:
    """Two languages; each query has a pair of either label."""
    languages, everyone = ("de", "en"), range(num_queries)
    queries = [f"{language} premise {number}" for language in languages for number in everyone]
    passages = [f"{language} {number} {label}" for language in languages for number in everyone for label in "ab"]
    query_of_pair_N = np.repeat(np.arange(num_queries), 2)
    return PreparedPairs(
        "said",
        languages,
        ("same", "other"),
        backbone.tokenize(queries, "query: "),
        encode(backbone.build_tower(), backbone.tokenize(passages, "passage: "), BUDGET),
        query_of_pair_N,
        query_of_pair_N,
        np.tile(np.arange(2), num_queries),
    )


def _counts(samples: dict[str, QuerySample]) -> Counts:
    none = np.zeros((0, 0), np.int32)
    return Counts("asked", "triplets", (), none, none, none, none, np.zeros((0, 3, 0)), samples=samples)


def test_the_sample_is_evenly_spaced_and_holds_all_of_a_small_set() -> None:
    assert sampled_queries(5).tolist() == [0, 1, 2, 3, 4]
    assert sampled_queries(32).tolist() == list(range(32))
    assert sampled_queries(64).tolist() == list(range(0, 64, 2))
    assert sampled_queries(0).tolist() == []
    places_S = sampled_queries(7000)  # 218.75 apart
    assert len(places_S) == 32 and places_S[:3].tolist() == [0, 218, 437] and places_S[-1] == 6781
    assert set(np.diff(sampled_queries(1670)).tolist()) == {52, 53}


def test_cosines_of_equal_rows_are_exactly_one() -> None:
    rows_SD = np.random.default_rng(0).standard_normal((50, 384)).astype(np.float32)
    assert (cosines(rows_SD, rows_SD.copy()) == 1).all()
    assert (cosines(rows_SD, 2 * rows_SD) == 1).all(), "a power of two changes no digit"


def test_cosines_by_hand() -> None:
    one, other = np.array([[3, 4], [1, 0], [2, 0], [1, 1]], np.float32), np.array([[4, 3], [0, 9], [-1, 0], [1, 0]])
    assert cosines(one, other.astype(np.float32)) == pytest.approx([24 / 25, 0, -1, np.sqrt(0.5)], abs=1e-15)


@pytest.mark.parametrize("tangent", [1e-5, 1e-3])
def test_what_is_missing_to_one_keeps_its_digits(tangent: float) -> None:
    """(1, 0) and (1, t) enclose an angle whose cosine is 1 / sqrt(1 + t^2) = 1 - t^2 / 2 + 3 t^4 / 8."""
    t = float(np.float32(tangent))
    (cosine,) = cosines(np.array([[1, 0]], np.float32), np.array([[1, t]], np.float32))
    assert 1 - cosine == pytest.approx(t**2 / 2 - 3 * t**4 / 8, abs=1.2e-16)  # numbers below 1 are 1.1e-16 apart


def test_shards_merge_to_the_sample_of_the_whole(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """70 queries in shards of 10: 32 of them, 2 or 3 apart; alone in batches of their own, near the same embeddings."""
    prepared, tower = _triplets(backbone, 70), backbone.build_tower()
    (whole,) = evaluate.score_sets(tower, [prepared], BUDGET)
    monkeypatch.setattr(evaluate, "SHARD_QUERIES", 10)
    bank = OnHost(prepared.passages_PD)
    parts = [evaluate.score_shard([tower], prepared, shard, BUDGET, bank)[0] for shard in prepared.shards]
    merged = merge(evaluate.checked(parts))
    assert list(merged.samples) == list(whole.samples) == [""]
    for sample in (merged.samples[""], whole.samples[""]):
        assert sample.queries_S.tolist() == [place * 70 // 32 for place in range(32)]
        texts = prepared.queries.select(sample.queries_S)
        assert cosines(encode(tower, texts, BUDGET), sample.embeddings_SD) == pytest.approx(np.ones(32), abs=1e-12)


def test_each_language_of_pairs_has_the_same_queries(backbone: Backbone) -> None:
    prepared, tower = _pairs(backbone, 40), backbone.build_tower()
    (counts,) = evaluate.score_sets(tower, [prepared], BUDGET)
    assert list(counts.samples) == ["de", "en"]
    for place, sample in enumerate(counts.samples.values()):
        assert np.array_equal(sample.queries_S, sampled_queries(40))
        texts = prepared.queries.select(40 * place + sample.queries_S)
        assert cosines(encode(tower, texts, BUDGET), sample.embeddings_SD) == pytest.approx(np.ones(32), abs=1e-12)


def test_rows_of_a_tower_by_itself_are_ones_and_of_another_are_not(backbone: Backbone) -> None:
    prepared, draw = [_pairs(backbone, 4), _triplets(backbone, 6)], np.random.default_rng(0)
    changed = {
        name: weight + 0.01 * draw.standard_normal(weight.shape, np.float32)
        for name, weight in backbone.weights.items()
    }
    untuned, again, tuned = (
        evaluate.score_sets(tuned_tower(backbone, tensors), prepared, BUDGET) for tensors in ({}, {}, changed)
    )
    rows = cosine_rows("t", untuned, again)
    assert [(row["set"], row["query_language"], row["num_texts"]) for row in rows] == [
        ("said", "de", 4),
        ("said", "en", 4),
        ("asked", "", 6),
    ]
    assert {(row["mean_cosine"], row["min_cosine"]) for row in rows} == {(1.0, 1.0)}
    for row in cosine_rows("t", untuned, tuned):
        assert 0.5 < row["min_cosine"] < row["mean_cosine"] < 1


def test_rows_by_hand() -> None:
    def sample(*rows: list[float]) -> dict[str, QuerySample]:
        return {"": QuerySample(np.array([0, 7]), np.array(rows, np.float32))}

    before, after = _counts(sample([1, 0], [0, 2])), _counts(sample([3, 4], [0, 5]))
    (row,) = cosine_rows("t", [before], [after])
    assert row == {
        "trial_id": "t",
        "set": "asked",
        "query_language": "",
        "num_texts": 2,
        "mean_cosine": pytest.approx(0.8),
        "min_cosine": pytest.approx(0.6),
    }
    others = {"": replace(after.samples[""], queries_S=np.array([0, 8]))}
    with pytest.raises(AssertionError, match="other queries"):
        cosine_rows("t", [before], [replace(after, samples=others)])


def test_the_untuned_sample_comes_back_from_disk_and_a_lost_table_is_made_anew(
    backbone: Backbone, tmp_path: Path
) -> None:
    prepared, calls = [_pairs(backbone, 3), _triplets(backbone, 5)], []

    def score() -> list[Counts]:
        calls.append(1)
        return evaluate.score_sets(backbone.build_tower(), prepared, BUDGET)

    first, again = untuned_counts("u", score, tmp_path), untuned_counts("u", score, tmp_path)
    assert len(calls) == 1
    table = results.read_table(tmp_path, "untuned_queries", ["u"])
    assert table.num_rows == 3 + 3 + 5 and table["query"].to_pylist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 3, 4]
    for counts, other in zip(score(), again, strict=True):
        assert list(counts.samples) == list(other.samples)
        for language, sample in counts.samples.items():
            assert np.array_equal(sample.queries_S, other.samples[language].queries_S)
            assert sample.embeddings_SD.tobytes() == other.samples[language].embeddings_SD.tobytes()
    assert cosine_rows("t", first, again)[0]["min_cosine"] == 1
    results.table_path(tmp_path, "untuned_queries", "u").unlink()
    calls.clear()
    assert untuned_counts("u", score, tmp_path)[1].samples[""].queries_S.tolist() == [0, 1, 2, 3, 4] and calls == [1]
