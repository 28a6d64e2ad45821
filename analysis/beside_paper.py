"""A finished sweep laid beside a table of the paper, row by row.

A trial belongs to a row when it agrees with it in what decides: the settings that the table prints, and whatever else
the paper states and the sweep varies. Settings that are constant in both and differ, another encoder and other texts
are listed as deviations, so that a small sweep on other data can be laid beside and nobody mistakes it for the paper's.
Where the paper names no setting (the seed) each trial stands by itself: the tables hold no interval of a mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.spec import TrialSpec
from adiabatic_ray.storage import Location

from .comparison import compare_trials
from .curves import count_pairs
from .layers import definition_of, ranked, rows_by_trial
from .load import Sweep, load_sweep, read_whole
from .paper_sets import SETS, our_set, set_deviations, source_deviations
from .paper_settings import describe, in_words, same_setting, trial_settings, varying
from .paper_tables import PairChange, PaperRow, PaperTable, Quantity, Value, read_table


@dataclass(frozen=True)
class Line:
    """One number of the paper and ours."""

    quantity: Quantity
    paper: Value | None
    """None: not legible in the text that the table was read from."""
    ours: Value | None = None
    """None: not evaluated here; of layers, no other one changed."""
    low: float = math.nan
    """95% interval of ours, paired and clustered; NaN where the results tables have none."""
    high: float = math.nan
    clustered: PairChange | None = None
    """Of `pairs`: the counts by the clustered test at a false discovery rate of 5%; `ours` is by the paper's z-test."""


@dataclass(frozen=True)
class Match:
    """A row of the paper and a trial that belongs to it."""

    settings: dict[str, Any]
    """What decides, and what the sweep varies beyond that."""
    trial_id: str
    status: str
    lines: tuple[Line, ...]
    note: str = ""
    """Why a trial that is done has no numbers of ours."""

    def is_among_the_papers(self, line: Line) -> bool:
        """Whether the layer that a line names here is any of those that the paper names in this row."""
        return line.ours is not None and line.ours in [other.paper for other in self.lines]


@dataclass(frozen=True)
class Beside:
    """A sweep beside a table."""

    sweep: Sweep
    table: PaperTable
    deviations: tuple[str, ...]
    """In what matched trials are not the paper's, in words."""
    matches: tuple[Match, ...]
    """In the order of the paper's rows, then of the sweep."""
    rows_alone: tuple[dict[str, Any], ...]
    """Printed settings of the rows that no trial belongs to."""
    trials_alone: tuple[tuple[str, dict[str, Any]], ...]
    """Trials that belong to no row: id, and what the table prints or the sweep varies."""


def lay_beside(out: Location, number: int) -> Beside:
    """Lay a sweep beside a table of the paper.

    Args:
        out: the folder that `adiabatic sweep` wrote.
        number: as the paper counts its tables.

    Raises:
        ValueError: no such table.
        ResultsError: a folder that cannot be analysed, see `load_sweep`.
    """
    table = read_table(number)
    sweep = load_sweep(out)
    ours = {trial_id: trial_settings(trial) for trial_id, trial in sweep.trial_specs.items()}
    if table.untuned:
        ours = _first_of_each_backbone(sweep, ours)
    varied = varying(list(ours.values()))
    known = {path for row in table.rows for path in row.settings}
    deciding = [*table.printed, *(path for path in varied if path in known and path not in table.printed)]
    shown = [*deciding, *(path for path in varied if path not in deciding and not table.untuned)]
    matched = [
        (row, trial_id)
        for row in table.rows
        for trial_id, settings in ours.items()
        if _agree(row.settings, settings, deciding)
    ]
    ids = {trial_id for _, trial_id in matched}
    return Beside(
        sweep=sweep,
        table=table,
        deviations=tuple(_deviations(sweep, table, matched, ours, deciding)),
        matches=tuple(_match(sweep, table, row, trial_id, ours, shown) for row, trial_id in matched),
        rows_alone=tuple(
            {path: row.settings[path] for path in table.printed}
            for row in table.rows
            if all(row is not other for other, _ in matched)
        ),
        trials_alone=tuple(
            (trial_id, {path: settings.get(path) for path in shown})
            for trial_id, settings in ours.items()
            if trial_id not in ids
        ),
    )


