"""`adiabatic evaluate` as a user types it: a trial's tower gives its trial's rows, whatever folder it comes in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner, Result

from adiabatic_ray import results
from adiabatic_ray.encoders.tower_files import FILE_NAME, load_changed
from adiabatic_ray.evaluation.prepare import Loader
from adiabatic_ray.on_ray import cluster
from adiabatic_ray.on_ray.cluster import start_ray
from adiabatic_ray.orchestration.orchestrator import run_sweep
from adiabatic_ray.spec import EvaluationSpec, SweepSpec
from analysis.comparison import compare_trials
from jobs.cli import app
from jobs.evaluate_tower import with_base
from jobs.sweep_files import load_untuned
from tests.listening import Quiet
from tests.small_sweep import small_sweep
from tests.tiny import save_tiny_bert

RATES = (1e-4, 1e-2)
TABLES = ("scores", "aggregates", "rankings", "influence", "cosines")


@dataclass(frozen=True)
class Folders:
    """A sweep file and its texts; the results of its sweep where it was run."""

    file: Path
    spec: SweepSpec
    out: Path
    banks: Path

    @property
    def trial_ids(self) -> list[str]:
        return results.read_sweep(self.out)["trial_ids"]  # type: ignore[no-any-return]

    def tower(self, place: int) -> Path:
        return self.out / "towers" / self.trial_ids[place]

    def changed(self, place: int) -> dict[str, np.ndarray]:
        """Tensors of a trial that differ from its backbone's."""
        backbone = Loader().load_untuned(self.spec.trial.untuned).backbone
        return load_changed(self.tower(place), backbone.spec.name, backbone.encoder_digest)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Texts and a sweep file; no results."""
    inputs = tmp_path_factory.mktemp("inputs")
    spec = small_sweep(inputs, rates=RATES)
    file = inputs / "small.py"
    file.write_text(
        "from pathlib import Path\nfrom tests.small_sweep import small_sweep\n\n\n"
        f"def sweep():\n    return small_sweep(Path({str(inputs)!r}), rates={RATES})\n"
    )
    return Folders(file, spec, tmp_path_factory.mktemp("results") / "swept", inputs / "banks")


@pytest.fixture(scope="module")
def swept(folders: Folders) -> Iterator[Folders]:
    import ray

    start_ray()
    run_sweep(folders.spec, folders.out, folders.banks, Quiet())
    yield folders
    ray.shutdown()


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "80"})


def evaluate(swept: Folders, tower: str | Path, out: Path, *more: str) -> Result:
    """With one evaluator, where the sweep has two: rows do not depend on it."""
    on, *options = more or (str(swept.file),)
    fixed = "--out", out, "--banks", swept.banks, "--set", "cluster.evaluators=1"
    return run("evaluate", tower, "--on", on, *fixed, *options)


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2 and "Traceback" not in result.output, result.output
    for word in words:
        assert word in result.output.replace("\n", " "), result.output


def same_rows(one: Path, first: str, other: Path, second: str) -> None:
    for table in TABLES:
        left, right = (
            results.read_table(out, table, [file_id]).drop_columns(["trial_id"]).to_pandas()
            for out, file_id in ((one, first), (other, second))
        )
        assert len(left) > 0 and left.equals(right), table


@pytest.mark.ray
def test_a_trials_tower_gives_its_trials_rows_bit_for_bit(
    swept: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder whose name Rich would read as markup."""
    out = tmp_path / "own [x] :cat:"
    done = evaluate(swept, swept.tower(1), out)
    assert done.exit_code == 0, done.output
    (row,) = results.read_table(out, "evaluations").to_pylist()
    (trial,) = results.read_table(swept.out, "trials", [swept.trial_ids[1]]).to_pylist()
    assert row["untuned_id"] == trial["untuned_id"] and row["tower"] == str(swept.tower(1))
    same_rows(out, row["trial_id"], swept.out, swept.trial_ids[1])
    untuned = [results.read_table(one, "untuned").to_pandas() for one in (out, swept.out)]
    assert untuned[0].equals(untuned[1])
    for words in (
        f"tuned    {swept.tower(1)}",
        "mine: 40 queries",
        "pairs: 9 language pairs",
        f"{out}/*/{row['trial_id']}.parquet",
    ):
        assert words in done.output
    assert f"{row['num_changed']} of 37 tensors of the tower differ" in done.output
    monkeypatch.setattr(cluster, "start_ray", lambda: pytest.fail("nothing is left to do"))
    again = evaluate(swept, swept.tower(1), out)
    assert again.exit_code == 0 and f"{row['trial_id']} is scored already" in again.output
    assert again.output.partition("untuned  ")[2] == done.output.partition("untuned  ")[2]
    results.table_path(out, "scores", row["trial_id"]).unlink()
    fix = (
        f"delete {results.table_path(out, 'evaluations', row['trial_id'])} and run the same `adiabatic evaluate` again"
    )
    refused(evaluate(swept, swept.tower(1), out), fix)


