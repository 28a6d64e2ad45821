"""What a search is told of a finished trial: a criterion's margin, or gain and loss, read from the results folder.

A search keeps no state of its own. What it knows is in `trials`, `scores` and `aggregates`, so that an interrupted one
goes on from there, whoever runs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow.compute as pc

from adiabatic_ray import results
from adiabatic_ray.results import ResultsError
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.search_spec import BoundarySearch, GainSearch, RateSearch
from adiabatic_ray.spec import TrialSpec
from adiabatic_ray.storage import Location

FALSE_DISCOVERY_RATE = 0.05
"""As in the report: a language pair is degraded when its clustered p, by Benjamini-Hochberg, is below it."""


@dataclass(frozen=True)
class Finished:
    """A trial that reached a result."""

    trial: TrialSpec
    diverged: bool


def finished_of(out: Location, settings: Iterable[str]) -> list[Finished]:
    """Finished trials of a results folder that are points of these curves, in the order of their ids.

    Args:
        out: results folder.
        settings: `TrialSpec.setting` of pinned trials.

    Raises:
        ResultsError: a table that is damaged or of another schema version.
    """
    wanted = frozenset(settings)
    rows = results.read_table(out, "trials", columns=["status", "spec_json"]).to_pylist()
    trials = [(TrialSpec.model_validate_json(row["spec_json"]), row["status"]) for row in rows]
    return [Finished(trial, status == TrialStatus.DIVERGED) for trial, status in trials if trial.setting in wanted]


def margin(out: Location, trial_id: str, search: BoundarySearch) -> float:
    """How far a trial's criterion is from not holding: below 0 it does not. Fractions: 0.01 is 1% of the errors.

    Raises:
        ResultsError: no such pair set, relation or measure, or tables that are damaged.
    """
    if search.criterion == "pairs":
        return search.share - degraded_share(out, trial_id, search)
    match search.criterion:
        case "break-even":
            return _mean_over_pairs(out, trial_id, search, "improvement")
        case "tolerance":
            return _mean_over_pairs(out, trial_id, search, "improvement_low") + search.delta
        case "level":
            return _mean_over_pairs(out, trial_id, search, "improvement") + search.delta


def gain_and_kept(out: Location, trial_id: str, search: GainSearch) -> tuple[float, float]:
    """Improvement on the set whose gain counts, and mean improvement over the language pairs, fractions.

    Raises:
        ResultsError: no such set, relation or measure, or tables that are damaged.
    """
    of_gain = {"set": search.gain_set, "measure": search.measure}
    gain = _only_value(out, "scores", trial_id, of_gain, "improvement")
    return gain, _mean_over_pairs(out, trial_id, search, "improvement")


def degraded_share(out: Location, trial_id: str, search: RateSearch) -> float:
    """Share of the language pairs that the clustered test calls degraded at a false discovery rate of 5%."""
    columns = ["set", "relation", "measure", "clustered_z", "bh_p"]
    table = results.read_table(out, "scores", [trial_id], columns)
    rows = table.filter((pc.field("set") == search.set) & (pc.field("measure") == search.measure)).to_pylist()
    relation = search.relation or (rows[0]["relation"] if rows else None)
    of_relation = [row for row in rows if row["relation"] == relation]
    if not of_relation:
        raise _nothing_there(out, search)
    degraded = [row for row in of_relation if row["bh_p"] <= FALSE_DISCOVERY_RATE and row["clustered_z"] > 0]
    return len(degraded) / len(of_relation)


def _mean_over_pairs(out: Location, trial_id: str, search: RateSearch, column: str) -> float:
    wanted = {"set": search.set, "measure": search.measure, "axis": "all"}
    if search.relation is not None:
        wanted["relation"] = search.relation
    return _only_value(out, "aggregates", trial_id, wanted, column)


def _only_value(out: Location, table: str, trial_id: str, wanted: Mapping[str, str], column: str) -> float:
    """A column in the first row with these values; relations stand in the order of the set."""
    rows = results.read_table(out, table, [trial_id], [*wanted, column]).to_pylist()
    values = [float(row[column]) for row in rows if all(row[name] == value for name, value in wanted.items())]
    if not values:
        raise _nothing_there(out, wanted)
    if not math.isfinite(values[0]):
        raise ResultsError(
            f"a search needs a finite {column}, got {values[0]} for {trial_id} on {wanted}; choose a set in which the "
            "untuned backbone makes errors and tuning changes some"
        )
    return values[0]


def _nothing_there(out: Location, wanted: object) -> ResultsError:
    return ResultsError(
        f"a search reads one set, relation and measure of every trial, got none in {out} for {wanted}; correct "
        "`search.set`, `search.relation` or `search.measure`"
    )
