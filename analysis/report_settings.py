"""Section of the report: groups of settings compared, with the columns of the paper's Table 1."""

from __future__ import annotations

import math
from typing import Any

from .curves import ALPHA, MEASURES, Criterion
from .interval import estimate, interval
from .material import Material
from .page import Block, Cell, Fold, Paragraph, Section, Table
from .terminal import percent
from .wording import format_rate

_READING = (
    "Columns as in the paper's Table 1: c by cosine, d by Euclidean distance; % is the improvement of PND, +/- counts "
    "language pairs improved and degraded by the clustered test. Means over seeds; a pale number is not significant in "
    "every seed."
)


def settings_section(material: Material) -> Section | None:
    """One table at a rate that all groups share, and all rates; None when there is one group."""
    if len(material.groups) < 2:
        return None
    is_freezing = material.trials["freeze"].dropna().nunique() > 1
    blocks: list[Block] = [Paragraph(_READING, "note")]
    scored = material.rates[material.rates["num_seeds"] > 0]
    rate = shared_rate(material)
    if rate is not None:
        rows = scored[scored["learning_rate"] == rate].to_dict("records")
        blocks.append(_table(material, rows, f"At {format_rate(rate, 3)}, which all groups of settings share"))
        if len(scored) > len(rows):
            everything = _table(material, scored.to_dict("records"), "Every group of settings at every rate")
            blocks.append(Fold("At every rate", (everything,)))
    elif len(scored):
        blocks.append(Paragraph("No rate above 0 has scores in every group of settings.", "note"))
        blocks.append(_table(material, scored.to_dict("records"), "Every group of settings at every rate"))
    else:
        blocks.append(Paragraph("No group of settings has scores.", "warning"))
    sources = (
        "Tables scores (improvement, clustered_p, bh_p), trials (num_trainable), influence and untuned (boundary). "
        f"Computed by analysis.curves.rate_table. The paper's own rows beside these: adiabatic beside "
        f"{material.sweep.out} 1",
    )
    title = "Freezing compared" if is_freezing else "Settings compared"
    return Section("settings", title, tuple(blocks), sources)


def shared_rate(material: Material) -> float | None:
    """The highest rate with scores in all groups that the first group holds; the lowest shared one where none holds."""
    scored = material.rates[(material.rates["num_seeds"] > 0) & (material.rates["learning_rate"] > 0)]
    counts = scored.groupby("learning_rate")["group"].nunique()
    shared = sorted(float(rate) for rate in counts.index[counts == len(material.groups)])
    if not shared:
        return None
    limit = material.boundaries[0].last_holding_rate if material.boundaries else None
    holding = [rate for rate in shared if limit is not None and rate <= limit]
    return holding[-1] if holding else shared[0]


def _table(material: Material, rows: list[dict[Any, Any]], caption: str) -> Table:
    sets = [("tuned set", "gain_tuned/{}", "p_tuned/{}")]
    sets += [(name, f"gain/{name}/{{}}", f"p/{name}/{{}}") for name in material.english]
    relations = list(dict.fromkeys((one.set, one.relation) for one in material.criteria))
    titles = ["settings", "rate", "trained weights"]
    titles += [f"{name} {measure[0]}%" for name, _, _ in sets for measure in MEASURES]
    titles += [f"{name} {relation} {measure[0]}+/-" for name, relation in relations for measure in MEASURES]
    first = material.shown_criteria()[0] if material.criteria else None
    titles += [f"boundary, {first.relation}, {first.measure}", "95% interval"] if first else []
    lines = []
    for row in rows:
        group = str(row["group"])
        cells = [Cell(group), Cell(format_rate(row["learning_rate"], 3)), Cell(_trained(material, group))]
        for _, gain, p in sets:
            for measure in MEASURES:
                faint = not _is_significant(material, group, row["learning_rate"], p.format(measure))
                cells.append(Cell(percent(row[gain.format(measure)]), is_faint=faint))
        for name, relation in relations:
            for measure in MEASURES:
                criterion = Criterion(name, relation, measure)
                better, worse = (row.get(criterion.column(what), math.nan) for what in ("improved", "degraded"))
                cells.append(Cell("-" if math.isnan(better) else f"{better:g}/{worse:g}"))
        found = material.curve(group, first) if first else None
        if first:
            cells += [Cell(estimate(found[1])), Cell(interval(found[1]))] if found else [Cell("-"), Cell("-")]
        lines.append(tuple(cells))
    return Table(caption, tuple(titles), tuple(lines))


def _is_significant(material: Material, group: str, rate: float, column: str) -> bool:
    """In every seed."""
    trials = material.trials
    values = trials.loc[(trials["group"] == group) & (trials["learning_rate"] == rate), column].dropna()
    return bool(len(values)) and bool((values <= ALPHA).all())


def _trained(material: Material, group: str) -> str:
    trials = material.sweep.trials
    numbers = trials.loc[trials["trial_id"].map(lambda one: material.sweep.groups.get(one) == group), "num_trainable"]
    return f"{int(numbers.iloc[0]):,}" if len(numbers) else "-"
