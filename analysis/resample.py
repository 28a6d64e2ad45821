"""Improvement of the mean PND over language pairs against the learning rate, with replicates of the whole curve.

The quantity. For one relation of one pair set by one measure, a trial's improvement is equation 1 of the paper with the
mean PND over all language pairs as its measure M (the mean of Table 3): -(change of the mean PND) / (untuned mean PND).
That is the mean of the language pairs' own improvements, weighted by their untuned errors: every error counts alike.
The unweighted mean is not used because it breaks where a pair is easy. With the packaged E5 and 100 CLDR names, 16 of
the 225 pairs have no untuned error, which leaves their improvement undefined, and one has four (the median is 353 of
10,000), so that one error more there moves the mean by 0.1%, a tenth of the way to the usual level.
A rate's value is the mean over its seeds. A diverged trial counts as -infinity: broken, whatever was to be measured.

The replicates. Two sources of chance are redrawn: which premises (clusters) were written, and which order the data had.
Premises: one multinomial resample is shared by all trials and all language pairs, for they are scored on the same
texts. It acts through the influence of each cluster on the improvement, a ratio linearised in both parts:
    d(-D/U) = -dD/U + D dU/U^2,   D change of the mean PND, U untuned mean PND
with dD, dU from `significance.pair_influence_KC`. The second-order term is the relative error of U (about 2% on XNLI)
squared: far below the rest. With few premises the replicates spread too far rather than too little: the influence of a
small change holds the noise of few comparisons twice (as DeLong's variance does), and a 95% interval for 100 premises
covered the truth 99 times of 100 in simulation.
Seeds: within each rate the mean of n seeds moves by s / sqrt(n) times a draw from Student's t. It has 2 (n - 1)
degrees of freedom, because a crossing rests on the two rates beside it. Drawing the seeds with replacement, the plain
bootstrap, needs more of them than anybody runs. In simulation (five curves, spread the same at all rates or growing
with the rate) its 95% intervals covered the truth with 2, 3 and 5 seeds 52-66, 74-86 and 86-89 times of 100, these
88-95, 91-95 and 91-95 times; the low ends belong to a crossing right at a rate, which rests on that rate alone. A rate
with one seed keeps its value: then nothing is said about seeds there. Where d of n seeds diverged, a replicate is
broken with the chance that n draws hold one of them, 1 - (1 - d/n)^n.

Legend: T trials, R rates, C clusters, K language pairs, B replicates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adiabatic_ray.results import ResultsError
from adiabatic_ray.statistics.significance import cluster_weights, pair_influence_KC, resampled_K

from .curves import KEPT_UNTUNED, UNMOVED, Criterion, criteria, curve_table
from .load import Sweep

NUM_RESAMPLES = 2000
"""Replicates: 50 lie beyond each end of a 95% interval."""

Floats = NDArray[np.float64]
_PAIR = ["query_language", "passage_language"]


@dataclass(frozen=True)
class MeanCurve:
    """Improvement of the mean PND for one group and criterion, at each rate above 0 that has a result."""

    group: str
    criterion: Criterion
    rates_R: Floats
    """Learning rates, going up; at least one."""
    mean_R: Floats
    """Mean over seeds, a fraction; -inf where a seed diverged."""
    replicates_BR: Floats
    seeds_R: NDArray[np.int64]
    """Finished seeds at each rate, diverged ones included."""
    num_diverged: int
    num_trials: int
    """Trials with scores, or diverged, at rates above 0."""
    num_kept_untuned: int
    """Trials that evaluated the untuned state because no epoch improved: they can show no harm."""
    num_unmoved: int
    """Trials that kept a tuned state in which no weight differs: they can show no harm either."""
    num_absent: int
    """Trials of the group with a rate above 0 that failed or are missing."""
    num_language_pairs: int
    num_clusters: int
    seed: int
    """Seed of the replicates."""

    def band(self, tail: float = 0.025) -> tuple[Floats, Floats]:
        """Percentile interval of the mean at each rate; -inf where too many replicates diverged."""
        low_R = np.quantile(self.replicates_BR, tail, axis=0, method="lower")
        high_R = np.quantile(self.replicates_BR, 1 - tail, axis=0, method="higher")
        return low_R, high_R


def mean_curves(sweep: Sweep, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> list[MeanCurve]:
    """One curve for each group and criterion, groups in the order of the sweep; none for a group without scored pairs.

    Rate 0 is a control and has no place on a logarithmic axis; failed and missing trials are absent. Every curve starts
    from the same seed, so that one does not depend on which others there are.

    Args:
        sweep: a loaded sweep.
        num_resamples: replicates of each curve, at least 100.
        seed: of the replicates.

    Raises:
        ValueError: too few replicates, or a negative seed.
        ResultsError: influence tables that are missing or do not fit the untuned counts.
    """
    if num_resamples < 100:
        raise ValueError(
            f"an interval needs 100 or more replicates, got {num_resamples}; the default is {NUM_RESAMPLES}"
        )
    if seed < 0:
        raise ValueError(f"the bootstrap's seed must be 0 or above, got {seed}; the default is 0")
    table = curve_table(sweep)
    untuned_ids = sweep.trials.set_index("trial_id")["untuned_id"]
    improvements: dict[str, dict[Criterion, TrialImprovement]] = {}
    found = criteria(sweep)
    for untuned_id, untuned_rows in sweep.untuned.items():
        untuned = _by_statistic(untuned_rows)
        for trial_id in untuned_ids.index[untuned_ids == untuned_id]:
            is_broken = trial_id in sweep.completeness.diverged
            tuned = None if is_broken else _by_statistic(sweep.influence(trial_id))
            improvements[trial_id] = _trial_improvements(found, trial_id, tuned, untuned)
    curves = []
    for group in dict.fromkeys(sweep.groups.values()):
        part = table[(table["group"] == group) & (table["learning_rate"] > 0)].set_index("trial_id")
        for criterion in found:
            chosen = [i for i in part.index if criterion in improvements.get(i, {})]
            if chosen:
                trials = [improvements[i][criterion] for i in chosen]
                curves.append(_curve(group, criterion, part, chosen, trials, num_resamples, seed))
    return curves


@dataclass(frozen=True)
class TrialImprovement:
    """A trial's improvement of the mean PND over language pairs, and what each cluster contributes to its error."""

    improvement: float
    influence_C: Floats
    num_language_pairs: int