@pytest.mark.ray
def test_in_the_sweeps_folder_it_shares_the_untuned_counts_and_stands_beside_the_trials(swept: Folders) -> None:
    (untuned,) = (swept.out / "untuned").glob("*.parquet")
    written = untuned.stat().st_mtime_ns
    done = evaluate(swept, swept.tower(1), swept.out)
    assert done.exit_code == 0 and "scoring the untuned backbone" not in done.output, done.output
    assert list((swept.out / "untuned").glob("*.parquet")) == [untuned] and untuned.stat().st_mtime_ns == written
    (row,) = results.read_table(swept.out, "evaluations").to_pylist()
    first, second = swept.trial_ids
    by_tower, by_trial = (compare_trials(swept.out, first, one) for one in (row["trial_id"], second))
    assert by_tower.scores.drop(columns="trial_id").equals(by_trial.scores.drop(columns="trial_id"))
    assert str(swept.tower(1)) in by_tower.after.name
    assert run("report", swept.out).exit_code == 0, "a report is about the trials alone"


@pytest.mark.ray
def test_some_sets_alone_give_the_same_rows_of_those(swept: Folders, tmp_path: Path) -> None:
    done = evaluate(swept, swept.tower(1), tmp_path, f"{swept.file}:pairs")
    assert done.exit_code == 0 and "mine" not in done.output.partition("untuned  ")[2], done.output
    ours = results.read_table(tmp_path, "scores").to_pandas()
    theirs = results.read_table(swept.out, "scores", [swept.trial_ids[1]]).to_pandas()
    theirs = theirs[theirs["set"] == "pairs"].reset_index(drop=True)
    assert ours.drop(columns="trial_id").equals(theirs.drop(columns="trial_id"))


