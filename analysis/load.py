"""A sweep as it lies on disk: specification, tables, completeness, and which trials belong to one curve.

Trials that differ in their learning rate and seed alone form a group: one curve, one boundary. Everything else that
decides a result (freeze plan, batch size, margin, backbone, ...) separates groups, by the canonical form that also
makes the trial id, so that no two settings are averaged by mistake. The influence table is large and is read trial by
trial.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import pyarrow as pa
from pydantic import ValidationError

from adiabatic_ray import results
from adiabatic_ray.changes import explain
from adiabatic_ray.results import ResultsError
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.spec import SweepSpec, TrialSpec
from adiabatic_ray.storage import Location

SCORE_COLUMNS = (
    *("trial_id", "set", "kind", "relation", "measure", "query_language", "passage_language"),
    *("num_comparisons", "num_clusters", "errors_untuned", "pnd_untuned", "pnd_tuned"),
    *("improvement", "improvement_low", "improvement_high"),
    *("paper_z", "clustered_z", "clustered_p", "bh_p", "maxt_p", "preserved_p"),
)
"""What the analysis of a sweep needs of the `scores` table, the largest of those that are read whole."""
MISSING = "MISSING"
"""Status, in tables, of a trial that has neither finished nor failed."""


@dataclass(frozen=True)
class Completeness:
    """Trial ids of a sweep by what became of them, each in the order of the sweep."""

    done: tuple[str, ...]
    diverged: tuple[str, ...]
    failed: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every trial reached a result: done or diverged."""
        return not self.failed and not self.missing


@dataclass(frozen=True)
class Sweep:
    """A results folder in memory. Tables hold the sweep's own finished trials only, in the order of `trial_ids`."""

    out: Location
    spec: SweepSpec
    trial_ids: tuple[str, ...]
    provenance: dict[str, Any]
    completeness: Completeness
    trial_specs: dict[str, TrialSpec]
    """Specification by trial id, in order; lacks only unfinished trials that are not in the expansion of `spec`."""
    groups: dict[str, str]
    """Group of each trial of `trial_specs`, named by the settings that differ between groups; '' when there is one."""
    trials: pd.DataFrame
    curves: pd.DataFrame
    drift: pd.DataFrame
    scores: pd.DataFrame
    """`SCORE_COLUMNS` of trials that are done; a diverged trial has no score."""
    untuned: dict[str, pd.DataFrame]
    """By untuned id: rows of the `untuned` table that finished trials are compared with."""
    computed: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Tables that were computed from this sweep, kept by what computes them; a changed copy of the sweep has none."""

    def status(self, trial_id: str) -> str:
        """COMPLETE, DIVERGED, FAILED or MISSING."""
        for status, ids in (
            (TrialStatus.COMPLETE.value, self.completeness.done),
            (TrialStatus.DIVERGED.value, self.completeness.diverged),
            (TrialStatus.FAILED.value, self.completeness.failed),
        ):
            if trial_id in ids:
                return status
        return MISSING

    def influence(self, trial_id: str) -> pd.DataFrame:
        """The trial's rows of the `influence` table, read from disk now.

        Raises:
            ResultsError: the file is missing or of another schema version.
        """
        return read_whole(self.out, "influence", [trial_id])


def load_sweep(out: Location) -> Sweep:
    """Read a results folder.

    Args:
        out: the folder that `adiabatic sweep` wrote.

    Raises:
        ResultsError: no such folder, no sweep in it, a specification this release does not understand, another schema
            version, no finished trial, or a finished trial whose tables are missing.
    """
    if not out.is_dir():
        raise ResultsError(
            f"a results folder must exist, got {out}; give the folder that `adiabatic sweep` wrote (--out)"
        )
    content = results.read_sweep(out)
    try:
        spec = SweepSpec.model_validate(content["spec"])
    except ValidationError as error:
        raise ResultsError(
            f"{out / 'sweep.json'} must hold a sweep that this release understands, got: {explain(error)}; "
            "read it with the release that wrote it"
        ) from None
    trial_ids = tuple(content["trial_ids"])
    completeness = _completeness(out, trial_ids)
    finished = [i for i in trial_ids if i in {*completeness.done, *completeness.diverged}]
    if not finished:
        raise ResultsError(
            f"a report needs at least one finished trial, got none of {len(trial_ids)} in {out} "
            f"({len(completeness.failed)} failed); run the sweep again, it continues where it stopped"
        )
    trials = read_whole(out, "trials", finished)
    specs = _trial_specs(spec, trial_ids, trials)
    return Sweep(
        out=out,
        spec=spec,
        trial_ids=trial_ids,
        provenance=content["provenance"],
        completeness=completeness,
        trial_specs=specs,
        groups=_name_groups(specs),
        trials=trials,
        curves=read_whole(out, "curves", finished),
        drift=read_whole(out, "drift", finished),
        scores=read_whole(out, "scores", list(completeness.done), SCORE_COLUMNS),
        untuned={untuned_id: read_whole(out, "untuned", [untuned_id]) for untuned_id in trials["untuned_id"].unique()},
    )


def _completeness(out: Location, trial_ids: tuple[str, ...]) -> Completeness:
    finished, failures = results.finished_trials(out), results.failed_trials(out)
    return Completeness(
        done=tuple(i for i in trial_ids if finished.get(i) == TrialStatus.COMPLETE),
        diverged=tuple(i for i in trial_ids if finished.get(i) == TrialStatus.DIVERGED),
        failed=tuple(i for i in trial_ids if i in failures),
        missing=tuple(i for i in trial_ids if i not in finished and i not in failures),
    )


def read_whole(out: Location, table: str, file_ids: list[str], columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Rows of some finished trials in a table, in the order of the ids; all columns when none are named.

    Raises:
        ResultsError: a file that is missing or of another schema version.
    """
    return read_arrow(out, table, file_ids, columns).to_pandas()


