"""Section of the report: how many times higher the boundary of one group of settings lies than another's."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from .curves import Criterion
from .interval import interval_of
from .material import Material
from .page import Beside, Block, Bullets, Fold, Paragraph, Picture, Section, text_table
from .range_chart import Range, draw_ranges
from .ratios import boundary_ratios
from .rules import Rule

_RULES = (Rule.LEVEL, Rule.TOLERANCE, Rule.BREAK_EVEN)
_MAX_LINES = 24
_MAX_LEADS = 3
_READING = (
    "Both boundaries are taken in the same replicates, so what the texts do to both cancels; seeds are redrawn apart. "
    "Different: the interval leaves out 1. Above or below: one of the two boundaries lies outside the rates."
)


def ratios_section(material: Material) -> Section | None:
    """Sentences by the first relation, a chart of each shown relation, all ratios folded; None with one group."""
    if len(material.groups) < 2 or not material.curves:
        return None
    reference = material.groups[0]
    found = boundary_ratios(material.evidence, rules=_RULES, delta=material.delta)
    if found.empty:
        return None
    records = found.to_dict("records")
    shown = material.shown_criteria()
    of_level = [row for row in records if row["criterion"] == Rule.LEVEL]
    leads = [_sentence(row) for row in of_level if _about(row) == shown[0]]
    blocks: list[Block] = [Bullets(tuple(leads[:_MAX_LEADS]), num_leads=len(leads[:_MAX_LEADS]))]
    if len(leads) > _MAX_LEADS:
        blocks.append(Fold(f"The other groups ({len(leads) - _MAX_LEADS})", (Bullets(tuple(leads[_MAX_LEADS:])),)))
    pictures = [_picture([row for row in of_level if _about(row) == one], one, reference) for one in shown]
    drawn = [picture for picture in pictures if picture is not None]
    blocks += [Beside(tuple(drawn))] if drawn else []
    titles = ("set, relation, measure", "criterion", "settings", "ratio with 95% interval", "different")
    rows = [
        [str(_about(row)), str(row["criterion"]), str(row["group"]), str(row["words"]), _yes(row["is_different"])]
        for row in records
    ]
    table = text_table(f"Boundaries as multiples of that with {reference}", titles, rows, "<<<<<")
    blocks += [
        Fold(f"Every relation, measure and criterion ({len(rows)} ratios)", (table,)),
        Paragraph(_READING, "note"),
    ]
    sources = ("Tables influence and untuned. Computed by analysis.ratios.boundary_ratios.",)
    return Section("ratios", "Ratios of boundaries", tuple(blocks), sources)


def _picture(rows: list[dict[Any, Any]], criterion: Criterion, reference: str) -> Picture | None:
    lines = [
        Range(str(row["group"]), f"{row['group']}: {row['words']}", interval_of(row, "ratio"), ())
        for row in rows
        if interval_of(row, "ratio").is_known
    ][:_MAX_LINES]
    if not lines:
        return None
    more = f"; the first {_MAX_LINES} of {len(rows)}" if len(rows) > _MAX_LINES else ""
    title = f"Boundary by level as a multiple of that with {reference}, {criterion}, 95% intervals{more}"
    drawn = draw_ranges(lines, title, "times the first group's boundary", 1.0)
    legend = Markup("<span>dotted line: the same boundary</span><span>arrow: at least or at most that</span>")
    return Picture(title, drawn, legend, "The table has the numbers.")


def _sentence(row: dict[Any, Any]) -> str:
    verdict = "the interval leaves out 1" if row["is_different"] else "the interval does not leave out 1"
    which = f"Boundary by {row['criterion']} ({_about(row)}) with {row['group']}, against {row['reference']}"
    return f"{which}: {row['words']}; {verdict}."


def _about(row: dict[Any, Any]) -> Criterion:
    return Criterion(str(row["set"]), str(row["relation"]), str(row["measure"]))


def _yes(value: object) -> str:
    return "yes" if value else "no"
