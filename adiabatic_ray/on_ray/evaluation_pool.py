"""The evaluation pool as trials see it: actors that score towers, and the sets in the object store.

Apart from the actors themselves (`evaluators`), so that the process of a trial starts without the libraries that score.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.util import ActorPool

from adiabatic_ray.statistics.counts import Counts, merge

Shard = tuple[int, int]


@dataclass(frozen=True)
class SharedSets:
    """Evaluation sets of a group in the object store, with their shards."""

    backbone_ref: Any
    prepared_refs: tuple[Any, ...]
    shards: tuple[tuple[Shard, ...], ...]
    token_budget: int


@dataclass(frozen=True)
class EvaluationPool:
    """Handles of the evaluators; trials receive it and share it."""

    actors: tuple[Any, ...]

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
