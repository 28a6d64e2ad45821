"""Five criteria of "quality stops holding", each a rate on the same curve with an interval.

The curve is the mean improvement against log10 of the rate (`resample`), straight between the rates that were tried.
`delta` is the loss that is tolerated, 1% by default. Going up in rate:

- `onset`: the curve leaves its plateau. The knot of two straight lines in log rate (`segmented`), fitted to the rates
  up to the `RATES_BEYOND`-th one that lies `DROP` below the highest point: what comes after the fall says nothing of
  its beginning. A knot counts when it fits better than a straight line by more than noise does in 95% of replicates,
  and the curve goes down beyond it in 97.5% of them. A sudden step it places a grid step too early.
- `break-even`: the mean improvement crosses zero from above: the first rate beyond the curve's highest point where it
  falls below 0. Beyond the highest point, because at small rates every curve begins at 0 and noise crosses it.
- `tolerance`: the lower 97.5% confidence limit of the mean improvement first falls below -delta. Up to this rate the
  loss was *shown* to stay below delta; more seeds and texts move it up, towards `level`.
- `level`: the mean improvement itself first falls below -delta. The best estimate of where a loss of delta begins, and
  what the main sentence says (`level.py`). Inverting a test of "the loss is delta" at each rate gives an interval for
  it whose lower end is the tolerance: one is the estimate, the other the promise.
- `pairs`: the share of language pairs that are degraded by the clustered test (false discovery rate 5%) first exceeds
  `SHARE`. The tests account for the texts, so its interval redraws seeds alone, and there is none with one seed a rate:
  redrawing the texts under a test would count their noise twice. Its value depends on how many texts there are.

Read off the curve, first crossing, not off a monotone fit: see docs/boundary.md for the planted study that decided it.
A diverged rate is broken for every criterion; the crossing is then the middle of the gap below it.

Legend: R rates, B replicates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from .influences import Floats
from .level import first_crossing, gap_places
from .resample import MeanCurve
from .segmented import LEAST_RATES, fit_hinges

DELTA = 0.01
"""Loss that is tolerated: 1% more errors, relative."""
SHARE = 0.05
"""Share of language pairs that may be degraded: 11 of 225."""
DROP = 0.03
RATES_BEYOND = 2
"""Two rates in the fall fix its slope, and with it where it began."""
ALPHA = 0.05
TAIL = 0.025


class Rule(StrEnum):
    """The five criteria."""

    ONSET = "onset"
    BREAK_EVEN = "break-even"
    TOLERANCE = "tolerance"
    LEVEL = "level"
    PAIRS = "pairs"


def definition(rule: Rule, *, delta: float = DELTA, share: float = SHARE) -> str:
    """What the rate of a criterion is, in words: the one place that says so to readers of a report or a terminal.

    Args:
        rule: the criterion.
        delta: loss that is tolerated, a fraction.
        share: of language pairs that may be degraded.
    """
    words = {
        Rule.ONSET: "the mean improvement leaves its plateau: the knot of two lines in log rate",
        Rule.BREAK_EVEN: "the mean improvement falls below 0, beyond its highest point",
        Rule.TOLERANCE: f"the lower 97.5% limit of the mean improvement falls below -{100 * delta:g}%: up to here a "
        f"loss below {100 * delta:g}% was shown",
        Rule.LEVEL: f"the mean improvement itself falls below -{100 * delta:g}%: the best estimate, and the report's "
        "main sentence",
        Rule.PAIRS: f"more than {100 * share:g}% of the language pairs are degraded by the clustered test (false "
        "discovery rate 5%)",
    }
    return words[rule]


@dataclass(frozen=True)
class Crossing:
    """A boundary in log10 of the rate."""

    estimate: float
    """inf: above the rates tried; -inf: below them; NaN: none can be given, `reason` says why."""
    replicates_B: Floats
    """The same in each replicate; empty: no interval."""
    reason: str = ""


NO_REPLICATES = np.empty(0)


def cross(rule: Rule, curve: MeanCurve, *, delta: float = DELTA) -> Crossing:
    """The crossing of a curve of improvements by one of the criteria (`pairs` has curves of its own, `degraded`)."""
    return _RULES[rule](curve, delta)


def level(curve: MeanCurve, delta: float) -> Crossing:
    """The mean improvement first falls below -delta."""
    return _crossings(curve, curve.mean_R, curve.replicates_BR, -delta)


def tolerance(curve: MeanCurve, delta: float) -> Crossing:
    """The lower 97.5% limit of the mean improvement first falls below -delta.

    Its interval says how far the limit itself would move if all were done again: replicates of the curve, lowered by
    the same distance between mean and limit.
    """
    low_R = curve.band(TAIL)[0]
    is_known_R = np.isfinite(low_R) & np.isfinite(curve.mean_R)
    distance_R = np.where(is_known_R, curve.mean_R, np.inf) - np.where(is_known_R, low_R, 0.0)
    return _crossings(curve, low_R, curve.replicates_BR - distance_R, -delta)


def break_even(curve: MeanCurve, delta: float) -> Crossing:
    """The mean improvement falls below 0 beyond its highest point; `delta` plays no part."""
    found = _crossings(curve, from_peak(curve.mean_R[None])[0], from_peak(curve.replicates_BR), 0.0)
    if np.isneginf(found.estimate):
        return Crossing(found.estimate, found.replicates_B, "never above zero")
    return found


def onset(curve: MeanCurve, delta: float) -> Crossing:
    """The knot from which the curve goes down; `delta` plays no part."""
    log_R = np.log10(curve.rates_R)
    stop = window(curve.mean_R)
    broken = len(curve.mean_R) > stop and np.isneginf(curve.mean_R[stop])
    if stop < LEAST_RATES:
        return Crossing(np.nan, NO_REPLICATES, f"an onset takes {LEAST_RATES} rates that did not diverge, got {stop}")
    place_B = gap_places(curve)
    replicates_BR = curve.replicates_BR[:, :stop]
    replicates_BR = np.where(np.isfinite(replicates_BR), replicates_BR, curve.mean_R[:stop])
    fit = fit_hinges(log_R[:stop], curve.mean_R[None, :stop], np.array([0.5]))
    noise = fit_hinges(log_R[:stop], replicates_BR - curve.mean_R[:stop], place_B)
    p = (1 + int((noise.gain_B >= fit.gain_B[0]).sum())) / (1 + len(place_B))
    again = fit_hinges(log_R[:stop], replicates_BR, place_B)
    if np.isfinite(fit.knot_B[0]) and p <= ALPHA and _falls(log_R[:stop], replicates_BR, float(fit.knot_B[0])):
        return Crossing(float(fit.knot_B[0]), again.knot_B)
    if np.quantile(again.line_slope_B, 1 - TAIL) < 0 and curve.mean_R[:stop].min() < curve.mean_R[0] - DROP:
        everywhere_B = np.full(len(place_B), -np.inf)
        return Crossing(-np.inf, everywhere_B, "the curve falls from the lowest rate on, without a plateau")
    if broken:
        gap = log_R[stop] - log_R[stop - 1]
        return Crossing(float(log_R[stop - 1] + gap / 2), log_R[stop - 1] + gap * place_B, "the next rate diverged")
    return Crossing(np.inf, np.full(len(place_B), np.inf), "no bend downwards that noise could not make")


def _falls(log_rates_R: Floats, replicates_BR: Floats, knot: float) -> bool:
    """Whether the curve goes down beyond the knot, in 97.5% of the replicates: what rises to a plateau bends too."""
    design_RD = np.column_stack([np.ones_like(log_rates_R), log_rates_R, np.maximum(0, log_rates_R - knot)])
    _, slope_B, bend_B = np.linalg.pinv(design_RD) @ replicates_BR.T
    return bool(np.quantile(slope_B + bend_B, 1 - TAIL) < 0)


_RULES: dict[Rule, Callable[[MeanCurve, float], Crossing]] = {
    Rule.ONSET: onset,
    Rule.BREAK_EVEN: break_even,
    Rule.TOLERANCE: tolerance,
    Rule.LEVEL: level,
}


def from_peak(values_BR: Floats) -> Floats:
    """Curves with everything before their highest point raised to it."""
    peak_B = values_BR.argmax(axis=1)
    is_before_BR = np.arange(values_BR.shape[1]) < peak_B[:, None]
    return np.where(is_before_BR, values_BR.max(axis=1, keepdims=True), values_BR)


def window(mean_R: Floats) -> int:
    """How many rates tell of the onset: up to the second one `DROP` below the highest point, or a diverged one."""
    finite = int(np.argmax(~np.isfinite(mean_R))) if not np.isfinite(mean_R).all() else len(mean_R)
    if not finite:
        return 0
    values_R = mean_R[:finite]
    peak = int(values_R.argmax())
    fallen = np.flatnonzero((values_R < values_R[peak] - DROP) & (np.arange(finite) > peak))
    return int(fallen[RATES_BEYOND - 1]) + 1 if len(fallen) >= RATES_BEYOND else finite


def neighbours(log_crossing: float, rates_R: Floats) -> tuple[float, float]:
    """The rates tried on either side of a crossing: whatever the curve does between them, it is not seen.

    Returns:
        Rates; (NaN, NaN) where the crossing lies outside or is not known.
    """
    if not np.isfinite(log_crossing):
        return np.nan, np.nan
    after = int(np.clip(np.searchsorted(np.log10(rates_R), log_crossing), 1, max(1, len(rates_R) - 1)))
    return float(rates_R[after - 1]), float(rates_R[min(after, len(rates_R) - 1)])


def of_each_seed(rule: Rule, curve: MeanCurve, *, delta: float = DELTA) -> dict[int, float]:
    """log10 of the crossing that each seed's own curve has, by the criteria that need no interval; else nothing."""
    found: dict[int, float] = {}
    for seed, (rates_R, values_R) in curve.by_seed.items():
        if rule not in (Rule.BREAK_EVEN, Rule.LEVEL) or len(rates_R) < 2:
            continue
        values_1R = values_R[None] if rule == Rule.LEVEL else from_peak(values_R[None])
        at = -delta if rule == Rule.LEVEL else 0.0
        found[seed] = float(first_crossing(np.log10(rates_R), values_1R, at, np.array([0.5]))[0])
    return found


def _crossings(curve: MeanCurve, mean_R: Floats, replicates_BR: Floats, at: float) -> Crossing:
    log_R = np.log10(curve.rates_R)
    estimate = first_crossing(log_R, mean_R[None], at, np.array([0.5]))[0]
    return Crossing(float(estimate), first_crossing(log_R, replicates_BR, at, gap_places(curve)))
