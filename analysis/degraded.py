"""The share of language pairs that are degraded, against the learning rate: the curve of the criterion `pairs`.

A pair counts as degraded by the clustered test at a false discovery rate of 5% over the pairs of its set, relation and
measure, as in `curves`. The test accounts for the texts. Redrawing the texts under it would add their noise once more:
where nothing changed a replicate's z would have variance 2, and pairs would degrade in replicates that are not degraded
in the data. So replicates redraw the seeds alone; with one seed a rate there is no interval.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .influences import WHOLE
from .level import first_crossing, gap_places
from .resample import Evidence, MeanCurve, redraw_seeds
from .rules import NO_REPLICATES, Crossing


def degraded_curve(evidence: Evidence, curve: MeanCurve) -> MeanCurve:
    """The same trials, with minus the share of degraded pairs in place of the improvement; -inf: diverged."""
    chosen = evidence.scored(curve.group, curve.criterion, WHOLE)
    table = evidence.trials.loc[chosen.trial_ids]
    is_diverged_T = (table["status"] == "DIVERGED").to_numpy()
    counts_T = table[curve.criterion.column("degraded")].to_numpy(dtype=np.float64)
    value_T = np.where(is_diverged_T, -np.inf, -counts_T / curve.num_language_pairs)
    no_noise_BR = np.zeros((evidence.num_resamples, len(curve.rates_R)))
    rng = np.random.default_rng([evidence.seed, 3])
    _, mean_R, replicates_BR, _ = redraw_seeds(chosen.rates_T, value_T, no_noise_BR, rng)
    return replace(curve, mean_R=mean_R, replicates_BR=replicates_BR, by_seed=chosen.by_seed(value_T))


def degraded_pairs(curve: MeanCurve, share: float) -> Crossing:
    """The rate from which more than a share of the language pairs is degraded.

    Args:
        curve: of `degraded_curve`.
        share: a fraction of the language pairs; at the share still holds.
    """
    log_R = np.log10(curve.rates_R)
    estimate = float(first_crossing(log_R, curve.mean_R[None], -share, np.array([0.5]))[0])
    if curve.seeds_R.max() == 1:
        return Crossing(estimate, NO_REPLICATES, "one seed a rate")
    return Crossing(estimate, first_crossing(log_R, curve.replicates_BR, -share, gap_places(curve)))
