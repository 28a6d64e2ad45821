"""Reads and writes the tables of a sweep; no other code touches these files. `schemas` says what their columns are.

A results folder OUT, on a disk or in an object store (`storage`), holds one Parquet file per trial and table,
`OUT/<table>/<trial_id>.parquet`. A file is written whole or not at all, so a reader sees whole files or none; a trial's
`trials` row is written last of all and means that the trial is done. `OUT/sweep.json` holds the specification and its
provenance.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adiabatic_ray.schemas import ADDED, OLDEST_READABLE, SCHEMA_VERSION, TABLES, TrialStatus
from adiabatic_ray.storage import Location, SameLocation, in_order
from adiabatic_ray.storage import replacing as replacing

_DOWNLOADS_AT_A_TIME = 16
"""Tables in an object store are small, and what a request takes is waiting."""
_FILES_AT_A_TIME = 2
"""On a disk. Decoding leaves Python's lock now and then only: more threads were slower (300 trials, 2 cores)."""

_FILE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}")


class ResultsError(ValueError):
    """A results folder that cannot be used as it is."""


def check_file_id(file_id: object, place: Location) -> None:
    """Refuse an id that could lead out of its folder: results folders may come from strangers.

    Args:
        file_id: what stands where a trial's, a tower's or an untuned backbone's id belongs.
        place: where it stands, for the message.

    Raises:
        ResultsError: no text of 1 to 128 letters, digits and `._+-` that begins with a letter or digit.
    """
    if not isinstance(file_id, str) or not _FILE_ID.fullmatch(file_id):
        raise ResultsError(
            f"an id has up to 128 letters, digits and ._+-, a letter or digit first, got {str(file_id)!r:.80} in "
            f"{place}; do not use this folder if it came from somebody else, else restore it"
        )


def write_table(out: SameLocation, table: str, file_id: str, rows: Iterable[Mapping[str, Any]]) -> SameLocation:
    """Write all rows of one trial in one table, whole or not at all.

    Args:
        out: results folder.
        table: a key of `schemas.TABLES`.
        file_id: trial id (or untuned id), which becomes the file's name.
        rows: one mapping per row with exactly the columns of the schema.

    Raises:
        ValueError: a row with a missing or an unknown column (a bug of the caller).
        OSError: the disk is full or read-only; no file of that name appears then.
    """
    schema = TABLES[table]
    rows = list(rows)
    for row in rows:
        if row.keys() != set(schema.names):
            raise ValueError(f"{table} rows need exactly {schema.names}, got {sorted(row)}")
    target = table_path(out, table, file_id)
    content = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    with replacing(target) as temporary:
        pq.write_table(content, temporary, compression="zstd", write_page_checksum=True)
    return target


