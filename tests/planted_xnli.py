"""A results folder with the look of a real sweep: XNLI in up to 15 languages, both relations, English sets, blocks.

What `planted` writes is exact and small; this is for the eye and for the clock. Languages far from English break
first, e-c before e-n, and the tuned set gains all the while, as in the paper's Figure 2; sizes are free. A trial's
tables are made once for each rate and `num_variants` seeds, and copied under the ids of further seeds and groups:
scoring 225 pairs of 1,670 premises takes seconds, and a benchmark wants 300 trials.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from adiabatic_ray import results
from adiabatic_ray.schemas import TABLES
from adiabatic_ray.sources import XNLI_LANGUAGES, TripletFile, Xnli
from adiabatic_ray.spec import PACKAGED_E5, EvaluationSpec, SweepSpec, TrialSpec, TuningSpec
from adiabatic_ray.statistics import metrics
from adiabatic_ray.statistics.counts import MEASURES, RANK_MEASURES, Counts, influence_rows, no_ranks, untuned_rows
from adiabatic_ray.statistics.score_tables import aggregate_rows, score_rows
from tests.planted import TUNING_COLUMNS

UNTUNED_ID = "untuned-xnli"
RELATIONS = {"entailment-neutral": 1.6, "entailment-contradiction": 2.1}
"""Relation -> mean distance of positives from negatives, in standard deviations."""
FAR = {"sw": 2.2, "ur": 1.7, "th": 1.6, "hi": 1.4, "zh": 1.3, "ar": 1.2, "tr": 1.2, "en": 0.2}
"""How much sooner a language breaks; others: 1."""


@dataclass(frozen=True)
class Look:
    """What the folder holds."""

    rates: Sequence[float] = (1e-8, 2e-8, 4e-8, 7e-8, 1e-7, 2e-7, 4e-7)
    seeds: Sequence[int] = (0, 1)
    num_variants: int = 2
    """Seeds with tables of their own."""
    num_languages: int = 15
    num_clusters: int = 300
    boundary: float = 8e-8
    """Where a language at the middle distance begins to lose."""
    freeze: Mapping[str, float] = field(default_factory=lambda: {"embeddings": 1.0})
    """Freeze plan -> factor on the boundary."""
    name: str = "planted-xnli"
    question: str = "Where does the adiabatic regime end for E5 with the embedding block frozen?"
    changes: Mapping[tuple[float, int], str] = field(default_factory=dict)
    """(rate, seed) -> DIVERGED, FAILED, MISSING."""
    commits: Sequence[str] = ("0123456789abcdef0123456789abcdef01234567",)
    """Of the trials, in turn."""


def write_xnli(out: Path, look: Look) -> SweepSpec:
    """Write the folder and return the specification."""
    spec = specification(look)
    trials = spec.expand()
    provenance = {
        "commit": look.commits[0],
        "versions": {"adiabatic_ray": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"},
        "argv": ["jobs/run_sweep.py", "sweeps/learning_rate.py", "--out", str(out)],
        "host": "vm",
    }
    results.write_sweep(out, spec.model_dump(mode="json"), [trial.trial_id for trial in trials], provenance)
    texts = _Texts(look)
    results.write_table(out, "untuned", UNTUNED_ID, untuned_rows(UNTUNED_ID, texts.untuned))
    made: dict[tuple[float, int], str] = {}
    for number, trial in enumerate(trials):
        rate, seed, trial_id = trial.tuning.learning_rate, trial.tuning.seed, trial.trial_id
        status = look.changes.get((rate, seed), "COMPLETE")
        if status == "FAILED":
            results.write_json(out / "failures" / f"{trial_id}.json", {"trial_id": trial_id, "error": "lost node"})
        if status in {"FAILED", "MISSING"}:
            continue
        speed = rate / (look.boundary * look.freeze[trial.tuning.freeze])
        if status == "COMPLETE":
            key = speed, seed % look.num_variants
            if key in made:
                _copy(out, made[key], trial_id)
            else:
                made[key] = trial_id
                compared = trial_id, texts.untuned, texts.tuned(speed, key[1])
                for table, rows in (
                    ("scores", score_rows),
                    ("aggregates", aggregate_rows),
                    ("influence", influence_rows),
                ):
                    results.write_table(out, table, trial_id, rows(*compared))
        results.write_table(out, "curves", trial_id, _curve_rows(trial_id, speed))
        results.write_table(out, "drift", trial_id, _drift_rows(trial, rate))
        commit = look.commits[number % len(look.commits)]
        results.write_table(out, "trials", trial_id, [_trial_row(look, trial, status, commit, number)])
    return spec


def specification(look: Look) -> SweepSpec:
    """Rates, then seeds, then freeze plans."""
    sets = (
        TripletFile(name="msmarco", path="msmarco.jsonl"),
        TripletFile(name="arxiv-title", path="arxiv-title.jsonl"),
        Xnli(languages=XNLI_LANGUAGES[: look.num_languages]),
    )
    trial = TrialSpec(
        backbone=PACKAGED_E5,
        source=sets[0],
        tuning=TuningSpec(max_epochs=3),
        evaluation=EvaluationSpec(sets=sets),
    )
    grid = {
        "tuning.learning_rate": tuple(look.rates),
        "tuning.seed": tuple(look.seeds),
        "tuning.freeze": tuple(look.freeze),
    }
    return SweepSpec(name=look.name, question=look.question, trial=trial, grid=grid)


class _Texts:
    """Drawn scores of positives and negatives under the untuned tower."""

    def __init__(self, look: Look) -> None:
        names = XNLI_LANGUAGES[: look.num_languages]
        self.pairs = list(itertools.product(names, names))
        self.num_clusters = look.num_clusters
        rng = np.random.default_rng(0)
        shared_C = np.sqrt(0.5) * rng.standard_normal(look.num_clusters)
        self.scores = {
            relation: shared_C + np.sqrt(0.5) * rng.standard_normal((len(self.pairs), 2, look.num_clusters))
            for relation in RELATIONS
        }
        self.english = {name: rng.random(look.num_clusters) < 0.3 for name in ("msmarco", "arxiv-title")}
        self.untuned = self._counts(lambda relation, place: 0.0, lambda name, errors: errors)

    def tuned(self, speed: float, variant: int) -> list[Counts]:
        """A tower that was tuned at `speed` times the rate of the boundary."""
        rng = np.random.default_rng([variant, int(1e6 * speed)])

        def shift(relation: str, place: int) -> np.ndarray:
            query, passage = self.pairs[place]
            far = 0.5 * (FAR.get(query, 1.0) + FAR.get(passage, 1.0)) * (1.0 if "neutral" in relation else 1.4)
            gain = 0.012 * min(speed, 1.0) - 0.02 * far * max(speed * far - 0.6, 0.0) ** 1.2
            wobble = 0.02 * min(speed, 3.0) ** 0.5
            moved: np.ndarray = gain + 0.002 * rng.standard_normal() + wobble * rng.standard_normal(self.num_clusters)
            return moved

        def english(name: str, errors_C: np.ndarray) -> np.ndarray:
            share = 0.12 * min(speed, 2.5) if name == "msmarco" else 0.05 * min(speed, 1.0) - 0.3 * max(speed - 1.5, 0)
            lost_C = rng.random(len(errors_C)) < max(-share, 0.0) * 0.3
            return (errors_C & (rng.random(len(errors_C)) >= max(share, 0.0))) | lost_C

        return self._counts(shift, english)

    def _counts(self, shift: Any, english: Any) -> list[Counts]:
        keys, sides = [], ([], [])  # type: ignore[var-annotated]
        for measure in MEASURES:
            for relation, distance in RELATIONS.items():
                for place, pair in enumerate(self.pairs):
                    positives_C, negatives_C = self.scores[relation][place]
                    errors = metrics.count_errors(positives_C + distance + shift(relation, place), negatives_C)
                    for side, counted in zip(sides, errors, strict=True):
                        side.append(counted)
                    keys.append((relation, measure, *pair))
        by_positive, by_negative = (np.stack(side).astype(np.int32) for side in sides)
        ones = np.ones_like(by_positive)
        found = [Counts("xnli", "pairs", tuple(keys), by_positive, by_negative, ones, ones, no_ranks(len(keys)))]
        for name, errors_C in self.english.items():
            by_query = np.stack([english(name, errors_C)] * len(MEASURES)).astype(np.int32)
            ranks = np.stack([1 / (1 + by_query)] * len(RANK_MEASURES), axis=1)
            named = tuple(("positive-negative", measure, "", "") for measure in MEASURES)
            none, one = np.zeros((len(MEASURES), 0), np.int32), np.ones_like(by_query)
            found.insert(-1, Counts(name, "triplets", named, by_query, none, one, one, ranks))
        return found


def _copy(out: Path, source: str, trial_id: str) -> None:
    for table in ("scores", "aggregates", "influence"):
        rows = results.read_table(out, table, [source]).to_pandas()
        rows["trial_id"] = trial_id
        _write_frame(out, table, trial_id, rows)


def _write_frame(out: Path, table: str, trial_id: str, rows: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pa.Table.from_pandas(rows, schema=TABLES[table], preserve_index=False)
    pq.write_table(content.replace_schema_metadata(TABLES[table].metadata), results.table_path(out, table, trial_id))


def _curve_rows(trial_id: str, speed: float) -> list[dict[str, Any]]:
    return [
        {
            "trial_id": trial_id,
            "epoch": epoch,
            "num_steps": 1000 * epoch,
            "train_loss": np.nan if epoch == 0 else 0.06 / (1 + speed * epoch),
            "validation_loss": 0.05 / (1 + 0.1 * speed * epoch),
            "validation_errors": 100 - epoch,
            "num_validation": 4200,
            "improved": epoch > 0,
            "elapsed_s": 300.0 * epoch,
            "finished_at": datetime(2026, 1, 1, tzinfo=UTC),
        }
        for epoch in range(4)
    ]


def _drift_rows(trial: TrialSpec, rate: float) -> list[dict[str, Any]]:
    names = [
        f"encoder.layer.{block}.{part}.weight"
        for block in range(12)
        for part in ("attention.self.query", "intermediate.dense", "output.dense")
    ]
    rows = []
    for number, name in enumerate(names):
        movable = float(1 / (1 + (3e-9 * (1 + number / 40) / rate) ** 1.5))
        change = rate * 4e5 * (1 + number / 20) * (1.5 if "output" in name else 1.0)
        known = {
            "trial_id": trial.trial_id,
            "tensor": name,
            "num_weights": 147_456,
            "movable_frac": movable,
            "moved_frac": 0.9 * movable,
            "max_change": change / 20,
            "l2_change": change,
            "l2_lost": None,
            "l2_untuned": 20.0,
            "block": str(number // 3),
            "l2_relative": change / 20,
            "largest_untuned": 1.0,
            "largest_tuned": 1.0 + change / 20,
        }
        rows.append({column: known[column] for column in TABLES["drift"].names})
    return rows


def _trial_row(look: Look, trial: TrialSpec, status: str, commit: str, number: int) -> dict[str, Any]:
    begin = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=20 * number)
    is_diverged = status == "DIVERGED"
    return {
        "trial_id": trial.trial_id,
        "sweep": look.name,
        "status": status,
        **trial.tuning.model_dump(include=TUNING_COLUMNS),
        "backbone": trial.backbone.name,
        "encoder_digest": "0" * 64,
        "untuned_id": UNTUNED_ID,
        "num_trainable": 21_000_000,
        "num_frozen": 96_000_000,
        "num_epochs": 3,
        "num_steps": 3000,
        "kept_epoch": 3,
        "stopped_by": "diverged" if is_diverged else "max_epochs",
        "queue_s": 1.5,
        "load_s": 0.5,
        "bank_s": 2.0,
        "tune_s": 900.0 + number,
        "evaluate_s": 120.0 + number,
        "write_s": 0.25,
        "peak_memory_bytes": 1_300_000_000,
        "started_at": begin,
        "finished_at": begin + timedelta(minutes=17),
        "spec_json": trial.model_dump_json(),
        "provenance_json": f'{{"commit": "{commit}", "host": "vm"}}',
    }
