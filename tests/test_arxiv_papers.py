"""Both ends of the search for negatives: records that are counted, left out or refused, the digest, a failed write."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from adiabatic_ray.corpora import arxiv_papers
from adiabatic_ray.corpora.arxiv_papers import read_corpus, write_negatives
from tests.arxiv_records import HAND, hand_corpus, negatives_of, paper
from tests.record_rows import write_lines


def test_what_is_counted_and_left_out(tmp_path: Path) -> None:
    by_hand = hand_corpus(tmp_path)
    assert (by_hand.num_records, by_hand.num_large_only, by_hand.num_unmatched) == (7, 0, 1)
    more = [*HAND, paper("8", "big", "a"), paper("9", "wide", None), paper("10", "lone mid", "$ _ - $")]
    corpus = read_corpus(write_lines(tmp_path / "more.jsonl", more), max_category_size=6)
    # big has 7 papers by now: 8 has no other category. wide has exactly 6 and is still small.
    assert corpus.ids == ("1", "2", "3", "4", "5", "6", "7")
    assert (corpus.num_records, corpus.num_large_only, corpus.num_wordless) == (10, 1, 2)


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
    path = write_lines(tmp_path / "papers.jsonl", lines)
    with pytest.raises(ValueError) as error:
        read_corpus(path)
    for word in ("papers.jsonl", *words):
        assert word in str(error.value)


def test_categories_that_are_all_too_large_are_named(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "papers.jsonl", HAND[:6])  # without lone the smallest category is rare
    with pytest.raises(ValueError, match=r"at most 1 papers, got rare with 2 .*raise the largest category size"):
        read_corpus(path, max_category_size=1)


def test_the_digest_is_that_of_what_decides_the_negatives(tmp_path: Path) -> None:
    digests = {
        read_corpus(write_lines(tmp_path / "papers.jsonl", records)).digest
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


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(table: pa.Table, where: Path, **_: object) -> None:
        where.write_bytes(b"half")
        raise OSError("disk full")

    out = tmp_path / "out" / "negatives.parquet"
    corpus = hand_corpus(tmp_path)
    negatives = negatives_of(corpus)
    write_negatives(out, corpus, negatives)
    before = out.read_bytes()
    monkeypatch.setattr(arxiv_papers.pq, "write_table", full)
    with pytest.raises(OSError, match="disk full"):
        write_negatives(out, corpus, negatives)
    assert [(file.name, file.read_bytes()) for file in out.parent.iterdir()] == [(out.name, before)]
