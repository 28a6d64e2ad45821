"""`adiabatic status`: how far a sweep is, from its files or from the cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from adiabatic_ray import results
from adiabatic_ray.folder_lock import held
from adiabatic_ray.schemas import TABLES
from jobs.cli import app
from jobs.sweep_status import busy_seconds, read_status, span, status_lines
from tests.job_server import JobServer, details, serving

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


def finish(out: Path, trial_id: str, status: str, started: float, ended: float) -> None:
    """Write a trial's row; started and ended in minutes."""
    empty = {"string": "", "double": 0.0, "int64": 0}
    row = {
        name: empty.get(str(kind)) for name, kind in zip(TABLES["trials"].names, TABLES["trials"].types, strict=True)
    }
    row |= {"trial_id": trial_id, "status": status, "started_at": at(started), "finished_at": at(ended)}
    results.write_table(out, "trials", trial_id, [row])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Eight trials: a, b side by side, c diverged hours later, d failed, four are left; `old` was taken out."""
    results.write_sweep(tmp_path, {"name": "ours"}, list("abcdefgh"), {})
    finish(tmp_path, "a", "COMPLETE", 0, 10)
    finish(tmp_path, "b", "COMPLETE", 5, 20)
    finish(tmp_path, "c", "DIVERGED", 500, 510)
    finish(tmp_path, "old", "COMPLETE", -1000, 1000)
    for trial_id, error in (("d", "Traceback:\n  line 3\nOSError: disk full\n"), ("old2", "x"), ("a", "first attempt")):
        results.write_json(tmp_path / "failures" / f"{trial_id}.json", {"error": error})
    return tmp_path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["status", *(str(one) for one in arguments)], env={"COLUMNS": "200"})


def test_trials_are_counted_by_how_they_ended(out: Path) -> None:
    status = read_status(out)
    assert (status.num_trials, status.num_complete, status.num_diverged, status.num_left) == (8, 2, 1, 4)
    assert status.failed == {"d": "OSError: disk full"}
    assert status.last_finished_at == at(510)


def test_the_rate_leaves_pauses_out_and_the_rest_follows_from_it(out: Path) -> None:
    """Under way from minute 0 to 20 and 500 to 510: 3 trials in half an hour, so 4 take 40 minutes."""
    status = read_status(out)
    assert status.busy_s == 30 * 60
    assert status.trials_per_hour == pytest.approx(6)
    assert status.eta_s == pytest.approx(40 * 60)


def test_lines_say_all_of_it(out: Path) -> None:
    assert status_lines(read_status(out), at(513)) == [
        "ours: 3 of 8 trials done (1 of them diverged), 4 running or missing, 1 failed",
        "last finished: 2026-11-01 20:30:00 UTC, 3 min ago",
        "rate: 6 trials an hour while any was under way; 40 min left at that rate, if it is running",
        "d FAILED: OSError: disk full",
    ]


def test_before_the_first_trial_has_finished_there_is_no_rate(tmp_path: Path) -> None:
    results.write_sweep(tmp_path, {"name": "ours"}, ["a"], {})
    assert status_lines(read_status(tmp_path), at(0)) == ["ours: 0 of 1 trials done, 1 running or missing, 0 failed"]
    assert json.loads(run(tmp_path, "--json").output)["eta_s"] is None


def test_json_holds_the_same(out: Path) -> None:
    assert json.loads(run(out, "--json").output) == {
        "sweep": "ours",
        "trials": 8,
        "complete": 2,
        "diverged": 1,
        "failed": {"d": "OSError: disk full"},
        "running_or_missing": 4,
        "trials_per_hour": pytest.approx(6),
        "eta_s": pytest.approx(2400),
        "last_finished_at": "2026-11-01T20:30:00+00:00",
        "driver": None,
    }


def test_whoever_runs_it_is_named_for_as_long_as_it_runs(out: Path) -> None:
    with held(out, "process 7 on gpu-3, since noon", pytest.fail):
        lines = status_lines(read_status(out), at(513))
        assert lines[2].endswith("40 min left at that rate") and lines[3] == "run by process 7 on gpu-3, since noon"
    assert read_status(out).driver is None


def test_clocks_that_jump_neither_cost_time_nor_give_it_back(out: Path) -> None:
    """A clock that was set back by hours while a trial ran, and one that runs ahead of this machine's."""
    finish(out, "e", "COMPLETE", 505, 100)
    status = read_status(out)
    assert status.busy_s == 30 * 60 and status.eta_s == pytest.approx(3 / 4 * 30 * 60)
    assert status_lines(status, at(0))[1].endswith("UTC, by a clock ahead of this machine's")


def test_the_command_prints_the_lines(out: Path) -> None:
    result = run(out)
    assert result.exit_code == 0 and "3 of 8 trials done" in result.output and "d FAILED" in result.output


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8))
def test_busy_seconds_is_the_length_of_the_union(ends: list[tuple[int, int]]) -> None:
    """Against counting: a minute is busy when some span covers it; one that ends before it begins covers none."""
    spans = ends
    covered = {minute for start, end in spans for minute in range(start, end)}
    assert busy_seconds((at(start), at(end)) for start, end in spans) == 60 * len(covered)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (600, "10 min"), (5399, "90 min"), (9000, "2.5 h")]
)
def test_spans_are_short_words(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_what_is_neither_a_folder_nor_a_job_is_refused(tmp_path: Path) -> None:
    for arguments, words in (
        ((tmp_path / "nowhere",), "or a job id with --address"),
        ((tmp_path,), "sweep.json"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and words in result.output.replace("\n", " ") and "Traceback" not in result.output


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JobServer]:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-the-cluster")
    with serving() as found:
        yield found


def test_a_job_s_state_and_the_ends_of_its_message(server: JobServer) -> None:
    start_ms = int(START.timestamp() * 1000)
    server.jobs["ours-1"] = details(
        "ours-1",
        "FAILED",
        driver_exit_code=2,
        message="failed with exit code 2, last available logs:\nfirst\nmiddle\nerror: no such file\n",
        start_time=start_ms,
        end_time=start_ms + 600_000,
        metadata={"sweep": "ours", "out": "/shared/ours"},
        runtime_env={"env_vars": {"MLFLOW_TRACKING_URI": "http://inner"}},
    )
    result = run("ours-1", "--address", server.address)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        "ours-1 FAILED, exit code 2, 10 min since 2026-11-01 12:00:00 UTC",
        "failed with exit code 2, last available logs:",
        "error: no such file",
        "trials: adiabatic status /shared/ours   (where that folder is seen)",
    ]
    told = json.loads(run("ours-1", "--address", server.address, "--json").output)
    assert (told["status"], told["exit_code"], told["ended_at"]) == ("FAILED", 2, "2026-11-01T12:10:00+00:00")
    assert "runtime_env" not in told and told["message"].count("\n") == 4


def test_a_folder_of_the_job_s_name_does_not_matter_once_there_is_an_address(
    server: JobServer, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(out.parent)
    server.jobs[out.name] = details(out.name, "RUNNING")
    assert run(out.name, "--address", server.address).output.startswith(f"{out.name} RUNNING")
    assert "3 of 8 trials done" in run(out.name).output
