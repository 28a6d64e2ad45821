"""The scoring desk: gathers the towers that wait to be scored, and keeps every evaluator busy with their shards.

Towers that wait for the same sets are scored together: texts are padded and sent once for all of them, and an
evaluator that works on one batch of towers need not change between them. While the last shards of a batch are under
way, free evaluators begin with the next. By itself in a file, so that its process starts without the libraries that
score.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import ray

from adiabatic_ray.statistics.counts import merge

if TYPE_CHECKING:
    from adiabatic_ray.spec import Precision

Shard = tuple[int, int]
Task = Literal["score", "embed"]
"""Of an evaluator: count errors of query towers, or embed the sets' passages under passage towers."""
_CALLS_AHEAD = 2
"""Calls that an evaluator has: while it works on one, the next is there already."""


@dataclass(frozen=True)
class SharedSets:
    """Evaluation sets of a group in the object store, with their shards."""

    backbone_ref: Any
    prepared_refs: tuple[Any, ...]
    shards: tuple[tuple[Shard, ...], ...]
    token_budget: int
    precision: Precision
    passage_refs: tuple[Any, ...] = ()
    """Token ids of the sets' passages; only where some passage tower is tuned, which embeds them anew."""
    passage_shards: tuple[tuple[Shard, ...], ...] = ()
    bank_refs: tuple[Any, ...] = ()
    """Passages [P, D] under a tuned passage tower, which take the place of the banks that came with the sets."""


@dataclass(eq=False)
class _Request:
    task: Task
    changed_ref: Any
    sets: SharedSets
    news: asyncio.Queue[tuple[int, int] | list[Any] | Exception] = field(default_factory=asyncio.Queue)


class _Batch:
    """Towers that are scored together, and what is known of them so far."""

    def __init__(self, number: int, requests: Sequence[_Request]) -> None:
        self.number, self.requests, self.sets = number, requests, requests[0].sets
        self.task = requests[0].task
        shards_of_sets = self.sets.shards if self.task == "score" else self.sets.passage_shards
        self.shards = [(place, shard) for place, shards in enumerate(shards_of_sets) for shard in shards]
        self._found: dict[int, Sequence[Any]] = {}

    def take(self, position: int, found: Sequence[Any]) -> None:
        """What came of a shard, for each tower; tells everybody."""
        self._found[position] = found
        for place, request in enumerate(self.requests):
            request.news.put_nowait((len(self._found), len(self.shards)))
            if len(self._found) == len(self.shards):
                request.news.put_nowait(self._outcome(place))

    def _outcome(self, place: int) -> list[Any] | Exception:
        by_set: list[list[Any]] = [[] for _ in self.sets.shards]
        for position, (set_place, _) in enumerate(self.shards):
            part = self._found[position][place]
            if isinstance(part, Exception):
                return part
            by_set[set_place].append(part)
        return [merge(parts) if self.task == "score" else np.concatenate(parts) for parts in by_set]


@ray.remote(num_cpus=0)
class ScoringDesk:
    """See the file head."""

    def __init__(self, evaluators: Sequence[Any], towers_together: int, wait_s: float) -> None:
        self._evaluators, self._towers_together, self._wait_s = evaluators, towers_together, wait_s
        self._waiting: deque[_Request] = deque()
        self._shards: deque[tuple[_Batch, int]] = deque()
        self._changed = asyncio.Condition()
        self._num_batches = 0
        self._heard_at = 0.0
        """When some evaluator last gave something."""
        self._workers: list[asyncio.Task[None]] = []

    async def serve(self, task: Task, changed_ref: Sequence[Any], sets: SharedSets) -> Any:
        """Have something done with the tower with the changed tensors that a reference, alone in a list, points to.

        Yields:
            (shards done so far, shards to do), again and again; at last, for every set, its `Counts`, or the embeddings
            [P, D] of its passages.

        Raises:
            RayError: the evaluator was lost, again and again.
            ValueError: embeddings that are not finite; no evaluator gave anything for `wait_s`.
        """
        if not self._workers:  # here: only now is there a loop to run them
            self._workers = [
                asyncio.create_task(self._work(evaluator))
                for evaluator in self._evaluators
                for _ in range(_CALLS_AHEAD)
            ]
        request = _Request(task, changed_ref[0], sets)
        async with self._changed:
            self._waiting.append(request)
            self._changed.notify()
        try:
            while True:
                news = await self._news(request)
                if isinstance(news, Exception):
                    raise news
                yield news
                if isinstance(news, list):
                    return
        finally:
            if request in self._waiting:  # nobody listens any more
                self._waiting.remove(request)

    async def _news(self, request: _Request) -> tuple[int, int] | list[Any] | Exception:
        """What comes next; an error where no evaluator gives anything: they are lost, and have no room to come back.

        A request may wait longer than `wait_s` where many are before it.
        """
        asked_at = time.monotonic()
        while (left_s := max(asked_at, self._heard_at) + self._wait_s - time.monotonic()) > 0:
            with suppress(TimeoutError):
                return await asyncio.wait_for(request.news.get(), left_s)
        return ValueError(
            f"evaluators must answer within cluster.wait_s, got nothing from any in {self._wait_s:g} s; see whether "
            "the nodes of the evaluation pool are there, or raise cluster.wait_s"
        )

    async def _work(self, evaluator: Any) -> None:
        while True:
            batch, position = await self._next_shard()
            place, shard = batch.shards[position]
            towers = batch.number, batch.sets.backbone_ref, [request.changed_ref for request in batch.requests]
            try:
                ask = evaluator.score if batch.task == "score" else evaluator.embed
                found = await ask.remote(towers, batch.sets, place, shard)
            except Exception as error:  # whatever it is, those who wait must hear of it
                found = [error] * len(batch.requests)
            self._heard_at = time.monotonic()
            batch.take(position, found)
            del batch, towers, found  # while it waits for more, it holds nobody's tensors

    async def _next_shard(self) -> tuple[_Batch, int]:
        async with self._changed:
            await self._changed.wait_for(lambda: self._shards or self._waiting)
            if not self._shards:
                first = self._waiting[0]
                alike = [one for one in self._waiting if (one.task, one.sets) == (first.task, first.sets)]
                together = alike[: self._towers_together]
                for request in together:
                    self._waiting.remove(request)
                self._num_batches += 1
                batch = _Batch(self._num_batches, together)
                self._shards.extend((batch, position) for position in range(len(batch.shards)))
                self._changed.notify_all()
            return self._shards.popleft()
