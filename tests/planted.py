"""Writes results folders with a planted curve, through `adiabatic_ray.results`, for the tests of `analysis`.

Every number is consistent with every other because errors are counted, not made up: similarity scores are drawn, the
tuned tower's positives are shifted, and errors by positive and by negative follow. The shift that gives a wanted
improvement is known in closed form for the population: with negatives N(0, 1) and positives N(m, 1) PND is
Phi(-m / sqrt 2), so the planted curve is the truth that an estimate aims at, and `exact=True` moves the shift until the
drawn texts themselves show the wanted improvement as nearly as whole errors allow.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm

from adiabatic_ray import results, schemas
from adiabatic_ray.sources import XNLI_LANGUAGES, PairFile, TripletFile
from adiabatic_ray.spec import BackboneSpec, EvaluationSpec, SweepSpec, TrialSpec, TuningSpec
from adiabatic_ray.statistics import metrics
from adiabatic_ray.statistics.blocks import block_of
from adiabatic_ray.statistics.counts import MEASURES, RANK_MEASURES, Counts, influence_rows, no_ranks, untuned_rows
from adiabatic_ray.statistics.score_tables import aggregate_rows, score_rows

UNTUNED_ID = "untuned-planted"
RELATION = "same-other"
TUNED, HELD_OUT, PAIRS = "questions", "held-out", "names"
MEAN_POSITIVE = 1.2
"""Mean score of a positive; PND of the untuned tower is Phi(-1.2 / sqrt 2) = 0.198 in the population."""

Errors = tuple[NDArray[np.int64], NDArray[np.int64]]
"""By positive and by negative, [K, C]."""


@dataclass(frozen=True)
class Plan:
    """What to plant.

    `improvement` maps a rate to the improvement of the mean PND over language pairs, None: its trials diverge.
    """

    improvement: Mapping[float, float | None]
    seeds: Sequence[int] = (0,)
    seed_sd: float = 0.0
    """Standard deviation of a trial's own deviation from the planted improvement; a trial of rate 0 has none."""
    num_languages: int = 3
    num_clusters: int = 40
    change: Mapping[tuple[float, int], str] = field(default_factory=dict)
    """(rate, seed) -> DIVERGED, FAILED, MISSING, UNTUNED (no epoch improved) or UNMOVED (no weight differs)."""
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Further axes of the grid, dotted path -> values; every group shows the same curve."""
    text_seed: int = 0
    exact: bool = True
    has_pairs: bool = True
    layers: Mapping[float, Mapping[str, tuple[float, float, float]]] = field(default_factory=dict)
    """Rate -> tensor -> largest weight untuned and tuned, displacement relative to the norm; at other rates one of two
    tensors moves."""
    pinned: bool = False
    """Ids of pinned trials, as the orchestrator writes them, while the specification stays as it was given."""


def write_planted(out: Path, plan: Plan) -> SweepSpec:
    """Write the folder and return the specification."""
    spec = sweep_spec(plan)
    trials = spec.expand()
    if plan.pinned:
        digest = {"encoder_digest": "0" * 64}
        pinned = [t.model_copy(update={"backbone": t.backbone.model_copy(update=digest)}) for t in trials]
    else:
        pinned = trials
    results.write_sweep(out, spec.model_dump(mode="json"), [t.trial_id for t in pinned], {"commit": "planted"})
    texts = Texts(plan)
    results.write_table(out, "untuned", UNTUNED_ID, untuned_rows(UNTUNED_ID, texts.untuned_counts()))
    rng = np.random.default_rng([plan.text_seed, 7])
    for trial in pinned:
        rate, seed = trial.tuning.learning_rate, trial.tuning.seed
        wanted = plan.improvement[rate]
        status = plan.change.get((rate, seed), "DIVERGED" if wanted is None else "COMPLETE")
        noise = plan.seed_sd * float(rng.standard_normal())
        if status == "MISSING":
            continue
        if status == "FAILED":
            failure = {"trial_id": trial.trial_id, "error": "lost node"}
            results.write_json(out / "failures" / f"{trial.trial_id}.json", failure)
            continue
        write_trial(out, spec.name, trial, plan, texts, status, 0.0 if wanted is None else wanted + noise)
    return spec


def write_trial(
    out: Path, sweep: str, trial: TrialSpec, plan: Plan, texts: Texts, status: str, improvement: float
) -> None:
    """Every table of one finished trial."""
    trial_id, is_still = trial.trial_id, status in _STILL or trial.tuning.learning_rate == 0
    if status != "DIVERGED":
        compared = trial_id, texts.untuned_counts(), texts.tuned_counts(0.0 if is_still else improvement)
        results.write_table(out, "scores", trial_id, score_rows(*compared))
        results.write_table(out, "influence", trial_id, influence_rows(*compared))
        results.write_table(out, "cosines", trial_id, _cosine_rows(trial_id, plan))
        results.write_table(out, "aggregates", trial_id, aggregate_rows(*compared))
    results.write_table(out, "curves", trial_id, [_curve_row(trial_id)])
    layers = plan.layers.get(trial.tuning.learning_rate, UNMOVED if is_still else MOVED)
    results.write_table(out, "drift", trial_id, _drift_rows(trial_id, layers))
    results.write_table(out, "trials", trial_id, [_trial_row(sweep, trial, status)])


def sweep_spec(plan: Plan) -> SweepSpec:
    """Specification of the planted sweep: rates, then seeds, then further axes."""
    languages = XNLI_LANGUAGES[: plan.num_languages]
    pairs = PairFile(name=PAIRS, languages=languages, positive_label="same", path="names.jsonl")
    triplets = TripletFile(name=TUNED, path="questions.jsonl"), TripletFile(name=HELD_OUT, path="held-out.jsonl")
    trial = TrialSpec(
        backbone=BackboneSpec(name="planted"),
        source=TripletFile(name=TUNED, path="questions.jsonl"),
        tuning=TuningSpec(max_epochs=1),
        evaluation=EvaluationSpec(sets=(*triplets, pairs) if plan.has_pairs else triplets),
    )
    grid = {"tuning.learning_rate": tuple(plan.improvement), "tuning.seed": tuple(plan.seeds), **plan.axes}
    return SweepSpec(name="planted", question="Is the planted boundary found?", trial=trial, grid=grid)


class Texts:
    """Drawn scores of one set of texts under the untuned tower, and rows for any improvement."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        rng = np.random.default_rng(plan.text_seed)
        names = XNLI_LANGUAGES[: plan.num_languages]
        self.language_pairs = list(itertools.product(names, names))
        num_pairs, num_clusters = len(self.language_pairs), plan.num_clusters
        # A cluster's positive and negative share a part, in all language pairs: premises are easy or hard everywhere.
        shared_C = np.sqrt(0.5) * rng.standard_normal(num_clusters)
        own = np.sqrt(0.5) * rng.standard_normal((2, num_pairs, num_clusters))
        self.positives_KC, self.negatives_KC = MEAN_POSITIVE + shared_C + own[0], shared_C + own[1]
        self.untuned = self.count(0.0)
        self.triplet_errors_C = (rng.random(num_clusters) < 0.4).astype(np.int64) * 2

    def count(self, shift: float) -> Errors:
        """Errors by positive and by negative [K, C] when every positive's score falls by `shift`."""
        counted = [
            metrics.count_errors(positives_C - shift, negatives_C)
            for positives_C, negatives_C in zip(self.positives_KC, self.negatives_KC, strict=True)
        ]
        return np.stack([one[0] for one in counted]), np.stack([one[1] for one in counted])

    def tuned(self, improvement: float) -> Errors:
        """Counts of a tower whose improvement of the mean PND is as wanted."""
        shift = population_shift(improvement)
        if self.plan.exact and improvement != 0:
            shift = float(brentq(lambda x: self.improvement(self.count(x)) - improvement, -2, 4, xtol=1e-6))
        return self.count(shift)

    def improvement(self, tuned: Errors) -> float:
        """Improvement of the mean PND over language pairs, equation 1."""
        return float(1 - tuned[0].sum() / self.untuned[0].sum())

    def counts(self, errors: Errors, triplet_errors: Mapping[str, NDArray[np.int64]]) -> list[Counts]:
        """Every set as the evaluation would count it; both measures alike."""
        found = []
        if self.plan.has_pairs:
            keys = [(RELATION, measure, *languages) for measure in MEASURES for languages in self.language_pairs]
            by_positive, by_negative = (np.concatenate([one] * len(MEASURES)).astype(np.int32) for one in errors)
            sizes = np.ones_like(by_positive)
            arrays = by_positive, by_negative, sizes, sizes, no_ranks(len(keys))
            found.append(Counts(PAIRS, "pairs", tuple(keys), *arrays))
        for name, errors_C in triplet_errors.items():
            by_query = np.stack([errors_C] * len(MEASURES)).astype(np.int32)
            none, ones = np.zeros((len(MEASURES), 0), np.int32), np.ones_like(by_query)
            ranks = np.stack([1 / (1 + by_query)] * len(RANK_MEASURES), axis=1)
            keys = [("positive-negative", measure, "", "") for measure in MEASURES]
            found.append(Counts(name, "triplets", tuple(keys), by_query, none, ones, 5 * ones, ranks))
        return found

    def untuned_counts(self) -> list[Counts]:
        """The untuned tower."""
        return self.counts(self.untuned, dict.fromkeys((TUNED, HELD_OUT), self.triplet_errors_C))

    def tuned_counts(self, improvement: float) -> list[Counts]:
        """A tuned tower; the tuned set has half the errors in every cluster, unless nothing was tuned."""
        tuned_set = self.triplet_errors_C // (2 if improvement != 0 else 1)
        return self.counts(self.tuned(improvement), {TUNED: tuned_set, HELD_OUT: self.triplet_errors_C})


