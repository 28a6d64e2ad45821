"""Whole sweeps on real Ray: the same rows with and without it, resuming after a kill, faults, MLflow."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from adiabatic_ray import results
from adiabatic_ray.changes import with_changes
from adiabatic_ray.encoders.tower_files import load_changed
from adiabatic_ray.encoders.towers import changed_tensors, tuned_tower
from adiabatic_ray.evaluation import evaluate
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.evaluation.prepare import Loader, prepare
from adiabatic_ray.on_ray import tracking
from adiabatic_ray.on_ray.devices import use_threads
from adiabatic_ray.on_ray.evaluators import share_sets
from adiabatic_ray.orchestration import orchestrator
from adiabatic_ray.orchestration.orchestrator import pin_trials, run_sweep
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.spec import SweepSpec, TrialSpec
from adiabatic_ray.statistics.counts import Counts
from adiabatic_ray.trial import Report, TrialContext, run_trial
from adiabatic_ray.tuning.news import Tuned
from adiabatic_ray.tuning.tune import tune
from tests.listening import Quiet
from tests.same_rows import assert_same_tables
from tests.small_sweep import small_sweep

pytestmark = pytest.mark.ray
CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def inputs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inputs")


def _without_ray(spec: SweepSpec, out: Path) -> None:
    use_threads(spec.cluster.tuner_cpus)  # float sums depend on how many threads share them
    loader = Loader()
    for trial in pin_trials(spec, loader):
        inputs = loader.load(trial)
        banks = [
            encode(inputs.backbone.build_tower(), inputs.backbone.tokenize(texts, "passage: "), inputs.token_budget)
            for texts in inputs.bank_texts()
        ]
        kit = prepare(inputs, banks)
        untuned = evaluate.score_sets(inputs.backbone.build_tower(), kit.evaluation, inputs.token_budget)
        (stored,) = {path.stem for path in (out.parent / "one" / "untuned").glob("*.parquet")}
        context = TrialContext(spec.name, out, stored, untuned, 0.0, {})

        def score(changed: dict[str, np.ndarray]) -> list[Counts]:
            return evaluate.score_sets(tuned_tower(inputs.backbone, changed), kit.evaluation, inputs.token_budget)  # noqa: B023

        def tuned(trial: TrialSpec, report: Report) -> Tuned:
            return tune(inputs.backbone, trial.tuning, kit.tuning, kit.validation, inputs.token_budget, report)  # noqa: B023

        run_trial(trial, context, tuned, score, lambda report: None)


def test_one_actor_three_actors_and_no_ray_give_identical_rows(
    ray_cluster: None, inputs_folder: Path, tmp_path: Path
) -> None:
    spec = small_sweep(inputs_folder)
    handlers = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGUSR1)]
    for name, evaluators in (("one", 1), ("three", 3)):
        sized = with_changes(spec, {"cluster.evaluators": evaluators})
        outcome = run_sweep(sized, tmp_path / name, tmp_path / f"banks-{name}", Quiet())
        assert set(outcome.statuses.values()) == {TrialStatus.COMPLETE} and len(outcome.statuses) == 3
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGUSR1)] == handlers, "ctrl-C still interrupts"
    assert_same_tables(tmp_path / "one", tmp_path / "three")
    _without_ray(spec, tmp_path / "none")
    assert_same_tables(tmp_path / "one", tmp_path / "none")


def test_rate_zero_changes_nothing_and_frozen_tensors_stay(
    ray_cluster: None, inputs_folder: Path, tmp_path: Path
) -> None:
    spec = small_sweep(inputs_folder, rates=(0.0, 1e-2))
    run_sweep(spec, tmp_path / "out", tmp_path / "banks", Quiet())
    control, tuned = pin_trials(spec, Loader())
    backbone = Loader().load(tuned).backbone
    named = backbone.spec.name, backbone.encoder_digest
    assert load_changed(tmp_path / "out" / "towers" / control.trial_id, *named) == {}
    changed = load_changed(tmp_path / "out" / "towers" / tuned.trial_id, *named)
    assert changed and not any(name.startswith("embeddings.") for name in changed)
    assert changed_tensors(backbone, changed).keys() == changed.keys()
    scores = results.read_table(tmp_path / "out", "scores", [control.trial_id]).to_pandas()
    assert (scores["errors_tuned"] == scores["errors_untuned"]).all() and (scores["clustered_p"] == 1).all()
    means = [results.read_table(tmp_path / "out", "cosines", [one.trial_id])["mean_cosine"] for one in (control, tuned)]
    assert set(means[0].to_pylist()) == {1.0} and max(means[1].to_pylist()) < 1


def test_a_lower_precision_is_told_and_a_rate_of_zero_still_changes_nothing(
    ray_cluster: None, inputs_folder: Path, tmp_path: Path
) -> None:
    """Untuned and tuned tower are encoded alike; packs of two are scored together."""
    changes = {"trial.evaluation.precision": "bf16", "cluster.pack_size": 2}
    spec, listener = with_changes(small_sweep(inputs_folder, rates=(0.0, 1e-2)), changes), Quiet()
    run_sweep(spec, tmp_path / "out", tmp_path / "banks", listener)
    (path,) = (tmp_path / "out" / "precision").glob("*.json")
    told = json.loads(path.read_text())
    # 60 queries with 1 or 2 positives and 2 or 3 negatives: 40 are evaluated, in two measures; 9 pairs of languages,
    # two relations and two measures of 20 x 20.
    assert told["precision"] == "bf16" and told["num_comparisons"] == 2 * 20 * (1 * 2 + 2 * 3) + 9 * 2 * 2 * 20 * 20
    assert 0 < told["num_changed"] < told["num_comparisons"] // 20
    said = [event[1] for event in listener.events if event[0] == "stage"]
    assert any(f"bf16 changes {told['num_changed']:,} of" in str(text) for text in said)
    control, _ = pin_trials(spec, Loader())
    scores = results.read_table(tmp_path / "out", "scores", [control.trial_id]).to_pandas()
    assert (scores["errors_tuned"] == scores["errors_untuned"]).all()
    assert set(results.read_table(tmp_path / "out", "cosines", [control.trial_id])["min_cosine"].to_pylist()) == {1.0}


def test_groups_that_are_scored_on_the_same_sets_share_them(
    ray_cluster: None, inputs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tuned on other texts, scored on the same: one copy of the sets, one untuned tower, the rows of a sweep alone."""
    shared: list[object] = []

    def counting(*arguments: object) -> object:
        shared.append(share_sets(*arguments))  # type: ignore[arg-type]
        return shared[-1]

    monkeypatch.setattr(orchestrator, "share_sets", counting)
    spec = small_sweep(inputs_folder, rates=(1e-3,))
    both = with_changes(spec, {"grid.source.num_tune": [60, 50]})
    outcome = run_sweep(both, tmp_path / "both", tmp_path / "banks", Quiet())
    assert set(outcome.statuses.values()) == {TrialStatus.COMPLETE} and len(outcome.statuses) == 2
    assert len(shared) == 1 and len(list((tmp_path / "both" / "untuned").glob("*.parquet"))) == 1
    run_sweep(with_changes(spec, {"trial.source.num_tune": 50}), tmp_path / "one", tmp_path / "banks", Quiet())
    (alone,) = results.finished_trials(tmp_path / "one")
    rows = [results.read_table(tmp_path / name, "scores", [alone]) for name in ("both", "one")]
    assert rows[0].num_rows and rows[0].to_pandas().equals(rows[1].to_pandas())


