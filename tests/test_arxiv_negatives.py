"""The paper's 21 negatives: against hand-computed values and a literal version of the recipe, by any route."""

from __future__ import annotations

import functools
import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from typer.testing import CliRunner, Result

from adiabatic_ray.corpora import arxiv_negatives, arxiv_papers
from adiabatic_ray.corpora.arxiv_negatives import (
    Negatives,
    Workload,
    choose_all,
    choose_negatives,
    closest_matches,
    shards,
)
from adiabatic_ray.corpora.arxiv_papers import Corpus, by_paper, read_corpus, write_negatives
from adiabatic_ray.corpora.data import load_triplets
from adiabatic_ray.sources import ArxivTriplets
from jobs.cli import app

Record = dict[str, Any]


def paper(identifier: str, categories: str, abstract: str | None) -> Record:
    return {"id": identifier, "title": f"Title {identifier}", "categories": categories, "abstract": abstract}


def write_jsonl(path: Path, records: Sequence[object]) -> Path:
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    return path


def negatives_of(corpus: Corpus) -> Negatives:
    return by_paper(corpus, choose_all(corpus.work, lambda done, total: None))


def by_id(corpus: Corpus) -> dict[str, tuple[list[str], list[float]]]:
    """Id -> its 21 negatives, their distances."""
    negatives = negatives_of(corpus)
    return {
        identifier: ([corpus.ids[other] for other in others], list(map(float, distances)))
        for identifier, others, distances in zip(
            corpus.ids, negatives.negatives_NL, negatives.distances_NL, strict=True
        )
    }


def generated(number: int, seed: int = 0) -> list[Record]:
    """Records with a few categories and words each, some of them with the same words."""
    draw = random.Random(seed)
    return [
        paper(
            f"{draw.randrange(10**6):06d}.{place}",
            " ".join(draw.sample(["a.A", "a.B", "a.C", "b", "c.D", "c.E"], draw.randint(1, 4))),
            " ".join(draw.choices(["the", "of", "a", "in", "boson", "quark", "map", "ring"], k=draw.randint(1, 12))),
        )
        for place in range(number)
    ]


def recipe(records: Sequence[Record], max_category_size: int) -> dict[str, tuple[list[str], list[float]]]:
    """Steps 1 to 3.3 of Appendix B.2 as they are written, each pair by scipy: id -> 20 ids and their distances."""
    has = {record["id"]: set(record["categories"].split()) for record in records}
    sizes = Counter(category for categories in has.values() for category in categories)
    words = {
        record["id"]: Counter(re.findall(r"[^\W_]+", record["abstract"].lower()))
        for record in records
        if any(sizes[category] <= max_category_size for category in has[record["id"]])
    }
    words = {identifier: counts for identifier, counts in words.items() if counts}
    result = {}
    for identifier in words:
        own = sorted(has[identifier], key=lambda category: (sizes[category], category))
        others = [other for other in words if other != identifier]
        length_of = {
            other: next((place for place, one in enumerate(own) if one not in has[other]), len(own)) for other in others
        }
        longest = max(length_of.values())
        ranked = []
        for other in others:
            if length_of[other] == longest:
                both = sorted(words[identifier] | words[other])
                p, q = ([words[one][word] for word in both] for one in (identifier, other))
                distance = float(jensenshannon(p, q, base=2))
                distance = 0.0 if math.isnan(distance) else distance  # scipy: the root of -1e-17
                ranked.append((round(distance**2, 9), other, distance))
        ranked = sorted(ranked)[:20]
        ranked += ranked[-1:] * (20 - len(ranked))
        result[identifier] = ([other for _, other, _ in ranked], [distance for _, _, distance in ranked])
    return result


def assert_follows_the_recipe(corpus: Corpus, records: Sequence[Record], max_category_size: int) -> None:
    expected, found = recipe(records, max_category_size), by_id(corpus)
    assert found.keys() == expected.keys()
    for identifier, (others, distances) in expected.items():
        assert found[identifier][0][:20] == others, identifier
        np.testing.assert_allclose(np.square(found[identifier][1][:20]), np.square(distances), rtol=0, atol=2e-12)
        assert found[identifier][0][20] != identifier