def population_shift(improvement: float) -> float:
    """Fall of the positives' scores that gives this improvement when there are infinitely many texts."""
    untuned = norm.cdf(-MEAN_POSITIVE / np.sqrt(2))
    return float(MEAN_POSITIVE + np.sqrt(2) * norm.ppf(untuned * (1 - improvement)))


_STILL = {"UNTUNED", "UNMOVED"}
TUNING_COLUMNS = set(TuningSpec.model_fields) & set(schemas.TABLES["trials"].names)


UNMOVED = {"norm.weight": (1.0, 1.0, 0.0), "dense.weight": (1.0, 1.0, 0.0)}
MOVED = UNMOVED | {"dense.weight": (1.0, 1.5, 0.5)}


def _drift_rows(trial_id: str, layers: Mapping[str, tuple[float, float, float]]) -> list[dict[str, Any]]:
    """Tensors of 50 weights and norm 2; of those that go anywhere a quarter of the weights move."""
    return [
        {
            "trial_id": trial_id,
            "tensor": name,
            "block": block_of(name),
            "num_weights": 50,
            "movable_frac": 0.5,
            "moved_frac": 0.25 if relative > 0 else 0.0,
            "max_change": relative,
            "l2_change": 2 * relative,
            "l2_relative": relative,
            "l2_lost": None,
            "l2_untuned": 2.0,
            "largest_untuned": before,
            "largest_tuned": after,
        }
        for name, (before, after, relative) in layers.items()
    ]


