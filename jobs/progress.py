"""Progress of a sweep: a live line on a terminal; in a file or a job's log plain lines of sensible number.

A line that nobody watches begins with the time of day and holds one event; no carriage returns, no colours. A summary
of all trials follows after an event at most every `SUMMARY_EVERY_S`, and when the last trial has ended.
"""

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
SUMMARY_EVERY_S = 60.0
SUMMARY = "trials: "
"""How a summary begins, after the time of day: whoever follows a log finds it by that."""


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
        """One line, never wrapped or broken; with the time of day where nobody watches."""
        stamp = "" if self._live else f"{time.strftime('%H:%M:%S')} "
        self._console.print(f"{stamp}{' '.join(line.split())}", soft_wrap=True, markup=False, highlight=False)

    def _is_due(self, what: str, every_s: float = LOG_EVERY_S) -> bool:
        now_s = time.monotonic()
        if what in self._last_line_s and now_s - self._last_line_s[what] < every_s:
            return False
        self._last_line_s[what] = now_s
        return True


class SweepProgress(StageProgress):
    """Listener that shows a sweep and passes it on to MLflow."""

    def __init__(self, console: Console, tracker: Tracker) -> None:
        super().__init__(console)
        self._tracker = tracker
        self._num_trials = self._num_before = 0
        self._running: set[str] = set()
        self._done: set[str] = set()
        self._failed: set[str] = set()
        self._started_s = 0.0

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        if any(error):
            self._tracker.close()

    def sweep_started(self, num_trials: int, num_finished_before: int) -> None:
        """Everything is prepared; what is left, if anything, is about to be scheduled."""
        self._num_trials, self._num_before = num_trials, num_finished_before
        self._started_s = self._last_line_s[SUMMARY] = time.monotonic()
        if num_finished_before:
            self._say(f"{num_finished_before} of {num_trials} trials are finished already and are skipped")
        self._tracker.open()
        self._tracker.catch_up()
        if num_finished_before < num_trials:
            self._tracker.watch_machine()
        if self._live:
            self._tasks["trials"] = self._bars.add_task(
                "trials", total=num_trials, completed=num_finished_before, note="starting"
            )

    def trial_started(self, trial_id: str) -> None:
        """A trial was given its resources."""
        self._running.add(trial_id)
        if not self._live:
            self._say(f"{trial_id}: started")
            self._summarize_if_due()

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
        self._summarize_if_due()

    def attempt_failed(self, trial_id: str, is_last: bool) -> None:
        """A trial's process was lost or raised an error."""
        self._running.discard(trial_id)
        if is_last:
            self._failed.add(trial_id)
        self._say(f"{trial_id}: attempt failed, {'the last one' if is_last else 'to be tried again'}")

    def trial_finished(self, trial_id: str, status: TrialStatus) -> None:
        """A trial ended."""
        self._running.discard(trial_id)
        (self._failed if status is TrialStatus.FAILED else self._done).add(trial_id)
        self._tracker.sync_trial(trial_id, status)
        self._say(
            f"{trial_id}: {status.value}, {self._num_done} of {self._num_trials} trials done, {self._remaining()}"
        )
        if self._live:
            self._bars.update(self._tasks["trials"], completed=self._num_done)
        self._summarize_if_due(is_last=self._num_done + len(self._failed) == self._num_trials)

    def _summarize_if_due(self, is_last: bool = False) -> None:
        """Where nobody watches: on a terminal the bar says all of it."""
        if not self._live and (self._is_due(SUMMARY, SUMMARY_EVERY_S) or is_last):
            self._say(
                f"{SUMMARY}{self._num_done} of {self._num_trials} done, {len(self._running)} running, "
                f"{len(self._failed)} failed, {self._remaining()}"
            )

    @property
    def _num_done(self) -> int:
        """Trials with a result, those of earlier runs among them."""
        return self._num_before + len(self._done)

    def _remaining(self) -> str:
        num_ended = len(self._done | self._failed)
        if not num_ended:
            return "time left not known yet"
        per_trial_s = (time.monotonic() - self._started_s) / num_ended
        left_s = per_trial_s * (self._num_trials - self._num_before - num_ended)
        return f"about {left_s / 60:.0f} min left" if left_s > 90 else f"about {left_s:.0f} s left"
