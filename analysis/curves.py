"""Gains and losses by trial, and by learning rate: the tables behind every picture and every printed line.

Columns that depend on a set are named `<what>/<set>/<measure>` for triplets and `<what>/<set>/<relation>/<measure>` for
labelled pairs (no set's name holds a slash). Improvements are fractions of the untuned PND, positive is better
(equation 1 of the paper).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adiabatic_ray.statistics import metrics
from adiabatic_ray.statistics.significance import PAPER_CRITICAL_Z, adjust_bh

from .load import Sweep

MEASURES = ("cosine", "distance")
ALPHA = 0.05
"""False discovery rate of the clustered test over a set's language pairs; level of the test of a single set."""
PRESERVED_ALPHA = 0.025
"""Of the one-sided non-inferiority test in `scores`: that of a two-sided 95% interval."""
KEPT_UNTUNED = "kept_untuned"
"""Column: the trial evaluated the untuned state although its rate is above 0, because no epoch improved."""
UNMOVED = "unmoved"
"""Column: not one weight of the state that was kept differs from the untuned one, although the rate is above 0."""


@dataclass(frozen=True)
class Criterion:
    """What a boundary is about: one relation of one pair set, by one measure."""

    set: str
    relation: str
    measure: str

    def column(self, what: str) -> str:
        """Name of a column of `curve_table` about this criterion."""
        return f"{what}/{self.set}/{self.relation}/{self.measure}"

    def __str__(self) -> str:
        """For titles and sentences."""
        return f"{self.set}, {self.relation}, {self.measure}"


def criteria(sweep: Sweep) -> list[Criterion]:
    """Criteria that the sweep can answer: pair sets in the order of the specification, cosine before distance.

    Improvement is relative to the untuned errors, so a relation without any untuned error, in any language pair, is
    left out: its improvement is undefined.
    """
    found: dict[Criterion, None] = {}
    for rows in sweep.untuned.values():
        pairs = rows[rows["kind"] == "pairs"]
        names = zip(pairs["set"], pairs["relation"], pairs["measure"], pairs["by_positive"], strict=True)
        found |= {Criterion(name, relation, measure): None for name, relation, measure, errors in names if errors.any()}
    order = [source.name for spec in sweep.trial_specs.values() for source in spec.evaluation.sets]
    relations = list(dict.fromkeys(criterion.relation for criterion in found))
    return sorted(found, key=lambda c: (order.index(c.set), relations.index(c.relation), MEASURES.index(c.measure)))


def other_triplet_sets(sweep: Sweep) -> list[str]:
    """Triplet sets that are evaluated but not tuned on: English, but different."""
    sets = sweep.scores.loc[sweep.scores["kind"] == "triplets", "set"]
    tuned = [sweep.trial_specs[trial_id].source.name for trial_id in sweep.scores["trial_id"].unique()]
    return [name for name in dict.fromkeys(sets) if any(name != one for one in tuned)]


def curve_table(sweep: Sweep) -> pd.DataFrame:
    """One row per trial of the sweep, finished or not, in its order.

    Returns:
        Columns `trial_id`, `group` (settings other than rate and seed, '' when there is one group), `learning_rate`,
        `freeze`, `seed`, `status`, `kept_epoch`, `kept_untuned`, `unmoved`, `tuned_set`; numbers are NaN where
        there is no score (diverged, failed, missing, no such set):

        - `gain_tuned/<measure>`, `p_tuned/<measure>`: improvement of PND over all comparisons on the triplet set that
          bears the tuning source's name, and p of its clustered test;
        - `gain/<set>/<measure>`, `p/<set>/<measure>`: the same on each other triplet set;
        - `improvement/<pair set>/<relation>/<measure>`: improvement of the mean PND over all language pairs, which the
          boundary is about (`resample` says why);
        - `mean/...`: plain mean of the improvements of the language pairs with untuned errors, whose number is
          `pairs/...`; wild where a pair has few of them;
        - `improved/...`, `degraded/...`: language pairs whose PND changed by the clustered test, Benjamini-Hochberg at
          5% over the set's language pairs within the relation and measure;
        - `preserved/...`: language pairs whose PND was shown to have risen by less than 1% of its untuned value
          (one-sided test at 2.5%, adjusted as above); the others are not shown to be lost. `testable/...`: how many
          can be shown so at all, which takes untuned errors;
        - `improved_z/...`, `degraded_z/...`: the same by the paper's pooled z-test, |z| > 1.96, unadjusted.
    """
    if "curve_table" not in sweep.computed:
        sweep.computed["curve_table"] = _curve_table(sweep)
    table: pd.DataFrame = sweep.computed["curve_table"]
    return table.copy()


