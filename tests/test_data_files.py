"""A user's own files and arXiv metadata: what is read, and what is said when it can't be."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from adiabatic_ray.corpora.data import TripletSet, load_pairs, load_triplets, load_tuning, tuning_digest
from adiabatic_ray.corpora.record_files import count_records, read_records
from adiabatic_ray.sources import ArxivTriplets, PairFile, TripletFile

ROWS = [
    {"query": "q0", "positives": ["p0", "p0b"], "negatives": ["n0", "n0b", "n0c"]},
    {"query": "q1", "positives": ["p1"], "negatives": ["n1"]},
    {"query": "q2", "positives": ["p2"], "negatives": ["n2", "p0"]},
    {"query": "q3", "positives": ["p3", "p3b"], "negatives": ["n3", "n3b"]},
]


def write_lines(path: Path, rows: list[object]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[dict[str, object]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def triplets(path: Path, **sizes: int | None) -> TripletFile:
    return TripletFile(name="mine", path=str(path), **sizes)


def comparisons(texts: TripletSet) -> list[tuple[str, list[str], list[str]]]:
    """Queries with their texts, the compressed rows undone."""
    sides = []
    for rows, offsets in ((texts.positive_rows, texts.positive_offsets), (texts.negative_rows, texts.negative_offsets)):
        bounds = itertools.pairwise(offsets)
        sides.append([[texts.passages[row] for row in rows[first:last]] for first, last in bounds])
    return list(zip(texts.queries, *sides, strict=True))


@pytest.mark.parametrize("name", ["t.jsonl", "t.json", "t.jsonl.gz", "t.parquet"])
def test_parts_of_a_triplet_file(tmp_path, name):
    """One positive and one negative where towers are tuned, all of them where they are scored; any format."""
    write = write_parquet if name.endswith("parquet") else write_lines
    source = triplets(write(tmp_path / name, ROWS), num_tune=1, num_validation=1, num_evaluation=2)
    assert comparisons(load_triplets(source, "tune")) == [("q0", ["p0"], ["n0"])]
    assert comparisons(load_triplets(source, "validation")) == [("q1", ["p1"], ["n1"])]
    assert comparisons(load_triplets(source, "evaluation")) == [
        ("q2", ["p2"], ["n2", "p0"]),
        ("q3", ["p3", "p3b"], ["n3", "n3b"]),
    ]


def test_the_format_makes_no_difference(tmp_path):
    digests = {
        load_triplets(triplets(write_lines(tmp_path / "a.jsonl", ROWS)), "evaluation").digest,
        load_triplets(triplets(write_lines(tmp_path / "b.jsonl.gz", ROWS)), "evaluation").digest,
        load_triplets(triplets(write_parquet(tmp_path / "c.parquet", ROWS)), "evaluation").digest,
    }
    assert len(digests) == 1


def test_short_keys_and_single_texts(tmp_path):
    path = write_lines(tmp_path / "t.jsonl", [{"query": "q", "pos": "p", "neg": ["n"]}])
    assert comparisons(load_triplets(triplets(path), "evaluation")) == [("q", ["p"], ["n"])]


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_records_are_read_by_range(tmp_path, name, monkeypatch):
    monkeypatch.setattr("adiabatic_ray.corpora.record_files.ROWS_PER_BATCH", 3)
    rows = [{"n": number} for number in range(10)]
    path = (write_parquet if name.endswith("parquet") else write_lines)(tmp_path / name, rows)
    assert count_records(path) == 10
    for start, stop in [(0, None), (0, 3), (2, 7), (3, 6), (9, 10), (10, None), (4, 4)]:
        found = list(read_records(path, start, stop))
        assert [record.content["n"] for record in found] == list(range(10))[start:stop]
        assert [record.place.rpartition(" ")[2] for record in found] == [str(n + 1) for n in range(10)[start:stop]]


def test_blank_lines_are_no_records(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"n": 1}\n\n{"n": 2}\n\n', encoding="utf-8")
    assert count_records(path) == 2
    assert [record.place.rpartition(", ")[2] for record in read_records(path)] == ["line 1", "line 3"]


GOOD = json.dumps(ROWS[0])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{not json", "line 2: every line must be one JSON object"),
        ('["a"]', "line 2: every line must be one JSON object, got ['a']"),
        ("\udcff", "line 2: every line must be one JSON object in UTF-8"),
        ('{"positives": ["p"], "negatives": ["n"]}', "line 2: a record needs 'query', got the keys"),
        ('{"query": "q", "negatives": ["n"]}', "line 2: a record needs 'pos' or 'positives'"),
        ('{"query": " ", "positives": ["p"], "negatives": ["n"]}', "line 2: 'query' must not be empty"),
        ('{"query": "q", "positives": [""], "negatives": ["n"]}', "line 2: 'pos or positives' must not be empty"),
        ('{"query": "q", "positives": [], "negatives": ["n"]}', "line 2: 'pos or positives' must be a list of texts"),
        ('{"query": "q", "positives": [3], "negatives": ["n"]}', "line 2: 'pos or positives' must be a text, got 3"),
        ('{"query": "q", "positives": ["p"], "negatives": {"a": 1}}', "line 2: 'neg or negatives' must be a list"),
        ('{"query": "\\ud800", "positives": ["p"], "negatives": ["n"]}', "line 2: 'query' must be valid Unicode"),
        ("[" * 200_000, "line 2: an object may be nested a few levels deep"),
        ('{"query": "q", "pos": ["p"], "positives": ["x"], "neg": "n"}', "line 2: 'pos' and 'positives' mean the same"),
        ('{"query": "q", "pos": ["p"], "neg": "n", "cluster": true}', "line 2: 'cluster' must be a text or an integer"),
        ('{"query": "q", "pos": ["p"], "neg": "n", "id": true}', "line 2: 'id' must be a text or an integer"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, said):
    path = tmp_path / "t.jsonl"
    path.write_bytes(f"{GOOD}\n{line}\n".encode(errors="surrogateescape"))
    with pytest.raises(ValueError) as caught:
        load_triplets(triplets(path), "evaluation")
    assert str(path) in str(caught.value) and said in str(caught.value)


def test_ids_are_unique_in_what_is_read(tmp_path):
    rows = [{**row, "id": identifier} for row, identifier in zip(ROWS, ("a", 2, "c", "2"), strict=True)]
    path = write_lines(tmp_path / "t.jsonl", rows)
    assert len(load_triplets(triplets(path, num_evaluation=3, num_tune=1), "tune").queries) == 1
    with pytest.raises(ValueError) as caught:
        load_triplets(triplets(path), "evaluation")
    assert "line 4: each 'id' may stand once, got '2', which is also that of" in str(caught.value)
    assert str(caught.value).count("t.jsonl, line 2") == 1


@pytest.mark.parametrize("name", ["t.jsonl", "t.parquet"])
def test_clusters_of_triplets(tmp_path, name):
    """They are for tests, so that towers are tuned on the same data with and without them."""
    write = write_parquet if name.endswith("parquet") else write_lines
    plain = triplets(write(tmp_path / f"plain-{name}", ROWS))
    named = [{**row, "cluster": cluster} for row, cluster in zip(ROWS, ("b", "a", "b", "c"), strict=True)]
    clustered = triplets(write(tmp_path / name, named))
    texts = load_triplets(clustered, "evaluation")
    assert texts.cluster_of_query.tolist() == [0, 1, 0, 2]
    assert texts.digest != load_triplets(plain, "evaluation").digest
    sizes = {"num_tune": 3, "num_validation": 1}
    digests = {tuning_digest(*load_tuning(one.model_copy(update=sizes))) for one in (plain, clustered)}
    assert len(digests) == 1


def test_the_same_query_twice_is_one_cluster_unless_the_file_says_otherwise(tmp_path):
    """Where towers are compared; it makes no difference to tuning, nor to the digest of other files."""
    queries = ("q", "r", "q", "Q")
    rows = [{**row, "query": query} for row, query in zip(ROWS, queries, strict=True)]
    plain = triplets(write_lines(tmp_path / "t.jsonl", rows), num_tune=None)
    assert load_triplets(plain, "evaluation").cluster_of_query.tolist() == [0, 1, 0, 2]
    assert not load_triplets(plain.model_copy(update={"num_evaluation": 0}), "tune").shares_clusters
    named = [{**row, "cluster": place} for place, row in enumerate(rows)]
    explicit = load_triplets(triplets(write_lines(tmp_path / "named.jsonl", named)), "evaluation")
    assert not explicit.shares_clusters
    alone = load_triplets(triplets(write_lines(tmp_path / "alone.jsonl", ROWS)), "evaluation")
    assert alone.digest == "2c995843a531c37a8251f35f52df13f530ed05a9fbf9b444150b56a30e5966fb", (
        "as before queries were compared: ids of trials hold it"
    )


@pytest.mark.parametrize(
    ("clusters", "said"),
    [
        ((1, None, 2, 3), "line 2: all records name a cluster or none does; the ones before have a 'cluster', this "),
        (
            (None, None, 0, 3),
            "line 3: all records name a cluster or none does; the ones before have no 'cluster', this ",
        ),
        ((1, 1, 1.5, 2), "line 3: 'cluster' must be a text or an integer, got 1.5; change it"),
    ],
)
def test_clusters_of_triplets_that_are_refused(tmp_path, clusters, said):
    rows = [{**row, "cluster": cluster} for row, cluster in zip(ROWS, clusters, strict=True)]
    with pytest.raises(ValueError) as caught:
        load_triplets(triplets(write_lines(tmp_path / "t.jsonl", rows)), "evaluation")
    assert said in str(caught.value)


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"mine \(.*t.jsonl\): a source needs at least one of the samples, got none"):
        load_triplets(triplets(write_lines(tmp_path / "t.jsonl", [])), "evaluation")


def test_a_bad_row_is_named(tmp_path):
    path = write_parquet(tmp_path / "t.parquet", [ROWS[0], {**ROWS[1], "query": ""}])
    with pytest.raises(ValueError, match=r"t\.parquet, row 2: 'query' must not be empty"):
        load_triplets(triplets(path), "evaluation")


def test_files_that_cannot_be_read(tmp_path):
    whole = gzip.compress((GOOD + "\n").encode() * 2000)
    broken = {
        "cut.jsonl.gz": whole[: len(whole) // 2],
        "plain.jsonl.gz": b'{"query": "q"}\n',
        "other.parquet": b"no parquet",
        "table.csv": b"query,pos,neg\n",
    }
    said = ["cannot be read", "cannot be read", "must be a Parquet file", "the name must end in one of .jsonl"]
    for (name, content), part in zip(broken.items(), said, strict=True):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError) as caught:
            load_triplets(triplets(tmp_path / name), "evaluation")
        assert name in str(caught.value) and part in str(caught.value)


def test_paths(tmp_path, monkeypatch):
    write_lines(tmp_path / "t.jsonl", ROWS)
    monkeypatch.setenv("MY_FOLDER", str(tmp_path))
    monkeypatch.delenv("NO_FOLDER", raising=False)
    assert len(load_triplets(triplets(Path("${MY_FOLDER}/t.jsonl")), "evaluation").queries) == 4
    with pytest.raises(ValueError, match=r"without NO_FOLDER; export NO_FOLDER"):
        load_triplets(triplets(Path("${NO_FOLDER}/t.jsonl")), "evaluation")
    with pytest.raises(ValueError, match=r"a path must exist, got .*none\.jsonl"):
        load_triplets(triplets(tmp_path / "none.jsonl"), "evaluation")
    with pytest.raises(ValueError, match="reads a local file, got no path; set `path`"):
        load_triplets(TripletFile(name="mine"), "evaluation")


def test_a_pinned_source_accepts_its_own_texts_only(tmp_path):
    path = write_lines(tmp_path / "t.jsonl", ROWS)
    source = triplets(path, num_tune=2, num_validation=1, num_evaluation=1)
    tune, validation = load_tuning(source)
    evaluation = load_triplets(source, "evaluation")
    assert validation is not None and tune.queries == ["q0", "q1"] and validation.queries == ["q2"]

    tuned = source.model_copy(update={"digest": tuning_digest(tune, validation)})
    scored = source.model_copy(update={"digest": evaluation.digest})
    assert load_triplets(tuned, "tune").digest == tune.digest
    assert load_triplets(tuned, "validation").digest == validation.digest
    assert load_triplets(scored, "evaluation").digest == evaluation.digest

    changed = [{**row, "query": row["query"].replace("q2", "Q2")} for row in ROWS]
    write_lines(path, changed)  # another validation part
    assert load_triplets(scored, "evaluation").queries == ["q3"]
    for part in ("tune", "validation"):
        with pytest.raises(
            ValueError, match=f"mine: the texts must be those it is pinned to, digest {tuned.digest}, got"
        ):
            load_triplets(tuned, part)


def test_no_validation_part(tmp_path):
    source = triplets(write_lines(tmp_path / "t.jsonl", ROWS), num_tune=3)
    tune, validation = load_tuning(source)
    assert validation is None and tuning_digest(tune, None) != tune.digest
    pinned = source.model_copy(update={"digest": tuning_digest(tune, None)})
    assert load_triplets(pinned, "tune").queries == ["q0", "q1", "q2"]
    with pytest.raises(ValueError, match="raise num_validation"):
        load_triplets(pinned, "validation")


# arXiv -------------------------------------------------------------------------------------------------------------


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


# labelled pairs ----------------------------------------------------------------------------------------------------

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
