"""Where pools and trials go on clusters whose nodes are not alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from adiabatic_ray import results
from adiabatic_ray.changes import with_changes
from tests.drill_sweeps import write_sweep
from tests.fault_cluster import FaultCluster, sweep
from tests.small_sweep import small_sweep

pytestmark = [pytest.mark.ray, pytest.mark.drill, pytest.mark.slow, pytest.mark.timeout(600)]


def test_pools_are_spread_over_nodes_or_packed(cluster: FaultCluster, tmp_path: Path) -> None:
    """Two tuners and two evaluators on two nodes, each of which has room for all of them."""
    nodes = [cluster.add_node(num_cpus=2) for _ in range(2)]
    sizes = {"cluster.tuners": 2, "cluster.evaluators": 2, "cluster.evaluator_cpus": 0.5}
    spec = with_changes(small_sweep(tmp_path / "inputs", rates=(1e-4, 1e-3)), sizes)
    file = write_sweep(spec, tmp_path / "a_sweep.py")
    for placement, evaluators in (("spread", [1, 1]), ("pack", [0, 2])):
        out = tmp_path / placement
        more = ("--set", f"cluster.placement={placement}")
        with sweep(file, out, tmp_path / "banks", cluster.address, *more) as driver:
            driver.until_epoch(1)
            placed = {actor: [len(cluster.processes(node, actor)) for node in nodes] for actor in ACTORS}
            assert driver.end() == 0, driver.text()
        assert sorted(placed["ray::Evaluator"]) == evaluators
        assert placement == "pack" or placed["ray::Tuner"] == [1, 1]
        assert len(results.finished_trials(out)) == 2


ACTORS = ("ray::Evaluator", "ray::Tuner")


def test_nodes_that_are_not_alike_and_memory_for_one_trial(tmp_path: Path) -> None:
    """One node with CPUs and hardly any memory, one with memory for a single trial and no CPU."""
    spec = small_sweep(tmp_path / "inputs", rates=(0.0, 1e-4, 1e-3))
    file = write_sweep(with_changes(spec, {"cluster.tuners": 2}), tmp_path / "a_sweep.py")
    with FaultCluster(memory=100 * 2**20) as cluster:
        with_cpus = cluster.add_node(num_cpus=2, memory=500 * 2**20)
        with_memory = cluster.add_node(num_cpus=0, memory=700 * 2**20)
        with sweep(file, tmp_path / "out", tmp_path / "banks", cluster.address) as driver:
            driver.until("memory for 1 trials at a time, 3 would keep every slot busy")
            driver.until_epoch(1)
            assert cluster.processes(with_cpus, "ray::Tuner") and not cluster.processes(with_memory, "ray::Tuner")
            assert len(cluster.everywhere("ray::ImplicitFunc")) == len(cluster.processes(with_memory, "ray::Impl")) == 1
            assert driver.end() == 0, driver.text()
    assert [status.value for status in results.finished_trials(tmp_path / "out").values()] == ["COMPLETE"] * 3


def test_room_that_never_comes_is_an_error_in_time(cluster: FaultCluster, tmp_path: Path) -> None:
    """For whoever encodes passages, tunes (once the banks are there) or scores: no node can hold them."""
    cluster.add_node(num_cpus=1)
    file = write_sweep(small_sweep(tmp_path / "inputs", rates=(1e-4,)), tmp_path / "a_sweep.py")
    limits = ("--set", "cluster.wait_s=20", "--set", "cluster.max_failures=0")
    for name, field, code, words in (
        ("bank", "tuner_cpus", 2, r"room to be encoded within cluster.wait_s, got \d tasks of 3 CPUs"),
        ("score", "evaluator_cpus", 2, r"pool must find room within cluster.wait_s, got none in 20 s for \[{'CPU': 3"),
        ("tune", "tuner_cpus", 1, "FAILED: ValueError: a process that tunes must find room"),
    ):
        more = (*limits, "--set", f"cluster.{field}=3")
        with sweep(file, tmp_path / name, tmp_path / "banks", cluster.address, *more) as driver:
            driver.until(words)
            assert driver.end() == code, driver.text()
    cluster.check_nothing_left()
