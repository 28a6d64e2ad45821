"""What became of every trial and every evaluated tower of a results folder, found by an id or its beginning."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from adiabatic_ray import results
from adiabatic_ray.results import ResultsError
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.storage import Location

from .load import MISSING

SHOWN_IDS = 10


@dataclass(frozen=True)
class Record:
    """What became of a trial or of a tower that was scored alone."""

    status: str
    """COMPLETE, DIVERGED, FAILED or MISSING."""
    untuned_id: str = ""
    spec: str = "{}"
    """JSON: of a trial the whole specification, of an evaluated tower backbone and evaluation."""
    tower: str = ""
    """Where an evaluated tower came from; '' for a trial."""


def read_records(out: Location) -> dict[str, Record]:
    """Trials that finished, failed or are missing, and evaluated towers, by id.

    Raises:
        ResultsError: no such folder, nothing in it, tables of another schema version, or an id that is none.
    """
    if not out.is_dir():
        raise ResultsError(f"a results folder must exist, got {out}; give the --out folder of `adiabatic sweep`")
    trial_ids = results.read_sweep(out)["trial_ids"] if (out / "sweep.json").exists() else []
    records = {trial_id: Record(MISSING) for trial_id in trial_ids}
    records |= {trial_id: Record(TrialStatus.FAILED.value) for trial_id in results.failed_trials(out)}
    columns = ["trial_id", "untuned_id", "spec_json"]
    for row in results.read_table(out, "trials", columns=[*columns, "status"]).to_pylist():
        results.check_file_id(row["trial_id"], out / "trials")
        records[row["trial_id"]] = Record(row["status"], row["untuned_id"], row["spec_json"])
    for row in results.read_table(out, "evaluations", columns=[*columns, "tower"]).to_pylist():
        results.check_file_id(row["trial_id"], out / "evaluations")
        records[row["trial_id"]] = Record(TrialStatus.COMPLETE.value, row["untuned_id"], row["spec_json"], row["tower"])
    if not records:
        raise ResultsError(
            f"a results folder holds trials or evaluated towers, got none in {out}; give the --out folder of "
            "`adiabatic sweep` or `adiabatic evaluate`"
        )
    return records


def tuned_trial(out: Location, name: str) -> tuple[str, Record]:
    """Id and record of a trial whose tower is there to be used, from its id or the beginning of it.

    Raises:
        ResultsError: as `read_records` and `find_id`; a tower that was only scored here; a trial that diverged,
            failed or is missing.
    """
    records = read_records(out)
    trial_id = find_id(name, records, out)
    record = records[trial_id]
    if record.tower:
        trials = {one: it for one, it in records.items() if not it.tower and it.status == TrialStatus.COMPLETE}
        fix = f"give a trial: {some(trials)}" if trials else "there is no trial in this folder"
        raise ResultsError(
            f"a trial was tuned here, got {trial_id}, which was only scored here and lies in {record.tower}; {fix}"
        )
    if record.status != TrialStatus.COMPLETE:
        raise ResultsError(
            f"a trial must have been tuned and scored, got {trial_id}, which is {record.status}; "
            f"{advice(record.status)}"
        )
    return trial_id, record


def find_id(name: str, known: Collection[str], out: Location) -> str:
    """The one id that is `name` or begins with it.

    Raises:
        ResultsError: none or several.
    """
    if name in known:
        return name
    found = [trial_id for trial_id in known if trial_id.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ResultsError(f"an id must be one trial's, got {name!r}, with which {some(found)} begin; give more of it")
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    raise ResultsError(
        f"an id must be that of a trial in {out}, or its beginning, got {name!r}; "
        + (f"near: {', '.join(near)}" if near else f"there are {some(known)}")
    )


def advice(status: str) -> str:
    """What to do about a trial without a tower."""
    if status == TrialStatus.DIVERGED:
        return "its tower is broken and was not scored: take a lower rate"
    return "run the sweep again, it continues where it stopped"


def some(ids: Collection[str] | Mapping[str, object]) -> str:
    """The first ids, and how many more."""
    more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
    return ", ".join(list(ids)[:SHOWN_IDS]) + more
