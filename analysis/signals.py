"""What a tuned tower says of itself before anybody scores it, one row a trial, with the harm that was then measured.

Settings and the tables `drift` and `curves` need no text at all; `cosines` needs some encoded queries, but no labels,
no passages and no untuned errors. The target, the improvement of the mean PND over language pairs, needs them all.

What a trial went through is that of the state that was kept: its steps end at the kept epoch. The length of the path
(the sum over steps of the step's norm) is not recorded, only the distance between its ends. `rate x steps` takes the
rate with which the schedule begins.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from adiabatic_ray import results
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.spec import TrialSpec
from adiabatic_ray.statistics import drift

from .curves import Criterion, criteria, curve_table
from .layers import rows_by_trial
from .load import Sweep

TURNED_PAIRS = "turned_pairs"
"""Signal with a column for each pair set."""
TARGET = "improvement"


@dataclass(frozen=True)
class Signal:
    """A number that is expected to grow with harm."""

    name: str
    title: str
    source: str
    """`settings`, or the result table that it needs."""
    is_log: bool = True
    """Read on a log10 axis, on which 0 (nothing moved) has no place; else as it is."""

    def column(self, criterion: Criterion) -> str:
        """Its column in `signal_table`, for harm by this criterion."""
        return f"turned/{criterion.set}" if self.name == TURNED_PAIRS else self.name


RATE = Signal("learning_rate", "learning rate", "settings")
"""The trivial predictor."""
SIGNALS = (
    RATE,
    Signal("rate_steps", "rate x steps", "settings"),
    Signal("rate_root_steps", "rate x sqrt(steps)", "settings"),
    Signal("l2_change", "L2 displacement", "drift"),
    Signal("l2_relative", "L2 displacement / norm", "drift"),
    Signal("l2_relative_most", "the same, block that moved most", "drift"),
    Signal("l2_relative_last", "the same, last block", "drift"),
    Signal("max_change", "largest change of a weight", "drift"),
    Signal("movable_frac", "share of weights that could move", "drift"),
    Signal("moved_frac", "share of weights that moved", "drift"),
    Signal("train_loss_fall", "fall of training loss", "curves", is_log=False),
    Signal("validation_gain", "fall of validation loss", "curves", is_log=False),
    Signal("turned_tuned", "1 - cosine, tuned set's queries", "cosines"),
    Signal(TURNED_PAIRS, "1 - cosine, multilingual queries", "cosines"),
)


def signal_table(sweeps: Sequence[Sweep]) -> pd.DataFrame:
    """One row a finished trial with a rate above 0: where it belongs, its signals, what it improved.

    A trial that lies in two folders is taken from the first.

    Args:
        sweeps: loaded results folders, at least one.

    Returns:
        Columns `folder` (its name; whole path where two bear the same), `group` (settings other than rate and seed, ''
        when the folder has one group), `trial_id`, `status`, `seed`, `num_steps` (of the kept state; of a diverged
        trial all), then

        - `learning_rate`, `rate_steps`, `rate_root_steps`: the rate, times the steps, times their square root;
        - `l2_change`, `l2_relative`, `max_change`, `movable_frac`, `moved_frac`: of the whole query tower
          (`drift.combined`); `l2_relative_most`, `l2_relative_last`: of the encoder block that moved most, of the last;
        - `train_loss_fall`: 1 - the kept epoch's training loss / the first epoch's; NaN when that is one epoch;
        - `validation_gain`: 1 - the kept epoch's validation loss / the untuned tower's;
        - `turned_tuned`: 1 - mean cosine of untuned and tuned embeddings, sampled queries of the set that was tuned on;
          `turned/<pair set>`: the same, mean over the query languages of a pair set;
        - `improvement/<pair set>/<relation>/<measure>`: the target, as in `curves.curve_table`; -inf: it diverged.

        NaN where a table or set is missing, or a number is not finite (diverged).

    Raises:
        ValueError: no sweep.
        ResultsError: a `cosines` file of another schema version.
    """
    if not sweeps:
        raise ValueError("signals are read from finished sweeps, got none; give at least one results folder")
    frames = [_of_sweep(sweep, name) for sweep, name in zip(sweeps, folder_names(sweeps), strict=True)]
    table = pd.concat(frames, ignore_index=True).drop_duplicates("trial_id", ignore_index=True)
    wanted = [one.name for one in SIGNALS if one.name != TURNED_PAIRS]
    missing = {name: np.nan for name in wanted if name not in table.columns}
    return table.assign(**missing)


def folder_names(sweeps: Sequence[Sweep]) -> list[str]:
    """The last part of each folder's path, or all of it where two end alike."""
    times = Counter(sweep.out.name for sweep in sweeps)
    return [sweep.out.name if times[sweep.out.name] == 1 else str(sweep.out) for sweep in sweeps]


