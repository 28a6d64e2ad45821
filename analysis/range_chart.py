"""Boundaries under one another on one axis of learning rates: an interval and a dot a line, as inline SVG.

An end that lies outside the rates that were tried is an arrow. Small strokes are the rates that were tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .charts import RIGHT, SHAPES, WIDTH, short_rate
from .level import Boundary

_ROW, _HEADING, _TOP, _FOOT = 38.0, 24.0, 6.0, 40.0
_MAX_LABEL = 58
"""Characters; the rest of a longer label is in its tip."""
_EDGE = 16.0
"""Room for arrows at both ends."""


@dataclass(frozen=True)
class Range:
    """One line of the chart."""

    label: str
    tip: str
    boundary: Boundary
    rates: Sequence[float]
    """Rates above 0 that were tried."""
    heading: str = ""
    """Stands above the first of the lines that share it."""
    colour: str = "mean"
    """Class of the style sheet."""


def draw_ranges(ranges: Sequence[Range], label: str) -> Markup:
    """The chart as an SVG element.

    Args:
        ranges: at least one.
        label: for screen readers.
    """
    rates = [rate for one in ranges for rate in one.rates]
    low, high = math.log10(min(rates)), math.log10(max(rates))
    left, right = 8.0 + _EDGE, WIDTH - RIGHT - _EDGE

    def x(rate: float) -> float:
        return left + (math.log10(rate) - low) / (high - low or 1.0) * (right - left)

    tops, headings, top = [], [], _TOP
    for place, one in enumerate(ranges):
        if one.heading and (place == 0 or one.heading != ranges[place - 1].heading):
            headings.append((top, one.heading))
            top += _HEADING
        tops.append(top)
        top += _ROW
    height = top + _FOOT
    floor = height - _FOOT
    parts = []
    for tick in _ticks(low, high):
        parts.append(Markup('<path class="grid" d="M{0:.1f},{1:g}V{2:g}"/>').format(x(tick), _TOP, floor))
        text = Markup('<text class="t" x="{:.1f}" y="{:g}" text-anchor="middle">{}</text>')
        parts.append(text.format(x(tick), floor + 16, short_rate(tick)))
    below = Markup('<text class="t" x="{:g}" y="{:g}" text-anchor="middle">learning rate</text>')
    parts.append(below.format(WIDTH / 2, height - 6))
    heading = Markup('<text class="t heading" x="8" y="{:g}">{}</text>')
    parts += [heading.format(above + 17, text) for above, text in headings]
    parts += [_one_range(one, above, x, (left, right)) for one, above in zip(ranges, tops, strict=True)]
    return Markup('<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, label, Markup("").join(parts)
    )


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 in every decade, or decades where there are many; the ends where there would be fewer than two."""
    steps = (1, 2, 5) if high - low < 2 else (1,)
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    inside = [tick for tick in ticks if low - 1e-9 <= math.log10(tick) <= high + 1e-9]
    return inside if len(inside) > 1 else sorted({10**low, 10**high})


def _one_range(one: Range, top: float, x: Callable[[float], float], ends: tuple[float, float]) -> Markup:
    b, y = one.boundary, top + 27.0
    label = one.label if len(one.label) <= _MAX_LABEL else f"{one.label[: _MAX_LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"
    parts = [Markup('<text class="t strong" x="8" y="{:g}">{}</text>').format(top + 15, label)]
    for rate in one.rates:
        parts.append(Markup('<path class="tick" d="M{:.1f},{:g}v8"/>').format(x(rate), y - 4))
    start = ends[0] - _EDGE if b.low_censored == "below" else x(b.low)
    stop = ends[1] + _EDGE if b.high_censored == "above" else x(b.high)
    bar = Markup('<path class="interval {}" d="M{:.1f},{:g}H{:.1f}"><title>{}</title></path>')
    parts.append(bar.format(one.colour, min(start, stop - 1), y, stop, one.tip))
    if b.low_censored == "below":
        parts.append(Markup('<path class="mark {}" d="M{:.1f},{:g}l8,-5v10z"/>').format(one.colour, start - 4, y))
    if b.high_censored == "above":
        parts.append(Markup('<path class="mark {}" d="M{:.1f},{:g}l-8,-5v10z"/>').format(one.colour, stop + 4, y))
    if b.censored == "none":
        dot = Markup('<path class="mark {}" d="M{:.1f},{:g}{}"><title>{}</title></path>')
        parts.append(dot.format(one.colour, x(b.estimate), y, SHAPES["dot"], one.tip))
    return Markup("").join(parts)
