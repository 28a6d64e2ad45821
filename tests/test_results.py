"""Tables: whole or absent, typed, documented, versioned."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from adiabatic_ray import results
from adiabatic_ray.results import ResultsError
from adiabatic_ray.schemas import ADDED, TABLES, TrialStatus

CURVE = {
    "trial_id": "t",
    "epoch": 0,
    "num_steps": 0,
    "train_loss": float("nan"),
    "validation_loss": 1 / 3,
    "validation_errors": 2,
    "num_validation": 9,
    "improved": True,
    "elapsed_s": 0.1,
    "finished_at": None,
}


def test_every_column_has_a_unit_and_a_meaning() -> None:
    for table, schema in TABLES.items():
        for field in schema:
            assert field.metadata[b"unit"] and field.metadata[b"meaning"], f"{table}.{field.name}"


def test_numbers_come_back_unrounded(tmp_path: Path) -> None:
    results.write_table(tmp_path, "curves", "t", [CURVE])
    (row,) = results.read_table(tmp_path, "curves").to_pylist()
    assert row["validation_loss"] == 1 / 3 and np.isnan(row["train_loss"])


def test_the_file_carries_its_documentation(tmp_path: Path) -> None:
    path = results.write_table(tmp_path, "curves", "t", [CURVE])
    field = pq.read_schema(path).field("validation_errors")
    assert field.metadata[b"unit"] == b"triplets"


def test_rows_with_other_columns_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="rows need exactly"):
        results.write_table(tmp_path, "curves", "t", [CURVE | {"extra": 1}])
    assert not list(tmp_path.rglob("*.*"))


def test_a_failed_write_keeps_the_old_file_and_no_leftover(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = results.write_table(tmp_path, "curves", "t", [CURVE])
    before = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        results.write_table(tmp_path, "curves", "t", [CURVE | {"epoch": 5}])
    assert path.read_bytes() == before
    assert [file.name for file in (tmp_path / "curves").iterdir()] == ["t.parquet"]


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = results.write_table(tmp_path, "curves", "t", [CURVE])
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"schema_version": "99"}), path)
    with pytest.raises(ResultsError, match="must have schema version 5 or 6, got 99"):
        results.read_table(tmp_path, "curves")


def test_a_table_of_the_version_before_is_read_without_what_came_later(tmp_path: Path) -> None:
    row = dict.fromkeys(TABLES["trials"].names) | {"trial_id": "a", "status": "COMPLETE", "tune_s": 3.0, "load_s": 1.0}
    path = results.write_table(tmp_path, "trials", "a", [row])
    table = pq.read_table(path)
    older = {**(table.schema.metadata or {}), b"schema_version": b"5"}
    pq.write_table(table.drop_columns(list(ADDED[6]["trials"])).replace_schema_metadata(older), path)
    (found,) = results.read_table(tmp_path, "trials", ["a"], ["status", "load_s", "tune_s"]).to_pylist()
    assert math.isnan(found.pop("load_s")) and found == {"status": "COMPLETE", "tune_s": 3.0}
    assert results.read_table(tmp_path, "trials").schema.names == TABLES["trials"].names
    pq.write_table(table.drop_columns(["load_s", "tune_s"]).replace_schema_metadata(older), path)
    with pytest.raises(ResultsError, match=r"got none of \['tune_s'\]"):
        results.read_table(tmp_path, "trials")


def test_a_sweep_of_another_version_is_refused(tmp_path: Path) -> None:
    results.write_sweep(tmp_path, {"name": "s"}, ["a"], {})
    content = json.loads((tmp_path / "sweep.json").read_text()) | {"schema_version": 0}
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    with pytest.raises(ResultsError, match="schema version"):
        results.read_sweep(tmp_path)


def test_a_damaged_sweep_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"spec": ')
    with pytest.raises(ResultsError, match=r"sweep\.json must be JSON"):
        results.read_sweep(tmp_path)


def test_a_folder_without_a_sweep_says_so(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"holds sweep\.json, got none"):
        results.read_sweep(tmp_path)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves" / "t.parquet").write_bytes(b"half a file")
    with pytest.raises(ResultsError, match=r"t\.parquet must be a Parquet file"):
        results.read_table(tmp_path, "curves")


def test_failed_trials_are_those_that_did_not_finish_later(tmp_path: Path) -> None:
    for trial_id in ("a", "b"):
        results.write_json(tmp_path / "failures" / f"{trial_id}.json", {"trial_id": trial_id})
    row = dict.fromkeys(TABLES["trials"].names) | {"trial_id": "a", "status": "COMPLETE"}
    results.write_table(tmp_path, "trials", "a", [row])
    assert results.finished_trials(tmp_path) == {"a": TrialStatus.COMPLETE}
    assert list(results.failed_trials(tmp_path)) == ["b"]
