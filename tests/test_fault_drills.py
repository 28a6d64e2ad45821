"""Failure drills: something dies at a known moment of a sweep on a real cluster, and nothing of the results changes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from adiabatic_ray import results
from adiabatic_ray.changes import with_changes
from tests.drill_sweeps import NUM_TRIALS, Sweeps, write_sweep
from tests.drills import Record
from tests.fault_cluster import NO_ROOM_BYTES, FaultCluster, check_whole, epochs_tuned_twice, sweep, title, wait_until
from tests.small_sweep import small_sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
BALLAST_BYTES = 4 * 10**9


def kill(process: psutil.Process) -> None:
    """As the kernel does it."""
    os.kill(process.pid, signal.SIGKILL)


def test_the_node_that_tunes_dies(cluster: FaultCluster, sweeps: Sweeps, tmp_path: Path, drill_record: Record) -> None:
    for _ in range(2):
        cluster.add_node()
    with sweeps.run(tmp_path / "out", cluster.address) as driver:
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


@pytest.mark.drill
def test_an_evaluator_is_killed_in_a_shard(
    cluster: FaultCluster, sweeps: Sweeps, tmp_path: Path, drill_record: Record
) -> None:
    cluster.add_node()
    with sweeps.run(tmp_path / "out", cluster.address) as driver:
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


@pytest.mark.drill
def test_a_trials_process_is_killed(
    cluster: FaultCluster, sweeps: Sweeps, tmp_path: Path, drill_record: Record
) -> None:
    """By the kernel's OOM killer, for example: SIGKILL."""
    cluster.add_node()
    with sweeps.run(tmp_path / "out", cluster.address, "--set", "cluster.max_concurrent_trials=1") as driver:
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


@pytest.mark.drill
def test_the_driver_is_killed_and_the_cluster_stays(
    cluster: FaultCluster, sweeps: Sweeps, tmp_path: Path, drill_record: Record
) -> None:
    cluster.add_node()
    with sweeps.run(tmp_path / "out", cluster.address) as driver:
        driver.until("COMPLETE")
        driver.until_epoch(3)
        driver.process.kill()
        died_s = time.monotonic()
        driver.end()
    cluster.check_nothing_left()
    num_done = len(results.finished_trials(tmp_path / "out"))
    assert 1 <= num_done < NUM_TRIALS, "the kill came at no moment that tests anything"
    with sweeps.run(tmp_path / "out", cluster.address) as again:
        again.until(f"{num_done} of {NUM_TRIALS} trials are finished already")
        assert again.end() == 0, again.text()
        recovery_s = time.monotonic() - died_s
    twice = epochs_tuned_twice([*driver.heard, *again.heard])
    assert max(twice.values()) <= 1
    cluster.check_nothing_left()
    num_rows = check_whole(tmp_path / "out", sweeps.undisturbed)
    lost = f"{sum(twice.values())} epochs tuned twice"
    drill_record("the driver is killed, same command again", lost, recovery_s, num_rows)


@pytest.mark.drill
def test_the_only_node_that_tunes_dies_and_another_joins(
    cluster: FaultCluster, sweeps: Sweeps, tmp_path: Path, drill_record: Record
) -> None:
    node = cluster.add_node()
    with sweeps.run(tmp_path / "out", cluster.address) as driver:
        tuned = driver.until_epoch(3)
        cluster.kill_node(node)
        died_s = time.monotonic()
        driver.until(f"{tuned}: attempt failed, to be tried again")
        cluster.add_node()
        driver.until("COMPLETE")
        recovery_s = time.monotonic() - died_s
        assert driver.end() == 0, driver.text()
    twice = epochs_tuned_twice(driver.heard)
    assert max(twice.values()) <= 1
    cluster.check_nothing_left()
    num_rows = check_whole(tmp_path / "out", sweeps.undisturbed)
    lost = f"{sum(twice.values())} epochs tuned twice"
    drill_record("the only node that tunes is killed, another joins", lost, recovery_s, num_rows)


@pytest.mark.drill
def test_a_node_that_joins_late_is_used(
    cluster: FaultCluster, sweeps: Sweeps, tmp_path: Path, drill_record: Record
) -> None:
    """No fault: a tuner that found no room at first tunes as soon as it has some."""
    cluster.add_node()
    with sweeps.run(tmp_path / "out", cluster.address, "--set", "cluster.tuners=2") as driver:
        driver.until_epoch(1)
        (first,) = cluster.everywhere("ray::Tuner")
        first.suspend()  # or all trials might be tuned before the second is there
        late = cluster.add_node()
        joined_s = time.monotonic()
        ready = ("ray::Tuner", "ray::Tuner.tune")
        wait_until(lambda: any(title(one) in ready for one in cluster.processes(late)), "the late tuner", limit_s=300)
        first.resume()
        wait_until(lambda: cluster.processes(late, "ray::Tuner.tune"), "a trial on the late tuner", limit_s=300)
        used_s = time.monotonic() - joined_s
        assert driver.end() == 0, driver.text()
    cluster.check_nothing_left()
    num_rows = check_whole(tmp_path / "out", sweeps.undisturbed)
    drill_record("room for one of two tuners, a node joins", "nothing", used_s, num_rows)