def test_a_second_run_skips_and_new_points_are_the_only_work(
    ray_cluster: None, inputs_folder: Path, tmp_path: Path
) -> None:
    spec = small_sweep(inputs_folder, rates=(1e-4,))
    out, banks = tmp_path / "out", tmp_path / "banks"
    run_sweep(spec, out, banks, Quiet())
    written = {path: path.stat().st_mtime_ns for path in out.glob("trials/*")}
    listener = Quiet()
    wider = with_changes(spec, {"grid.tuning.learning_rate": [1e-4, 1e-3]})
    outcome = run_sweep(wider, out, banks, listener)
    assert (outcome.num_trials, outcome.num_finished_before, len(outcome.statuses)) == (2, 1, 1)
    assert ("sweep", 2, 1) in listener.events
    assert not any(event[0] == "counted" for event in listener.events), "the banks were there already"
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())
    again = run_sweep(wider, out, banks, Quiet())
    assert again.num_finished_before == 2 and not again.statuses
    assert len(results.read_sweep(out)["trial_ids"]) == 2


def test_divergence_is_a_result(ray_cluster: None, inputs_folder: Path, tmp_path: Path) -> None:
    spec = small_sweep(inputs_folder, rates=(1e38,))
    outcome = run_sweep(spec, tmp_path / "out", tmp_path / "banks", Quiet())
    assert list(outcome.statuses.values()) == [TrialStatus.DIVERGED]
    (row,) = results.read_table(tmp_path / "out", "trials").to_pylist()
    assert row["status"] == "DIVERGED" and row["stopped_by"] == "diverged"
    assert results.read_table(tmp_path / "out", "scores").num_rows == 0


