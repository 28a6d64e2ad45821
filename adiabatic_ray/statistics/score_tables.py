"""From counts to rows: every statistic with its tests, means over groups of language pairs, rank measures.

A family, over which p-values are adjusted and bands hold together, is a set's language pairs within one relation and
measure. A triplet set is a family of one, whose adjusted p-values and band are the plain ones.

Legend: K statistics of one family, C clusters, G groups of language pairs, S rank measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from adiabatic_ray.statistics import inference, metrics, significance
from adiabatic_ray.statistics.counts import RANK_MEASURES, Counts, key_columns
from adiabatic_ray.statistics.inference import Reason
from adiabatic_ray.statistics.language_groups import pair_groups
from adiabatic_ray.statistics.preservation import mcnemar, non_inferiority
from adiabatic_ray.statistics.simultaneous import adjust_by, simultaneous_test

MARGIN = 0.01
"""Loss that non-inferiority is tested against: PND may rise by 1% of its untuned value, as in the boundary's level."""
BAND_SEED = 0
"""Of the multiplier bootstrap, anew for each family: the same counts give the same rows."""
QUERY_PND = "query_pnd"
LEAST_CHANGED = 6
"""Fewest changed clusters that the normal approximation is trusted with: the first number for which an exact sign test
can reach p <= .05 (2 / 2**6 = .031; with 5 it is .0625 at best)."""
REASON_SEPARATOR = "; "
"""Between the words of `Reason` in one row: there may be something to say of the test and of the improvement."""
CONSEQUENCES = {
    Reason.MISSING: "no test",
    Reason.FEW_CLUSTERS: "no test",
    Reason.NO_SPREAD: "no test",
    Reason.NO_UNTUNED_ERROR: "no improvement",
    Reason.NO_TUNED_ERROR: "no interval",
    Reason.FEW_UNTUNED: "no interval",
    Reason.FEW_CHANGED: "p is too small",
}
"""What a reason means for its row; `Reason.NOTHING_CHANGED` leaves every number in place."""


