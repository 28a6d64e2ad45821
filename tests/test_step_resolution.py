"""What float32 lets a trial's steps move, by hand: weights whose neighbours are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.statistics.drift import drift_rows
from adiabatic_ray.statistics.step_resolution import StepResolution, StepResolutions, by_rate

# Neighbours of numbers in [2^k, 2^(k+1)) are 2^(k-23) apart, below a power of two half of that; a step needs more than
# half a spacing to be seen. At 2e-8: 1 needs 3e-8, 0.5 needs 1.5e-8.
WEIGHTS = {
    "gains": np.full(4, 1.5, dtype=np.float32),
    "matrix": np.array([0.1, -0.1, 0.3, 0.49, 0.6, 0.9], dtype=np.float32),
}


def _of(*trainable: str, **changes: Any) -> StepResolution:
    rules = TuningSpec(**({"learning_rate": 2e-8} | changes))
    return StepResolutions().of("digest", WEIGHTS, trainable or tuple(WEIGHTS), rules)


def test_shares_by_hand() -> None:
    assert _of().movable_frac == pytest.approx(0.4) and _of().num_stuck_tensors == 1
    assert _of("matrix").movable_frac == pytest.approx(4 / 6) and _of("matrix").num_stuck_tensors == 0
    assert _of(learning_rate=1e-7) == StepResolution(1e-7, "float32", 1.0, 0, False)
    assert _of(learning_rate=1e-9).movable_frac == pytest.approx(0.0)


def test_warnings_say_what_is_stuck() -> None:
    text = _of().warning
    assert text is not None and "all but 60% of the weights" in text and "1 tensors" in text and "compensated" in text
    text = _of(learning_rate=1e-9).warning
    assert text is not None and "nothing at all" in text
    assert _of(learning_rate=1e-7).warning is None
    assert _of(learning_rate=0.0).warning is None, "the control moves nothing on purpose"


@pytest.mark.parametrize("precision", ["compensated", "float64"])
def test_precise_steps_lose_nothing(precision: str) -> None:
    found = _of(learning_rate=1e-9, precision=precision, weight_decay=0.1)
    assert (found.movable_frac, found.is_decay_lost, found.warning) == (1.0, False, None)


def test_decay_that_rounds_to_none() -> None:
    """1 - x is 1 in float32 up to x = 2^-25, 2.98e-8."""
    assert _of(learning_rate=1e-7, weight_decay=0.29).is_decay_lost
    assert not _of(learning_rate=1e-7, weight_decay=0.31).is_decay_lost
    assert not _of(learning_rate=1e-7).is_decay_lost, "there is none to be lost"
    text = _of(learning_rate=1e-7, weight_decay=0.1).warning
    assert text is not None and "weight decay does nothing" in text


def test_steps_without_a_bound_are_not_judged() -> None:
    for optimizer in ("sgd", "adadelta", "mine:optimizer"):
        found = _of(optimizer=optimizer)
        assert found.movable_frac is None and found.warning is None


def test_one_row_a_rate_and_precision() -> None:
    trials = [_of(), _of("matrix"), _of(optimizer="sgd"), _of(precision="float64"), _of(learning_rate=0.0)]
    first, second = by_rate(trials)
    assert (first.learning_rate, first.precision, first.num_trials, first.num_unbounded) == (2e-8, "float32", 3, 1)
    assert (first.least_movable_frac, first.most_movable_frac) == (pytest.approx(0.4), pytest.approx(4 / 6))
    assert (first.most_stuck_tensors, second.precision, second.least_movable_frac) == (1, "float64", 1.0)


def test_drift_has_what_rounding_left_out_where_that_is_known() -> None:
    assert [row["l2_lost"] for row in drift_rows(WEIGHTS, WEIGHTS, 1e-8)] == [None, None]
    rows = drift_rows(WEIGHTS, WEIGHTS, 1e-8, {"gains": 1e-9, "matrix": 0.0})
    assert [row["l2_lost"] for row in rows] == [1e-9, 0.0]
