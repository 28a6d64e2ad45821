"""What a sweep says of its progress: plain lines in a file or a job's log, a live line on a terminal."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from inspect import signature
from types import SimpleNamespace
from typing import cast

import pytest
from ray import tune as ray_tune
from rich.console import Console

from adiabatic_ray.events import EpochEvent
from adiabatic_ray.on_ray.callbacks import Announcer
from adiabatic_ray.on_ray.tracking import Tracker
from adiabatic_ray.schemas import TrialStatus
from jobs import progress
from jobs.environment import plain_console
from jobs.progress import SweepProgress
from tests.listening import Quiet

STAMP = r"\d\d:\d\d:\d\d "


@dataclass
class SilentTracker:
    """Where MLflow would be."""

    synced: list[tuple[str, TrialStatus]] = field(default_factory=list)
    is_closed: bool = False

    def open(self) -> None: ...

    def catch_up(self) -> None: ...

    def watch_machine(self) -> None: ...

    def trial_epoch(self, event: EpochEvent) -> None: ...

    def sync_trial(self, trial_id: str, status: TrialStatus) -> None:
        self.synced.append((trial_id, status))

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Clock:
    """Seconds that pass only when told to."""

    now_s: float = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def strftime(self, form: str) -> str:
        return time.strftime(form)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    found = Clock()
    monkeypatch.setattr(progress, "time", found)
    yield found


def shown(console: Console) -> tuple[SweepProgress, SilentTracker]:
    tracker = SilentTracker()
    return SweepProgress(console, cast(Tracker, tracker)), tracker


def epoch(trial_id: str, number: int = 1) -> EpochEvent:
    return EpochEvent(trial_id, number, 0.5, 0.25, 7, 1.0, 0)


def run(listener: SweepProgress, clock: Clock) -> None:
    """Five trials, one done before: a and b finish, c fails twice, d diverges; 100 s between what happens."""
    with listener:
        listener.stage("reading\nbackbone")
        listener.sweep_started(5, 1)
        for trial_id in "abc":
            listener.trial_started(trial_id)
        clock.now_s += 100
        listener.epoch_finished(epoch("a"))
        listener.epoch_finished(epoch("a", 2))
        listener.trial_finished("a", TrialStatus.COMPLETE)
        listener.attempt_failed("c", is_last=False)
        clock.now_s += 100
        listener.trial_started("c")
        listener.trial_started("d")
        listener.attempt_failed("c", is_last=True)
        listener.trial_finished("b", TrialStatus.COMPLETE)
        listener.trial_finished("d", TrialStatus.DIVERGED)
        listener.trial_finished("c", TrialStatus.FAILED)


def test_a_file_gets_one_stamped_line_an_event_and_summaries(clock: Clock) -> None:
    file = io.StringIO()
    listener, tracker = shown(Console(file=file, markup=False, emoji=False))
    run(listener, clock)
    lines = file.getvalue().splitlines()
    assert all(re.match(STAMP, line) for line in lines)
    assert [line[9:] for line in lines] == [
        "reading backbone ...",
        "1 of 5 trials are finished already and are skipped",
        "a: started",
        "b: started",
        "c: started",
        "a: epoch 1, loss 0.50000, validation 0.25000, 7 errors",  # epoch 2 comes within 15 s
        "trials: 1 of 5 done, 3 running, 0 failed, time left not known yet",
        "a: COMPLETE, 2 of 5 trials done, about 5 min left",  # 1 in 100 s, 3 are left
        "c: attempt failed, to be tried again",
        "c: started",
        "trials: 2 of 5 done, 2 running, 0 failed, about 10 min left",  # b and c; 1 in 200 s, 3 are left
        "d: started",
        "c: attempt failed, the last one",
        "b: COMPLETE, 3 of 5 trials done, about 67 s left",  # a, b and c ended in 200 s, d is left
        "d: DIVERGED, 4 of 5 trials done, about 0 s left",
        "trials: 4 of 5 done, 0 running, 1 failed, about 0 s left",
        "c: FAILED, 4 of 5 trials done, about 0 s left",
        "trials: 4 of 5 done, 0 running, 1 failed, about 0 s left",
    ]
    assert tracker.synced == [
        ("a", TrialStatus.COMPLETE),
        ("b", TrialStatus.COMPLETE),
        ("d", TrialStatus.DIVERGED),
        ("c", TrialStatus.FAILED),
    ]


def test_a_file_gets_no_control_characters_even_where_colour_is_forced(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job's log is a file: rich alone would follow FORCE_COLOR."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    listener, _ = shown(plain_console())
    run(listener, clock)
    assert not re.search(r"[^\n -~]", capsys.readouterr().out)


def test_long_lines_are_not_broken(clock: Clock) -> None:
    file = io.StringIO()
    listener, _ = shown(Console(file=file, width=20))
    listener.stage("word " * 50)
    assert len(file.getvalue().splitlines()) == 1


def test_a_terminal_gets_a_live_line_and_neither_stamps_nor_summaries(clock: Clock) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=100, markup=False)
    listener, _ = shown(console)
    run(listener, clock)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert "\x1b[" in file.getvalue() and "4/5" in text
    assert "a: COMPLETE, 2 of 5 trials done" in text and "trials: " not in text
    assert not re.search(STAMP + "[a-z]", text)


def test_what_tune_calls_reaches_the_listener() -> None:
    """An attempt that is tried again, then the last one: by Tune's own names for the two."""
    listener, trial = Quiet(), SimpleNamespace(config={"trial": {"trial_id": "a"}})
    announcer = Announcer(listener)
    announcer.on_trial_start(0, [], trial)
    announcer.on_trial_recover(0, [], trial)
    announcer.on_trial_error(0, [], trial)
    assert listener.events == [("started", "a"), ("attempt failed", "a", False), ("attempt failed", "a", True)]
    for name in ("on_trial_start", "on_trial_recover", "on_trial_error"):
        ours, tune_s = (signature(getattr(one, name)).parameters for one in (Announcer, ray_tune.Callback))
        assert list(ours) == list(tune_s)


def test_an_interrupted_sweep_leaves_mlflow_at_once() -> None:
    listener, tracker = shown(Console(file=io.StringIO()))
    with listener:
        pass
    assert not tracker.is_closed, "the report comes after the trials"
    with pytest.raises(KeyboardInterrupt), listener:
        raise KeyboardInterrupt
    assert tracker.is_closed
