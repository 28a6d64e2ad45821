"""Section of the report: which language pairs and languages gain and lose, at which rate.

Maps of all language pairs at up to three rates of a group: the best (highest improvement of the mean PND), the last
that holds and the first that fails, both by the first relation's boundary and the same for every relation, so that maps
can be compared. All share the one scale of `shades`.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from .aggregates import LANGUAGE_AXES
from .curves import ALPHA, Criterion
from .interval import estimate, interval_of
from .language_order import breaks, in_order, in_words
from .material import Material
from .page import Beside, Block, Cell, Paragraph, Scale, Section, Table, by_group
from .shades import diverging
from .terminal import percent
from .wording import format_rate

_OPEN_GROUPS = 1
MAX_MAPPED_GROUPS = 6
"""Groups of settings that get maps: a map has 225 cells, and a sweep of 40 groups would make a page of 20 MB."""

_READING = (
    "Improvement of PND in %, mean over seeds; queries (the tuned side) down, passages across. Pale numbers are not "
    "significant in every seed (clustered test, false discovery rate 5% over the pairs of a map); '-': no untuned "
    "error."
)


def languages_section(material: Material) -> Section | None:
    """Maps and per-language tables; None without scored language pairs."""
    shown = [criterion for criterion in material.shown_criteria() if criterion in material.pairs]
    if not shown:
        return None
    codes = [*material.pairs[shown[0]]["query_language"], *material.pairs[shown[0]]["passage_language"]]
    scale = Scale("diverging", "improvement of PND in %: orange is worse, blue is better; edges of the steps")
    blocks: list[Block] = [
        Paragraph(_READING, "note"),
        Paragraph(f"Languages by family: {in_words(in_order(codes))}.", "note"),
        scale,
    ]
    mapped = [group for group in material.groups if maps_of(material, group, shown)]
    parts = [
        (group, [*maps_of(material, group, shown), *by_language(material, group, shown)])
        for group in mapped[:MAX_MAPPED_GROUPS]
    ]
    blocks += by_group(parts, _OPEN_GROUPS)
    if len(mapped) > MAX_MAPPED_GROUPS:
        left_out = "; ".join(mapped[MAX_MAPPED_GROUPS:])
        blocks.append(
            Paragraph(
                f"No maps of {len(mapped) - MAX_MAPPED_GROUPS} more groups of settings, to keep this file small: "
                f"{left_out}. The tables scores and aggregates have their numbers.",
                "warning",
            )
        )
    sources = (
        "Maps: table scores (improvement, improvement_low, improvement_high, bh_p), a row a language pair. By "
        "language: table aggregates, axes 'query language' and 'passage language' (improvement, its interval, "
        "clustered_p), the improvement of the mean PND over the pairs of that language. In Python: "
        f"pandas.read_parquet({str(material.sweep.out / 'scores')!r}).",
    )
    return Section("languages", "Languages", tuple(blocks), sources)


def rates_to_map(material: Material, group: str, criterion: Criterion) -> dict[float, str]:
    """Rate -> why it is shown: best, last that holds, first that fails; only rates with scores."""
    rates = material.rates_of(group)
    scored = rates[(rates["num_seeds"] > 0) & (rates["learning_rate"] > 0)]
    column = criterion.column("improvement")
    scored = scored.dropna(subset=[column])
    if scored.empty:
        return {}
    found = material.curve(group, criterion)
    reasons: dict[float, list[str]] = {}
    best = int(np.argmax(scored[column].to_numpy()))
    wanted = [(float(scored["learning_rate"].iloc[best]), "best for the languages")]
    if found is not None:
        wanted += [(found[1].last_holding_rate or 0.0, "last that holds")]
        wanted += [(found[1].first_failing_rate or 0.0, "first that fails")]
    for rate, reason in wanted:
        if rate in set(scored["learning_rate"]):
            reasons.setdefault(rate, []).append(reason)
    return {rate: ", ".join(reasons[rate]) for rate in sorted(reasons)}


def maps_of(material: Material, group: str, shown: list[Criterion]) -> list[Block]:
    """A row of maps for each relation."""
    rates = rates_to_map(material, group, shown[0])
    made: list[Block] = []
    for criterion in shown:
        maps = [pair_map(material, group, criterion, rate, reason) for rate, reason in rates.items()]
        if maps:
            made.append(Beside(tuple(maps), is_maps=True))
    return made


def pair_map(material: Material, group: str, criterion: Criterion, rate: float, reason: str) -> Table:
    """One map: every language pair of a criterion at a rate, mean over seeds."""
    rows = material.pairs[criterion]
    ids = material.done_at(group, rate)
    rows = rows[rows["trial_id"].isin(ids)]
    found = _cells(rows, ["query_language", "passage_language"], "bh_p")
    queries, passages = in_order(rows["query_language"]), in_order(rows["passage_language"])
    lines = tuple(
        (Cell(query), *(_cell(found.get((query, passage)), f"{query} to {passage}") for passage in passages))
        for query in queries
    )
    seeds = "1 seed" if len(ids) == 1 else f"{len(ids)} seeds"
    return Table(
        f"{criterion} at {format_rate(rate, 3)}: {reason}; {seeds}",
        ("", *passages),
        lines,
        is_map=True,
        row_breaks=breaks(queries),
        column_breaks=frozenset(place + 1 for place in breaks(passages)),
    )


def by_language(material: Material, group: str, shown: list[Criterion]) -> list[Block]:
    """Improvement against the rate, a row a language: by query language, and by passage language."""
    ids = {trial_id: spec.tuning.learning_rate for trial_id, spec in material.sweep.trial_specs.items()}
    rows = material.by_language
    rows = rows[rows["trial_id"].map(lambda one: material.sweep.groups.get(one) == group)]
    rows = rows.assign(rate=rows["trial_id"].map(ids))
    rows = rows[rows["rate"] > 0]
    made: list[Block] = []
    for criterion in shown:
        is_own = (rows["set"] == criterion.set) & (rows["relation"] == criterion.relation)
        part = rows[is_own & (rows["measure"] == criterion.measure)]
        if not part.empty:
            made.append(
                Beside(tuple(_language_table(material, group, part, criterion, axis) for axis in LANGUAGE_AXES))
            )
    return made


def language_boundaries(material: Material, group: str, criterion: Criterion, axis: str) -> dict[str, str]:
    """Language -> its own boundary, for the last column of a per-language table; empty: no such column."""
    rows = material.by_rank(group, criterion, axis).dropna(subset=["estimate"]).to_dict("records")
    return {str(row["member"]): estimate(interval_of(row)) for row in rows}


def _language_table(material: Material, group: str, rows: pd.DataFrame, criterion: Criterion, axis: str) -> Table:
    rows = rows[rows["axis"] == axis]
    found = _cells(rows, ["group", "rate"], "clustered_p")
    languages, rates = in_order(rows["group"]), sorted(rows["rate"].unique())
    boundaries = language_boundaries(material, group, criterion, axis)
    lines = []
    for code in languages:
        cells = [_cell(found.get((code, rate)), f"{axis} {code}, {format_rate(rate, 3)}") for rate in rates]
        lines.append((Cell(code), *cells, *([Cell(boundaries.get(code, "-"))] if boundaries else [])))
    titles = ("", *(format_rate(rate, 3) for rate in rates), *(["boundary"] if boundaries else []))
    return Table(
        f"By {axis}, {criterion}: mean over the pairs of each language, against the learning rate",
        titles,
        tuple(lines),
        is_map=True,
        row_breaks=breaks(languages),
    )


Values = tuple[float, float, float, int, int]
"""Improvement (mean over seeds), lowest and highest end of the seeds' intervals, significant seeds, seeds."""


