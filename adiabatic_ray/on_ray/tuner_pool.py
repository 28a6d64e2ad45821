"""The tuners as trials see them: a slot is leased, epochs are heard, and a tower comes back.

Apart from the actors themselves (`tuners`), so that the process of a trial starts without the libraries that tune.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from adiabatic_ray.on_ray.room import waits
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tuning.news import EpochReport, Notice, ReplacedError, Tuned


@dataclass(frozen=True)
class MaterialRefs:
    """What the trials of a group are tuned from, in the object store."""

    key: str
    backbone_ref: Any
    tuning_ref: Any
    """(triplets, validation)."""
    token_budget: int


@dataclass(frozen=True)
class TunerPool:
    """Handles of the actors; trials receive it and share it."""

    lobby: Any
    tuners: tuple[Any, ...]
    wait_s: float
    """Most seconds to wait for an actor."""

    def tune(
        self,
        trial_id: str,
        spec: TuningSpec,
        refs: MaterialRefs,
        report: Callable[[EpochReport], None],
        notice: Callable[[str], None],
    ) -> Tuned:
        """Lease a slot, tune, and give it back.

        Raises:
            RayError: what the actor raised, or that it was lost.
            ValueError: no actor was there for `wait_s`.
        """
        asked_at = time.monotonic()
        number, start = self._enter(trial_id, notice)
        lobby_s = time.monotonic() - asked_at
        try:
            for ref in self.tuners[number].tune.options(num_returns="streaming").remote(trial_id, spec, refs):
                news = ray.get(ref)
                if isinstance(news, Tuned):
                    self.lobby.leave.remote(trial_id)
                    return replace(news, queue_s=lobby_s + news.queue_s)
                if isinstance(news, Notice):
                    notice(news.text)
                else:
                    report(news)
        except RayActorError:
            ray.get(self.lobby.lost.remote(number, start))
            raise
        except RayError as error:  # it ended there; what fails here leaves it there, for the next attempt to go on
            if not isinstance(error, ReplacedError):  # else that attempt has its place already
                self.lobby.leave.remote(trial_id)
            raise
        raise AssertionError("a tuner's call ended without a tower")

    def _enter(self, trial_id: str, notice: Callable[[str], None]) -> tuple[int, int]:
        for seconds in waits(self.wait_s):
            found: tuple[int, int] | None = ray.get(self.lobby.enter.remote(trial_id, seconds))
            if found is not None:
                return found
            notice(f"no process that tunes has room on the cluster: waiting for a node, {self.wait_s:g} s at most")
        raise ValueError(
            f"a process that tunes must find room on the cluster within cluster.wait_s, got none in {self.wait_s:g} s; "
            "add a node, or lower cluster.tuner_cpus or cluster.tuner_gpus"
        )

    def close(self) -> None:
        """End the actors."""
        for actor in (*self.tuners, self.lobby):
            ray.kill(actor)
