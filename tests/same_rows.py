"""Tables of two runs of the same sweep: equal row for row, but for what a clock or the machine says."""

from __future__ import annotations

from collections.abc import Iterable

from adiabatic_ray import results
from adiabatic_ray.storage import Location

TIMES = {"queue_s", "load_s", "bank_s", "tune_s", "evaluate_s", "write_s", "elapsed_s", "started_at", "finished_at"}
MEASURED = {*TIMES, "peak_memory_bytes", "provenance_json"}
COMPARED = ("trials", "curves", "scores", "aggregates", "rankings", "influence", "cosines", "drift")


def rows_of(out: Location, table: str) -> list[str]:
    """Rows in one order; as text, in which NaN equals NaN and no bit of a float is lost."""
    content = results.read_table(out, table)
    kept = content.drop_columns([name for name in content.column_names if name in MEASURED])
    return sorted(map(repr, kept.to_pylist()))


def assert_same_tables(one: Location, other: Location, tables: Iterable[str] = COMPARED) -> None:
    for table in tables:
        left, right = rows_of(one, table), rows_of(other, table)
        assert left and left == right, table
