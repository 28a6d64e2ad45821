"""`adiabatic export` as a user types it: a trial of a real sweep, its model card, and what is refused."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from huggingface_hub import ModelCard
from typer.testing import CliRunner, Result

from adiabatic_ray import results, schemas
from adiabatic_ray.encoders.backbones import load_backbone
from adiabatic_ray.encoders.tower_files import FILE_NAME
from adiabatic_ray.encoders.tower_sources import read_tower
from adiabatic_ray.on_ray.cluster import start_ray
from adiabatic_ray.orchestration.orchestrator import run_sweep
from analysis import terminal
from jobs.cli import app
from tests.listening import Quiet
from tests.small_sweep import small_sweep

pytestmark = pytest.mark.ray
CHECKOUT = Path(__file__).resolve().parent.parent
RATES = (1e-4, 1e-2, 1e30)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A gentle trial, one that does harm, one that diverged; with a report."""
    import ray

    folder = tmp_path_factory.mktemp("swept")
    start_ray()
    run_sweep(small_sweep(folder / "inputs", rates=RATES), folder / "out", folder / "banks", Quiet())
    ray.shutdown()
    assert run("report", folder / "out").exit_code == 0
    yield folder / "out"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "80"})


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output
    for word in words:
        assert word in result.output.replace("\n", " "), result.output


def trial_ids(out: Path) -> list[str]:
    return results.read_sweep(out)["trial_ids"]  # type: ignore[no-any-return]


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    """Head and text."""
    _, head, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), text


