"""Improvement of the mean PND over language pairs against the learning rate, with replicates of the whole curve.

The quantity. For one relation of one pair set by one measure, a trial's improvement is equation 1 of the paper with the
mean PND over all language pairs as its measure M (the mean of Table 3): -(change of the mean PND) / (untuned mean PND).
That is the mean of the language pairs' own improvements, weighted by their untuned errors: every error counts alike.
The unweighted mean is not used because it breaks where a pair is easy. With the packaged E5 and 100 CLDR names, 16 of
the 225 pairs have no untuned error, which leaves their improvement undefined, and one has four (the median is 353 of
10,000), so that one error more there moves the mean by 0.1%, a tenth of the way to the usual level.
A rate's value is the mean over its seeds. A diverged trial counts as -infinity: broken, whatever was to be measured.

The replicates. Two sources of chance are redrawn: which premises (clusters) were written, and which order the data had.
Premises: one multinomial resample is shared by all trials, groups and language pairs of a set, for they are scored on
the same texts. It acts through the influence of each cluster on the improvement (`influences`). With few premises the
replicates spread too far rather than too little: the influence of a small change holds the noise of few comparisons
twice (as DeLong's variance does), and a 95% interval for 100 premises covered the truth 99 times of 100 in simulation.
Seeds: within each rate the mean of n seeds moves by s / sqrt(n) times a draw from Student's t. It has 2 (n - 1)
degrees of freedom, because a crossing rests on the two rates beside it. Drawing the seeds with replacement, the plain
bootstrap, needs more of them than anybody runs. In simulation (five curves, spread the same at all rates or growing
with the rate) its 95% intervals covered the truth with 2, 3 and 5 seeds 52-66, 74-86 and 86-89 times of 100, these
88-95, 91-95 and 91-95 times; the low ends belong to a crossing right at a rate, which rests on that rate alone. A rate
with one seed keeps its value: then nothing is said about seeds there. Where d of n seeds diverged, a replicate is
broken with the chance that n draws hold one of them, 1 - (1 - d/n)^n. Seeds of
different groups are redrawn apart: two boundaries share their premises, and nothing else.

Legend: T trials, R rates, C clusters, K language pairs, B replicates.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .curves import KEPT_UNTUNED, UNMOVED, Criterion, criteria, curve_table
from .influences import TRIPLETS, WHOLE, Floats, Part, TrialInfluences, centred_weights, read_influences
from .load import Sweep

NUM_RESAMPLES = 2000
"""Replicates: 50 lie beyond each end of a 95% interval."""

Resampled: TypeAlias = tuple[Floats, Floats, Floats, NDArray[np.int64]]
"""Rates going up, mean at each, replicates, trials at each rate."""


@dataclass(frozen=True)
class MeanCurve:
    """Improvement against the learning rate, of one group and criterion, at each rate above 0 that has a result."""

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
    """0 for triplets."""
    num_clusters: int
    seed: int
    """Seed of the replicates."""
    part: Part = WHOLE
    """Which language pairs the mean is over."""
    by_seed: Mapping[int, tuple[Floats, Floats]] = field(default_factory=dict)
    """Rates and improvements of each seed of the tuning, where there are several."""

    def band(self, tail: float = 0.025) -> tuple[Floats, Floats]:
        """Percentile interval of the mean at each rate; -inf where too many replicates diverged."""
        low_R = np.quantile(self.replicates_BR, tail, axis=0, method="lower")
        high_R = np.quantile(self.replicates_BR, 1 - tail, axis=0, method="higher")
        return low_R, high_R

    @property
    def can_show_harm(self) -> bool:
        """Whether any tower moved: otherwise every rate would look safe."""
        return self.num_kept_untuned + self.num_unmoved < self.num_trials


class GroupTrials:
    """Trials of one group of settings as arrays: a report asks for hundreds of curves, and pandas takes longer."""

    def __init__(self, name: str, table: pd.DataFrame) -> None:
        """`table`: the group's rows of `Evidence.trials`."""
        self.name = name
        self._table = table
        self.trial_ids = [str(trial_id) for trial_id in table.index]
        self.rates_T = table["learning_rate"].to_numpy(dtype=np.float64)
        self.seeds_T = table["seed"].to_numpy(dtype=np.int64)
        self.kept_untuned_T = table[KEPT_UNTUNED].to_numpy(dtype=bool)
        self.unmoved_T = table[UNMOVED].to_numpy(dtype=bool)
        self.absent_T = table["status"].isin(["FAILED", "MISSING"]).to_numpy(dtype=bool)
        self._some: dict[tuple[bool, ...], GroupTrials] = {}

    def some(self, chosen_T: Sequence[bool]) -> GroupTrials:
        """Those that are chosen; asked for again and again, so kept."""
        key = tuple(chosen_T)
        if key not in self._some:
            self._some[key] = GroupTrials(self.name, self._table[np.array(key, dtype=bool)])
        return self._some[key]

    def by_seed(self, improvement_T: Floats) -> dict[int, tuple[Floats, Floats]]:
        """Rates, going up, and improvements of each seed of the tuning; nothing with one."""
        seeds: Sequence[int] = np.unique(self.seeds_T).tolist()
        order_T = np.argsort(self.rates_T, kind="stable")
        kept = {seed: order_T[self.seeds_T[order_T] == seed] for seed in seeds if len(seeds) > 1}
        return {seed: (self.rates_T[own], improvement_T[own]) for seed, own in kept.items()}


