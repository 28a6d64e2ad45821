"""What a step costs in each precision: the optimizer by itself, and the whole tuning step around it.

Packaged E5, embedding block frozen (21.3 M trained weights). The optimizer alone: gradients of random numbers. The
whole step: a batch of 14 short queries, passages from a bank of random numbers, since what they say costs nothing.
Precisions are interleaved; medians in ms, and ratios to float32. `--tiny` takes the tests' encoder instead.

    PYTHONPATH=. python benchmarks/bench_update_precision.py [--rounds 9] [--threads 1] [--device cpu] [--tiny]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adiabatic_ray.encoders.backbones import Backbone, load_backbone
from adiabatic_ray.spec import PACKAGED_E5, TuningSpec
from adiabatic_ray.tuning.optim import build_optimizer, set_rate
from adiabatic_ray.tuning.pack import Pack
from adiabatic_ray.tuning.tune import trainable_names
from adiabatic_ray.tuning.tuning_data import TuningTriplets
from benchmarks.timings import timed
from benchmarks.tuning_steps import SPEC
from tests.tiny import save_tiny_bert, tiny_spec

PRECISIONS = ("float32", "compensated", "float64")
OPTIMIZERS = ("adamw", "adamax", "sgd")
NUM_QUERIES = 56
STEPS_PER_TIMING = 2


def main() -> None:
    """Time all optimizers and precisions, print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="timings of each kind that are counted")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tiny", action="store_true", help="an encoder of two narrow blocks")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        spec = tiny_spec(save_tiny_bert(Path(folder))) if options.tiny else PACKAGED_E5
        backbone = load_backbone(spec)
    print(f"{'':24s}" + "".join(f"{precision:>22s}" for precision in PRECISIONS) + "    ms, and times float32")
    for optimizer in OPTIMIZERS:
        for what, of in (("step alone", step_alone), ("tuning step", tuning_step)):
            changes = [{"precision": precision, "optimizer": optimizer} for precision in PRECISIONS]
            works = [of(backbone, SPEC.model_copy(update=change), options) for change in changes]
            rounds = [[timed(work, options.device) for work in works] for _ in range(options.rounds + 1)]
            # The first round makes room.
            medians = [statistics.median(times) / STEPS_PER_TIMING for times in zip(*rounds[1:], strict=True)]
            row = "".join(f"{1000 * one:14.2f}{one / medians[0]:8.2f}" for one in medians)
            print(f"{optimizer + ', ' + what:24s}{row}", flush=True)


def step_alone(backbone: Backbone, spec: TuningSpec, options: argparse.Namespace) -> Callable[[], object]:
    """Steps of the optimizer on fixed gradients."""
    draw = torch.Generator().manual_seed(0)
    parameters = []
    for name in trainable_names(backbone, spec.freeze)[0]:
        parameter = torch.nn.Parameter(torch.tensor(backbone.weights[name]).to(options.device))
        parameter.grad = 1e-4 * torch.randn(parameter.shape, generator=draw).to(options.device)
        parameters.append(parameter)
    optimizer = build_optimizer(parameters, spec)

    def work() -> None:
        for number in range(STEPS_PER_TIMING):
            if spec.precision != "float32":
                set_rate(optimizer, spec.learning_rate, number)
            optimizer.step()

    return work


def tuning_step(backbone: Backbone, spec: TuningSpec, options: argparse.Namespace) -> Callable[[], object]:
    """Steps of a pack of one."""
    draw = np.random.default_rng(0)
    queries = backbone.tokenize([f"what is known about thing number {row}?" for row in range(NUM_QUERIES)], "query: ")
    bank_PD = draw.normal(size=(2 * NUM_QUERIES, backbone.embedding_size)).astype(np.float32)
    rows_Q = np.arange(NUM_QUERIES)
    triplets = TuningTriplets(queries, rows_Q, rows_Q + NUM_QUERIES, bank_PD)
    one = TuningTriplets(queries.select(np.arange(1)), rows_Q[:1], rows_Q[:1] + 1, bank_PD)
    spec = spec.model_copy(update={"batches_per_epoch": STEPS_PER_TIMING})
    trainable, _ = trainable_names(backbone, spec.freeze)
    pack = Pack(backbone, trainable, spec, 1, triplets, one, 512, options.device)
    pack.join("one", spec, trainable)
    return pack.run_epoch


if __name__ == "__main__":
    main()
