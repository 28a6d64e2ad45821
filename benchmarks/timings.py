"""How work is timed: by the wall clock, a device waited for, and kinds of work in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def timed(work: Callable[[], object], device: str) -> float:
    """Seconds that some work takes."""
    if device != "cpu":
        torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def interleaved(kinds: Mapping[str, Callable[[], float]], rounds: int, warm_ups: int) -> dict[str, float]:
    """Median of each kind's seconds; the kinds take turns, so that a slow moment of the machine is everyone's."""
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(warm_ups + rounds):
        for name, work in kinds.items():
            seconds = work()
            if number >= warm_ups:
                times[name].append(seconds)
    return {name: statistics.median(all_s) for name, all_s in times.items()}
