"""A results folder from a stranger: ids that are paths, links that lead out, orders to the terminal.

Every command that reads one refuses or ignores them, and nothing outside the folder is touched.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient
from planted import Plan, write_planted
from pydantic import ValidationError
from typer.testing import CliRunner, Result

from adiabatic_ray import results
from adiabatic_ray.on_ray.tracking import default_uri, sync
from adiabatic_ray.results import ResultsError, check_file_id, table_path
from adiabatic_ray.sources import TripletFile
from adiabatic_ray.spec import BackboneSpec, EvaluationSpec, SweepSpec, TrialSpec, TuningSpec
from analysis.report import write_report
from analysis.report_sweeps import write_sweeps_report
from jobs.cli import app
from jobs.environment import visible

HOSTILE_IDS = (
    "../../x",
    "/tmp/x",
    "..",
    ".",
    "",
    "a/b",
    "a\\b",
    "a\x00b",
    "a\nb",
    "a\n",
    "x" * 300,
    "-x",
    ".x",
    "é",
    "a b",
)
SOURCE = TripletFile(name="mine", path="mine.jsonl")
TRIAL = TrialSpec(backbone=BackboneSpec(name="x"), source=SOURCE, evaluation=EvaluationSpec(sets=(SOURCE,)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out"
    write_planted(out, Plan({0.0: 0.0, 1e-8: 0.01, 1e-7: -0.04}))
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A copy below a folder of its own, so that what a path leads to is seen."""
    shutil.copytree(made, tmp_path / "deep" / "out")
    return tmp_path / "deep" / "out"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "200"})


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output
    for word in words:
        assert word in result.output.replace("\n", " "), result.output


def files_outside(out: Path) -> set[Path]:
    return {path for path in out.parent.parent.rglob("*") if out not in path.parents}


def with_ids(path: Path, column: str, file_id: str) -> None:
    """The file with another id in every row, and its metadata."""
    table = pq.read_table(path)
    ids = pa.array([file_id] * len(table), table.schema.field(column).type)
    pq.write_table(table.set_column(table.schema.get_field_index(column), table.schema.field(column), ids), path)


def in_sweep(out: Path, file_id: str) -> None:
    content = json.loads((out / "sweep.json").read_text())
    content["trial_ids"][1] = file_id
    (out / "sweep.json").write_text(json.dumps(content))


def in_trials(out: Path, file_id: str) -> None:
    with_ids(sorted((out / "trials").glob("*.parquet"))[0], "trial_id", file_id)


def in_untuned(out: Path, file_id: str) -> None:
    for path in (out / "trials").glob("*.parquet"):
        with_ids(path, "untuned_id", file_id)


@pytest.mark.parametrize("file_id", HOSTILE_IDS)
def test_an_id_is_a_name(file_id: str) -> None:
    with pytest.raises(ResultsError, match="an id has up to 128 letters, digits"):
        check_file_id(file_id, Path("here"))
    with pytest.raises(ResultsError, match="an id has"):
        table_path(Path("out"), "trials", file_id)


@pytest.mark.parametrize("not_text", [None, 7, ["a"], {"a": 1}, float("nan")])
def test_what_is_no_text_is_no_id(not_text: object) -> None:
    with pytest.raises(ResultsError, match="an id has"):
        check_file_id(not_text, Path("here"))


@given(freeze=st.text(max_size=80), rate=st.floats(0, 1e38), seed=st.integers(0, 2**31 - 1))
def test_whatever_a_trial_is_its_id_is_a_name(freeze: str, rate: float, seed: int) -> None:
    tuning = TuningSpec(freeze=freeze, learning_rate=rate, seed=seed, max_epochs=1)
    trial_id = TRIAL.model_copy(update={"tuning": tuning}).trial_id
    check_file_id(trial_id, Path("here"))
    assert table_path(Path("out"), "trials", trial_id).parent == Path("out/trials")
    check_file_id(TRIAL.untuned.untuned_id, Path("here"))


