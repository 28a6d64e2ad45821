"""MLflow's view of a sweep: nobody waits for it, epochs go in batches, what it is told in words."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from adiabatic_ray.events import EpochEvent
from adiabatic_ray.folder_lock import driver_of, held
from adiabatic_ray.on_ray import tracking, tracking_machine
from adiabatic_ray.on_ray.tracking import TRIAL_TAG, Tracker, default_uri, sync
from adiabatic_ray.on_ray.tracking_words import grid_tags, varied_paths
from adiabatic_ray.results import finished_trials, read_sweep, read_table
from adiabatic_ray.schemas import TrialStatus
from tests.planted import Plan, write_planted

NUM_EPOCHS = 7


def epoch(trial_id: str, number: int) -> EpochEvent:
    return EpochEvent(trial_id, number, 0.5, 1 / (1 + number), 10 - number, 1.0, 1000 + number)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Two finished trials."""
    write_planted(tmp_path, Plan({1e-8: 0.1, 1e-7: 0.2}))
    return tmp_path


class SlowServer:
    """Holds every `log_batch` until it is let go; what came then."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[tuple[str, int]]]] = []
        self.asked, self.go_on = threading.Event(), threading.Event()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowServer]:
    server, real = SlowServer(), MlflowClient.log_batch

    def log_batch(client: MlflowClient, run_id: str, metrics: Sequence[Metric] = (), **more: Any) -> None:
        server.asked.set()
        assert server.go_on.wait(60)
        server.batches.append((run_id, [(one.key, one.step) for one in metrics]))
        real(client, run_id, metrics, **more)

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    yield server
    server.go_on.set()


def test_nobody_waits_and_epochs_go_in_one_batch(out: Path, slow: SlowServer) -> None:
    """The server has not even answered to the parent run while the epochs are finished."""
    tracker = Tracker(out, warn=pytest.fail)
    tracker.open()
    assert slow.asked.wait(60)
    for number in range(NUM_EPOCHS):
        tracker.trial_epoch(epoch("running", number))
    assert not slow.batches
    slow.go_on.set()
    tracker.finish(None)
    _, (_, points) = slow.batches
    assert [step for key, step in points if key == "validation_loss"] == list(range(NUM_EPOCHS))


def test_a_finished_trial_is_written_from_its_tables_alone(out: Path, slow: SlowServer) -> None:
    tracker = Tracker(out, warn=pytest.fail)
    tracker.open()
    trial_id, status = next(iter(finished_trials(out).items()))
    tracker.trial_epoch(epoch(trial_id, 0))
    tracker.sync_trial(trial_id, status)
    slow.go_on.set()
    tracker.finish(None)
    client = MlflowClient(default_uri(out))
    (run,) = runs(out)
    assert run.info.status == "FINISHED" and run.data.tags["status"] == "COMPLETE"
    times = [point.timestamp for point in client.get_metric_history(run.info.run_id, "validation_loss")]
    assert times and epoch(trial_id, 0).finished_at_ms not in times


def test_a_failed_trial_keeps_the_epochs_that_it_had(out: Path) -> None:
    tracker = Tracker(out, warn=pytest.fail)
    tracker.open()
    tracker.trial_epoch(epoch("lost", 0))
    tracker.trial_epoch(epoch("lost", 1))
    tracker.sync_trial("lost", TrialStatus.FAILED)
    tracker.finish(None)
    (run,) = runs(out)
    history = MlflowClient(default_uri(out)).get_metric_history(run.info.run_id, "validation_loss")
    assert sorted(point.step for point in history) == [0, 1] and run.info.status == "FAILED"


def test_what_an_interrupted_sweep_left_unwritten_comes_with_the_next(out: Path, slow: SlowServer) -> None:
    finished = finished_trials(out)
    tracker = Tracker(out, warn=pytest.fail)
    tracker.open()
    for trial_id, status in finished.items():
        tracker.sync_trial(trial_id, status)
    assert slow.asked.wait(60)
    tracker.close()
    slow.go_on.set()
    again = Tracker(out, warn=pytest.fail)
    again.open()
    again.catch_up()
    again.finish(None)
    assert {run.data.tags[TRIAL_TAG]: run.info.status for run in runs(out)} == dict.fromkeys(finished, "FINISHED")


def test_a_long_end_is_told_and_can_be_cut_short(out: Path, slow: SlowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C comes while the first of two trials is written: the second is left to the next writer."""
    monkeypatch.setattr(tracking, "_LONG_S", 0.01)
    said: list[str] = []

    def tell(text: str) -> None:
        said.append(text)
        raise KeyboardInterrupt

    tracker = Tracker(out, warn=pytest.fail)
    slow.go_on.set()
    tracker.open()
    tracker._writer.submit(slow.go_on.clear).result(60)
    slow.asked.clear()
    tracker.catch_up()
    assert slow.asked.wait(60)
    with pytest.raises(KeyboardInterrupt):
        tracker.finish(None, tell)
    assert len(said) == 1 and f"(or ctrl-C, and `adiabatic sync {out}` later)" in said[0]
    slow.go_on.set()
    tracker._writer.shutdown()
    assert len(runs(out)) == 1


