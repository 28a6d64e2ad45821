"""Who is sent where, without Ray around it."""

from __future__ import annotations

import asyncio
from typing import Any

from adiabatic_ray.on_ray.lobby import Lobby


def _lobby() -> Any:
    return Lobby.__ray_metadata__.modified_class()  # type: ignore[attr-defined]


def test_trials_are_spread_and_one_that_asks_again_stays_where_it_was() -> None:
    async def play() -> list[tuple[int, int]]:
        lobby = _lobby()
        for tuner in (0, 1):
            await lobby.register(tuner)
        sent = [await lobby.enter(name, 10) for name in ("a", "b", "c", "b")]
        await lobby.leave("a")
        return [*sent, await lobby.enter("d", 10)]

    assert asyncio.run(play()) == [(0, 1), (1, 1), (0, 1), (1, 1), (0, 1)]


def test_a_late_word_of_a_loss_does_not_strand_an_actor_that_is_back() -> None:
    async def play() -> tuple[int, int]:
        lobby = _lobby()
        start = await lobby.register(0)
        await lobby.lost(0, start)
        again = asyncio.create_task(lobby.enter("a", 10))
        await asyncio.sleep(0)
        assert not again.done()
        await lobby.register(0)
        await lobby.lost(0, start)  # of the actor that was there before
        return await asyncio.wait_for(again, 10)

    assert asyncio.run(play()) == (0, 2)


def test_a_trial_that_finds_nobody_hears_so_in_time_and_may_ask_again() -> None:
    async def play() -> tuple[object, object]:
        lobby = _lobby()
        nobody = await lobby.enter("a", 0.01)
        await lobby.register(3)
        return nobody, await lobby.enter("a", 10)

    assert asyncio.run(play()) == (None, (3, 1))