HAND = [
    # Category sizes: rare 2, mid 3, wide 5, lone 1, big 6.
    paper("1", "rare wide big", "a b"),
    paper("2", "rare mid big", "a, c!"),
    paper("3", "mid wide", "A B a b"),
    paper("4", "mid wide big", "d"),
    paper("5", "wide big", "a"),
    paper("6", "wide big", "b a"),
    paper("7", "lone big", "a-b"),
]
HALF = math.sqrt(0.5)
"""{a: 1/2, b: 1/2} and {a: 1/2, c: 1/2}: entropy of their mean 1/2 + 2 x 1/4 x 2 = 1.5 bits, less 1 bit: 0.5."""
MIXED = math.sqrt(1.5 - 0.75 * math.log2(3))
"""{a: 1/2, b: 1/2} and {a: 1}: entropy of {3/4, 1/4} is 2 - 3/4 log2 3, less half of 1 bit and of 0 bits: 0.311278."""


@pytest.fixture
def hand_corpus(tmp_path: Path) -> Corpus:
    return read_corpus(write_jsonl(tmp_path / "papers.jsonl", HAND))


@pytest.mark.parametrize(
    ("identifier", "others", "distances"),
    [
        ("1", "2" * 20, [HALF] * 20),  # rare, then mid or wide: nobody else has both, so rare alone decides
        ("2", "1" * 20, [HALF] * 20),  # rare and mid: the same
        ("3", "4" * 20, [1.0] * 20),  # mid and wide: only 4, which shares no word
        ("4", "3" * 20, [1.0] * 20),  # mid, wide: 3; with big it would be nobody
        ("5", "164" + "4" * 17, [MIXED, MIXED] + [1.0] * 18),  # wide, big: 1, 4, 6; 1 and 6 tie, the smaller id first
        ("6", "154" + "4" * 17, [0.0, MIXED] + [1.0] * 18),  # the same two words in another order: distance 0
        ("7", "136524" + "4" * 14, [0.0, 0.0, 0.0, MIXED, HALF] + [1.0] * 15),  # nobody has lone: all are candidates
    ],
)
def test_a_corpus_computed_by_hand(hand_corpus: Corpus, identifier: str, others: str, distances: list[float]) -> None:
    found_others, found_distances = by_id(hand_corpus)[identifier]
    assert "".join(found_others[:20]) == others
    assert found_distances[:20] == pytest.approx(distances, abs=1e-12)


def test_what_is_counted_and_left_out(hand_corpus: Corpus, tmp_path: Path) -> None:
    assert (hand_corpus.num_records, hand_corpus.num_large_only, hand_corpus.num_unmatched) == (7, 0, 1)
    more = [*HAND, paper("8", "big", "a"), paper("9", "wide", None), paper("10", "lone mid", "$ _ - $")]
    corpus = read_corpus(write_jsonl(tmp_path / "more.jsonl", more), max_category_size=6)
    # big has 7 papers by now: 8 has no other category. wide has exactly 6 and is still small.
    assert corpus.ids == ("1", "2", "3", "4", "5", "6", "7")
    assert (corpus.num_records, corpus.num_large_only, corpus.num_wordless) == (10, 1, 2)


def test_a_category_is_matched_wherever_the_other_paper_has_it() -> None:
    matches = closest_matches([("b", "c"), ("a", "b", "c"), ("b", "d"), ("e",), ("a",)])
    found = [(matches.matched_G[group], matches.candidates_G[group].tolist()) for group in matches.group_P]
    assert found == [
        (("b", "c"), [0, 1]),  # not only those whose own list begins with b
        (("a",), [1, 4]),
        (("b",), [0, 1, 2]),
        ((), [0, 1, 2, 3, 4]),
        (("a",), [1, 4]),
    ]


WORDS = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=9).map(" ".join)
CATEGORIES = st.sets(st.sampled_from("UVWXYZ"), min_size=1, max_size=4).map(lambda one: " ".join(sorted(one)))


@given(st.lists(st.tuples(CATEGORIES, WORDS), min_size=2, max_size=40), st.integers(5, 40))
@settings(max_examples=60)
def test_any_corpus_follows_the_recipe(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], max_category_size: int
) -> None:
    records = [paper(f"p{place}", categories, words) for place, (categories, words) in enumerate(rows)]
    path = write_jsonl(tmp_path_factory.mktemp("corpus") / "papers.jsonl", records)
    if len(recipe_ids(records, max_category_size)) < 2:
        with pytest.raises(ValueError, match="raise the largest category size"):
            read_corpus(path, max_category_size)
        return
    assert_follows_the_recipe(read_corpus(path, max_category_size), records, max_category_size)


def recipe_ids(records: Sequence[Record], max_category_size: int) -> list[str]:
    sizes = Counter(category for record in records for category in record["categories"].split())
    return [
        record["id"]
        for record in records
        if any(sizes[category] <= max_category_size for category in record["categories"].split())
    ]


