"""The scoring desk without Ray: who is scored together, what each one hears, and whom a fault concerns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayActorError

from adiabatic_ray.on_ray.scoring_desk import ScoringDesk, SharedSets
from adiabatic_ray.statistics.counts import Counts, no_ranks

Desk = ScoringDesk.__ray_metadata__.modified_class  # type: ignore[attr-defined]
SETS = SharedSets("backbone", ("pairs", "triplets"), (((0, 2), (2, 4)), ((0, 5),)), 512, "float32")
Heard = tuple[list[tuple[int, int]], list[Any]]


def _counts(tower: str, place: int, shard: tuple[int, int]) -> Counts:
    """One statistic, named after what was scored."""
    one = np.ones((1, 1), np.int32)
    return Counts(f"set {place}", "pairs", ((tower, str(shard), "", ""),), one, one, one, one, no_ranks(1))


class FakeEvaluator:
    """Answers when it is let; remembers who was scored together."""

    def __init__(self, answer: Callable[[str], Exception | None] = lambda tower: None) -> None:
        self.batches: list[tuple[int, tuple[str, ...]]] = []
        self.may_answer = asyncio.Event()
        self._answer = answer
        self.score = SimpleNamespace(remote=self._score)
        self.embed = SimpleNamespace(remote=self._embed)

    async def _score(
        self, towers: tuple[int, str, Sequence[str]], sets: SharedSets, place: int, shard: tuple[int, int]
    ) -> list[Counts | Exception]:
        number, _, names = towers
        self.batches.append((number, tuple(names)))
        await self.may_answer.wait()
        return [self._answer(name) or _counts(name, place, shard) for name in names]

    async def _embed(
        self, towers: tuple[int, str, Sequence[str]], sets: SharedSets, place: int, shard: tuple[int, int]
    ) -> list[np.ndarray]:
        number, _, names = towers
        self.batches.append((number, tuple(names)))
        return [np.arange(*shard)[:, np.newaxis] + 100 * place for _ in names]


async def _hear(desk: Any, tower: str, sets: SharedSets = SETS, task: str = "score") -> Heard:
    progress: list[tuple[int, int]] = []
    async for news in desk.serve(task, [tower], sets):
        if isinstance(news, list):
            return progress, news
        progress.append(news)
    raise AssertionError("no counts")


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0)


def test_towers_that_wait_for_the_same_sets_are_scored_together_and_each_gets_its_own() -> None:
    async def play() -> None:
        evaluator = FakeEvaluator()
        desk = Desk([evaluator], 2, 60.0)
        first = asyncio.create_task(_hear(desk, "first"))
        await _until(lambda: bool(evaluator.batches))
        names = ("second", "third", "fourth")
        rest = [asyncio.create_task(_hear(desk, name)) for name in names]
        other = asyncio.create_task(_hear(desk, "other", SharedSets("b", ("pairs",), (((0, 1),),), 512, "float32")))
        await asyncio.sleep(0)
        evaluator.may_answer.set()
        for name, heard in zip(("first", *names), await asyncio.gather(first, *rest), strict=True):
            progress, counts = heard
            assert progress == [(1, 3), (2, 3), (3, 3)]
            assert [one.set_name for one in counts] == ["set 0", "set 1"]
            assert [key[:2] for one in counts for key in one.keys] == [
                (name, "(0, 2)"),
                (name, "(2, 4)"),
                (name, "(0, 5)"),
            ]
        await other
        assert list(dict.fromkeys(evaluator.batches)) == [
            (1, ("first",)),
            (2, ("second", "third")),
            (3, ("fourth",)),
            (4, ("other",)),
        ]

    asyncio.run(play())


def test_a_tower_without_counts_is_its_own_fault_and_a_lost_evaluator_everybodys() -> None:
    async def play() -> None:
        broken = FakeEvaluator(lambda tower: ValueError("not finite") if tower == "bad" else None)
        broken.may_answer.set()
        desk = Desk([broken], 2, 60.0)
        good, bad = await asyncio.gather(_hear(desk, "good"), _hear(desk, "bad"), return_exceptions=True)
        assert isinstance(good, tuple) and isinstance(bad, ValueError)

        for fault in (RayActorError(), TypeError("an answer that can't be read")):

            async def failing(*arguments: object, fault: Exception = fault) -> None:
                raise fault

            desk = Desk([SimpleNamespace(score=SimpleNamespace(remote=failing))], 2, 60.0)
            for one in await asyncio.gather(_hear(desk, "one"), _hear(desk, "two"), return_exceptions=True):
                assert one is fault

    asyncio.run(play())


def test_evaluators_share_the_shards_and_begin_the_next_batch_before_the_last_is_done() -> None:
    async def play() -> None:
        slow, quick = FakeEvaluator(), FakeEvaluator()
        quick.may_answer.set()
        desk = Desk([slow, quick], 1, 60.0)
        tasks = [asyncio.create_task(_hear(desk, name)) for name in ("one", "two", "three")]
        await _until(lambda: len(quick.batches) + len(slow.batches) == 9)
        assert {number for number, _ in quick.batches} >= {2, 3} and slow.batches
        slow.may_answer.set()
        for progress, _ in await asyncio.gather(*tasks):
            assert progress[-1] == (3, 3)

    asyncio.run(play())


def test_evaluators_that_give_nothing_are_waited_for_with_a_limit() -> None:
    """One that is lost holds up whoever has a shard there; only when no other gives anything either is it an error."""

    async def play() -> None:
        lost = FakeEvaluator()
        with pytest.raises(ValueError, match=r"evaluators must answer within cluster.wait_s, got nothing .* 0\.02 s"):
            await _hear(Desk([lost], 1, 0.02), "one")
        assert len(lost.batches) == 2, "the call under way, and the one ahead"

        full = Desk([lost], 1, 0.02)
        given_up = [asyncio.create_task(_hear(full, name)) for name in ("two", "three")]
        await asyncio.gather(*given_up, return_exceptions=True)
        assert not full._waiting, "nobody waits for these any more"

    asyncio.run(play())


def test_passages_are_embedded_apart_and_come_back_in_order() -> None:
    async def play() -> None:
        evaluator = FakeEvaluator()
        evaluator.may_answer.set()
        sets = replace(SETS, passage_refs=("p", "q"), passage_shards=(((0, 2), (2, 3)), ((0, 4),)))
        desk = Desk([evaluator], 8, 60.0)
        (_, counts), (progress, embedded) = await asyncio.gather(
            _hear(desk, "scored", sets), _hear(desk, "embedded", sets, "embed")
        )
        assert [one.tolist() for one in embedded] == [[[0], [1], [2]], [[100], [101], [102], [103]]]
        assert progress == [(1, 3), (2, 3), (3, 3)] and len(counts) == 2
        assert {names for _, names in evaluator.batches} == {("scored",), ("embedded",)}

    asyncio.run(play())


def test_sets_without_company_wait_for_nobody() -> None:
    async def play() -> None:
        evaluator = FakeEvaluator()
        evaluator.may_answer.set()
        progress, counts = await asyncio.wait_for(_hear(Desk([evaluator], 8, 60.0), "alone"), timeout=10)
        assert progress[-1] == (3, 3) and len(counts) == 2

    asyncio.run(play())
