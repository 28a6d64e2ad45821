"""What a search says when it is asked for the next trial, whatever it looks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from adiabatic_ray.changes import with_changes
from adiabatic_ray.search.outcomes import Finished
from adiabatic_ray.spec import TrialSpec


@dataclass(frozen=True)
class Proposal:
    """A trial to run, and why."""

    trial: TrialSpec
    reason: str


class Proposer(Protocol):
    """Chooses trials. It keeps no state: the same results and the same trials in flight give the same proposal."""

    def propose(self, finished: Sequence[Finished], running: Sequence[TrialSpec]) -> Proposal | None:
        """The next trial; none: nothing is worth one, given what is known and what is in flight.

        Raises:
            ResultsError: results that do not tell what the search looks for.
        """

    def verdict(self, finished: Sequence[Finished]) -> list[str]:
        """What was found, a line for each setting."""


def point(setting: TrialSpec, rate: float, seed: int) -> TrialSpec:
    """The trial of a setting at a rate, with a seed."""
    return with_changes(setting, {"tuning.learning_rate": rate, "tuning.seed": seed})
