"""What a long run may use up, read off this process, Ray's processes and folders; and the line through such readings.

Memory is what a process holds for itself: resident less shared, so that libraries and Ray's object store, which are
mapped into many processes, do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import ray
from scipy import stats

RAY_PROCESSES = ("gcs_server", "raylet", "Lobby", "ScoringDesk", "Tuner", "Evaluator", "ImplicitFunc")
"""Ray's head, this project's actors, and the processes of Tune's trials."""
MB = 2**20


def driver_gauges() -> dict[str, float]:
    """Memory, open descriptors, threads and CPU seconds so far of this process."""
    process = psutil.Process()
    with process.oneshot():
        used = process.cpu_times()
        return {
            "driver MB": own_mb(process),
            "driver fds": process.num_fds(),
            "driver threads": process.num_threads(),
            "driver CPU s": used.user + used.system,
        }


def ray_gauges() -> dict[str, float]:
    """Memory by kind of process, their number, and what the object store holds."""
    kinds = dict.fromkeys(RAY_PROCESSES, 0.0)
    children = psutil.Process().children(recursive=True)
    for process in children:
        try:
            command = process.cmdline()
            kind = next((one for one in RAY_PROCESSES if command and one in command[0]), None)
            if kind is not None:
                kinds[kind] += own_mb(process)
        except psutil.NoSuchProcess:
            continue  # it ended while it was looked at
    total, free = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
    stored = total["object_store_memory"] - free.get("object_store_memory", 0.0)
    sizes = {f"{kind} MB": size for kind, size in kinds.items()}
    return sizes | {"processes": len(children), "object store MB": stored / MB}


def own_mb(process: psutil.Process) -> float:
    """Resident less shared memory."""
    memory = process.memory_info()
    return float(memory.rss - memory.shared) / MB


def folder_mb(folder: Path) -> float:
    """Sizes of all files below a folder; of a file, its own. What vanishes meanwhile, or is not there, counts 0."""
    total = 0
    for path in (folder, *folder.rglob("*")):
        try:
            total += path.lstat().st_size if not path.is_dir() else 0
        except FileNotFoundError:
            continue
    return total / MB


def slope(trials: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Least-squares change a trial, and its standard error."""
    found = stats.linregress(np.asarray(trials, float), np.asarray(values, float))
    return float(found.slope), float(found.stderr)
