"""MLflow as a view of a sweep: one parent run, one child per trial, written by a thread of its own.

One process writes: the driver, or `sync`, which catches up after an outage; where they can, they lock each other out.
What they write comes from the Parquet tables, and every metric carries the time stamp that stands there, so writing
twice changes no measure. A trial that was interrupted leaves the points of its first attempt beside those of its
second: same step, same value. If MLflow cannot be reached the sweep goes on and says so once.

A sweep does not wait for MLflow: everything is written in turn by one thread. Epochs that a trial finishes meanwhile
are gathered and written in one batch; those of a trial that has ended not at all, since its tables hold them. So a
trial stands in the queue at most twice, however slow the server is.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # a sweep must not wait minutes for a server that is down
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # two lines for every run that ends
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
from alembic.util import CommandError
from mlflow.entities import Metric, Param, RunTag
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from adiabatic_ray import results
from adiabatic_ray.events import EpochEvent
from adiabatic_ray.folder_lock import HeldError, held
from adiabatic_ray.on_ray.tracking_machine import watch_machine
from adiabatic_ray.on_ray.tracking_measures import final_measures
from adiabatic_ray.on_ray.tracking_words import description, grid_tags, varied_paths
from adiabatic_ray.redaction import without_credentials
from adiabatic_ray.results import ResultsError
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.storage import Location, local_folder, node_folder

TRIAL_TAG, RESULTS_TAG = "adiabatic.trial_id", "adiabatic.results"
_PARENT_TAG, _NAME_TAG, _NOTE_TAG = "mlflow.parentRunId", "mlflow.runName", "mlflow.note.content"
_WRITTEN_NOTE_TAG = "adiabatic.note"
"""Digest of the note as it was written last: one that somebody has changed since stays as it is."""
_PARAMETERS = (
    *("learning_rate", "optimizer", "schedule", "precision", "freeze", "seed", "batch_size", "margin"),
    *("weight_decay", "backbone"),
)
_TIMES = ("queue_s", "load_s", "bank_s", "tune_s", "evaluate_s", "write_s")
_LONG_S = 10.0
"""That the end of a sweep waits for MLflow without a word."""
_MOST_AT_ONCE = 1000
"""Metrics in one of MLflow's requests; of more epochs than that, the last come from the tables."""
_CURVES = ("train_loss", "validation_loss", "validation_errors")
_NO_ANSWER = (mlflow.exceptions.MlflowException, SQLAlchemyError, CommandError, ImportError)
"""From a server, a database that is damaged, one of another release, one whose driver is not installed."""
_RUN_STATUS = {TrialStatus.COMPLETE: "FINISHED", TrialStatus.DIVERGED: "FINISHED", TrialStatus.FAILED: "FAILED"}


def default_uri(out: Location) -> str:
    """SQLite beside the results; of results in an object store in this machine's cache: it needs a local file."""
    return f"sqlite:///{node_folder(out) / 'mlflow.db'}"


