"""The commands as a user types them: help, dry runs, clear errors with exit code 2, every shipped sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from jobs.cli import app
from jobs.sweep_files import shipped_sweeps
from tests.small_sweep import small_sweep
from tests.tiny import save_tiny_bert


@pytest.fixture(scope="module")
def inputs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    small_sweep(folder)
    (folder / "small.py").write_text(
        "from pathlib import Path\nfrom tests.small_sweep import small_sweep\n\n\n"
        f"def sweep():\n    return small_sweep(Path({str(folder)!r}))\n"
    )
    return folder


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "200"})


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output.replace("\n", " "), result.output


def test_help_names_every_command() -> None:
    output = run("--help").output
    for command in ("sweep", "evaluate", "export", "compare", "layers", "report", "sync", "sweeps", "data"):
        assert command in output
        assert run(command, "--help").exit_code == 0


def test_the_list_of_sweeps_shows_their_questions() -> None:
    output = run("sweeps").output
    assert all(name in output for name in shipped_sweeps()) and "How far" in output


def test_a_dry_run_prints_the_plan_and_writes_nothing(inputs_folder: Path, tmp_path: Path) -> None:
    result = run("sweep", inputs_folder / "small.py", "--out", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "3 trials" in result.output and "lr0.0001-embeddings-seed0" in result.output
    # BERT with 2 blocks of width 32: a block has 4 * (32 * 32 + 32) + 2 * 32 * 64 + 64 + 32 + 4 * 32 = 8,544 weights;
    # the embedding block (260 + 64 + 2) * 32 + 2 * 32 = 10,496.
    assert "17,088" in result.output and "10,496" in result.output
    assert not (tmp_path / "out").exists()


def test_a_dry_run_shows_what_a_sweep_varies(inputs_folder: Path) -> None:
    varied = ("--set", "grid.tuning.margin=[0.1, 0.25]", "--set", "grid.tuning.learning_rate=[1e-4]")
    result = run("sweep", inputs_folder / "small.py", "--dry-run", *varied)
    assert result.exit_code == 0, result.output
    assert " margin " in result.output and " 0.25 " in result.output


def test_overrides_reach_the_plan(inputs_folder: Path) -> None:
    result = run("sweep", inputs_folder / "small.py", "--dry-run", "--set", "trial.tuning.freeze=emb, B0")
    assert result.exit_code == 0 and "8,544" in result.output


def test_data_shows_what_is_in_the_sets(inputs_folder: Path) -> None:
    result = run("data", "show", inputs_folder / "small.py")
    assert result.exit_code == 0, result.output
    assert "60 queries" in result.output and "validation" in result.output and "3^2 language pairs" in result.output


def test_texts_in_brackets_are_shown_as_they_are(inputs_folder: Path, tmp_path: Path) -> None:
    lines = (inputs_folder / "triplets.jsonl").read_text(encoding="utf-8").splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | {"query": "[/x] [bold]who :cat:"})
    (tmp_path / "own[x].jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    overrides = "--set", f"trial.source.path={tmp_path}/own[x].jsonl", "--set", "question=[/y] who :cat:"
    assert "[/x] [bold]who :cat:" in run("data", "show", inputs_folder / "small.py", *overrides).output
    assert "[/y] who :cat:" in run("sweep", "--dry-run", inputs_folder / "small.py", *overrides).output


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["trial.tuning.lr=1"], ["no 'lr' there", "learning_rate"]),
        (["trial.tuning.batch_size=0", "trial.tuning.margin=-1"], ["batch_size", "margin"]),
        (["trial.tuning.learning_rate=-1"], ["greater than or equal to 0"]),
        (["grid={}"], ["at least one trial"]),
        (["grid.tuning.learning_rate=[0.1,0.1]"], ["trials must differ"]),
        (["trial.tuning.freeze=B7"], ["B7"]),
        (["trial.tuning.freeze=encoder.layr.*"], ["encoder.layr.*", "encoder.layer"]),
        (["trial.tuning.freeze=*"], ["must train something"]),
        (["trial.tuning.batch_size=1000"], ["at least one batch"]),
        (["trial.source.num_validation=0"], ["validation"]),
        (["trial.source.path=/nowhere/t.jsonl"], ["/nowhere/t.jsonl"]),
        (["trial.source.path=${NO_SUCH_VARIABLE}/t.jsonl"], ["NO_SUCH_VARIABLE"]),
        (["trial.backbone.name=/nowhere/encoder"], ["/nowhere/encoder"]),
        (["trial.backbone.max_length=100000"], ["max_length"]),
        (["trial.backbone.encoder_digest=00"], ["digest"]),
        (['trial.evaluation.sets.1.languages=["de","xx"]'], ["xx"]),
        (["trial.evaluation.sets.1.positive_label=equal"], ["equal"]),
        (["trial.source.digest=00"], ["digest"]),
    ],
)
def test_bad_input_is_refused_before_any_work(inputs_folder: Path, overrides: list[str], words: list[str]) -> None:
    arguments = [argument for override in overrides for argument in ("--set", override)]
    refused(run("sweep", inputs_folder / "small.py", "--dry-run", *arguments), *words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"query": "a", "positives": ["b"], "negatives": ["c"]', ["line 3"]),
        ('{"query": "", "positives": ["b"], "negatives": ["c"]}', ["line 3"]),
        ('{"query": "a", "positives": [], "negatives": ["c"]}', ["line 3"]),
        ('{"query": "a", "negatives": ["c"]}', ["line 3"]),
        ('{"query": 7, "positives": ["b"], "negatives": ["c"]}', ["line 3"]),
    ],
)
def test_a_malformed_line_is_named(inputs_folder: Path, tmp_path: Path, line: str, words: list[str]) -> None:
    lines = (inputs_folder / "triplets.jsonl").read_text(encoding="utf-8").splitlines()
    lines[2] = line
    broken = tmp_path / "broken.jsonl"
    broken.write_text("\n".join(lines) + "\n", encoding="utf-8")
    refused(
        run("sweep", inputs_folder / "small.py", "--dry-run", "--set", f"trial.source.path={broken}"), "broken", *words
    )


def test_pairs_of_one_class_are_refused(inputs_folder: Path, tmp_path: Path) -> None:
    rows = (inputs_folder / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    one_class = tmp_path / "one.jsonl"
    one_class.write_text("\n".join(row for row in rows if json.loads(row)["label"] == "same") + "\n", encoding="utf-8")
    override = f"trial.evaluation.sets.1.path={one_class}"
    refused(run("sweep", inputs_folder / "small.py", "--dry-run", "--set", override), "same")


def test_a_checkpoint_in_half_precision_is_refused(inputs_folder: Path, tmp_path: Path) -> None:
    half = save_tiny_bert(tmp_path / "half", dtype=torch.bfloat16)
    override = f"trial.backbone.name={half}"
    refused(run("sweep", inputs_folder / "small.py", "--dry-run", "--set", override), "BF16", "accept_half_precision")


def test_an_unknown_sweep_lists_the_known_ones() -> None:
    refused(run("sweep", "dmeo"), "dmeo", "demo", "squad_rates")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def sweep():\n    return 1 / 0\n", ["ZeroDivisionError", "line 2"]),
        ("def sweep():\n    return 3\n", ["sweep() -> SweepSpec", "got int"]),
        ("x = 1\n", ["sweep() -> SweepSpec"]),
        ("def sweep(:\n", ["SyntaxError"]),
    ],
)
def test_a_broken_sweep_file_says_where(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "broken.py").write_text(text)
    refused(run("sweep", tmp_path / "broken.py", "--dry-run"), "broken.py", *words)


@pytest.mark.parametrize("command", ["report", "layers", "sync"])
def test_a_folder_without_results_is_named(tmp_path: Path, command: str) -> None:
    refused(run(command, tmp_path), str(tmp_path))


def test_an_out_folder_that_is_a_file_is_refused(inputs_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("here is a file")
    refused(run("sweep", inputs_folder / "small.py", "--out", tmp_path / "taken"), "taken", "another path")
