"""The evaluation pool as trials see it: a tower is handed in, and its counts come back.

Apart from the actors themselves (`evaluators`), so that the process of a trial starts without the libraries that score.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from ray.util import remove_placement_group

from adiabatic_ray.encoders.tower_files import passage_part, query_part
from adiabatic_ray.on_ray.scoring_desk import SharedSets, Task
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
            changed: the tower's tensors that differ from the backbone's, by name. Where the passage tower's are among
                them, the sets' passages are embedded anew before anything is scored.
            sets: what it is scored on.
            progress: called with (shards done so far, shards to do), of the passages and then of the queries.

        Raises:
            RayError: what the desk raised.
        """
        if of_passages := passage_part(changed):
            assert sets.passage_refs, "sets of a passage tower that is tuned were shared without their passages"
            banks = self._ask("embed", of_passages, sets, progress)
            sets = replace(sets, bank_refs=tuple(ray.put(bank_PD) for bank_PD in banks))
        return self._ask("score", query_part(changed), sets, progress)

    def _ask(
        self, task: Task, changed: Mapping[str, np.ndarray], sets: SharedSets, progress: Callable[[int, int], None]
    ) -> list[Any]:
        """What the desk gives at last, set by set."""
        changed_ref = ray.put(dict(changed))
        for ref in self.desk.serve.options(num_returns="streaming").remote(task, [changed_ref], sets):
            news = ray.get(ref)
            if isinstance(news, list):
                return news
            progress(*news)
        raise AssertionError("the desk ended without an answer")

    def close(self) -> None:
        """End the actors, and give back what they had reserved."""
        for actor in (self.desk, *self.evaluators):
            ray.kill(actor)
        if self.reserved is not None:
            remove_placement_group(self.reserved)