def write_json(path: Location, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole or not at all. Keys keep their order: that of a grid's axes is that of its trials.

    Raises:
        OSError: the disk is full or read-only.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_table(
    out: Location, table: str, file_ids: Sequence[str] | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """All rows of a table, or those of some trials, in the order of the ids.

    Args:
        out: results folder.
        table: a key of `schemas.TABLES`.
        file_ids: trial ids; none: every file there is, sorted by name.
        columns: only these; none: all.

    Raises:
        ResultsError: a file that is damaged, lacks a column, or is of another schema version.
        OSError: a file that is not there or cannot be read.
    """
    folder = out / table
    paths = in_order(folder, "*.parquet") if file_ids is None else [table_path(out, table, i) for i in file_ids]
    schema = TABLES[table]
    wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    if len(paths) == 1:  # a thread that finishes its work at the interpreter's end can start no others
        return _read_file(paths[0], wanted, table)
    with ThreadPoolExecutor(_FILES_AT_A_TIME if isinstance(out, Path) else _DOWNLOADS_AT_A_TIME) as pool:
        tables = list(pool.map(lambda path: _read_file(path, wanted, table), paths))
    return pa.concat_tables(tables) if tables else wanted.empty_table()


def finished_trials(out: Location) -> dict[str, TrialStatus]:
    """Trials whose row was written: id -> COMPLETE or DIVERGED.

    Raises:
        ResultsError: a row of another schema version, or an id that is none.
    """
    rows = read_table(out, "trials", columns=["trial_id", "status"]).to_pylist()
    for row in rows:
        check_file_id(row["trial_id"], out / "trials")
    return {row["trial_id"]: TrialStatus(row["status"]) for row in rows}


def status_of(out: Location, trial_id: str) -> TrialStatus | None:
    """COMPLETE or DIVERGED of a trial whose row was written; None before.

    Raises:
        ResultsError: as `read_table`.
    """
    if not table_path(out, "trials", trial_id).is_file():
        return None
    return TrialStatus(read_table(out, "trials", [trial_id], ["status"])["status"][0].as_py())


def failed_trials(out: Location) -> dict[str, dict[str, Any]]:
    """Trials whose last attempt failed and that did not finish since: id -> what went wrong.

    Raises:
        ResultsError: a report that is damaged, a row of another schema version, or an id that is none.
    """
    paths = in_order(out / "failures", "*.json")
    for path in paths:
        check_file_id(path.stem, out / "failures")
    done = finished_trials(out) if paths else {}
    fix = "delete it: the trial counts as missing then, and the sweep runs it again"
    return {path.stem: _read_json(path, fix) for path in paths if path.stem not in done}


def read_sweep(out: Location) -> dict[str, Any]:
    """`OUT/sweep.json`: keys `spec`, `trial_ids` (in order), `provenance`, `schema_version`.

    Raises:
        ResultsError: no such file, one that is not JSON or lacks a key, another schema version, or an id that is none.
    """
    path = out / "sweep.json"
    if not path.is_file():
        raise ResultsError(
            f"a results folder holds sweep.json, got none in {out}; give the --out folder of `adiabatic sweep`"
        )
    fix = "restore it, or run the sweep again with another --out"
    content = _read_json(path, fix)
    _check_version(path, content.get("schema_version"))
    for key, kind in (("spec", dict), ("trial_ids", list), ("provenance", dict)):
        if not isinstance(content.get(key), kind):
            raise ResultsError(f"{path} must have {key!r}, a {kind.__name__}, got {content.get(key)!r:.80}; {fix}")
    for trial_id in content["trial_ids"]:
        check_file_id(trial_id, path)
    return content


def read_answers(report: Location) -> list[str]:
    """The sentence of each boundary in `boundary.json` of a report; none without the file.

    Raises:
        ResultsError: a file that is not JSON, or has no such sentences.
    """
    path = report / "boundary.json"
    if not path.is_file():
        return []
    fix = "write the report again: adiabatic report"
    content = _read_json(path, fix)
    try:
        return [str(boundary["sentence"]) for boundary in content["boundaries"]]
    except (KeyError, TypeError):
        raise ResultsError(f"{path} must have boundaries, each with its sentence, got {content!r:.80}; {fix}") from None


def write_sweep(
    out: Location, spec: Mapping[str, Any], trial_ids: Sequence[str], provenance: Mapping[str, Any]
) -> None:
    """Write `OUT/sweep.json`; a sweep that gained points replaces it.

    Raises:
        OSError: the folder cannot be written.
    """
    content = {
        "schema_version": SCHEMA_VERSION,
        "spec": dict(spec),
        "trial_ids": list(trial_ids),
        "provenance": dict(provenance),
    }
    write_json(out / "sweep.json", content)


def table_path(out: SameLocation, table: str, file_id: str) -> SameLocation:
    """Where the rows of one trial lie: `OUT/<table>/<file_id>.parquet`.

    Raises:
        ResultsError: an id that is none, see `check_file_id`.
    """
    check_file_id(file_id, out / table)
    return out / table / f"{file_id}.parquet"


def how_to_redo(path: Location) -> str:
    """What makes a trial's file anew: the row that says `done` has to go, or nothing is run again.

    Args:
        path: file of a table, damaged or missing.
    """
    out, table = path.parent.parent, path.parent.name
    if table in ("untuned", "untuned_queries"):
        return (
            f"delete it if it is there, and in {out / 'trials'} or {out / 'evaluations'} the file of a trial or tower "
            "that was compared with it, and run the same `adiabatic sweep` or `adiabatic evaluate` again"
        )
    evaluation = table_path(out, "evaluations", path.stem)
    if evaluation.is_file():
        return f"delete {evaluation} and run the same `adiabatic evaluate` again"
    return f"delete {table_path(out, 'trials', path.stem)} and run the same `adiabatic sweep` again"


def _read_file(path: Location, wanted: pa.Schema, table: str) -> pa.Table:
    source = path if isinstance(path, Path) else pa.BufferReader(path.read_bytes())  # an object in one go
    try:
        file = pq.ParquetFile(source, page_checksum_verification=True)
        found = file.schema_arrow
        version = _check_version(path, (found.metadata or {}).get(b"schema_version", b"").decode())
        absent = {name for since, tables in ADDED.items() if since > version for name in tables.get(table, ())}
        missing = sorted(set(wanted.names) - set(found.names) - absent)
        if missing:
            raise ResultsError(f"{path} must have the columns of its table, got none of {missing}; {how_to_redo(path)}")
        content = file.read(columns=[name for name in wanted.names if name not in absent])
        for name in absent & set(wanted.names):
            content = content.append_column(name, pa.array(np.full(len(content), np.nan)))
        content = content.select(wanted.names).cast(wanted)
        content.validate(full=True)
        return content
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the file system; that of damaged content has no number
        raise ResultsError(
            f"{path} must be a Parquet file without damage, got {error}; copy it anew, or {how_to_redo(path)}"
        ) from error


def _read_json(path: Location, fix: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ResultsError(f"{path} must be JSON as `adiabatic sweep` wrote it, got {error}; {fix}") from None
    if not isinstance(content, dict):
        raise ResultsError(f"{path} must be a JSON object as `adiabatic sweep` wrote it, got {content!r:.80}; {fix}")
    return content


def _check_version(path: Location, found: object) -> int:
    readable = {str(version): version for version in range(OLDEST_READABLE, SCHEMA_VERSION + 1)}
    if str(found) not in readable:
        raise ResultsError(
            f"{path} must have schema version {' or '.join(readable)}, got {found or 'none'}; "
            "read it with the release that wrote it, or give another results folder"
        )
    return readable[str(found)]
