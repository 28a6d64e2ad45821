"""A whole sweep in a bucket, without Ray: the rows of a local run, and every command that reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from adiabatic_ray import results
from adiabatic_ray.encoders.tower_files import load_changed
from adiabatic_ray.encoders.towers import tuned_tower
from adiabatic_ray.evaluation import evaluate
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.evaluation.prepare import Loader, prepare
from adiabatic_ray.on_ray import tracking
from adiabatic_ray.orchestration.orchestrator import untuned_counts
from adiabatic_ray.schemas import TABLES
from adiabatic_ray.spec import SweepSpec, TrialSpec
from adiabatic_ray.statistics.counts import Counts
from adiabatic_ray.storage import Location, in_order, open_folder
from adiabatic_ray.trial import Report, TrialContext, run_trial
from adiabatic_ray.tuning.news import EpochReport, Tuned
from adiabatic_ray.tuning.saved_states import MemberState, load_state, remove_state, save_state
from adiabatic_ray.tuning.tune import tune
from analysis.load import load_sweep
from analysis.report import write_report
from jobs.cli import app
from tests.object_server import ObjectServer
from tests.same_rows import MEASURED
from tests.small_sweep import small_sweep

RATES = (0.0, 1e-4, 1e-2, 1e38)


@dataclass(frozen=True)
class Swept:
    """The same sweep twice."""

    local: Path
    remote: Location
    trial_ids: list[str]
    requests: list[str]
    """What the last trial that was scored asked of the server."""


@pytest.fixture(scope="module")
def swept(bucket: str, object_server: ObjectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swept]:
    spec = small_sweep(tmp_path_factory.mktemp("inputs"), RATES)
    local, remote = tmp_path_factory.mktemp("local") / "out", open_folder(f"s3://{bucket}/sweeps/small")
    trials = [Loader().pin(trial) for trial in spec.expand()]
    requests: list[str] = []
    for out in (local, remote):
        requests = run_here(spec, trials, out, object_server)
    yield Swept(local, remote, [trial.trial_id for trial in trials], requests)


def run_here(spec: SweepSpec, trials: list[TrialSpec], out: Location, server: ObjectServer) -> list[str]:
    """What a sweep writes; the requests of the last trial but the one that diverges."""
    inputs = Loader().load(trials[0])
    backbone, budget = inputs.backbone, inputs.token_budget
    banks = [encode(backbone.build_tower(), backbone.tokenize(one, "passage: "), budget) for one in inputs.bank_texts()]
    kit = prepare(inputs, banks)

    def tuned(trial: TrialSpec, report: Report) -> Tuned:
        return tune(backbone, trial.tuning, kit.tuning, kit.validation, budget, report)

    def score(changed: dict[str, np.ndarray]) -> list[Counts]:
        return evaluate.score_sets(tuned_tower(backbone, changed), kit.evaluation, budget)

    results.write_sweep(out, spec.model_dump(mode="json"), [trial.trial_id for trial in trials], {"argv": ["sweep"]})
    context = TrialContext(spec.name, out, "untuned", untuned_counts("untuned", lambda: score({}), out), 0.0, {})
    before: list[str] = []
    for trial in trials:
        if trial is trials[-2]:
            before = server.requests()
        if trial is trials[-1]:
            after = server.requests()
        run_trial(trial, context, tuned, score, lambda report: None)
    return after[len(before) :]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "200"})


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output
    for word in words:
        assert word in result.output.replace("\n", " "), result.output


def rows(out: Location, table: str) -> pd.DataFrame:
    content = results.read_table(out, table)
    measured = MEASURED & set(content.column_names) - {"provenance_json"}  # which here is the same
    return content.drop_columns(sorted(measured)).to_pandas()


@pytest.mark.parametrize("table", [name for name in TABLES if name != "evaluations"])
def test_its_rows_are_those_of_a_local_run(swept: Swept, table: str) -> None:
    local, remote = rows(swept.local, table), rows(swept.remote, table)
    assert len(remote) > 0 and remote.equals(local)


def test_its_towers_are_those_of_a_local_run(swept: Swept) -> None:
    row = results.read_table(swept.local, "trials").to_pylist()[0]
    for trial_id in swept.trial_ids[:-1]:
        local, remote = (
            load_changed(out / "towers" / trial_id, row["backbone"], row["encoder_digest"])
            for out in (swept.local, swept.remote)
        )
        assert remote.keys() == local.keys() and all(np.array_equal(remote[name], local[name]) for name in local)


def test_a_trial_is_one_request_for_each_file_and_its_row_comes_last(swept: Swept) -> None:
    files = ["tower.safetensors", *["scores", "aggregates", "rankings", "influence", "cosines", "curves", "drift"]]
    (trial_id,) = [one for one in swept.trial_ids if one.startswith("lr0.01-")]
    assert [one.split()[0] for one in swept.requests] == ["PUT"] * 9
    written = [one.partition("/sweeps/small/")[2] for one in swept.requests]
    assert written == [
        f"towers/{trial_id}/{files[0]}",
        *(f"{table}/{trial_id}.parquet" for table in files[1:]),
        f"trials/{trial_id}.parquet",
    ]


def test_it_loads_as_a_local_run_does(swept: Swept) -> None:
    local, remote = load_sweep(swept.local), load_sweep(swept.remote)
    assert remote.completeness == local.completeness and remote.groups == local.groups
    assert remote.scores.equals(local.scores) and remote.drift.equals(local.drift)
    trial_id = swept.trial_ids[1]
    assert remote.influence(trial_id).equals(local.influence(trial_id))


def test_its_report_is_that_of_a_local_run_in_the_bucket_and_on_a_disk(swept: Swept, tmp_path: Path) -> None:
    local = write_report(swept.local, folder=tmp_path / "local", num_resamples=100)
    stored = write_report(swept.remote, num_resamples=100)
    fetched = write_report(swept.remote, folder=tmp_path / "fetched", num_resamples=100)
    assert str(stored.html) == f"{swept.remote}/report/report.html" and fetched.html.parent == tmp_path / "fetched"
    names = {file.name for file in in_order(tmp_path / "local", "*")}
    assert {"report.html", "report.md", "boundary.json", "curves.csv", "curves.png", "heatmap.png"} == names
    assert names <= {file.name for file in in_order(swept.remote / "report", "*")}
    for name in ("boundary.json", "curves.csv", "curves.png", "heatmap.png"):
        assert (stored.folder / name).read_bytes() == (local.folder / name).read_bytes(), name
        assert (fetched.folder / name).read_bytes() == (local.folder / name).read_bytes(), name
    assert str(swept.remote) in stored.html.read_text(encoding="utf-8")


@pytest.mark.parametrize("command", [("compare", "lr0.0001", "lr0.01"), ("layers",)], ids=["compare", "layers"])
def test_commands_print_what_they_print_of_a_local_run(swept: Swept, command: tuple[str, ...]) -> None:
    name, *more = command
    local, remote = (run(name, out, *more) for out in (swept.local, swept.remote))
    assert remote.exit_code == 0, remote.output
    assert remote.output == local.output and remote.output.count("\n") > 5


def test_a_tower_is_exported_from_the_bucket(swept: Swept, tmp_path: Path) -> None:
    for name, out in (("local", swept.local), ("remote", swept.remote)):
        done = run("export", out, "lr0.01", tmp_path / name / "model")
        assert done.exit_code == 0, done.output
    local, remote = (
        {file.relative_to(tmp_path / name): file.read_bytes() for file in (tmp_path / name).rglob("*.safetensors")}
        for name in ("local", "remote")
    )
    assert remote == local and remote


def test_models_are_written_to_disks_only(swept: Swept) -> None:
    refused(run("export", swept.remote, "lr0.01", f"{swept.remote}/model"), "to a disk only", "give a path")
    assert not Path("s3:").exists()


def test_mlflow_gets_a_local_database_and_the_report(swept: Swept) -> None:
    results.write_json(swept.remote / "report" / "a.json", {"any": "file"})
    assert tracking.sync(swept.remote, None) == len(swept.trial_ids)
    database = Path(tracking.default_uri(swept.remote).removeprefix("sqlite:///"))
    assert database.is_file() and not (swept.remote / "mlflow.db").exists()
    assert [file.name for file in database.parent.glob("mlflow/**/report/a.json")] == ["a.json"]


def test_a_state_is_kept_in_the_bucket_until_its_trial_is_done(swept: Swept) -> None:
    folder = swept.remote / "states"
    report = EpochReport(1, 4, 0.5, 0.25, 3, 20, True, 1.5, 1_700_000_000_000, None)
    state = MemberState({"weight": np.arange(6, dtype=np.float32).reshape(2, 3)}, (report,))
    assert load_state(folder, "trial") is None
    save_state(folder, "trial", state)
    found = load_state(folder, "trial")
    assert found is not None and found.reports == state.reports
    assert np.array_equal(found.tensors["weight"], state.tensors["weight"])
    remove_state(folder, "trial")
    assert load_state(folder, "trial") is None
    remove_state(folder, "trial")


@pytest.mark.parametrize("command", ["report", "compare", "layers", "sync", "export", "beside"])
def test_every_command_names_what_is_wrong_with_a_store(command: str, bucket: str, tmp_path: Path) -> None:
    more = {"compare": ("a", "b"), "export": ("a", tmp_path / "model"), "beside": (1,)}.get(command, ())
    refused(run(command, "s3://no-such-bucket/out", *more), "a bucket must exist", "no-such-bucket", "create it")
    refused(run(command, "ftp://host/out", *more), "a folder is a path", "ftp://host/out")
    refused(run(command, f"s3://{bucket}/nothing", *more), f"s3://{bucket}/nothing", "adiabatic sweep")


@pytest.mark.parametrize("option", ["--out", "--banks"])
def test_a_sweep_hears_of_a_missing_bucket_before_anything_is_loaded(option: str, bucket: str, tmp_path: Path) -> None:
    folders = {"--out": f"s3://{bucket}/a", "--banks": str(tmp_path / "banks")} | {option: "s3://no-such-bucket/a"}
    given = [text for pair in folders.items() for text in pair]
    refused(run("sweep", "demo", *given), "a bucket must exist", "no-such-bucket")


def test_a_server_that_is_not_there_is_named(swept: Swept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    refused(run("report", swept.remote), "must answer", "AWS_ENDPOINT_URL_S3")


def test_keys_that_are_wrong_or_may_not_write_are_refused(
    swept: Swept, object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reader = object_server.new_key("reader", ["s3:ListBucket", "s3:GetObject"])
    with object_server.checking_rights():
        for name, value in object_server.environment("AKIAUNKNOWN", "hush").items():
            monkeypatch.setenv(name, value)
        done = run("report", swept.remote)
        refused(done, "keys must be right", "AWS_ACCESS_KEY_ID")
        assert "AKIAUNKNOWN" not in done.output and "hush" not in done.output
        for name, value in object_server.environment(*reader).items():
            monkeypatch.setenv(name, value)
        refused(run("report", swept.remote), "keys must be right, and allow to list, read, write")
        done = run("report", swept.remote, "--to", tmp_path / "mine")
        assert done.exit_code == 0 and (tmp_path / "mine" / "report.html").is_file(), done.output
