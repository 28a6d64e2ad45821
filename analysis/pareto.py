"""Gain against price: which trials no other trial beats at both, the gain they were tuned for and the languages.

A trial is a point: the improvement of PND on the set that it was tuned on, and the change of the mean PND over language
pairs as an improvement, by the same measure. Trial A dominates trial B when A is at least as good in both and better
in one of them. The front is every trial that none dominates; trials with equal points stand on it together. Only
trials that were tuned on the same set are compared, for a gain on one text is no gain on another.

A point is one trial, noise and all: with many trials the front leans to the lucky ones, and whoever picks from it
should read the intervals, or the means over seeds in `gains.best_rates`. The untuned backbone, (0, 0), is no trial: a
trial with a loss in both is dominated by doing nothing, and may still stand on the front when all are.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .aggregates import aggregates
from .curves import Criterion, criteria
from .harm import harm_by_trial
from .influences import Floats
from .resample import Evidence

COLUMNS = [
    *("set", "relation", "measure", "trial_id", "group", "learning_rate", "seed", "tuned_set"),
    *("gain", "gain_low", "gain_high", "change", "change_low", "change_high"),
    *("num_degraded", "nothing_degraded", "on_front"),
]


def pareto_front(evidence: Evidence) -> pd.DataFrame:
    """Every finished trial with a rate above 0 as a point, and whether it is on the Pareto front.

    Args:
        evidence: what `resample.gather` read.

    Returns:
        One row for each criterion (`set`, `relation`, `measure`) and trial that was scored on both, in the order of the
        sweep: `trial_id`, `group`, `learning_rate`, `seed`, `tuned_set`; `gain`, `gain_low`, `gain_high` (improvement
        on the tuned set, a fraction, with its 95% interval over clusters); `change`, `change_low`, `change_high`
        (improvement of the mean PND over language pairs, the same; ends NaN where the table has none);
        `num_degraded` (language pairs, the most in a pair set and relation of this measure), `nothing_degraded` (none
        is, and no English set that was not tuned on is significantly worse), `on_front` (the head of this file has the
        definition). A diverged trial is no point.

    Raises:
        ResultsError: a finished trial whose `aggregates` are missing, or of another schema version.
    """
    means = _intervals_of_means(evidence)
    gains = _intervals_of_gains(evidence)
    found = [_points(evidence, criterion, means, gains) for criterion in criteria(evidence.sweep)]
    filled = [table for table in found if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=COLUMNS)


def non_dominated(gain_T: Floats, change_T: Floats) -> NDArray[np.bool_]:
    """Which points no other point dominates.

    Args:
        gain_T: higher is better, finite.
        change_T: higher is better, finite.
    """
    is_as_good_TT = (gain_T[:, None] >= gain_T) & (change_T[:, None] >= change_T)
    is_better_TT = (gain_T[:, None] > gain_T) | (change_T[:, None] > change_T)
    on_front_T: NDArray[np.bool_] = ~np.logical_or.reduce(is_as_good_TT & is_better_TT, axis=0).astype(np.bool_)
    return on_front_T


Ends = dict[tuple[str, ...], tuple[float, float]]


def _points(evidence: Evidence, criterion: Criterion, means: Ends, gains: Ends) -> pd.DataFrame:
    gain, change = f"gain_tuned/{criterion.measure}", criterion.column("improvement")
    trials = evidence.trials.dropna(subset=[gain, change])
    if trials.empty:
        return pd.DataFrame(columns=COLUMNS)
    ids = [str(trial_id) for trial_id in trials.index]
    unknown = np.nan, np.nan
    about = criterion.set, criterion.relation, criterion.measure
    of_gain = [gains.get((str(i), str(tuned), criterion.measure), unknown) for i, tuned in trials["tuned_set"].items()]
    of_mean = [means.get((i, *about), unknown) for i in ids]
    harm = harm_by_trial(evidence, criterion.measure).loc[trials.index]
    table = pd.DataFrame(
        {
            **dict(zip(("set", "relation", "measure"), about, strict=True)),
            "trial_id": ids,
            **{name: trials[name].to_numpy() for name in ("group", "learning_rate", "seed", "tuned_set")},
            "gain": trials[gain].to_numpy(dtype=np.float64),
            "gain_low": [low for low, _ in of_gain],
            "gain_high": [high for _, high in of_gain],
            "change": trials[change].to_numpy(dtype=np.float64),
            "change_low": [low for low, _ in of_mean],
            "change_high": [high for _, high in of_mean],
            "num_degraded": harm["num_degraded"].to_numpy(dtype=np.int64),
            "nothing_degraded": (harm["num_degraded"] == 0).to_numpy() & ~harm["is_worse"].to_numpy(),
            "on_front": False,
        }
    )
    for _, part in table.groupby("tuned_set", sort=False):
        table.loc[part.index, "on_front"] = non_dominated(part["gain"].to_numpy(), part["change"].to_numpy())
    return table[COLUMNS]


def _intervals_of_means(evidence: Evidence) -> Ends:
    """By trial, set, relation and measure: ends of the interval of the mean over all language pairs."""
    rows = aggregates(evidence.sweep)
    rows = rows[rows["axis"] == "all"]
    keys = zip(*(rows[name].astype(str) for name in ("trial_id", "set", "relation", "measure")), strict=True)
    return dict(zip(keys, zip(rows["improvement_low"], rows["improvement_high"], strict=True), strict=True))


def _intervals_of_gains(evidence: Evidence) -> Ends:
    """By trial, triplet set and measure."""
    rows = evidence.sweep.scores[evidence.sweep.scores["kind"] == "triplets"]
    keys = zip(*(rows[name].astype(str) for name in ("trial_id", "set", "measure")), strict=True)
    return dict(zip(keys, zip(rows["improvement_low"], rows["improvement_high"], strict=True), strict=True))
