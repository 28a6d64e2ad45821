"""Packs on real Ray: trials that lease slots, and a tuner that is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from adiabatic_ray import results
from adiabatic_ray.changes import with_changes
from adiabatic_ray.evaluation.prepare import Loader
from adiabatic_ray.events import EpochEvent
from adiabatic_ray.orchestration.orchestrator import pin_trials, run_sweep
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.spec import SweepSpec
from tests.listening import Quiet
from tests.same_rows import MEASURED
from tests.small_sweep import small_sweep

pytestmark = pytest.mark.ray


class Killer(Quiet):
    """Kills the process that tunes when the first trial has finished its second epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.killed: list[int] = []

    def epoch_finished(self, event: EpochEvent) -> None:
        super().epoch_finished(event)
        if event.epoch == 2 and not self.killed:
            for process in psutil.Process().children(recursive=True):
                if process.name().startswith("ray::Tuner"):
                    os.kill(process.pid, signal.SIGKILL)
                    self.killed.append(process.pid)


@pytest.fixture(scope="module")
def inputs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inputs")


def _sweep(inputs_folder: Path, **cluster: object) -> SweepSpec:
    spec = small_sweep(inputs_folder, rates=(0.0, 1e-4, 1e-3), seeds=(0, 1))
    changes = {"trial.tuning.max_epochs": 4}
    return with_changes(spec, changes | {f"cluster.{name}": value for name, value in cluster.items()})


def _table(out: Path, table: str, spec: SweepSpec) -> pa.Table:
    content = results.read_table(out, table, [trial.trial_id for trial in pin_trials(spec, Loader())])
    return content.drop_columns([name for name in content.column_names if name in MEASURED])


def test_packs_give_what_trials_give_one_by_one(ray_cluster: None, inputs_folder: Path, tmp_path: Path) -> None:
    alone, packed = _sweep(inputs_folder), _sweep(inputs_folder, tuners=2, pack_size=2)
    for name, spec in (("alone", alone), ("packed", packed)):
        outcome = run_sweep(spec, tmp_path / name, tmp_path / "banks", Quiet())
        assert set(outcome.statuses.values()) == {TrialStatus.COMPLETE} and len(outcome.statuses) == 6
    for table, exact in (
        ("trials", ("status", "stopped_by", "num_steps", "kept_epoch")),
        ("curves", ("epoch", "improved")),
    ):
        one, other = (_table(tmp_path / name, table, alone) for name in ("alone", "packed"))
        assert one.select(exact).equals(other.select(exact)), table
    one, other = (_table(tmp_path / name, "curves", alone).to_pandas() for name in ("alone", "packed"))
    np.testing.assert_allclose(one["validation_loss"], other["validation_loss"], rtol=1e-4)
    one, other = (_table(tmp_path / name, "scores", alone).to_pandas() for name in ("alone", "packed"))
    control = one["trial_id"].str.startswith("lr0-")
    assert control.sum() and (other["errors_tuned"] == other["errors_untuned"])[control].all()
    # Rounding may turn a near tie; more than a handful of comparisons it does not turn.
    assert (one["errors_tuned"] - other["errors_tuned"]).abs().max() <= 2


def test_a_killed_tuner_costs_an_epoch_and_changes_nothing(
    ray_cluster: None, inputs_folder: Path, tmp_path: Path
) -> None:
    spec = _sweep(inputs_folder, checkpoint_every_s=0)
    killer = Killer()
    for name, listener in (("whole", Quiet()), ("killed", killer)):
        outcome = run_sweep(spec, tmp_path / name, tmp_path / "banks", listener)
        assert set(outcome.statuses.values()) == {TrialStatus.COMPLETE} and len(outcome.statuses) == 6
    assert len(killer.killed) == 1
    for table in ("trials", "curves", "scores", "influence", "cosines", "drift"):
        one, other = (_table(tmp_path / name, table, spec).to_pandas() for name in ("whole", "killed"))
        assert one.equals(other), table
    assert not list((tmp_path / "killed" / "states").glob("*.safetensors"))