@dataclass(frozen=True)
class Evidence:
    """A sweep with all that its curves are made of, read once by `gather`; every table of boundaries takes it."""

    sweep: Sweep
    trials: pd.DataFrame
    """`curves.curve_table`, by trial id, of rates above 0."""
    influences: dict[str, TrialInfluences]
    num_resamples: int
    seed: int
    num_absent: int
    """Trials of the whole sweep that failed or are missing."""
    computed: dict[tuple[str, Criterion, Part], MeanCurve] = field(default_factory=dict, init=False, repr=False)
    """Curves over all language pairs and of triplets, which every table asks for; those of languages are asked once."""

    @property
    def groups(self) -> list[str]:
        """Groups of settings, in the order of the sweep."""
        return list(dict.fromkeys(self.sweep.groups.values()))

    @functools.cached_property
    def of_group(self) -> dict[str, GroupTrials]:
        """The trials of each group that has a rate above 0."""
        return {str(group): GroupTrials(str(group), part) for group, part in self.trials.groupby("group", sort=False)}

    def curve(self, group: str, criterion: Criterion, part: Part = WHOLE) -> MeanCurve | None:
        """One curve; None where the group has no result for it."""
        key = group, criterion, part
        if key in self.computed:
            return self.computed[key]
        curve = next(iter(self.curves(group, criterion, [part])), None)
        if curve is not None and part in (WHOLE, TRIPLETS):
            self.computed[key] = curve
        return curve

    def curves(self, group: str, criterion: Criterion, parts: Sequence[Part]) -> list[MeanCurve]:
        """A curve for each part that has a result, their texts redrawn in one product."""
        if group not in self.of_group:
            return []
        found = [(part, self.scored(group, criterion, part)) for part in parts]
        found = [(part, chosen) for part, chosen in found if chosen.trial_ids]
        trials = [[self.influences[i].parts[criterion, part] for i in chosen.trial_ids] for part, chosen in found]
        samples = [
            (chosen.rates_T, np.array([one.improvement for one in own]), np.stack([one.influence_C for one in own]))
            for (_, chosen), own in zip(found, trials, strict=True)
        ]
        resampled = resample_curves(samples, num_resamples=self.num_resamples, seed=self.seed, stream=group)
        sizes = [(own[0].num_language_pairs, len(own[0].influence_C)) for own in trials]
        return [
            self._make(chosen, criterion, part, sample[1], result, size)
            for (part, chosen), sample, result, size in zip(found, samples, resampled, sizes, strict=True)
        ]

    def scored(self, group: str, criterion: Criterion, part: Part) -> GroupTrials:
        """Trials of a group, with a rate above 0, that have a result for some language pairs of a criterion."""
        of_group = self.of_group[group]
        return of_group.some(
            [i in self.influences and (criterion, part) in self.influences[i].parts for i in of_group.trial_ids]
        )

    def pair_curves(self, group: str, criterion: Criterion) -> list[MeanCurve]:
        """A curve for each language pair with untuned errors, from fewer replicates (`influences.NUM_PAIR_DRAWS`)."""
        if group not in self.of_group:
            return []
        of_group = self.of_group[group]
        scored_T = [i in self.influences and criterion in self.influences[i].pairs for i in of_group.trial_ids]
        chosen = of_group.some(scored_T)
        if not chosen.trial_ids:
            return []
        draws = [self.influences[i].pairs[criterion] for i in chosen.trial_ids]
        improvement_TK = np.stack([one.improvement_K for one in draws])
        keys = self.pair_keys(criterion)
        known_K = np.flatnonzero(~np.isnan(improvement_TK).any(axis=0))
        noise_TPK = np.stack([one.noise_PK[:, known_K] for one in draws])
        rates_T = chosen.rates_T
        rng = _seed_stream(self.seed, group)
        known_TK = improvement_TK[:, known_K]
        noise_RPK = _finite_means(rates_T, known_TK.min(axis=1), noise_TPK)
        rates_R, mean_RK, replicates_BRK, seeds_R = redraw_seeds_of_all(rates_T, known_TK, noise_RPK, rng)
        num_clusters = next(
            len(one.influence_C)
            for (which, _), one in self.influences[chosen.trial_ids[0]].parts.items()
            if which == criterion
        )
        first = rates_R, mean_RK[:, 0], replicates_BRK[:, :, 0], seeds_R
        one = self._make(chosen, criterion, WHOLE, improvement_TK[:, 0], first, (1, num_clusters))
        return [
            replace(
                one,
                mean_R=mean_RK[:, place],
                replicates_BR=replicates_BRK[:, :, place],
                part=Part("language pair", "/".join(keys[pair])),
                by_seed=chosen.by_seed(improvement_TK[:, pair]),
            )
            for place, pair in enumerate(known_K)
        ]

    def pair_keys(self, criterion: Criterion) -> list[tuple[str, str]]:
        """Query and passage language of each pair, in the order of the untuned counts."""
        for rows in self.sweep.untuned.values():
            own = rows[(rows["set"] == criterion.set) & (rows["relation"] == criterion.relation)]
            own = own[own["measure"] == criterion.measure]
            if len(own):
                return list(zip(own["query_language"], own["passage_language"], strict=True))
        return []

    def _make(
        self,
        chosen: GroupTrials,
        criterion: Criterion,
        part: Part,
        improvement_T: Floats,
        resampled: Resampled,
        sizes: tuple[int, int],
    ) -> MeanCurve:
        """A curve with what is known of its trials; `sizes`: language pairs and clusters."""
        return MeanCurve(
            chosen.name,
            criterion,
            *resampled,
            num_diverged=int(np.isneginf(improvement_T).sum()),
            num_trials=len(chosen.trial_ids),
            num_kept_untuned=int(chosen.kept_untuned_T.sum()),
            num_unmoved=int(chosen.unmoved_T.sum()),
            num_absent=int(self.of_group[chosen.name].absent_T.sum()),
            num_language_pairs=sizes[0],
            num_clusters=sizes[1],
            seed=self.seed,
            part=part,
            by_seed=chosen.by_seed(improvement_T),
        )


