"""The lobby: where a trial that wants to be tuned is told which actor has room.

By itself in a file, so that its process starts without the libraries that tune.
"""

from __future__ import annotations

import asyncio

import ray


@ray.remote(num_cpus=0)
class Lobby:
    """Knows which actors are there and how many trials each one has."""

    def __init__(self) -> None:
        self._trials: dict[int, set[str]] = {}
        self._changed = asyncio.Condition()

    async def register(self, tuner: int) -> None:
        """An actor is there, for the first time or again."""
        async with self._changed:
            self._trials[tuner] = set()
            self._changed.notify_all()

    async def lost(self, tuner: int) -> None:
        """An actor did not answer: nobody is sent there until it registers again."""
        self._trials.pop(tuner, None)

    async def enter(self, trial_id: str) -> int:
        """Number of the actor with the fewest trials; waits until there is one."""
        await self.leave(trial_id)
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._trials))
            tuner = min(self._trials, key=lambda number: (len(self._trials[number]), number))
            self._trials[tuner].add(trial_id)
            return tuner

    async def leave(self, trial_id: str) -> None:
        """A trial is tuned, or gave up."""
        for trials in self._trials.values():
            trials.discard(trial_id)