def _curve_table(sweep: Sweep) -> pd.DataFrame:
    columns_of: dict[str, dict[str, float]] = {}
    for name, triplets in sweep.scores[sweep.scores["kind"] == "triplets"].groupby("trial_id", sort=False):
        tuned_set = sweep.trial_specs[str(name)].source.name
        columns_of.setdefault(str(name), {}).update(_triplet_columns(triplets, tuned_set))
    pairs = sweep.scores.loc[sweep.scores["kind"] == "pairs", _PAIR_KEYS + _PAIR_SCORES]
    columns = {name: pairs[name].to_numpy() for name in _PAIR_SCORES}
    places = cast("dict[tuple[str, ...], NDArray[np.intp]]", pairs.groupby(_PAIR_KEYS, sort=False).indices)
    for key, chosen in places.items():
        trial_id, *about = map(str, key)
        part = {name: values[chosen] for name, values in columns.items()}
        columns_of.setdefault(trial_id, {}).update(_pair_columns(part, Criterion(*about)))
    kept_epoch = sweep.trials.set_index("trial_id")["kept_epoch"]
    moved_frac = sweep.drift.groupby("trial_id")["moved_frac"].max()
    rows = []
    for trial_id in sweep.trial_ids:
        spec = sweep.trial_specs.get(trial_id)
        status = sweep.status(trial_id)
        kept = float(kept_epoch[trial_id]) if trial_id in columns_of else np.nan
        row: dict[str, object] = {
            "trial_id": trial_id,
            "group": sweep.groups.get(trial_id, ""),
            "learning_rate": spec.tuning.learning_rate if spec else np.nan,
            "freeze": spec.tuning.freeze if spec else None,
            "seed": spec.tuning.seed if spec else None,
            "status": status,
            "kept_epoch": kept,
            KEPT_UNTUNED: bool(kept == 0 and spec is not None and spec.tuning.learning_rate > 0),
            UNMOVED: bool(kept > 0 and spec is not None and spec.tuning.learning_rate > 0 and not moved_frac[trial_id]),
            "tuned_set": spec.source.name if spec else None,
        }
        rows.append(row | columns_of.get(trial_id, {}))
    table = pd.DataFrame(rows)
    expected = [f"{what}/{measure}" for measure in MEASURES for what in ("gain_tuned", "p_tuned")]
    expected += [f"{w}/{name}/{m}" for name in other_triplet_sets(sweep) for m in MEASURES for w in ("gain", "p")]
    expected += [criterion.column(what) for criterion in criteria(sweep) for what in _PAIR_COLUMNS]
    settings = [name for name in table.columns if "/" not in name]
    return table.reindex(columns=settings + expected)


_PAIR_COLUMNS = (
    "improvement",
    "mean",
    "pairs",
    "improved",
    "degraded",
    "preserved",
    "testable",
    "improved_z",
    "degraded_z",
)


def rate_table(sweep: Sweep) -> pd.DataFrame:
    """`curve_table` averaged over the finished seeds of each group and learning rate, rates going up.

    Returns:
        Columns `group`, `learning_rate`, `num_seeds` (trials with scores), `num_diverged`, `num_failed`,
        `num_missing`, `num_kept_untuned`, `num_unmoved`, `status` (in words) and the mean over seeds of every numeric
        column of `curve_table` (counts of language pairs too, so they need not be whole). p-values are left out: a mean
        of them means nothing. A diverged seed has no scores and enters no mean, only `num_diverged`.
    """
    if "rate_table" not in sweep.computed:
        sweep.computed["rate_table"] = _rate_table(sweep, curve_table(sweep))
    table: pd.DataFrame = sweep.computed["rate_table"]
    return table.copy()


def _rate_table(sweep: Sweep, table: pd.DataFrame) -> pd.DataFrame:
    order = {name: place for place, name in enumerate(dict.fromkeys(sweep.groups.values()))}
    measured = [name for name in table.columns if "/" in name and not name.startswith(("p/", "p_tuned/"))]
    rows = []
    for (group, rate), part in table.dropna(subset=["learning_rate"]).groupby(["group", "learning_rate"], sort=True):
        counts = {status: int((part["status"] == status).sum()) for status in _STATUSES}
        kept_untuned, unmoved = int(part[KEPT_UNTUNED].sum()), int(part[UNMOVED].sum())
        rows.append(
            {
                "group": group,
                "learning_rate": rate,
                "num_seeds": counts["COMPLETE"],
                "num_diverged": counts["DIVERGED"],
                "num_failed": counts["FAILED"],
                "num_missing": counts["MISSING"],
                "num_kept_untuned": kept_untuned,
                "num_unmoved": unmoved,
                "status": _status_in_words(counts, kept_untuned, unmoved),
                **part[measured].mean().to_dict(),
            }
        )
    rows.sort(key=lambda row: (order[row["group"]], row["learning_rate"]))
    return pd.DataFrame(rows)


