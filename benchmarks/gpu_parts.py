"""The parts of a session on a GPU, from what a bundle holds; `bench_gpu.py` runs them one after another."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.evaluation.evaluate import PreparedTriplets
from adiabatic_ray.tuning.tuning_data import TuningTriplets
from benchmarks import gpu_evaluation, gpu_rates, gpu_steps, gpu_trajectories
from benchmarks.gpu_material import first_pairs, first_triplets, read_material

ROOT = Path(__file__).resolve().parents[1]
NUM_FOLLOWED = 280
"""Triplets that trajectories are compared on."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    num_queries: int | None
    """Of each part of a tuning set; None: all."""
    num_languages: int
    num_premises: int | None
    """None: all, in all languages."""
    followed_steps: int
    """Steps of one of the two epochs that are compared with the CPU's."""
    packs: tuple[int, ...]
    steps_of_timing: int
    rounds: int
    encoded_every: int
    """One premise in so many is encoded where encoding is timed."""
    token_budgets: tuple[int, ...]
    encoding_packs: tuple[int, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    steps_per_epoch: int
    token_budget: int
    """Where it is not what is measured."""
    matrix_size: int
    copy_bytes: int


FULL = Sizes(
    num_queries=None,
    num_languages=15,
    num_premises=None,
    followed_steps=20,
    packs=(1, 2, 4, 8, 16, 32, 64),
    steps_of_timing=40,
    rounds=5,
    encoded_every=5,
    token_budgets=(4_096, 8_192, 16_384, 32_768, 65_536),
    encoding_packs=(8, 32),
    rates=tuple(float(rate) for rate in np.geomspace(1e-8, 1e-4, 16)),
    seeds=(0, 1),
    steps_per_epoch=200,
    token_budget=16_384,
    matrix_size=8_192,
    copy_bytes=4 * 1024**3,
)
TINY = Sizes(
    num_queries=60,
    num_languages=2,
    num_premises=12,
    followed_steps=2,
    packs=(1, 2),
    steps_of_timing=2,
    rounds=1,
    encoded_every=1,
    token_budgets=(256, 512),
    encoding_packs=(2,),
    rates=(1e-5, 1e-3),
    seeds=(0,),
    steps_per_epoch=2,
    token_budget=512,
    matrix_size=256,
    copy_bytes=1024**2,
)
"""So little that a machine without a GPU tries every line in a minute or two."""


class Session:
    """What the parts share: material on a device, banks, and the device's peaks once they are measured."""

    def __init__(self, bundle: Path, out: Path, device: str, sizes: Sizes, tune_s: float) -> None:
        """Read the bundle and encode its passages.

        Args:
            bundle: what `gpu_bundle` wrote.
            out: folder of the results.
            device: `cuda` or `cpu`.
            sizes: how much is measured.
            tune_s: seconds for which the packed run over the rates may tune.

        Raises:
            ValueError: no bundle.
        """
        self._out, self._device, self._sizes, self._tune_s = out, device, sizes, tune_s
        material = read_material(bundle)
        self._backbone, self._parts, self._pairs = material.backbone, material.triplets, material.xnli
        if sizes.num_queries is not None:
            self._parts = {name: first_triplets(part, sizes.num_queries) for name, part in self._parts.items()}
        if sizes.num_premises is not None:
            self._pairs = first_pairs(material.xnli, sizes.num_languages, sizes.num_premises)
        tower = self._backbone.build_tower(device=device)
        self._banks = {name: encode(tower, part.passages, sizes.token_budget) for name, part in self._parts.items()}
        self._xnli_PD = encode(tower, self._pairs.passages, sizes.token_budget)
        self._peaks: dict[str, Any] = {}

    def tests(self) -> dict[str, Any]:
        """The tests that need a GPU; skipped, all of them, without one."""
        # Without the checkout's settings, which this machine's pytest may not know: warnings are shown, not raised.
        settings = ["-c", os.devnull, "--rootdir", str(ROOT), "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", *settings, "-rs", "-m", "gpu", "tests/test_gpu.py"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240
        )
        if done.returncode:
            raise RuntimeError(f"the tests that need a GPU must pass, got\n{(done.stdout + done.stderr)[-12_000:]}")
        return {"output": f"\n```\n{(done.stdout + done.stderr)[-6000:]}\n```"}

    def peaks(self) -> dict[str, Any]:
        """What the device can do."""
        if not self._peaks:
            self._peaks = gpu_steps.device_peaks(self._device, self._sizes.matrix_size, self._sizes.copy_bytes)
        return self._peaks

    def trajectories(self) -> dict[str, Any]:
        """Graphs against kernel by kernel against the CPU."""
        triplets = self._tuning("msmarco-tune")
        few = TuningTriplets(
            triplets.queries.select(np.arange(min(NUM_FOLLOWED, len(triplets)))),
            triplets.positive_rows_Q[:NUM_FOLLOWED],
            triplets.negative_rows_Q[:NUM_FOLLOWED],
            triplets.passages,
        )
        return gpu_trajectories.measure(self._backbone, few, self._sizes.followed_steps, self._device)

    def steps(self) -> dict[str, Any]:
        """Time and memory of a step."""
        return gpu_steps.measure(
            self._backbone,
            self._tuning("msmarco-tune"),
            self._parts["msmarco-tune"].passages,
            self._sizes.packs,
            self._sizes.steps_of_timing,
            self._sizes.rounds,
            self._device,
            self.peaks(),
        )

    def profile(self) -> dict[str, Any]:
        """Kernels of a small and of a larger pack."""
        packs, num_steps, triplets = self._sizes.packs, self._sizes.steps_of_timing, self._tuning("msmarco-tune")
        return {
            f"pack of {size}, {title}": value
            for size in (packs[0], packs[len(packs) // 2 + 1] if len(packs) > 2 else packs[-1])
            for title, value in gpu_steps.profile(self._backbone, triplets, size, num_steps, self._device).items()
        }

    def evaluation(self) -> dict[str, Any]:
        """Encoding and counting."""
        queries, sizes = self._pairs.queries, self._sizes
        encoded = queries.select(np.arange(0, len(queries), sizes.encoded_every))
        return {
            **gpu_evaluation.measure_encoding(
                self._backbone, encoded, sizes.token_budgets, sizes.encoding_packs, sizes.rounds, self._device
            ),
            **gpu_evaluation.measure_counting(
                self._backbone, self._pairs, self._xnli_PD, sizes.token_budgets, self._device
            ),
        }

    def rates(self) -> dict[str, Any]:
        """A slice of the learning-rate figure."""
        part = self._parts["squad-evaluation"]
        held_out = PreparedTriplets(
            "squad",
            part.queries,
            self._banks["squad-evaluation"],
            part.positive_rows,
            part.positive_offsets_Q1,
            part.negative_rows,
            part.negative_offsets_Q1,
            part.cluster_of_query_Q,
        )
        return gpu_rates.measure(
            self._backbone,
            self._tuning("squad-tune"),
            self._tuning("squad-validation"),
            held_out,
            self._pairs,
            gpu_evaluation.PairCounter(self._pairs, self._xnli_PD, self._device),
            [(rate, seed) for rate in self._sizes.rates for seed in self._sizes.seeds],
            self._sizes.steps_per_epoch,
            self._tune_s,
            self._sizes.token_budget,
            self._device,
            self._out,
        )

    def _tuning(self, name: str) -> TuningTriplets:
        """The first positive and the first negative of every query."""
        part = self._parts[name]
        positives, negatives = (
            rows[offsets_Q1[:-1]]
            for rows, offsets_Q1 in (
                (part.positive_rows, part.positive_offsets_Q1),
                (part.negative_rows, part.negative_offsets_Q1),
            )
        )
        return TuningTriplets(part.queries, positives, negatives, self._banks[name])