def read_arrow(out: Location, table: str, file_ids: list[str], columns: Sequence[str] | None = None) -> pa.Table:
    """`read_whole` without pandas: lists stay one array, and only the columns that are named are read.

    Raises:
        ResultsError: as `read_whole`.
    """
    try:
        return results.read_table(out, table, file_ids, columns)
    except FileNotFoundError as error:
        paths = (results.table_path(out, table, file_id) for file_id in file_ids)
        missing = next((path for path in paths if not path.is_file()), None)
        if missing is None:  # it came back
            raise
        raise ResultsError(
            f"a finished trial has all its tables, got no {missing}; copy the whole folder, or "
            f"{results.how_to_redo(missing)}"
        ) from error


def _trial_specs(spec: SweepSpec, trial_ids: tuple[str, ...], trials: pd.DataFrame) -> dict[str, TrialSpec]:
    """Specifications by id, in order.

    An id speaks of pinned content while `sweep.json` holds the specification as it was given, so the expansion is
    matched by position; the readable part of the ids and the finished trials' own rows say whether it fits. When it
    does not (trials that a search added, a grid whose order was lost), the rows have to do, and nothing is known of
    the others.
    """
    rows = zip(trials["trial_id"], trials["spec_json"], strict=True)
    own = {trial_id: trial_spec(trial_id, text) for trial_id, text in rows}
    expanded = spec.expand()
    if [_readable(trial.trial_id) for trial in expanded] == [_readable(trial_id) for trial_id in trial_ids]:
        specs = dict(zip(trial_ids, expanded, strict=True))
        if all(_settings(specs[trial_id]) == _settings(trial) for trial_id, trial in own.items()):
            return specs
    return own


def _settings(spec: TrialSpec) -> Any:
    """All but what pinning fills in and where copies of the content lie."""

    def kept(content: Any) -> Any:
        if isinstance(content, list):
            return [kept(value) for value in content]
        if not isinstance(content, dict):
            return content
        left_out = {"digest", "encoder_digest", "path", "negatives"}
        if content.get("source") == "folder":
            left_out.add("name")
        return {key: kept(value) for key, value in content.items() if key not in left_out}

    return kept(spec.model_dump(mode="json"))


def trial_spec(trial_id: str, spec_json: str) -> TrialSpec:
    """The specification that a finished trial's row holds.

    Raises:
        ResultsError: this release does not understand it.
    """
    try:
        return TrialSpec.model_validate_json(spec_json)
    except ValidationError as error:
        raise ResultsError(
            f"trial {trial_id} must have a specification that this release understands, got: {explain(error)}; "
            "read it with the release that wrote it"
        ) from None


def _readable(trial_id: str) -> str:
    return trial_id.rpartition("-")[0]


def _name_groups(specs: dict[str, TrialSpec]) -> dict[str, str]:
    """Group name of each trial: the settings in which the groups differ, as `freeze=emb, batch_size=28`."""
    keys = {trial_id: spec.setting for trial_id, spec in specs.items()}
    settings: dict[str, dict[str, Any]] = {}
    for trial_id, key in keys.items():
        if key not in settings:
            flat = flatten(specs[trial_id].model_dump(mode="json"))
            settings[key] = {path: value for path, value in flat.items() if path not in _WITHIN_A_GROUP}
    paths = list(dict.fromkeys(path for flat in settings.values() for path in flat))
    varying = [path for path in paths if len({json.dumps(flat.get(path)) for flat in settings.values()}) > 1]
    # A backbone's or source's name says more than the fields that come with it, as long as it tells the groups apart.
    named = {path.rpartition(".")[0] for path in varying if path.endswith(".name")}
    brief = [path for path in varying if path.endswith(".name") or path.rpartition(".")[0] not in named]
    names = {key: _describe(flat, brief) for key, flat in settings.items()}
    if len(set(names.values())) < len(names):
        names = {key: _describe(flat, varying) for key, flat in settings.items()}
    return {trial_id: names[key] for trial_id, key in keys.items()}


_WITHIN_A_GROUP = ("tuning.learning_rate", "tuning.seed")


def flatten(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted path, as in a sweep's grid; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _describe(flat: dict[str, Any], paths: list[str]) -> str:
    parts = []
    for path in paths:
        head, _, field = path.rpartition(".")
        value = str(flat.get(path))
        parts.append(f"{head}={value.rpartition('/')[2]}" if field == "name" else f"{field}={value}")
    return ", ".join(parts)
