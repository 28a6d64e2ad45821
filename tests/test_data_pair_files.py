"""A user's own labelled pairs: what is read, and what is said when it can't be."""

from __future__ import annotations

from pathlib import Path

import pytest

from adiabatic_ray.corpora.data import load_pairs
from adiabatic_ray.sources import PairFile
from tests.record_rows import write_lines, write_parquet

PAIR_ROWS = [
    {"query": {"en": "a", "de": "A"}, "passage": {"en": "b", "de": "B"}, "label": "same"},
    {"query": {"en": "a", "de": "A"}, "passage": {"en": "c", "de": "C"}, "label": "unrelated"},
    {"query": {"en": "d", "de": "A"}, "passage": {"en": "b", "de": "B"}, "label": "opposite"},
]


def pairs(path: Path, **changes: object) -> PairFile:
    return PairFile(
        **({"name": "mine", "path": str(path), "languages": ("en", "de"), "positive_label": "same"} | changes)
    )


@pytest.mark.parametrize("name", ["p.jsonl", "p.parquet"])
def test_a_pair_file(tmp_path, name):
    path = (write_parquet if name.endswith("parquet") else write_lines)(tmp_path / name, PAIR_ROWS)
    texts = load_pairs(pairs(path))
    assert texts.labels == ("same", "opposite", "unrelated")
    assert texts.query_texts == {"en": ["a", "d"], "de": ["A", "A"]}
    assert texts.passage_texts == {"en": ["b", "c", "b"], "de": ["B", "C", "B"]}
    assert texts.query_of_pair.tolist() == [0, 0, 1] and texts.cluster_of_pair.tolist() == [0, 0, 1]
    assert texts.label_of_pair.tolist() == [0, 2, 1]
    assert load_pairs(pairs(path, languages=("de",))).query_texts == {"de": ["A"]}
    pinned = pairs(path, digest=texts.digest)
    assert load_pairs(pinned).digest == texts.digest
    with pytest.raises(ValueError, match="must be those it is pinned to"):
        load_pairs(pairs(path, digest="0" * 64))


def test_labels_are_spelt_alike_and_come_from_the_list_where_one_is_given(tmp_path):
    misspelt = write_lines(tmp_path / "m.jsonl", [*PAIR_ROWS, {**PAIR_ROWS[0], "label": "Same "}])
    with pytest.raises(ValueError, match="labels must be spelt alike, got 'Same ' and 'same'"):
        load_pairs(pairs(misspelt))
    path = write_lines(tmp_path / "p.jsonl", PAIR_ROWS)
    assert load_pairs(pairs(path, negative_labels=("unrelated", "opposite"))).labels[0] == "same"
    with pytest.raises(ValueError, match=r"or one of \('unrelated',\), got \['opposite'\]"):
        load_pairs(pairs(path, negative_labels=("unrelated",)))


def test_clusters_that_are_named(tmp_path):
    rows = [{**row, "cluster": cluster} for row, cluster in zip(PAIR_ROWS, (7, 8, 7), strict=True)]
    assert load_pairs(pairs(write_lines(tmp_path / "p.jsonl", rows))).cluster_of_pair.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*PAIR_ROWS, {**PAIR_ROWS[0], "label": 1}], "line 4: 'label' must be a text, got 1"),
        ([*PAIR_ROWS, {**PAIR_ROWS[0], "label": ""}], "line 4: 'label' must not be empty"),
        ([*PAIR_ROWS, {**PAIR_ROWS[0], "query": {"en": "a"}}], "line 4: 'query' must have every language"),
        ([*PAIR_ROWS, {**PAIR_ROWS[0], "query": "a"}], "line 4: 'query' must give a text by language"),
        ([*PAIR_ROWS, {**PAIR_ROWS[0], "passage": {"en": "a", "de": " "}}], "line 4: 'passage.de' must not be empty"),
        ([*PAIR_ROWS, {**PAIR_ROWS[0], "cluster": 1}], "line 4: all records name a cluster or none does"),
        ([*PAIR_ROWS, {**PAIR_ROWS[0], "cluster": [1]}], "line 4: 'cluster' must be a text or an integer"),
        ([{"query": PAIR_ROWS[0]["query"], "label": "same"}], "line 1: a record needs 'passage'"),
        (
            [{**row, "id": identifier} for row, identifier in zip(PAIR_ROWS, ("a", "b", "a"), strict=True)],
            "line 3: each 'id' may stand once, got 'a', which is also that of",
        ),
        ([{**PAIR_ROWS[0], "id": [1]}], "line 1: 'id' must be a text or an integer, got [1]"),
        ([], "needs pairs, got none"),
        (PAIR_ROWS[:1], "at least two labels; got labels ['same']"),
        (PAIR_ROWS[1:], "without pairs ['same']"),
    ],
)
def test_bad_pairs_are_named(tmp_path, rows, said):
    with pytest.raises(ValueError) as caught:
        load_pairs(pairs(write_lines(tmp_path / "p.jsonl", rows)))
    assert said in str(caught.value) and "p.jsonl" in str(caught.value)
