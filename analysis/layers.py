"""Which parts of a tower tuning changed most: by the paper's two definitions, and by displacement relative to the norm.

Reads the `drift` table; a trial that diverged is in it too, as far as its numbers are finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd

from adiabatic_ray.statistics import drift
from adiabatic_ray.storage import Location

from .load import Sweep, load_sweep
from .paper_settings import trial_settings, varying

NUMBER_SHOWN = 2
"""Layers a trial: what the paper's tables have."""
_PREFIX = "encoder.layer."
"""Removed from the names of layers, as in the paper."""
_RATE = "tuning.learning_rate"


@dataclass(frozen=True)
class Definition:
    """What is meant by change; layers are ranked by its size, whatever its sign."""

    name: str
    """Begins the columns of `most_changed`."""
    title: str
    of: Callable[[Mapping[str, Any]], float]
    """From a row of the `drift` table."""
    paper_table: int | None = None
    """Table of the paper that ranks layers so."""


DEFINITIONS = (
    Definition("largest_changed", "largest weight of a layer, if tuning changed it", drift.largest_changed, 14),
    Definition(
        "relative_change", "(Wt - Wo) / (Wt + Wo) of a layer's largest weight, tuned and not", drift.relative_change, 15
    ),
    Definition(
        "l2_relative", "distance that a layer went, relative to its norm", lambda row: float(row["l2_relative"])
    ),
)


def definition_of(paper_table: int) -> Definition:
    """By which of `DEFINITIONS` a table of the paper ranks layers."""
    (found,) = (one for one in DEFINITIONS if one.paper_table == paper_table)
    return found


def short_name(tensor: str) -> str:
    """A tensor's name as the paper prints it: `3.output.dense.weight`."""
    return tensor.replace(_PREFIX, "", 1)


def block_table(sweep: Sweep | Location) -> pd.DataFrame:
    """One row a finished trial and block, in the order of the sweep and of the encoder.

    Args:
        sweep: a sweep, or its results folder.

    Returns:
        Columns `trial_id`, `block` and those of `drift.combined`; `l2_lost` is NaN where the precision is float32.

    Raises:
        ResultsError: a folder that cannot be analysed, see `load_sweep`.
    """
    return pd.DataFrame(
        [
            {"trial_id": trial_id, "block": block, **numbers}
            for trial_id, rows in rows_by_trial(_loaded(sweep)).items()
            for block, numbers in drift.by_block(rows).items()
        ]
    )


def most_changed(sweep: Sweep | Location, number: int = NUMBER_SHOWN) -> pd.DataFrame:
    """One row a finished trial, in the order of the sweep.

    Args:
        sweep: a sweep, or its results folder.
        number: layers to name, at least 1.

    Returns:
        Columns `trial_id`, `status`, `tuning.learning_rate`, what else varies in the sweep (dotted paths, in the words
        of the paper's tables), and for each of `DEFINITIONS` and each place from 1 on `<definition>/<place>/layer` and
        `<definition>/<place>/change`, None and NaN where fewer layers changed.

    Raises:
        ResultsError: a folder that cannot be analysed, see `load_sweep`.
    """
    sweep = _loaded(sweep)
    settings = {trial_id: trial_settings(spec) for trial_id, spec in sweep.trial_specs.items()}
    shown = list(dict.fromkeys([_RATE, *varying(list(settings.values()))]))
    rows, numbers = [], {_RATE: float}
    for trial_id, of_trial in rows_by_trial(sweep).items():
        row: dict[str, Any] = {"trial_id": trial_id, "status": sweep.status(trial_id)}
        row |= {path: settings[trial_id].get(path) for path in shown}
        for definition in DEFINITIONS:
            found = [*ranked(of_trial, definition), *[(None, math.nan)] * number]
            for place, (layer, change) in enumerate(found[:number], start=1):
                begins = f"{definition.name}/{place}"
                row |= {f"{begins}/layer": layer, f"{begins}/change": change}
                numbers[f"{begins}/change"] = float
        rows.append(row)
    return pd.DataFrame(rows, dtype=object).astype(numbers)  # settings and names as they are, a missing one is None


def ranked(rows: Sequence[Mapping[str, Any]], definition: Definition) -> list[tuple[str, float]]:
    """Layers that a trial changed, and by how much, most changed first; equal ones in the encoder's order.

    Those whose change is no number (diverged; of a tensor of zeros the relative distance) are left out.

    Args:
        rows: of the `drift` table, about one trial.
        definition: what is meant by change.
    """
    changes = [(short_name(row["tensor"]), definition.of(row)) for row in rows]
    changed = [(layer, change) for layer, change in changes if math.isfinite(change) and change != 0]
    return sorted(changed, key=lambda one: -abs(one[1]))


def rows_by_trial(sweep: Sweep) -> dict[str, list[dict[str, Any]]]:
    """Rows of the `drift` table by finished trial, in the order of the sweep."""
    of_trial = {trial_id: rows.to_dict("records") for trial_id, rows in sweep.drift.groupby("trial_id", sort=False)}
    return {trial_id: cast("list[dict[str, Any]]", of_trial.get(trial_id, [])) for trial_id in sweep.trials["trial_id"]}


def _loaded(sweep: Sweep | Location) -> Sweep:
    return sweep if isinstance(sweep, Sweep) else load_sweep(sweep)
