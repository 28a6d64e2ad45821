"""Ray's share of `arxiv_negatives`: one task for each range of papers; the texts go into the object store once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from adiabatic_ray.corpora.arxiv_negatives import Negatives, Workload, choose_negatives, shards

_WAIT_S = 3600
"""A task takes minutes; in an hour without an end of one there is no room for any."""


@ray.remote(num_cpus=1, max_retries=3)
def _choose(work: Workload, start: int, stop: int) -> Negatives:
    return choose_negatives(work, start, stop)


def choose_on_cluster(work: Workload, progress: Callable[[int, int], None]) -> list[Negatives]:
    """The negatives of all papers, by tasks that take one CPU each; the same as without Ray, to the last bit.

    Args:
        work: put into the object store, where the tasks of a node share one copy.
        progress: called with (papers done so far, all papers) as tasks end.

    Returns:
        One part for each of `shards(work)`, in their order.

    Raises:
        ValueError: no task ended within an hour.
    """
    work_ref = ray.put(work)
    tasks: list[Any] = [_choose.remote(work_ref, start, stop) for start, stop in shards(work)]
    parts: dict[Any, Negatives] = {}
    pending, num_done = tasks, 0
    while pending:
        ended, pending = ray.wait(pending, num_returns=1, timeout=_WAIT_S)
        if not ended:
            raise ValueError(
                f"negatives need a free CPU on the cluster, got {len(pending)} tasks of which none ended in {_WAIT_S} "
                "s; see `ray status`"
            )
        (ready,) = ended
        parts[ready] = ray.get(ready)
        num_done += len(parts[ready].papers_N)
        progress(num_done, len(work.order_P))
    return [parts[task] for task in tasks]
