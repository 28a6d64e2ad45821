"""Line charts as inline SVG: axes, marks with a text each, no script, colours from the page's style sheet.

Why not plotly: its script is 4.5 MB in a page that is otherwise well below one, draws nothing without JavaScript and
nothing well in print, and needs a redraw to go dark. SVG that is written here takes its colours from custom properties,
so that light, dark and print are the style sheet's matter; a mark's `<title>` is what hovering shows and what a screen
reader reads; zooming is the browser's.

A chart is laid out on a fixed canvas and scaled as a whole: 480 units are 358 pixels on a phone, where text of 13 units
has 10 pixels, and some 540 pixels on a desktop.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup, escape

from .axes import Axis, spaced

WIDTH, HEIGHT = 480.0, 320.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 12.0, 12.0, 44.0
_LABEL_WIDTH = 40.0
"""Room that the label of a rate needs."""
LABEL_HEIGHT = 15.0
"""Room that a label needs above another."""
_FEW_RATES = 10
SHAPES = {
    "circle": "m-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0z",
    "square": "m-3.6,-3.6h7.2v7.2h-7.2z",
    "up": "m0,-4.8l4.6,8h-9.2z",
    "down": "m0,4.8l4.6,-8h-9.2z",
    "diamond": "m0,-5.2l5.2,5.2l-5.2,5.2l-5.2,-5.2z",
    "dot": "m-2.6,0a2.6,2.6 0 1,0 5.2,0a2.6,2.6 0 1,0 -5.2,0z",
    "cross": "m-4.5,-4.5l9,9m0,-9l-9,9",
}
"""Paths of markers, relative to their place."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Mark:
    """A point with what hovering it says."""

    x: float
    y: float
    tip: str
    is_open: bool = False
    """Not significant."""


@dataclass(frozen=True)
class Series:
    """Points of one colour and shape, and the line through some of them."""

    label: str
    colour: str
    """Class of the style sheet: `c0` to `c7`, `good`, `bad`, `mean`."""
    marks: Sequence[Mark] = ()
    line: Sequence[Point] = ()
    """Straight in log rate between its points; a y that is not finite interrupts it."""
    band: Sequence[tuple[float, float, float]] = ()
    """(x, low, high), shaded."""
    shape: str = "circle"
    style: Literal["solid", "dashed", "thin", "wide"] = "solid"
    names_open: bool = False
    """Its markers are open throughout, which the legend shows."""


@dataclass(frozen=True)
class Chart:
    """What is drawn over a log axis of learning rates."""

    label: str
    """For screen readers."""
    x_ticks: Sequence[float]
    """Rates that were tried; labels are chosen among the decades."""
    y_label: str
    series: Sequence[Series]
    y_range: Point | None = None
    """None: what the series need."""
    is_percent: bool = False
    zero_line: bool = False
    level: float | None = None
    """A dotted horizontal line: of the criterion."""
    span: tuple[float, float, float | None, str] | None = None
    """(low, high, middle, what it is): a shaded interval of rates, with a line in the middle."""
    broken: Sequence[tuple[float, str]] = field(default_factory=tuple)
    """(rate, text): crosses at the bottom."""


def draw(chart: Chart) -> Markup:
    """The chart as an SVG element."""
    plane = _Plane(chart)
    parts = [_span(plane, chart.span), *_grid(plane, chart)]
    if chart.level is not None:
        y = plane.y(chart.level)
        parts.append(_path(f"M{LEFT:g},{y:.1f}H{WIDTH - RIGHT:g}", "level"))
    for one in chart.series:
        parts += [_band(plane, one), _line(plane, one)]
    for one in chart.series:
        parts += [_marker(plane.x(m.x), plane.y(m.y), one, m) for m in one.marks if math.isfinite(m.y)]
    for rate, text in chart.broken:
        place = f"M{plane.x(rate):.1f},{HEIGHT - BOTTOM - 9:.1f}"
        parts.append(Markup('<path class="broken" d="{}{}">{}</path>').format(place, SHAPES["cross"], _title(text)))
    return Markup('<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, chart.label, Markup("").join(parts)
    )


