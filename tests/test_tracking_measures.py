"""What MLflow gets of a trial, from planted tables."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from adiabatic_ray.on_ray.tracking_measures import final_measures
from tests.planted import HELD_OUT, PAIRS, TUNED, Plan, write_planted

RATE = 5e-8
LAYERS = {
    "embeddings.LayerNorm.weight": (1.0, 1.0, 0.0),
    "encoder.layer.0.output.dense.weight": (2.0, 2.5, 0.3),
    "encoder.layer.0.output.dense.bias": (2.0, 2.0, 0.4),
    "passage_tower.encoder.layer.0.output.dense.bias": (2.0, 2.0, 0.1),
}
"""Norm 2 each, so that a block's relative displacement is the root mean square of its tensors'."""


def _measures(out: Path) -> dict[str, float]:
    (trial,) = write_planted(out, Plan({RATE: 0.1}, layers={RATE: LAYERS})).expand()
    return final_measures(out, trial.trial_id)


def test_how_far_the_tower_went(tmp_path: Path) -> None:
    drift = {name: value for name, value in _measures(tmp_path).items() if name.startswith("drift")}
    assert drift == pytest.approx(
        {
            "drift/l2_change": 2 * 0.5,
            "drift/l2_relative": 0.5 / math.sqrt(3),
            "drift/moved_frac": 0.25 * 2 / 3,
            "drift/max_change": 0.4,
            "drift/passage_tower/l2_change": 0.2,
            "drift/passage_tower/l2_relative": 0.1,
            "drift/passage_tower/moved_frac": 0.25,
            "drift/passage_tower/max_change": 0.1,
            "drift_by_block/embeddings": 0.0,
            "drift_by_block/00": 0.5 / math.sqrt(2),
            "drift_by_block/passage_tower.00": 0.1,
        }
    )


def test_how_far_embeddings_turned(tmp_path: Path) -> None:
    """Three languages with means .99, .98 and .97."""
    cosine = {name: value for name, value in _measures(tmp_path).items() if name.startswith("cosine/")}
    assert cosine == pytest.approx(
        {
            f"cosine/{TUNED}_mean": 0.99,
            f"cosine/{HELD_OUT}_mean": 0.99,
            f"cosine/{PAIRS}_mean": 0.98,
            f"cosine/{PAIRS}_lowest_language": 0.97,
        }
    )


def test_the_scores_stand_beside(tmp_path: Path) -> None:
    measures = _measures(tmp_path)
    assert measures[f"{TUNED}/cosine_improvement"] == pytest.approx(0.5), "planted: half of the errors"
    assert measures[f"{PAIRS}/same-other/distance/mean_improvement"] == pytest.approx(0.1, abs=0.01)
    assert measures[f"{PAIRS}/same-other/cosine/clustered_degraded"] == 0
