"""A trial that wrote its row and was lost before Tune heard of it is not tuned again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adiabatic_ray import results
from adiabatic_ray.folder_lock import held
from adiabatic_ray.on_ray import scheduling
from adiabatic_ray.tuning import saved_states
from tests.planted import Plan, write_planted


def test_its_status_is_reported_and_its_saved_state_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_planted(tmp_path, Plan({1e-8: 0.1, 1e-7: 0.2}))
    reported: list[dict[str, Any]] = []
    monkeypatch.setattr(scheduling, "_report", reported.append)
    trial_id, status = next(iter(results.finished_trials(tmp_path).items()))
    states = tmp_path / "states"
    saved_states.save_state(states, trial_id, saved_states.MemberState({"w": np.zeros(1)}, ()))
    with held(tmp_path, "a driver", pytest.fail):
        scheduling._run_on_ray(
            {"trial": {"trial_id": trial_id}},
            groups={},
            pools=(None, None),  # type: ignore[arg-type]  # neither is asked
            common=("a sweep", tmp_path, "a driver", {}),
        )
    assert reported == [{"status": status.value}]
    assert not saved_states.load_state(states, trial_id)


def test_a_trial_without_a_row_has_no_status(tmp_path: Path) -> None:
    write_planted(tmp_path, Plan({1e-8: 0.1}))
    assert results.status_of(tmp_path, "lr1e-05-none-seed0-0123456789") is None
