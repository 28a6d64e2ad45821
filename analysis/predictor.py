"""How well does a tower that nobody scored tell whether it still holds? Each signal against the measured harm.

Two questions for every signal of `signals.SIGNALS` and every criterion:

- Order. Spearman's rank correlation with the improvement over all trials. Within a group (trials that differ in rate
  and seed alone) nearly everything grows with the rate, so trials are no independent draws: the interval resamples
  whole groups. It says little when there are few of them.
- Use. Leave one out, calibrate on the rest, predict. The calibration is the signal's value at which a monotone
  (isotonic, falling) fit of the improvement first falls below the level. A trial of the left-out group is called held
  when its signal is at or below that value, and the predicted boundary is the rate at which the group's own signal
  reaches it, in log rate. What is left out is a group, and then a whole results folder.

A prediction needs the left-out group's towers, tuned at some rates, but no scores of them. Where the calibrated value
lies outside the signals of the group, the rate is extrapolated along the slope of the group's signal against log rate;
for the learning rate itself that is exact. Diverged trials show themselves and are neither fitted nor called; a group's
own boundary counts them as broken, as in `level`.

Legend: T trials.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from adiabatic_ray.results import ResultsError

from .calibration import MIDDLE, rank_correlation, rate_at, threshold_of
from .curves import Criterion
from .influences import Floats
from .level import LEVEL, NOTHING_TO_ESTIMATE, first_crossing
from .load import Sweep
from .signals import SIGNALS, TARGET, Signal, all_criteria, signal_table

UNITS = ("group", "folder")
"""What is left out, by the name that tables give it."""
LEAST_RATES = 2
"""One rate does not say how a signal grows."""
_KEYS = ["set", "relation", "measure", "signal"]


def predictor_table(sweeps: Sequence[Sweep], *, level: float = LEVEL) -> pd.DataFrame:
    """One row a criterion and signal: how well it orders trials, and how well it predicts what was left out.

    A signal that no trial has is left out.

    Args:
        sweeps: loaded results folders, at least one.
        level: improvement at or above which quality holds, a fraction.

    Returns:
        Columns `set`, `relation`, `measure`, `signal`, `title`, `source`; `num_trials` (with the signal and a finite
        improvement), `num_groups` of them, `holds_frac`: share of them that hold; `spearman`, `low`, `high`: rank
        correlation with the improvement (-1: the signal orders harm perfectly) and its 95% interval, NaN where nothing
        varies or for fewer than three groups. Then for `<unit>` group and folder, from `left_out_table`:

        - `<unit>/num_boundaries`: left-out groups whose own boundary lies within their rates and was predicted;
        - `<unit>/rms_log10_error`, `<unit>/median_log10_error`, `<unit>/worst_log10_error`: of log10 of the predicted
          rate, absolute, in decades; NaN without such a group;
        - `<unit>/num_extrapolated`: of them, those predicted outside the group's own signals;
        - `<unit>/num_called`, `<unit>/right_frac`: left-out trials that were called, and the share called right;
        - `<unit>/reason`: why left-out groups have no error, '' when all have one.

    Raises:
        ValueError: no sweep, or a level that is not finite.
        ResultsError: no pair set with untuned errors.
    """
    table = _checked_table(sweeps, level)
    rows = []
    for criterion in all_criteria(sweeps):
        for signal in SIGNALS:
            cases = _cases(table, criterion, signal, level)
            if not cases:
                continue
            row = _keys(criterion, signal) | {"title": signal.title, "source": signal.source}
            value_T, harm_T = np.concatenate([c.value_T for c in cases]), np.concatenate([c.harm_T for c in cases])
            groups_T = np.repeat(np.arange(len(cases)), [len(case.harm_T) for case in cases])
            row |= {"num_trials": len(harm_T), "num_groups": len(cases)}
            row["holds_frac"] = float(np.mean(harm_T >= level))
            row |= dict(zip(("spearman", "low", "high"), rank_correlation(value_T, harm_T, groups_T), strict=True))
            for unit in UNITS:
                found = _summary([_predicted(case, _others(case, cases, unit), signal, level) for case in cases])
                row |= {f"{unit}/{name}": value for name, value in found.items()}
            rows.append(row)
    return pd.DataFrame(rows)


def left_out_table(sweeps: Sequence[Sweep], *, level: float = LEVEL) -> pd.DataFrame:
    """One row a criterion, signal, unit and left-out group: what the others predict, and what was found.

    Args:
        sweeps: loaded results folders, at least one.
        level: improvement at or above which quality holds, a fraction.

    Returns:
        Columns `set`, `relation`, `measure`, `signal`, `unit` (`group`: all other groups calibrate; `folder`: all
        groups of other folders), `folder`, `group`; `threshold`: the calibrated value of the signal; `boundary`: the
        group's own boundary rate, NaN where its rates do not enclose one; `predicted`: rate; `is_extrapolated`;
        `log10_error`: log10(predicted / boundary); `num_called`, `num_right`: trials of the group; `reason`: why there
        is no error, '' else.

    Raises:
        ValueError: no sweep, or a level that is not finite.
        ResultsError: no pair set with untuned errors.
    """
    table = _checked_table(sweeps, level)
    rows = []
    for criterion in all_criteria(sweeps):
        for signal in SIGNALS:
            cases = _cases(table, criterion, signal, level)
            for unit in UNITS:
                for case in cases:
                    row = _keys(criterion, signal) | {"unit": unit, "folder": case.folder, "group": case.group}
                    rows.append(row | _predicted(case, _others(case, cases, unit), signal, level))
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Case:
    """Trials of one group that have a signal and a finite improvement, and the group's own boundary."""

    folder: str
    group: str
    log_rates_T: Floats
    value_T: Floats
    """The signal as it is."""
    harm_T: Floats
    """Improvement, finite."""
    log_boundary: float
    """log10 of the rate; inf or -inf: above or below the rates tried."""

    def read(self, signal: Signal) -> Floats:
        """The signal on the axis on which it is read; -inf on a logarithmic one where nothing moved."""
        if not signal.is_log:
            return self.value_T
        return np.log10(self.value_T, out=np.full(len(self.value_T), -np.inf), where=self.value_T > 0)