@pytest.mark.ray
def test_a_whole_checkpoint_of_the_same_tower_is_the_same_tower(swept: Folders, tmp_path: Path) -> None:
    """As a sentence-transformers folder: the id is content, so the second one is answered by the first."""
    saved = save_tiny_bert(tmp_path / "saved")
    changed = swept.changed(0)
    save_file(load_file(saved / "model.safetensors") | changed, saved / "model.safetensors", metadata={"format": "pt"})
    modules = ("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")
    rows = [
        {"idx": 0, "name": "", "path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in modules
    ]
    (saved / "modules.json").write_text(json.dumps(rows))
    (saved / "1_Pooling").mkdir()
    (saved / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    for tower in (saved, swept.tower(0)):
        done = evaluate(swept, tower, tmp_path / "out")
        assert done.exit_code == 0, done.output
        assert ("ends in Normalize" in done.output) == (tower == saved)
    assert "is scored already" in done.output
    (row,) = results.read_table(tmp_path / "out", "evaluations").to_pylist()
    same_rows(tmp_path / "out", row["trial_id"], swept.out, swept.trial_ids[0])


@pytest.mark.ray
def test_another_base_is_another_comparison(swept: Folders, tmp_path: Path) -> None:
    """The trial's tower in the role of the base: what was gained since."""
    changed = swept.changed(1)
    base = save_tiny_bert(tmp_path / "base")
    save_file(load_file(base / "model.safetensors") | changed, base / "model.safetensors", metadata={"format": "pt"})
    refused(evaluate(swept, swept.tower(0), tmp_path, str(swept.file), "--base", str(base)), "load that backbone")
    done = evaluate(swept, base, tmp_path / "out", str(swept.file), "--base", str(base))
    assert done.exit_code == 0 and "0 of 37 tensors" in done.output, done.output
    assert (results.read_table(tmp_path / "out", "scores").to_pandas()["errors_untuned"] >= 0).all()


@pytest.mark.ray
def test_a_tower_that_embeds_to_infinity_is_the_users_error(swept: Folders, tmp_path: Path) -> None:
    """Found by an evaluator, in another process; said without its traceback."""
    broken = save_tiny_bert(tmp_path / "broken")
    tensors = load_file(broken / "model.safetensors")
    tensors["encoder.layer.1.output.LayerNorm.weight"][:] = 3e38
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    refused(evaluate(swept, broken, tmp_path / "out"), "finite")
    assert not (tmp_path / "out" / "evaluations").exists()


def test_bad_input_is_refused_before_ray_starts(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "start_ray", lambda: pytest.fail("started in vain"))
    narrow = save_tiny_bert(tmp_path / "narrow", hidden_size=16)
    out = tmp_path / "out"
    refused(evaluate(folders, narrow, out), "embeddings of its base's size, 32", "got 16")
    refused(evaluate(folders, tmp_path / "narow", out), "not there; near: narrow")
    refused(evaluate(folders, narrow, out, f"{folders.file}:pears"), "got 'pears'; choose from mine, pairs")
    refused(evaluate(folders, narrow, out, "dmeo"), "got 'dmeo'", "demo")
    refused(evaluate(folders, narrow, out, str(folders.file), "--set", "trial.tuning.lr=1"), "no 'lr' there")
    refused(evaluate(folders, narrow, out, str(folders.file), "--base", "/nowhere/base"), "/nowhere/base")
    (tmp_path / FILE_NAME).write_bytes(b"no tensors")
    refused(evaluate(folders, tmp_path, out), "must be a whole safetensors file")
    assert not out.exists()


def test_an_out_folder_that_cannot_be_made_is_refused(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here is a file")
    tower = save_tiny_bert(tmp_path / "tower", seed=1)
    refused(evaluate(folders, tower, tmp_path / "file" / "out"), "error: files must be readable and folders writable")


def test_sets_are_chosen_after_a_colon(folders: Folders) -> None:
    spec, everything = load_untuned(str(folders.file), [])
    assert spec == folders.spec and everything == spec.trial.untuned
    _, some = load_untuned(f"{folders.file}:pairs,mine", [])
    assert some == everything, "in the order of the sweep"
    _, one = load_untuned(f"{folders.file}:pairs", ["trial.evaluation.token_budget=256"])
    assert one.evaluation == EvaluationSpec(sets=everything.evaluation.sets[1:], token_budget=256)
    for wrong in (":", ":pairs,", ":Pairs"):
        with pytest.raises(ValueError, match="choose from mine, pairs"):
            load_untuned(f"{folders.file}{wrong}", [])


def test_a_base_keeps_the_conventions_of_the_sweeps_backbone(folders: Folders, tmp_path: Path) -> None:
    backbone = folders.spec.trial.backbone
    assert with_base(backbone, str(tmp_path)) == backbone.model_copy(update={"name": str(tmp_path), "source": "folder"})
    hub = with_base(backbone, "owner/name")
    assert (hub.source, hub.revision, hub.query_prefix) == ("hub", None, "query: ")
