"""What failure drills share: an undisturbed sweep, clusters, and a table of what was seen, printed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # most runs need neither Ray nor MLflow
    from tests.drill_sweeps import Sweeps
    from tests.fault_cluster import FaultCluster

Record = Callable[[str, str, float | None, int], None]


@dataclass(frozen=True)
class _Drill:
    fault: str
    lost: str
    recovery_s: float | None
    num_rows: int


_DRILLS = pytest.StashKey[list[_Drill]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_DRILLS] = []


@pytest.fixture(scope="session")
def drill_record(pytestconfig: pytest.Config) -> Record:
    """Call it with the fault, what it cost, seconds until work went on, and how many rows equal an undisturbed run's.

    None for the seconds: it never stopped.
    """

    def record(fault: str, lost: str, recovery_s: float | None, rows_equal: int) -> None:
        pytestconfig.stash[_DRILLS].append(_Drill(fault, lost, recovery_s, rows_equal))

    return record


@pytest.fixture(scope="session")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Sweeps:
    """A sweep for drills, and its results without any."""
    from tests.drill_sweeps import undisturbed_sweep

    return undisturbed_sweep(tmp_path_factory.mktemp("drills"))


@pytest.fixture
def cluster() -> Iterator[FaultCluster]:
    """A head without CPUs; the drill adds nodes."""
    from tests.fault_cluster import FaultCluster

    with FaultCluster() as started:
        yield started


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    drills = config.stash[_DRILLS]
    if not drills:
        return
    terminalreporter.section("failure drills")
    terminalreporter.write_line("| fault | lost | recovery, s | rows equal |")
    terminalreporter.write_line("|:--|:--|--:|--:|")
    for one in drills:
        recovery = "-" if one.recovery_s is None else f"{one.recovery_s:.0f}"
        terminalreporter.write_line(f"| {one.fault} | {one.lost} | {recovery} | {one.num_rows:,} |")
