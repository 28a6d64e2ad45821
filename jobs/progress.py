"""Progress of a sweep: a live line on a terminal, plain lines of sensible number in a log file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from adiabatic_ray.events import EpochEvent
from adiabatic_ray.schemas import TrialStatus

if TYPE_CHECKING:  # it imports mlflow, which only a sweep needs
    from adiabatic_ray.on_ray.tracking import Tracker

LOG_EVERY_S = 15.0
"""Least time between two lines about the same thing where the output is no terminal."""


class StageProgress:
    """Listener that shows preparation and scoring."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = console.is_terminal
        self._last_line_s: dict[str, float] = {}
        what, done, note = (
            TextColumn(text, markup=False)
            for text in ("{task.description}", "{task.completed:.0f}/{task.total:.0f}", "{task.fields[note]}")
        )
        self._bars = Progress(what, BarColumn(24), done, TimeElapsedColumn(), note, console=console)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._bars.stop()

    def stage(self, text: str) -> None:
        """A step of the preparation begins."""
        self._say(f"{text} ...")

    def counted(self, what: str, done: int, total: int) -> None:
        """So much of a step is done; a step that starts again (another bank) starts a bar of its own."""
        if self._live:
            if what not in self._tasks or self._bars.tasks[self._tasks[what]].total != total:
                self._tasks[what] = self._bars.add_task(what, total=total, note="")
            self._bars.update(self._tasks[what], completed=done)
        elif done == total or self._is_due(what):
            self._say(f"{what}: {done:,} of {total:,}")

    def _say(self, line: str) -> None:
        """One line, never wrapped; with the time of day where nobody watches."""
        stamp = "" if self._live else f"{time.strftime('%H:%M:%S')} "
        self._console.print(f"{stamp}{line}", soft_wrap=True, markup=False, highlight=False)

    def _is_due(self, what: str) -> bool:
        now_s = time.monotonic()
        if now_s - self._last_line_s.get(what, -LOG_EVERY_S) < LOG_EVERY_S:
            return False
        self._last_line_s[what] = now_s
        return True


class SweepProgress(StageProgress):
    """Listener that shows a sweep and passes it on to MLflow."""

    def __init__(self, console: Console, tracker: Tracker) -> None:
        super().__init__(console)
        self._tracker = tracker
        self._num_trials = self._num_before = self._num_done = 0
        self._started_s = 0.0

    def sweep_started(self, num_trials: int, num_finished_before: int) -> None:
        """Everything is prepared; what is left, if anything, is about to be scheduled."""
        self._num_trials, self._num_before = num_trials, num_finished_before
        self._started_s = time.monotonic()
        if num_finished_before:
            self._say(f"{num_finished_before} of {num_trials} trials are finished already and are skipped")
        self._tracker.open()
        self._tracker.catch_up()
        if self._live:
            self._tasks["trials"] = self._bars.add_task(
                "trials", total=num_trials, completed=num_finished_before, note="starting"
            )

    def trial_started(self, trial_id: str) -> None:
        """A trial was given its resources."""
        if not self._live:
            self._say(f"{trial_id}: started")

    def epoch_finished(self, event: EpochEvent) -> None:
        """A trial finished an epoch."""
        self._tracker.trial_epoch(event)
        trained = f"loss {event.train_loss:.5f}, " if event.epoch else ""
        note = (
            f"{event.trial_id}: epoch {event.epoch}, {trained}"
            f"validation {event.validation_loss:.5f}, {event.validation_errors} errors"
        )
        if self._live:
            self._bars.update(self._tasks["trials"], note=f"{note}, {self._remaining()}")
        elif self._is_due(event.trial_id):
            self._say(note)

    def trial_finished(self, trial_id: str, status: TrialStatus) -> None:
        """A trial ended."""
        self._num_done += 1
        self._tracker.sync_trial(trial_id, status)
        done = self._num_before + self._num_done
        self._say(f"{trial_id}: {status.value}, {done} of {self._num_trials} trials done, {self._remaining()}")
        if self._live:
            self._bars.update(self._tasks["trials"], completed=done)

    def _remaining(self) -> str:
        if not self._num_done:
            return "time left not known yet"
        per_trial_s = (time.monotonic() - self._started_s) / self._num_done
        left_s = per_trial_s * (self._num_trials - self._num_before - self._num_done)
        return f"about {left_s / 60:.0f} min left" if left_s > 90 else f"about {left_s:.0f} s left"