def gather(sweep: Sweep, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0, has_pairs: bool = True) -> Evidence:
    """Read what all curves of a sweep are made of.

    Args:
        sweep: a loaded sweep.
        num_resamples: replicates of each curve, at least 100.
        seed: of the replicates.
        has_pairs: whether curves of single language pairs are wanted.

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
    kinds = sweep.completeness
    return Evidence(
        sweep=sweep,
        trials=table[table["learning_rate"] > 0].set_index("trial_id"),
        influences=read_influences(sweep, seed=seed, has_pairs=has_pairs),
        num_resamples=num_resamples,
        seed=seed,
        num_absent=len(kinds.failed) + len(kinds.missing),
    )


def mean_curves(
    sweep: Sweep, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0, evidence: Evidence | None = None
) -> list[MeanCurve]:
    """One curve for each group and criterion, groups in the order of the sweep; none for a group without scored pairs.

    Rate 0 is a control and has no place on a logarithmic axis; failed and missing trials are absent. Every curve starts
    from the same seed, so that one does not depend on which others there are.

    Args:
        sweep: a loaded sweep.
        num_resamples: replicates of each curve, at least 100.
        seed: of the replicates.
        evidence: what `gather` gave, to spare reading again; the other two are its own then.

    Raises:
        ValueError: too few replicates, or a negative seed.
        ResultsError: influence tables that are missing or do not fit the untuned counts.
    """
    evidence = evidence or gather(sweep, num_resamples=num_resamples, seed=seed, has_pairs=False)
    found = criteria(sweep)
    curves = [evidence.curve(group, criterion) for group in evidence.groups for criterion in found]
    return [curve for curve in curves if curve is not None]


def resample_curve(
    rates_T: Floats, improvement_T: Floats, influence_TC: Floats, *, num_resamples: int, seed: int, stream: str = ""
) -> Resampled:
    """Curve and its replicates from trials.

    Args:
        rates_T: learning rate of each trial.
        improvement_T: its improvement; -inf: diverged.
        influence_TC: influence of each cluster on it; anything where the trial diverged.
        num_resamples: B.
        seed: of numpy's default generator. Curves of one seed share their resamples of the clusters.
        stream: name of the curve's own stream, in which seeds of the tuning are redrawn.

    Returns:
        rates_R going up, mean_R, replicates_BR, seeds_R (trials at each rate).
    """
    sample = rates_T, improvement_T, influence_TC
    return resample_curves([sample], num_resamples=num_resamples, seed=seed, stream=stream)[0]


def resample_curves(
    samples: Sequence[tuple[Floats, Floats, Floats]], *, num_resamples: int, seed: int, stream: str = ""
) -> list[Resampled]:
    """`resample_curve` for each of several curves of the same clusters, of which all have the same number."""
    if not samples:
        return []
    influence_SC = np.concatenate([_finite_means(*sample) for sample in samples])
    noise_BS = centred_weights(seed, influence_SC.shape[1], num_resamples) @ influence_SC.T
    places = np.cumsum([len(np.unique(rates_T)) for rates_T, _, _ in samples])[:-1]
    return [
        redraw_seeds(rates_T, improvement_T, noise_BR, _seed_stream(seed, stream))
        for (rates_T, improvement_T, _), noise_BR in zip(samples, np.split(noise_BS, places, axis=1), strict=True)
    ]


def redraw_seeds(rates_T: Floats, improvement_T: Floats, noise_BR: Floats, rng: np.random.Generator) -> Resampled:
    """`resample_curve` from the noise that the clusters give the mean of each rate's trials that did not diverge."""
    found = redraw_seeds_of_all(rates_T, improvement_T[:, None], noise_BR.T[:, :, None], rng)
    return found[0], found[1][:, 0], found[2][:, :, 0], found[3]


