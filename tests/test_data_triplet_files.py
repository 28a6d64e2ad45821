"""A user's own triplets: what is read, and what is said when it can't be."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from adiabatic_ray.corpora.data import load_triplets, load_tuning, tuning_digest
from adiabatic_ray.sources import TripletFile
from tests.record_rows import comparisons, write_lines, write_parquet

ROWS = [
    {"query": "q0", "positives": ["p0", "p0b"], "negatives": ["n0", "n0b", "n0c"]},
    {"query": "q1", "positives": ["p1"], "negatives": ["n1"]},
    {"query": "q2", "positives": ["p2"], "negatives": ["n2", "p0"]},
    {"query": "q3", "positives": ["p3", "p3b"], "negatives": ["n3", "n3b"]},
]


def triplets(path: Path, **sizes: int | None) -> TripletFile:
    return TripletFile(name="mine", path=str(path), **sizes)


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
