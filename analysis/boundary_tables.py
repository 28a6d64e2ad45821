"""Boundaries as tables: one function a table, each from the `Evidence` that `resample.gather` read once.

    evidence = gather(load_sweep(Path("results/demo")))
    boundary_table(evidence)

Every table has these columns of an estimate: `estimate` (a learning rate), `low` and `high` (95% percentile interval;
NaN: none), and for each of the three a mark, `censored`, `low_censored`, `high_censored`: `none`, `above` or `below`
the rates that were tried, whose highest or lowest then stands as the number. `rate_before` and `rate_after`: the rates
tried on either side of the estimate; the interval knows nothing of a step between them. `num_rates`; `num_seeds` and
`max_seeds` (fewest and most seeds at a rate); `seed_low` and `seed_high` (lowest and highest crossing of a single
seed's own curve, 0 and inf outside the rates; NaN with one seed, or by a criterion that takes them all);
`num_diverged` (they count as broken); `num_absent` (trials of the group that failed or are missing) and `is_complete`;
`num_language_pairs` (0 for triplets), `num_clusters`; `covers` (what the interval covers); `reason` (why a number is
missing or in doubt); `words` (all of it in short, an incomplete sweep first).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from .curves import Criterion, criteria
from .degraded import degraded_curve, degraded_pairs
from .influences import TRIPLETS, WHOLE, Floats, Part
from .resample import Evidence, MeanCurve
from .rules import DELTA, NO_REPLICATES, SHARE, TAIL, Crossing, Rule, cross, neighbours, of_each_seed
from .wording import format_rate

TRIPLET_RELATION = "positive-negative"
NO_HARM = "no tower moved at any rate, so no rate could show harm"
KEYS = ["criterion", "set", "relation", "measure", "axis", "member", "group"]
AXES = ("query language", "passage language", "language pair")


def boundary_table(evidence: Evidence, *, delta: float = DELTA, share: float = SHARE) -> pd.DataFrame:
    """Every boundary of every curve: one row for each criterion, set, relation, measure and group.

    Args:
        evidence: what `gather` read.
        delta: loss that is tolerated, a fraction; of `tolerance` and `level`.
        share: of language pairs that may be degraded; of `pairs`.

    Returns:
        Columns `criterion` (a word of `rules.Rule`), `set`, `relation`, `measure`, `axis` (`all`: mean over language
        pairs; `triplets`), `member`, `group`, and those of an estimate, see the head of this file. Pair sets have all
        criteria, English triplet sets that were not tuned on have `break-even`, `tolerance` and `level`.

    Raises:
        ValueError: a delta or a share that is no fraction.
    """
    _check(delta, share)
    rows = []
    for curve in boundary_curves(evidence):
        for rule in Rule:
            if rule is Rule.PAIRS and curve.part == WHOLE:
                counted = degraded_curve(evidence, curve)
                rows.append(_row(rule, counted, degraded_pairs(counted, share), {}))
            elif rule is not Rule.PAIRS and (curve.part == WHOLE or rule is not Rule.ONSET):
                found, by_seed = cross(rule, curve, delta=delta), of_each_seed(rule, curve, delta=delta)
                rows.append(_row(rule, curve, found, by_seed))
    return pd.DataFrame(rows, columns=COLUMNS)


def language_boundaries(
    evidence: Evidence, rule: Rule | str = Rule.LEVEL, *, axes: tuple[str, ...] = AXES, delta: float = DELTA
) -> pd.DataFrame:
    """Which language breaks first: boundaries by query language, by passage language and by language pair.

    Args:
        evidence: what `gather` read.
        rule: `level`, `break-even`, `tolerance` or `onset`.
        axes: which of the three.
        delta: loss that is tolerated.

    Returns:
        The columns of `boundary_table` and `rank`: 1 breaks first within its axis (group, set, relation, measure);
        rows in that order, ties alike. Pairs without an untuned error have no row, and their intervals come from
        fewer replicates. With 225 pairs the one that breaks first is partly the one with most noise: read its interval.

    Raises:
        ValueError: `pairs`, which has no curve of a single language, an unknown axis, a delta out of range.
    """
    rule = Rule(rule)
    _check(delta, SHARE)
    if rule is Rule.PAIRS or not set(axes) <= set(AXES):
        raise ValueError(f"languages break by level, break-even, tolerance or onset, on {AXES}; got {rule}, {axes}")
    found = []
    for group in evidence.groups:
        for criterion in criteria(evidence.sweep):
            found += [ranked_members(evidence, group, criterion, axis, rule, delta=delta) for axis in axes]
    filled = [table for table in found if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=[*COLUMNS, "rank"])


def ranked_members(
    evidence: Evidence, group: str, criterion: Criterion, axis: str, rule: Rule, *, delta: float = DELTA
) -> pd.DataFrame:
    """The rows of `language_boundaries` about one group, criterion and axis.

    Args:
        evidence: what `gather` read.
        group: of settings.
        criterion: set, relation and measure.
        axis: one of `AXES`.
        rule: any but `pairs`.
        delta: loss that is tolerated.
    """
    rows = []
    for curve in _members(evidence, group, criterion, axis):
        crossing, by_seed = cross(rule, curve, delta=delta), of_each_seed(rule, curve, delta=delta)
        rows.append(_row(rule, curve, crossing, by_seed) | {"rank": crossing.estimate})
    table = pd.DataFrame(rows, columns=[*COLUMNS, "rank"])
    table["rank"] = table["rank"].rank(method="min")
    return table.sort_values("rank", kind="stable")


def boundary_curves(evidence: Evidence, *groups: str) -> Iterator[MeanCurve]:
    """Means over language pairs, then untargeted English sets, for each group (none named: all of them)."""
    found = [(criterion, WHOLE) for criterion in criteria(evidence.sweep)]
    for group in groups or evidence.groups:
        triplets = [(criterion, TRIPLETS) for criterion in triplet_criteria(evidence, group, tuned=False)]
        for criterion, part in [*found, *triplets]:
            curve = evidence.curve(group, criterion, part)
            if curve is not None:
                yield curve


def triplet_criteria(evidence: Evidence, group: str, *, tuned: bool) -> list[Criterion]:
    """Triplet sets with untuned errors that the group was scored on: those it was tuned on, or the others."""
    found: dict[Criterion, None] = {}
    for trial_id in evidence.trials.index[evidence.trials["group"] == group]:
        source = evidence.sweep.trial_specs[trial_id].source.name
        parts = evidence.influences[trial_id].parts if trial_id in evidence.influences else {}
        found |= {key: None for key, part in parts if part == TRIPLETS and (key.set == source) == tuned}
    return list(found)


def _members(evidence: Evidence, group: str, criterion: Criterion, axis: str) -> Iterator[MeanCurve]:
    if axis == "language pair":
        yield from evidence.pair_curves(group, criterion)
        return
    place = ("query language", "passage language").index(axis)
    languages = dict.fromkeys(pair[place] for pair in evidence.pair_keys(criterion))
    yield from evidence.curves(group, criterion, [Part(axis, language) for language in languages])


def _row(rule: Rule, curve: MeanCurve, found: Crossing, by_seed: dict[int, float]) -> dict[str, object]:
    if not curve.can_show_harm:
        found, by_seed = Crossing(math.nan, NO_REPLICATES, NO_HARM), {}
    keys = (
        str(rule),
        curve.criterion.set,
        curve.criterion.relation,
        curve.criterion.measure,
        curve.part.axis,
        curve.part.member,
        curve.group,
    )
    seeds = [10**crossing for crossing in by_seed.values()] or [math.nan]
    numbers = estimate_columns(found, curve.rates_R)
    rate_before, rate_after = neighbours(found.estimate, curve.rates_R)
    return {
        **dict(zip(KEYS, keys, strict=True)),
        **numbers,
        "rate_before": rate_before,
        "rate_after": rate_after,
        "seed_low": min(seeds),
        "seed_high": max(seeds),
        "num_rates": len(curve.rates_R),
        "num_seeds": int(curve.seeds_R.min()),
        "max_seeds": int(curve.seeds_R.max()),
        "num_diverged": curve.num_diverged,
        "num_absent": curve.num_absent,
        "is_complete": curve.num_absent == 0,
        "num_language_pairs": curve.num_language_pairs,
        "num_clusters": curve.num_clusters,
        "covers": _covers(rule, curve, found),
        "reason": found.reason,
        "words": in_words(numbers, found.reason, curve.num_absent),
    }


COLUMNS = [
    *KEYS,
    *("estimate", "low", "high", "censored", "low_censored", "high_censored", "rate_before"),
    *("rate_after", "seed_low", "seed_high", "num_rates"),
    *("num_seeds", "max_seeds", "num_diverged", "num_absent", "is_complete", "num_language_pairs", "num_clusters"),
    *("covers", "reason", "words"),
]


def estimate_columns(found: Crossing, rates_R: Floats) -> dict[str, float | str]:
    """Estimate and interval as rates, each with its mark; ends are order statistics, so that a mark is not averaged."""
    low = high = math.nan
    if len(found.replicates_B):
        low = float(np.quantile(found.replicates_B, TAIL, method="lower"))
        high = float(np.quantile(found.replicates_B, 1 - TAIL, method="higher"))
    columns: dict[str, float | str] = {}
    ends = (("estimate", "censored", found.estimate), ("low", "low_censored", low), ("high", "high_censored", high))
    for name, mark, value in ends:
        outside = math.isinf(value)
        columns[name] = float(rates_R[-1] if value > 0 else rates_R[0]) if outside else float(10**value)
        columns[mark] = ("above" if value > 0 else "below") if outside else "none"
    return columns


def in_words(row: dict[str, float | str], reason: str, num_absent: int) -> str:
    """One short phrase: an incomplete sweep first, then the number or why there is none."""
    absent = f"INCOMPLETE, {num_absent} failed or missing: " if num_absent else ""
    estimate, mark = float(row["estimate"]), row["censored"]
    if math.isnan(estimate):
        return f"{absent}no boundary: {reason}"
    because = f" ({reason})" if reason else ""
    interval = _interval(row)
    if mark == "above":
        return f"{absent}no boundary in this range: above {format_rate(estimate)}{because}{interval}"
    if mark == "below":
        return f"{absent}below {format_rate(estimate)}, the lowest rate tried{because}{interval}"
    return f"{absent}{format_rate(estimate)}{because}{interval}"


def _interval(row: dict[str, float | str]) -> str:
    if math.isnan(float(row["low"])):
        return ", no interval"
    marks = row["low_censored"], row["high_censored"]
    if marks[0] == marks[1] != "none":
        return ""
    low, high = format_rate(float(row["low"])), format_rate(float(row["high"]))
    return f", 95% {'below ' * (marks[0] == 'below')}{low} to {'above ' * (marks[1] == 'above')}{high}"


def _covers(rule: Rule, curve: MeanCurve, found: Crossing) -> str:
    if not len(found.replicates_B):
        return "nothing"
    if rule is Rule.PAIRS:
        return "seeds"
    return "texts" if curve.seeds_R.max() == 1 else "texts and seeds"


def _check(delta: float, share: float) -> None:
    if not (0 <= delta < 1 and 0 <= share < 1):
        raise ValueError(
            f"a tolerated loss and a share of language pairs must be fractions from 0 to below 1, got {delta} and "
            f"{share}; the defaults are {DELTA} and {SHARE}"
        )
