"""Everything that a report of one sweep draws on, computed once: tables, curves with replicates, boundaries."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import pandas as pd

from .aggregates import LANGUAGE_AXES, aggregates
from .boundary_tables import boundary_table, ranked_members
from .curves import Criterion, criteria, curve_table, other_triplet_sets, rate_table
from .level import Boundary, boundary_of
from .load import Sweep
from .resample import Evidence, MeanCurve, gather, mean_curves
from .rules import Rule

_PAIR_COLUMNS = ["trial_id", "query_language", "passage_language", "improvement", "improvement_low"]
_PAIR_COLUMNS += ["improvement_high", "bh_p"]


@dataclass(frozen=True)
class Material:
    """A sweep and what was computed from it."""

    sweep: Sweep
    level: float
    """Improvement of the mean PND at or above which quality holds, a fraction."""
    trials: pd.DataFrame
    """`curves.curve_table`."""
    rates: pd.DataFrame
    """`curves.rate_table`."""
    criteria: list[Criterion]
    english: list[str]
    """Triplet sets that are evaluated but not tuned on."""
    curves: list[MeanCurve]
    boundaries: list[Boundary]
    """One for each curve, in the same order."""
    evidence: Evidence
    """What curves and tables of boundaries are made of."""
    ranked: dict[tuple[str, Criterion, str], pd.DataFrame] = field(default_factory=dict, init=False, repr=False)
    """What `by_rank` made."""

    @property
    def groups(self) -> list[str]:
        """Names of the groups of settings, in the order of the sweep; `['']` when there is one."""
        return list(dict.fromkeys(self.sweep.groups.values()))

    @functools.cached_property
    def pairs(self) -> dict[Criterion, pd.DataFrame]:
        """Rows of `scores` about language pairs, by criterion."""
        rows = self.sweep.scores[self.sweep.scores["kind"] == "pairs"]
        parts = rows.groupby(["set", "relation", "measure"], sort=False)
        return {Criterion(*map(str, key)): part[_PAIR_COLUMNS] for key, part in parts}

    @functools.cached_property
    def english_intervals(self) -> dict[tuple[str, str, str], tuple[float, float]]:
        """By trial, English set and measure: both ends of the improvement's 95% interval."""
        rows = self.sweep.scores[self.sweep.scores["kind"] == "triplets"]
        keys = zip(rows["trial_id"], rows["set"], rows["measure"], strict=True)
        return dict(zip(keys, zip(rows["improvement_low"], rows["improvement_high"], strict=True), strict=True))

    @functools.cached_property
    def by_language(self) -> pd.DataFrame:
        """Rows of `aggregates` about one language: mean over the pairs that have it as query or as passage.

        Raises:
            ResultsError: see `aggregates.aggregates`.
        """
        rows = aggregates(self.sweep)
        return rows[rows["axis"].isin(LANGUAGE_AXES)]

    @property
    def delta(self) -> float:
        """The loss that is tolerated, as tables of boundaries take it: minus the level, 0 where that is above 0."""
        return max(0.0, -self.level)

    @functools.cached_property
    def boundary_table(self) -> pd.DataFrame:
        """`boundary_tables.boundary_table`."""
        return boundary_table(self.evidence, delta=self.delta)

    def by_rank(self, group: str, criterion: Criterion, axis: str) -> pd.DataFrame:
        """`boundary_tables.ranked_members` by the criterion `level`: the language that breaks first comes first."""
        key = group, criterion, axis
        if key not in self.ranked:
            self.ranked[key] = ranked_members(self.evidence, *key, Rule.LEVEL, delta=self.delta)
        return self.ranked[key]

    def shown_criteria(self) -> list[Criterion]:
        """Those by cosine, as in the paper's Figure 1; all when there is none."""
        return [one for one in self.criteria if one.measure == "cosine"] or self.criteria

    def curve(self, group: str, criterion: Criterion) -> tuple[MeanCurve, Boundary] | None:
        """The curve of a group and criterion with its boundary; None where the group was not scored on it."""
        for curve, boundary in zip(self.curves, self.boundaries, strict=True):
            if curve.group == group and curve.criterion == criterion:
                return curve, boundary
        return None

    def rates_of(self, group: str) -> pd.DataFrame:
        """Rows of `rates` of one group, rates going up."""
        return self.rates[self.rates["group"] == group]

    def done_at(self, group: str, rate: float) -> list[str]:
        """Trials with scores at a rate of a group: one a seed."""
        done = set(self.sweep.completeness.done)
        return [
            trial_id
            for trial_id, spec in self.sweep.trial_specs.items()
            if trial_id in done and self.sweep.groups[trial_id] == group and spec.tuning.learning_rate == rate
        ]


def material_of(sweep: Sweep, *, level: float, num_resamples: int, seed: int) -> Material:
    """Analyse a loaded sweep.

    Args:
        sweep: see `load.load_sweep`.
        level: see `boundary.boundary_of`.
        num_resamples: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        ResultsError: influence tables that do not fit, see `resample.mean_curves`.
        ValueError: a level, number of replicates or seed out of range.
    """
    evidence = gather(sweep, num_resamples=num_resamples, seed=seed, has_pairs=False)
    curves = mean_curves(sweep, evidence=evidence)
    return Material(
        sweep=sweep,
        level=level,
        trials=curve_table(sweep),
        rates=rate_table(sweep),
        criteria=criteria(sweep),
        english=other_triplet_sets(sweep),
        curves=curves,
        boundaries=[boundary_of(curve, level=level) for curve in curves],
        evidence=evidence,
    )