@pytest.mark.drill
def test_the_head_dies(cluster: FaultCluster, sweeps: Sweeps, tmp_path: Path, drill_record: Record) -> None:
    cluster.add_node()
    with sweeps.run(tmp_path / "out", cluster.address) as driver:
        driver.until("COMPLETE")
        driver.until_epoch(3)
        cluster.kill_node(cluster.head)
        died_s = time.monotonic()
        assert driver.end() not in (0, None)
        ended_s = time.monotonic() - died_s
    assert ended_s < 120, "a driver without a head waits for nothing"
    num_done = len(results.finished_trials(tmp_path / "out"))
    assert 1 <= num_done < NUM_TRIALS, "the kill came at no moment that tests anything"
    with FaultCluster() as other:
        other.add_node()
        with sweeps.run(tmp_path / "out", other.address) as again:
            again.until(f"{num_done} of {NUM_TRIALS} trials are finished already")
            assert again.end() == 0, again.text()
            recovery_s = time.monotonic() - died_s
        other.check_nothing_left()
    num_rows = check_whole(tmp_path / "out", sweeps.undisturbed)
    twice = epochs_tuned_twice([*driver.heard, *again.heard])
    assert max(twice.values()) <= 1
    lost = f"the driver, {ended_s:.0f} s later; {sum(twice.values())} epochs tuned twice"
    drill_record("the head is killed, same command on another cluster", lost, recovery_s, num_rows)


@pytest.mark.drill
@pytest.mark.parametrize(("num_cpus", "evaluator_cpus"), [(1, 0), (2, 1)])
def test_pools_that_take_everything_do_not_lock_up(
    cluster: FaultCluster, tmp_path: Path, num_cpus: int, evaluator_cpus: int
) -> None:
    cluster.add_node(num_cpus)
    spec = small_sweep(tmp_path / "inputs", rates=(0.0, 1e-4, 1e-3), seeds=(0, 1))
    sized = with_changes(spec, {"cluster.evaluator_cpus": evaluator_cpus})
    file = write_sweep(sized, tmp_path / "a_sweep.py")
    with sweep(file, tmp_path / "out", tmp_path / "banks", cluster.address) as driver:
        assert driver.end() == 0, driver.text()
    statuses = results.finished_trials(tmp_path / "out").values()
    assert [status.value for status in statuses] == ["COMPLETE"] * 6
    cluster.check_nothing_left()


@pytest.mark.drill
def test_a_tuner_that_rays_memory_monitor_kills(
    cluster: FaultCluster, sweeps: Sweeps, tmp_path: Path, drill_record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node whose raylet ends processes once the machine's memory is used up to a limit, which this test then does."""
    memory = psutil.virtual_memory()
    if memory.available < 3 * BALLAST_BYTES:
        pytest.skip(f"{3 * BALLAST_BYTES / 1e9:.0f} GB of memory must be free, got {memory.available / 1e9:.1f} GB")
    limit_bytes = memory.total - memory.available + 3 * BALLAST_BYTES // 4
    monkeypatch.setenv("RAY_memory_usage_threshold", str(limit_bytes / memory.total))
    cluster.add_node(memory=NO_ROOM_BYTES)
    monkeypatch.delenv("RAY_memory_usage_threshold")
    with sweeps.run(tmp_path / "out", cluster.address) as driver:
        driver.until_epoch(1)
        (tuner,) = cluster.everywhere("ray::Tuner")
        ballast = np.ones(BALLAST_BYTES, np.uint8)
        wait_until(lambda: not title(tuner), "the end of the tuner")
        died_s = time.monotonic()
        del ballast
        driver.until("attempt failed, to be tried again")
        driver.until("COMPLETE")
        recovery_s = time.monotonic() - died_s
        assert driver.end() == 0, driver.text()
    twice = epochs_tuned_twice(driver.heard)
    assert max(twice.values()) <= 1
    cluster.check_nothing_left()
    assert cluster.logs("raylet").count("based on the killing policy") >= 1, "something else ended it"
    num_rows = check_whole(tmp_path / "out", sweeps.undisturbed)
    lost = f"{sum(twice.values())} epochs tuned twice"
    drill_record("Ray's memory monitor kills a tuner", lost, recovery_s, num_rows)
