"""Between which rates does a noisy curve first fall below its level, given a few trials?

The semantics are those of `analysis/level.py`: going up in rate the first fall counts, even if the curve comes back; a
rate where a seed diverged is broken. Here the question is asked while a sweep still runs, to place the next trial.

The interval. A Gaussian process (`level_process`) tells noise from curve at the rates that were tried, and draws curves
at those rates. Each draw has a first rate below the level, and its crossing lies somewhere between that rate and the
one before it. The interval goes from the 2.5% quantile of the rates before to the 97.5% quantile of the rates at. So it
covers seed noise, by the draws, and what lies between the rates tried, by never ending inside a gap: a step may lie
anywhere in one, and draws on a fine grid would place it by the smoothness that the kernel assumes. Smoothness is used
for one thing only, to pool the seeds of neighbouring rates.

What it does not cover. (1) Text noise: the evaluation texts are common to all trials, no further trial reduces their
part, and the analysis adds it afterwards. The interval holds for the given texts. (2) A dip between two neighbouring
rates that both hold. Until something broken is found the search leaves no gap wider than `WIDEST_GAP_HELD`, and below a
boundary none wider than `WIDEST_GAP_BELOW`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adiabatic_ray.search.level_process import SQUASH, Floats, LevelProcess, fit, squash

NUM_DRAWS = 1000
"""Posterior curves: 25 lie beyond each end of the interval."""
TAIL = 0.025
WIDEST_GAP_BELOW = 0.5
"""Decades. Widest gap between rates that hold, below a rate that is broken."""
WIDEST_GAP_HELD = 0.25
"""Decades. The same where nothing broken was found: a curve may dip and come back (under the stopping rule that keeps
the untuned state it does)."""
ROUNDING = 0.01
"""Decades by which gaps may be wider, so that none is halved because its ends were rounded to 3 digits (0.002 each)."""
BISECTION_WIDTHS = 2
"""Halving ends, and the straddle rule begins, when the interval is this many times as wide as asked for."""

Phase = Literal["bracket", "bisection", "straddle"]


@dataclass(frozen=True)
class Observation:
    """What one finished trial says."""

    rate: float
    seed: int
    margin: float
    """Criterion less its threshold, a fraction: at 0 it still holds, below it is broken. NaN where diverged."""
    diverged: bool

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"a rate must be finite and above 0, got {self.rate}; leave out trials at rate 0")
        if not self.diverged and not math.isfinite(self.margin):
            raise ValueError(
                f"the margin of a trial that did not diverge must be finite, got {self.margin} at rate {self.rate}; "
                "give diverged=True, or leave out trials without a score"
            )


@dataclass(frozen=True)
class Setting:
    """What is searched, and how finely."""

    lowest_rate: float
    highest_rate: float
    width_decades: float
    """The search ends when the 95% interval is narrower."""
    seeds: tuple[int, ...]
    """Replicates that a rate may have, in the order in which they are used."""

    def __post_init__(self) -> None:
        limits = (self.lowest_rate, self.highest_rate)
        if not all(math.isfinite(limit) and limit > 0 for limit in limits) or self.first_rate >= self.last_rate:
            raise ValueError(
                "the lowest rate must be above 0 and below the highest, with two rates of 3 significant digits from one"
                f" to the other, got {self.lowest_rate} and {self.highest_rate}; set them wider apart"
            )
        if not (math.isfinite(self.width_decades) and self.width_decades > 0):
            raise ValueError(
                f"the width must be finite and above 0 decades, got {self.width_decades}; 0.1 is a factor of 1.26"
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be at least one, each once, got {self.seeds}; give for example (0, 1, 2)")

    @property
    def first_rate(self) -> float:
        """Lowest rate of 3 significant digits within the limits."""
        return _three_digits(self.lowest_rate, math.ceil)

    @property
    def last_rate(self) -> float:
        """Highest rate of 3 significant digits within the limits."""
        return _three_digits(self.highest_rate, math.floor)


@dataclass(frozen=True)
class Crossing:
    """Where the curve first falls below the level, for the given evaluation texts; see the head of this file.

    Rates. inf: above the highest rate of the setting; 0: below its lowest.
    """

    estimate: float
    """Median of the draws' crossings, each straight between its rates in log10. Half-way where nothing is known yet."""
    low: float
    """Lower end of the 95% interval: a rate that was tried, 0 or inf."""
    high: float
    phase: Phase
    """What the search has left to do."""

    @property
    def width_decades(self) -> float:
        """Width of the interval; 0 where it lies outside the limits as a whole, inf where only one end does."""
        if self.low == self.high:
            return 0.0
        return math.inf if self.low == 0 or math.isinf(self.high) else math.log10(self.high / self.low)

    def is_narrow(self, setting: Setting) -> bool:
        """The search may end: the interval is narrower than asked for and no wide gap below it is left."""
        return self.phase != "bracket" and self.width_decades < setting.width_decades


