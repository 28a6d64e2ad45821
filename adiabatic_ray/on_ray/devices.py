"""What a process of the cluster was given: where torch works in it, and with how many threads."""

from __future__ import annotations

import torch


def device_for(num_gpus: float) -> str:
    """Where torch works in a process that was given this share of GPUs."""
    return "cuda" if num_gpus else "cpu"


def use_threads(num_cpus: float) -> None:
    """Let torch use as many threads as the process was given CPUs, at least one."""
    torch.set_num_threads(max(1, int(num_cpus)))
