"""Ray's share of the work: tasks that encode the passage bank, and the pool of actors that scores towers.

Both only place plain functions (`encode`, `score_shard`) on the cluster. Backbone, token ids and banks are put into the
object store once and read in place by every process of a node; a trial sends only the tensors that it changed.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.util import ActorPool

from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts, Tower
from adiabatic_ray.encoders.towers import tuned_tower
from adiabatic_ray.evaluation import bank
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.evaluation.evaluate import Prepared, score_shard
from adiabatic_ray.spec import ClusterSpec
from adiabatic_ray.statistics.counts import Counts, merge

Shard = tuple[int, int]


def device_for(num_gpus: float) -> str:
    """Where torch works in a process that was given this share of GPUs."""
    return "cuda" if num_gpus else "cpu"


def use_threads(num_cpus: float) -> None:
    """Let torch use as many threads as the process was given CPUs, at least one."""
    torch.set_num_threads(max(1, int(num_cpus)))


@ray.remote(max_retries=3)
def _encode_shard(backbone: Backbone, texts: TokenizedTexts, budget: int, threads: float, device: str) -> np.ndarray:
    use_threads(threads)
    return encode(backbone.build_tower(device=device), texts, budget)


def ensure_banks(
    root: Path,
    needed: Sequence[tuple[bank.BankKey, list[str]]],
    backbone: Backbone,
    backbone_ref: Any,
    cluster: ClusterSpec,
    progress: Callable[[int, int], None],
) -> list[np.ndarray]:
    """Banks of passage lists: opened when they are there, else encoded by sharded Ray tasks, all at once.

    Args:
        root: folder of all banks; only this process writes to it.
        needed: key and passages of each bank.
        backbone: for its tokenizer.
        backbone_ref: the same in the object store.
        cluster: CPUs and GPUs of one task are those of a tuner.
        progress: called with (texts encoded so far, texts to encode); not at all when every bank is there.

    Returns:
        Memory maps [P, D] in the order of `needed`.

    Raises:
        ValueError: a bank's folder holds something else, or embeddings are not finite.
    """
    missing = {key: texts for key, texts in needed if bank.open_bank(root, key) is None}
    remote = _encode_shard.options(num_cpus=cluster.tuner_cpus, num_gpus=cluster.tuner_gpus)
    device = device_for(cluster.tuner_gpus)
    num_texts, num_done = sum(key.num_texts for key in missing), 0
    pending: dict[Any, tuple[bank.BankKey, int]] = {}
    for key, texts in missing.items():
        finished = bank.finished_shards(root, key)
        for number, (start, stop) in enumerate(key.shards()):
            if number in finished:
                num_done += stop - start
                continue
            tokens = backbone.tokenize(texts[start:stop], key.prefix)
            task = remote.remote(backbone_ref, tokens, key.token_budget, cluster.tuner_cpus, device)
            pending[task] = key, number
    if missing:
        progress(num_done, num_texts)
    while pending:
        (ready,), _ = ray.wait(list(pending), num_returns=1)
        key, number = pending.pop(ready)
        bank.store_shard(root, key, number, ray.get(ready))
        start, stop = key.shards()[number]
        num_done += stop - start
        progress(num_done, num_texts)
    for key in missing:
        bank.assemble(root, key)
    return [_opened(root, key) for key, _ in needed]


def _opened(root: Path, key: bank.BankKey) -> np.ndarray:
    embeddings_PD = bank.open_bank(root, key)
    assert embeddings_PD is not None, "a bank that was just there is gone"
    return embeddings_PD


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


@dataclass(frozen=True)
class SharedSets:
    """Evaluation sets of a group in the object store, with their shards."""

    backbone_ref: Any
    prepared_refs: tuple[Any, ...]
    shards: tuple[tuple[Shard, ...], ...]
    token_budget: int

    @staticmethod
    def put(backbone_ref: Any, prepared: tuple[Prepared, ...], token_budget: int) -> SharedSets:
        """Put each set once."""
        refs = tuple(ray.put(one) for one in prepared)
        return SharedSets(backbone_ref, refs, tuple(tuple(one.shards) for one in prepared), token_budget)


@dataclass(frozen=True)
class EvaluationPool:
    """Handles of the evaluators; trials receive it and share it."""

    actors: tuple[Any, ...]

    @staticmethod
    def place(cluster: ClusterSpec) -> EvaluationPool:
        """Start the actors and wait until each one is placed: before any trial can take the last CPU."""
        options = Evaluator.options(num_cpus=cluster.evaluator_cpus, num_gpus=cluster.evaluator_gpus)  # type: ignore[attr-defined]
        device = device_for(cluster.evaluator_gpus)
        actors = tuple(options.remote(cluster.evaluator_threads, device) for _ in range(cluster.evaluators))
        ray.get([actor.ready.remote() for actor in actors])
        return EvaluationPool(actors)

    def score(
        self,
        changed: Mapping[str, np.ndarray],
        sets: SharedSets,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Counts]:
        """Counts of every set, shards spread over the actors as they become free, merged in the order of shards.

        `progress` is called with (shards scored so far, shards to score).
        """
        tower_id, changed_ref = uuid.uuid4().hex, ray.put(dict(changed))
        work = [(place, shard) for place, shards in enumerate(sets.shards) for shard in shards]
        free = ActorPool(list(self.actors))
        parts = free.map(
            lambda actor, item: actor.score.remote(
                tower_id, sets.backbone_ref, changed_ref, sets.prepared_refs[item[0]], item[1], sets.token_budget
            ),
            work,
        )
        by_set: list[list[Counts]] = [[] for _ in sets.shards]
        for done, ((place, _), part) in enumerate(zip(work, parts, strict=True), start=1):
            by_set[place].append(part)
            progress(done, len(work))
        return [merge(one) for one in by_set]

    def close(self) -> None:
        """End the actors."""
        for actor in self.actors:
            ray.kill(actor)
