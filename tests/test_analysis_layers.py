"""The most changed layers of a planted sweep: by trial, by block, printed, and beside Tables 14 and 15."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from adiabatic_ray.spec import E5
from analysis.beside_paper import lay_beside
from analysis.layers import block_table, most_changed
from analysis.load import load_sweep
from jobs.cli import app
from tests.planted import Plan, write_planted

FIRST, SECOND, BIAS, GAIN = (
    f"encoder.layer.{name}"
    for name in (
        "3.output.dense.weight",
        "5.intermediate.dense.weight",
        "11.output.dense.bias",
        "3.attention.output.LayerNorm.weight",
    )
)
LAYERS = {
    5e-8: {FIRST: (3.5, 3.75, 0.01), SECOND: (1.5, 1.5, 0.03), BIAS: (0.5, 0.25, 0.02), GAIN: (2.0, 2.5, math.nan)},
    2e-8: {FIRST: (3.5, 3.5, 0.0), SECOND: (1.5, 1.25, 0.02), BIAS: (0.5, 0.5, 0.0), GAIN: (2.0, 2.0, 0.0)},
}
"""Largest weight untuned and tuned, displacement relative to the norm.

At 5e-8 the largest weights that changed are 3.75 and 2.5; relative changes are 1/29, 0, -1/3 and 1/9.
"""
PLAN = Plan({5e-8: 0.1, 2e-8: 0.1}, layers=LAYERS)
SHORT = {tensor: tensor.removeprefix("encoder.layer.") for tensor in (FIRST, SECOND, BIAS, GAIN)}


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    return done.output


def test_the_most_changed_layers_by_each_definition(tmp_path: Path) -> None:
    write_planted(tmp_path, PLAN)
    fast, slow = most_changed(tmp_path).to_dict("records")
    assert (fast["tuning.learning_rate"], slow["tuning.learning_rate"]) == (5e-8, 2e-8)

    def named(row: dict[str, object], definition: str) -> list[object]:
        return [row[f"{definition}/{place}/{what}"] for place in (1, 2) for what in ("layer", "change")]

    assert named(fast, "largest_changed") == [SHORT[FIRST], 3.75, SHORT[GAIN], 2.5]
    assert named(fast, "relative_change") == pytest.approx([SHORT[BIAS], -1 / 3, SHORT[GAIN], 1 / 9])
    assert named(fast, "l2_relative") == [SHORT[SECOND], 0.03, SHORT[BIAS], 0.02], "a gain without a number is none"
    for definition, change in (("largest_changed", 1.25), ("relative_change", -1 / 11), ("l2_relative", 0.02)):
        layer, value, none, nothing = named(slow, definition)
        assert (layer, value, none) == (SHORT[SECOND], pytest.approx(change), None) and math.isnan(nothing)  # type: ignore[arg-type]


def test_more_layers_and_a_sweep_in_memory(tmp_path: Path) -> None:
    write_planted(tmp_path, PLAN)
    table = most_changed(load_sweep(tmp_path), number=3)
    assert table["relative_change/3/layer"].tolist() == [SHORT[FIRST], None]
    assert "relative_change/4/layer" not in table
    assert table["relative_change/3/change"][0] == pytest.approx(1 / 29)


def test_what_a_sweep_varies_names_its_trials(tmp_path: Path) -> None:
    axes = {"tuning.max_epochs": (1, None), "tuning.freeze": ("embeddings", "emb, B0")}
    write_planted(tmp_path, Plan({1e-8: 0.1}, seeds=(0, 1), axes=axes, change={(1e-8, 1): "DIVERGED"}))
    table = most_changed(tmp_path)
    assert {"tuning.seed", "tuning.max_epochs", "tuning.freeze"} < set(table) and len(table) == 8
    assert table["tuning.max_epochs"].tolist()[:4] == [1, 1, None, None], "None is no missing number"
    assert table["status"].tolist() == ["COMPLETE"] * 4 + ["DIVERGED"] * 4
    assert set(table["largest_changed/1/layer"]) == {"dense.weight"}
    text = " ".join(run("layers", tmp_path).split())
    assert "learning_rate=1e-08, freeze=emb,B0" in text and "max_epochs=none" in text and "DIVERGED" in text


def test_blocks_of_a_sweep(tmp_path: Path) -> None:
    """Norms are 2: of block 3 at 5e-8 two tensors, of which one has no number; block 5 at 2e-8 went .04 of 2."""
    write_planted(tmp_path, PLAN)
    table = block_table(tmp_path).set_index(["trial_id", "block"])
    fast, slow = load_sweep(tmp_path).trial_ids
    assert [block for _, block in table.index] == ["3", "5", "11"] * 2
    assert math.isnan(table.loc[(fast, "3"), "l2_relative"]) and table.loc[(fast, "3"), "largest_changed"] == 3.75
    assert table.loc[(slow, "5"), "l2_change"] == pytest.approx(0.04)
    assert table.loc[(slow, "5"), "l2_relative"] == pytest.approx(0.02)
    assert table.loc[(slow, "3"), ["num_tensors", "num_weights", "l2_relative"]].tolist() == [2, 100, 0]


def test_the_command_prints_a_table_for_each_definition(tmp_path: Path) -> None:
    write_planted(tmp_path, PLAN)
    text = run("layers", tmp_path)
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    words = " ".join(text.split())
    place = -1
    for expected in (
        "As in Table 14: largest weight of a layer",
        f"learning_rate=5e-08 {SHORT[FIRST]} 3.75 {SHORT[GAIN]} 2.5",
        f"learning_rate=2e-08 {SHORT[SECOND]} 1.25 - -",
        "As in Table 15: (Wt - Wo) / (Wt + Wo)",
        f"learning_rate=5e-08 {SHORT[BIAS]} -0.333 {SHORT[GAIN]} 0.111",
        "distance that a layer went, relative to its norm",
        f"learning_rate=5e-08 {SHORT[SECOND]} 0.03 {SHORT[BIAS]} 0.02",
        "Of each trial the most changed layer",
    ):
        place = words.find(expected, place + 1)
        assert place >= 0, expected


def test_the_command_prints_csv(tmp_path: Path) -> None:
    write_planted(tmp_path, PLAN)
    found = pd.read_csv(io.StringIO(run("layers", tmp_path, "--csv")))
    assert found["tuning.learning_rate"].tolist() == [5e-8, 2e-8]
    assert found["l2_relative/1/layer"].tolist() == [SHORT[SECOND]] * 2
    assert found["relative_change/1/change"].tolist() == [-1 / 3, -1 / 11], "no digit is lost"


def test_table_14_is_laid_beside_row_by_row(tmp_path: Path) -> None:
    """The paper at 5e-8: 3.output.dense.weight, 2.output...; at 2e-8: 5.intermediate..., 3.attention...LayerNorm."""
    plan = Plan(PLAN.improvement, layers=LAYERS, axes={"backbone.name": (E5.name,)}, change={(2e-8, 0): "COMPLETE"})
    write_planted(tmp_path, plan)
    beside = lay_beside(tmp_path, 14)
    slow, fast = beside.matches  # in the order of the paper's rows
    assert [(line.paper, line.ours) for line in fast.lines] == [
        ("3.output.dense.weight", SHORT[FIRST]),
        ("2.output.dense.weight", SHORT[GAIN]),
    ]
    assert [fast.is_among_the_papers(line) for line in fast.lines] == [True, False]
    assert [(line.paper, line.ours) for line in slow.lines] == [
        ("5.intermediate.dense.weight", SHORT[SECOND]),
        ("3.attention.output.LayerNorm.weight", None),
    ]
    assert [slow.is_among_the_papers(line) for line in slow.lines] == [True, False]
    assert len(beside.rows_alone) == 8 and not any("set " in line for line in beside.deviations)
    assert "source.kind: triplet_file here, msmarco in the paper" in beside.deviations
    text = run("beside", tmp_path, "14")
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    words = " ".join(text.split())
    assert "2 of the paper's 10 rows have a trial here. 2 of 3 layers named here are among the paper's two of" in words
    assert "3.output.dense.weight 3.output.dense.weight yes 2.output.dense.weight" in words
    assert f"{SHORT[GAIN]} no" in words and "3.attention.output.LayerNorm.weight - -" in words


def test_table_15_has_its_own_definition(tmp_path: Path) -> None:
    """The paper at 5e-8: 11.output.dense.weight, then 11.output.dense.bias, which is ours in the first place."""
    write_planted(tmp_path, PLAN)
    fast = lay_beside(tmp_path, 15).matches[1]
    assert [line.ours for line in fast.lines] == [SHORT[BIAS], SHORT[GAIN]]
    assert [fast.is_among_the_papers(line) for line in fast.lines] == [True, False]
    assert "Change: (Wt - Wo) / (Wt + Wo) of a layer's largest weight" in " ".join(
        run("beside", tmp_path, "15").split()
    )


def test_a_trial_without_a_result_stands_beside_without_names(tmp_path: Path) -> None:
    write_planted(tmp_path, Plan(PLAN.improvement, layers=LAYERS, change={(2e-8, 0): "MISSING"}))
    slow, fast = lay_beside(tmp_path, 14).matches
    assert slow.status == "MISSING" and [line.ours for line in slow.lines] == [None, None]
    assert fast.lines[0].ours == SHORT[FIRST]
    text = run("beside", tmp_path, "14")
    assert "1 of 2 layers named here" in text and "INCOMPLETE" in text


def test_bad_input_is_one_clear_message(tmp_path: Path) -> None:
    write_planted(tmp_path / "old", PLAN)
    path = tmp_path / "old" / "sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 4}))
    write_planted(tmp_path / "unfinished", Plan({1e-8: 0.1}, change={(1e-8, 0): "MISSING"}))
    for name, words in (
        ("none", "a results folder must exist"),
        ("old", "must have schema version 5 or 6, got 4"),
        ("unfinished", "at least one finished trial, got none of 1"),
    ):
        for options in ((), ("--csv",)):
            done = CliRunner().invoke(app, ["layers", str(tmp_path / name), *options])
            assert done.exit_code == 2 and "Traceback" not in done.output, done.output
            assert words in done.output.replace("\n", " ")