@pytest.mark.parametrize("name", [one for one in HOSTILE_IDS if len(one) < 300])
def test_sweeps_and_sets_have_names_that_are_no_paths(name: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        SweepSpec(name=name, question="?", trial=TRIAL, grid={"tuning.seed": (0,)})
    with pytest.raises(ValidationError, match="pattern"):
        TripletFile(name=name, path="mine.jsonl")


@pytest.mark.parametrize("plant", [in_sweep, in_trials, in_untuned])
@pytest.mark.parametrize("file_id", ["../../x", "/tmp/x", "a\x00b"])
def test_every_reader_refuses_such_ids(
    out: Path, tmp_path: Path, plant: Callable[[Path, str], None], file_id: str
) -> None:
    plant(out, file_id)
    before = files_outside(out)
    first, second = (path.stem for path in sorted((out / "trials").glob("*.parquet"))[1:3])
    commands: list[tuple[str | Path, ...]] = [("report", out), ("layers", out), ("compare", out, first, second)]
    if plant is not in_untuned:  # which no other command turns into a path
        commands.append(("export", out, first, tmp_path / "model"))
    for command in commands:
        refused(run(*command), "an id has up to 128 letters, digits")
    if plant is not in_untuned:
        with pytest.raises(ResultsError, match="an id has"):
            sync(out, None)
    assert files_outside(out) == before


def test_a_failure_with_such_a_name_is_refused(out: Path) -> None:
    (out / "failures").mkdir()
    (out / "failures" / "a\nb.json").write_text("{}")
    refused(run("report", out), "an id has up to 128 letters, digits")


def test_an_export_asks_for_a_trial_and_gets_no_path(out: Path, tmp_path: Path) -> None:
    for name in ("../../x", "/tmp/x", "a\x00b"):
        refused(run("export", out, name, tmp_path / "model"), "an id must be that of a trial")
    assert not (tmp_path / "model").exists()


def test_links_in_the_place_of_a_reports_files_are_replaced(out: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("keep this")
    (out / "report").mkdir()
    for name in ("report.html", "report.md", "boundary.json", "curves.csv", "curves.png", "heatmap.png"):
        (out / "report" / name).symlink_to(mine)
    report = write_report(out, num_resamples=100)
    assert mine.read_text() == "keep this"
    written = sorted(path.name for path in report.folder.iterdir() if not path.is_symlink())
    assert written == ["boundary.json", "curves.csv", "curves.png", "heatmap.png", "report.html", "report.md"]


def test_a_link_in_the_place_of_the_report_is_refused(out: Path, made: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (out / "report").symlink_to(tmp_path / "elsewhere")
    refused(run("report", out), "got the link", "remove it")
    with pytest.raises(ResultsError, match="got the link"):
        write_sweeps_report([out, made], num_resamples=100)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_what_a_link_points_to_is_not_sent_to_mlflow(out: Path, tmp_path: Path) -> None:
    (tmp_path / "private").write_text("mine")
    (out / "report").mkdir()
    (out / "report" / "notes.txt").symlink_to(tmp_path / "private")
    with pytest.raises(ResultsError, match=r"got the link .*notes\.txt; remove it"):
        sync(out, None)
    assert not list(out.glob("mlflow/**/notes.txt"))


def test_a_database_that_came_along_does_not_say_where_the_report_goes(out: Path, tmp_path: Path) -> None:
    (out / "report").mkdir()
    (out / "report" / "report.md").write_text("text")
    MlflowClient(default_uri(out)).create_experiment("planted", (tmp_path / "elsewhere").as_uri())
    with pytest.raises(ResultsError, match=r"keeps the report below .*elsewhere.*: .* delete .*mlflow\.db"):
        sync(out, None)
    assert not (tmp_path / "elsewhere").exists()
    again = tmp_path / "again"  # another place, because MLflow keeps a database open as long as its process lives
    shutil.copytree(out, again, ignore=shutil.ignore_patterns("mlflow.db"))
    assert sync(again, None) == 3
    assert list(again.glob("mlflow/*/artifacts/report/report.md"))


@pytest.mark.filterwarnings("ignore:Glyph")  # of matplotlib, which has no picture of a control character
def test_a_folder_cannot_give_orders_to_the_terminal(tmp_path: Path) -> None:
    order = "\x1b]0;title\x07\x1b[2J\x9b31m\x08"
    write_planted(tmp_path / "out", Plan({0.0: 0.0, 1e-8: 0.01}, axes={"backbone.name": ("planted", f"b{order}")}))
    content: dict[str, Any] = json.loads((tmp_path / "out" / "sweep.json").read_text())
    content["spec"]["question"] = f"why{order}?"
    (tmp_path / "out" / "sweep.json").write_text(json.dumps(content))
    shown = run("report", tmp_path / "out")
    assert shown.exit_code == 0 and "\\x1b" in shown.output
    content["spec"]["trial"] = {f"field{order}": 1}
    (tmp_path / "out" / "sweep.json").write_text(json.dumps(content))
    said = run("report", tmp_path / "out")
    assert said.exit_code == 2 and "no such field" in said.output
    assert not {"\x1b", "\x07", "\x08", "\x9b"} & set(shown.output + said.output)


@given(text=st.text())
def test_control_characters_are_shown(text: str) -> None:
    shown = visible(text)
    assert not [one for one in shown if (ord(one) < 32 and one not in "\n\t") or 127 <= ord(one) <= 159]
    assert visible("a\tb\nü鹽") == "a\tb\nü鹽" and visible("\x1b[2J") == "\\x1b[2J"


def test_own_code_named_in_a_results_folder_is_not_imported(out: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """It is trusted where a sweep is run, not where its results are read."""
    (tmp_path / "strange_code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef step(*_, **__): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    content = json.loads((out / "sweep.json").read_text())
    content["spec"]["trial"]["tuning"] |= {"optimizer": "strange_code:step", "schedule": "strange_code:step"}
    (out / "sweep.json").write_text(json.dumps(content))
    for path in (out / "trials").glob("*.parquet"):
        (row,) = pq.read_table(path).to_pylist()
        spec = json.loads(row["spec_json"])
        spec["tuning"] |= {"optimizer": "strange_code:step", "schedule": "strange_code:step"}
        results.write_table(out, "trials", path.stem, [row | {"spec_json": json.dumps(spec)}])
    report = write_report(out, num_resamples=100)
    assert {spec.tuning.optimizer for spec in report.sweep.trial_specs.values()} == {"strange_code:step"}
    assert sync(out, None) == 3 and not (tmp_path / "ran").exists()
