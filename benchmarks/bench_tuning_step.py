"""One tuning step with passages from the bank against the same step that encodes its passages.

Both steps run the query tower forward and backward and update it; the second also runs the frozen tower over the
batch's 28 passages, as the regime is usually written. MS MARCO triplets, packaged E5, embedding block frozen, batch 14.
Steps are interleaved; the ratio of medians is the figure to quote.

    ADIABATIC_DATA=... python benchmarks/bench_tuning_step.py [--rounds 12] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from torch.nn import functional

from adiabatic_ray.backbones import load_backbone
from adiabatic_ray.data import load_triplets
from adiabatic_ray.encode import encode, pad
from adiabatic_ray.optim import build_optimizer
from adiabatic_ray.sources import MsMarco
from adiabatic_ray.spec import PACKAGED_E5, TuningSpec
from adiabatic_ray.tune import trainable_names


def main() -> None:
    """Time both steps and print medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="steps of each kind that are counted")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    spec = TuningSpec()
    num_samples = spec.batch_size * (arguments.rounds + 2)
    source = MsMarco(path="${ADIABATIC_DATA}/hub", num_tune=num_samples, num_validation=0, num_evaluation=0)
    texts = load_triplets(source, "tune")
    backbone = load_backbone(PACKAGED_E5)
    queries = backbone.tokenize(texts.queries, backbone.spec.query_prefix)
    passages = backbone.tokenize(texts.passages, backbone.spec.passage_prefix)
    frozen = backbone.build_tower()
    tower = backbone.build_tower(trainable_names(backbone, spec.freeze)[0])
    optimizer = build_optimizer([one for one in tower.parameters() if one.requires_grad], spec)
    bank_PD = encode(frozen, passages, 4096)
    device = torch.device("cpu")
    positive_rows_Q = texts.positive_rows[texts.positive_offsets[:-1]]
    negative_rows_Q = texts.negative_rows[texts.negative_offsets[:-1]]

    def step(number: int, from_bank: bool) -> float:
        rows_B = np.arange(number * spec.batch_size, (number + 1) * spec.batch_size)
        started = time.perf_counter()
        sides = []
        for passage_rows_B in (positive_rows_Q[rows_B], negative_rows_Q[rows_B]):
            if from_bank:
                sides.append(torch.from_numpy(bank_PD[passage_rows_B]))
            else:
                with torch.no_grad():
                    sides.append(frozen(*pad(passages, passage_rows_B, device)))
        queries_BD = tower(*pad(queries, rows_B, device))
        loss = functional.triplet_margin_loss(queries_BD, *sides, margin=spec.margin)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return time.perf_counter() - started

    for number in range(2):
        step(number, from_bank=True), step(number, from_bank=False)
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2, arguments.rounds + 2):
        for from_bank in (True, False):
            times[from_bank].append(step(number, from_bank))
    with_bank_s, without_s = statistics.median(times[True]), statistics.median(times[False])
    print(
        f"queries: {queries.lengths().mean():.1f} tokens, passages: {passages.lengths().mean():.1f} tokens, "
        f"batch {spec.batch_size}, {arguments.threads} threads, {arguments.rounds} interleaved steps of each kind"
    )
    print(f"step with the bank:            {with_bank_s * 1000:8.1f} ms (median)")
    print(f"step that encodes its passages:{without_s * 1000:8.1f} ms (median)")
    print(f"ratio: {without_s / with_bank_s:.2f}")


if __name__ == "__main__":
    main()
