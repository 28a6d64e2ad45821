"""Points over two axes of percentages as inline SVG, with a line through those that are joined."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from .axes import Axis
from .charts import BOTTOM, HEIGHT, LABEL_HEIGHT, LEFT, RIGHT, SHAPES, TOP, WIDTH, Series, plain_percent

_LABEL_WIDTH = 44.0
_JOINED = "front"
"""Class of the style sheet: the line through points that are joined."""


def draw_scatter(
    series: Sequence[Series], joined: Sequence[tuple[float, float]], labels: tuple[str, str, str]
) -> Markup:
    """The chart as an SVG element; 0 has a line on both axes.

    Args:
        series: marks in percent, at least one; lines and bands are not drawn.
        joined: points of the line, in its order.
        labels: for screen readers, below, at the side.
    """
    marks = [mark for one in series for mark in one.marks]
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    across = Axis([mark.x for mark in marks], (LEFT, right))
    up = Axis([mark.y for mark in marks], (floor, TOP))
    line = Markup('<path class="{}" d="{}"/>')
    text = Markup('<text class="t" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    parts = []
    for tick in across.labels(_LABEL_WIDTH):
        x = across.place(tick)
        parts.append(line.format("grid" if tick else "zero", f"M{x:.1f},{TOP:g}V{floor:g}"))
        parts.append(text.format(x, floor + 18, "middle", plain_percent(tick)))
    for tick in up.labels(LABEL_HEIGHT):
        y = up.place(tick)
        parts.append(line.format("grid" if tick else "zero", f"M{LEFT:g},{y:.1f}H{right:g}"))
        parts.append(text.format(LEFT - 6, y + 4, "end", plain_percent(tick)))
    parts.append(text.format((LEFT + right) / 2, HEIGHT - 6, "middle", labels[1]))
    turned = Markup('<text class="t" text-anchor="middle" transform="translate(13 {:.0f}) rotate(-90)">{}</text>')
    parts.append(turned.format((TOP + floor) / 2, labels[2]))
    if len(joined) > 1:
        way = "L".join(f"{across.place(x):.1f},{up.place(y):.1f}" for x, y in joined)
        parts.append(line.format(_JOINED, f"M{way}"))
    point = Markup('<path class="mark {}{}" d="M{:.1f},{:.1f}{}"><title>{}</title></path>')
    for one in series:
        for mark in one.marks:
            place = across.place(mark.x), up.place(mark.y)
            openness = " open" if mark.is_open else ""
            parts.append(point.format(one.colour, openness, *place, SHAPES[one.shape], mark.tip))
    return Markup('<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, labels[0], Markup("").join(parts)
    )


def scatter_legend(series: Sequence[Series], open_means: str, joined_means: str) -> Markup:
    """What colours, open markers and the line mean, as HTML that wraps."""
    item = Markup('<span><svg viewBox="0 0 26 14" width="26" height="14" aria-hidden="true">{}</svg>{}</span>')
    mark = Markup('<path class="mark {}" d="M13,7{}"/>')
    entries = [item.format(mark.format(one.colour, SHAPES[one.shape]), one.label) for one in series]
    entries.append(item.format(mark.format("grey open", SHAPES["circle"]), open_means))
    entries.append(item.format(Markup('<path class="{}" d="M0,7H26"/>').format(_JOINED), joined_means))
    return Markup("").join(entries)