def as_bytes(negatives: Negatives) -> list[bytes]:
    return [column.tobytes() for column in negatives]


def test_neither_shards_nor_blocks_change_a_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = read_corpus(write_jsonl(tmp_path / "papers.jsonl", generated(300)))
    whole = as_bytes(negatives_of(corpus))
    for num_shards in (2, 7, 300):
        cuts = np.linspace(0, 300, num_shards + 1).astype(int).tolist()
        parts = [choose_negatives(corpus.work, *cut) for cut in pairwise(cuts)]
        assert as_bytes(by_paper(corpus, parts[::-1])) == whole
    monkeypatch.setattr(arxiv_negatives, "CANDIDATES_PER_BLOCK", 7)
    monkeypatch.setattr(arxiv_negatives, "QUERIES_PER_BATCH", 3)
    assert as_bytes(negatives_of(corpus)) == whole


def test_shards_cover_all_papers_and_cost_about_the_same(tmp_path: Path) -> None:
    work = read_corpus(write_jsonl(tmp_path / "papers.jsonl", generated(300))).work
    assert shards(work) == [(0, 300)]
    found = shards(work, 100_000)
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])] and found[-1][1] == 300
    assert 25 < len(found) < 40


def test_order_and_format_of_the_records_do_not_change_a_byte(tmp_path: Path) -> None:
    records = generated(200)
    shuffled = random.Random(1).sample(records, len(records))
    lists = [{**record, "categories": record["categories"].split()[::-1]} for record in shuffled]
    pq.write_table(pa.Table.from_pylist(lists), tmp_path / "b.parquet")
    inputs = [write_jsonl(tmp_path / "a.jsonl", records), tmp_path / "b.parquet"]
    outputs = [tmp_path / f"out{number}.parquet" for number in range(2)]
    for given_path, out in zip(inputs, outputs, strict=True):
        corpus = read_corpus(given_path)
        write_negatives(out, corpus, negatives_of(corpus), with_distances=True)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_the_random_paper_is_another_one_and_uniform() -> None:
    ids = [f"{number:05d}" for number in range(5)]
    counts = np.zeros((5, 5))
    for seed in range(4_000):
        counts[range(5), arxiv_negatives.random_papers(ids, seed)] += 1
    assert (np.diag(counts) == 0).all()
    others = counts[~np.eye(5, dtype=bool)]  # 20 cells, expected 1,000 each, standard deviation 27
    assert np.abs(others - 1_000).max() < 4 * 27


def test_the_seed_changes_the_random_paper_only(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "papers.jsonl", generated(100))
    one, other = (negatives_of(read_corpus(path, seed=seed)).negatives_NL for seed in (0, 1))
    assert (one[:, :20] == other[:, :20]).all() and (one[:, 20] != other[:, 20]).mean() > 0.9


def workload(counts_PV: np.ndarray) -> Workload:
    """Papers of one group that all have all words."""
    num_papers, num_words = counts_PV.shape
    return Workload(
        starts=np.arange(num_papers + 1) * num_words,
        words_E=np.tile(np.arange(num_words, dtype=np.int32), num_papers),
        counts_E=counts_PV.astype(np.int32).ravel(),
        num_words=num_words,
        group_P=np.zeros(num_papers, np.int32),
        group_starts=np.array([0, num_papers]),
        candidates_M=np.arange(num_papers, dtype=np.int32),
        random_P=np.roll(np.arange(num_papers, dtype=np.int32), 1),
        order_P=np.arange(num_papers, dtype=np.int32),
    )


def test_long_texts_with_equal_frequencies_are_at_distance_zero() -> None:
    counts_V = np.random.default_rng(0).integers(1, 9, size=2_000)
    found = choose_negatives(workload(np.outer([1, 2, 3], counts_V)), 0, 3)
    assert (found.distances_NL == 0).all()
    assert found.negatives_NL[:, :2].tolist() == [[1, 2], [0, 2], [0, 1]]