def test_a_trial_that_cannot_write_is_failed_and_run_again_later(
    ray_cluster: None, inputs_folder: Path, tmp_path: Path
) -> None:
    spec = with_changes(small_sweep(inputs_folder, rates=(1e-4,)), {"cluster.max_failures": 1})
    out = tmp_path / "out"
    out.mkdir()
    (out / "curves").write_text("a file where a folder must be: every write of the table fails")
    listener = Quiet()
    outcome = run_sweep(spec, out, tmp_path / "banks", listener)
    assert list(outcome.statuses.values()) == [TrialStatus.FAILED]
    assert [event[2] for event in listener.events if event[0] == "attempt failed"] == [False, True]
    (report,) = results.failed_trials(out).values()
    assert "curves" in report["error"]
    (out / "curves").unlink()
    outcome = run_sweep(spec, out, tmp_path / "banks", Quiet())
    assert list(outcome.statuses.values()) == [TrialStatus.COMPLETE]
    assert results.failed_trials(out) == {}


def test_a_pool_that_leaves_no_room_for_a_trial_is_refused(
    ray_cluster: None, inputs_folder: Path, tmp_path: Path
) -> None:
    spec = with_changes(small_sweep(inputs_folder), {"cluster.evaluators": 64, "cluster.evaluator_cpus": 1})
    with pytest.raises(ValueError, match="must fit the cluster"):
        run_sweep(spec, tmp_path / "out", tmp_path / "banks", Quiet())


def test_a_folder_of_another_sweep_is_refused(ray_cluster: None, inputs_folder: Path, tmp_path: Path) -> None:
    results.write_sweep(tmp_path, {"name": "another"}, [], {})
    with pytest.raises(ValueError, match="holds 'another'"):
        run_sweep(small_sweep(inputs_folder), tmp_path, tmp_path / "banks", Quiet())


