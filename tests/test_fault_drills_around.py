"""Failure drills around a sweep: a full disk, no MLflow, a small object store, a node with another results folder."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from adiabatic_ray import results
from adiabatic_ray.changes import with_changes
from adiabatic_ray.on_ray import tracking
from tests.drill_sweeps import NUM_TRIALS, Sweeps, write_sweep
from tests.drills import Record
from tests.fault_cluster import CHECKOUT, NO_ROOM_BYTES, FaultCluster, check_whole, sweep
from tests.namespaces import namespace
from tests.same_rows import MEASURED
from tests.small_sweep import small_sweep
from tests.tiny import save_tiny_bert
from tests.tracking_server import TrackingServer

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
SMALL_STORE_BYTES = 80 * 2**20
"""Ray refuses object stores below 75 MiB."""


def test_the_disk_is_full_while_tables_are_written(sweeps: Sweeps, tmp_path: Path, drill_record: Record) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with namespace('mount -t tmpfs -o size=30m none "$DISK"', DISK=str(disk)) as small:
        out, seen = disk / "out", small.outside(disk)
        with sweeps.run(out, None, "--set", "cluster.max_failures=0", inside=small) as driver:
            driver.until("COMPLETE")
            fill(seen / "ballast")
            assert driver.end() == 2, driver.text()
        assert re.search(r"error: files must be .*No space left on device.*; free the disk", driver.text()), (
            driver.text()
        )
        num_done = len(results.finished_trials(seen / "out"))
        assert 1 <= num_done < NUM_TRIALS, "the disk was full at no moment that tests anything"
        small.run("mount", "-o", "remount,size=300m", str(disk))
        room_s = time.monotonic()
        with sweeps.run(out, None, inside=small) as again:
            again.until(f"{num_done} of {NUM_TRIALS} trials are finished already")
            assert again.end() == 0, again.text()
            recovery_s = time.monotonic() - room_s
        shutil.copytree(seen / "out", tmp_path / "copied")
    num_rows = check_whole(tmp_path / "copied", sweeps.undisturbed)
    lost = f"{NUM_TRIALS - num_done} trials, exit code 2"
    drill_record("the disk is full, then larger, same command again", lost, recovery_s, num_rows)


def fill(ballast: Path) -> None:
    """Until the disk takes not one byte more."""
    with ballast.open("wb", buffering=0) as file:
        for num_bytes in (2**20, 2**12, 1):
            while True:
                try:
                    file.write(bytes(num_bytes))
                except OSError:
                    break


@pytest.mark.drill
def test_the_mlflow_server_is_killed(sweeps: Sweeps, tmp_path: Path, drill_record: Record) -> None:
    out = tmp_path / "out"
    with TrackingServer(tmp_path) as server:
        uri = ("--tracking-uri", server.uri)
        with sweeps.run(out, None, *uri) as driver:
            driver.until("COMPLETE")
            driver.until_epoch(1)
            server.kill()
            assert driver.end() == 0, driver.text()
        assert driver.text().count("cannot be used") == 1
        server.start()
        started_s = time.monotonic()
        for _ in range(2):  # the second time changes nothing
            sync = [sys.executable, "-m", "jobs.cli", "sync", str(out), *uri]
            subprocess.run(sync, cwd=CHECKOUT, check=True, capture_output=True)
        recovery_s = time.monotonic() - started_s
        num_rows = check_whole(out, sweeps.undisturbed, server.uri)
        assert measures(server.uri) == measures(tracking.default_uri(sweeps.undisturbed))
    drill_record("the MLflow server is killed, then `adiabatic sync` twice", "nothing", recovery_s, num_rows)


def measures(uri: str) -> dict[str, dict[str, float]]:
    """Trial -> what MLflow has of it, but for times and memory."""
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    found = {}
    for run in runs:
        if trial_id := run.data.tags.get(tracking.TRIAL_TAG):
            found[trial_id] = {
                name: value for name, value in run.data.metrics.items() if name.removeprefix("time/") not in MEASURED
            }
    return found


@pytest.mark.drill
def test_objects_that_exceed_the_object_store(tmp_path: Path, drill_record: Record) -> None:
    """Three backbones of 38 MB each, by their tables of positions."""
    names = [str(save_tiny_bert(tmp_path / f"encoder{n}", seed=n, max_positions=300_000)) for n in range(3)]
    spec = with_changes(small_sweep(tmp_path / "inputs", rates=(1e-3,)), {"grid.backbone.name": names})
    file, banks = write_sweep(spec, tmp_path / "a_sweep.py"), tmp_path / "banks"
    with sweep(file, tmp_path / "whole", banks, None) as driver:
        assert driver.end() == 0, driver.text()
    with FaultCluster(object_store_memory=SMALL_STORE_BYTES) as cluster:
        cluster.add_node(object_store_memory=SMALL_STORE_BYTES)
        with sweep(file, tmp_path / "out", banks, cluster.address) as driver:
            driver.until("COMPLETE")
            spilled_bytes = cluster.spilled_bytes()
            assert driver.end() == 0, driver.text()
        cluster.check_nothing_left()
    assert spilled_bytes > 30e6, "at least one backbone had to go to the disk"
    num_rows = check_whole(tmp_path / "out", tmp_path / "whole")
    lost = f"nothing; {spilled_bytes / 1e6:.0f} MB on the disk"
    drill_record("115 MB of objects in an object store of 84 MB", lost, None, num_rows)


@pytest.mark.drill
def test_a_node_with_another_results_folder(sweeps: Sweeps, tmp_path: Path, drill_record: Record) -> None:
    """Trials that begin there FAIL and say why; once there is a node with the folder, the same command runs them."""
    out, another = tmp_path / "out", tmp_path / "another"
    out.mkdir()
    another.mkdir()
    with (
        namespace('mount --bind "$ANOTHER" "$OUT"', ANOTHER=str(another), OUT=str(out)) as place,
        FaultCluster(memory=NO_ROOM_BYTES) as cluster,
    ):
        cluster.add_foreign_node(place)
        with sweeps.run(out, cluster.address, "--set", "cluster.max_failures=0") as driver:
            assert driver.end() == 1, driver.text()
        rule = "a results folder must be shared by all nodes, got none at"
        assert driver.text().count(f" FAILED: ValueError: {rule}") == NUM_TRIALS, driver.text()
        errors = [failure["error"] for failure in results.failed_trials(out).values()]
        assert len(errors) == NUM_TRIALS and all(rule in error for error in errors)
        assert not list(another.rglob("*.parquet")), "rows that nobody would ever see"
        cluster.check_nothing_left()
    started_s = time.monotonic()
    with FaultCluster() as cluster:
        cluster.add_node()
        with sweeps.run(out, cluster.address) as again:
            assert again.end() == 0, again.text()
    recovery_s = time.monotonic() - started_s
    num_rows = check_whole(out, sweeps.undisturbed)
    lost = f"{NUM_TRIALS} trials FAILED, exit code 1"
    drill_record("a node has another results folder, then one has it", lost, recovery_s, num_rows)