def legend(chart: Chart, has_open: bool = True) -> Markup:
    """What the colours and shapes mean, as HTML that wraps.

    Args:
        chart: the same.
        has_open: explain open markers.
    """
    entries = []
    for one in chart.series:
        openness = " open" if one.names_open else ""
        key = Markup('<path class="line {}" d="M0,7H26"/>').format(f"{one.colour} {one.style}") if one.line else ""
        if one.marks:
            key += Markup('<path class="mark {}{}" d="M13,7{}"/>').format(one.colour, openness, SHAPES[one.shape])
        if one.band:
            key = Markup('<rect class="band {}" x="0" y="1" width="26" height="12"/>').format(one.colour) + key
        entries.append((key, one.label))
    if has_open:
        entries.append(
            (Markup('<path class="mark grey open" d="M13,7{}"/>').format(SHAPES["circle"]), "not significant")
        )
    if chart.level is not None:
        entries.append((Markup('<path class="level" d="M0,7H26"/>'), f"level of the criterion, {chart.level:g}%"))
    if chart.span is not None:
        entries.append((Markup('<rect class="span" x="0" y="0" width="26" height="14"/>'), chart.span[3]))
    if chart.broken:
        entries.append((Markup('<path class="broken" d="M13,7{}"/>').format(SHAPES["cross"]), "a trial diverged"))
    item = Markup('<span><svg viewBox="0 0 26 14" width="26" height="14" aria-hidden="true">{}</svg>{}</span>')
    return Markup("").join(item.format(key, label) for key, label in entries)


class _Plane:
    """From rates and values to the canvas."""

    def __init__(self, chart: Chart) -> None:
        rates = [rate for rate in chart.x_ticks if rate > 0]
        low, high = math.log10(min(rates)), math.log10(max(rates))
        margin = max(0.05 * (high - low), 0.06)
        self.low, self.high = low - margin, high + margin
        self.tried = sorted(set(rates))
        ends = HEIGHT - BOTTOM, TOP
        self.vertical = Axis(_values(chart), ends, can_bend=chart.is_percent, bounds=chart.y_range)

    def x(self, rate: float) -> float:
        share = (math.log10(rate) - self.low) / (self.high - self.low)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return self.vertical.place(value)

    def x_labels(self) -> list[float]:
        """The rates that were tried where they are few, else 1, 2 and 5 in every decade; as far as there is room."""
        if len(self.tried) <= _FEW_RATES:
            return spaced(self.tried, self.x, _LABEL_WIDTH)
        width = self.high - self.low
        steps = (1, 2, 5) if width < 2 else (1, 3) if width < 4 else (1,)
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        return spaced([tick for tick in ticks if self.low <= math.log10(tick) <= self.high], self.x, _LABEL_WIDTH)


def _values(chart: Chart) -> list[float]:
    found = [mark.y for one in chart.series for mark in one.marks]
    found += [y for one in chart.series for _, y in one.line]
    found += [end for one in chart.series for _, low, high in one.band for end in (low, high)]
    found += [chart.level] if chart.level is not None else []
    return [value for value in found if math.isfinite(value)]


def _grid(plane: _Plane, chart: Chart) -> list[Markup]:
    parts = []
    for tick in plane.vertical.labels(LABEL_HEIGHT):
        y = plane.y(tick)
        parts.append(_path(f"M{LEFT:g},{y:.1f}H{WIDTH - RIGHT:g}", "zero" if chart.zero_line and not tick else "grid"))
        label = plain_percent(tick) if chart.is_percent else _plain(tick)
        parts.append(_text(LEFT - 6, y + 4, label, "end"))
    floor = HEIGHT - BOTTOM
    for tick in plane.x_labels():
        x = plane.x(tick)
        parts.append(_path(f"M{x:.1f},{TOP:g}V{floor:g}", "grid"))
        parts.append(_text(x, floor + 18, short_rate(tick), "middle"))
    for rate in chart.x_ticks:
        parts.append(_path(f"M{plane.x(rate):.1f},{floor:g}v5", "tick"))
    parts.append(_path(f"M{LEFT:g},{floor:g}H{WIDTH - RIGHT:g}", "axis"))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "learning rate", "middle"))
    middle = (TOP + floor) / 2
    turned = Markup('<text class="t" text-anchor="middle" transform="translate(13 {:.0f}) rotate(-90)">{}</text>')
    return [*parts, turned.format(middle, chart.y_label)]