@dataclass(frozen=True)
class Tried:
    """Observations by rate, in an order of their own; make it with `gather`."""

    rates_R: Floats
    """Distinct, going up."""
    is_diverged_R: NDArray[np.bool_]
    process: LevelProcess


def gather(observations: Iterable[Observation]) -> Tried | None:
    """Sort by rate and seed and fit the process. None: there is no observation.

    A (rate, seed) that occurs several times counts once, by the mean of its margins, and diverged if it ever did: a
    trial that is run again with its seed is no further seed. Where a seed diverged the rate is broken, and seeds that
    did not are left out: how far they lie from the others is not the noise of scores.
    """
    margins: dict[tuple[float, int], list[float]] = {}
    for one in observations:
        margins.setdefault((one.rate, one.seed), []).append(-math.inf if one.diverged else one.margin)
    if not margins:
        return None
    trials = sorted((rate, seed, sum(sorted(values)) / len(values)) for (rate, seed), values in margins.items())
    rates_N = np.array([rate for rate, _, _ in trials])
    margin_N = np.array([margin for _, _, margin in trials])
    rates_R = np.unique(rates_N)
    diverged = rates_N[np.isneginf(margin_N)]
    counts_N = np.isneginf(margin_N) | ~np.isin(rates_N, diverged)
    return Tried(
        rates_R=rates_R,
        is_diverged_R=np.isin(rates_R, diverged),
        process=fit(np.log10(rates_N[counts_N]), squash(margin_N[counts_N])),
    )


def crossing(observations: Iterable[Observation], setting: Setting) -> Crossing:
    """Where the curve first falls below the level, with a 95% interval for the given evaluation texts.

    Text noise is common to all trials, cannot be reduced by more of them, and is added by the analysis afterwards. The
    head of this file says what the interval covers and why.

    Args:
        observations: finished and diverged trials in any order, also at rates outside the limits.
        setting: limits and width.
    """
    return crossing_of(gather(observations), setting)


def crossing_of(tried: Tried | None, setting: Setting) -> Crossing:
    """The same of observations that were gathered."""
    if tried is None:
        return Crossing(math.sqrt(setting.first_rate * setting.last_rate), 0.0, math.inf, "bracket")
    curves_BR = tried.process.draws(np.log10(tried.rates_R), NUM_DRAWS)
    curves_BR[:, tried.is_diverged_R] = -SQUASH
    below_BR = curves_BR < 0
    first_B = np.where(below_BR.any(axis=1), below_BR.argmax(axis=1), len(tried.rates_R))
    rate_before = np.concatenate([[0.0], _at_or_above(tried.rates_R, setting)])
    rate_at = np.concatenate([_at_or_below(tried.rates_R, setting), [math.inf]])
    low = float(np.quantile(rate_before[first_B], TAIL, method="lower"))
    high = float(np.quantile(rate_at[first_B], 1 - TAIL, method="higher"))
    return Crossing(
        estimate=float(np.quantile(_crossings(tried, curves_BR, first_B, setting), 0.5, method="lower")),
        low=low,
        high=high,
        phase=_phase(tried, low, high, setting),
    )


def misses_lowest(rates: Sequence[float], setting: Setting) -> bool:
    """Nothing is known at the lowest rate nor below."""
    return not any(rate <= setting.first_rate for rate in rates)


def misses_highest(rates: Sequence[float], high: float, setting: Setting) -> bool:
    """Nothing is known at the highest rate nor above, and no lower rate is surely broken."""
    return math.isinf(high) and not any(rate >= setting.last_rate for rate in rates)


