"""One tower against another on the same sets: a tuned tower against its untuned backbone, or one trial against another.

The second needs no scoring: errors and ranks of a trial's tower are those of its untuned backbone plus its influences,
cluster by cluster. So the difference of two trials that were compared with the same untuned backbone is tested as the
change of one: paired, clustered by the same premises and queries, with the same adjusted tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import pandas as pd

from adiabatic_ray import results
from adiabatic_ray.results import ResultsError
from adiabatic_ray.schemas import TABLES, TrialStatus
from adiabatic_ray.statistics import score_tables
from adiabatic_ray.statistics.counts import Counts, counts_from_rows, tuned_counts
from adiabatic_ray.storage import Location

from .load import read_whole
from .records import Record, advice, find_id, read_records


@dataclass(frozen=True)
class Side:
    """One of two towers."""

    title: str
    """Short, for the head of a column."""
    name: str


@dataclass(frozen=True)
class Comparison:
    """Rows of the `scores`, `aggregates` and `rankings` tables about two towers."""

    before: Side
    """In the columns that are called untuned."""
    after: Side
    """In the columns that are called tuned."""
    scores: pd.DataFrame
    aggregates: pd.DataFrame
    rankings: pd.DataFrame


def read_comparison(out: Location, trial_id: str) -> Comparison:
    """A tower of the `evaluations` table against its untuned backbone, as it lies on disk.

    Raises:
        ResultsError: a table is missing or of another schema version.
    """
    (row,) = read_whole(out, "evaluations", [trial_id]).to_dict("records")
    tables = (read_whole(out, table, [trial_id]) for table in ("scores", "aggregates", "rankings"))
    return Comparison(Side("untuned", row["backbone"]), Side("tuned", row["tower"]), *tables)


def compare_trials(out: Location, first: str, second: str) -> Comparison:
    """How the second tower differs from the first, which stands in the place of the untuned one.

    Args:
        out: results folder.
        first: id of a trial or of an evaluated tower, or the beginning of one.
        second: the same; another one.

    Returns:
        A `Comparison` of A and B: every number is about B against A.

    Raises:
        ResultsError: no results there, an id that is not known or not unique, the same one twice, a trial without
            scores, two that were not compared with the same untuned backbone on the same sets, or tables that are
            missing or of another schema version.
    """
    records = read_records(out)
    ids = [find_id(name, records, out) for name in (first, second)]
    _check_comparable(ids, [records[trial_id] for trial_id in ids])
    untuned_id = records[ids[0]].untuned_id
    untuned = _fitting(out, "untuned", untuned_id, counts_from_rows)
    before, after = (_fitting(out, "influence", trial_id, partial(tuned_counts, untuned)) for trial_id in ids)
    tables = (
        pd.DataFrame(rows(ids[1], before, after), columns=TABLES[table].names)
        for table, rows in (
            ("scores", score_tables.score_rows),
            ("aggregates", score_tables.aggregate_rows),
            ("rankings", score_tables.ranking_rows),
        )
    )
    names = (f"{trial_id}  {records[trial_id].tower}".rstrip() for trial_id in ids)
    a, b = (Side(title, name) for title, name in zip("AB", names, strict=True))
    return Comparison(a, b, *tables)


def _check_comparable(ids: list[str], records: list[Record]) -> None:
    if ids[0] == ids[1]:
        raise ResultsError(f"a comparison needs two trials, got {ids[0]} twice; give another id")
    for trial_id, record in zip(ids, records, strict=True):
        if record.status != TrialStatus.COMPLETE:
            raise ResultsError(
                f"a comparison needs the scores of both, got {trial_id}, which is {record.status}; "
                + advice(record.status)
            )
    one, other = records
    if one.untuned_id != other.untuned_id:
        raise ResultsError(
            "two trials can be compared when both were compared with the same untuned backbone on the same sets, got "
            f"{'; '.join(_differences(json.loads(one.spec), json.loads(other.spec)))}; score the tower of one on the "
            "sets of the other with `adiabatic evaluate`"
        )


def _fitting(
    out: Location, table: str, file_id: str, read: Callable[[list[dict[str, Any]]], list[Counts]]
) -> list[Counts]:
    """Counts from the rows of a table; a complaint about the rows names their file."""
    rows = cast("list[dict[str, Any]]", read_whole(out, table, [file_id]).to_dict("records"))
    try:
        return read(rows)
    except (ValueError, TypeError) as error:
        path = results.table_path(out, table, file_id)
        raise ResultsError(f"{path} must hold what was counted, got: {error}; {results.how_to_redo(path)}") from error


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """In what two specifications differ as far as the untuned counts go: A's value, then B's."""
    parts = [
        f"backbone {field} {one['backbone'].get(field)!r} and {other['backbone'].get(field)!r}"
        for field in sorted(one["backbone"].keys() | other["backbone"].keys())
        if one["backbone"].get(field) != other["backbone"].get(field)
    ]
    evaluations = one["evaluation"], other["evaluation"]
    budgets = [evaluation.get("token_budget") for evaluation in evaluations]
    if budgets[0] != budgets[1]:
        parts.append(f"token_budget {budgets[0]} and {budgets[1]}")
    ours, theirs = ({source["name"]: source for source in evaluation["sets"]} for evaluation in evaluations)
    for whose, alone in (("A", ours.keys() - theirs.keys()), ("B", theirs.keys() - ours.keys())):
        if alone:
            parts.append(f"only {whose} has the sets {', '.join(sorted(alone))}")
    changed = [name for name in ours if name in theirs and ours[name] != theirs[name]]
    if changed:
        parts.append(f"other texts or settings in {', '.join(changed)}")
    return parts or [
        "the same backbone and sets, but scored on another device, with other threads, or by another release"
    ]
