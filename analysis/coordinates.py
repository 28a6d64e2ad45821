"""In which coordinate do unlike settings reach the boundary at the same value?

A group of settings (freeze plan, steps, optimizer, ...) has one curve of the improvement. Its points stay and the axis
changes: learning rate, rate x steps, how far the weights went, how far query embeddings turned. The boundary in a
coordinate is where the curve, straight in log10 of the coordinate, first falls below the level, by the estimator of
`level`. The coordinate in which the boundaries of all groups spread least is the one that the settings act through.

A decade is not the same in all of them: turning grows with about the square of the rate. So spreads are given in the
coordinate's own decades and, divided by its slope against log rate, in decades of the learning rate; those compare.

How much of a spread is chance: in each bootstrap replicate (`resample`) the texts are redrawn for all groups together
and seeds apart. What moves all boundaries alike makes no spread, so the noise is the standard deviation of what is left
when the groups' common move is taken out. With one seed a rate it says nothing of seeds.

The length of the path is no coordinate here because no table has it.

Legend: R points, G groups, B replicates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from adiabatic_ray.results import ResultsError

from .boundary_tables import NO_HARM, estimate_columns
from .curves import Criterion
from .influences import Floats
from .level import LEVEL, NOTHING_TO_ESTIMATE, first_crossing, gap_places
from .resample import Evidence, MeanCurve
from .rules import NO_REPLICATES, Crossing
from .signals import RATE, SIGNALS, Signal, all_criteria, folder_names, signal_table

_NAMES = ("learning_rate", "rate_steps", "rate_root_steps", "l2_change", "l2_relative", "turned_pairs")
COORDINATES = tuple(signal for signal in SIGNALS if signal.name in _NAMES)
LEAST_GROUPS = 2
"""One boundary has no spread."""


@dataclass(frozen=True)
class CoordinateCurve:
    """The curve of one group and criterion with its points at their coordinates instead of their rates."""

    folder: str
    group: str
    criterion: Criterion
    coordinate: Signal
    log_values_R: Floats
    """log10 of the coordinate, going up; points at which it is 0 or unknown are left out."""
    mean_R: Floats
    """Improvement; -inf where a seed diverged."""
    crossing: Crossing
    """Of the level, in log10 of the coordinate."""
    slope: float
    """Decades of the coordinate per decade of the rate, least squares over the points; NaN for fewer than two."""


def coordinate_curves(evidences: Sequence[Evidence], *, level: float = LEVEL) -> list[CoordinateCurve]:
    """One curve for each criterion, coordinate and group that has a point there.

    Args:
        evidences: of `resample.gather`, one for each sweep, all with as many replicates and the same seed.
        level: improvement at or above which quality holds, a fraction.

    Raises:
        ValueError: no evidence, evidences with other replicates, or a level that is not finite.
        ResultsError: no group has a curve.
    """
    _check(evidences, level)
    sweeps = [evidence.sweep for evidence in evidences]
    table = signal_table(sweeps)
    names = folder_names(sweeps)
    found = []
    for criterion in all_criteria(sweeps):
        for name, evidence in zip(names, evidences, strict=True):
            for group in evidence.groups:
                curve = evidence.curve(group, criterion)
                if curve is None:
                    continue
                rows = table[(table["folder"] == name) & (table["group"] == group)]
                made = [_moved(curve, rows, name, signal, level) for signal in COORDINATES]
                found += [one for one in made if one is not None]
    if not found:
        outs = ", ".join(str(sweep.out) for sweep in sweeps)
        raise ResultsError(f"{NOTHING_TO_ESTIMATE}, got none in {outs}; add learning rates or a pair set")
    order = {signal.name: place for place, signal in enumerate(COORDINATES)}
    criteria_in_order = all_criteria(sweeps)
    return sorted(found, key=lambda one: (criteria_in_order.index(one.criterion), order[one.coordinate.name]))


def coordinate_table(evidences: Sequence[Evidence], *, level: float = LEVEL) -> pd.DataFrame:
    """One row a criterion, coordinate and group: its boundary in that coordinate.

    Args:
        evidences: see `coordinate_curves`.
        level: see `coordinate_curves`.

    Returns:
        Columns `set`, `relation`, `measure`, `coordinate`, `folder`, `group`; `estimate`, `low`, `high` (95% percentile
        interval) in the coordinate's unit, each with its mark `censored`, `low_censored`, `high_censored` (`none`,
        `above` or `below` the group's points, whose highest or lowest is the number then); `lowest`, `highest`: the
        group's points, whose number is `num_points`; `slope`: decades of the coordinate per decade of the rate;
        `reason`: why there is no estimate (NaN), '' else.

    Raises:
        ValueError: see `coordinate_curves`.
        ResultsError: see `coordinate_curves`.
    """
    rows = []
    for one in coordinate_curves(evidences, level=level):
        values_R = 10**one.log_values_R
        rows.append(
            _keys(one.criterion, one.coordinate)
            | {"folder": one.folder, "group": one.group}
            | estimate_columns(one.crossing, values_R)
            | {"lowest": float(values_R[0]), "highest": float(values_R[-1]), "num_points": len(values_R)}
            | {"slope": one.slope, "reason": one.crossing.reason}
        )
    return pd.DataFrame(rows)


def spread_table(evidences: Sequence[Evidence], *, level: float = LEVEL) -> pd.DataFrame:
    """One row a criterion and coordinate: how far the boundaries of the groups lie from one another in it.

    All coordinates of a criterion are compared on the same groups: those with a boundary within their points, and a
    coordinate that grows with the rate, in each coordinate that any group has. Two are needed.

    Args:
        evidences: see `coordinate_curves`.
        level: see `coordinate_curves`.

    Returns:
        Columns `set`, `relation`, `measure`, `coordinate`, `title`; `num_groups` compared and `num_other` that are not;
        `centre`: geometric mean of the boundaries, in the coordinate's unit; `sd_decades`, `range_decades` of log10 of
        the boundaries; `slope`: median over groups; `sd_rate_decades`, `range_rate_decades`: divided by it;
        `noise_rate_decades`: the standard deviation that chance alone gives, see the head of this file;
        `closer_frac`: share of replicates in which `sd_rate_decades` is below that of the learning rate, NaN for the
        rate itself; `reason`: why there is no spread (NaN), '' else.

    Raises:
        ValueError: see `coordinate_curves`.
        ResultsError: see `coordinate_curves`.
    """
    curves = coordinate_curves(evidences, level=level)
    rows = []
    for criterion in dict.fromkeys(one.criterion for one in curves):
        of_criterion = [one for one in curves if one.criterion == criterion]
        present = [signal for signal in COORDINATES if any(one.coordinate == signal for one in of_criterion)]
        groups = list(dict.fromkeys((one.folder, one.group) for one in of_criterion))
        by_place = {(one.folder, one.group, one.coordinate.name): one for one in of_criterion}
        compared = [group for group in groups if _has_all(by_place, group, present)]
        spread_of_rate_B = np.empty(0)
        for signal in present:
            row = _keys(criterion, signal) | {"title": signal.title}
            row |= {"num_groups": len(compared), "num_other": len(groups) - len(compared)}
            chosen = [by_place[*group, signal.name] for group in compared]
            numbers, spread_B = _spread(chosen)
            if signal == RATE:
                spread_of_rate_B = spread_B
            elif len(spread_B):
                both_B = np.isfinite(spread_B) & np.isfinite(spread_of_rate_B)
                closer = spread_B[both_B] < spread_of_rate_B[both_B]
                numbers["closer_frac"] = float(closer.mean()) if both_B.any() else math.nan
            rows.append(row | numbers)
    return pd.DataFrame(rows)


def _check(evidences: Sequence[Evidence], level: float) -> None:
    if not evidences:
        raise ValueError("boundaries are read from finished sweeps, got none; give at least one results folder")
    if not math.isfinite(level):
        raise ValueError(f"the level must be a finite fraction, got {level}; the default {LEVEL} allows 1% more errors")
    kinds = {(evidence.num_resamples, evidence.seed) for evidence in evidences}
    if len(kinds) > 1:
        raise ValueError(
            f"groups are compared replicate by replicate, got evidence with (replicates, seed) {sorted(kinds)}; gather "
            "all of it with the same two numbers"
        )


def _keys(criterion: Criterion, signal: Signal) -> dict[str, object]:
    about = {"set": criterion.set, "relation": criterion.relation, "measure": criterion.measure}
    return {**about, "coordinate": signal.name}


def _moved(curve: MeanCurve, rows: pd.DataFrame, folder: str, signal: Signal, level: float) -> CoordinateCurve | None:
    """The curve on another axis; None where no point has a place on it."""
    column = signal.column(curve.criterion)
    if column not in rows.columns:
        return None
    log_T = np.log10(rows[column].where(rows[column] > 0))
    log_R = log_T.groupby(rows["learning_rate"]).mean().reindex(curve.rates_R).to_numpy(dtype=np.float64)
    order_R = np.argsort(log_R, kind="stable")[: int(np.isfinite(log_R).sum())]
    if not len(order_R):
        return None
    log_values_R, mean_R = log_R[order_R], curve.mean_R[order_R]
    if curve.can_show_harm:
        estimate = float(first_crossing(log_values_R, mean_R[None], level, np.array([0.5]))[0])
        places_B = gap_places(curve)
        crossing = Crossing(estimate, first_crossing(log_values_R, curve.replicates_BR[:, order_R], level, places_B))
    else:
        crossing = Crossing(math.nan, NO_REPLICATES, NO_HARM)
    slope = float(np.polyfit(np.log10(curve.rates_R[order_R]), log_values_R, 1)[0]) if len(order_R) > 1 else math.nan
    return CoordinateCurve(folder, curve.group, curve.criterion, signal, log_values_R, mean_R, crossing, slope)


def _has_all(
    by_place: Mapping[tuple[str, str, str], CoordinateCurve], group: tuple[str, str], present: Sequence[Signal]
) -> bool:
    """Whether a group has a boundary within its points, and a slope, in each of the coordinates."""
    curves = [by_place.get((*group, signal.name)) for signal in present]
    return all(one is not None and math.isfinite(one.crossing.estimate) and one.slope > 0 for one in curves)


def _spread(chosen: Sequence[CoordinateCurve]) -> tuple[dict[str, object], Floats]:
    """Columns of `spread_table`, and the spread in decades of the rate in each replicate."""
    empty = ("centre", "sd_decades", "range_decades", "slope", "sd_rate_decades", "range_rate_decades")
    numbers: dict[str, object] = dict.fromkeys((*empty, "noise_rate_decades", "closer_frac"), math.nan)
    if len(chosen) < LEAST_GROUPS:
        reason = f"a spread takes {LEAST_GROUPS} groups with a boundary within their points, got {len(chosen)}"
        return numbers | {"reason": reason}, np.empty(0)
    at_G = np.array([one.crossing.estimate for one in chosen])
    # A boundary that a replicate puts outside the group's points has no place in that replicate.
    replicates_BG = np.ma.masked_invalid(np.column_stack([one.crossing.replicates_B for one in chosen]))
    slope = float(np.median([one.slope for one in chosen]))
    sd, extent = float(at_G.std(ddof=1)), float(np.ptp(at_G))
    spread_B: Floats = replicates_BG.std(axis=1, ddof=1).filled(np.nan)
    noise = math.sqrt(float((replicates_BG - at_G).var(axis=1, ddof=1).mean()))
    numbers |= {
        "centre": float(10 ** at_G.mean()),
        "sd_decades": sd,
        "range_decades": extent,
        "slope": slope,
        "sd_rate_decades": sd / slope,
        "range_rate_decades": extent / slope,
        "noise_rate_decades": noise / slope,
    }
    return numbers | {"reason": ""}, spread_B / slope
