"""Secrets of the environment and of addresses: in no file of a results folder, no log, no report, no message."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from planted import Plan, write_planted
from typer.testing import CliRunner

from adiabatic_ray import provenance, results
from adiabatic_ray.on_ray.tracking import Tracker
from jobs.cli import app

CANARY = "canary7f3a"
VARIABLES = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "RAY_AUTH_TOKEN"),
)
NOBODY = f"http://me:{CANARY}@127.0.0.1:9"
"""A tracking server with a password, at a port where nothing answers."""


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder whose sweep and trials were run with secrets around."""
    for name in VARIABLES:
        monkeypatch.setenv(name, f"{CANARY}-{name}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(sys, "argv", ["adiabatic", "sweep", "demo", "--tracking-uri", NOBODY])
    out = tmp_path / "out"
    spec = write_planted(out, Plan({0.0: 0.0, 1e-8: 0.01, 1e-7: -0.04}))
    recorded = provenance.collect()
    results.write_sweep(out, spec.model_dump(mode="json"), results.read_sweep(out)["trial_ids"], recorded)
    for path in (out / "trials").glob("*.parquet"):
        (row,) = pq.read_table(path).to_pylist()
        results.write_table(out, "trials", path.stem, [row | {"provenance_json": json.dumps(recorded)}])
    return out


def content(path: Path) -> str:
    """What a reader of the file can see; Parquet is compressed."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        return f"{table.schema.metadata} {table.to_pylist()}"
    return path.read_bytes().decode("utf-8", errors="replace")


@pytest.mark.slow
def test_no_secret_is_in_any_file_log_or_message(out: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said = []
    for command, exit_code in (
        (("report", out), 0),
        (("sync", out), 0),
        (("sync", out, "--tracking-uri", NOBODY), 2),
    ):
        result = CliRunner().invoke(app, [str(one) for one in command])
        assert result.exit_code == exit_code, result.output
        said.append(result.output)
    assert "http://***@127.0.0.1:9" in said[-1].replace("\n", "")
    tracker = Tracker(out, NOBODY, warn=said.append)
    tracker.open()
    tracker.finish(None)
    assert "MLflow at http://***@127.0.0.1:9 cannot be used" in said[-1]
    files = {path: content(path) for path in out.rglob("*") if path.is_file()}
    assert {".db", ".html", ".md", ".json", ".csv", ".parquet"} <= {path.suffix for path in files}
    assert "http://***@127.0.0.1:9" in files[out / "report" / "report.html"], "the command line is there, redacted"
    assert [path for path, text in files.items() if CANARY in text] == []
    assert not [text for text in said if CANARY in text]
    assert not [record.getMessage() for record in caplog.records if CANARY in record.getMessage()]


def test_no_environment_value_is_recorded(out: Path) -> None:
    assert CANARY not in json.dumps(provenance.collect())
    assert CANARY not in (out / "sweep.json").read_text(encoding="utf-8")
