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
        self._starts: dict[int, int] = {}
        """How often each actor registered: a report of its loss may come after its return."""
        self._changed = asyncio.Condition()

    async def register(self, tuner: int) -> int:
        """An actor is there, for the first time or again; which time it is."""
        async with self._changed:
            self._trials[tuner] = set()
            self._starts[tuner] = self._starts.get(tuner, 0) + 1
            self._changed.notify_all()
            return self._starts[tuner]

    async def lost(self, tuner: int, start: int) -> None:
        """An actor did not answer: nobody is sent there until it registers again, unless it has since."""
        if self._starts.get(tuner) == start:
            self._trials.pop(tuner, None)

    async def enter(self, trial_id: str, wait_s: float) -> tuple[int, int] | None:
        """An actor's number and start: the one that has this trial already, else the one with the fewest.

        Waits until there is one, but not longer than `wait_s` seconds: None then.
        """
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: bool(self._trials)), wait_s)
            except TimeoutError:
                return None
            has_it = [number for number, trials in self._trials.items() if trial_id in trials]
            tuner = min(has_it or self._trials, key=lambda number: (len(self._trials[number]), number))
            self._trials[tuner].add(trial_id)
            return tuner, self._starts[tuner]

    async def leave(self, trial_id: str) -> None:
        """A trial is tuned, or given up."""
        for trials in self._trials.values():
            trials.discard(trial_id)
