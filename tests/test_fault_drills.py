"""Failure drills: something dies at a known moment of a sweep on a real cluster, and nothing of the results changes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from adiabatic_ray import results
from adiabatic_ray.changes import with_changes
from adiabatic_ray.spec import SweepSpec
from tests.drill_table import Record
from tests.fault_cluster import (
    Driver,
    FaultCluster,
    check_whole,
    epochs_tuned_twice,
    sweep,
    wait_until,
)
from tests.small_sweep import small_sweep, write_pairs

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(600)]
NUM_TRIALS = 4


def write_sweep(spec: SweepSpec, path: Path) -> Path:
    """A sweep file."""
    path.write_text(
        "from adiabatic_ray.spec import SweepSpec\n\n\n"
        f"def sweep():\n    return SweepSpec.model_validate_json({spec.model_dump_json()!r})\n"
    )
    return path


@dataclass(frozen=True)
class Sweeps:
    """A sweep file, banks that are there already, and the results of a run that nothing disturbed."""

    file: Path
    banks: Path
    undisturbed: Path

    def on(self, cluster: FaultCluster, out: Path, *more: str) -> AbstractContextManager[Driver]:
        return sweep(self.file, out, self.banks, cluster.address, *more)


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Sweeps:
    """Trials of a few seconds, saved after each epoch, and shards that take long enough to be interrupted."""
    folder = tmp_path_factory.mktemp("drills")
    spec = small_sweep(folder / "inputs", rates=(1e-4, 1e-3), seeds=(0, 1))
    write_pairs(folder / "inputs" / "pairs.jsonl", 300)
    longer = {"trial.tuning.batches_per_epoch": 60, "trial.tuning.max_epochs": 8, "cluster.checkpoint_every_s": 0}
    made = Sweeps(write_sweep(with_changes(spec, longer), folder / "a_sweep.py"), folder / "banks", folder / "whole")
    with sweep(made.file, made.undisturbed, made.banks, None) as driver:
        assert driver.end() == 0, driver.text()
    assert len(results.finished_trials(made.undisturbed)) == NUM_TRIALS
    assert set(epochs_tuned_twice(driver.heard).values()) == {0}, "measures nothing: epochs differ without a fault"
    return made


@pytest.fixture
def cluster() -> Iterator[FaultCluster]:
    with FaultCluster() as started:
        yield started


def kill(process: psutil.Process) -> None:
    """As the kernel does it."""
    os.kill(process.pid, signal.SIGKILL)


def test_the_node_that_tunes_dies(cluster: FaultCluster, sweeps: Sweeps, tmp_path: Path, drill_record: Record) -> None:
    for _ in range(2):
        cluster.add_node()
    with sweeps.on(cluster, tmp_path / "out") as driver:
        tuned = driver.until_epoch(3)
        node = cluster.node_of("ray::Tuner")
        cluster.kill_node(node)
        died_s = time.monotonic()
        driver.until(f"{tuned}: attempt failed, to be tried again")
        driver.until("COMPLETE")
        recovery_s = time.monotonic() - died_s
        assert driver.end() == 0, driver.text()
        twice = epochs_tuned_twice(driver.heard)
    assert max(twice.values()) <= 1, "an epoch that was saved is not tuned again"
    cluster.check_nothing_left()
    num_rows = check_whole(tmp_path / "out", sweeps.undisturbed)
    drill_record("the node that tunes is killed", f"{sum(twice.values())} epochs tuned twice", recovery_s, num_rows)


def test_an_evaluator_is_killed_in_a_shard(
    cluster: FaultCluster, sweeps: Sweeps, tmp_path: Path, drill_record: Record
) -> None:
    cluster.add_node()
    with sweeps.on(cluster, tmp_path / "out") as driver:
        driver.until_epoch(1)
        evaluator = caught_in(cluster, "ray::Evaluator", "score")
        kill(evaluator)
        died_s = time.monotonic()
        driver.until("COMPLETE")
        recovery_s = time.monotonic() - died_s
        assert driver.end() == 0, driver.text()
    assert "attempt failed" not in driver.text(), "its shard is scored again, and nobody hears of it"
    assert max(epochs_tuned_twice(driver.heard).values()) == 0
    cluster.check_nothing_left()
    num_rows = check_whole(tmp_path / "out", sweeps.undisturbed)
    drill_record("an evaluator is killed in a shard", "the shard", recovery_s, num_rows)


def caught_in(cluster: FaultCluster, actor: str, method: str) -> psutil.Process:
    """The process of an actor, stopped while it is in a method: Ray writes the method into the title."""

    def stopped() -> psutil.Process | None:
        if process := next(iter(cluster.everywhere(f"{actor}.{method}")), None):
            process.suspend()
            if process.cmdline()[0] == f"{actor}.{method}":
                return process
            process.resume()
        return None

    return wait_until(stopped, f"{actor}.{method}", every_s=0.002)


def test_a_trials_process_is_killed(
    cluster: FaultCluster, sweeps: Sweeps, tmp_path: Path, drill_record: Record
) -> None:
    """By the kernel's OOM killer, for example: SIGKILL."""
    cluster.add_node()
    with sweeps.on(cluster, tmp_path / "out", "--set", "cluster.max_concurrent_trials=1") as driver:
        tuned = driver.until_epoch(3)
        (process,) = cluster.everywhere("ray::ImplicitFunc")
        kill(process)
        died_s = time.monotonic()
        driver.until(f"{tuned}: attempt failed, to be tried again")
        driver.until("COMPLETE")
        recovery_s = time.monotonic() - died_s
        assert driver.end() == 0, driver.text()
        twice = epochs_tuned_twice(driver.heard)
    assert max(twice.values()) <= 1
    cluster.check_nothing_left()
    num_rows = check_whole(tmp_path / "out", sweeps.undisturbed)
    drill_record("a trial's process is killed", f"{sum(twice.values())} epochs tuned twice", recovery_s, num_rows)


def test_the_driver_is_killed_and_the_cluster_stays(
    cluster: FaultCluster, sweeps: Sweeps, tmp_path: Path, drill_record: Record
) -> None:
    cluster.add_node()
    with sweeps.on(cluster, tmp_path / "out") as driver:
        driver.until("COMPLETE")
        driver.until_epoch(3)
        driver.process.kill()
        died_s = time.monotonic()
        driver.end()
    cluster.check_nothing_left()
    num_done = len(results.finished_trials(tmp_path / "out"))
    assert 1 <= num_done < NUM_TRIALS, "the kill came at no moment that tests anything"
    with sweeps.on(cluster, tmp_path / "out") as again:
        again.until(f"{num_done} of {NUM_TRIALS} trials are finished already")
        assert again.end() == 0, again.text()
        recovery_s = time.monotonic() - died_s
    twice = epochs_tuned_twice([*driver.heard, *again.heard])
    assert max(twice.values()) <= 1
    cluster.check_nothing_left()
    num_rows = check_whole(tmp_path / "out", sweeps.undisturbed)
    lost = f"{sum(twice.values())} epochs tuned twice"
    drill_record("the driver is killed, same command again", lost, recovery_s, num_rows)
