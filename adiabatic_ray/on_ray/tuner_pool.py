"""The tuners as trials see them: a slot is leased, epochs are heard, and a tower comes back.

Apart from the actors themselves (`tuners`), so that the process of a trial starts without the libraries that tune.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError

from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tuning.news import EpochReport, Notice, Tuned


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
        """
        number, start = ray.get(self.lobby.enter.remote(trial_id))
        try:
            for ref in self.tuners[number].tune.options(num_returns="streaming").remote(trial_id, spec, refs):
                news = ray.get(ref)
                if isinstance(news, Tuned):
                    self.lobby.leave.remote(trial_id)
                    return news
                if isinstance(news, Notice):
                    notice(news.text)
                else:
                    report(news)
        except RayActorError:
            ray.get(self.lobby.lost.remote(number, start))
            raise
        raise AssertionError("a tuner's call ended without a tower")

    def close(self) -> None:
        """End the actors."""
        for actor in (*self.tuners, self.lobby):
            ray.kill(actor)