def all_criteria(sweeps: Sequence[Sweep]) -> list[Criterion]:
    """Criteria of the sweeps, each once, in the order of the first that has it."""
    return list(dict.fromkeys(criterion for sweep in sweeps for criterion in criteria(sweep)))


def _of_sweep(sweep: Sweep, folder: str) -> pd.DataFrame:
    scored = {str(row["trial_id"]): row for row in curve_table(sweep).to_dict("records")}
    drifts, turned = rows_by_trial(sweep), _turned(sweep)
    curves = {str(name): rows.set_index("epoch") for name, rows in sweep.curves.groupby("trial_id")}
    found = criteria(sweep)
    rows = []
    for trial in sweep.trials.to_dict("records"):
        trial_id, spec = str(trial["trial_id"]), sweep.trial_specs[trial["trial_id"]]
        rate, is_diverged = spec.tuning.learning_rate, trial["status"] == TrialStatus.DIVERGED
        if rate == 0:
            continue
        kept = int(trial["kept_epoch"])
        steps = int(trial["num_steps"]) if is_diverged else kept * spec.tuning.batches_per_epoch
        row: dict[str, Any] = {"folder": folder, "group": sweep.groups[trial_id], "trial_id": trial_id}
        row |= {"status": str(trial["status"]), "seed": spec.tuning.seed, "num_steps": steps}
        row |= {"learning_rate": rate, "rate_steps": rate * steps, "rate_root_steps": rate * math.sqrt(steps)}
        row |= _of_drift(drifts[trial_id]) | _of_curve(curves[trial_id], kept)
        row |= _of_cosines(turned.get(trial_id, {}), spec)
        sets = {source.name for source in spec.evaluation.sets}
        for criterion in found:
            improvement = float(scored[trial_id][criterion.column(TARGET)])
            row[criterion.column(TARGET)] = -math.inf if is_diverged and criterion.set in sets else improvement
        rows.append(row)
    return pd.DataFrame(rows)


def _of_drift(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    if not rows:
        return {}
    tower = drift.by_tower(rows)[""]
    blocks = {int(name): one["l2_relative"] for name, one in drift.by_block(rows).items() if name.isdigit()}
    found = {name: tower[name] for name in ("l2_change", "l2_relative", "max_change", "movable_frac", "moved_frac")}
    if blocks:
        found |= {"l2_relative_most": max(blocks.values()), "l2_relative_last": blocks[max(blocks)]}
    return {name: float(value) if math.isfinite(value) else math.nan for name, value in found.items()}


def _of_curve(epochs: pd.DataFrame, kept: int) -> dict[str, float]:
    """Relative falls of two losses from the first number that there is to the kept epoch's."""
    found = {}
    starts = (("train_loss_fall", "train_loss", 1), ("validation_gain", "validation_loss", 0))
    for name, column, first in starts:
        is_known = kept > first and {first, kept} <= set(epochs.index)
        before, after = (float(epochs[column][epoch]) if is_known else math.nan for epoch in (first, kept))
        fall = 1 - after / before if before else math.nan
        found[name] = fall if math.isfinite(fall) else math.nan
    return found


def _turned(sweep: Sweep) -> dict[str, dict[str, float]]:
    """1 - mean cosine by trial and set, mean over query languages; folders from before the table have none."""
    ids = [one for one in sweep.completeness.done if results.table_path(sweep.out, "cosines", one).is_file()]
    if not ids:
        return {}
    rows = results.read_table(sweep.out, "cosines", ids, ["trial_id", "set", "mean_cosine"]).to_pandas()
    found: dict[str, dict[str, float]] = {}
    for (trial_id, name), own in rows.groupby(["trial_id", "set"]):
        found.setdefault(str(trial_id), {})[str(name)] = 1 - float(own["mean_cosine"].mean())
    return found


def _of_cosines(turned: Mapping[str, float], spec: TrialSpec) -> dict[str, float]:
    tuned = {"turned_tuned": turned.get(spec.source.name, math.nan)}
    return tuned | {f"turned/{name}": value for name, value in turned.items()}