def _first_of_each_backbone(sweep: Sweep, ours: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of an untuned encoder every trial says the same."""
    first: dict[str, str] = {}
    for trial_id in sweep.completeness.done:
        first.setdefault(ours[trial_id]["backbone.name"], trial_id)
    return {trial_id: {"backbone.name": name} for name, trial_id in first.items()}


def _agree(theirs: dict[str, Any], ours: dict[str, Any], paths: Sequence[str]) -> bool:
    """Whether a trial has what a row says at these paths; what the row leaves open agrees with all."""
    return all(same_setting(path, theirs[path], ours.get(path)) for path in paths if path in theirs)


def _deviations(
    sweep: Sweep,
    table: PaperTable,
    matched: Sequence[tuple[PaperRow, str]],
    ours: dict[str, dict[str, Any]],
    deciding: Sequence[str],
) -> list[str]:
    """Without repetitions, in the order: settings, tuning source, evaluation sets."""
    found: list[tuple[int, str]] = []
    for row, trial_id in matched:
        trial, settings = sweep.trial_specs[trial_id], ours[trial_id]
        found += [
            (0, f"{path}: {in_words(settings.get(path))} here, {in_words(theirs)} in the paper")
            for path, theirs in row.settings.items()
            if path not in deciding and not same_setting(path, theirs, settings.get(path))
        ]
        if not table.untuned:
            found += [(1, line) for line in source_deviations(row, trial)]
        names = dict.fromkeys(quantity.set for quantity in row.values)
        found += [(2, line) for name in names if name in SETS for line in set_deviations(name, row, trial)]
    return [line for _, line in sorted(dict.fromkeys(found), key=lambda one: one[0])]


def _match(
    sweep: Sweep, table: PaperTable, row: PaperRow, trial_id: str, ours: dict[str, dict[str, Any]], shown: Sequence[str]
) -> Match:
    settings = {path: row.settings.get(path, ours[trial_id].get(path)) for path in shown}
    status = sweep.status(trial_id)
    empty = tuple(Line(quantity, value) for quantity, value in row.values.items())
    if status != TrialStatus.COMPLETE:
        return Match(settings, trial_id, status, empty)
    if table.names_layers:
        return Match(settings, trial_id, status, tuple(_layer_lines(sweep, table, row, trial_id)))
    scores = sweep.scores[sweep.scores["trial_id"] == trial_id]
    ranks: pd.DataFrame | None = None
    if table.compared_with is not None:
        base = _trial_to_compare_with(sweep, table.compared_with, trial_id, ours)
        if base is None:
            wanted = describe({path: table.compared_with[path] for path in (*table.printed, "tuning.learning_rate")})
            return Match(settings, trial_id, status, empty, f"no finished trial to compare it with: {wanted}")
        scores = compare_trials(sweep.out, base, trial_id).scores
    elif any(quantity.statistic not in ("pnd", "pairs", "pnd_untuned") for quantity in row.values):
        ranks = read_whole(sweep.out, "rankings", [trial_id])
    trial = sweep.trial_specs[trial_id]
    lines = tuple(_line(quantity, value, row, trial, scores, ranks) for quantity, value in row.values.items())
    return Match(settings, trial_id, status, lines)


def _trial_to_compare_with(
    sweep: Sweep, base: dict[str, Any], trial_id: str, ours: dict[str, dict[str, Any]]
) -> str | None:
    """The finished trial with the base's settings that agrees with a trial in what the paper leaves open (the seed)."""
    varied = varying(list(ours.values()))
    left_open = [path for path in varied if path not in base]
    for other in sweep.completeness.done:
        is_alike = all(ours[other].get(path) == ours[trial_id].get(path) for path in left_open)
        if other != trial_id and is_alike and _agree(base, ours[other], varied):
            return other
    return None


def _layer_lines(sweep: Sweep, table: PaperTable, row: PaperRow, trial_id: str) -> Iterator[Line]:
    """The paper's most changed layers and ours, by the definition of the table."""
    ours = ranked(rows_by_trial(sweep)[trial_id], definition_of(table.number))
    for place, (quantity, value) in enumerate(row.values.items()):
        yield Line(quantity, value, ours[place][0] if place < len(ours) else None)


def _line(
    quantity: Quantity,
    paper: Value | None,
    row: PaperRow,
    trial: TrialSpec,
    scores: pd.DataFrame,
    ranks: pd.DataFrame | None,
) -> Line:
    source = our_set(quantity.set, row, trial)
    found = scores if ranks is None or quantity.statistic == "pnd" else ranks[ranks["statistic"] == quantity.statistic]
    name = "" if source is None else source.name
    found = found[(found["set"] == name) & (found["measure"] == quantity.measure)]
    if quantity.relation:
        found = found[found["relation"] == quantity.relation]
    if found.empty:
        return Line(quantity, paper)
    if quantity.statistic == "pairs":
        counts = count_pairs(found)
        by_z, clustered = (counts.improved_z, counts.degraded_z), (counts.improved, counts.degraded)
        return Line(quantity, paper, PairChange(*by_z), clustered=PairChange(*clustered))
    if quantity.statistic == "pnd_untuned":
        return Line(quantity, paper, float(found["pnd_untuned"].mean()))
    (one,) = found.to_dict("records")
    return Line(quantity, paper, one["improvement"], one["improvement_low"], one["improvement_high"])
