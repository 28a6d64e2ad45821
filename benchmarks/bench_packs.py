"""What a tuning step costs a trial: as the regime is usually written, with sentence-transformers, and in packs.

Every kind tunes on the same: a batch of 14 MS MARCO triplets, packaged E5, embedding block frozen, AdamW in float32.

- plain: a tower as `AutoModel` gives it, on padded batches, three encoder passes (query tower, and the frozen tower
  over positives and negatives);
- sentence-transformers: the same with its `TripletLoss` over a frozen passage tower, by its own trainer, with the
  dropout of the configuration;
- pack of K: this project, passages from the bank, K trials in one process, time divided by K.

Steps of all kinds are interleaved; medians, and ratios to the plain step. Figures of the device: the step's arithmetic
(2 operations a weight and token forward, 4 backward) and the bytes that AdamW must move (7 floats a weight), over the
time that it took; compare them with what the device can do (`--peak-tflops`, `--peak-gbs`).

    ADIABATIC_DATA=... python benchmarks/bench_packs.py [--packs 1 2 4 8] [--rounds 12] [--threads 2] [--device cpu]
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.losses import TripletDistanceMetric, TripletLoss
from sentence_transformers.models import Router
from transformers import TrainerCallback

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adiabatic_ray.corpora.data import load_triplets
from adiabatic_ray.corpora.text_sets import TripletSet
from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts, load_backbone
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.sources import MsMarco
from adiabatic_ray.spec import PACKAGED_E5
from adiabatic_ray.tuning.pack_memory import member_bytes
from adiabatic_ray.tuning.tune import trainable_names
from adiabatic_ray.tuning.tuning_data import TuningTriplets
from benchmarks.sentence_encoders import encoder_modules
from benchmarks.timings import interleaved, timed
from benchmarks.tuning_steps import SPEC, pack_of, plain_step

NUM_SAMPLES = 700
STEPS_PER_TIMING = 3
"""Steps between two looks at the clock, where a step by itself can't be timed."""


