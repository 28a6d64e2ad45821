"""arXiv metadata as triplets: title or first sentence as the query, the parts, samples of papers."""

from __future__ import annotations

from pathlib import Path

import pytest

from adiabatic_ray.corpora.data import load_triplets
from adiabatic_ray.sources import ArxivTriplets
from tests.record_rows import comparisons, write_lines


def paper(number: int, **changes: object) -> dict[str, object]:
    return {
        "id": f"0704.{number:04}",
        "title": f"Title\n  of {number}",
        "abstract": f"  First of {number}.\nSecond of\n{number}. Third.\n",
        "categories": "math.CO cs.DM",
    } | changes


def arxiv(path: Path, **changes: object) -> ArxivTriplets:
    return ArxivTriplets(path=str(path), **changes)


def test_titles_and_abstracts_lose_their_line_breaks(tmp_path):
    texts = load_triplets(arxiv(write_lines(tmp_path / "a.json", [paper(n) for n in range(5)])), "evaluation")
    whole = {f"Title of {n}": f"First of {n}. Second of {n}. Third." for n in range(5)}
    assert {query: positive for query, (positive,), _ in comparisons(texts)} == whole
    for query, _, (negative,) in comparisons(texts):
        assert negative in whole.values() and negative != whole[query]


def test_first_sentence_against_the_rest(tmp_path):
    rows = [paper(n) for n in range(4)] + [paper(4, abstract="One sentence."), paper(5, abstract=" \n")]
    texts = load_triplets(arxiv(write_lines(tmp_path / "a.jsonl.gz", rows), flavour="first"), "evaluation")
    assert {query: positive for query, (positive,), _ in comparisons(texts)} == {
        f"First of {n}.": f"Second of {n}. Third." for n in range(4)
    }


def test_samples_of_papers_do_not_depend_on_the_order_of_the_file(tmp_path):
    rows = [paper(n) for n in range(40)]
    one = arxiv(write_lines(tmp_path / "a.jsonl", rows), num_papers=10, num_tune=4, num_validation=2)
    two = one.model_copy(update={"path": str(write_lines(tmp_path / "b.jsonl", rows[::-1] + rows[:3]))})
    parts = [load_triplets(one, part) for part in ("tune", "validation", "evaluation")]
    assert [len(part.queries) for part in parts] == [4, 2, 4]
    assert [part.digest for part in parts] == [
        load_triplets(two, part).digest for part in ("tune", "validation", "evaluation")
    ]
    queries = [query for part in parts for query in part.queries]
    assert len(set(queries)) == 10
    for part in parts:  # negatives come from the same part, so that parts share no text
        assert sorted(part.passages) == sorted(positive for _, (positive,), _ in comparisons(part))
    other = one.model_copy(update={"negative_seed": 1})
    assert set(load_triplets(other, "tune").queries) != set(parts[0].queries)
    wider = one.model_copy(update={"num_papers": 20, "num_tune": 10})
    assert load_triplets(wider, "tune").queries == queries  # a larger sample only adds


def test_arxiv_complaints(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [paper(1), paper(2)])
    with pytest.raises(ValueError, match="at most the 2 usable papers there are, got 5"):
        load_triplets(arxiv(path, num_papers=5), "evaluation")
    with pytest.raises(ValueError, match="a part needs 2, got one for tune"):
        load_triplets(arxiv(path, num_tune=1), "tune")
    write_lines(path, [paper(1), {"id": "x", "Title": "t"}])
    with pytest.raises(ValueError, match="line 2: a paper needs 'title', got the keys"):
        load_triplets(arxiv(path), "evaluation")


@pytest.mark.realdata
@pytest.mark.parametrize(("flavour", "most_lost"), [("title", 0), ("first", 2000)])
def test_real_arxiv(real_data, flavour, most_lost):
    texts = load_triplets(arxiv(real_data / "arxiv_30k.parquet", flavour=flavour), "evaluation")
    assert 30_000 - most_lost <= len(texts.queries) <= 30_000
    assert not any("\n" in text for text in (*texts.queries, *texts.passages))
    assert (texts.positive_rows != texts.negative_rows).all()
