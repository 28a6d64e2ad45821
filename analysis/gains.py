"""The lower end and the best rate: where a gain begins, and what may be had while nothing is degraded."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from .boundary_tables import estimate_columns, in_words, triplet_criteria
from .harm import harm_by_trial
from .influences import TRIPLETS
from .level import first_crossing
from .resample import Evidence, MeanCurve
from .rules import TAIL, Crossing


def gain_floor(evidence: Evidence) -> pd.DataFrame:
    """The rate below which nothing is gained on the set that was tuned on.

    From the rate with the highest mean gain downwards: where the lower 97.5% limit of the mean gain first reaches 0.
    The mirror image of `tolerance`, as a limit it falls with more seeds and texts.

    Returns:
        One row for each group and measure: `group`, `set`, `measure`, `estimate`, `low`, `high` and their marks (see
        `boundary_tables`; `below`: a gain is shown at the lowest rate tried; `above`: at no rate), `best_gain` (highest
        mean gain, a fraction), `best_gain_rate`, `num_rates`, `num_seeds`, `num_absent`, `reason`, `words`.
    """
    rows = []
    for group in evidence.groups:
        for criterion in triplet_criteria(evidence, group, tuned=True):
            curve = evidence.curve(group, criterion, TRIPLETS)
            if curve is None:
                continue
            found = floor(curve)
            numbers = estimate_columns(found, curve.rates_R)
            peak = int(curve.mean_R.argmax())
            rows.append(
                {
                    "group": group,
                    "set": criterion.set,
                    "measure": criterion.measure,
                    **numbers,
                    "best_gain": float(curve.mean_R[peak]),
                    "best_gain_rate": float(curve.rates_R[peak]),
                    "num_rates": len(curve.rates_R),
                    "num_seeds": int(curve.seeds_R.min()),
                    "num_absent": curve.num_absent,
                    "reason": found.reason,
                    "words": _floor_words(numbers, found, curve.num_absent),
                }
            )
    return pd.DataFrame(rows)


def floor(curve: MeanCurve) -> Crossing:
    """Where a curve of gains, followed down from its highest point, is no longer shown to be above 0."""
    peak = int(curve.mean_R.argmax())
    low_R = curve.band(TAIL)[0][: peak + 1]
    if not low_R[-1] > 0:
        nowhere_B = np.full(len(curve.replicates_BR), np.inf)
        return Crossing(math.inf, nowhere_B, "no gain is shown at the rate with the highest mean")
    distance_R = curve.mean_R[: peak + 1] - low_R
    shown_BR = curve.replicates_BR[:, : peak + 1] - distance_R
    down_R = -np.log10(curve.rates_R[peak::-1])
    places_B = np.full(len(shown_BR), 0.5)
    estimate = -first_crossing(down_R, low_R[None, ::-1], 0.0, np.array([0.5]))[0]
    return Crossing(float(estimate), -first_crossing(down_R, shown_BR[:, ::-1], 0.0, places_B))


def best_rates(evidence: Evidence, *, allowed_share: float = 0.0) -> pd.DataFrame:
    """The tried rate with the highest gain at which nothing is degraded.

    Nothing is degraded at a rate where no seed diverged, at most `allowed_share` of the language pairs of each pair set
    and relation are degraded in every seed (clustered test, false discovery rate 5%), and no English set that was not
    tuned on is significantly worse in any (clustered test, 5%). Only rates that were tried can be tested, so nothing is
    read between them. "Not found to be degraded" is not "shown to be preserved": `tolerance` says that of the mean.

    Args:
        evidence: what `gather` read.
        allowed_share: of language pairs; above 0 it makes room for false finds.

    Returns:
        One row for each group and measure: `group`, `measure`, `best_rate` (NaN: none), `gain`, `gain_low`, `gain_high`
        (mean over seeds on the tuned set with its 95% interval, fractions), `num_seeds`; `unconstrained_rate`,
        `unconstrained_gain` (the highest gain at any price), `num_degraded_there` (language pairs, the most in a set,
        relation and seed); `num_absent`, `words`.
    """
    rows = []
    for group in evidence.groups:
        for criterion in triplet_criteria(evidence, group, tuned=True):
            curve = evidence.curve(group, criterion, TRIPLETS)
            if curve is None or not np.isfinite(curve.mean_R).any():
                continue
            degraded = _degraded_by_rate(evidence, group, criterion.measure)
            limits_R = np.array(
                [degraded[rate][1] <= allowed_share and not degraded[rate][2] for rate in curve.rates_R]
            )
            safe_R = limits_R & np.isfinite(curve.mean_R)
            free = int(curve.mean_R.argmax())
            best = int(np.where(safe_R, curve.mean_R, -np.inf).argmax()) if safe_R.any() else None
            low_R, high_R = curve.band(TAIL)
            picked = [float(values[best]) if best is not None else math.nan
                      for values in (curve.rates_R, curve.mean_R, low_R, high_R)]  # fmt: skip
            rate = f"{picked[0]:.3g} with a gain of {100 * picked[1]:.2f}%" if best is not None else "none of the rates"
            absent = f"INCOMPLETE, {curve.num_absent} failed or missing: " if curve.num_absent else ""
            rows.append(
                {
                    "group": group,
                    "measure": criterion.measure,
                    **dict(zip(("best_rate", "gain", "gain_low", "gain_high"), picked, strict=True)),
                    "num_seeds": int(curve.seeds_R[best if best is not None else free]),
                    "unconstrained_rate": float(curve.rates_R[free]),
                    "unconstrained_gain": float(curve.mean_R[free]),
                    "num_degraded_there": int(degraded[curve.rates_R[free]][0]),
                    "num_absent": curve.num_absent,
                    "words": f"{absent}{rate}, nothing degraded",
                }
            )
    return pd.DataFrame(rows)


def _floor_words(numbers: dict[str, float | str], found: Crossing, num_absent: int) -> str:
    if numbers["censored"] == "below":
        absent = f"INCOMPLETE, {num_absent} failed or missing: " if num_absent else ""
        return f"{absent}a gain is shown at the lowest rate tried, {float(numbers['estimate']):.3g}"
    if numbers["censored"] == "above":
        return in_words(numbers | {"estimate": math.nan}, found.reason, num_absent).replace("no boundary", "no gain")
    return in_words(numbers, found.reason, num_absent)


def _degraded_by_rate(evidence: Evidence, group: str, measure: str) -> dict[float, tuple[float, float, bool]]:
    """By rate, of the worst seed: degraded language pairs, their share, whether it diverged or lost in English."""
    harm = harm_by_trial(evidence, measure)[evidence.trials["group"] == group]
    rates = evidence.trials.loc[harm.index, "learning_rate"]
    return {
        float(str(rate)): (float(part["num_degraded"].max()), float(part["share"].max()), bool(part["is_worse"].any()))
        for rate, part in harm.groupby(rates)
    }