def _cells(rows: pd.DataFrame, keys: list[str], p: str) -> dict[tuple[str, object], Values]:
    """Values by two keys."""
    rows = rows.assign(is_significant=rows[p] <= ALPHA)
    parts = rows.groupby(keys, sort=False).agg(
        mean=("improvement", "mean"),
        low=("improvement_low", "min"),
        high=("improvement_high", "max"),
        significant=("is_significant", "sum"),
        seeds=("is_significant", "size"),
    )
    return {key: tuple(values) for key, values in zip(parts.index, parts.to_numpy().tolist(), strict=True)}


def _cell(values: Values | None, name: str) -> Cell:
    if values is None:
        return Cell("", f"{name}: not scored")
    mean, low, high, significant, seeds = values
    if math.isnan(mean):
        return Cell("-", f"{name}: no untuned error")
    what = "95%" if seeds == 1 else "hull of the seeds' 95% intervals,"
    between = f" ({what} {percent(low)} to {percent(high)})" if math.isfinite(low) and math.isfinite(high) else ""
    tested = f", {significant:.0f} of {seeds:.0f} seeds significant" if seeds > 1 else ""
    tested = tested or (", significant" if significant else ", not significant")
    return Cell(
        _brief(100 * mean), f"{name}: {percent(mean)}%{between}{tested}", diverging(100 * mean), significant < seeds
    )


def _brief(value: float) -> str:
    """Four characters at most, or five of a loss beyond 1,000%: the cell is small, and its tip has the digits."""
    if abs(value) < 0.095:
        return f"{value:z.2f}".replace("0.", ".") if abs(value) >= 0.005 else "0"
    return f"{value:z.1f}" if abs(value) < 9.95 else f"{value:.0f}"
