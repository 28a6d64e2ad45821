"""An axis of percentages: straight, or bent where something lies far out, and labels that never touch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

WIDE_PERCENT = 25.0
"""An axis on which anything lies beyond this is bent: broken rates lose hundreds of percent and would press everything
else into one line."""
_BEND = 3.0
"""Percent around 0 that a bent axis shows about straight: it is asinh(y / 3)."""
_PAD = 0.06
"""Room beyond the outermost value, as a share of the axis."""


class Axis:
    """From values to places on the canvas."""

    def __init__(
        self,
        values: Sequence[float],
        ends: tuple[float, float],
        *,
        can_bend: bool = True,
        bounds: tuple[float, float] | None = None,
    ) -> None:
        """Fit an axis to what it shows, 0 included.

        Args:
            values: what has to have a place, finite.
            ends: places of the lowest and highest value of the axis.
            can_bend: whether it may be bent.
            bounds: lowest and highest value; None: what the values need.
        """
        self.is_bent = can_bend and max(map(abs, values), default=0.0) > WIDE_PERCENT
        self._ends = ends
        if bounds is not None:
            self.low, self.high = bounds
        else:
            bent = [self._bend(value) for value in [*values, 0.0]]
            pad = _PAD * ((max(bent) - min(bent)) or 1.0)
            self.low, self.high = min(bent) - pad, max(bent) + pad

    def place(self, value: float) -> float:
        """Where a value lies."""
        share = (self._bend(value) - self.low) / (self.high - self.low)
        return self._ends[0] + share * (self._ends[1] - self._ends[0])

    def labels(self, room: float) -> list[float]:
        """Values to label, going up, no two nearer than `room`."""
        if self.is_bent:
            # Where there is no room for all: 0 first, then whole decades, then what lies between them.
            ordered = [0.0, *(sign * 10.0**n for n in (1, 2, 3, 4, 5, 6, 0) for sign in (1, -1))]
            ordered += [sign * 3 * 10.0**n for n in range(7) for sign in (1, -1)]
        else:
            width = self.high - self.low
            step = next(size for size in _steps() if width / size <= 6)
            ordered = [step * place for place in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]
        inside = [tick for tick in ordered if self.low <= self._bend(tick) <= self.high]
        return sorted(spaced(inside, self.place, room))

    def _bend(self, value: float) -> float:
        return math.asinh(value / _BEND) if self.is_bent else value


def spaced(values: Iterable[float], place: Callable[[float], float], room: float) -> list[float]:
    """Values in their order, without those that lie nearer than `room` to one before."""
    kept: list[float] = []
    for value in values:
        if all(abs(place(value) - place(other)) >= room for other in kept):
            kept.append(value)
    return kept


def _steps() -> list[float]:
    return [digit * 10.0**decade for decade in range(-9, 9) for digit in (1, 2, 5)]
