"""A search as Ray Tune sees it: asked for the next trial, told when one has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ray.tune.search import Searcher

from adiabatic_ray.events import StageListener
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.search.outcomes import Finished
from adiabatic_ray.search.proposals import Proposer
from adiabatic_ray.search_spec import RateSearch
from adiabatic_ray.spec import TrialSpec


class TrialSearcher(Searcher):
    """Runs the openings that are missing, then what the proposer says, until it has nothing or the budget is spent.

    Nothing of it is saved: the same results folder gives the same search again.
    """

    def __init__(
        self,
        search: RateSearch,
        proposer: Proposer,
        openings: Sequence[TrialSpec],
        finished: Sequence[Finished],
        config_of: Callable[[TrialSpec], dict[str, Any]],
        listener: StageListener,
    ) -> None:
        """What it takes.

        Args:
            search: budget and how many trials are in flight.
            proposer: chooses.
            openings: pinned trials that are not finished.
            finished: trials that were finished before.
            config_of: Tune's configuration of a trial; called once for each, before it starts.
            listener: hears why a trial was chosen, and what was found.
        """
        super().__init__()
        self._search, self._proposer, self._config_of, self._listener = search, proposer, config_of, listener
        self._openings, self._finished = list(openings), list(finished)
        self._running: dict[str, TrialSpec] = {}
        """Of this run, by Tune's id; those that failed stay: they are not asked for again before the next run."""
        self._failed: set[str] = set()
        self.is_over = False
        """Whether it said FINISHED: it ended by itself and was not interrupted."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher for `Tuner.restore`, which this project does not use."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the results folder says it all."""

    def suggest(self, trial_id: str) -> Any:
        """The next trial's configuration, a mapping; None: wait for one in flight; FINISHED: the search is over.

        Ray's own signature leaves FINISHED, a string, out.
        """
        num_in_flight = len(self._running) - len(self._failed)
        if self.is_over or len(self._finished) + len(self._running) >= self._search.max_trials:
            return self._over("the budget is spent")
        if num_in_flight >= self._search.parallel:
            return None
        trial = self._next()
        if trial is None:
            return None if num_in_flight else self._over("no other trial would tell more")
        self._running[trial_id] = trial
        return {"trial": self._config_of(trial)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial ended, or failed for good."""
        if error or result is None or "status" not in result:
            self._failed.add(trial_id)
            return
        trial = self._running.pop(trial_id)
        self._finished.append(Finished(trial, result["status"] == TrialStatus.DIVERGED))

    def _next(self) -> TrialSpec | None:
        if self._openings:
            return self._openings.pop(0)
        proposal = self._proposer.propose(self._finished, list(self._running.values()))
        if proposal is None:
            return None
        self._listener.stage(f"next: {proposal.trial.trial_id}, {proposal.reason}")
        return proposal.trial

    def _over(self, why: str) -> str:
        if not self.is_over:
            self.is_over = True
            self._listener.stage(f"the search places no more trials: {why}")
        return str(Searcher.FINISHED)
