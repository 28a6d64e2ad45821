"""What each trial improved, and what each cluster of texts contributes to the error of that number.

Improvements are equation 1 of the paper for the mean PND over some language pairs, -(change of the mean) / (untuned
mean): over all pairs of a set, over those of a query language or of a passage language, of one pair alone; and for the
PND of a triplet set. The influence of a cluster is the derivative by its weight, a ratio linearised in both parts:

    d(-D/U) = -dD/U + D dU/U^2,   D change of the mean PND, U untuned mean PND

with dD, dU from `significance.pair_influence_KC` and `triplet_influence_KC`. The second-order term is the relative
error of U (about 2% on XNLI) squared: far below the rest.

Influence tables are large, so they are read trial by trial, only the columns that are needed, and cut down at once. The
225 pairs of a trial would still be 1,670 numbers each; of them only `NUM_PAIR_DRAWS` random combinations are kept,
which are the noise of so many bootstrap replicates. A triplet set of more than `MOST_CLUSTERS` clusters is put into
`NUM_BINS` random bins, whose influences are sums: influences of different clusters are uncorrelated, so the variance of
the bins is that of the clusters, known to sqrt(2 / NUM_BINS), 2%.

Legend: K language pairs, G groups of them, C clusters, P draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adiabatic_ray.statistics.significance import cluster_weights, pair_influence_KC, triplet_influence_KC

from .curves import Criterion, criteria
from .influence_files import InfluenceFiles, TrialCounts
from .load import Sweep

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NUM_PAIR_DRAWS = 400
"""Replicates of a single language pair: 10 lie beyond each end of a 95% interval."""
MOST_CLUSTERS = 8192
NUM_BINS = 4096
NUM_THREADS = 2
_EXACT_IN_FLOAT32 = 2**24
"""Below it every whole number is a float32."""


@dataclass(frozen=True)
class Part:
    """Which language pairs of a criterion a mean is over."""

    axis: str
    """`all`, `query language`, `passage language`, `language pair`; `triplets` for a set without languages."""
    member: str
    """`all`, the language, `de/en` (query, passage); `` for triplets."""


WHOLE = Part("all", "all")
TRIPLETS = Part("triplets", "")


@dataclass(frozen=True)
class TrialImprovement:
    """A trial's improvement of the mean PND over language pairs, and what each cluster contributes to its error."""

    improvement: float
    """A fraction; -inf: the trial diverged."""
    influence_C: Floats
    num_language_pairs: int
    """0 for triplets."""


@dataclass(frozen=True)
class PairDraws:
    """Improvement of each language pair of a criterion in one trial, and draws of its noise."""

    improvement_K: Floats
    """NaN without an untuned error; -inf: the trial diverged."""
    noise_PK: NDArray[np.float32]
    """What redrawing the clusters adds, one row a replicate."""


@dataclass(frozen=True)
class TrialInfluences:
    """One trial."""

    parts: dict[tuple[Criterion, Part], TrialImprovement]
    pairs: dict[Criterion, PairDraws]


def read_influences(sweep: Sweep, *, seed: int = 0, has_pairs: bool = True) -> dict[str, TrialInfluences]:
    """Every finished trial, from its `influence` table and the untuned counts.

    Args:
        sweep: a loaded sweep.
        seed: of the draws for single language pairs.
        has_pairs: whether single language pairs are wanted; a third of the time.

    Raises:
        ResultsError: influence tables that are missing or do not fit the untuned counts.
    """
    wanted = set(criteria(sweep))
    untuned_ids = sweep.trials.set_index("trial_id")["untuned_id"]
    files = InfluenceFiles(sweep.out)
    found: dict[str, TrialInfluences] = {}
    for untuned_id, rows in sweep.untuned.items():
        sets = _untuned_sets(rows, wanted, has_pairs, seed)

        def read(trial_id: str, sets: Sequence[_UntunedSet] = tuple(sets)) -> TrialInfluences:
            is_broken = trial_id in sweep.completeness.diverged
            return _one_trial(sets, None if is_broken else files.read(trial_id), seed)

        ids = list(untuned_ids.index[untuned_ids == untuned_id])
        with ThreadPoolExecutor(NUM_THREADS) as threads:
            found |= dict(zip(ids, threads.map(read, ids), strict=True))
    return {trial_id: found[trial_id] for trial_id in untuned_ids.index}


