"""An honest slice of the learning-rate figure: one pack over many rates and seeds, each scored on all XNLI pairs.

Tuned on SQuAD sentences, final state scored, for as long as there is time: rate times steps decides what is seen, so
the number of steps belongs to every figure. A member at rate 0 is the control: its counts must be the untuned ones.

Legend: R relations, M measures, L languages, as in `gpu_evaluation`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adiabatic_ray.encoders.backbones import Backbone
from adiabatic_ray.encoders.towers import tuned_tower
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.evaluation.evaluate import PreparedTriplets, score_sets
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.statistics.metrics import improvement
from adiabatic_ray.tuning.pack import Pack
from adiabatic_ray.tuning.tune import trainable_names
from adiabatic_ray.tuning.tuning_data import TuningTriplets
from benchmarks.gpu_evaluation import MEASURES, PairCounter
from benchmarks.gpu_material import PairTokens

CONTROL_RATE = 0.0


def measure(
    backbone: Backbone,
    triplets: TuningTriplets,
    validation: TuningTriplets,
    held_out: PreparedTriplets,
    pairs: PairTokens,
    counter: PairCounter,
    trials: Sequence[tuple[float, int]],
    steps_per_epoch: int,
    tune_s: float,
    token_budget: int,
    device: str,
    folder: Path,
) -> dict[str, Any]:
    """Tune, score, and write `rates_curves.parquet` and, after every tower, `rates_scores.parquet`.

    Args:
        backbone: where every trial starts.
        triplets: to tune on.
        validation: to validate on.
        held_out: targeted triplets to score.
        pairs: XNLI's, to score.
        counter: of the same pairs.
        trials: rate and seed of each.
        steps_per_epoch: between two validations.
        tune_s: seconds after which no epoch is begun.
        token_budget: of encoding.
        device: where.
        folder: of the two files.
    """
    members = {f"{rate:.3g} seed {seed}": (rate, seed) for rate, seed in trials}
    members["control"] = CONTROL_RATE, 0
    like = TuningSpec(batches_per_epoch=steps_per_epoch, idle_epochs=None, max_epochs=10**9, keep="final")
    trainable, _ = trainable_names(backbone, like.freeze)
    pack = Pack(backbone, trainable, like, len(members), triplets, validation, token_budget, device)
    curves: list[dict[str, Any]] = []

    def heard(name: str, report: Any) -> None:
        rate, seed = members[name]
        curves.append({"learning_rate": rate, "seed": seed, **asdict(report)})

    for name, (rate, seed) in members.items():
        spec = like.model_copy(update={"learning_rate": rate, "seed": seed})
        pack.join(name, spec, trainable)
    for name, report in pack.start().items():
        heard(name, report)
    started, num_epochs = time.perf_counter(), 0
    while num_epochs == 0 or (time.perf_counter() - started) * (1 + 1 / num_epochs) < tune_s:
        for name, report in pack.run_epoch().items():
            heard(name, report)
        num_epochs += 1
    took_s = time.perf_counter() - started
    _write(folder / "rates_curves.parquet", curves)
    untuned_RMLL, untuned_errors = _scores(backbone, {}, pairs, counter, held_out, token_budget, device)
    rows, scores = [], []
    for name, (rate, seed) in members.items():
        scored_at = time.perf_counter()
        tensors = pack.leave(name).tensors
        errors_RMLL, errors = _scores(backbone, tensors, pairs, counter, held_out, token_budget, device)
        scores += _score_rows(rate, seed, num_epochs * steps_per_epoch, errors_RMLL, untuned_RMLL, pairs, counter)
        _write(folder / "rates_scores.parquet", scores)
        gains = {
            f"{relation}, {measure}, mean %": 100
            * float(np.mean(improvement(untuned_RMLL[row, place], errors_RMLL[row, place])))
            for row, relation in enumerate(counter.relations)
            for place, measure in enumerate(MEASURES)
        }
        held_out_gain = 100 * float(improvement(untuned_errors, errors))
        scored_s = time.perf_counter() - scored_at
        rows.append({"rate": rate, "seed": seed, "held-out SQuAD %": held_out_gain, **gains, "scored in s": scored_s})
        if name == "control":
            control_is_untuned = bool(np.array_equal(errors_RMLL, untuned_RMLL))
    steps = num_epochs * steps_per_epoch
    return {
        "steps": steps,
        "tuned in s, validations included": took_s,
        "ms a trial's step": 1000 * took_s / steps / len(members),
        "trials": len(members),
        "counts of rate 0 are the untuned ones": control_is_untuned,
        "improvement": rows,
    }


def _scores(
    backbone: Backbone,
    tensors: Mapping[str, np.ndarray],
    pairs: PairTokens,
    counter: PairCounter,
    held_out: PreparedTriplets,
    token_budget: int,
    device: str,
) -> tuple[np.ndarray, int]:
    """Errors on XNLI [R, M, L, L], and those on the held-out triplets by cosine; of a diverged tower: everything."""
    if not all(np.isfinite(value).all() for value in tensors.values()):
        shape = (len(counter.relations), len(MEASURES), counter.num_languages, counter.num_languages)
        sizes = np.diff(held_out.positive_offsets_Q1) * np.diff(held_out.negative_offsets_Q1)
        return np.broadcast_to(counter.comparisons_R[:, None, None, None], shape), int(sizes.sum())
    tower = tuned_tower(backbone, tensors, device)
    (counts,) = score_sets(tower, [held_out], token_budget)
    return counter.errors(encode(tower, pairs.queries, token_budget)), int(counts.errors_K[0])


def _score_rows(
    rate: float,
    seed: int,
    num_steps: int,
    errors_RMLL: np.ndarray,
    untuned_RMLL: np.ndarray,
    pairs: PairTokens,
    counter: PairCounter,
) -> list[dict[str, Any]]:
    return [
        {
            "learning_rate": rate,
            "seed": seed,
            "num_steps": num_steps,
            "relation": counter.relations[relation],
            "measure": MEASURES[measure],
            "query_language": str(pairs.languages[query]),
            "passage_language": str(pairs.languages[passage]),
            "errors": int(errors_RMLL[relation, measure, query, passage]),
            "errors_untuned": int(untuned_RMLL[relation, measure, query, passage]),
            "comparisons": int(counter.comparisons_R[relation]),
        }
        for relation, measure, query, passage in np.ndindex(*errors_RMLL.shape)
    ]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")
