"""A sweep that searches: which trials it has so far, and who chooses the next ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from adiabatic_ray.events import StageListener
from adiabatic_ray.on_ray.searcher import TrialSearcher
from adiabatic_ray.search.boundary_search import BoundaryProposer
from adiabatic_ray.search.outcomes import Finished, finished_of
from adiabatic_ray.search.proposals import Proposer
from adiabatic_ray.search_spec import BoundarySearch, RateSearch
from adiabatic_ray.spec import TrialSpec
from adiabatic_ray.storage import Location


@dataclass(frozen=True)
class Search:
    """A search as it stands on disk."""

    rules: RateSearch
    settings: tuple[TrialSpec, ...]
    """The first opening of each setting."""
    openings: tuple[TrialSpec, ...]
    """Those that are not finished."""
    finished: tuple[Finished, ...]
    proposer: Proposer

    @property
    def num_left(self) -> int:
        """Trials that the budget still allows."""
        return max(0, self.rules.max_trials - len(self.finished))

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to run."""
        return not self.num_left or (not self.openings and self.proposer.propose(self.finished, ()) is None)

    def trial_ids(self, openings: Sequence[str]) -> list[str]:
        """Every trial known so far: the openings, then the others that are finished."""
        return list(dict.fromkeys([*openings, *(one.trial.trial_id for one in self.finished)]))

    def searcher(self, config_of: Callable[[TrialSpec], dict[str, Any]], listener: StageListener) -> TrialSearcher:
        """For Ray Tune; `config_of` is called once for each trial, before it starts."""
        return TrialSearcher(self.rules, self.proposer, self.openings, self.finished, config_of, listener)


def open_search(rules: RateSearch, openings: Mapping[str, TrialSpec], out: Location) -> Search:
    """The search of a sweep, with what its results folder holds already.

    Args:
        rules: of the sweep.
        openings: pinned trials by id, as the sweep expands.
        out: results folder.

    Raises:
        ResultsError: a table that is damaged or of another schema version.
    """
    first_of: dict[str, TrialSpec] = {}
    for trial in openings.values():
        first_of.setdefault(trial.setting, trial)
    settings = tuple(first_of.values())
    finished = finished_of(out, first_of)
    done = {one.trial.trial_id for one in finished}
    return Search(
        rules,
        settings,
        tuple(trial for trial_id, trial in openings.items() if trial_id not in done),
        tuple(finished),
        _proposer(rules, settings, out),
    )


def _proposer(rules: RateSearch, settings: Sequence[TrialSpec], out: Location) -> Proposer:
    if isinstance(rules, BoundarySearch):
        return BoundaryProposer(rules, settings, out)
    from adiabatic_ray.search.gain_search import GainProposer  # optuna: a second to import
    from adiabatic_ray.search_spec import GainSearch

    assert isinstance(rules, GainSearch), rules
    return GainProposer(rules, settings, out)