def _cosine_rows(trial_id: str, plan: Plan) -> list[dict[str, Any]]:
    """Mean cosines of .99 for triplet sets; for labelled pairs .99, .98, ... language after language."""
    languages = XNLI_LANGUAGES[: plan.num_languages] if plan.has_pairs else ()
    means = [(TUNED, "", 0.99), (HELD_OUT, "", 0.99)]
    means += [(PAIRS, language, 1 - 0.01 * place) for place, language in enumerate(languages, start=1)]
    return [
        {
            "trial_id": trial_id,
            "set": name,
            "query_language": language,
            "num_texts": 32,
            "mean_cosine": mean,
            "min_cosine": mean - 0.1,
        }
        for name, language, mean in means
    ]


def _curve_row(trial_id: str) -> dict[str, Any]:
    return {
        "trial_id": trial_id,
        "epoch": 0,
        "num_steps": 0,
        "train_loss": np.nan,
        "validation_loss": 0.05,
        "validation_errors": 10,
        "num_validation": 100,
        "improved": False,
        "elapsed_s": 0.0,
        "finished_at": datetime(2026, 1, 1, tzinfo=UTC),
    }


def _trial_row(sweep: str, trial: TrialSpec, status: str) -> dict[str, Any]:
    tuning, is_diverged = trial.tuning, status == "DIVERGED"
    return {
        "trial_id": trial.trial_id,
        "sweep": sweep,
        "status": "DIVERGED" if is_diverged else "COMPLETE",
        **tuning.model_dump(include=TUNING_COLUMNS),
        "backbone": trial.backbone.name,
        "encoder_digest": "0" * 64,
        "untuned_id": UNTUNED_ID,
        "num_trainable": 100,
        "num_frozen": 10,
        "num_epochs": 1,
        "num_steps": 1000,
        "kept_epoch": 0 if status == "UNTUNED" else 1,
        "stopped_by": "diverged" if is_diverged else "max_epochs",
        "queue_s": 1.5,
        "load_s": 0.5,
        "bank_s": 2.0,
        "tune_s": 1.0,
        "evaluate_s": 1.0,
        "write_s": 0.25,
        "peak_memory_bytes": 1,
        "started_at": datetime(2026, 1, 1, tzinfo=UTC),
        "finished_at": datetime(2026, 1, 1, tzinfo=UTC),
        "spec_json": trial.model_dump_json(),
        "provenance_json": "{}",
    }
