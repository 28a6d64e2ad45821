"""The tuning step on a device: time, arithmetic, bytes, and how much of what the device can do that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts
from adiabatic_ray.tuning.pack import Pack
from adiabatic_ray.tuning.pack_memory import member_bytes
from adiabatic_ray.tuning.tune import trainable_names
from adiabatic_ray.tuning.tuning_data import TuningTriplets
from benchmarks.timings import interleaved, timed
from benchmarks.tuning_steps import SPEC, pack_of, plain_step

WARM_UPS = 3
"""Rounds before those that count: every shape that is met often has been captured by then."""


def device_peaks(device: str, matrix_size: int, copy_bytes: int) -> dict[str, Any]:
    """What the device does at best: a float32 matrix product, with and without TF32, and a copy."""
    left, right = (torch.randn(matrix_size, matrix_size, device=device) for _ in range(2))
    source = torch.randn(copy_bytes // 4, device=device)
    target = torch.empty_like(source)

    def product(precision: str) -> float:
        with_precision(precision)
        seconds = timed(lambda: [left @ right for _ in range(5)], device) / 5
        with_precision("highest")
        return seconds

    kinds: dict[str, Callable[[], float]] = {
        "float32": lambda: product("highest"),
        "TF32": lambda: product("high"),
        "copy": lambda: timed(lambda: [target.copy_(source) for _ in range(5)], device) / 5,
    }
    seconds = interleaved(kinds, 7, 2)
    operations = 2 * matrix_size**3
    return {
        "float32 TFLOP/s": operations / seconds["float32"] / 1e12,
        "TF32 TFLOP/s": operations / seconds["TF32"] / 1e12,
        "copy GB/s, read and written": 2 * source.nbytes / seconds["copy"] / 1e9,
    }


def with_precision(name: str) -> None:
    """`highest`: float32 as it is. `high`: matrix products by TF32, 10 bits of a factor, where the device has it."""
    torch.set_float32_matmul_precision(name)


def measure(
    backbone: Backbone,
    triplets: TuningTriplets,
    passages: TokenizedTexts,
    packs: Sequence[int],
    num_steps: int,
    rounds: int,
    device: str,
    peaks: dict[str, Any],
) -> dict[str, Any]:
    """Milliseconds a trial's step: the usual loop, a pack of one without graphs, packs with graphs, packs in TF32."""
    usual = plain_step(backbone, triplets, passages, device)

    def usual_steps() -> None:
        for _ in range(num_steps):
            usual()

    kinds: dict[str, Callable[[], float]] = {"usual loop": lambda: timed(usual_steps, device) / num_steps}
    built: dict[str, tuple[Pack, dict[str, Any]]] = {}

    def add(name: str, size: int, precision: str = "highest", graphs: bool = True) -> None:
        built[name] = pack, _ = built_pack(backbone, triplets, size, num_steps, device, precision, graphs)

        def one_epoch() -> float:
            with_precision(precision)
            seconds = timed(pack.run_epoch, device) / num_steps / size
            with_precision("highest")
            return seconds

        kinds[name] = one_epoch

    add("pack of 1, eager", 1, graphs=False)
    for size in packs:
        add(f"pack of {size}", size)
    for size in packs[-2:]:
        add(f"pack of {size}, TF32", size, precision="high")
    seconds = interleaved(kinds, rounds, WARM_UPS)
    tokens = SPEC.batch_size * float(triplets.queries.lengths().mean())
    weights = sum(backbone.weights[name].size for name in trainable_names(backbone, SPEC.freeze)[0])
    operations, moved_bytes = 6 * weights * tokens, 7 * 4 * weights
    rows = []
    for name, one_s in seconds.items():
        row = {
            "kind": name,
            "ms a trial's step": 1000 * one_s,
            "times as fast": seconds["usual loop"] / one_s,
            "trial-steps/s": 1 / one_s,
        }
        if name in built:
            pack, memory = built[name]
            least_s = max(
                operations / peaks["float32 TFLOP/s"] / 1e12, moved_bytes / peaks["copy GB/s, read and written"] / 1e9
            )
            row |= {
                "TFLOP/s": operations / one_s / 1e12,
                "GB/s": moved_bytes / one_s / 1e9,
                "share of float32 peak": least_s / one_s,
                "captures": 0 if pack.graphs is None else pack.graphs.num_captures,
                "replays": 0 if pack.graphs is None else pack.graphs.num_replays,
                **memory,
            }
        rows.append(row)
    return {
        "tokens of a batch": tokens,
        "trained weights": weights,
        "least by arithmetic, ms": operations / peaks["float32 TFLOP/s"] / 1e9,
        "least by bytes, ms": moved_bytes / peaks["copy GB/s, read and written"] / 1e6,
        "steps": rows,
    }


def built_pack(
    backbone: Backbone, triplets: TuningTriplets, size: int, num_steps: int, device: str, precision: str, graphs: bool
) -> tuple[Pack, dict[str, Any]]:
    """A pack after its first two epochs, and the memory that it took at most against the estimate."""
    before = 0
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_reserved()
    with_precision(precision)
    pack = pack_of(backbone, triplets, size, num_steps, device)
    if not graphs:
        pack.graphs = None
    for _ in range(2):
        pack.run_epoch()
    with_precision("highest")
    taken = 0 if device == "cpu" else torch.cuda.max_memory_reserved() - before
    tokens = int(np.sort(triplets.queries.lengths())[-SPEC.batch_size :].sum())
    estimate = size * member_bytes(backbone, trainable_names(backbone, SPEC.freeze)[0], tokens, SPEC)
    return pack, {"GB taken": taken / 1e9, "GB estimated": estimate / 1e9}


def profile(backbone: Backbone, triplets: TuningTriplets, size: int, num_steps: int, device: str) -> dict[str, Any]:
    """The kernels that a pack's steps spend their time in, and the time that Python takes for a step."""
    pack, _ = built_pack(backbone, triplets, size, num_steps, device, "highest", True)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device != "cpu":
        activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiled:
        seconds = timed(pack.run_epoch, device)
    on_gpu = device != "cpu"
    times = {
        one.key: (one.self_device_time_total if on_gpu else one.self_cpu_time_total, one.count)
        for one in profiled.key_averages()
        if not on_gpu or one.self_device_time_total  # not the calls that launch
    }
    total_us = sum(time_us for time_us, _ in times.values())
    longest = sorted(times.items(), key=lambda one: -one[1][0])[:15]
    return {
        "members": size,
        "ms a step of the whole pack, profiled": 1000 * seconds / num_steps,
        "ms of kernels a step": total_us / num_steps / 1000,
        "kernels a step": sum(count for _, count in times.values()) / num_steps,
        "kernels": [
            {"share": time_us / total_us, "a step": count / num_steps, "name": name[:90]}
            for name, (time_us, count) in longest
        ],
    }