def _command(inputs_folder: Path, out: Path, *more: str) -> list[str]:
    file = inputs_folder / "a_sweep.py"
    file.write_text(
        "from pathlib import Path\nfrom adiabatic_ray.changes import with_changes\n"
        "from tests.small_sweep import small_sweep\n\n\n"
        "def sweep():\n"
        f"    spec = small_sweep(Path({str(inputs_folder)!r}), rates=(0.0, 1e-4, 1e-3), seeds=(0,))\n"
        # Long enough, one after another, that what comes after the first trial can be interrupted.
        "    return with_changes(spec, {'trial.tuning.batches_per_epoch': 200})\n"
    )
    return [sys.executable, "-m", "jobs.run_sweep", str(file), "--out", str(out), *more]


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return kept | {"PYTHONUNBUFFERED": "1", "COLUMNS": "160"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_driver_loses_nothing(inputs_folder: Path, tmp_path: Path) -> None:
    """SIGKILL after the first finished trial; the same command then gives the tables of an undisturbed run."""
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen(
        _command(inputs_folder, killed),
        cwd=CHECKOUT,
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "COMPLETE" in line:
            break
    os.killpg(process.pid, signal.SIGKILL)  # the driver and the Ray processes that it started
    process.wait()
    process.stdout.close()
    num_done = len(results.finished_trials(killed))
    assert 1 <= num_done < 3, "the kill came too late to test anything"
    for out in (killed, whole):
        done = subprocess.run(
            _command(inputs_folder, out), cwd=CHECKOUT, env=_environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        if out == killed:
            # What was being written when the driver died may still have been finished.
            found = re.search(r"(\d) of 3 trials are finished already", done.stdout)
            assert found and num_done <= int(found[1]) < 3, done.stdout
    assert_same_tables(killed, whole)
    client = MlflowClient(tracking.default_uri(killed))
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert len(runs) == 4, "one parent and one run a trial, none twice"
    assert {run.info.status for run in runs} == {"FINISHED"}
    again = subprocess.run(
        _command(inputs_folder, whole), cwd=CHECKOUT, env=_environment(), capture_output=True, text=True
    )
    assert again.returncode == 0 and "all 3 trials are finished already" in again.stdout
    assert "cannot be used" not in again.stdout, "MLflow was reached when there was nothing left to run"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ctrl_c_keeps_what_is_done_and_the_same_command_continues(inputs_folder: Path, tmp_path: Path) -> None:
    """SIGINT to the whole process group, as a terminal sends it."""
    out = tmp_path / "out"
    process = subprocess.Popen(
        _command(inputs_folder, out),
        cwd=CHECKOUT,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "COMPLETE" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate()
    assert process.returncode == 130, complaint
    assert "the same command continues" in complaint and "Traceback" not in complaint
    num_done = len(results.finished_trials(out))
    assert 1 <= num_done < 3, "the interrupt came too late to test anything"
    done = subprocess.run(
        _command(inputs_folder, out), cwd=CHECKOUT, env=_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{num_done} of 3 trials are finished already" in done.stdout
    assert len(results.finished_trials(out)) == 3


def test_mlflow_out_of_reach_costs_nothing_and_sync_catches_up(inputs_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    more = ("--tracking-uri", "http://127.0.0.1:9", "--set", "grid.tuning.learning_rate=[0.0001,0.001]")
    done = subprocess.run(
        _command(inputs_folder, out, *more), cwd=CHECKOUT, env=_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("cannot be used") == 1 and f"adiabatic sync {out}" in done.stdout.replace("\n", "")
    uri = f"sqlite:///{tmp_path / 'later.db'}"
    for _ in range(2):  # the second time changes nothing
        assert tracking.sync(out, uri) == 2
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name("small")
        runs = client.search_runs([experiment.experiment_id])
        children = [run for run in runs if tracking.TRIAL_TAG in run.data.tags]
        assert len(runs) == 3 and len(children) == 2
        child = children[0]
        assert float(child.data.params["learning_rate"]) in (1e-4, 1e-3)
        history = client.get_metric_history(child.info.run_id, "validation_loss")
        assert [point.step for point in history] == [0, 1, 2]
        assert "mine/cosine_improvement" in child.data.metrics
        assert "pairs/same-near/cosine/clustered_degraded" in child.data.metrics
        assert {"drift/l2_relative", "drift_by_block/01", "cosine/pairs_lowest_language"} <= child.data.metrics.keys()
        (row,) = results.read_table(out, "trials", [child.data.tags[tracking.TRIAL_TAG]]).to_pylist()
        for name in ("queue_s", "load_s", "bank_s", "tune_s", "evaluate_s", "write_s"):
            assert child.data.metrics[f"time/{name}"] == pytest.approx(row[name]) and row[name] > 0


def test_the_specification_is_kept_with_the_results(ray_cluster: None, inputs_folder: Path, tmp_path: Path) -> None:
    spec = small_sweep(inputs_folder, rates=(1e-4,))
    run_sweep(spec, tmp_path / "out", tmp_path / "banks", Quiet())
    assert SweepSpec.model_validate(results.read_sweep(tmp_path / "out")["spec"]) == spec
    (row,) = results.read_table(tmp_path / "out", "trials").to_pylist()
    stored = json.loads(row["spec_json"])
    assert stored["backbone"]["encoder_digest"] and stored["source"]["digest"]
    assert json.loads(row["provenance_json"])["versions"]["torch"]