@pytest.fixture(scope="module")
def exported(swept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trial that does harm, named by the beginning of its id."""
    folder = tmp_path_factory.mktemp("exported") / "my [x] model"
    done = run("export", swept, "lr0.01", folder)
    assert done.exit_code == 0, done.output
    for words in (trial_ids(swept)[1], f'SentenceTransformer("{folder}")', f"{folder}/README.md", "MB"):
        assert words in done.output, done.output
    return folder


def test_the_tower_is_the_trials(swept: Path, exported: Path) -> None:
    spec = small_sweep(swept.parent / "inputs").trial.backbone
    base = load_backbone(spec)
    ours, theirs = (
        read_tower(str(folder), base, ("river stone",)).changed
        for folder in (swept / "towers" / trial_ids(swept)[1], exported / "query")
    )
    assert ours.keys() == theirs.keys() and ours
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_the_cards_head_has_the_tables_numbers(swept: Path, exported: Path) -> None:
    """Unrounded, none left out but those that are not numbers."""
    head, _ = card_of(exported)
    assert ModelCard.load(exported / "README.md").data.to_dict()["model-index"] == head["model-index"]
    trial_id = trial_ids(swept)[1]
    (model,) = head["model-index"]
    assert model["name"] == trial_id and head["library_name"] == "sentence-transformers" and "base_model" not in head
    found = {
        (result["dataset"]["name"], result["dataset"]["config"], metric["name"].rpartition(", ")[2], metric["type"]): (
            metric["value"]
        )
        for result in model["results"]
        for metric in result["metrics"]
    }
    wanted = {
        (row["set"], row["relation"], row["measure"], kind): row[column]
        for row in rows_behind(swept, trial_id)
        for kind, column in (
            ("pnd", "pnd_tuned"),
            ("pnd_untuned", "pnd_untuned"),
            ("improvement", "improvement"),
            ("improvement_low", "improvement_low"),
            ("improvement_high", "improvement_high"),
        )
        if math.isfinite(row[column])
    }
    assert found == wanted and len(wanted) > 20


def test_the_cards_text_has_the_tables_numbers(swept: Path, exported: Path) -> None:
    _, text = card_of(exported)
    lines = text.splitlines()
    trial_id = trial_ids(swept)[1]
    for row in rows_behind(swept, trial_id):
        (line,) = [one for one in lines if one.startswith(f"| {row['set']} | {row['relation']} | {row['measure']} |")]
        ends = [terminal.percent(row[name]) for name in ("improvement_low", "improvement_high")]
        shares = [f"{100 * row[name]:.2f}" for name in ("pnd_untuned", "pnd_tuned")]
        cells = [*shares, terminal.percent(row["improvement"]), "-" if "-" in ends else " to ".join(ends)]
        assert f"| {' | '.join(cells)} |" in line
    scores = results.read_table(swept, "scores", [trial_id]).to_pandas()
    worse = scores[(scores["kind"] == "pairs") & (scores["bh_p"] <= 0.05) & (scores["clustered_z"] > 0)]
    assert len(worse) > 0, "a tower that does harm"
    for row in worse.to_dict("records"):
        (line,) = [one for one in lines if one.startswith(f"- {row['set']}, {row['relation']}, {row['measure']}: ")]
        assert f"{row['query_language']}/{row['passage_language']} {terminal.percent(row['improvement'])}" in line
    assert "| learning_rate | 0.01 |" in text and "`'query: '` before a query" in text
    assert str(swept.parent) not in text, "a path of this machine"


def rows_behind(out: Path, trial_id: str) -> list[dict[str, Any]]:
    """What a card shows: scores of triplets, means over all language pairs."""
    scores, means = (results.read_table(out, table, [trial_id]).to_pandas() for table in ("scores", "aggregates"))
    shown = scores[scores["kind"] == "triplets"], means[means["axis"] == "all"]
    rows: list[dict[str, Any]] = pd.concat(shown).to_dict("records")  # type: ignore[assignment]
    assert len(rows) == 2 + 2 * 2
    return rows


def test_the_boundary_comes_from_the_report(swept: Path, exported: Path, tmp_path: Path) -> None:
    _, text = card_of(exported)
    sentences = [row["sentence"] for row in results_json(swept / "report" / "boundary.json")["boundaries"]]
    assert sentences and all(f"- {sentence}" in text for sentence in sentences)
    shutil.copytree(swept, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "report")
    done = run("export", tmp_path / "out", "lr0.01", tmp_path / "without")
    assert done.exit_code == 0 and "without a boundary: `adiabatic report" in done.output.replace("\n", " ")
    assert "How far this backbone may be tuned" not in card_of(tmp_path / "without")[1]
    (tmp_path / "out" / "report").mkdir()
    (tmp_path / "out" / "report" / "boundary.json").write_text('{"boundaries": [{}]}')
    refused(run("export", tmp_path / "out", "lr0.01", tmp_path / "third"), "boundary.json", "adiabatic report")


def results_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def test_ray_is_not_needed(swept: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['ray'] = sys.modules['mlflow'] = sys.modules['sentence_transformers'] = None\n"
        "from jobs.cli import main\nmain()"
    )
    command = [sys.executable, "-c", code, "export", str(swept), "lr0.0001", str(tmp_path / "model")]
    done = subprocess.run(command, cwd=CHECKOUT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "model" / "query" / "config.json").is_file()


def test_what_has_no_tower_is_refused(swept: Path, tmp_path: Path) -> None:
    target = tmp_path / "model"
    gentle, _, diverged = trial_ids(swept)
    refused(run("export", swept, "lr1e+30", target), f"got {diverged}, which is DIVERGED; ", "take a lower rate")
    refused(run("export", swept, "lr0.0", target), "got 'lr0.0', with which", "give more of it")
    refused(run("export", swept, "lr0.0l-emb", target), "got 'lr0.0l-emb'; near: lr0.01-embeddings")
    refused(run("export", tmp_path / "nowhere", gentle, target), "must exist", "nowhere")
    refused(run("export", tmp_path, gentle, target), "holds trials or evaluated towers, got none")
    out = tmp_path / "out"
    shutil.copytree(swept, out)
    results.table_path(out, "trials", gentle).unlink()
    refused(run("export", out, gentle, target), "which is MISSING; run the sweep again")
    results.write_json(out / "failures" / f"{gentle}.json", {"trial_id": gentle, "error": "lost node"})
    refused(run("export", out, gentle, target), "which is FAILED; run the sweep again")
    assert not target.exists()


def test_a_tower_that_was_only_scored_is_refused(swept: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(swept, out)
    (trial,) = results.read_table(out, "trials", [trial_ids(out)[0]]).to_pylist()
    row = {name: trial[name] for name in schemas.TABLES["evaluations"].names if name in trial}
    row |= {"trial_id": "enc-0123456789", "tower": "owner/enc", "tower_digest": "0", "num_changed": 1}
    results.write_table(out, "evaluations", "enc-0123456789", [row])
    words = "got enc-0123456789, which was only scored here and lies in owner/enc; give a trial: "
    refused(run("export", out, "enc", tmp_path / "model"), words, trial_ids(out)[0])


def test_a_lost_damaged_or_foreign_tower_is_refused(swept: Path, tmp_path: Path) -> None:
    out, target = tmp_path / "out", tmp_path / "model"
    shutil.copytree(swept, out)
    file = out / "towers" / trial_ids(out)[0] / FILE_NAME
    file.write_bytes(file.read_bytes()[:-5])
    refused(run("export", out, "lr0.0001", target), "must be a whole safetensors file")
    file.unlink()
    refused(run("export", out, "lr0.0001", target), "a finished trial has its tower", "delete", "adiabatic sweep")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"], "nothing is left behind"


def test_a_taken_folder_is_refused(swept: Path, exported: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in exported.rglob("*")}
    refused(run("export", swept, "lr0.0001", exported), "new or empty", "README.md", "give another")
    assert {path: path.stat().st_mtime_ns for path in exported.rglob("*")} == before
    (tmp_path / "file").write_text("x")
    refused(run("export", swept, "lr0.0001", tmp_path / "file"), "got the file")
    refused(
        run("export", swept, "lr0.0001", tmp_path / "file" / "below"), "files must be readable and folders writable"
    )
