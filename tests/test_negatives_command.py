"""`adiabatic data arxiv-negatives`: the file that it writes, with and without Ray, and what it refuses."""

from __future__ import annotations

import functools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from adiabatic_ray.corpora.arxiv_negatives import shards
from adiabatic_ray.corpora.arxiv_papers import read_corpus
from adiabatic_ray.corpora.data import load_triplets
from adiabatic_ray.sources import ArxivTriplets
from jobs.cli import app
from tests.arxiv_records import by_id, generated
from tests.record_rows import write_lines


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["data", "arxiv-negatives", *map(str, arguments)], env={"COLUMNS": "200"})


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output.replace("\n", " "), result.output


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "papers.jsonl", generated(60))


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
