"""An estimate with its interval, where each of the three numbers may lie outside what was tried."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from .rates import format_rate

Censored = Literal["none", "above", "below"]


@dataclass(frozen=True)
class Interval:
    """A learning rate, or a ratio of two."""

    estimate: float
    """The highest (lowest) that was tried when censored above (below); NaN: there is none."""
    low: float
    """Of the 95% interval, as `high`; NaN: there is none."""
    high: float
    censored: Censored
    low_censored: Censored
    high_censored: Censored

    @property
    def is_known(self) -> bool:
        """Whether there is an estimate."""
        return not math.isnan(self.estimate)


def interval_of(row: Mapping[Any, Any], name: str = "estimate") -> Interval:
    """Of a row of `boundary_tables`, `gains` or `ratios`.

    Args:
        row: with `low`, `high` and the three marks.
        name: column of the estimate.
    """
    estimate, low, high = (float(row[column]) for column in (name, "low", "high"))
    marks = (cast("Censored", str(row[column])) for column in ("censored", "low_censored", "high_censored"))
    return Interval(estimate, low, high, *marks)


def estimate(found: Interval) -> str:
    """The rate, or on which side of the rates tried it lies; '-' where there is none."""
    return _end(found.estimate, found.censored)


def interval(found: Interval) -> str:
    """Both ends; an end outside the rates that were tried says so; '-' where there is none."""
    low, high = _end(found.low, found.low_censored), _end(found.high, found.high_censored)
    return low if low == high else f"{low} to {high}"


def _end(rate: float, mark: Censored) -> str:
    if math.isnan(rate):
        return "-"
    return format_rate(rate) if mark == "none" else f"{mark} {format_rate(rate)}"
