"""Searches on real Ray: trials that are chosen on the way are recorded like any other, and a search can be resumed."""

from __future__ import annotations

from pathlib import Path

import pytest

from adiabatic_ray import results
from adiabatic_ray.changes import with_changes
from adiabatic_ray.orchestration.orchestrator import run_sweep
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.search_spec import BoundarySearch, GainSearch
from adiabatic_ray.spec import SweepSpec
from analysis.load import load_sweep
from tests.listening import Quiet
from tests.small_sweep import small_sweep

pytestmark = pytest.mark.ray


def searching(folder: Path, search: BoundarySearch | GainSearch) -> SweepSpec:
    plain = small_sweep(folder)
    return SweepSpec.model_validate(plain.model_dump() | {"grid": {}, "search": search.model_dump()})


def test_a_search_runs_is_resumed_and_ends(ray_cluster: None, tmp_path: Path) -> None:
    rules = BoundarySearch(lowest_rate=1e-5, highest_rate=1e-1, set="pairs", max_trials=7, seeds=(0, 1))
    spec, out = searching(tmp_path / "inputs", rules), tmp_path / "out"
    openings = [trial.tuning.learning_rate for trial in spec.expand()]
    assert openings == [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]
    first = run_sweep(with_changes(spec, {"search.max_trials": 4}), out, tmp_path / "banks", Quiet())
    assert (first.num_trials, first.num_finished_before) == (4, 0)
    listener = Quiet()
    second = run_sweep(spec, out, tmp_path / "banks", listener)
    assert (second.num_trials, second.num_finished_before) == (7, 4) and len(second.statuses) == 3
    assert {*first.statuses.values(), *second.statuses.values()} <= {TrialStatus.COMPLETE, TrialStatus.DIVERGED}
    stages = [str(event[1]) for event in listener.events if event[0] == "stage"]
    assert sum(text.startswith("next: lr") for text in stages) == 2, "after the opening that was missing"
    assert any(text.startswith("level on pairs, freeze embeddings: ") and "7 trials" in text for text in stages)
    assert sorted(results.read_sweep(out)["trial_ids"]) == sorted(results.finished_trials(out))
    loaded = load_sweep(out)
    assert loaded.completeness.is_whole and len(loaded.trial_ids) == 7 and set(loaded.groups.values()) == {""}
    third = run_sweep(spec, out, tmp_path / "banks", Quiet())
    assert third.num_finished_before == third.num_trials == 7 and not third.statuses


def test_an_optuna_sampler_chooses_rates_and_settings(ray_cluster: None, tmp_path: Path) -> None:
    rules = GainSearch(
        lowest_rate=1e-5, highest_rate=1e-2, set="pairs", gain_set="mine", max_trials=9, parallel=1, sampler="gp"
    )
    spec = searching(tmp_path / "inputs", rules)
    spec = with_changes(spec, {"grid.tuning.freeze": ("embeddings", "emb, B0")})
    run_sweep(spec, tmp_path / "out", tmp_path / "banks", Quiet())
    loaded = load_sweep(tmp_path / "out")
    assert len(loaded.trials) == 9 and loaded.completeness.is_whole
    assert len(spec.expand()) == 8, "the openings; one was chosen"
    assert set(loaded.groups.values()) == {"freeze=embeddings", "freeze=emb, B0"}
