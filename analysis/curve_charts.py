"""The paper's Figure 2 as charts: language pairs improved and degraded, and improvement, against the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from .charts import Chart, Mark, Series, draw, legend
from .curves import ALPHA, Criterion
from .level import Boundary
from .material import Material
from .page import Picture
from .resample import MeanCurve
from .terminal import percent
from .wording import format_rate

COLOURS = tuple(f"c{place}" for place in range(8))
SHAPES = ("circle", "square", "up", "diamond", "down")
_MAX_BANDS = 6
"""Curves of one chart; more are drawn thin and without bands, which would hide one another. Tips have the intervals."""
_INSTEAD = "The table has the numbers."


def counts_picture(material: Material, curve: MeanCurve, boundary: Boundary) -> Picture:
    """Language pairs improved and degraded: by the clustered test (solid) and by the paper's z-test (thin, open)."""
    rates = material.rates_of(curve.group)
    scored = rates[(rates["num_seeds"] > 0) & (rates["learning_rate"] > 0)]
    series = []
    for what, colour, shape in (("improved", "good", "up"), ("degraded", "bad", "down")):
        for suffix, test in (("", "clustered test"), ("_z", "paper's z-test")):
            values = list(zip(scored["learning_rate"], scored[curve.criterion.column(what + suffix)], strict=True))
            marks = [
                Mark(
                    rate,
                    number,
                    f"{format_rate(rate, 3)}: {number:g} of {curve.num_language_pairs} language pairs {what}, {test}, "
                    f"{_seeds(seeds)}",
                    is_open=bool(suffix),
                )
                for (rate, number), seeds in zip(values, scored["num_seeds"], strict=True)
            ]
            style = "dashed" if suffix else "solid"
            label = f"{what}, {test}"
            series.append(Series(label, colour, marks, values, (), shape, style, names_open=bool(suffix)))  # type: ignore[arg-type]
    pairs = curve.num_language_pairs
    chart = Chart(
        label=f"Language pairs improved and degraded against the learning rate, {curve.criterion}",
        x_ticks=_tried(rates),
        y_label=f"language pairs, of {pairs}",
        series=series,
        y_range=(-0.03 * pairs, 1.06 * pairs),
        span=span(boundary),
        broken=_broken(rates),
    )
    title = f"Language pairs improved and degraded: {_about(curve)}"
    return Picture(title, draw(chart), legend(chart, has_open=False), _INSTEAD)


def improvement_picture(material: Material, curve: MeanCurve, boundary: Boundary) -> Picture:
    """Improvement of PND in percent: each trial on the English sets, and the mean over language pairs with its band."""
    trials = material.trials[(material.trials["group"] == curve.group) & (material.trials["learning_rate"] > 0)]
    rates = material.rates_of(curve.group)
    measure = curve.criterion.measure
    tuned_set = str(trials["tuned_set"].iloc[0])
    english = [(f"{tuned_set} (tuned on)", tuned_set, f"gain_tuned/{measure}", f"p_tuned/{measure}")]
    english += [(name, name, f"gain/{name}/{measure}", f"p/{name}/{measure}") for name in material.english]
    series = []
    for place, (label, name, gain, p) in enumerate(english):
        scored = trials.dropna(subset=[gain])
        if scored.empty:
            continue
        marks = [
            _trial_mark(material, row, name, measure, float(row[gain]), float(row[p]))
            for row in scored.to_dict("records")
        ]
        means = rates[rates["learning_rate"] > 0].dropna(subset=[gain])
        line = [
            (float(rate), 100 * float(mean)) for rate, mean in zip(means["learning_rate"], means[gain], strict=True)
        ]
        colour, shape = COLOURS[2 + place % 6], SHAPES[place % len(SHAPES)]
        series.append(Series(label, colour, marks, line, (), shape, "thin"))
    series.append(mean_series(curve, f"mean over {curve.num_language_pairs} language pairs, 95% band", "mean"))
    chart = Chart(
        label=f"Improvement of PND in percent against the learning rate, {curve.criterion}",
        x_ticks=_tried(rates),
        y_label="improvement of PND, %",
        series=series,
        is_percent=True,
        zero_line=True,
        level=100 * boundary.level,
        span=span(boundary),
        broken=_broken(rates),
    )
    return Picture(f"Improvement of PND, positive is better: {_about(curve)}", draw(chart), legend(chart), _INSTEAD)