@dataclass(frozen=True)
class _Family:
    """Statistics that are judged together, with their PND before tuning, its change, and the influences on both."""

    rows: list[dict[str, Any]]
    before: Counts
    places_K: np.ndarray
    pnd_K: np.ndarray
    delta_K: np.ndarray
    influence_untuned_KC: np.ndarray
    influence_KC: np.ndarray
    is_changed_KC: np.ndarray
    """Clusters with another number of errors, on either side, than before. Whole clusters: where one query lost what
    another gained, nothing changed that a test could see."""

    @property
    def of_pnd(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The four arrays that `inference` and `preservation` take."""
        return self.pnd_K, self.delta_K, self.influence_untuned_KC, self.influence_KC


def score_rows(trial_id: str, untuned: Sequence[Counts], tuned: Sequence[Counts]) -> list[dict[str, Any]]:
    """Rows of the `scores` table: PND before and after, the paper's test, the clustered tests, intervals and bands."""
    rows: list[dict[str, Any]] = []
    for before, after in zip(untuned, tuned, strict=True):
        of_set: list[dict[str, Any]] = [{}] * len(before.keys)
        query_pnd = _query_pnd(before).mean(axis=1), _query_pnd(after).mean(axis=1)
        errors_before_K, errors_after_K, comparisons_K = before.errors_K, after.errors_K, before.comparisons_K
        pnd_after_K = metrics.pnd(errors_after_K, comparisons_K)
        z_K, p_K = significance.paper_z(errors_before_K, errors_after_K, comparisons_K)
        mcnemar_K = _mcnemar(before, after)
        for family in _families(before, after):
            columns = _tests(family)
            for row, place in enumerate(family.places_K):
                of_set[place] = {
                    "trial_id": trial_id,
                    **family.rows[row],
                    "num_comparisons": int(comparisons_K[place]),
                    "num_clusters": before.num_clusters,
                    "num_changed": int(family.is_changed_KC[row].sum()),
                    "errors_untuned": int(errors_before_K[place]),
                    "errors_tuned": int(errors_after_K[place]),
                    "pnd_untuned": float(family.pnd_K[row]),
                    "pnd_tuned": float(pnd_after_K[place]),
                    "query_pnd_untuned": float(query_pnd[0][place]),
                    "query_pnd_tuned": float(query_pnd[1][place]),
                    "paper_z": float(z_K[place]),
                    "paper_p": float(p_K[place]),
                    "mcnemar_p": float(mcnemar_K[place]),
                    **{name: values[row].item() for name, values in columns.items()},
                }
        rows += of_set
    return rows


def aggregate_rows(trial_id: str, untuned: Sequence[Counts], tuned: Sequence[Counts]) -> list[dict[str, Any]]:
    """Rows of the `aggregates` table: means over groups of language pairs, with the clustered variance of the mean."""
    rows = []
    for before, after in zip(untuned, tuned, strict=True):
        if before.kind != "pairs":
            continue
        for family in _families(before, after):
            groups = pair_groups(*zip(*(before.keys[place][2:] for place in family.places_K), strict=True))
            weights_GK = groups.weights_GK
            change = inference.mean_change(weights_GK, family.delta_K, family.influence_KC)
            improvement = inference.improvement_of_mean(weights_GK, *family.of_pnd)
            num_changed_G = (weights_GK @ family.is_changed_KC > 0).sum(axis=1)
            reason_G = _reasons(change, improvement, num_changed_G)
            untuned_G = weights_GK @ family.pnd_K
            for place, (axis, group) in enumerate(zip(groups.axis, groups.name, strict=True)):
                rows.append(
                    {
                        "trial_id": trial_id,
                        "set": before.set_name,
                        "relation": family.rows[0]["relation"],
                        "measure": family.rows[0]["measure"],
                        "axis": axis,
                        "group": group,
                        "num_pairs": int(groups.member_GK[place].sum()),
                        "pnd_untuned": float(untuned_G[place]),
                        "pnd_tuned": float(untuned_G[place] + change.estimate[place]),
                        **_estimates(change, improvement, reason_G, place),
                    }
                )
    return rows


def ranking_rows(trial_id: str, untuned: Sequence[Counts], tuned: Sequence[Counts]) -> list[dict[str, Any]]:
    """Rows of the `rankings` table: means over the queries of a triplet set, paired, by the clusters of the queries."""
    rows = []
    for before, after in zip(untuned, tuned, strict=True):
        if before.kind == "pairs":
            continue
        for place, (_, measure, _, _) in enumerate(before.keys):
            values_SQ, tuned_SQ = (np.vstack([one.ranks_KSC[place], _query_pnd(one)[place]]) for one in (before, after))
            change_SQ = tuned_SQ - values_SQ
            mean_S, of_untuned_SC = _mean_and_influence(before, values_SQ)
            change_S, influence_SC = _mean_and_influence(before, change_SQ)
            change = inference.estimate_change(change_S, influence_SC)
            improvement = inference.estimate_improvement(mean_S, change_S, of_untuned_SC, influence_SC)
            of_cluster_SC = _sums_over_clusters(before, change_SQ, np.abs(change_SQ))
            reason_S = _reasons(change, improvement, (of_cluster_SC != 0).sum(axis=1))
            for row, statistic in enumerate((*RANK_MEASURES, QUERY_PND)):
                columns = _estimates(change, improvement, reason_S, row)
                if statistic != QUERY_PND:  # these rise when they improve
                    low, high = columns["improvement_low"], columns["improvement_high"]
                    columns |= {
                        "improvement": 0.0 - columns["improvement"],
                        "improvement_low": 0.0 - high,
                        "improvement_high": 0.0 - low,
                    }
                rows.append(
                    {
                        "trial_id": trial_id,
                        "set": before.set_name,
                        "measure": measure,
                        "statistic": statistic,
                        "num_queries": values_SQ.shape[1],
                        "untuned": float(mean_S[row]),
                        "tuned": float(mean_S[row] + change_S[row]),
                        **columns,
                    }
                )
    return rows


def _families(before: Counts, after: Counts) -> Iterator[_Family]:
    assert before.keys == after.keys and before.set_name == after.set_name, "counts of different sets"
    names = key_columns(before)
    change_by_positive_KC = after.by_positive_KC.astype(np.int64) - before.by_positive_KC
    change_by_negative_KC = after.by_negative_KC.astype(np.int64) - before.by_negative_KC
    is_changed_KC = before.sum_over_clusters(change_by_positive_KC) != 0
    if before.kind == "pairs":
        is_changed_KC |= change_by_negative_KC != 0
    pnd_K = metrics.pnd(before.errors_K, before.comparisons_K)
    delta_K = metrics.pnd(after.errors_K, before.comparisons_K) - pnd_K
    for family in dict.fromkeys(key[:2] for key in before.keys):
        places_K = np.flatnonzero([key[:2] == family for key in before.keys])
        yield _Family(
            [names[place] for place in places_K],
            before,
            places_K,
            pnd_K[places_K],
            delta_K[places_K],
            _influence_KC(before, places_K, before.by_positive_KC, before.by_negative_KC),
            _influence_KC(before, places_K, change_by_positive_KC, change_by_negative_KC),
            is_changed_KC[places_K],
        )


def _influence_KC(
    sizes: Counts, places_K: np.ndarray, by_positive_KC: np.ndarray, by_negative_KC: np.ndarray
) -> np.ndarray:
    positives_C, negatives_C = sizes.positives_KC[places_K[0]], sizes.negatives_KC[places_K[0]]
    if sizes.kind == "triplets":
        errors_KC, comparisons_C = map(
            sizes.sum_over_clusters, (by_positive_KC[places_K], positives_C.astype(np.int64) * negatives_C)
        )
        return significance.triplet_influence_KC(errors_KC, comparisons_C)
    return significance.pair_influence_KC(by_positive_KC[places_K], by_negative_KC[places_K], positives_C, negatives_C)


def _tests(family: _Family) -> dict[str, np.ndarray]:
    """Columns of `scores` that are about the change of PND."""
    change = inference.estimate_change(family.delta_K, family.influence_KC)
    improvement = inference.estimate_improvement(*family.of_pnd)
    kept = non_inferiority(*family.of_pnd, margin=MARGIN)
    adjusted_p_K, band_low_K, band_high_K = change.p, change.low, change.high
    if len(family.delta_K) > 1:
        together = simultaneous_test(family.delta_K, family.influence_KC, np.random.default_rng(BAND_SEED))
        adjusted_p_K, band_low_K, band_high_K = together.p, together.low, together.high
    return {
        "change_low": change.low,
        "change_high": change.high,
        "improvement": improvement.estimate,
        "improvement_low": improvement.low,
        "improvement_high": improvement.high,
        "clustered_se": change.se,
        "clustered_z": change.z,
        "clustered_p": change.p,
        "bh_p": significance.adjust_bh(change.p),
        "by_p": adjust_by(change.p),
        "maxt_p": adjusted_p_K,
        "band_low": band_low_K,
        "band_high": band_high_K,
        "preserved_p": kept.p,
        "reason": _reasons(change, improvement, family.is_changed_KC.sum(axis=1)),
    }


def _reasons(change: inference.Estimates, improvement: inference.Estimates, num_changed_K: np.ndarray) -> np.ndarray:
    """Everything that there is to say about a row: about the change and its test, and about the improvement."""
    is_thin_K = (change.reason == "") & (num_changed_K > 0) & (num_changed_K < LEAST_CHANGED)
    thin_K = np.where(is_thin_K, Reason.FEW_CHANGED, "")
    return np.array(
        [
            REASON_SEPARATOR.join(dict.fromkeys(filter(None, words)))
            for words in zip(change.reason, improvement.reason, thin_K, strict=True)
        ]
    )


def _estimates(
    change: inference.Estimates, improvement: inference.Estimates, reason_K: np.ndarray, place: int
) -> dict[str, Any]:
    return {
        "change": float(change.estimate[place]),
        "change_low": float(change.low[place]),
        "change_high": float(change.high[place]),
        "improvement": float(improvement.estimate[place]),
        "improvement_low": float(improvement.low[place]),
        "improvement_high": float(improvement.high[place]),
        "clustered_z": float(change.z[place]),
        "clustered_p": float(change.p[place]),
        "reason": str(reason_K[place]),
    }


def _query_pnd(counts: Counts) -> np.ndarray:
    """Each query's own PND [K, Q]; NaN [K, 1] for pairs, where queries share comparisons."""
    if counts.kind == "pairs":
        return np.full((len(counts.keys), 1), np.nan)
    comparisons_KC = counts.positives_KC.astype(np.int64) * counts.negatives_KC
    own_KC: np.ndarray = counts.by_positive_KC / comparisons_KC
    return own_KC


def _mean_and_influence(counts: Counts, values_SQ: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A mean over queries, and the influence of each cluster on it: the sum of (value - mean) / Q over its queries.

    Values that are all alike leave rounding and no spread: it is told from spread by the sizes of value and mean.
    """
    num_queries = values_SQ.shape[1]
    mean_S = inference.without_rounding(values_SQ.sum(axis=1), np.abs(values_SQ).sum(axis=1)) / num_queries
    mean_S1 = mean_S[:, np.newaxis]
    sizes_SQ = np.abs(values_SQ) + np.abs(mean_S1)
    return mean_S, _sums_over_clusters(counts, values_SQ - mean_S1, sizes_SQ) / num_queries


def _sums_over_clusters(counts: Counts, values_SQ: np.ndarray, sizes_SQ: np.ndarray) -> np.ndarray:
    """Sums over the queries of each cluster, 0 where nothing but rounding is left of terms of these sizes."""
    return inference.without_rounding(counts.sum_over_clusters(values_SQ), counts.sum_over_clusters(sizes_SQ))


def _mcnemar(before: Counts, after: Counts) -> np.ndarray:
    """Exact McNemar p where every query has one triplet and is a cluster of its own; NaN elsewhere."""
    has_one_each = before.positives_KC.max() == before.negatives_KC.max() == 1
    if before.kind == "pairs" or before.shares_clusters or not has_one_each:
        return np.full(len(before.keys), np.nan)
    change_KC = after.by_positive_KC - before.by_positive_KC
    return mcnemar((change_KC > 0).sum(axis=1), (change_KC < 0).sum(axis=1))