def main() -> None:
    """Time all kinds, print medians, ratios and shares of the device's peak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=int, nargs="+", default=[1, 2, 4, 8], help="members of each pack")
    parser.add_argument("--rounds", type=int, default=12, help="timings of each kind that are counted")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--peak-tflops", type=float, help="float32 arithmetic of the device")
    parser.add_argument("--peak-gbs", type=float, help="memory bandwidth of the device, GB/s")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source = MsMarco(path="${ADIABATIC_DATA}/hub", num_tune=NUM_SAMPLES, num_validation=0, num_evaluation=0)
    texts, backbone = load_triplets(source, "tune"), load_backbone(PACKAGED_E5)
    queries = backbone.tokenize(texts.queries, backbone.spec.query_prefix)
    passages = backbone.tokenize(texts.passages, backbone.spec.passage_prefix)
    trainable, _ = trainable_names(backbone, SPEC.freeze)
    triplets = bank_triplets(backbone, texts, queries, passages, options.device)
    usual = plain_step(backbone, triplets, passages, options.device)
    kinds: dict[str, Callable[[], float]] = {"plain": lambda: timed(usual, options.device)}
    kinds["sentence-transformers"] = with_sentence_transformers(backbone, texts, options.device)
    for size in options.packs:
        kinds[f"pack of {size}"] = packed(backbone, triplets, size, options.device)
    medians = interleaved(kinds, options.rounds, 1)
    tokens = SPEC.batch_size * float(queries.lengths().mean())
    weights = sum(backbone.weights[name].size for name in trainable)
    print(
        f"queries of {queries.lengths().mean():.1f} tokens, passages of {passages.lengths().mean():.1f}, batch "
        f"{SPEC.batch_size}, {options.device}, {options.threads} threads, torch {torch.__version__}, "
        f"{options.rounds} interleaved timings of each kind"
    )
    print(f"{'':24s}{'ms a trial':>12s}{'times as fast':>15s}{'TFLOP/s':>10s}{'GB/s':>8s}")
    for name, seconds in medians.items():
        line = f"{name:24s}{1000 * seconds:12.2f}{medians['plain'] / seconds:15.2f}"
        if name.startswith("pack"):
            line += f"{6 * weights * tokens / seconds / 1e12:10.2f}{7 * 4 * weights / seconds / 1e9:8.0f}"
            if options.peak_tflops and options.peak_gbs:
                least_s = max(6 * weights * tokens / options.peak_tflops / 1e12, 28 * weights / options.peak_gbs / 1e9)
                line += f"   {100 * least_s / seconds:.0f}% of what the device allows"
        print(line)
    estimate = member_bytes(backbone, trainable, int(np.sort(queries.lengths())[-SPEC.batch_size :].sum()), SPEC)
    print(f"estimate of a member's memory (`pack_memory`): {estimate / 1e6:.0f} MB; ", end="")
    if options.device == "cpu":
        print(f"peak of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")
    else:
        print(f"peak on the device {torch.cuda.max_memory_allocated() / 1e6:.0f} MB")


def with_sentence_transformers(backbone: Backbone, texts: TripletSet, device: str) -> Callable[[], float]:
    """Steps of its trainer: a router with a tuned tower for queries and a frozen one for passages, `TripletLoss`."""
    towers = [encoder_modules(backbone, backbone.build_tower()) for _ in range(2)]
    model = SentenceTransformer(modules=[Router.for_query_document(*map(list, towers))], device=device)
    trainable = set(trainable_names(backbone, SPEC.freeze)[0])
    for number, (transformer, _) in enumerate(towers):
        for name, parameter in transformer.model.named_parameters():
            parameter.requires_grad_(number == 0 and name in trainable)
    prefixes = backbone.spec.query_prefix, backbone.spec.passage_prefix, backbone.spec.passage_prefix
    firsts = texts.positive_rows[texts.positive_offsets[:-1]], texts.negative_rows[texts.negative_offsets[:-1]]
    columns = texts.queries, *([texts.passages[row] for row in rows_Q] for rows_Q in firsts)
    data = Dataset.from_dict(
        {
            name: [prefix + text for text in column]
            for name, prefix, column in zip(("anchor", "positive", "negative"), prefixes, columns, strict=True)
        }
    )
    clock = _StepClock()
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=SPEC.batch_size,
            learning_rate=SPEC.learning_rate,
            lr_scheduler_type="constant",
            max_grad_norm=0,
            max_steps=STEPS_PER_TIMING + 1,
            optim="adamw_torch_fused",
            router_mapping={"anchor": "query", "positive": "document", "negative": "document"},
            use_cpu=device == "cpu",
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            log_level="error",
        ),
        train_dataset=data,
        loss=TripletLoss(model, TripletDistanceMetric.EUCLIDEAN, SPEC.margin),
        callbacks=[clock],
    )

    def run() -> float:
        clock.ends.clear()
        trainer.train()
        return (clock.ends[-1] - clock.ends[0]) / STEPS_PER_TIMING

    return run


class _StepClock(TrainerCallback):
    """When each step of a trainer ended: its preparation, before the first one, is not counted."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def bank_triplets(
    backbone: Backbone, texts: TripletSet, queries: TokenizedTexts, passages: TokenizedTexts, device: str
) -> TuningTriplets:
    """First positives and negatives, with their bank."""
    bank_PD = encode(backbone.build_tower(device=device), passages, 4096)
    firsts = texts.positive_rows[texts.positive_offsets[:-1]], texts.negative_rows[texts.negative_offsets[:-1]]
    return TuningTriplets(queries, *firsts, bank_PD)


def packed(backbone: Backbone, triplets: TuningTriplets, size: int, device: str) -> Callable[[], float]:
    """Steps of a pack, time divided by its members."""
    pack = pack_of(backbone, triplets, size, STEPS_PER_TIMING, device)
    return lambda: timed(pack.run_epoch, device) / STEPS_PER_TIMING / size


if __name__ == "__main__":
    main()