def wide_gaps(rates: Sequence[float], low: float, high: float, setting: Setting) -> list[tuple[float, float]]:
    """Neighbouring rates, widest gap first, between which a dip could hide; inside the interval halving sees to it.

    Args:
        rates: tried, or about to be.
        low: lower end of the interval.
        high: upper end; inf: nothing is surely broken.
        setting: limits.
    """
    is_held = math.isinf(high)
    top = setting.last_rate if is_held else low
    widest = WIDEST_GAP_HELD if is_held else WIDEST_GAP_BELOW
    points = sorted({setting.first_rate, top, *(rate for rate in rates if setting.first_rate < rate < top)})
    gaps = [gap for gap in pairwise(points) if decades(*gap) > widest + ROUNDING] if top > setting.first_rate else []
    return sorted(gaps, key=lambda gap: (-decades(*gap), gap))


def inner(low: float, high: float, setting: Setting) -> tuple[float, float]:
    """The part of the interval within the limits; both limits where no part is."""
    ends = max(low, setting.first_rate), min(high, setting.last_rate)
    return ends if ends[0] < ends[1] else (setting.first_rate, setting.last_rate)


def decades(low: float, high: float) -> float:
    """log10 of high / low."""
    return math.log10(high / low)


def _phase(tried: Tried, low: float, high: float, setting: Setting) -> Phase:
    rates = tried.rates_R.tolist()
    if misses_lowest(rates, setting) or misses_highest(rates, high, setting) or wide_gaps(rates, low, high, setting):
        return "bracket"
    is_wide = low < high and decades(*inner(low, high, setting)) > BISECTION_WIDTHS * setting.width_decades
    return "bisection" if is_wide else "straddle"


def _at_or_above(rates_R: Floats, setting: Setting) -> Floats:
    """A rate that holds, as the lower end of an interval."""
    ends: Floats = np.where(rates_R >= setting.last_rate, math.inf, np.where(rates_R < setting.first_rate, 0, rates_R))
    return ends


def _at_or_below(rates_R: Floats, setting: Setting) -> Floats:
    """A rate that is broken, as the upper end of an interval."""
    ends: Floats = np.where(rates_R <= setting.first_rate, 0, np.where(rates_R > setting.last_rate, math.inf, rates_R))
    return ends


def _crossings(tried: Tried, curves_BR: Floats, first_B: NDArray[np.intp], setting: Setting) -> Floats:
    """Rate where each draw crosses, straight between its rates in log10; half-way where the rate above diverged.

    Half-way to the limit where a draw crosses beyond the rates tried and these do not reach the limit.
    """
    log_R = np.log10(tried.rates_R)
    crossing_B = np.empty(len(first_B))
    crossing_B[first_B == 0] = (min(log_R[0], math.log10(setting.first_rate)) + log_R[0]) / 2
    crossing_B[first_B == len(log_R)] = (max(log_R[-1], math.log10(setting.last_rate)) + log_R[-1]) / 2
    inside = np.flatnonzero((first_B > 0) & (first_B < len(log_R)))
    at, before = first_B[inside], first_B[inside] - 1
    upper, lower = curves_BR[inside, before], curves_BR[inside, at]
    share = np.where(tried.is_diverged_R[at], 0.5, upper / (upper - lower))
    crossing_B[inside] = log_R[before] + share * (log_R[at] - log_R[before])
    rates_B: Floats = 10**crossing_B
    rates_B[(first_B == 0) & (log_R[0] <= math.log10(setting.first_rate))] = 0.0
    rates_B[(first_B == len(log_R)) & (log_R[-1] >= math.log10(setting.last_rate))] = math.inf
    rates_B[rates_B < setting.first_rate] = 0.0
    rates_B[rates_B > setting.last_rate] = math.inf
    return rates_B


def _three_digits(rate: float, rounding: Callable[[float], int]) -> float:
    """3 significant digits; `rounding` takes what is left of the point, unless the rate has 3 digits as it is."""
    nearest = float(f"{rate:.2e}")
    if math.isclose(nearest, rate, rel_tol=1e-12):
        return nearest
    exponent = math.floor(math.log10(rate)) - 2
    return float(f"{rounding(rate / 10**exponent)}e{exponent}")