def _checked_table(sweeps: Sequence[Sweep], level: float) -> pd.DataFrame:
    if not math.isfinite(level):
        raise ValueError(f"the level must be a finite fraction, got {level}; the default {LEVEL} allows 1% more errors")
    table = signal_table(sweeps)
    if table.empty or not all_criteria(sweeps):
        raise ResultsError(
            f"{NOTHING_TO_ESTIMATE}, got none in {', '.join(str(sweep.out) for sweep in sweeps)}; add learning rates, "
            "or a pair set to evaluation.sets"
        )
    return table


def _keys(criterion: Criterion, signal: Signal) -> dict[str, object]:
    about = {"set": criterion.set, "relation": criterion.relation, "measure": criterion.measure}
    return {**about, "signal": signal.name}


def _cases(table: pd.DataFrame, criterion: Criterion, signal: Signal, level: float) -> list[_Case]:
    """One for each group with at least one trial that has the signal and was scored by the criterion."""
    column, target = signal.column(criterion), criterion.column(TARGET)
    if column not in table.columns:
        return []
    found = []
    for (folder, group), rows in table.dropna(subset=[target]).groupby(["folder", "group"], sort=False):
        usable = rows[np.isfinite(rows[target]) & np.isfinite(rows[column])]
        if usable.empty:
            continue
        means = rows.groupby("learning_rate")[target].mean()
        rates_R, means_R = means.index.to_numpy(dtype=np.float64), means.to_numpy(dtype=np.float64)
        crossing = float(first_crossing(np.log10(rates_R), means_R[None], level, MIDDLE)[0])
        rates_T, value_T, harm_T = (usable[name].to_numpy(np.float64) for name in ("learning_rate", column, target))
        found.append(_Case(str(folder), str(group), np.log10(rates_T), value_T, harm_T, crossing))
    return found


def _others(case: _Case, cases: Sequence[_Case], unit: str) -> list[_Case]:
    """What calibrates when a group, or its whole folder, is left out."""
    if unit == "group":
        return [other for other in cases if other is not case]
    return [other for other in cases if other.folder != case.folder]


def _predicted(case: _Case, others: Sequence[_Case], signal: Signal, level: float) -> dict[str, object]:
    """Of one left-out group: the columns of `left_out_table` that are no keys."""
    found: dict[str, object] = {"threshold": math.nan, "boundary": math.nan, "predicted": math.nan}
    found |= {"is_extrapolated": False, "log10_error": math.nan, "num_called": 0, "num_right": 0}
    has_boundary = math.isfinite(case.log_boundary)
    if has_boundary:
        found["boundary"] = 10**case.log_boundary
    if not others:
        return found | {"reason": "nothing else to calibrate on"}
    signal_T = np.concatenate([other.read(signal) for other in others])
    harm_T = np.concatenate([other.harm_T for other in others])
    moved_T = np.isfinite(signal_T)
    at = threshold_of(signal_T[moved_T], harm_T[moved_T], level) if moved_T.any() else math.inf
    if not math.isfinite(at):
        how = "above the level at every value" if at > 0 else "below the level from the lowest value on"
        return found | {"reason": f"what calibrates is {how} of the signal"}
    own_T = case.read(signal)
    found["threshold"] = 10**at if signal.is_log else at
    found |= {"num_called": len(own_T), "num_right": int(((own_T <= at) == (case.harm_T >= level)).sum())}
    moved_T = np.isfinite(own_T)
    rates_R, place_T = np.unique(case.log_rates_T[moved_T], return_inverse=True)
    if len(rates_R) < LEAST_RATES:
        return found | {"reason": f"fewer than {LEAST_RATES} rates at which anything moved"}
    signal_R = np.bincount(place_T, weights=own_T[moved_T]) / np.bincount(place_T)
    predicted, is_extrapolated = rate_at(rates_R, signal_R, at)
    if not math.isfinite(predicted):
        return found | {"reason": "the signal does not grow with the rate"}
    found |= {"predicted": 10**predicted, "is_extrapolated": is_extrapolated}
    if not has_boundary:
        where = "above" if case.log_boundary > 0 else "below"
        return found | {"reason": f"its own boundary lies {where} the rates tried"}
    return found | {"log10_error": predicted - case.log_boundary, "reason": ""}


def _summary(found: Sequence[dict[str, object]]) -> dict[str, object]:
    """Of all left-out groups of one criterion, signal and unit."""
    table = pd.DataFrame(found)
    judged = table[table["log10_error"].notna()]
    errors = judged["log10_error"].abs()
    reasons = table.loc[table["reason"] != "", "reason"].value_counts()
    called = int(table["num_called"].sum())
    return {
        "num_boundaries": len(judged),
        "rms_log10_error": float(np.sqrt((errors**2).mean())) if len(judged) else math.nan,
        "median_log10_error": float(errors.median()) if len(judged) else math.nan,
        "worst_log10_error": float(errors.max()) if len(judged) else math.nan,
        "num_extrapolated": int(judged["is_extrapolated"].sum()),
        "num_called": called,
        "right_frac": float(table["num_right"].sum() / called) if called else math.nan,
        "reason": "; ".join(f"{number} x {reason}" for reason, number in reasons.items()),
    }