def pooled_improvement(
    by_positive_KC: NDArray[np.int64],
    by_negative_KC: NDArray[np.int64],
    untuned_by_positive_KC: NDArray[np.int64],
    untuned_by_negative_KC: NDArray[np.int64],
    positives_C: NDArray[np.int64],
    negatives_C: NDArray[np.int64],
) -> TrialImprovement:
    """Improvement of the mean PND over language pairs, and its influence by cluster.

    Args:
        by_positive_KC: tuned minus untuned errors of each cluster's positives.
        by_negative_KC: the same of its negatives.
        untuned_by_positive_KC: untuned errors of each cluster's positives.
        untuned_by_negative_KC: the same of its negatives.
        positives_C: positives of each cluster, in every language pair.
        negatives_C: negatives of each cluster.

    Raises:
        ValueError: no untuned error in any language pair, or counts that do not fit, see `pair_influence_KC`.
    """
    # The influence is linear in the counts, so the mean over language pairs may be taken of the counts.
    change_1C, other_1C = (counts.sum(axis=0, keepdims=True) for counts in (by_positive_KC, by_negative_KC))
    untuned_1C, other_untuned_1C = (
        counts.sum(axis=0, keepdims=True) for counts in (untuned_by_positive_KC, untuned_by_negative_KC)
    )
    if not untuned_1C.any():
        raise ValueError("improvement needs untuned errors, got none in any language pair; it is undefined there")
    comparisons = positives_C.sum() * negatives_C.sum()
    change, untuned = change_1C.sum() / comparisons, untuned_1C.sum() / comparisons
    of_change_C = pair_influence_KC(change_1C, other_1C, positives_C, negatives_C)[0]
    of_untuned_C = pair_influence_KC(untuned_1C, other_untuned_1C, positives_C, negatives_C)[0]
    influence_C = -of_change_C / untuned + change * of_untuned_C / untuned**2
    return TrialImprovement(float(-change / untuned), influence_C, len(by_positive_KC))


def resample_curve(
    rates_T: Floats, improvement_T: Floats, influence_TC: Floats, *, num_resamples: int, seed: int
) -> tuple[Floats, Floats, Floats, NDArray[np.int64]]:
    """Curve and its replicates from trials.

    Args:
        rates_T: learning rate of each trial.
        improvement_T: its improvement; -inf: diverged.
        influence_TC: influence of each cluster on it; anything where the trial diverged.
        num_resamples: B.
        seed: of numpy's default generator.

    Returns:
        rates_R going up, mean_R, replicates_BR, seeds_R (trials at each rate).
    """
    rng = np.random.default_rng(seed)
    diverged_T = np.isneginf(improvement_T)
    weights_BC = cluster_weights(rng, influence_TC.shape[1], num_resamples)
    trials_BT = resampled_K(np.where(diverged_T, 0.0, improvement_T), influence_TC, weights_BC)
    trials_BT[:, diverged_T] = -np.inf
    rates_R, rate_of_T = np.unique(rates_T, return_inverse=True)
    seeds_R = np.bincount(rate_of_T).astype(np.int64)
    mean_R, replicates_BR = np.empty(len(rates_R)), np.empty((num_resamples, len(rates_R)))
    for place, num_seeds in enumerate(seeds_R):
        of_rate_T = rate_of_T == place
        mean_R[place] = improvement_T[of_rate_T].mean()
        replicates_BR[:, place] = _seed_means(trials_BT, improvement_T, of_rate_T & ~diverged_T, rng)
        num_broken = int((of_rate_T & diverged_T).sum())
        if num_broken:
            is_broken_B = rng.random(num_resamples) >= (1 - num_broken / num_seeds) ** num_seeds
            replicates_BR[is_broken_B, place] = -np.inf
    return rates_R, mean_R, replicates_BR, seeds_R


