"""Room on a cluster: what its nodes have, how many tuners they hold, and waiting for more, with a limit."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.util import placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from adiabatic_ray.events import StageListener
from adiabatic_ray.spec import ClusterSpec

NEWS_EVERY_S = 60.0
"""Who waits says so this often."""

TRIAL_MEMORY_BYTES = 600 * 2**20
"""What a trial's process reserves: its libraries take 236 MB, and 493 MB were its most, when it wrote a
tower of 85 MB; 101 MB more when it uploads one (Linux, ray 2.60, pyarrow 25)."""

_EXACT = 1e-6
"""Ten tenths of a GPU are one."""

Node = dict[str, float]
"""CPUs, GPUs and other resources by name."""


def nodes_beside(reserved: Any | None) -> list[Node]:
    """What every node that is there has beside a placement group; what others use of it counts as there."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    beside: dict[str, Node] = {node["NodeID"]: dict(node["Resources"]) for node in nodes if node["Alive"]}
    if reserved is not None:
        table: dict[str, Any] = placement_group_table(reserved)
        for number, node_id in table["bundles_to_node_id"].items():
            for name, amount in table["bundles"][number].items():
                if node_id in beside:
                    beside[node_id][name] = beside[node_id].get(name, 0) - amount
    return [*beside.values()]


def num_tuners(cluster: ClusterSpec, num_trials: int, nodes: Sequence[Mapping[str, float]]) -> int:
    """Tuners to start: as asked for, else as many as these nodes have room for, but none without a trial.

    Nodes need not be alike. A tuner is on one of them: what two have left together does not make room for it.
    """
    if cluster.tuners is not None:
        return cluster.tuners
    asked = {"CPU": cluster.tuner_cpus, "GPU": cluster.tuner_gpus}
    room = sum(
        min(math.floor(node.get(name, 0) / share + _EXACT) for name, share in asked.items() if share) for node in nodes
    )
    return max(1, min(room, -(-num_trials // cluster.pack_size)))


def trials_in_memory() -> int:
    """Processes of trials for which the nodes' memory is enough, each on one of them."""
    return sum(int(node.get("memory", 0) // TRIAL_MEMORY_BYTES) for node in nodes_beside(None))


def wait_for_memory(cluster: ClusterSpec, listener: StageListener) -> int:
    """Wait until some node has memory for the process of a trial; for how many they have.

    Raises:
        ValueError: none had within `cluster.wait_s`.
    """
    for seconds in waits(cluster.wait_s):
        if affordable := trials_in_memory():
            return affordable
        listener.stage(f"no node has memory for a trial's process yet: waiting, {cluster.wait_s:g} s at most")
        time.sleep(seconds)
    raise ValueError(
        f"a trial's process needs {TRIAL_MEMORY_BYTES / 1e9:.1f} GB on one node, got none with that for "
        f"{cluster.wait_s:g} s; add a node with more memory"
    )


def wait_until_placed(reserved: Any, cluster: ClusterSpec, listener: StageListener) -> None:
    """Wait for a placement group's nodes, which may still have to join.

    Raises:
        ValueError: they did not within `cluster.wait_s`; the group is given back.
    """
    for seconds in waits(cluster.wait_s):
        if reserved.wait(timeout_seconds=math.ceil(seconds)):  # Ray counts whole seconds
            return
        listener.stage(f"the evaluation pool has no room on the cluster yet: waiting, {cluster.wait_s:g} s at most")
    remove_placement_group(reserved)
    bundles = [{name: share for name, share in bundle.items() if share} for bundle in reserved.bundle_specs]
    raise ValueError(
        f"the evaluation pool must find room within cluster.wait_s, got none in {cluster.wait_s:g} s for {bundles} on "
        f"nodes with {[_shown(node) for node in nodes_beside(None)]}; add a node, or lower cluster.evaluators, "
        "cluster.evaluator_cpus or cluster.evaluator_gpus"
    )


def waits(wait_s: float) -> Iterator[float]:
    """Seconds of each of some waits in a row, which end when `wait_s` have passed."""
    end = time.monotonic() + wait_s
    while (left := end - time.monotonic()) > 0:
        yield min(left, NEWS_EVERY_S)


def on_drivers_node() -> NodeAffinitySchedulingStrategy:
    """For an actor that has no copy: it stays where the driver is, without which there is no sweep anyway."""
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _shown(node: Node) -> dict[str, float]:
    return {name: node[name] for name in ("CPU", "GPU") if name in node}
