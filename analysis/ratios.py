"""How two boundaries of one sweep compare: frozen against not, compensated against float32."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from .boundary_tables import boundary_curves
from .influences import WHOLE, Floats
from .resample import Evidence, MeanCurve
from .rules import DELTA, TAIL, Rule, cross


def boundary_ratios(
    evidence: Evidence, *, rules: tuple[Rule, ...] = (Rule.LEVEL,), reference: str | None = None, delta: float = DELTA
) -> pd.DataFrame:
    """How many times higher a group's boundary lies than that of a reference group of the same sweep.

    Both boundaries are taken in the same replicates, which share the texts, so what the texts do to both cancels; seeds
    are redrawn apart.

    Args:
        evidence: what `gather` read.
        rules: criteria, `pairs` excepted.
        reference: a group; none: the first.
        delta: loss that is tolerated.

    Returns:
        One row for each criterion, set, relation, measure and other group: `criterion`, `set`, `relation`, `measure`,
        `group`, `reference`, `ratio`, `low`, `high` (95%) with `censored`, `low_censored`, `high_censored` (`above`:
        the ratio is at least the number, since one of the two lies outside the rates), `is_different` (the interval
        leaves out 1), `words`. NaN where both lie outside on the same side.

    Raises:
        ValueError: no such group, or the criterion `pairs`.
    """
    reference = evidence.groups[0] if reference is None else reference
    if reference not in evidence.groups or Rule.PAIRS in rules:
        raise ValueError(f"a ratio needs a group of {evidence.groups} and no `pairs`, got {reference!r} and {rules}")
    rows = []
    for rule in rules:
        for base in boundary_curves(evidence, reference):
            for group in evidence.groups:
                other = evidence.curve(group, base.criterion, base.part) if group != reference else None
                if other is None or (base.part != WHOLE and rule is Rule.ONSET):
                    continue
                rows.append(_ratio_row(rule, other, base, delta))
    return pd.DataFrame(rows)


def _ratio_row(rule: Rule, other: MeanCurve, base: MeanCurve, delta: float) -> dict[str, object]:
    found = [cross(rule, curve, delta=delta) for curve in (other, base)]
    values = [np.append(one.replicates_B, one.estimate) for one in found]
    logs = [np.log10(curve.rates_R) for curve in (other, base)]
    can_show = other.can_show_harm and base.can_show_harm
    if len(values[0]) != len(values[1]) or len(values[0]) == 1 or not can_show:
        values = [np.full(2, np.nan), np.full(2, np.nan)]
    edges = [np.clip(value, log_R[0], log_R[-1]) for value, log_R in zip(values, logs, strict=True)]
    with np.errstate(invalid="ignore"):
        difference_B = values[0] - values[1]
    edge_B = edges[0] - edges[1]
    columns: dict[str, float | str] = {}
    ends = (
        ("ratio", "censored", len(edge_B) - 1),
        ("low", "low_censored", _order_statistic(difference_B[:-1], TAIL, -np.inf)),
        ("high", "high_censored", _order_statistic(difference_B[:-1], 1 - TAIL, np.inf)),
    )
    for name, mark, place in ends:
        difference = difference_B[place]
        columns[name] = math.nan if math.isnan(difference) else float(10 ** edge_B[place])
        columns[mark] = "none" if not math.isinf(difference) else "above" if difference > 0 else "below"
    # Where an end is not known nothing is shown to differ.
    low, high = (float(columns[name]) for name in ("low", "high"))
    is_higher = low > 1 and columns["low_censored"] != "below"
    is_lower = high < 1 and columns["high_censored"] != "above"
    return {
        "criterion": str(rule),
        "set": base.criterion.set,
        "relation": base.criterion.relation,
        "measure": base.criterion.measure,
        "group": other.group,
        "reference": base.group,
        **columns,
        "is_different": is_higher or is_lower,
        "words": _ratio_words(columns, other.num_absent + base.num_absent),
    }


def _order_statistic(values_B: Floats, tail: float, unknown: float) -> int:
    """Place of the replicate at a quantile; replicates that say nothing lie at the far end."""
    ordered = np.argsort(np.where(np.isnan(values_B), unknown, values_B), kind="stable")
    rank = math.floor(tail * (len(ordered) - 1)) if tail < 0.5 else math.ceil(tail * (len(ordered) - 1))
    return int(ordered[rank])


def _ratio_words(row: dict[str, float | str], num_absent: int) -> str:
    absent = f"INCOMPLETE, {num_absent} failed or missing: " if num_absent else ""
    texts = []
    for name, mark in (("ratio", "censored"), ("low", "low_censored"), ("high", "high_censored")):
        beyond = {"none": "", "above": "above ", "below": "below "}[str(row[mark])]
        texts.append("unknown" if math.isnan(float(row[name])) else f"{beyond}{float(row[name]):.2f}")
    return f"{absent}{texts[0]} times, 95% {texts[1]} to {texts[2]}"
