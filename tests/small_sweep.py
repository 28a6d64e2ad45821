"""A whole sweep in seconds: a tiny random encoder, a user's own triplets and labelled pairs in three languages."""

from __future__ import annotations

import json
import random
from pathlib import Path

from adiabatic_ray.sources import PairFile, TripletFile
from adiabatic_ray.spec import ClusterSpec, EvaluationSpec, SweepSpec, TrialSpec, TuningSpec
from tests.tiny import save_tiny_bert, tiny_spec

WORDS = ("river", "stone", "lamp", "garden", "winter", "train", "paper", "music", "doctor", "bridge", "salt", "window")
LANGUAGES = ("de", "en", "fr")


def write_triplets(path: Path, num: int, seed: int = 0) -> Path:
    """JSONL of queries with one or two positives and two or three negatives, three queries a cluster."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for row in range(num):
            query = f"{draw.choice(WORDS)} {draw.choice(WORDS)} {row}"
            positives = [f"{query} {draw.choice(WORDS)}" for _ in range(1 + row % 2)]
            negatives = [f"{draw.choice(WORDS)} {draw.choice(WORDS)} {row} {place}" for place in range(2 + row % 2)]
            record = {"query": query, "positives": positives, "negatives": negatives, "cluster": row // 3}
            file.write(json.dumps(record) + "\n")
    return path


def write_pairs(path: Path, num_clusters: int, seed: int = 0) -> Path:
    """JSONL of labelled pairs; a cluster has one pair of each of three labels and one query."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for cluster in range(num_clusters):
            query = f"{draw.choice(WORDS)} {draw.choice(WORDS)} {cluster}"
            for label in ("same", "near", "far"):
                text = query if label == "same" else f"{draw.choice(WORDS)} {draw.choice(WORDS)} {label} {cluster}"
                row = {
                    "query": {language: f"{language} {query}" for language in LANGUAGES},
                    "passage": {language: f"{text} {language}" for language in LANGUAGES},
                    "label": label,
                    "cluster": cluster,
                }
                file.write(json.dumps(row) + "\n")
    return path


def small_sweep(folder: Path, rates: tuple[float, ...] = (0.0, 1e-4, 1e-2), seeds: tuple[int, ...] = (0,)) -> SweepSpec:
    """A sweep that reads everything from `folder`, which is filled on the first call."""
    encoder, triplets, pairs = folder / "encoder", folder / "triplets.jsonl", folder / "pairs.jsonl"
    if not encoder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_tiny_bert(encoder)
        write_triplets(triplets, 120)
        write_pairs(pairs, 20)
    source = TripletFile(name="mine", path=str(triplets), num_tune=60, num_validation=20, num_evaluation=40)
    return SweepSpec(
        name="small",
        question="Does the pipeline hold together?",
        trial=TrialSpec(
            backbone=tiny_spec(encoder),
            source=source,
            tuning=TuningSpec(batch_size=5, batches_per_epoch=4, max_epochs=2, idle_epochs=None, keep="final"),
            evaluation=EvaluationSpec(
                sets=(source, PairFile(name="pairs", path=str(pairs), languages=LANGUAGES, positive_label="same")),
                token_budget=512,
            ),
        ),
        grid={"tuning.learning_rate": rates, "tuning.seed": seeds},
        cluster=ClusterSpec(tuners=1, tuner_cpus=1, evaluators=1, evaluator_cpus=0),
    )
