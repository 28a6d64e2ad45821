"""Section of the report: the gain on the tuned set against its price in the languages, and its lower end."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from .charts import Mark, Series
from .curve_charts import COLOURS, SHAPES
from .curves import Criterion
from .gains import best_rates, gain_floor
from .interval import estimate, interval, interval_of
from .material import Material
from .page import Beside, Block, Bullets, Fold, Paragraph, Picture, Section, Table, text_table
from .pareto import pareto_front
from .scatter_chart import draw_scatter, scatter_legend
from .terminal import percent
from .wording import format_rate

_FEW = 12
"""Rows of a table that stands open, and sentences that stand open."""
_READING = (
    "Every finished trial is a point: improvement of PND on the set it was tuned on (up) against the improvement of "
    "the mean PND over language pairs (right). A trial is on the front when no other one is at least as good in both "
    "and better in one. Single trials, noise and all: with many of them the front leans to the lucky ones."
)
_HARMLESS = (
    "Nothing degraded: no language pair by the clustered test (false discovery rate 5% over the pairs of a set and "
    "relation), no English set that was not tuned on (5%), no diverged seed. Not found to be degraded is not shown to "
    "be preserved: the criterion tolerance says that of the mean."
)


def gain_section(material: Material) -> Section | None:
    """Best rates first, then the front by each relation, then both tables; None without a gain on a tuned set."""
    best, floor = best_rates(material.evidence), gain_floor(material.evidence)
    if best.empty:
        return None
    sentences = _sentences(material, best, floor)
    blocks: list[Block] = [Bullets(tuple(sentences[:_FEW]), num_leads=min(1, len(sentences)))]
    if len(sentences) > _FEW:
        blocks.append(
            Fold(f"The other groups of settings ({len(sentences) - _FEW})", (Bullets(tuple(sentences[_FEW:])),))
        )
    points = pareto_front(material.evidence)
    if len(points):
        blocks.append(Beside(tuple(_picture(material, points, one) for one in material.shown_criteria())))
        blocks.append(Paragraph(_READING, "note"))
        table = _front_table(points[points["on_front"]], has_groups=len(material.groups) > 1)
        blocks.append(Fold(f"Trials on the front ({len(table.rows)}, by every relation and measure)", (table,)))
    numbers = _gain_table(best, floor)
    blocks += [numbers] if len(numbers.rows) <= _FEW else [Fold(f"{numbers.caption} ({len(numbers.rows)})", (numbers,))]
    blocks.append(Paragraph(_HARMLESS, "note"))
    sources = (
        "Tables influence and untuned (gains, where gain begins), scores (bh_p, clustered_p, intervals of gains), "
        "aggregates (axis all: intervals of means over language pairs). Computed by analysis.pareto.pareto_front, "
        "analysis.gains.best_rates and analysis.gains.gain_floor.",
    )
    return Section("gain", "Gain and its price", tuple(blocks), sources)


def _sentences(material: Material, best: pd.DataFrame, floor: pd.DataFrame) -> list[str]:
    """One a group, by the measure that is shown."""
    measure = "cosine" if (best["measure"] == "cosine").any() else str(best["measure"].iloc[0])
    begins = {str(row["group"]): str(row["words"]) for row in _records(floor) if row["measure"] == measure}
    found = []
    for row in _records(best):
        if row["measure"] != measure:
            continue
        group = str(row["group"])
        where = f"{group}: " if group else ""
        absent = f"INCOMPLETE, {row['num_absent']} failed or missing: " if row["num_absent"] else ""
        free = (
            f"the highest gain at any price is {percent(row['unconstrained_gain'])}% at "
            f"{format_rate(row['unconstrained_rate'], 3)}, with {row['num_degraded_there']} language pairs degraded"
        )
        if math.isnan(row["best_rate"]):
            text = f"At every rate tried something is degraded; {free}"
        elif row["best_rate"] == row["unconstrained_rate"]:
            text = f"{_best(row)}: no rate that was tried gains more"
        else:
            text = f"{_best(row)}; {free}"
        begin = (
            f" Lower end of the gain, followed down from its highest point: {begins[group]}." if group in begins else ""
        )
        found.append(f"{where}{absent}{text} ({measure}).{begin}")
    return found


def _best(row: dict[Any, Any]) -> str:
    ends = f" (95% {percent(row['gain_low'])}% to {percent(row['gain_high'])}%)"
    return (
        f"The best rate with nothing degraded is {format_rate(row['best_rate'], 3)}, with a gain of "
        f"{percent(row['gain'])}%{ends} on the tuned set"
    )


def _picture(material: Material, points: pd.DataFrame, criterion: Criterion) -> Picture:
    own = points[(points["set"] == criterion.set) & (points["relation"] == criterion.relation)]
    own = own[own["measure"] == criterion.measure]
    series = []
    for place, group in enumerate(material.groups):
        marks = [_mark(row, criterion) for row in _records(own[own["group"] == group])]
        shape = SHAPES[(place // len(COLOURS) + place) % len(SHAPES)]
        series += [Series(group or "trial", COLOURS[place % len(COLOURS)], marks, shape=shape)] if marks else []
    front = own[own["on_front"]].sort_values(["change", "gain"])
    joined = [(100 * float(x), 100 * float(y)) for x, y in zip(front["change"], front["gain"], strict=True)]
    if own["tuned_set"].nunique() > 1:
        joined = []  # a front for each tuned set, and no line between two of them
    title = f"Gain on the tuned set against the mean over language pairs: {criterion}"
    labels = title, "improvement of mean PND over language pairs, %", "improvement on tuned set, %"
    legend = scatter_legend(series, "something is degraded", "no other trial is better in both")
    return Picture(title, draw_scatter(series, joined, labels), legend, "The tables have the numbers.")


def _mark(row: dict[Any, Any], criterion: Criterion) -> Mark:
    settings = f", {row['group']}" if row["group"] else ""
    harm = "nothing degraded" if row["nothing_degraded"] else f"{row['num_degraded']} language pairs degraded"
    if not row["nothing_degraded"] and not row["num_degraded"]:
        harm = "another English set degraded"
    front = "; on the front" if row["on_front"] else ""
    tip = (
        f"{format_rate(row['learning_rate'], 3)}, seed {row['seed']:.0f}{settings}: {row['tuned_set']} "
        f"{_with_ends(row, 'gain')}, {criterion.relation} {_with_ends(row, 'change')}; {harm}{front}"
    )
    return Mark(100 * float(row["change"]), 100 * float(row["gain"]), tip, is_open=not row["nothing_degraded"])


def _with_ends(row: dict[Any, Any], name: str) -> str:
    low, high = float(row[f"{name}_low"]), float(row[f"{name}_high"])
    ends = f" (95% {percent(low)} to {percent(high)})" if math.isfinite(low) and math.isfinite(high) else ""
    return f"{percent(float(row[name]))}%{ends}"


def _front_table(front: pd.DataFrame, has_groups: bool) -> Table:
    ordered = front.sort_values(
        ["set", "relation", "measure", "gain"], ascending=[True, True, True, False], kind="stable"
    )
    titles = ["set, relation, measure", *(["settings"] if has_groups else [])]
    titles += ["rate", "seed", "tuned set %", "mean over pairs %", "pairs degraded", "nothing degraded"]
    rows = [
        [
            f"{row['set']}, {row['relation']}, {row['measure']}",
            *([str(row["group"])] if has_groups else []),
            format_rate(row["learning_rate"], 3),
            f"{row['seed']:.0f}",
            _with_ends(row, "gain"),
            _with_ends(row, "change"),
            str(row["num_degraded"]),
            "yes" if row["nothing_degraded"] else "no",
        ]
        for row in _records(ordered)
    ]
    alignment = "<" * (1 + has_groups) + ">" * 5 + "<"
    return text_table("Trials that no other trial beats at both, by criterion", titles, rows, alignment)


def _gain_table(best: pd.DataFrame, floor: pd.DataFrame) -> Table:
    begins = {(row["group"], row["measure"]): row for row in _records(floor)}
    has_groups = best["group"].nunique() > 1
    titles = [
        *(["settings"] if has_groups else []),
        "measure",
        "lower end of gain",
        "95% interval",
        "best rate",
        "gain %",
    ]
    titles += ["95% interval of gain", "seeds", "rate of highest gain", "highest gain %", "pairs degraded there"]
    rows = []
    for row in _records(best):
        begin = begins.get((row["group"], row["measure"]))
        ends = interval_of(begin) if begin is not None else None
        has_best = not math.isnan(row["best_rate"])
        rows.append(
            [
                *([str(row["group"])] if has_groups else []),
                str(row["measure"]),
                estimate(ends) if ends else "-",
                interval(ends) if ends else "-",
                format_rate(row["best_rate"], 3) if has_best else "none",
                percent(row["gain"]),
                f"{percent(row['gain_low'])} to {percent(row['gain_high'])}" if has_best else "-",
                str(row["num_seeds"]),
                format_rate(row["unconstrained_rate"], 3),
                percent(row["unconstrained_gain"]),
                str(row["num_degraded_there"]),
            ]
        )
    caption = "Lower end of the gain on the tuned set, best rate with nothing degraded, highest gain at any price"
    return text_table(caption, titles, rows, "<" * (1 + has_groups) + ">" * 9)


def _records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")
