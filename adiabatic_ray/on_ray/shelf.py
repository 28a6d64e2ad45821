"""What a tuner's trials are tuned from: read once, kept while anybody uses it, given up when something else comes.

Apart from the actor, since it is plain bookkeeping; a group's banks may fill half of a GPU.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Thing = TypeVar("Thing")


class Shelf(Generic[Thing]):
    """Things by name; callers come in threads."""

    def __init__(self) -> None:
        """Nothing is there yet."""
        self._one_at_a_time = threading.Lock()
        self._things: dict[str, Thing] = {}
        self._num_users: Counter[str] = Counter()

    @contextmanager
    def borrowed(self, name: str, read: Callable[[], Thing]) -> Iterator[Thing]:
        """A thing, read first if it is not there; things that nobody uses make room for it."""
        with self._one_at_a_time:  # two threads would read it twice
            if name not in self._things:
                self._things = {other: thing for other, thing in self._things.items() if self._num_users[other]}
                self._things[name] = read()
            self._num_users[name] += 1
            thing = self._things[name]
        try:
            yield thing
        finally:
            with self._one_at_a_time:
                self._num_users[name] -= 1
