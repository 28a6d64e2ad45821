"""The paper's 21 negatives: against hand-computed values and a literal version of the recipe."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from adiabatic_ray.corpora.arxiv_negatives import closest_matches
from adiabatic_ray.corpora.arxiv_papers import Corpus, read_corpus
from tests.arxiv_records import Record, by_id, hand_corpus, negatives_of, paper
from tests.record_rows import write_lines


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


HALF = math.sqrt(0.5)
"""{a: 1/2, b: 1/2} and {a: 1/2, c: 1/2}: entropy of their mean 1/2 + 2 x 1/4 x 2 = 1.5 bits, less 1 bit: 0.5."""
MIXED = math.sqrt(1.5 - 0.75 * math.log2(3))
"""{a: 1/2, b: 1/2} and {a: 1}: entropy of {3/4, 1/4} is 2 - 3/4 log2 3, less half of 1 bit and of 0 bits: 0.311278."""


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
def test_a_corpus_computed_by_hand(tmp_path: Path, identifier: str, others: str, distances: list[float]) -> None:
    found_others, found_distances = by_id(hand_corpus(tmp_path))[identifier]
    assert "".join(found_others[:20]) == others
    assert found_distances[:20] == pytest.approx(distances, abs=1e-12)


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
    path = write_lines(tmp_path_factory.mktemp("corpus") / "papers.jsonl", records)
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