def _seed_means(
    trials_BT: Floats, improvement_T: Floats, chosen_T: NDArray[np.bool_], rng: np.random.Generator
) -> Floats:
    """Replicates of the mean over some seeds of one rate; -inf when there is none."""
    num_seeds = int(chosen_T.sum())
    if num_seeds == 0:
        return np.full(len(trials_BT), -np.inf)
    means_B: Floats = trials_BT[:, chosen_T].mean(axis=1)
    if num_seeds > 1:
        error = improvement_T[chosen_T].std(ddof=1) / np.sqrt(num_seeds)
        means_B += error * rng.standard_t(2 * (num_seeds - 1), size=len(trials_BT))
    return means_B


def _curve(
    group: str,
    criterion: Criterion,
    part: pd.DataFrame,
    chosen: list[str],
    trials: list[TrialImprovement],
    num_resamples: int,
    seed: int,
) -> MeanCurve:
    rates_T = part.loc[chosen, "learning_rate"].to_numpy(dtype=np.float64)
    improvement_T = np.array([trial.improvement for trial in trials])
    influence_TC = np.stack([trial.influence_C for trial in trials])
    rates_R, mean_R, replicates_BR, seeds_R = resample_curve(
        rates_T, improvement_T, influence_TC, num_resamples=num_resamples, seed=seed
    )
    return MeanCurve(
        group=group,
        criterion=criterion,
        rates_R=rates_R,
        mean_R=mean_R,
        replicates_BR=replicates_BR,
        seeds_R=seeds_R,
        num_diverged=int(np.isneginf(improvement_T).sum()),
        num_trials=int((rates_T > 0).sum()),
        num_kept_untuned=int(part.loc[chosen, KEPT_UNTUNED].sum()),
        num_unmoved=int(part.loc[chosen, UNMOVED].sum()),
        num_absent=int(part["status"].isin(["FAILED", "MISSING"]).sum()),
        num_language_pairs=trials[0].num_language_pairs,
        num_clusters=influence_TC.shape[1],
        seed=seed,
    )


def _by_statistic(rows: pd.DataFrame) -> dict[Criterion, pd.DataFrame]:
    pairs = rows[rows["kind"] == "pairs"]
    parts = pairs.groupby(["set", "relation", "measure"], sort=False)
    return {Criterion(*map(str, key)): part.set_index(_PAIR) for key, part in parts}


def _trial_improvements(
    wanted: list[Criterion],
    trial_id: str,
    tuned: dict[Criterion, pd.DataFrame] | None,
    untuned: dict[Criterion, pd.DataFrame],
) -> dict[Criterion, TrialImprovement]:
    """Improvements of one trial; `tuned` is None for a diverged one, which is broken by every criterion."""
    found = {}
    for criterion in wanted:
        before = untuned.get(criterion)
        if before is None:  # a set of another group
            continue
        by_positive_KC, by_negative_KC = _stack(before, "by_positive"), _stack(before, "by_negative")
        if tuned is None:
            found[criterion] = TrialImprovement(-np.inf, np.zeros(by_positive_KC.shape[1]), len(before))
            continue
        after = tuned.get(criterion)
        if after is None or set(after.index) != set(before.index) or _lengths(after) != _lengths(before):
            raise ResultsError(
                f"trial {trial_id} must have influence rows for the language pairs and clusters of its untuned counts, "
                f"got others for {criterion}; delete its row in trials/ and run the sweep again"
            )
        after = after.loc[before.index]
        positives_KC, negatives_KC = _stack(before, "positives"), _stack(before, "negatives")
        found[criterion] = pooled_improvement(
            _stack(after, "by_positive"),
            _stack(after, "by_negative"),
            by_positive_KC,
            by_negative_KC,
            positives_KC[0],
            negatives_KC[0],
        )
    return found


def _lengths(rows: pd.DataFrame) -> set[tuple[int, int]]:
    """Clusters of each row, by positive and by negative."""
    return set(zip(rows["by_positive"].map(len), rows["by_negative"].map(len), strict=True))


def _stack(rows: pd.DataFrame, column: str) -> NDArray[np.int64]:
    return np.stack(list(rows[column])).astype(np.int64)
