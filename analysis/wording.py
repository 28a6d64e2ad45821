"""What is known of a boundary, in words: a sentence with every reservation, rates without idle zeros, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .level import Boundary
from .rates import format_rate

__all__ = ["WIDE_GAP", "format_rate", "sentence", "to_json"]

WIDE_GAP = 10
"""Ratio of neighbouring rates from which the sentence says that it read between them."""


def sentence(boundary: Boundary) -> str:
    """The boundary, its interval, what the interval covers and every reservation, in one plain sentence."""
    b = boundary
    where = f"{b.set}, {b.relation}, {b.measure}" + (f"; {b.group}" if b.group else "")
    interval = f"{b.confidence:.0%} interval {_interval(b)}"
    criterion = f"the improvement of the mean PND over {b.num_language_pairs} language pairs"
    level = f"{100 * b.level:+g}%"
    if b.num_kept_untuned == b.num_trials:
        return (
            f"No boundary for multilingual quality ({where}): in all {_trials(b.num_trials)} no epoch improved, so the "
            "untuned state was kept and no rate could show harm; lower the rates, or set tuning.keep to 'final'."
        )
    if b.num_kept_untuned + b.num_unmoved == b.num_trials:
        others = f", and in {_trials(b.num_kept_untuned)} no epoch improved" if b.num_kept_untuned else ""
        return (
            f"No boundary for multilingual quality ({where}): no tower moved at any rate, so no rate could show harm: "
            f"in {_trials(b.num_unmoved)} not one weight changed{others}; a training loss of 0 (table curves) leaves "
            "nothing to learn, a movable_frac of 0 (table drift) asks for higher rates."
        )
    if b.censored == "above":
        main = (
            f"Multilingual quality ({where}) holds at every rate tried, so the boundary lies above "
            f"{format_rate(b.estimate)} ({interval}): {criterion} stays at or above {level}"
        )
    elif b.censored == "below":
        main = (
            f"Multilingual quality ({where}) does not hold at the lowest rate tried, so the boundary lies below "
            f"{format_rate(b.estimate)} ({interval}): {criterion} is below {level} there"
        )
    else:
        main = (
            f"Multilingual quality ({where}) holds up to a learning rate of {format_rate(b.estimate)} ({interval}): "
            f"{criterion} falls below {level} there{_bracket(b)}"
        )
    return "; ".join([main, _coverage(b), *_reservations(b)]) + "."


def to_json(boundaries: Sequence[Boundary]) -> dict[str, Any]:
    """Content of `boundary.json`: every field of every boundary, and its sentence."""
    return {"boundaries": [asdict(boundary) | {"sentence": sentence(boundary)} for boundary in boundaries]}


def _bracket(b: Boundary) -> str:
    """The rates that were tried on either side, where they lie so far apart that the curve between them is a guess."""
    if b.last_holding_rate is None or b.first_failing_rate is None:
        return ""
    if b.last_holding_rate == 0 or b.first_failing_rate / b.last_holding_rate <= WIDE_GAP:
        return ""
    gap = f"{format_rate(b.last_holding_rate)} and {format_rate(b.first_failing_rate)}"
    return f", read off a straight line between {gap}, the nearest rates that were tried"


def _interval(b: Boundary) -> str:
    below, above = f"below {format_rate(b.low)}", f"above {format_rate(b.high)}"
    if b.low_censored == b.high_censored == "above":
        return above
    if b.low_censored == b.high_censored == "below":
        return below
    low = below if b.low_censored == "below" else format_rate(b.low)
    high = above if b.high_censored == "above" else format_rate(b.high)
    return f"{low} to {high}"


def _coverage(b: Boundary) -> str:
    clusters = f"{b.num_clusters:,} clusters of texts"
    if b.max_seeds == 1:
        return f"the interval covers {clusters} only, with one seed a rate"
    if b.num_seeds == 1:
        return f"the interval covers {clusters}, and seeds only at rates with more than one"
    seeds = f"{b.num_seeds}" if b.num_seeds == b.max_seeds else f"{b.num_seeds} to {b.max_seeds}"
    return f"the interval covers {clusters} and {seeds} seeds a rate"


def _reservations(b: Boundary) -> list[str]:
    notes = []
    if b.num_diverged:
        notes.append(f"{_trials(b.num_diverged)} diverged, which counts as broken")
    if b.is_gap_diverged and b.last_holding_rate is not None and b.first_failing_rate is not None:
        gap = f"{format_rate(b.last_holding_rate)} and {format_rate(b.first_failing_rate)}"
        notes.append(f"the estimate is the middle between {gap}, where one of them diverged")
    if b.num_kept_untuned:
        notes.append(f"{_trials(b.num_kept_untuned)} kept the untuned state and could show no harm")
    if b.num_unmoved:
        notes.append(f"{_trials(b.num_unmoved)} moved not one weight and could show no harm")
    if b.num_absent:
        notes.append(f"{_trials(b.num_absent)} failed or missing")
    return notes


def _trials(number: int) -> str:
    return f"{number} trial" if number == 1 else f"{number} trials"