def pooled_improvement(
    by_positive_KC: Ints,
    by_negative_KC: Ints,
    untuned_by_positive_KC: Ints,
    untuned_by_negative_KC: Ints,
    positives_C: Ints,
    negatives_C: Ints,
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
    of_untuned_1C = pair_influence_KC(untuned_1C, other_untuned_1C, positives_C, negatives_C)
    of_change_1C = pair_influence_KC(change_1C, other_1C, positives_C, negatives_C)
    improvement_1, influence_1C = _ratio(
        change_1C.sum(axis=1),
        of_change_1C,
        untuned_1C.sum(axis=1),
        of_untuned_1C,
        float(positives_C.sum() * negatives_C.sum()),
    )
    return TrialImprovement(float(improvement_1[0]), influence_1C[0], len(by_positive_KC))


def _ratio(
    change_K: Ints, of_change_KC: Floats, untuned_K: Ints, of_untuned_KC: Floats, comparisons: float
) -> tuple[Floats, Floats]:
    """Improvements from errors, NaN without an untuned one, and their influences from those of the PNDs."""
    errors_K = np.where(untuned_K > 0, untuned_K, np.nan)
    relative_K1 = (change_K / errors_K)[:, None]
    return 0.0 - relative_K1[:, 0], (relative_K1 * of_untuned_KC - of_change_KC) / (errors_K / comparisons)[:, None]


@dataclass(frozen=True)
class _UntunedSet:
    """One criterion before tuning: what every trial is compared with."""

    criterion: Criterion
    keys: tuple[tuple[str, str], ...]
    """Query and passage language of each row; one pair of '' for triplets."""
    parts: tuple[Part, ...]
    member_GK: NDArray[np.floating[Any]]
    """1 where a language pair is in the mean, of the type that `_exact_type` names."""
    sizes: tuple[Ints, Ints]
    """Pairs: positives and negatives of each cluster; triplets: comparisons of each cluster, and nothing."""
    lengths: tuple[int, int]
    """Numbers in a row of the table: by positive, by negative."""
    errors_G: Ints
    influence_GC: Floats
    errors_K: Ints
    noise_PK: Floats
    """Draws of the PND of single language pairs; empty where they are not wanted."""
    cluster_of_query_Q: Ints
    bin_of_cluster_C: Ints
    """Empty where clusters stay as they are."""

    @property
    def is_triplets(self) -> bool:
        return self.parts == (TRIPLETS,)

    @property
    def num_comparisons(self) -> float:
        """Of one language pair, or of all triplets."""
        return (
            float(np.prod([sizes.sum() for sizes in self.sizes])) if len(self.sizes[1]) else float(self.sizes[0].sum())
        )


def _untuned_sets(rows: pd.DataFrame, wanted: set[Criterion], has_pairs: bool, seed: int) -> list[_UntunedSet]:
    found = []
    for key, part in rows.groupby(["set", "relation", "measure"], sort=False):
        criterion = Criterion(*map(str, key))
        if part["kind"].iloc[0] == "triplets":
            found += [_untuned_triplets(criterion, part.iloc[0])] if part["by_positive"].iloc[0].any() else []
        elif criterion in wanted:
            found.append(_untuned_pairs(criterion, part, has_pairs, seed))
    return found


def _untuned_pairs(criterion: Criterion, rows: pd.DataFrame, has_pairs: bool, seed: int) -> _UntunedSet:
    by_positive_KC, by_negative_KC, positives_KC, negatives_KC = (
        np.stack(list(rows[name])).astype(np.int64) for name in ("by_positive", "by_negative", "positives", "negatives")
    )
    keys = tuple(zip(rows["query_language"], rows["passage_language"], strict=True))
    parts = [WHOLE]
    for place, axis in enumerate(("query language", "passage language")):
        parts += [Part(axis, language) for language in dict.fromkeys(key[place] for key in keys)]
    is_member_GK = [[part == WHOLE or part.member == key[part.axis[0] == "p"] for key in keys] for part in parts]
    sizes = positives_KC[0], negatives_KC[0]
    member_GK = np.array(is_member_GK, _exact_type(len(keys), sizes))
    sums = _sums(member_GK, by_positive_KC), _sums(member_GK, by_negative_KC)
    errors_K = by_positive_KC.sum(axis=1, dtype=np.int64)
    return _UntunedSet(
        criterion=criterion,
        keys=keys,
        parts=tuple(parts),
        member_GK=member_GK,
        sizes=sizes,
        lengths=(by_positive_KC.shape[1], by_negative_KC.shape[1]),
        errors_G=sums[0].sum(axis=1),
        influence_GC=pair_influence_KC(*sums, *sizes),
        errors_K=errors_K,
        noise_PK=_pair_noise(seed, sizes, by_positive_KC + by_negative_KC, errors_K) if has_pairs else np.empty((0, 0)),
        cluster_of_query_Q=np.empty(0, np.int64),
        bin_of_cluster_C=np.empty(0, np.int64),
    )


def _untuned_triplets(criterion: Criterion, row: pd.Series[Any]) -> _UntunedSet:
    errors_Q, positives_Q, negatives_Q, cluster_Q = (
        np.asarray(row[name], dtype=np.int64) for name in ("by_positive", "positives", "negatives", "cluster_of_query")
    )
    errors_1C = _by_cluster(errors_Q, cluster_Q)[None]
    comparisons_C = _by_cluster(positives_Q * negatives_Q, cluster_Q)
    num_clusters = errors_1C.shape[1]
    bins_C = np.empty(0, np.int64)
    if num_clusters > MOST_CLUSTERS:
        bins_C = np.random.default_rng(0).permutation(num_clusters) % NUM_BINS
    return _UntunedSet(
        criterion=criterion,
        keys=(("", ""),),
        parts=(TRIPLETS,),
        member_GK=np.ones((1, 1)),
        sizes=(comparisons_C, np.empty(0, np.int64)),
        lengths=(len(errors_Q), 0),
        errors_G=errors_1C.sum(axis=1),
        influence_GC=_binned(triplet_influence_KC(errors_1C, comparisons_C), bins_C),
        errors_K=errors_1C.sum(axis=1),
        noise_PK=np.empty((0, 0)),
        cluster_of_query_Q=cluster_Q,
        bin_of_cluster_C=bins_C,
    )


def _one_trial(sets: Sequence[_UntunedSet], tuned: TrialCounts | None, seed: int) -> TrialInfluences:
    """`tuned` is None for a diverged trial, which is broken by every criterion."""
    parts: dict[tuple[Criterion, Part], TrialImprovement] = {}
    pairs: dict[Criterion, PairDraws] = {}
    for before in sets:
        if tuned is None:
            improvement_G, influence_GC = np.full(len(before.parts), -np.inf), np.zeros_like(before.influence_GC)
        else:
            by_positive_KC, by_negative_KC = tuned.of(before.criterion, before.keys, before.lengths)
            improvement_G, influence_GC = _improvements(before, by_positive_KC, by_negative_KC)
        num_pairs_G = np.zeros(1) if before.is_triplets else before.member_GK.sum(axis=1)
        for place, part in enumerate(before.parts):
            if before.errors_G[place] > 0:
                its = float(improvement_G[place]), influence_GC[place], int(num_pairs_G[place])
                parts[before.criterion, part] = TrialImprovement(*its)
        if before.noise_PK.size:
            if tuned is None:
                improvement_K = np.where(before.errors_K > 0, -np.inf, np.nan)
                noise_PK = np.zeros((NUM_PAIR_DRAWS, len(improvement_K)), np.float32)
            else:
                change_K = by_positive_KC.sum(axis=1, dtype=np.int64)
                errors_K = np.where(before.errors_K > 0, before.errors_K, np.nan)
                improvement_K = 0.0 - change_K / errors_K
                of_change_PK = _pair_noise(seed, before.sizes, by_positive_KC + by_negative_KC, change_K)
                relative_PK = (of_change_PK + improvement_K * before.noise_PK) / (errors_K / before.num_comparisons)
                noise_PK = -relative_PK.astype(np.float32)
            pairs[before.criterion] = PairDraws(improvement_K, noise_PK)
    return TrialInfluences(parts, pairs)


def _improvements(before: _UntunedSet, by_positive_KC: Ints, by_negative_KC: Ints) -> tuple[Floats, Floats]:
    if before.is_triplets:
        change_1C = _by_cluster(by_positive_KC[0], before.cluster_of_query_Q)[None]
        of_change_1C = _binned(triplet_influence_KC(change_1C, before.sizes[0]), before.bin_of_cluster_C)
        change = change_1C.sum(axis=1), of_change_1C
        return _ratio(*change, before.errors_G, before.influence_GC, before.num_comparisons)
    sums = _sums(before.member_GK, by_positive_KC), _sums(before.member_GK, by_negative_KC)
    of_change_GC = pair_influence_KC(*sums, *before.sizes)
    change = sums[0].sum(axis=1), of_change_GC
    return _ratio(*change, before.errors_G, before.influence_GC, before.num_comparisons)


@lru_cache(maxsize=4)
def centred_weights(seed: int, num_clusters: int, num_resamples: int) -> Floats:
    """How often each cluster is drawn in each replicate, minus 1; the same for everything scored on these clusters."""
    drawn_BC = cluster_weights(np.random.default_rng(seed), num_clusters, num_resamples)
    return drawn_BC.astype(np.float64) - 1


def _pair_noise(seed: int, sizes: tuple[Ints, Ints], both_KC: Ints, errors_K: Ints) -> Floats:
    """Draws of PNDs, or of changes of them, of single language pairs, [P, K].

    With m positives, n negatives and e errors `pair_influence_KC` is (m n (by positive + by negative) - e (n m_a + m
    n_a)) / (m n)^2, so one product of the counts with the weights does, without the influences themselves.
    `both_KC` is errors by positive plus by negative, `errors_K` errors by positive, in all.
    """
    num_positives, num_negatives = (float(size.sum()) for size in sizes)
    weights_PC = _pair_weights(seed, both_KC.shape[1])
    drawn_PK = (weights_PC @ both_KC.T.astype(np.float32)).astype(np.float64)
    relative_C = sizes[0] / num_positives + sizes[1] / num_negatives
    expected_P = weights_PC.astype(np.float64) @ relative_C
    noise_PK: Floats = (drawn_PK - np.outer(expected_P, errors_K)) / (num_positives * num_negatives)
    return noise_PK


@lru_cache(maxsize=4)
def _pair_weights(seed: int, num_clusters: int) -> NDArray[np.float32]:
    return centred_weights(seed, num_clusters, NUM_PAIR_DRAWS).astype(np.float32)


def _sums(member_GK: NDArray[np.floating[Any]], counts_KC: NDArray[np.signedinteger]) -> Ints:
    """Sums over the members of each group; by floating point, which is fast, and exact in the type of `member_GK`."""
    sums_GC: Ints = np.rint(member_GK @ counts_KC.astype(member_GK.dtype)).astype(np.int64)
    return sums_GC


def _exact_type(num_pairs: int, sizes: tuple[Ints, Ints]) -> type[np.floating[Any]]:
    """float32 where it holds every sum of a cluster's errors, or of their changes, over the language pairs exactly."""
    positives_C, negatives_C = sizes
    most = max(int(positives_C.max() * negatives_C.sum()), int(negatives_C.max() * positives_C.sum()))
    return np.float32 if num_pairs * most < _EXACT_IN_FLOAT32 else np.float64


def _by_cluster(values_Q: Ints, cluster_of_query_Q: Ints) -> Ints:
    if not len(cluster_of_query_Q):
        return values_Q.astype(np.int64)
    _, cluster_Q = np.unique(cluster_of_query_Q, return_inverse=True)
    return np.rint(np.bincount(cluster_Q, weights=values_Q)).astype(np.int64)


def _binned(influence_KC: Floats, bin_of_cluster_C: Ints) -> Floats:
    if not len(bin_of_cluster_C):
        return influence_KC
    binned = [np.bincount(bin_of_cluster_C, weights=row_C, minlength=NUM_BINS) for row_C in influence_KC]
    return np.stack(binned).astype(np.float64)
