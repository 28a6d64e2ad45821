"""Section of the report: five criteria of "quality stops holding", on one axis, with their definitions and numbers."""

from __future__ import annotations

import math

import pandas as pd

from .curves import Criterion
from .interval import estimate, interval, interval_of
from .material import Material
from .page import Beside, Block, Bullets, Fold, Paragraph, Picture, Section, Table, text_table
from .range_chart import Range
from .report_boundary import in_blocks, range_picture
from .rules import Rule, definition
from .wording import format_rate

_FEW_ROWS = 15
"""Of a table that stands open."""
_MAX_DRAWN_GROUPS = 4


def criteria_section(material: Material) -> Section | None:
    """Definitions, a chart of each shown relation, a table of each set, relation and measure; None without a curve."""
    found = material.boundary_table
    if found.empty:
        return None
    blocks: list[Block] = [Paragraph(_reading(material), "note"), Bullets(_definitions(material))]
    shown = material.shown_criteria()
    pictures = [picture for one in shown if (picture := _picture(material, _rows_of(found, one), one)) is not None]
    if pictures:
        blocks.append(Beside(tuple(pictures)))
    parts = [
        (Criterion(*map(str, key)), part) for key, part in found.groupby(["set", "relation", "measure"], sort=False)
    ]
    first = [table_of(part, one) for one, part in parts if one in shown[:1]]
    others = [table_of(part, one) for one, part in parts if one not in shown[:1]]
    is_open = all(len(table.rows) <= _FEW_ROWS for table in first)
    blocks += first if is_open else [Fold(table.caption, (table,)) for table in first]
    if others:
        title = f"Other relations and measures, and English sets that were not tuned on ({len(others)} tables)"
        blocks.append(Fold(title, tuple(others)))
    sources = (
        "Tables influence, untuned and scores (bh_p, for pairs). Computed by analysis.boundary_tables.boundary_table; "
        "docs/boundary.md says how well planted boundaries are found.",
    )
    return Section("criteria", "All criteria", tuple(blocks), sources)


def table_of(rows: pd.DataFrame, criterion: Criterion) -> Table:
    """Every boundary of one set, relation and measure.

    Args:
        rows: of `boundary_tables.boundary_table`.
        criterion: for the caption.
    """
    has_groups, has_seeds = rows["group"].nunique() > 1, bool(rows["seed_low"].notna().any())
    titles = [*(["settings"] if has_groups else []), "criterion", "rate", "95% interval", "rates on either side"]
    titles += [*(["crossings of single seeds"] if has_seeds else []), "interval covers", "in words"]
    lines = [
        [
            *([str(row["group"])] if has_groups else []),
            str(row["criterion"]),
            estimate(interval_of(row)),
            interval(interval_of(row)),
            _between(row["rate_before"], row["rate_after"]),
            *([_seeds(row["seed_low"], row["seed_high"])] if has_seeds else []),
            str(row["covers"]),
            str(row["words"]),
        ]
        for row in rows.to_dict("records")
    ]
    return text_table(
        f"{criterion}: all criteria", titles, lines, "<" * (1 + has_groups) + ">" * (3 + has_seeds) + "<<"
    )


def _reading(material: Material) -> str:
    untargeted = ", ".join(material.english)
    english = (
        f" English sets that were not tuned on ({untargeted}) have the criteria of a mean alone." if untargeted else ""
    )
    return (
        "Each is a rate on the same curve, straight in log rate between the rates that were tried; the first crossing "
        f"counts, going up. A step between the rates on either side is in no interval.{english}"
    )


def _definitions(material: Material) -> tuple[str, ...]:
    return tuple(f"{rule}: {definition(rule, delta=material.delta)}." for rule in Rule)


def _rows_of(found: pd.DataFrame, one: Criterion) -> pd.DataFrame:
    return found[(found["set"] == one.set) & (found["relation"] == one.relation) & (found["measure"] == one.measure)]


def _picture(material: Material, rows: pd.DataFrame, criterion: Criterion) -> Picture | None:
    """Criteria under one another; with several groups, those of a group under its name."""
    groups = material.groups
    lines = []
    for row in rows[rows["group"].isin(groups[:_MAX_DRAWN_GROUPS])].to_dict("records"):
        found = material.curve(str(row["group"]), criterion)
        if found is None or not interval_of(row).is_known:
            continue
        tip = f"{row['criterion']}: {row['words']}"
        heading = str(row["group"]) if len(groups) > 1 else ""
        lines.append(Range(str(row["criterion"]), tip, interval_of(row), list(found[0].rates_R), heading))
    if not lines:
        return None
    left_out = len(groups) - _MAX_DRAWN_GROUPS
    more = f", first {_MAX_DRAWN_GROUPS} groups of settings" if left_out > 0 else ""
    return range_picture(in_blocks(lines), f"All criteria{more}, {criterion},")


def _between(before: float, after: float) -> str:
    return "-" if math.isnan(before) else f"{format_rate(before, 3)} and {format_rate(after, 3)}"


def _seeds(low: float, high: float) -> str:
    """Lowest and highest; 0 and inf mean outside the rates."""
    if math.isnan(low):
        return "-"
    texts = ["below" if end == 0 else "above" if math.isinf(end) else format_rate(end) for end in (low, high)]
    return " to ".join(dict.fromkeys(texts))
