"""Where a curve of improvements first falls below a level: the boundary that the main sentence is about.

The criterion. Multilingual quality holds at a rate when the improvement of the mean PND over all language pairs (see
`resample`) is at or above `level`, by default -0.01: one percent more errors than the untuned backbone makes. The
boundary is where the curve of seed means, straight between neighbouring rates on a log10 axis, first falls below the
level, going up.

Why the first crossing and not the last. The boundary promises that every rate below it is safe, so a dip below the
level must end the promise even when the curve comes back. And it does come back at rates that only do harm: under the
paper's stopping rule no epoch improves there, the untuned state is kept, and improvement is 0. A "below for good" rule
would call those rates safe. The price is a slight bias to low rates when noise makes the dip; noise of a mean over
language pairs is small against one percent.

Diverged. A rate where any seed diverged is broken, and no value says where between it and the rate below the level was
crossed. The estimate is the middle of that gap in log rate, which halves the largest possible error; each replicate
draws its place in the gap uniformly, so that the interval spans the gap.

Outside. When the curve never falls below the level the boundary lies above the highest rate tried; when it is below at
the lowest rate already, the boundary lies below that. Estimate and interval ends each carry such a mark; the number
beside a mark is that highest or lowest rate. Ends are order statistics of the replicates, so a mark is never averaged.

The interval is a 95% percentile interval over the replicates of the curve. It covers premises, and seeds at rates with
several of them. It does not cover what lies between the rates: the curve may bend there.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adiabatic_ray.results import ResultsError

from .influences import Floats
from .interval import Censored, Interval
from .load import Sweep
from .resample import NUM_RESAMPLES, Evidence, MeanCurve, mean_curves

LEVEL = -0.01
"""Smallest improvement that still counts as preserved: 1% more errors, relative."""
CONFIDENCE = 0.95
NOTHING_TO_ESTIMATE = (
    "a boundary needs a finished trial with a rate above 0, and a pair set in which the untuned backbone makes errors"
)


@dataclass(frozen=True)
class Boundary(Interval):
    """The estimate for one group, pair set, relation and measure, with what it rests on."""

    set: str
    relation: str
    measure: str
    group: str
    """Settings that tell this curve from the sweep's others; '' when there is one curve."""
    level: float
    confidence: float
    last_holding_rate: float | None
    """Highest rate tried before the crossing; None when censored below."""
    first_failing_rate: float | None
    """Next rate tried, the first below the level; None when censored above."""
    is_gap_diverged: bool
    """A seed diverged at the first failing rate: the estimate is the middle of the gap."""
    lowest_rate: float
    highest_rate: float
    num_rates: int
    num_seeds: int
    """Fewest finished seeds at any rate. 1: the interval says nothing of seeds there."""
    max_seeds: int
    num_diverged: int
    num_trials: int
    """Trials with scores, or diverged, at rates above 0."""
    num_kept_untuned: int
    """Trials in which no epoch improved, so that the untuned state was evaluated: they can show no harm."""
    num_unmoved: int
    """Trials that kept a tuned state in which not one weight differs from the untuned one: no harm to see either."""
    num_absent: int
    """Trials that failed or are missing."""
    num_language_pairs: int
    num_clusters: int
    num_resamples: int
    seed: int


def estimate_boundaries(
    sweep: Sweep,
    *,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    evidence: Evidence | None = None,
) -> list[Boundary]:
    """One boundary for each group of settings, pair set, relation and measure.

    Args:
        sweep: a loaded sweep.
        level: improvement of the mean PND at or above which quality holds, a fraction.
        num_resamples: bootstrap replicates, at least 100.
        seed: of the bootstrap; the same seed gives the same interval.
        evidence: what `resample.gather` read, to spare reading again; the last two are its own then.

    Raises:
        ValueError: a level that is not finite, too few replicates, a negative seed.
        ResultsError: no such trial or pair set, or tables that do not fit, see `resample.mean_curves`.
    """
    curves = mean_curves(sweep, num_resamples=num_resamples, seed=seed, evidence=evidence)
    if not curves:
        raise ResultsError(
            f"{NOTHING_TO_ESTIMATE}, got none in {sweep.out}; add learning rates, or a pair set to evaluation.sets"
        )
    return [boundary_of(curve, level=level) for curve in curves]


