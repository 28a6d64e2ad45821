"""The search for negatives gives the same by any route: shards, blocks, order of papers and of words, seeds."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adiabatic_ray.corpora import arxiv_negatives
from adiabatic_ray.corpora.arxiv_negatives import Negatives, Workload, choose_negatives, shards
from adiabatic_ray.corpora.arxiv_papers import by_paper, read_corpus, write_negatives
from tests.arxiv_records import generated, negatives_of
from tests.record_rows import write_lines


def as_bytes(negatives: Negatives) -> list[bytes]:
    return [column.tobytes() for column in negatives]


def test_neither_shards_nor_blocks_change_a_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = read_corpus(write_lines(tmp_path / "papers.jsonl", generated(300)))
    whole = as_bytes(negatives_of(corpus))
    for num_shards in (2, 7, 300):
        cuts = np.linspace(0, 300, num_shards + 1).astype(int).tolist()
        parts = [choose_negatives(corpus.work, *cut) for cut in pairwise(cuts)]
        assert as_bytes(by_paper(corpus, parts[::-1])) == whole
    monkeypatch.setattr(arxiv_negatives, "CANDIDATES_PER_BLOCK", 7)
    monkeypatch.setattr(arxiv_negatives, "QUERIES_PER_BATCH", 3)
    assert as_bytes(negatives_of(corpus)) == whole


def test_shards_cover_all_papers_and_cost_about_the_same(tmp_path: Path) -> None:
    work = read_corpus(write_lines(tmp_path / "papers.jsonl", generated(300))).work
    assert shards(work) == [(0, 300)]
    found = shards(work, 100_000)
    assert [start for start, _ in found] == [0, *(stop for _, stop in found[:-1])] and found[-1][1] == 300
    assert 25 < len(found) < 40


def test_order_and_format_of_the_records_do_not_change_a_byte(tmp_path: Path) -> None:
    records = generated(200)
    shuffled = random.Random(1).sample(records, len(records))
    lists = [{**record, "categories": record["categories"].split()[::-1]} for record in shuffled]
    pq.write_table(pa.Table.from_pylist(lists), tmp_path / "b.parquet")
    inputs = [write_lines(tmp_path / "a.jsonl", records), tmp_path / "b.parquet"]
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
    path = write_lines(tmp_path / "papers.jsonl", generated(100))
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