@pytest.mark.parametrize("decimals", [arxiv_negatives.DECIMALS, 16])
def test_equal_distances_are_equal_to_the_last_bit_whatever_the_order_of_the_words(
    monkeypatch: pytest.MonkeyPatch, decimals: int
) -> None:
    """The first paper has every word once, the others the same counts for other words: all are equally far from it.

    With 16 decimals nothing is rounded away: the sums themselves are equal.
    """
    monkeypatch.setattr(arxiv_negatives, "DECIMALS", decimals)
    draw = np.random.default_rng(0)
    counts_V = draw.integers(1, 60, size=150)
    others = [draw.permutation(counts_V) for _ in range(400)]
    found = choose_negatives(workload(np.array([np.ones(150), *others])), 0, 1)
    assert found.negatives_NL[0, :20].tolist() == list(range(1, 21))
    assert len(set(found.distances_NL[0, :20])) == 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{"title": "x"}], ["line 1", "'id'", "['title']"]),
        ([paper("1", "a", "x") | {"id": 704.1}], ["line 1", "'id' must be a text", "704.1"]),
        ([paper("1", "a", "x"), {"id": "2", "abstract": "x"}], ["line 2", "'categories'"]),
        ([paper("1", " ", "x")], ["line 1", "must have a category"]),
        ([paper("1", "a", "x") | {"categories": {"a": 1}}], ["line 1", "list of texts"]),
        ([paper("1", "a", "x"), paper("2", "a", "x"), paper("1", "b", "y")], ["line 3", "'1' again", "remove"]),
        ([paper("1", "a", "x"), {"id": "2", "categories": "a"}], ["line 2", "'abstract'", "add it"]),
        ([paper("1", "a", "x"), paper("2", "a", "x") | {"abstract": 7}], ["line 2", "'abstract' must be a text", "7"]),
        ([paper("1", "a", "x"), paper("2", "a", "\ud800")], ["line 2", "valid Unicode"]),
        ([paper("1", "a", "x"), ["2"]], ["line 2", "one JSON object"]),
        ([paper("1", "a", "x"), paper("2", "a", None)], ["two papers", "got 1 in 2 records"]),
        ([], ["two papers", "got 0 in 0 records"]),
    ],
)
def test_records_that_cannot_be_used_are_named(tmp_path: Path, lines: list[object], words: list[str]) -> None:
    path = write_jsonl(tmp_path / "papers.jsonl", lines)
    with pytest.raises(ValueError) as error:
        read_corpus(path)
    for word in ("papers.jsonl", *words):
        assert word in str(error.value)


def test_categories_that_are_all_too_large_are_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "papers.jsonl", HAND[:6])  # without lone the smallest category is rare
    with pytest.raises(ValueError, match=r"at most 1 papers, got rare with 2 .*raise the largest category size"):
        read_corpus(path, max_category_size=1)


def test_a_failed_write_leaves_the_old_file(
    hand_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(table: pa.Table, where: Path, **_: object) -> None:
        where.write_bytes(b"half")
        raise OSError("disk full")

    out = tmp_path / "out" / "negatives.parquet"
    write_negatives(out, hand_corpus, negatives_of(hand_corpus))
    before = out.read_bytes()
    monkeypatch.setattr(arxiv_papers.pq, "write_table", full)
    with pytest.raises(OSError, match="disk full"):
        write_negatives(out, hand_corpus, negatives_of(hand_corpus))
    assert [(file.name, file.read_bytes()) for file in out.parent.iterdir()] == [(out.name, before)]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["data", "arxiv-negatives", *map(str, arguments)], env={"COLUMNS": "200"})


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output.replace("\n", " "), result.output


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "papers.jsonl", generated(60))


