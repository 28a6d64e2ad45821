"""Section of the report: which language breaks first, on the query side and on the passage side."""

from __future__ import annotations

import pandas as pd

from .aggregates import LANGUAGE_AXES
from .curves import Criterion
from .interval import estimate, interval, interval_of
from .material import Material
from .page import Beside, Block, Bullets, Fold, Paragraph, Picture, Section, Table, by_group, text_table
from .range_chart import Range
from .report_boundary import range_picture
from .report_languages import MAX_MAPPED_GROUPS
from .wording import format_rate

_READING = (
    "By the criterion level, for the mean over the language pairs that share a query language, or a passage language; "
    "the one that breaks first on top. With many languages the first one is partly the one with most noise: read its "
    "interval. Single language pairs are not on this page, to keep it fast and short; "
    "analysis.boundary_tables.language_boundaries gives them."
)


def breaking_section(material: Material) -> Section | None:
    """Sentences, a chart of each side and relation, numbers folded; None without a language that could break."""
    shown = material.shown_criteria()
    groups = [group for group in material.groups if any(_known(material, group, one) for one in shown[:1])]
    if not groups:
        return None
    blocks: list[Block] = []
    sentences = [_sentence(material, group, shown[0]) for group in groups[:MAX_MAPPED_GROUPS]]
    blocks.append(Bullets(tuple(sentences), num_leads=1))
    parts = [(group, _of_group(material, group, shown)) for group in groups[:MAX_MAPPED_GROUPS]]
    blocks += by_group(parts, num_open=1)
    if len(groups) > MAX_MAPPED_GROUPS:
        left_out = "; ".join(groups[MAX_MAPPED_GROUPS:])
        more = f"Of {len(groups) - MAX_MAPPED_GROUPS} more groups of settings nothing is shown: {left_out}."
        blocks.append(Paragraph(more, "warning"))
    blocks.append(Paragraph(_READING, "note"))
    sources = ("Tables influence and untuned. Computed by analysis.boundary_tables.ranked_members.",)
    return Section("breaking", "Which language breaks first", tuple(blocks), sources)


def _known(material: Material, group: str, criterion: Criterion) -> bool:
    return bool(material.by_rank(group, criterion, LANGUAGE_AXES[0])["estimate"].notna().any())


def _of_group(material: Material, group: str, shown: list[Criterion]) -> list[Block]:
    """Charts of the first relation; those of the others, and all numbers, folded."""
    blocks: list[Block] = []
    for place, criterion in enumerate(shown):
        pictures = [_picture(material, group, criterion, axis) for axis in LANGUAGE_AXES]
        drawn = Beside(tuple(picture for picture in pictures if picture is not None))
        if drawn.blocks:
            blocks.append(drawn if place == 0 else Fold(str(criterion), (drawn,)))
    tables = [_table(material, group, criterion) for criterion in shown]
    blocks.append(Fold("The numbers", tuple(table for table in tables if table.rows)))
    return blocks


def _sentence(material: Material, group: str, criterion: Criterion) -> str:
    texts = []
    for axis in LANGUAGE_AXES:
        rows = material.by_rank(group, criterion, axis).dropna(subset=["estimate"]).to_dict("records")
        if not rows:
            continue
        first, last = rows[0], rows[-1]
        if first["censored"] == "above":
            texts.append(f"no {axis} breaks at any rate tried")
            continue
        of_last = "does not break" if last["censored"] == "above" else f"at {estimate(interval_of(last))}"
        texts.append(
            f"{axis} {first['member']} at {estimate(interval_of(first))} (95% {interval(interval_of(first))}), last "
            f"{last['member']}, {of_last}"
        )
    about = "; ".join(text for text in (str(criterion), group) if text)
    return f"First to break ({about}): {'; '.join(texts)}."


def _picture(material: Material, group: str, criterion: Criterion, axis: str) -> Picture | None:
    rows = material.by_rank(group, criterion, axis).dropna(subset=["estimate"]).to_dict("records")
    found = material.curve(group, criterion)
    rates = list(found[0].rates_R) if found else []
    lines = [
        Range(str(row["member"]), f"{axis} {row['member']}: {row['words']}", interval_of(row), rates) for row in rows
    ]
    return range_picture(lines, f"Boundary by {axis}, {criterion},") if lines else None


def _table(material: Material, group: str, criterion: Criterion) -> Table:
    tables = [material.by_rank(group, criterion, axis) for axis in LANGUAGE_AXES]
    filled = [table for table in tables if len(table)]
    rows = [
        [
            str(row["axis"]),
            str(row["member"]),
            estimate(interval_of(row)),
            interval(interval_of(row)),
            "-"
            if pd.isna(row["rate_before"])
            else f"{format_rate(row['rate_before'], 3)} and {format_rate(row['rate_after'], 3)}",
            str(row["words"]),
        ]
        for table in filled
        for row in table.to_dict("records")
    ]
    titles = ("side", "language", "boundary", "95% interval", "rates on either side", "in words")
    return text_table(f"Boundary by level of each language, {criterion}", titles, rows, "<<>>><")