def mean_series(
    curve: MeanCurve, label: str, colour: str, shape: str = "diamond", style: Literal["solid", "wide"] = "solid"
) -> Series:
    """The mean over language pairs with its band; open where the band holds 0."""
    low_R, high_R = curve.band()
    marks, line, band = [], [], []
    rows = zip(curve.rates_R, curve.mean_R, low_R, high_R, curve.seeds_R, strict=True)
    for rate, mean, low, high, seeds in ((float(r), *map(float, rest)) for r, *rest in rows):
        y = 100 * mean if math.isfinite(mean) else math.nan
        line.append((rate, y))
        if not math.isfinite(mean):
            continue
        tip = (
            f"{label.partition(',')[0]}, {format_rate(rate, 3)}: {percent(mean)}% "
            f"(95% {_end(low)} to {_end(high)}), {_seeds(seeds)}"
        )
        marks.append(Mark(rate, y, tip, is_open=low <= 0 <= high))
        if math.isfinite(low) and math.isfinite(high):
            band.append((rate, 100 * low, 100 * high))
    return Series(label, colour, marks, line, band, shape, style)


def overlay_picture(
    curves: Sequence[tuple[str, MeanCurve]], criterion: Criterion, level: float, subject: str
) -> Picture:
    """Means over language pairs of several curves in one chart.

    Args:
        curves: name and curve; at least one, all of the same relation and measure.
        criterion: what they are about.
        level: of the boundary, a fraction.
        subject: what the curves are, for the title.
    """
    series = [
        mean_series(
            curve,
            name,
            COLOURS[place % len(COLOURS)],
            SHAPES[(place // len(COLOURS) + place) % len(SHAPES)],
            "solid" if place % 2 else "wide",  # equal curves stay visible under one another
        )
        for place, (name, curve) in enumerate(curves)
    ]
    if len(curves) > _MAX_BANDS:
        series = [replace(one, band=(), style="solid") for one in series]
    rates = sorted({float(rate) for _, curve in curves for rate in curve.rates_R})
    broken = {float(rate) for _, curve in curves for rate in curve.rates_R[np.isneginf(curve.mean_R)]}
    chart = Chart(
        label=f"Mean improvement over language pairs of {subject} against the learning rate, {criterion}",
        x_ticks=rates,
        y_label="improvement of mean PND, %",
        series=series,
        is_percent=True,
        zero_line=True,
        level=100 * level,
        broken=[(rate, f"{format_rate(rate, 3)}: a trial diverged") for rate in sorted(broken)],
    )
    title = f"Mean over language pairs, {criterion}: {subject}"
    return Picture(title, draw(chart), legend(chart), "The tables below have the numbers.")


def span(boundary: Boundary) -> tuple[float, float, float | None, str]:
    """The boundary's interval for a chart; an end outside the rates runs off the axis."""
    low = 0.0 if boundary.low_censored == "below" else boundary.low
    high = math.inf if boundary.high_censored == "above" else boundary.high
    if boundary.low_censored == "above":
        low = boundary.highest_rate
    if boundary.high_censored == "below":
        high = boundary.lowest_rate
    rate = format_rate(boundary.estimate)
    if boundary.censored != "none":
        return low, high, None, f"boundary {boundary.censored} {rate}"
    return low, high, boundary.estimate, f"boundary {rate} and its {boundary.confidence:.0%} interval"


def _trial_mark(material: Material, row: dict[Any, Any], name: str, measure: str, gain: float, p: float) -> Mark:
    low, high = material.english_intervals[(row["trial_id"], name, measure)]
    rate = float(row["learning_rate"])
    between = f"95% {_end(low)} to {_end(high)}, " if math.isfinite(low) and math.isfinite(high) else ""
    p_text = "no test" if math.isnan(p) else f"p {p:.2g}"
    tip = f"{name}, {format_rate(rate, 3)}, seed {row['seed']:.0f}: {percent(gain)}% ({between}{p_text})"
    return Mark(rate, 100 * gain, tip, is_open=not p <= ALPHA)


def _tried(rates: pd.DataFrame) -> list[float]:
    return [float(rate) for rate in rates["learning_rate"] if rate > 0]


def _broken(rates: pd.DataFrame) -> list[tuple[float, str]]:
    rows = rates[(rates["num_diverged"] > 0) & (rates["learning_rate"] > 0)]
    return [
        (float(rate), f"{format_rate(rate, 3)}: {number} trial{'' if number == 1 else 's'} diverged")
        for rate, number in zip(rows["learning_rate"], rows["num_diverged"], strict=True)
    ]


def _about(curve: MeanCurve) -> str:
    return "; ".join(text for text in (str(curve.criterion), curve.group) if text)


def _end(frac: float) -> str:
    return percent(frac) if math.isfinite(frac) else "broken"


def _seeds(number: float) -> str:
    return "1 seed" if number == 1 else f"mean of {number:.0f} seeds"
