"""The evaluation pool as trials see it: a tower is handed in, and its counts come back.

Apart from the actors themselves (`evaluators`), so that the process of a trial starts without the libraries that score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from ray.util import remove_placement_group

from adiabatic_ray.on_ray.scoring_desk import SharedSets
from adiabatic_ray.statistics.counts import Counts


@dataclass(frozen=True)
class EvaluationPool:
    """Handles of the desk and of its evaluators; trials receive it and share it."""

    desk: Any
    evaluators: tuple[Any, ...]
    reserved: Any | None
    """The placement group that the evaluators are in."""

    def score(
        self,
        changed: Mapping[str, np.ndarray],
        sets: SharedSets,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Counts]:
        """Counts of every set.

        Args:
            changed: the tower's tensors that differ from the backbone's, by name.
            sets: what it is scored on.
            progress: called with (shards scored so far, shards to score).

        Raises:
            RayError: what the desk raised.
        """
        changed_ref = ray.put(dict(changed))
        for ref in self.desk.score.options(num_returns="streaming").remote([changed_ref], sets):
            news = ray.get(ref)
            if isinstance(news, list):
                return news
            progress(*news)
        raise AssertionError("the desk ended without counts")

    def close(self) -> None:
        """End the actors, and give back what they had reserved."""
        for actor in (self.desk, *self.evaluators):
            ray.kill(actor)
        if self.reserved is not None:
            remove_placement_group(self.reserved)
