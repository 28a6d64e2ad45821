"""What a sweep has to run, as its results folder stands: the rest of its grid, or a search that goes on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from adiabatic_ray import results
from adiabatic_ray.events import StageListener
from adiabatic_ray.on_ray.scheduling import Queue
from adiabatic_ray.on_ray.searcher import TrialSearcher
from adiabatic_ray.search.boundary_search import BoundaryProposer
from adiabatic_ray.search.outcomes import Finished, finished_of
from adiabatic_ray.search.proposals import Proposer
from adiabatic_ray.search_spec import BoundarySearch, RateSearch
from adiabatic_ray.spec import SweepSpec, TrialSpec
from adiabatic_ray.storage import Location

ConfigOf = Callable[[TrialSpec], dict[str, Any]]
"""Tune's configuration of a trial; called once for each, before it starts."""


class Plan(Protocol):
    """Which trials a sweep has, and which of them are left."""

    @property
    def trial_ids(self) -> list[str]:
        """Every trial known so far, finished ones too."""

    @property
    def openings(self) -> Sequence[TrialSpec]:
        """Trials that are known beforehand and not finished."""

    @property
    def settings(self) -> Sequence[TrialSpec]:
        """One or more trials of each setting that is left: what they are tuned and scored on is prepared."""

    @property
    def num_left(self) -> int:
        """Trials to run; of a search the most."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to run."""

    def queue(self, config_of: ConfigOf, listener: StageListener) -> Queue:
        """What Ray Tune is given."""

    def verdict(self) -> Sequence[str]:
        """What was found, in lines."""


@dataclass(frozen=True)
class Grid:
    """Trials that are all known beforehand."""

    trials: Mapping[str, TrialSpec]
    done: Collection[str]

    @property
    def trial_ids(self) -> list[str]:
        """All of them."""
        return list(self.trials)

    @property
    def openings(self) -> tuple[TrialSpec, ...]:
        """All that are left."""
        return tuple(trial for trial_id, trial in self.trials.items() if trial_id not in self.done)

    settings = openings

    @property
    def num_left(self) -> int:
        """How many those are."""
        return len(self.openings)

    @property
    def is_over(self) -> bool:
        """Whether there are none."""
        return not self.openings

    def queue(self, config_of: ConfigOf, listener: StageListener) -> Queue:
        """All that are left, at once."""
        return Queue(tuple(map(config_of, self.openings)), None, self.num_left)

    def verdict(self) -> tuple[str, ...]:
        """None: its report says what was found."""
        return ()


@dataclass(frozen=True)
class Search:
    """Trials that are chosen by what others gave."""

    rules: RateSearch
    trials: Mapping[str, TrialSpec]
    """Openings, finished or not."""
    settings: tuple[TrialSpec, ...]
    """The first opening of each setting."""
    finished: tuple[Finished, ...]
    proposer: Proposer

    @property
    def trial_ids(self) -> list[str]:
        """The openings, then the others that are finished."""
        return list(dict.fromkeys([*self.trials, *(one.trial.trial_id for one in self.finished)]))

    @property
    def openings(self) -> tuple[TrialSpec, ...]:
        """Those that are not finished."""
        done = {one.trial.trial_id for one in self.finished}
        return tuple(trial for trial_id, trial in self.trials.items() if trial_id not in done)

    @property
    def num_left(self) -> int:
        """Trials that the budget still allows."""
        return max(0, self.rules.max_trials - len(self.finished))

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to run."""
        return not self.num_left or (not self.openings and self.proposer.propose(self.finished, ()) is None)

    def queue(self, config_of: ConfigOf, listener: StageListener) -> Queue:
        """A searcher."""
        searcher = TrialSearcher(self.rules, self.proposer, self.openings, self.finished, config_of, listener)
        return Queue((), searcher, self.num_left)

    def verdict(self) -> Sequence[str]:
        """As the proposer says it."""
        return self.proposer.verdict(self.finished)


def open_plan(spec: SweepSpec, trials: Mapping[str, TrialSpec], out: Location) -> Plan:
    """The plan of a sweep, with what its results folder holds already.

    Args:
        spec: the sweep.
        trials: pinned trials by id, as the sweep expands; of a search its openings.
        out: results folder.

    Raises:
        ResultsError: a table that is damaged or of another schema version.
    """
    if spec.search is None:
        return Grid(trials, results.finished_trials(out).keys())
    first_of: dict[str, TrialSpec] = {}
    for trial in trials.values():
        first_of.setdefault(trial.setting, trial)
    settings = tuple(first_of.values())
    return Search(
        spec.search, trials, settings, tuple(finished_of(out, first_of)), _proposer(spec.search, settings, out)
    )


def _proposer(rules: RateSearch, settings: Sequence[TrialSpec], out: Location) -> Proposer:
    if isinstance(rules, BoundarySearch):
        return BoundaryProposer(rules, settings, out)
    from adiabatic_ray.search.gain_search import GainProposer  # optuna: a second to import
    from adiabatic_ray.search_spec import GainSearch

    assert isinstance(rules, GainSearch), rules
    return GainProposer(rules, settings, out)
