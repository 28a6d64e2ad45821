"""The same command twice at the same time: the second is refused and takes nothing from the first."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.drill_sweeps import Sweeps
from tests.drills import Record
from tests.fault_cluster import FaultCluster, check_whole

pytestmark = [pytest.mark.ray, pytest.mark.drill, pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_second_driver_is_refused(
    cluster: FaultCluster, sweeps: Sweeps, tmp_path: Path, drill_record: Record
) -> None:
    cluster.add_node()
    with sweeps.run(tmp_path / "out", cluster.address) as driver:
        driver.until_epoch(1)
        os.kill(driver.process.pid, signal.SIGSTOP)  # or it might be over before the second has started
        asked_s = time.monotonic()
        with sweeps.run(tmp_path / "out", cluster.address) as second:
            second.until(rf"one driver at a time, got .*/out, which process {driver.process.pid} on .* holds")
            assert second.end() == 2, second.text()
        refused_s = time.monotonic() - asked_s
        os.kill(driver.process.pid, signal.SIGCONT)
        assert driver.end() == 0, driver.text()
    cluster.check_nothing_left()
    num_rows = check_whole(tmp_path / "out", sweeps.undisturbed)
    drill_record(f"a second driver, refused after {refused_s:.0f} s", "nothing", None, num_rows)
