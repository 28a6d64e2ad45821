"""Where a criterion stops holding, for each setting of a sweep: the trials that tell most about it come next.

`placement` knows rates and margins only; here they are joined to trials and to what is on disk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from adiabatic_ray.search import outcomes, placement
from adiabatic_ray.search.outcomes import Finished
from adiabatic_ray.search.placement import Crossing, Observation, Place
from adiabatic_ray.search.proposals import Proposal, point
from adiabatic_ray.search_spec import BoundarySearch
from adiabatic_ray.spec import TrialSpec
from adiabatic_ray.storage import Location

SHARE_SCALE = 0.1
"""Shares of degraded pairs go from 0 to 1 where mean improvements go from 0 to -10%, and their noise is as much larger;
`placement` knows the noise of improvements. Only the sign decides where a boundary is."""


class BoundaryProposer:
    """Serves the setting with the fewest trials first, until each one's interval is narrow."""

    def __init__(self, search: BoundarySearch, settings: Sequence[TrialSpec], out: Location) -> None:
        """The settings are pinned trials, one for each combination of the grid, of any rate and seed."""
        self._search, self._settings, self._out = search, tuple(settings), out
        self._limits = placement.Setting(
            search.lowest_rate, search.highest_rate, search.width_decades, tuple(search.seeds)
        )
        self._told: dict[str, float] = {}
        """Margins by trial: a finished trial's does not change."""

    def propose(self, finished: Sequence[Finished], running: Sequence[TrialSpec]) -> Proposal | None:
        """The next trial of the setting that has the fewest and is not settled."""

        def num_trials(setting: TrialSpec) -> int:
            trials = [*(one.trial for one in finished), *running]
            return sum(trial.setting == setting.setting for trial in trials)

        for setting in sorted(self._settings, key=num_trials):
            observed = self._observations(setting, finished)
            if observed and self._crossing(observed).is_narrow(self._limits):
                continue
            in_flight = [
                Place(trial.tuning.learning_rate, trial.tuning.seed, "")
                for trial in running
                if trial.setting == setting.setting
            ]
            if place := placement.next_place(observed, in_flight, self._limits):
                return Proposal(point(setting, place.rate, place.seed), place.reason)
        return None

    def verdict(self, finished: Sequence[Finished]) -> list[str]:
        """The crossing of each setting, for these texts, and how many trials it took."""
        return [self._in_words(setting, self._observations(setting, finished)) for setting in self._settings]

    def _crossing(self, observed: Sequence[Observation]) -> Crossing:
        return placement.crossing(observed, self._limits)

    def _observations(self, setting: TrialSpec, finished: Sequence[Finished]) -> list[Observation]:
        observed = [self._observation(one) for one in finished if one.trial.setting == setting.setting]
        return _beyond_the_peak(observed) if self._search.criterion == "break-even" else observed

    def _observation(self, one: Finished) -> Observation:
        trial_id, tuning = one.trial.trial_id, one.trial.tuning
        if one.diverged:
            return Observation(tuning.learning_rate, tuning.seed, math.nan, diverged=True)
        if trial_id not in self._told:
            scale = SHARE_SCALE if self._search.criterion == "pairs" else 1.0
            self._told[trial_id] = scale * outcomes.margin(self._out, trial_id, self._search)
        return Observation(tuning.learning_rate, tuning.seed, self._told[trial_id], diverged=False)

    def _in_words(self, setting: TrialSpec, observed: Sequence[Observation]) -> str:
        found = self._crossing(observed) if observed else None
        what = f"{self._search.criterion} on {self._search.set}, freeze {setting.tuning.freeze or 'nothing'}"
        if found is None:
            return f"{what}: no trial finished"
        trials = f"after {len(observed)} trials"
        if found.estimate == math.inf:
            return f"{what}: holds at every rate tried {trials}"
        if found.estimate == 0:
            return f"{what}: holds at no rate tried {trials}"
        ends = f"{found.low:.3g} to {found.high:.3g}, {found.width_decades:.2f} decades"
        goal = "" if found.is_narrow(self._limits) else f", wider than the {self._limits.width_decades:g} asked for"
        return f"{what}: {found.estimate:.3g} (95%, for these texts: {ends}{goal}) {trials}"


def _beyond_the_peak(observed: Sequence[Observation]) -> list[Observation]:
    """Everything below the rate with the highest margin raised to it: at small rates every curve begins at 0.

    The break-even point lies beyond the highest point, as in analysis/rules.py.
    """
    finite = [one for one in observed if not one.diverged]
    if not finite:
        return list(observed)
    peak = max(finite, key=lambda one: (one.margin, one.rate))
    return [
        Observation(one.rate, one.seed, max(one.margin, peak.margin), one.diverged) if one.rate < peak.rate else one
        for one in observed
    ]