def boundary_of(curve: MeanCurve, *, level: float = LEVEL) -> Boundary:
    """Boundary of one curve.

    Raises:
        ValueError: a level that is not finite.
    """
    if not math.isfinite(level):
        raise ValueError(f"the level must be a finite fraction, got {level}; the default {LEVEL} allows 1% more errors")
    log_R = np.log10(curve.rates_R)
    crossing = float(first_crossing(log_R, curve.mean_R[None], level, np.array([0.5]))[0])
    num_resamples = len(curve.replicates_BR)
    crossings_B = first_crossing(log_R, curve.replicates_BR, level, gap_places(curve))
    tail = (1 - CONFIDENCE) / 2
    low = float(np.quantile(crossings_B, tail, method="lower"))
    high = float(np.quantile(crossings_B, 1 - tail, method="higher"))
    failing_R = np.flatnonzero(curve.mean_R < level)
    first = int(failing_R[0]) if len(failing_R) else len(log_R)
    return Boundary(
        estimate=_rate(crossing, curve),
        low=_rate(low, curve),
        high=_rate(high, curve),
        censored=_mark(crossing),
        low_censored=_mark(low),
        high_censored=_mark(high),
        set=curve.criterion.set,
        relation=curve.criterion.relation,
        measure=curve.criterion.measure,
        group=curve.group,
        level=level,
        confidence=CONFIDENCE,
        last_holding_rate=float(curve.rates_R[first - 1]) if first > 0 else None,
        first_failing_rate=float(curve.rates_R[first]) if first < len(log_R) else None,
        is_gap_diverged=0 < first < len(log_R) and bool(np.isneginf(curve.mean_R[first])),
        lowest_rate=float(curve.rates_R[0]),
        highest_rate=float(curve.rates_R[-1]),
        num_rates=len(log_R),
        num_seeds=int(curve.seeds_R.min()),
        max_seeds=int(curve.seeds_R.max()),
        num_diverged=curve.num_diverged,
        num_trials=curve.num_trials,
        num_kept_untuned=curve.num_kept_untuned,
        num_unmoved=curve.num_unmoved,
        num_absent=curve.num_absent,
        num_language_pairs=curve.num_language_pairs,
        num_clusters=curve.num_clusters,
        num_resamples=num_resamples,
        seed=curve.seed,
    )


def gap_places(curve: MeanCurve) -> Floats:
    """Where in the gap below a broken rate each replicate has its boundary, 0 to 1.

    A stream of its own for each group: two boundaries in gaps of the same sweep lie anywhere in them, each by itself.
    """
    stream = [curve.seed, 1, zlib.crc32(curve.group.encode())]
    return np.random.default_rng(stream).random(len(curve.replicates_BR))


def first_crossing(log_rates_R: Floats, mean_BR: Floats, level: float, place_B: Floats) -> Floats:
    """Where each curve, straight between its points, first falls below the level.

    Args:
        log_rates_R: log10 of the rates, going up.
        mean_BR: curves; -inf is broken.
        level: at the level still holds.
        place_B: place of the crossing, 0 to 1, between the last rate that holds and a broken one.

    Returns:
        log10 of the rate; inf: never below; -inf: below at the first rate.
    """
    is_below_BR = mean_BR < level
    first_B = is_below_BR.argmax(axis=1)
    crossing_B: Floats = np.where(is_below_BR.any(axis=1), -np.inf, np.inf)
    rows: NDArray[np.intp] = np.flatnonzero(first_B > 0)
    after, before = first_B[rows], first_B[rows] - 1
    upper, lower = mean_BR[rows, before], mean_BR[rows, after]
    is_broken = np.isneginf(lower)
    share = np.where(is_broken, place_B[rows], (upper - level) / (upper - np.where(is_broken, level - 1, lower)))
    crossing_B[rows] = log_rates_R[before] + share * (log_rates_R[after] - log_rates_R[before])
    return crossing_B


def _rate(log_rate: float, curve: MeanCurve) -> float:
    if math.isinf(log_rate):
        return float(curve.rates_R[-1] if log_rate > 0 else curve.rates_R[0])
    return float(10**log_rate)


def _mark(log_rate: float) -> Censored:
    if math.isinf(log_rate):
        return "above" if log_rate > 0 else "below"
    return "none"
