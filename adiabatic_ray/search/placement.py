"""Where the next trial goes, so that a boundary is found with few: a rate, a seed, and the reason.

Three phases. A coarse bracket: both limits and what lies between, so that no dip is passed over. Noisy bisection: halve
in log10 rate what lies between the rates that surely hold and the lowest that is surely broken, and give a rate in
between whose sign is not sure its next seed. The straddle rule (Bryan et al. 2005): where the Gaussian process is least
sure on which side of the level the curve lies, largest 1.96 sd - |mean|, until the interval is narrow.

No state and no chance: every answer follows from the observations, as a set, and from what is running. A search goes on
from results on a disk, and results that come in another order lead to the same places. What is running splits gaps,
is no replicate to ask for again, and counts for the straddle rule as a result at the posterior mean, so that places
that are suggested before anything of them is known differ.

Rates have 3 significant digits: they are read by people and are part of a trial's name.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from adiabatic_ray.search.boundary_interval import (
    BISECTION_WIDTHS,
    Crossing,
    Observation,
    Setting,
    Tried,
    crossing,
    crossing_of,
    decades,
    gather,
    inner,
    misses_highest,
    misses_lowest,
    wide_gaps,
)
from adiabatic_ray.search.level_process import fit

__all__ = ["Crossing", "Observation", "Place", "Setting", "crossing", "next_place", "opening"]

SURE = 1.96
"""Standard deviations from the level at which a sign is sure: two-sided 95%."""
LATTICE_PER_WIDTH = 4
"""Candidates of the straddle rule in the width asked for. Not more: seeds at one rate say more than rates side by side,
to the noise estimate and to the analysis, which averages seeds by rate."""
FINEST_DECADES = 0.0004
"""Rates of 3 digits are further apart than this: log10(1000 / 999) is 0.00043."""
FLANK_WIDTHS = 0.3
"""In widths asked for; the straddle rule looks no nearer to the estimate. A rate at the crossing itself is the least
sure of all and stays so whatever number of seeds it gets; the interval ends at rates beside it whose sign is sure."""
OPENING_DECADES = 1.0
"""Widest gap of the opening; what is wider than `boundary_interval.WIDEST_GAP_BELOW` is halved as results come in."""


@dataclass(frozen=True)
class Place:
    """Where a trial goes."""

    rate: float
    """Learning rate, 3 significant digits, within the limits."""
    seed: int
    reason: str
    """Words for the log."""


def opening(setting: Setting) -> tuple[Place, ...]:
    """The first places, known before anything is: lowest, highest and middles at most a decade apart, first seed."""
    rates = [setting.first_rate, setting.last_rate]
    while decades(*(gap := _widest(rates))) > OPENING_DECADES:
        rates.append(_middle(*gap))
    return tuple(Place(rate, setting.seeds[0], "bracket: opening") for rate in rates)


def next_place(observations: Iterable[Observation], running: Sequence[Place], setting: Setting) -> Place | None:
    """The place that helps most, given what is known and under way.

    Args:
        observations: finished and diverged trials in any order, also at rates outside the limits.
        running: places that were suggested and are not observed yet.
        setting: limits, width and seeds.

    Returns:
        None: nothing sensible is left, the interval is narrow or every candidate has every seed.
    """
    known = list(observations)
    tried = gather(known)
    found = crossing_of(tried, setting)
    if found.is_narrow(setting):
        return None
    taken = {(one.rate, one.seed) for one in [*known, *running]}
    for rate, reason in _proposals(tried, found, taken, [one.rate for one in running], setting):
        if (seed := _free_seed(_rounded(rate), taken, setting)) is not None:
            return Place(_rounded(rate), seed, reason)
    return None


def _proposals(
    tried: Tried | None, found: Crossing, taken: set[tuple[float, int]], running: list[float], setting: Setting
) -> Iterator[tuple[float, str]]:
    """Rates by urgency; some have no seed left."""
    rates = sorted({rate for rate, _ in taken})
    if misses_lowest(rates, setting):
        yield setting.first_rate, "bracket: lowest rate"
    if misses_highest(rates, found.high, setting):
        yield setting.last_rate, "bracket: highest rate"
    for rate in _unsure(tried, found, running, setting):
        if rate in (setting.first_rate, setting.last_rate):
            yield rate, f"bracket: another seed, not sure whether {rate:g} holds"
    for low, high in wide_gaps(rates, found.low, found.high, setting):
        yield _middle(low, high), f"bracket: between {low:g} and {high:g}, where a dip could hide"
    if decades(*inner(found.low, found.high, setting)) > BISECTION_WIDTHS * setting.width_decades:
        for rate in _unsure(tried, found, running, setting):
            yield rate, f"bisection: another seed, not sure whether {rate:g} holds"
        low, high = _widest(_within(rates, found, setting))
        if decades(low, high) > setting.width_decades / LATTICE_PER_WIDTH:
            yield _middle(low, high), f"bisection: between {low:g} and {high:g}"
    yield from _straddle(tried, found, taken, running, setting)


def _unsure(tried: Tried | None, found: Crossing, running: list[float], setting: Setting) -> list[float]:
    """Rates within the interval whose sign is not sure and that nothing running is about to settle; worst first."""
    if tried is None:
        return []
    mean_R, sd_R = tried.process.at(np.log10(tried.rates_R))
    ratios = zip(tried.rates_R.tolist(), (np.abs(mean_R) / sd_R).tolist(), tried.is_diverged_R.tolist(), strict=True)
    low, high = inner(found.low, found.high, setting)
    unsure = [
        (ratio, rate)
        for rate, ratio, is_diverged in ratios
        if ratio < SURE and not is_diverged and low <= rate <= high and rate not in running
    ]
    return [rate for _, rate in sorted(unsure)]


def _straddle(
    tried: Tried | None, found: Crossing, taken: set[tuple[float, int]], running: list[float], setting: Setting
) -> Iterator[tuple[float, str]]:
    """One rate of each of ever finer lattices: rates side by side only when those of the coarser one have all seeds."""
    process = tried.process if tried else fit(np.empty(0), np.empty(0))
    rates = _within(sorted({rate for rate, _ in taken}), found, setting)
    spacing = setting.width_decades / LATTICE_PER_WIDTH
    while True:
        candidates = [rate for rate in _lattice(rates, spacing) if _free_seed(rate, taken, setting) is not None]
        if candidates := _flanks(candidates, found.estimate, setting):
            mean, sd = process.at(np.log10(candidates), np.log10(running))
            best = candidates[int(np.argmax(SURE * sd - np.abs(mean)))]
            yield best, f"straddle: not sure on which side of the level the curve lies at {best:g}"
        if spacing < FINEST_DECADES:
            return
        spacing /= 2


def _flanks(candidates: list[float], estimate: float, setting: Setting) -> list[float]:
    """Candidates far enough from the estimate; all where there is none, or no estimate within the limits."""
    if estimate == 0 or math.isinf(estimate):
        return candidates
    least = FLANK_WIDTHS * setting.width_decades
    return [rate for rate in candidates if abs(decades(estimate, rate)) >= least] or candidates


def _lattice(rates: list[float], spacing: float) -> list[float]:
    """The rates, and what divides each gap between them into equal parts of about `spacing` decades."""
    points = {_rounded(rate) for rate in rates}
    for low, high in pairwise(rates):
        count = max(1, round(decades(low, high) / spacing))
        points.update(_rounded(low * (high / low) ** (part / count)) for part in range(1, count))
    return sorted(points)


def _within(rates: Iterable[float], found: Crossing, setting: Setting) -> list[float]:
    """Ends of the interval, cut to the limits, and the rates between them, going up."""
    low, high = inner(found.low, found.high, setting)
    return sorted({low, high, *(rate for rate in rates if low < rate < high)})


def _widest(rates: Iterable[float]) -> tuple[float, float]:
    """The widest gap; of equal ones the lowest."""
    return max(pairwise(sorted(rates)), key=lambda gap: round(decades(*gap), 9))


def _middle(low: float, high: float) -> float:
    return _rounded(math.sqrt(low * high))


def _rounded(rate: float) -> float:
    return float(f"{rate:.2e}")


def _free_seed(rate: float, taken: set[tuple[float, int]], setting: Setting) -> int | None:
    return next((seed for seed in setting.seeds if (rate, seed) not in taken), None)
