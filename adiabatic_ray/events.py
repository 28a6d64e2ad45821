"""What a running sweep tells whoever listens: the terminal, a log file, MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from adiabatic_ray.schemas import TrialStatus


@dataclass(frozen=True)
class EpochEvent:
    """A trial finished an epoch."""

    trial_id: str
    epoch: int
    train_loss: float
    validation_loss: float
    validation_errors: int
    elapsed_s: float
    finished_at_ms: int


class StageListener(Protocol):
    """Hears of preparation and scoring, in order and in the driver's process; none of these may raise."""

    def stage(self, text: str) -> None:
        """A step of the preparation begins."""

    def counted(self, what: str, done: int, total: int) -> None:
        """So much of a counted step (e.g. texts of a bank) is done."""


class Listener(StageListener, Protocol):
    """Hears of the trials too."""

    def sweep_started(self, num_trials: int, num_finished_before: int) -> None:
        """Everything is prepared; what is left, if anything, is about to be scheduled."""

    def trial_started(self, trial_id: str) -> None:
        """A trial was given its resources."""

    def epoch_finished(self, event: EpochEvent) -> None:
        """A trial finished an epoch."""

    def attempt_failed(self, trial_id: str, is_last: bool) -> None:
        """A trial's process was lost or raised an error; it is tried again, or it FAILED, which is announced later."""

    def trial_finished(self, trial_id: str, status: TrialStatus) -> None:
        """A trial ended; its tables are on disk unless it FAILED."""
