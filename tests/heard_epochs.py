"""`python -m jobs.run_sweep` with a line more for every epoch that its driver hears: which, and when it was tuned.

An epoch that is reported again after a fault, from a saved state, keeps its time. One that was tuned again has another.
"""

from __future__ import annotations

from adiabatic_ray.events import EpochEvent
from jobs import run_sweep
from jobs.progress import SweepProgress

HEARD = "heard"


class _Reporting(SweepProgress):
    def epoch_finished(self, event: EpochEvent) -> None:
        super().epoch_finished(event)
        self._say(f"{HEARD} {event.trial_id} {event.epoch} {event.finished_at_ms}")


if __name__ == "__main__":
    run_sweep.SweepProgress = _Reporting  # type: ignore[misc]
    run_sweep.app()