def _span(plane: _Plane, span: tuple[float, float, float | None, str] | None) -> Markup:
    if span is None:
        return Markup("")
    low, high, middle, text = span
    left = plane.x(low) if low > 0 else LEFT
    right = plane.x(high) if math.isfinite(high) else WIDTH - RIGHT
    floor = HEIGHT - BOTTOM
    drawn = Markup('<rect class="span" x="{:.1f}" y="{:g}" width="{:.1f}" height="{:g}">{}</rect>').format(
        left, TOP, max(right - left, 1.5), floor - TOP, _title(text)
    )
    return drawn + (_path(f"M{plane.x(middle):.1f},{TOP:g}V{floor:g}", "middle") if middle is not None else Markup(""))


def _line(plane: _Plane, one: Series) -> Markup:
    pieces, is_down = [], False
    for x, y in _sampled(plane, one.line):
        if not math.isfinite(y):
            is_down = False
            continue
        pieces.append(f"{'L' if is_down else 'M'}{plane.x(x):.1f},{plane.y(y):.1f}")
        is_down = True
    return _path("".join(pieces), f"line {one.colour} {one.style}") if len(pieces) > 1 else Markup("")


def _sampled(plane: _Plane, points: Sequence[Point]) -> list[Point]:
    """Points so dense that a line through them is straight in log rate, as the boundary reads it, on any axis."""
    if not plane.vertical.is_bent:
        return list(points)
    between = [point for first, second in itertools.pairwise(points) for point in _fine(first, second)]
    return [*between, *points[-1:]]


def _fine(first: Point, second: Point) -> list[Point]:
    (x, y), (x_end, y_end) = first, second
    if not (math.isfinite(y) and math.isfinite(y_end)):
        return [first]
    shares = [place / 12 for place in range(12)]
    return [(x * (x_end / x) ** share, y + share * (y_end - y)) for share in shares]


def _band(plane: _Plane, one: Series) -> Markup:
    inside = [(x, low, high) for x, low, high in one.band if math.isfinite(low) and math.isfinite(high)]
    if not inside:
        return Markup("")
    upper = _sampled(plane, [(x, high) for x, _, high in inside])
    lower = _sampled(plane, [(x, low) for x, low, _ in inside])[::-1]
    around = "L".join(f"{plane.x(x):.1f},{plane.y(y):.1f}" for x, y in [*upper, *lower])
    return _path(f"M{around}Z", f"band {one.colour}")


def _marker(x: float, y: float, one: Series, mark: Mark) -> Markup:
    openness = " open" if mark.is_open else ""
    return Markup('<path class="mark {}{}" d="M{:.1f},{:.1f}{}">{}</path>').format(
        one.colour, openness, x, y, SHAPES[one.shape], _title(mark.tip)
    )


def _path(drawn: str, name: str) -> Markup:
    return Markup('<path class="{}" d="{}"/>').format(name, drawn)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text class="t" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _title(text: str) -> Markup:
    return Markup("<title>{}</title>").format(escape(text))


def _plain(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{round(value, 9):g}"


def plain_percent(value: float) -> str:
    """A percentage for an axis, with its sign."""
    return f"+{_plain(value)}" if value > 0 else _plain(value)


def short_rate(rate: float) -> str:
    """A rate for an axis, as 5e-8 or 1.25e-7."""
    digits, _, exponent = f"{rate:.2e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}"
