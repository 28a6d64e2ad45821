"""Memory of trial processes that share one backbone in Ray's object store.

Starts processes that each build a query tower (embedding block frozen) from the stored backbone and touch every
weight, as a tuning step does, and prints each one's resident, shared and own memory. The word embeddings, 96 M of the
packaged E5's 117 M weights, must be in the shared part.

    python benchmarks/bench_memory.py [--processes 3]
"""

from __future__ import annotations

import argparse

import numpy as np
import psutil
import ray
import torch

from adiabatic_ray.encoders.backbones import Backbone, load_backbone
from adiabatic_ray.on_ray.cluster import start_ray
from adiabatic_ray.spec import PACKAGED_E5
from adiabatic_ray.tuning.tune import trainable_names

MB = 1e6


@ray.remote(num_cpus=0)
class _TrialProcess:
    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._tower: torch.nn.Module | None = None

    def memory(self) -> tuple[float, float]:
        """Resident and, of that, private bytes."""
        info = psutil.Process().memory_full_info()
        return float(info.rss), float(info.uss)

    def build(self, backbone: Backbone) -> float:
        """Sum of all weights: reads every page."""
        self._tower = backbone.build_tower(trainable_names(backbone, "embeddings")[0])
        return float(sum(parameter.detach().double().sum() for parameter in self._tower.parameters()))


def main() -> None:
    """Print a line for each process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=3)
    arguments = parser.parse_args()
    start_ray()
    backbone = load_backbone(PACKAGED_E5)
    frozen = sum(backbone.weights[name].nbytes for name in trainable_names(backbone, "embeddings")[1])
    trainable = sum(backbone.weights[name].nbytes for name in trainable_names(backbone, "embeddings")[0])
    stored = ray.put(backbone)
    print(f"backbone: {frozen / MB:.0f} MB frozen, {trainable / MB:.0f} MB trainable")
    workers = [_TrialProcess.remote() for _ in range(arguments.processes)]  # type: ignore[attr-defined]
    growth = []
    for number, worker in enumerate(workers):
        before_rss, before_uss = ray.get(worker.memory.remote())
        ray.get(worker.build.remote(stored))
        rss, uss = ray.get(worker.memory.remote())
        growth.append(uss - before_uss)
        print(
            f"process {number}: resident {before_rss / MB:.0f} -> {rss / MB:.0f} MB, "
            f"own {before_uss / MB:.0f} -> {uss / MB:.0f} MB, shared {(rss - uss) / MB:.0f} MB"
        )
    print(
        f"a trial's tower adds {np.median(growth) / MB:.0f} MB of its own; copying the backbone would add "
        f"{(frozen + trainable) / MB:.0f} MB; ratio {(frozen + trainable) / np.median(growth):.1f}"
    )
    ray.shutdown()


if __name__ == "__main__":
    main()
