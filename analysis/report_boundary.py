"""First section of the report: the boundary in a sentence, all boundaries on one axis, and as a table."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from .interval import estimate, interval
from .level import NOTHING_TO_ESTIMATE, Boundary
from .material import Material
from .page import Beside, Block, Bullets, Fold, Paragraph, Picture, Section, Table, text_table
from .range_chart import Range, draw_ranges
from .resample import MeanCurve
from .terminal import completeness_line
from .wording import format_rate, sentence

_MANY = 6
"""More sentences than this fold away, but the first of each group."""
_MAX_LEADS = 4
"""Groups whose first sentence stands open."""
_MAX_ROWS = 16
"""Of a table that stands open."""
_MAX_RANGES = 24
"""Lines of one picture."""

DEFINITION = (
    "The boundary is the learning rate at which the mean PND over all language pairs has risen by the level's share of "
    "its untuned value, read off the curve of seed means, straight in log rate between the rates that were tried; the "
    "first crossing counts, going up. The interval resamples clusters of texts, and seeds where a rate has several. A "
    "diverged trial counts as broken."
)


def boundary_section(material: Material) -> Section:
    """Sentences first, then the picture and the table."""
    boundaries = material.boundaries
    is_whole = material.sweep.completeness.is_whole
    blocks: list[Block] = [] if is_whole else [Paragraph(completeness_line(material.sweep), "warning")]
    if not boundaries:
        blocks.append(Paragraph(f"No boundary: {NOTHING_TO_ESTIMATE}.", "verdict"))
        return Section("boundary", "Boundary", tuple(blocks))
    sentences = [sentence(boundary) for boundary in boundaries]
    firsts = list({boundary.group: place for place, boundary in reversed(list(enumerate(boundaries)))}.values())
    firsts.sort()
    if len(boundaries) <= _MANY:
        blocks.append(Bullets(tuple(sentences), num_leads=1))
    else:
        leads = firsts[:_MAX_LEADS]
        blocks.append(Bullets(tuple(sentences[place] for place in leads), num_leads=len(leads)))
        others = tuple(text for place, text in enumerate(sentences) if place not in leads)
        more = "groups of settings, relations" if len(leads) < len(firsts) else "relations"
        blocks.append(Fold(f"The other {more} and measures ({len(others)})", (Bullets(others),)))
    picture, table = range_picture(ranges(material)), boundary_table([("", boundary) for boundary in boundaries])
    if len(material.groups) == 1:
        blocks.append(Beside((picture, table)))
    else:
        is_long = len(table.rows) > _MAX_ROWS
        blocks += [picture, Fold(f"{table.caption} ({len(table.rows)})", (table,)) if is_long else table]
    blocks.append(Paragraph(DEFINITION, "note"))
    sources = (
        "Tables influence (by_positive, by_negative), untuned (all counts), drift (moved_frac), trials (kept_epoch). "
        "Computed by analysis.resample.mean_curves and analysis.boundary.boundary_of; boundary.json beside this file "
        f"has every field. Bootstrap: {boundaries[0].num_resamples:,} replicates, seed {boundaries[0].seed}. Again: "
        f"python -m analysis.boundary {material.sweep.out}",
    )
    return Section("boundary", "Boundary", tuple(blocks), sources)


def range_picture(ranges: Sequence[Range], about: str = "Boundaries") -> Picture:
    """Boundaries on one axis; the first `_MAX_RANGES` of them.

    Args:
        ranges: at least one.
        about: what they are, for the title.
    """
    left_out = len(ranges) - _MAX_RANGES
    more = f"; the first {_MAX_RANGES} of {len(ranges)}, the table has all" if left_out > 0 else ""
    title = f"{about} with 95% intervals{more}"
    drawn = draw_ranges(ranges[:_MAX_RANGES], title)
    legend = Markup("<span>arrow: beyond the rates that were tried</span><span>small strokes: rates tried</span>")
    return Picture(title, drawn, legend, "The table has the same numbers.")


def ranges(material: Material) -> list[Range]:
    """A line for each boundary; where there are several groups, those of a criterion stand together."""
    has_groups = len(material.groups) > 1
    found = []
    for curve, boundary in zip(material.curves, material.boundaries, strict=True):
        about = str(curve.criterion)
        label, heading = (curve.group, about) if has_groups else (about, "")
        found.append(range_of(curve, boundary, label, heading))
    return in_blocks(found)


def range_of(curve: MeanCurve, boundary: Boundary, label: str, heading: str) -> Range:
    """A line of the chart.

    Args:
        curve: of the boundary.
        boundary: to be drawn.
        label: at the line.
        heading: above the lines that share it.
    """
    about = "; ".join(text for text in (str(curve.criterion), curve.group) if text)
    tip = f"{about}: {estimate(boundary)}, 95% {interval(boundary)}"
    return Range(label, tip, boundary, list(curve.rates_R), heading)


def in_blocks(ranges: Sequence[Range]) -> list[Range]:
    """Lines with the same heading together, headings in the order of their first lines."""
    order = list(dict.fromkeys(one.heading for one in ranges))
    return sorted(ranges, key=lambda one: order.index(one.heading))


def boundary_table(boundaries: Sequence[tuple[str, Boundary]]) -> Table:
    """Every boundary with its interval and the rates beside it.

    Args:
        boundaries: sweep (empty where there is one) and boundary; at least one.
    """

    def rate(value: float | None) -> str:
        return "-" if value is None else format_rate(value, 3)

    about = {
        "sweep": [name for name, _ in boundaries],
        "criterion": [f"{b.set}, {b.relation}, {b.measure}" for _, b in boundaries],
        "settings": [b.group for _, b in boundaries],
    }
    about = {title: texts for title, texts in about.items() if any(texts)}
    numbers = [
        [
            estimate(b),
            interval(b),
            rate(b.last_holding_rate),
            rate(b.first_failing_rate),
            str(b.num_seeds) if b.num_seeds == b.max_seeds else f"{b.num_seeds} to {b.max_seeds}",
        ]
        for _, b in boundaries
    ]
    titles = (*about, "boundary", "95% interval", "last that holds", "first that fails", "seeds")
    rows = [[*names, *own] for names, own in zip(zip(*about.values(), strict=True), numbers, strict=True)]
    level = f"{100 * boundaries[0][1].level:+g}%"
    caption = f"Learning rates at which the mean improvement falls below {level}"
    return text_table(caption, titles, rows, "<" * len(about) + ">" * 5)
