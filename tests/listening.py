"""A listener for tests that run sweeps."""

from __future__ import annotations

from adiabatic_ray.schemas import TrialStatus


class Quiet:
    """A listener that only remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[object, ...]] = []

    def stage(self, text: str) -> None:
        self.events.append(("stage", text))

    def counted(self, what: str, done: int, total: int) -> None:
        self.events.append(("counted", what, done, total))

    def sweep_started(self, num_trials: int, num_finished_before: int) -> None:
        self.events.append(("sweep", num_trials, num_finished_before))

    def trial_started(self, trial_id: str) -> None:
        self.events.append(("started", trial_id))

    def epoch_finished(self, event: object) -> None:
        self.events.append(("epoch", event))

    def attempt_failed(self, trial_id: str, is_last: bool) -> None:
        self.events.append(("attempt failed", trial_id, is_last))

    def trial_finished(self, trial_id: str, status: TrialStatus) -> None:
        self.events.append(("finished", trial_id, status))
