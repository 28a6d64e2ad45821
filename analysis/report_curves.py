"""Section of the report: curves against the learning rate, each with the table of its numbers."""

from __future__ import annotations

from .curve_charts import counts_picture, improvement_picture, overlay_picture
from .curves import Criterion
from .material import Material
from .page import Beside, Block, Fold, Paragraph, Section, Table, by_group, text_table
from .terminal import LEGEND, cells, header, sections

_OPEN_GROUPS = 3
"""Groups of settings whose charts are open; those of the others fold away."""


def curves_section(material: Material) -> Section:
    """An overlay of all groups where there are several; for each group the charts by cosine, then all numbers."""
    blocks: list[Block] = [Paragraph(LEGEND, "note")]
    if len(material.groups) > 1:
        blocks += overlays(material)
    tables = _tables(material)
    blocks += by_group([(group, _group_blocks(material, group, tables)) for group in material.groups], _OPEN_GROUPS)
    sources = (
        "Tables scores (improvement, clustered_p, bh_p, paper_z), influence and untuned (mean and band). Computed by "
        "analysis.curves.curve_table (curves.csv beside this file), analysis.curves.rate_table and "
        "analysis.resample.mean_curves. An open marker: clustered p above 5% for a trial on an English set; 0 inside "
        "the 95% band for the mean over language pairs.",
    )
    return Section("curves", "Curves", tuple(blocks), sources)


def overlays(material: Material) -> list[Block]:
    """One chart a relation, with the curves of all groups that have two or more rates."""
    made: list[Block] = []
    for criterion in material.shown_criteria():
        found = [curve for curve in material.curves if curve.criterion == criterion and len(curve.rates_R) > 1]
        if len(found) > 1:
            named = [(curve.group, curve) for curve in found]
            made.append(overlay_picture(named, criterion, material.level, "groups of settings"))
    return [Beside(tuple(made))] if made else []


def _group_blocks(
    material: Material, group: str, tables: dict[tuple[str, Criterion | None, str], Table]
) -> list[Block]:
    """Charts and table of each criterion; folded where it is not among those that are shown."""
    blocks: list[Block] = []
    shown = material.shown_criteria()
    for (of_group, criterion, _), table in tables.items():
        if of_group != group:
            continue
        found = material.curve(group, criterion) if criterion else None
        inside: list[Block] = []
        if found is not None and len(found[0].rates_R) > 1:
            inside.append(Beside((counts_picture(material, *found), improvement_picture(material, *found))))
        elif found is not None and criterion == shown[0]:
            inside.append(Paragraph("One rate above 0: a point, and no curve. The table has it.", "note"))
        inside.append(table)
        is_open = criterion is None or criterion in shown
        blocks += inside if is_open else [Fold(f"By another measure: {criterion}", tuple(inside))]
    return blocks


def _tables(material: Material) -> dict[tuple[str, Criterion | None, str], Table]:
    """Numbers of every group and criterion, as the terminal shows them."""
    made = {}
    for title, rates, criterion, measure in sections(material.sweep):
        titles = header(material.sweep, criterion)
        rows = cells(material.sweep, rates, criterion, measure)
        group = str(rates["group"].iloc[0])
        made[(group, criterion, measure)] = text_table(title, titles, rows, ">" * (len(titles) - 1) + "<")
    return made
