"""Ray Tune's callbacks, translated for a `Listener`."""

from __future__ import annotations

import time
from typing import Any

from ray import tune as ray_tune

from adiabatic_ray.events import EpochEvent, Listener
from adiabatic_ray.on_ray.room import NEWS_EVERY_S
from adiabatic_ray.schemas import TrialStatus


class Announcer(ray_tune.Callback):
    """Passes trial starts, epochs, failed attempts and ends on.

    FAILED trials are announced by the orchestrator, after their retries.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._told_s: dict[str, float] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the listener: Tune pickles its callbacks for `Tuner.restore`, which this project does not use."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial was given its resources, for the first time or after a fault."""
        self._listener.trial_started(trial.config["trial"]["trial_id"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch's report, something to know about how the trial is run, or its last word: its status."""
        trial_id = trial.config["trial"]["trial_id"]
        if "notice" in result:
            self._tell(result["notice"])
            return
        if "status" in result:
            self._listener.trial_finished(trial_id, TrialStatus(result["status"]))
            return
        fields = EpochEvent.__dataclass_fields__.keys() - {"trial_id"}
        self._listener.epoch_finished(EpochEvent(trial_id, **{name: result[name] for name in fields}))

    def _tell(self, notice: str) -> None:
        """What many trials say at once is said once: each of them may wait for the same."""
        now_s = time.monotonic()
        if now_s - self._told_s.get(notice, -NEWS_EVERY_S) >= NEWS_EVERY_S:
            self._told_s[notice] = now_s
            self._listener.stage(notice)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """An attempt failed, and Tune puts the trial at the end of its queue."""
        self._listener.attempt_failed(trial.config["trial"]["trial_id"], is_last=False)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The last attempt failed."""
        self._listener.attempt_failed(trial.config["trial"]["trial_id"], is_last=True)
