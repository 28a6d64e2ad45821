"""What was seen in failure drills: each adds a row, and the table is printed when the tests are over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

Record = Callable[[str, str, float, int], None]


@dataclass(frozen=True)
class _Drill:
    fault: str
    lost: str
    recovery_s: float
    num_rows: int


_DRILLS = pytest.StashKey[list[_Drill]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_DRILLS] = []


@pytest.fixture(scope="session")
def drill_record(pytestconfig: pytest.Config) -> Record:
    """Call it with the fault, what was lost by it, seconds until work went on, and the rows that were compared.

    Rows are those found equal to an undisturbed run's.
    """

    def record(fault: str, lost: str, recovery_s: float, rows_equal: int) -> None:
        pytestconfig.stash[_DRILLS].append(_Drill(fault, lost, recovery_s, rows_equal))

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    drills = config.stash[_DRILLS]
    if not drills:
        return
    terminalreporter.section("failure drills")
    terminalreporter.write_line("| fault | lost | recovery, s | rows equal |")
    terminalreporter.write_line("|:--|:--|--:|--:|")
    for one in drills:
        terminalreporter.write_line(f"| {one.fault} | {one.lost} | {one.recovery_s:.0f} | {one.num_rows:,} |")