def test_mlflow_is_not_written_beside_a_driver(out: Path) -> None:
    with (
        held(out, "process 7", pytest.fail),
        pytest.raises(ValueError, match=r"one writer at a time, .*which process 7 holds; .* when that has ended"),
    ):
        sync(out, None)
    assert sync(out, None) == 2
    assert driver_of(out).startswith("adiabatic sync, process ")


def test_one_warning_and_nothing_more_is_tried(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    tried: list[str] = []

    def fail(_: MlflowClient, run_id: str, **more: Any) -> None:
        tried.append(run_id)
        raise ConnectionError("gone")

    tracker = Tracker(out, warn=said.append)
    tracker.open()
    monkeypatch.setattr(MlflowClient, "log_batch", fail)
    for number in range(3):
        tracker.trial_epoch(epoch(str(number), 0))
    tracker.finish(None)
    assert len(said) == len(tried) == 1
    assert "ConnectionError: gone" in said[0] and f"adiabatic sync {out}" in said[0]


def test_system_metrics_stop_with_the_sweep(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking_machine, "EVERY_S", 0.05)
    recorded = threading.Event()
    real = MlflowClient.log_batch

    def log_batch(client: MlflowClient, run_id: str, metrics: Sequence[Metric] = (), **more: Any) -> None:
        real(client, run_id, metrics, **more)
        if any(one.key.startswith("system/") for one in metrics):
            recorded.set()

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    tracker = Tracker(out, warn=pytest.fail)
    tracker.open()
    tracker.watch_machine()
    assert recorded.wait(60)
    tracker.finish(None)
    assert "SystemMetricsMonitor" not in [thread.name for thread in threading.enumerate()]
    assert parent(out).data.metrics["system/cpu_utilization_percentage"] >= 0
    again = Tracker(out, warn=pytest.fail)
    again.open()
    recorded.clear()
    again.watch_machine()
    assert recorded.wait(60)
    again.close()
    for thread in threading.enumerate():
        if thread.name == "SystemMetricsMonitor":
            thread.join(60)
            assert not thread.is_alive()


def test_a_run_begins_and_ends_with_its_trial_whenever_it_is_written(out: Path) -> None:
    """Of failed trials nothing is known but that they failed."""
    for _ in range(2):
        sync(out, None)
        for run in runs(out):
            (row,) = read_table(out, "trials", [run.data.tags[TRIAL_TAG]]).to_pylist()
            begin, end = (int(1000 * row[name].timestamp()) for name in ("started_at", "finished_at"))
            assert (run.info.start_time, run.info.end_time) == (begin, end)


def test_trials_are_tagged_by_what_varies(out: Path) -> None:
    assert sync(out, None) == 2
    tags = [run.data.tags for run in runs(out)]
    assert sorted(tag["grid.tuning.learning_rate"] for tag in tags) == ["1e-07", "1e-08"]
    assert not [name for tag in tags for name in tag if name.startswith("grid.") and "learning_rate" not in name]
    note = parent(out).data.tags["mlflow.note.content"]
    assert "`grid.tuning.learning_rate`, 2 values: `1e-08, 1e-07`" in note


def test_the_note_gains_the_answer_and_stays_as_somebody_changed_it(out: Path) -> None:
    sync(out, None)
    assert "holds up to" not in parent(out).data.tags["mlflow.note.content"]
    (out / "report").mkdir()
    boundaries = out / "report" / "boundary.json"
    boundaries.write_text(
        json.dumps({"boundaries": [{"sentence": f"Quality holds up to {n}e-8."} for n in range(1, 8)]})
    )
    sync(out, None)
    question, *rest = parent(out).data.tags["mlflow.note.content"].split("\n\n")
    assert question == read_sweep(out)["spec"]["question"]
    assert rest[:5] == [f"Quality holds up to {n}e-8." for n in range(1, 6)]
    assert rest[5] == "2 more are in the report."
    MlflowClient(default_uri(out)).set_tag(parent(out).info.run_id, "mlflow.note.content", "Mine.")
    sync(out, None)
    assert parent(out).data.tags["mlflow.note.content"] == "Mine."


@pytest.mark.parametrize("content", ['{"boundaries": [{}]}', '{"boundaries": 3}', "{}", "[", "[]"])
def test_a_report_without_sentences_is_refused(out: Path, content: str) -> None:
    (out / "report").mkdir()
    (out / "report" / "boundary.json").write_text(content)
    with pytest.raises(ValueError, match=r"boundary\.json must .*adiabatic report"):
        sync(out, None)


def test_a_database_that_is_none_or_of_another_mlflow(out: Path) -> None:
    (out / "mlflow.db").write_text("no database, whatever its name says")
    with pytest.raises(ValueError, match=r"MLflow must answer at sqlite:///.*not a database; .*mend the database"):
        sync(out, None)
    with closing(sqlite3.connect(out / "other.db")) as other, other:
        other.execute("create table alembic_version (version_num text)")
        other.execute("insert into alembic_version values ('deadbeef')")
    with pytest.raises(ValueError, match=r"MLflow must answer at .*revision identified by 'deadbeef'; "):
        sync(out, f"sqlite:///{out / 'other.db'}")


def test_a_database_whose_driver_is_not_installed_keeps_its_password(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("psycopg", "psycopg2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"at postgresql://\*\*\*@127.0.0.1:1/x, got .*psycopg"):
        sync(out, "postgresql://someone:secret@127.0.0.1:1/x")


def test_axes_points_and_what_a_search_chooses_vary() -> None:
    assert varied_paths({"grid": {"a": [1], "b": [1, 2]}}) == ["b"]
    assert varied_paths({"grid": {"a": [1]}, "points": [{"a": 2}, {"c.0": 3}]}) == ["a", "c.0"]
    assert varied_paths({"grid": {}, "search": {"budget": 3}}) == ["tuning.learning_rate", "tuning.seed"]


def test_tags_are_read_from_lists_and_left_out_where_there_is_no_such_field() -> None:
    trial = {"evaluation": {"sets": [{"name": "x", "languages": ["en", "de"]}]}, "freeze": "emb"}
    paths = ["evaluation.sets.0.languages", "freeze", "freeze.x", "evaluation.sets.1", "gone", "evaluation.sets.name"]
    assert grid_tags(paths, trial) == {"grid.evaluation.sets.0.languages": '["en", "de"]', "grid.freeze": "emb"}


def runs(out: Path) -> list[Any]:
    """The trials' runs."""
    return [run for run in _all_runs(out) if TRIAL_TAG in run.data.tags]


def parent(out: Path) -> Any:
    (found,) = (run for run in _all_runs(out) if TRIAL_TAG not in run.data.tags)
    return found


def _all_runs(out: Path) -> list[Any]:
    client = MlflowClient(default_uri(out))
    return list(client.search_runs([one.experiment_id for one in client.search_experiments()]))