class Tracker:
    """Writes one results folder into one MLflow experiment, named after the sweep."""

    def __init__(self, out: Location, uri: str | None = None, warn: Callable[[str], None] | None = None) -> None:
        """Nothing is contacted yet.

        Args:
            out: results folder.
            uri: tracking server or database; none: `default_uri`.
            warn: hears, once, that MLflow cannot be used; none: `adiabatic sync` shall fail loudly instead.
        """
        self._out, self.uri, self._warn = out, uri or default_uri(out), warn
        self._usable = True
        self._runs: dict[str, str] = {}
        self._writer = ThreadPoolExecutor(1, "mlflow")
        self._monitor: SystemMetricsMonitor | None = None
        self._epochs: dict[str, list[Metric]] = {}
        self._epochs_lock = threading.Lock()

    def open(self) -> None:
        """Find or create the parent run of the folder's sweep."""
        self._in_turn(self._open)

    def catch_up(self) -> None:
        """Write finished trials whose runs are missing or not closed: an earlier driver was stopped before it could.

        A run is closed as finished by its last write, so such a run is whole.
        """
        self._in_turn(self._catch_up)

    def watch_machine(self) -> None:
        """Record the use of this machine as system metrics of the parent run, until `finish` or `close`."""
        self._in_turn(self._watch_machine)

    def trial_epoch(self, event: EpochEvent) -> None:
        """Write a running trial's epoch. The same point comes again from Parquet at the end: MLflow keeps one."""
        points = {name: getattr(event, name) for name in _CURVES}
        points_of_epoch = [
            Metric(name, float(value), event.finished_at_ms, event.epoch)
            for name, value in points.items()
            if math.isfinite(value)
        ]
        with self._epochs_lock:
            is_in_queue = event.trial_id in self._epochs
            gathered = self._epochs.setdefault(event.trial_id, [])
            gathered.extend(points_of_epoch[: _MOST_AT_ONCE - len(gathered)])
        if not is_in_queue:
            began_ms = event.finished_at_ms - round(1000 * event.elapsed_s)
            self._in_turn(lambda: self._write_epochs(event.trial_id, began_ms))

    def sync_trial(self, trial_id: str, status: TrialStatus) -> None:
        """Write a finished trial's parameters, curve and final measures from its tables."""
        if status is not TrialStatus.FAILED:
            with self._epochs_lock:
                self._epochs.pop(trial_id, None)
        self._in_turn(lambda: self._write_trial(trial_id, status))

    def finish(self, report: Location | None, tell: Callable[[str], None] | None = None) -> None:
        """Close the parent run; returns when everything is written, however long that takes.

        Args:
            report: folder whose files are attached to the run.
            tell: hears that it takes long.
        """
        self._in_turn(lambda: self._finish(report))
        try:
            last = self._writer.submit(lambda: None)
            if tell is not None and wait([last], timeout=_LONG_S).not_done:
                tell(
                    f"writing the rest into MLflow at {without_credentials(self.uri)} (or ctrl-C, and `adiabatic sync "
                    f"{self._out}` later)"
                )
            wait([last])
        finally:
            self.close()

    def close(self) -> None:
        """Of a sweep that was interrupted: what still waits to be written is left to `catch_up`."""
        self._usable = False
        self._writer.submit(self._stop_watching)
        self._writer.shutdown(wait=False)

    def _in_turn(self, write: Callable[[], object]) -> None:
        if self._warn is None:
            write()
        else:
            self._writer.submit(self._guarded, write, self._warn)

    def _guarded(self, write: Callable[[], object], warn: Callable[[str], None]) -> None:
        if not self._usable:
            return
        try:
            write()
        except Exception as error:
            if not self._usable:  # the sweep was interrupted meanwhile: what failed is left to the next writer
                return
            self._usable = False
            warn(
                f"MLflow at {without_credentials(self.uri)} cannot be used ({type(error).__name__}: "
                f"{_first_line(error):.200}); the sweep goes on, its results are in Parquet. When it has ended and "
                f"MLflow is back: adiabatic sync {self._out}"
            )

    def _open(self) -> None:
        sweep = results.read_sweep(self._out)
        for chatty in ("alembic", "mlflow"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        self._client = MlflowClient(self.uri)
        name = sweep["spec"]["name"]
        experiment = self._client.get_experiment_by_name(name)
        artifacts = (
            None
            if "://" in self.uri and not self.uri.startswith("sqlite")
            else (node_folder(self._out) / "mlflow").as_uri()
        )
        self._experiment = experiment.experiment_id if experiment else self._client.create_experiment(name, artifacts)
        self._varied = varied_paths(sweep["spec"])
        place = str(self._out.resolve())
        parents = self._search(f"tags.`{RESULTS_TAG}` = '{place}'")
        if parents:
            self._parent = parents[0].info.run_id
            self._client.update_run(self._parent, status="RUNNING")
        else:
            tags = {RESULTS_TAG: place, _NAME_TAG: name} | _note(description(sweep))
            self._parent = self._client.create_run(self._experiment, tags=tags).info.run_id
            spec = sweep["spec"]
            parameters = {"num_trials": len(sweep["trial_ids"]), "backbone": spec["trial"]["backbone"]["name"]}
            parameters |= {f"grid.{path}": json.dumps(values) for path, values in spec["grid"].items()}
            self._client.log_batch(
                self._parent, params=[Param(key, str(value)[:6000]) for key, value in parameters.items()]
            )
        children = self._search(f"tags.`{_PARENT_TAG}` = '{self._parent}'")
        trials = {run.data.tags[TRIAL_TAG]: run.info for run in children if TRIAL_TAG in run.data.tags}
        self._runs = {trial_id: info.run_id for trial_id, info in trials.items()}
        self._closed = {trial_id for trial_id, info in trials.items() if info.status == "FINISHED"}

    def _catch_up(self) -> None:
        for trial_id, status in results.finished_trials(self._out).items():
            if not self._usable:  # the sweep was interrupted
                return
            if trial_id not in self._closed:
                self._write_trial(trial_id, status)

    def _write_epochs(self, trial_id: str, began_ms: int) -> None:
        with self._epochs_lock:
            points = self._epochs.pop(trial_id, [])
        if points:
            self._client.log_batch(self._run_of(trial_id, began_ms), metrics=points)

    def _search(self, condition: str) -> list[Any]:
        found: list[Any] = []
        token: str | None = None
        while True:
            page = self._client.search_runs([self._experiment], condition, max_results=1000, page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                return found

    def _run_of(self, trial_id: str, started_ms: int | None = None) -> str:
        if trial_id not in self._runs:
            tags = {TRIAL_TAG: trial_id, _PARENT_TAG: self._parent, _NAME_TAG: trial_id}
            self._runs[trial_id] = self._client.create_run(self._experiment, started_ms, tags).info.run_id
        return self._runs[trial_id]

    def _write_trial(self, trial_id: str, status: TrialStatus) -> None:
        """Whenever it is written, the run ends when the trial did. It is closed last, since it is whole then."""
        if status is TrialStatus.FAILED:
            run_id, finished_ms = self._run_of(trial_id), None
            self._client.set_tag(run_id, "status", status.value)
        else:
            (row,) = results.read_table(self._out, "trials", [trial_id]).to_pylist()
            run_id = self._run_of(trial_id, _milliseconds(row["started_at"]))
            finished_ms = _milliseconds(row["finished_at"])
            measures = {name: row[name] for name in ("num_epochs", "kept_epoch", "peak_memory_bytes")}
            measures |= {f"time/{name}": row[name] for name in _TIMES}
            if status is TrialStatus.COMPLETE:
                measures |= final_measures(self._out, trial_id)
            logged = _curve_metrics(self._out, trial_id)
            logged += [
                Metric(name, float(value), finished_ms, row["num_epochs"])
                for name, value in measures.items()
                if math.isfinite(value)
            ]
            for start in range(0, len(logged), _MOST_AT_ONCE):
                self._client.log_batch(run_id, metrics=logged[start : start + _MOST_AT_ONCE])
            tags = {"status": status.value} | grid_tags(self._varied, json.loads(row["spec_json"]))
            self._client.log_batch(
                run_id,
                params=[Param(name, str(row[name])) for name in _PARAMETERS],
                tags=[RunTag(*tag) for tag in tags.items()],
            )
        self._client.set_terminated(run_id, _RUN_STATUS[status], finished_ms)

    def _watch_machine(self) -> None:
        self._monitor = watch_machine(self._parent, self.uri)

    def _stop_watching(self) -> None:
        if self._monitor is not None:
            self._monitor.finish()  # type: ignore[no-untyped-call]

    def _finish(self, report: Location | None) -> None:
        self._stop_watching()
        if report is not None:
            with local_folder(report) as files:
                self._check_artifacts(files)
                self._write_note(results.read_answers(files))
                self._client.log_artifacts(self._parent, str(files), "report")
        self._client.set_terminated(self._parent)

    def _write_note(self, answers: list[str]) -> None:
        before = self._client.get_run(self._parent).data.tags
        if _note(before.get(_NOTE_TAG, ""))[_WRITTEN_NOTE_TAG] == before.get(_WRITTEN_NOTE_TAG):
            tags = _note(description(results.read_sweep(self._out), answers))
            self._client.log_batch(self._parent, tags=[RunTag(*tag) for tag in tags.items()])

    def _check_artifacts(self, report: Path) -> None:
        """Nothing is copied to where only a database that came with the results says, nor what a link points to."""
        if links := [str(path) for path in (report, *report.rglob("*")) if path.is_symlink()]:
            raise ResultsError(f"a report holds files of its own, got the link {links[0]}; remove it")
        folder = (node_folder(self._out) / "mlflow").as_uri()
        target = self._client.get_run(self._parent).info.artifact_uri
        if self.uri == default_uri(self._out) and (not target.startswith(f"{folder}/") or ".." in target):
            raise ResultsError(
                f"MLflow beside the results keeps the report below {folder}, got {target}: its database was made "
                f"elsewhere; delete {self._out / 'mlflow.db'} and run adiabatic sync {self._out}"
            )


def sync(out: Location, uri: str | None) -> int:
    """Write everything that a results folder holds into MLflow; safe to repeat.

    Returns:
        Number of trials written.

    Raises:
        ValueError: no results there, somebody else who writes them to MLflow now, MLflow cannot be reached, or the
            report would be copied to or from elsewhere.
    """
    try:
        with _held_for_sync(out):
            return _sync(out, uri)
    except HeldError as error:
        raise ResultsError(
            f"MLflow has one writer at a time, got {out}, which {error} holds; run this when that has ended"
        ) from None


def _held_for_sync(out: Location) -> AbstractContextManager[None]:
    """Nobody begins beside it. A folder that this user can't write is nobody's to hold; a bucket has no locks."""
    if not isinstance(out, Path) or not os.access(out, os.W_OK):
        return nullcontext()
    name = f"adiabatic sync, process {os.getpid()} on {socket.gethostname()}"
    return held(out, name, logging.getLogger(__name__).warning)


def _sync(out: Location, uri: str | None) -> int:
    finished = results.finished_trials(out)
    failed = dict.fromkeys(results.failed_trials(out), TrialStatus.FAILED)
    tracker = Tracker(out, uri)
    report = out / "report"
    try:
        tracker.open()
        for trial_id, status in (finished | failed).items():
            tracker.sync_trial(trial_id, status)
        tracker.finish(report if report.is_dir() else None)
    except _NO_ANSWER as error:
        raise ValueError(
            f"MLflow must answer at {without_credentials(tracker.uri)}, got {_first_line(error):.300}; start the "
            "server, mend the database, or give another --tracking-uri"
        ) from error
    return len(finished) + len(failed)


def _note(text: str) -> dict[str, str]:
    """Tags of a run with this note."""
    return {_NOTE_TAG: text, _WRITTEN_NOTE_TAG: hashlib.sha256(text.encode()).hexdigest()[:16]}


def _curve_metrics(out: Location, trial_id: str) -> list[Metric]:
    rows = results.read_table(out, "curves", [trial_id]).to_pylist()
    return [
        Metric(name, float(row[name]), _milliseconds(row["finished_at"]), row["epoch"])
        for row in rows
        for name in _CURVES
        if math.isfinite(row[name])
    ]


def _first_line(error: Exception) -> str:
    return without_credentials(next(iter(str(error).splitlines()), "no message"))


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