def redraw_seeds_of_all(
    rates_T: Floats, improvement_TK: Floats, noise_RBK: NDArray[np.floating[Any]], rng: np.random.Generator
) -> Resampled:
    """The same for many curves of the same trials, whose seeds are redrawn together: rates_R, mean_RK, values_BRK."""
    diverged_T = np.isneginf(improvement_TK).any(axis=1)
    rates_R, rate_of_T = np.unique(rates_T, return_inverse=True)
    seeds_R = np.bincount(rate_of_T).astype(np.int64)
    num_resamples, num_curves = noise_RBK.shape[1:]
    mean_RK, replicates_BRK = np.empty((len(rates_R), num_curves)), np.empty((num_resamples, len(rates_R), num_curves))
    for place, num_seeds in enumerate(seeds_R):
        of_rate_T = rate_of_T == place
        finite_T = of_rate_T & ~diverged_T
        num_finite = int(finite_T.sum())
        mean_RK[place] = improvement_TK[of_rate_T].mean(axis=0)
        if num_finite:
            replicates_BRK[:, place] = improvement_TK[finite_T].mean(axis=0) + noise_RBK[place]
        else:
            replicates_BRK[:, place] = -np.inf
        if num_finite > 1:
            error_K = improvement_TK[finite_T].std(axis=0, ddof=1) / np.sqrt(num_finite)
            drawn_B1 = np.asarray(rng.standard_t(2 * (num_finite - 1), size=(num_resamples, 1)))
            replicates_BRK[:, place] += drawn_B1 * error_K
        if num_finite < num_seeds:
            is_broken_B = rng.random(num_resamples) >= (num_finite / num_seeds) ** num_seeds
            replicates_BRK[is_broken_B, place] = -np.inf
    return rates_R, mean_RK, replicates_BRK, seeds_R


def _finite_means(
    rates_T: Floats, improvement_T: Floats, values_TX: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """At each rate, going up, the mean over the trials that did not diverge; 0 where all did.

    What the clusters do to a rate is linear in its trials: their mean is resampled, not each of them.
    """
    rates_R, rate_of_T = np.unique(rates_T, return_inverse=True)
    finite_T = ~np.isneginf(improvement_T)
    mean_RX = np.zeros((len(rates_R), *values_TX.shape[1:]), values_TX.dtype)
    for place in range(len(rates_R)):
        chosen_T = finite_T & (rate_of_T == place)
        if chosen_T.any():
            mean_RX[place] = values_TX[chosen_T].mean(axis=0)
    return mean_RX


def _seed_stream(seed: int, name: str) -> np.random.Generator:
    return np.random.default_rng([seed, 2, zlib.crc32(name.encode())])
