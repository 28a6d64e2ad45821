"""What the orchestrator checks before anything runs, without a cluster."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import ray

from adiabatic_ray.changes import with_changes
from adiabatic_ray.evaluation.prepare import Loader
from adiabatic_ray.on_ray.cluster import check_resources
from adiabatic_ray.on_ray.room import num_tuners, wait_for_memory, waits
from adiabatic_ray.orchestration.orchestrator import pin_trials, resolutions_of, warnings_of
from adiabatic_ray.spec import ClusterSpec
from tests.small_sweep import small_sweep


class Stages:
    """A listener that remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def stage(self, text: str) -> None:
        self.heard.append(text)

    def counted(self, what: str, done: int, total: int) -> None:
        raise AssertionError("nothing is counted by a check")


def test_a_cluster_that_may_grow_is_waited_for_and_this_machine_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head without CPUs and no worker yet, as `cluster.yaml` starts; no such cluster can stand on one machine."""

    def resources() -> dict[str, Any]:
        return {"memory": 1e9}

    def nodes() -> list[dict[str, Any]]:
        return [{"NodeID": "head", "Alive": True, "Resources": resources()}]

    monkeypatch.setattr(ray, "cluster_resources", resources)
    monkeypatch.setattr(ray, "nodes", nodes)
    stages = Stages()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    check_resources(ClusterSpec(tuner_cpus=2, evaluators=3), stages)
    assert stages.heard == ["the cluster has 0 of 5 CPUs: waiting for nodes to join"]
    monkeypatch.delenv("RAY_ADDRESS")
    with pytest.raises(ValueError, match="must fit the cluster, got 3 x 1 \\+ 2 CPUs for 0"):
        check_resources(ClusterSpec(tuner_cpus=2, evaluators=3), stages)


def test_a_machine_without_memory_for_a_trial_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes with half of what it takes are no room for it, and one that is gone is none."""
    sizes = {"a": (5e8, True), "b": (5e8, True), "c": (5e9, False)}
    nodes = [{"NodeID": name, "Alive": alive, "Resources": {"memory": size}} for name, (size, alive) in sizes.items()]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 16.0, "memory": 1e9})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ValueError, match=r"a trial's process needs 0\.6 GB"):
        check_resources(ClusterSpec(), Stages())


@pytest.mark.parametrize(
    ("cluster", "num_trials", "expected"),
    [
        ({"tuners": 3}, 1, 3),  # as asked for
        ({}, 100, 8),  # 16 CPUs
        ({"tuner_cpus": 3}, 100, 5),  # 4 on the first node and 1 on the second: what is left of the two is no room
        ({"tuner_gpus": 0.5}, 100, 4),  # 2 GPUs, on the first node
        ({"tuner_gpus": 0.2, "tuner_cpus": 1}, 100, 10),  # of which floats make 9
        ({"tuner_gpus": 1, "tuner_cpus": 16}, 100, 1),  # neither has room: one that waits for a node
        ({"pack_size": 8}, 20, 3),  # no tuner without a trial
    ],
)
def test_tuners_fill_the_nodes(cluster: dict[str, Any], num_trials: int, expected: int) -> None:
    nodes = [{"CPU": 12.0, "GPU": 2.0, "memory": 1e9}, {"CPU": 4.0}, {"memory": 1e9}]
    assert num_tuners(ClusterSpec(**({"tuner_cpus": 2} | cluster)), num_trials, nodes) == expected


def test_waits_are_cut_to_their_limit() -> None:
    assert [round(seconds) for seconds in itertools.islice(waits(90.0), 1)] == [60]
    assert [round(seconds) for seconds in itertools.islice(waits(40.0), 1)] == [40]
    assert list(waits(0.0)) == []


def test_memory_is_waited_for_with_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with memory joins while the first wait lasts; without it the limit ends the wait."""
    nodes: list[dict[str, Any]] = []
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    stages = Stages()
    with pytest.raises(ValueError, match=r"0\.6 GB on one node, got none with that for 0\.02 s"):
        wait_for_memory(ClusterSpec(wait_s=0.02), stages)
    assert stages.heard == ["no node has memory for a trial's process yet: waiting, 0.02 s at most"]

    def joins(seconds: float) -> None:
        nodes.append({"NodeID": "late", "Alive": True, "Resources": {"memory": 2e9}})

    monkeypatch.setattr("time.sleep", joins)
    assert wait_for_memory(ClusterSpec(), stages) == 3


def test_trials_that_pinning_shows_to_be_the_same_are_refused(tmp_path: Path) -> None:
    """Two paths, one content: different as they are written, the same trial in truth."""
    spec = small_sweep(tmp_path, rates=(1e-4,))
    copy = shutil.copy(tmp_path / "triplets.jsonl", tmp_path / "copy.jsonl")
    twins = with_changes(spec, {"grid.source.path": [str(tmp_path / "triplets.jsonl"), str(copy)]})
    assert len({trial.trial_id for trial in twins.expand()}) == 2
    with pytest.raises(ValueError, match="the same content at positions 0 and 1"):
        pin_trials(twins, Loader())


def test_own_code_that_is_not_there_is_refused_before_any_work(tmp_path: Path) -> None:
    spec = small_sweep(tmp_path, rates=(1e-4,))
    for field in ("optimizer", "schedule"):
        with pytest.raises(ValueError, match=f"tuning.{field} must be importable"):
            pin_trials(with_changes(spec, {f"trial.tuning.{field}": "no.such:thing"}), Loader())


def test_what_float32_cannot_move_is_said_once(tmp_path: Path) -> None:
    spec = with_changes(
        small_sweep(tmp_path, rates=(0.0, 1e-9, 1e-4), seeds=(0, 1)),
        {"grid.tuning.precision": ["float32", "compensated"]},
    )
    loader = Loader()
    resolutions = resolutions_of(pin_trials(spec, loader), loader)
    assert len(resolutions) == 12
    (text,) = warnings_of(resolutions)
    assert text.startswith("rate 1e-09: a full step moves all but")
