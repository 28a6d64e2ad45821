"""The best rates and settings under a constraint: Optuna chooses, with two objectives and no state of its own.

Objectives, both upwards: the improvement on the set whose gain counts, and the mean improvement over language pairs.
Constraint: the share of degraded language pairs. A diverged trial has lost everything: -1 in both, every pair degraded.
The study is made anew from the finished trials each time, trials in flight among them, so nothing has to be saved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from adiabatic_ray.search import outcomes
from adiabatic_ray.search.outcomes import Finished
from adiabatic_ray.search.proposals import Proposal, point
from adiabatic_ray.search_spec import GainSearch
from adiabatic_ray.spec import TrialSpec
from adiabatic_ray.storage import Location

RATE, SETTING = "tuning.learning_rate", "setting"
NUM_TRIES = 20
"""Suggestions asked for until one is new: with few rates left a sampler repeats itself."""
LOST = -1.0


class GainProposer:
    """Asks an Optuna sampler for the next trial."""

    def __init__(self, search: GainSearch, settings: Sequence[TrialSpec], out: Location) -> None:
        """The settings are pinned trials, one for each combination of the grid, of any rate and seed."""
        self._search, self._settings, self._out = search, tuple(settings), out
        self._places = {trial.setting: place for place, trial in enumerate(self._settings)}
        self._space: dict[str, BaseDistribution] = {
            RATE: FloatDistribution(search.lowest_rate, search.highest_rate, log=True),
            SETTING: CategoricalDistribution(range(len(self._settings))),
        }
        self._told: dict[str, tuple[tuple[float, float], float]] = {}
        """Objectives and share of degraded pairs by trial: a finished trial's do not change."""

    def propose(self, finished: Sequence[Finished], running: Sequence[TrialSpec]) -> Proposal | None:
        """The next trial; none: the sampler has nothing new to suggest."""
        used = {self._key(trial) for trial in (*(one.trial for one in finished), *running)}
        for attempt in range(NUM_TRIES):
            params = self._study(finished, running, attempt).ask(self._space).params
            place, rate = int(params[SETTING]), self._rounded(float(params[RATE]))
            for seed in self._search.seeds:
                if (place, rate, seed) not in used:
                    trial = point(self._settings[place], rate, seed)
                    return Proposal(trial, f"rate {rate:g}, chosen by {self._search.sampler}")
        return None

    def verdict(self, finished: Sequence[Finished]) -> list[str]:
        """How many of the trials nothing beats; the report shows them."""
        study = self._study(finished, (), 0)
        return [f"{len(study.best_trials)} of {len(finished)} trials gain or keep more than every other"]

    def _study(self, finished: Sequence[Finished], running: Sequence[TrialSpec], attempt: int) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = self._search.sampler_seed + 1_000 * attempt + len(finished) + len(running)
        study = optuna.create_study(directions=["maximize", "maximize"], sampler=_sampler(self._search.sampler, seed))
        for one in sorted(finished, key=lambda each: each.trial.trial_id):
            values, share = self._objectives(one)
            broken = {"degraded": share - self._search.share}
            study.add_trial(self._frozen(one.trial, TrialState.COMPLETE, values=values, constraints=broken))
        for trial in running:
            study.add_trial(self._frozen(trial, TrialState.RUNNING))
        return study

    def _objectives(self, one: Finished) -> tuple[tuple[float, float], float]:
        trial_id = one.trial.trial_id
        if one.diverged:
            return (LOST, LOST), 1.0
        if trial_id not in self._told:
            values = outcomes.gain_and_kept(self._out, trial_id, self._search)
            self._told[trial_id] = values, outcomes.degraded_share(self._out, trial_id, self._search)
        return self._told[trial_id]

    def _frozen(self, trial: TrialSpec, state: TrialState, **told: Any) -> optuna.trial.FrozenTrial:
        params: Mapping[str, Any] = {RATE: trial.tuning.learning_rate, SETTING: self._places[trial.setting]}
        return create_trial(state=state, params=dict(params), distributions=dict(self._space), **told)

    def _rounded(self, rate: float) -> float:
        return min(max(float(f"{rate:.3g}"), self._search.lowest_rate), self._search.highest_rate)

    def _key(self, trial: TrialSpec) -> tuple[int, float, int]:
        return self._places[trial.setting], trial.tuning.learning_rate, trial.tuning.seed


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    match name:
        case "tpe":
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed)
        case "nsgaii":
            return optuna.samplers.NSGAIISampler(seed=seed)
    raise AssertionError(f"no sampler {name!r}")
