"""The evaluation pool: actors that score towers on shards of the evaluation sets, behind a desk.

They only place a plain function (`score_shard`) on the cluster. Backbone, token ids and banks are put into the object
store once and read in place by every process of a node; a trial sends only the tensors that it changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import RayError
from ray.util import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from adiabatic_ray.encoders.backbones import Tower
from adiabatic_ray.encoders.towers import with_tensors
from adiabatic_ray.evaluation.closeness import Closeness, closeness_for
from adiabatic_ray.evaluation.evaluate import Prepared, embed_shard, score_shard
from adiabatic_ray.evaluation.prepare import EvaluationInputs, passage_tokens
from adiabatic_ray.events import StageListener
from adiabatic_ray.on_ray.devices import device_for, use_threads
from adiabatic_ray.on_ray.evaluation_pool import EvaluationPool
from adiabatic_ray.on_ray.room import on_drivers_node, wait_until_placed
from adiabatic_ray.on_ray.scoring_desk import ScoringDesk, Shard, SharedSets
from adiabatic_ray.spec import ClusterSpec
from adiabatic_ray.statistics.counts import Counts

_MOST_TOWERS = 100_000
"""Calls that the desk holds: every trial that waits to be scored is one."""


@ray.remote(max_restarts=-1, max_task_retries=3)
class Evaluator:
    """Scores shards; keeps the last towers, since their shards come one after another, and the sets."""

    def __init__(self, num_threads: int, device: str) -> None:
        use_threads(num_threads)
        self._device = device
        self._untuned: tuple[Any, Tower] | None = None
        self._batch: tuple[int, list[Tower | RayError]] = 0, []
        self._set_refs: tuple[tuple[Any, ...], tuple[Any, ...]] = (), ()
        self._sets: dict[int, tuple[Prepared, Closeness]] = {}

    def score(
        self, towers: tuple[int, Any, Sequence[Any]], sets: SharedSets, place: int, shard: Shard
    ) -> list[Counts | Exception]:
        """Counts of one shard for each of some towers, or why there are none; see `evaluate.score_shard`.

        Args:
            towers: number of their batch, reference to the backbone, references to the changed tensors of each.
            sets: evaluation sets.
            place: of the set among them.
            shard: of the set.
        """

        def score(there: Sequence[Tower]) -> list[Counts | ValueError]:
            prepared, closeness = self._set(sets, place)
            return score_shard(there, prepared, shard, sets.token_budget, closeness, sets.precision)

        return self._for_each(towers, score)

    def embed(
        self, towers: tuple[int, Any, Sequence[Any]], sets: SharedSets, place: int, shard: Shard
    ) -> list[np.ndarray | Exception]:
        """Embeddings [S, D] of a shard of a set's passages under each of some passage towers; arguments as `score`."""
        return self._for_each(
            towers, lambda there: embed_shard(there, ray.get(sets.passage_refs[place]), shard, sets.token_budget)
        )

    def _for_each(
        self, towers: tuple[int, Any, Sequence[Any]], work: Callable[[Sequence[Tower]], Sequence[Any]]
    ) -> list[Any]:
        """What some work gives for each tower that is there; for others why they are not."""
        try:
            number, backbone_ref, changed_refs = towers
            if self._batch[0] != number:
                self._batch = 0, []  # the memory of the last ones first
                self._batch = number, [self._tower(backbone_ref, one) for one in changed_refs]
            there = [tower for tower in self._batch[1] if isinstance(tower, Tower)]
            done = iter(work(there) if there else ())
            return [next(done) if isinstance(tower, Tower) else tower for tower in self._batch[1]]
        except RuntimeError as error:
            if self._device != "cpu" and not isinstance(error, torch.OutOfMemoryError):
                os._exit(1)  # its kernels failed: no GPU for this process any more; Ray repeats the call in another
            raise

    def _tower(self, backbone_ref: Any, changed_ref: Any) -> Tower | RayError:
        """A tower that shares what it did not change; the error where its trial was lost together with its tensors."""
        if self._untuned is None or self._untuned[0] != backbone_ref:
            self._untuned = backbone_ref, ray.get(backbone_ref).build_tower(device=self._device)
        try:
            return with_tensors(self._untuned[1], ray.get(changed_ref))
        except RayError as error:
            return error

    def _set(self, sets: SharedSets, place: int) -> tuple[Prepared, Closeness]:
        refs = sets.prepared_refs, sets.bank_refs
        if self._set_refs != refs:  # others: their banks go, or a GPU would fill up
            self._set_refs, self._sets = refs, {}
        if place not in self._sets:
            prepared = ray.get(sets.prepared_refs[place])
            bank_PD = ray.get(sets.bank_refs[place]) if sets.bank_refs else prepared.passages_PD
            self._sets[place] = prepared, closeness_for(bank_PD, self._device)
        return self._sets[place]


def share_sets(backbone_ref: Any, prepared: Sequence[Prepared], inputs: EvaluationInputs) -> SharedSets:
    """Put each evaluation set into the object store, once."""
    refs = tuple(ray.put(one) for one in prepared)
    shards = tuple(tuple(one.shards) for one in prepared)
    return SharedSets(backbone_ref, refs, shards, inputs.token_budget, inputs.precision)


def with_passages(sets: SharedSets, inputs: EvaluationInputs) -> SharedSets:
    """Sets with the token ids of their passages, for passage towers that are tuned, in shards like those of a bank."""
    texts_of_sets = inputs.passage_texts()
    return replace(
        sets,
        passage_refs=tuple(ray.put(passage_tokens(inputs.backbone, texts)) for texts in texts_of_sets),
        passage_shards=tuple(tuple(inputs.bank_key(texts).shards()) for texts in texts_of_sets),
    )


def place_evaluators(cluster: ClusterSpec, listener: StageListener) -> EvaluationPool:
    """Reserve room for all actors, wait until it is there, and start them: whoever is placed later can't take it.

    Raises:
        ValueError: no room within `cluster.wait_s`.
    """
    shares = {"CPU": cluster.evaluator_cpus, "GPU": cluster.evaluator_gpus}
    bundle = {name: share for name, share in shares.items() if share}
    options: dict[str, Any] = {"num_cpus": cluster.evaluator_cpus, "num_gpus": cluster.evaluator_gpus}
    reserved = placement_group([bundle] * cluster.evaluators, cluster.placement.upper()) if bundle else None
    if reserved is not None:
        wait_until_placed(reserved, cluster, listener)
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(reserved)
    elif cluster.placement == "spread":
        options["scheduling_strategy"] = "SPREAD"
    device = device_for(cluster.evaluator_gpus)
    start = Evaluator.options(**options)  # type: ignore[attr-defined]
    actors = tuple(start.remote(cluster.evaluator_threads, device) for _ in range(cluster.evaluators))
    desk = ScoringDesk.options(  # type: ignore[attr-defined]
        max_concurrency=_MOST_TOWERS, scheduling_strategy=on_drivers_node()
    ).remote(actors, cluster.pack_size, cluster.wait_s)
    return EvaluationPool(desk, actors, reserved)
