"""The evaluation pool: actors that score towers on shards of the evaluation sets.

They only place a plain function (`score_shard`) on the cluster. Backbone, token ids and banks are put into the object
store once and read in place by every process of a node; a trial sends only the tensors that it changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import ray

from adiabatic_ray.encoders.backbones import Backbone, Tower
from adiabatic_ray.encoders.towers import tuned_tower
from adiabatic_ray.evaluation.evaluate import Prepared, score_shard
from adiabatic_ray.on_ray.devices import device_for, use_threads
from adiabatic_ray.on_ray.evaluation_pool import EvaluationPool, Shard, SharedSets
from adiabatic_ray.spec import ClusterSpec
from adiabatic_ray.statistics.counts import Counts


@ray.remote(max_restarts=-1, max_task_retries=3)
class Evaluator:
    """Scores shards; keeps the last tower, since a tower's shards come one after another."""

    def __init__(self, num_threads: int, device: str) -> None:
        use_threads(num_threads)
        self._device = device
        self._tower: tuple[str, Tower] | None = None

    def ready(self) -> bool:
        """Answers once the actor is placed and its libraries are loaded."""
        return True

    def score(
        self,
        tower_id: str,
        backbone: Backbone,
        changed: Mapping[str, np.ndarray],
        prepared: Prepared,
        shard: Shard,
        token_budget: int,
    ) -> Counts:
        """Counts of one shard for the tower with these changed tensors; see `evaluate.score_shard`."""
        if self._tower is None or self._tower[0] != tower_id:
            self._tower = (tower_id, tuned_tower(backbone, changed, self._device))
        return score_shard(self._tower[1], prepared, shard, token_budget)


def share_sets(backbone_ref: Any, prepared: Sequence[Prepared], token_budget: int) -> SharedSets:
    """Put each evaluation set into the object store, once."""
    refs = tuple(ray.put(one) for one in prepared)
    return SharedSets(backbone_ref, refs, tuple(tuple(one.shards) for one in prepared), token_budget)


def place_evaluators(cluster: ClusterSpec) -> EvaluationPool:
    """Start the actors and wait until each one is placed: before any trial can take the last CPU."""
    options = Evaluator.options(num_cpus=cluster.evaluator_cpus, num_gpus=cluster.evaluator_gpus)  # type: ignore[attr-defined]
    device = device_for(cluster.evaluator_gpus)
    actors = tuple(options.remote(cluster.evaluator_threads, device) for _ in range(cluster.evaluators))
    ray.get([actor.ready.remote() for actor in actors])
    return EvaluationPool(actors)
