"""Intervals under one another on one log axis, of learning rates or of ratios: a bar and a dot a line, as inline SVG.

An end that lies outside the rates that were tried is an arrow. Small strokes are the rates that were tried. Labels
stand above their lines, and beside them where all are as short as a language's code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from .axes import spaced
from .charts import RIGHT, SHAPES, WIDTH, short_rate
from .interval import Interval

_ROW, _HEADING, _TOP, _FOOT = 38.0, 24.0, 6.0, 40.0
_SHORT_ROW, _SHORT_LABEL = 20.0, 46.0
_MAX_SHORT = 4
"""Characters of a label that stands beside its line."""
_MAX_LABEL = 58
"""Characters; the rest of a longer label is in its tip."""
_EDGE = 16.0
"""Room for arrows at both ends."""
_TICK_WIDTH = 44.0


@dataclass(frozen=True)
class Range:
    """One line of the chart."""

    label: str
    tip: str
    interval: Interval
    """With an estimate; without ends where they are not known."""
    rates: Sequence[float]
    """Rates above 0 that were tried; empty for a ratio."""
    heading: str = ""
    """Stands above the first of the lines that share it."""
    colour: str = "mean"
    """Class of the style sheet."""


def draw_ranges(ranges: Sequence[Range], label: str, axis: str = "learning rate", mark: float | None = None) -> Markup:
    """The chart as an SVG element.

    Args:
        ranges: at least one.
        label: for screen readers.
        axis: what stands below.
        mark: a value that has a line of its own, such as the ratio 1.
    """
    values = [rate for one in ranges for rate in one.rates] + ([mark] if mark else [])
    values += [end for one in ranges for end in (one.interval.estimate, one.interval.low, one.interval.high)]
    known = [math.log10(value) for value in values if not math.isnan(value)]
    low, high = min(known), max(known)
    is_short = all(len(one.label) <= _MAX_SHORT for one in ranges)
    left, right = (_SHORT_LABEL if is_short else 8.0) + _EDGE, WIDTH - RIGHT - _EDGE

    def x(value: float) -> float:
        return left + (math.log10(value) - low) / (high - low or 1.0) * (right - left)

    tops, headings, top = [], [], _TOP
    for place, one in enumerate(ranges):
        if one.heading and (place == 0 or one.heading != ranges[place - 1].heading):
            headings.append((top, one.heading))
            top += _HEADING
        tops.append(top)
        top += _SHORT_ROW if is_short else _ROW
    height = top + _FOOT
    floor = height - _FOOT
    parts = []
    for tick in spaced(_ticks(low, high), x, _TICK_WIDTH):
        parts.append(Markup('<path class="grid" d="M{0:.1f},{1:g}V{2:g}"/>').format(x(tick), _TOP, floor))
        text = Markup('<text class="t" x="{:.1f}" y="{:g}" text-anchor="middle">{}</text>')
        parts.append(text.format(x(tick), floor + 16, f"{tick:g}" if 0.001 < tick < 1000 else short_rate(tick)))
    if mark is not None:
        parts.append(Markup('<path class="level" d="M{:.1f},{:g}V{:g}"/>').format(x(mark), _TOP, floor))
    below = Markup('<text class="t" x="{:g}" y="{:g}" text-anchor="middle">{}</text>')
    parts.append(below.format(WIDTH / 2, height - 6, axis))
    heading = Markup('<text class="t heading" x="8" y="{:g}">{}</text>')
    parts += [heading.format(above + 17, _cut(text)) for above, text in headings]
    for one, above in zip(ranges, tops, strict=True):
        label_y, line_y = (above + 15, above + 10) if is_short else (above + 15, above + 27)
        parts.append(Markup('<text class="t strong" x="8" y="{:g}">{}</text>').format(label_y, _cut(one.label)))
        parts.append(_one_range(one, line_y, x, (left - _EDGE, right + _EDGE)))
    return Markup('<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, label, Markup("").join(parts)
    )


def _cut(label: str) -> str:
    return label if len(label) <= _MAX_LABEL else f"{label[: _MAX_LABEL - 1]}\N{HORIZONTAL ELLIPSIS}"


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 in every decade, or decades where there are many; the ends where there would be fewer than two."""
    steps = (1, 2, 5) if high - low < 2 else (1,)
    decades = range(math.floor(low), math.ceil(high) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    inside = [tick for tick in ticks if low - 1e-9 <= math.log10(tick) <= high + 1e-9]
    return inside if len(inside) > 1 else sorted({10**low, 10**high})


def _one_range(one: Range, y: float, x: Callable[[float], float], ends: tuple[float, float]) -> Markup:
    found = one.interval
    parts = [Markup('<path class="tick" d="M{:.1f},{:g}v8"/>').format(x(rate), y - 4) for rate in one.rates]
    if not math.isnan(found.low):
        start = ends[0] if found.low_censored == "below" else x(found.low)
        stop = ends[1] if found.high_censored == "above" else x(found.high)
        bar = Markup('<path class="interval {}" d="M{:.1f},{:g}H{:.1f}"><title>{}</title></path>')
        parts.append(bar.format(one.colour, min(start, stop - 1), y, stop, one.tip))
        if found.low_censored == "below":
            parts.append(Markup('<path class="mark {}" d="M{:.1f},{:g}l8,-5v10z"/>').format(one.colour, start - 4, y))
        if found.high_censored == "above":
            parts.append(Markup('<path class="mark {}" d="M{:.1f},{:g}l-8,-5v10z"/>').format(one.colour, stop + 4, y))
    if found.censored == "none":
        dot = Markup('<path class="mark {}" d="M{:.1f},{:g}{}"><title>{}</title></path>')
        parts.append(dot.format(one.colour, x(found.estimate), y, SHAPES["dot"], one.tip))
    return Markup("").join(parts)