def test_the_command_writes_what_it_says(metadata: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "negatives.parquet"
    result = run(metadata, "--out", out, "--no-ray", "--seed", "3")
    assert result.exit_code == 0, result.output
    assert "60 papers of 60 records" in result.output and "84.2%" in result.output and str(out) in result.output
    table = pq.read_table(out)
    assert table.schema.names == ["id", "negatives"]
    assert table.schema.types == [pa.string(), pa.list_(pa.string())]
    assert table["id"].to_pylist() == sorted(record["id"] for record in generated(60))
    corpus = read_corpus(metadata, seed=3)
    assert table["negatives"].to_pylist() == [others for others, _ in by_id(corpus).values()]
    about = {key.decode(): value.decode() for key, value in pq.read_schema(out).metadata.items()}
    assert about == {
        "recipe_version": "1",
        "seed": "3",
        "max_category_size": "10000",
        "input_digest": corpus.digest,
        "num_records": "60",
        "num_papers": "60",
    }
    assert list(out.parent.iterdir()) == [out]


def test_distances_are_written_when_asked_for(metadata: Path, tmp_path: Path) -> None:
    out = tmp_path / "negatives.parquet"
    assert run(metadata, "--out", out, "--no-ray", "--distances").exit_code == 0
    assert pq.read_table(out)["distances"].to_pylist() == [one for _, one in by_id(read_corpus(metadata)).values()]


def test_the_digest_is_that_of_what_decides_the_negatives(tmp_path: Path) -> None:
    digests = {
        read_corpus(write_jsonl(tmp_path / "papers.jsonl", records)).digest
        for records in (
            HAND,
            HAND[:-1],
            [*HAND[:-1], {**HAND[-1], "abstract": "a b c"}],
            [*HAND[:-1], {**HAND[-1], "categories": "lone"}],
            [*HAND[:-1], {**HAND[-1], "id": "8"}],
            [*HAND[:-1], {**HAND[-1], "title": "Of no consequence"}],
        )
    }
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("negatives.json", ["--out", "ends in .parquet", "negatives.json"]),
        ("folder.parquet", ["a folder"]),
        ("papers.jsonl/negatives.parquet", ["papers.jsonl", "another path"]),
        ("negatives.parquet", ["nowhere.jsonl"]),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(metadata: Path, tmp_path: Path, out: str, words: list[str]) -> None:
    (tmp_path / "folder.parquet").mkdir()
    given_path = tmp_path / "nowhere.jsonl" if "nowhere.jsonl" in words else metadata
    refused(run(given_path, "--out", tmp_path / out, "--no-ray"), *words)
    assert not (tmp_path / out).is_file()


def test_the_metadata_are_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "papers.parquet"
    pq.write_table(pa.Table.from_pylist(generated(5)), path)
    before = path.read_bytes()
    refused(run(path, "--out", path, "--no-ray"), "another file than the metadata")
    assert path.read_bytes() == before


def test_a_file_in_no_known_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "papers.parquet").write_bytes(b"no Parquet")
    refused(run(tmp_path / "papers.parquet", "--out", tmp_path / "out.parquet"), "must be a Parquet file")
    (tmp_path / "papers.txt").write_text("")
    refused(run(tmp_path / "papers.txt", "--out", tmp_path / "out.parquet"), ".jsonl", "rename the file")


def test_sources_read_the_file(metadata: Path, tmp_path: Path) -> None:
    out = tmp_path / "negatives.parquet"
    assert run(metadata, "--out", out, "--no-ray").exit_code == 0
    others = {identifier: negatives for identifier, (negatives, _) in by_id(read_corpus(metadata)).items()}
    abstract_of = {record["id"]: record["abstract"] for record in generated(60)}
    for level in (1, 21):
        texts = load_triplets(ArxivTriplets(path=str(metadata), negatives=str(out), level=level), "evaluation")
        assert len(texts.queries) == 60
        for query, row in zip(texts.queries, texts.negative_rows, strict=True):
            assert texts.passages[row] == abstract_of[others[query.removeprefix("Title ")][level - 1]]


@pytest.fixture
def ray_cluster() -> Iterator[None]:
    import ray

    from adiabatic_ray.on_ray.cluster import start_ray

    start_ray()
    yield
    ray.shutdown()


@pytest.mark.ray
def test_ray_gives_the_same_file(
    ray_cluster: None, metadata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adiabatic_ray.on_ray import negative_tasks

    monkeypatch.setattr(negative_tasks, "shards", functools.partial(shards, entries_per_shard=100_000))
    assert len(negative_tasks.shards(read_corpus(metadata).work)) > 4
    here, there = tmp_path / "here.parquet", tmp_path / "there.parquet"
    for result in (run(metadata, "--out", here, "--no-ray"), run(metadata, "--out", there)):
        assert result.exit_code == 0, result.output
    assert here.read_bytes() == there.read_bytes()


@pytest.mark.realdata
def test_real_abstracts_follow_the_recipe(real_data: Path, tmp_path: Path) -> None:
    columns = pq.read_table(real_data / "arxiv_30k.parquet", columns=["id", "title", "abstract", "categories"])
    records = columns.take(np.arange(0, len(columns), 100)).to_pylist()
    path = tmp_path / "papers.parquet"
    pq.write_table(pa.Table.from_pylist(records), path)
    corpus = read_corpus(path, max_category_size=60)
    assert 100 < len(corpus.ids) < len(records) == 300
    records = [{**record, "categories": " ".join(record["categories"])} for record in records]
    assert_follows_the_recipe(corpus, records, 60)
    distances = negatives_of(corpus).distances_NL
    assert (np.diff(distances[:, :20]) >= 0).all() and distances[:, 20].mean() > distances[:, :20].mean()
