"""A trial's settings in the words of the paper's tables, and when a setting is the one that the paper prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from adiabatic_ray.spec import TrialSpec, TuningSpec

from .load import flatten

RATE_TOLERANCE = 0.005
"""Relative: the paper prints rates to three digits, and no two of a table are nearer than a tenth."""
_OPTIMIZERS = {"adamw": "AdamW", "adamax": "Adamax", "adadelta": "Adadelta", "sgd": "SGD"}
_SCHEDULES = {"constant": "none", "linear": "L", "quadratic": "Q"}
"""The paper's names, where they are others than those of `step_rules`."""


def trial_settings(trial: TrialSpec) -> dict[str, Any]:
    """A trial in the words of `PaperRow.settings`, and the rest of what decides its tuning."""
    flat = flatten(trial.model_dump(mode="json", exclude={"evaluation"}))
    tuning = trial.tuning
    return flat | {
        "tuning.freeze": "".join(tuning.freeze.split()).replace("embeddings", "emb"),
        "samples_per_epoch": tuning.batch_size * tuning.batches_per_epoch,
        "momentum": "yes" if _has_momentum(tuning) else "no",
        "tuning.optimizer": _OPTIMIZERS.get(tuning.optimizer, tuning.optimizer),
        "tuning.schedule": _SCHEDULES.get(tuning.schedule, tuning.schedule),
    }


def _has_momentum(tuning: TuningSpec) -> bool:
    return tuning.momentum > 0 if tuning.optimizer == "sgd" else any(tuning.adam_betas)


def varying(settings: Sequence[dict[str, Any]]) -> list[str]:
    """Paths at which the trials differ; of what follows from others (samples an epoch) none."""
    paths = dict.fromkeys(path for one in settings for path in one if path != "samples_per_epoch")
    return [path for path in paths if any(one.get(path) != settings[0].get(path) for one in settings)]


def same_setting(path: str, theirs: Any, ours: Any) -> bool:
    """Whether a trial's setting is the one that the paper prints."""
    if path == "tuning.freeze":
        return "".join(theirs.split()) == str(ours)
    if isinstance(theirs, float) and isinstance(ours, int | float):
        return math.isclose(theirs, ours, rel_tol=RATE_TOLERANCE if path == "tuning.learning_rate" else 1e-9)
    return bool(theirs == ours)


def describe(settings: dict[str, Any]) -> str:
    """Settings in one line, each by the last part of its path; a nameless part (`name`) with the one before."""
    parts = []
    for path, value in settings.items():
        head, _, field = path.rpartition(".")
        parts.append(f"{head if field == 'name' else field}={in_words(value)}")
    return ", ".join(parts)


def in_words(value: Any) -> str:
    """A setting for a reader."""
    if value is None:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) if len(value) <= 4 else f"{len(value)} of them"
    return f"{value:g}" if isinstance(value, float) else str(value) or "nothing"