_STATUSES = ("COMPLETE", "DIVERGED", "FAILED", "MISSING")


def _status_in_words(counts: dict[str, int], kept_untuned: int, unmoved: int) -> str:
    """One word when all seeds ended alike; else the number of those that have no score, since `num_seeds` has them."""
    present = {status: number for status, number in counts.items() if number}
    others = [f"{number} {status}" for status, number in present.items() if status != "COMPLETE"]
    words = next(iter(present)) if len(present) == 1 else ", ".join(others)
    notes = ((kept_untuned, "kept untuned"), (unmoved, "moved no weight"))
    return "; ".join([words, *(f"{number} {note}" for number, note in notes if number)])


_PAIR_KEYS = ["trial_id", "set", "relation", "measure"]
_PAIR_SCORES = ["errors_untuned", "pnd_untuned", "pnd_tuned", "improvement", "clustered_z", "paper_z", "bh_p", "maxt_p"]
_PAIR_SCORES += ["preserved_p"]
PairScores: TypeAlias = pd.DataFrame | Mapping[str, NDArray[Any]]


def _triplet_columns(triplets: pd.DataFrame, tuned_set: str) -> Iterator[tuple[str, float]]:
    for name, measure, gain, p in zip(
        triplets["set"], triplets["measure"], triplets["improvement"], triplets["clustered_p"], strict=True
    ):
        is_tuned = name == tuned_set
        yield f"gain_tuned/{measure}" if is_tuned else f"gain/{name}/{measure}", float(gain)
        yield f"p_tuned/{measure}" if is_tuned else f"p/{name}/{measure}", float(p)


@dataclass(frozen=True)
class PairCounts:
    """Language pairs of one criterion whose PND changed, by each test, and those that are shown to be preserved."""

    improved: int
    degraded: int
    """Clustered test, Benjamini-Hochberg at 5% over the pairs of the criterion."""
    improved_maxt: int
    degraded_maxt: int
    """Clustered test, max-T at 5%: the chance of a single false find is bounded."""
    improved_z: int
    degraded_z: int
    """The paper's pooled z-test, |z| > 1.96, unadjusted."""
    preserved: int
    """PND shown to have risen by less than 1% of its untuned value, one-sided at 2.5%."""
    testable: int
    """Pairs that can be shown so: not those without an untuned error, of which no rise is 1%."""


def count_pairs(scores: PairScores) -> PairCounts:
    """Count the language pairs of one criterion; a pair without a test (NaN) is in no count.

    Args:
        scores: rows of the `scores` table about one pair set, relation and measure, or their columns.
    """
    z, paper_z, preserved_p = (np.asarray(scores[name]) for name in ("clustered_z", "paper_z", "preserved_p"))
    found, found_maxt = (np.asarray(scores[name]) <= ALPHA for name in ("bh_p", "maxt_p"))
    return PairCounts(
        improved=int((found & (z < 0)).sum()),
        degraded=int((found & (z > 0)).sum()),
        improved_maxt=int((found_maxt & (z < 0)).sum()),
        degraded_maxt=int((found_maxt & (z > 0)).sum()),
        improved_z=int((paper_z < -PAPER_CRITICAL_Z).sum()),
        degraded_z=int((paper_z > PAPER_CRITICAL_Z).sum()),
        preserved=int((adjust_bh(preserved_p) <= PRESERVED_ALPHA).sum()),
        testable=int((~np.isnan(preserved_p)).sum()),
    )


def _pair_columns(part: PairScores, criterion: Criterion) -> Iterator[tuple[str, float]]:
    """Of the language pairs of one trial and criterion."""
    own_improvement = part["improvement"][part["errors_untuned"] > 0]
    pooled = metrics.improvement(part["pnd_untuned"].mean(), part["pnd_tuned"].mean())
    counts = count_pairs(part)
    yield criterion.column("improvement"), float(pooled)
    yield criterion.column("mean"), float(own_improvement.mean()) if len(own_improvement) else np.nan
    yield criterion.column("pairs"), len(own_improvement)
    for what in ("improved", "degraded", "preserved", "testable", "improved_z", "degraded_z"):
        yield criterion.column(what), getattr(counts, what)
