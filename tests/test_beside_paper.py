"""A planted sweep beside the paper's tables: which trial belongs to which row, and what is printed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from adiabatic_ray import results
from adiabatic_ray.spec import E5
from adiabatic_ray.statistics.score_tables import ranking_rows
from analysis.beside_paper import Beside, Line, Match, lay_beside
from analysis.beside_tables import print_beside
from analysis.curves import count_pairs
from analysis.paper_tables import PairChange, Quantity
from jobs.cli import app
from tests import planted
from tests.planted import Plan, Texts, write_planted

RATE = 5e-8
TUNED = Quantity("msmarco", "", "pnd", "cosine")
FIRST = Quantity("arxiv-first", "", "pnd", "distance")
PAIRS = Quantity("xnli", "entailment-neutral", "pairs", "cosine")
FREEZE = {"tuning.freeze": ("emb.base", "embeddings", "emb,B0a", "B0")}


@pytest.fixture(autouse=True)
def named_as_in_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """The held-out set and the labelled pairs bear the names of the paper's; the tuned set has its own."""
    for name, value in (("HELD_OUT", "arxiv-first"), ("PAIRS", "xnli"), ("RELATION", "entailment-neutral")):
        monkeypatch.setattr(planted, name, value)


def line(match: Match, quantity: Quantity) -> Line:
    (found,) = (line for line in match.lines if line.quantity == quantity)
    return found


def printed(beside: Beside) -> str:
    console = Console(width=80, file=io.StringIO())
    print_beside(beside, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    return text


def flat(text: str) -> str:
    return " ".join(text.split())


def test_trials_stand_beside_the_rows_with_their_freeze_plan(tmp_path: Path) -> None:
    plan = Plan({RATE: 0.1}, seeds=(0, 1), axes=FREEZE, change={(RATE, 1): "DIVERGED"})
    write_planted(tmp_path, plan)
    beside = lay_beside(tmp_path, 1)
    # `emb` and `embeddings`, `emb, B0a` and `emb,B0a` are one plan; seeds stand each by itself.
    shown = [(match.settings["tuning.freeze"], match.settings["tuning.seed"], match.status) for match in beside.matches]
    assert shown == [
        (freeze, seed, status)
        for freeze in ("emb.base", "emb", "emb, B0a")
        for seed, status in ((0, "COMPLETE"), (1, "DIVERGED"))
    ]
    assert [row["tuning.freeze"] for row in beside.rows_alone] == [
        "", "emb, B0a,i", "emb, B0a,i,od", "emb, B0", "emb, B0-5", "emb, B0-10",
    ]  # fmt: skip
    assert [settings["tuning.freeze"] for _, settings in beside.trials_alone] == ["B0", "B0"]
    assert all(one.ours is None for one in beside.matches[1].lines), "a diverged trial has no numbers"


def test_a_row_has_the_papers_value_ours_and_its_interval(tmp_path: Path) -> None:
    write_planted(tmp_path, Plan({RATE: 0.1}, axes=FREEZE))
    beside = lay_beside(tmp_path, 1)
    match = beside.matches[1]
    scores = beside.sweep.scores[beside.sweep.scores["trial_id"] == match.trial_id]
    (score,) = scores[(scores["set"] == "questions") & (scores["measure"] == "cosine")].to_dict("records")
    tuned = line(match, TUNED)
    assert (tuned.paper, tuned.ours) == (pytest.approx(0.073), pytest.approx(0.5)), "planted: half of the errors"
    assert (tuned.low, tuned.high) == pytest.approx((score["improvement_low"], score["improvement_high"]), nan_ok=True)
    assert line(match, FIRST).ours == 0, "planted: nothing changes on the held-out set"
    counts = count_pairs(scores[(scores["set"] == "xnli") & (scores["measure"] == "cosine")])
    pairs = line(match, PAIRS)
    assert pairs.paper == PairChange(222, 0)
    assert pairs.ours == PairChange(counts.improved_z, counts.degraded_z)
    assert pairs.clustered == PairChange(counts.improved, counts.degraded) and counts.improved > 0
    assert line(match, Quantity("arxiv-title", "", "pnd", "cosine")).ours is None

    text = flat(printed(beside).split(match.trial_id)[1])
    assert "msmarco PND cosine +7.30 +50.0 - +42.7 msmarco PND distance +8.82 +50.0 - +41.2" in text
    assert f"222/0 {counts.improved_z}/0 [{counts.improved}/0] {counts.improved_z - 222:+d}/+0" in text


def test_what_is_not_the_papers_is_named_before_anything_else(tmp_path: Path) -> None:
    write_planted(tmp_path, Plan({RATE: 0.1}, axes=FREEZE))
    beside = lay_beside(tmp_path, 1)
    assert beside.deviations == (
        "backbone.name: planted here, intfloat/multilingual-e5-small in the paper",
        "source.kind: triplet_file here, msmarco in the paper",
        "tuning.max_epochs: 1 here, none in the paper",
        "set msmarco: questions stands in its place",
        "set msmarco: kind triplet_file here, msmarco in the paper",
        "set msmarco: num_evaluation all here, 7000 in the paper",
        "set arxiv-first: kind triplet_file here, arxiv in the paper",
        "set arxiv-title: not evaluated here",
        "set xnli: kind pair_file here, xnli in the paper",
        "set xnli: languages ar, bg, de here, 15 of them in the paper",
    )
    text = printed(beside)
    assert text.index("Not the paper's:") < text.index("measure")
    for words in beside.deviations:
        assert words in flat(text)
    for words in ("3 of the paper's 9 rows", "- freeze=emb, B0-10", "- freeze=B0: lr5e-08-B0-seed0-"):
        assert words in flat(text), words


def test_what_the_paper_keeps_and_the_sweep_varies_decides_too(tmp_path: Path) -> None:
    write_planted(tmp_path, Plan({RATE: 0.1, 1e-7: 0.1}, axes={"tuning.freeze": ("emb",)}))
    beside = lay_beside(tmp_path, 1)
    assert [match.settings["tuning.learning_rate"] for match in beside.matches] == [RATE]
    assert [settings["tuning.learning_rate"] for _, settings in beside.trials_alone] == [1e-7]
    # A rate that is the same in all trials, though not the paper's, is a deviation.
    write_planted(tmp_path / "one", Plan({1e-7: 0.1}, axes={"tuning.freeze": ("emb",)}))
    beside = lay_beside(tmp_path / "one", 1)
    assert len(beside.matches) == 1 and "tuning.learning_rate: 1e-07 here, 5e-08 in the paper" in beside.deviations


def test_epochs_of_the_papers_number_of_samples_need_not_be_as_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Table 8 keeps 14,000 samples an epoch; here it is 1,400."""
    points = [{"tuning.batch_size": size, "tuning.batches_per_epoch": 1400 // size} for size in (7, 14, 28)]
    spec = planted.sweep_spec(Plan({RATE: 0.1})).model_copy(update={"grid": {}, "points": tuple(points)})
    monkeypatch.setattr(planted, "sweep_spec", lambda plan: spec)
    write_planted(tmp_path, Plan({RATE: 0.1}))
    beside = lay_beside(tmp_path, 8)
    assert [match.settings["tuning.batch_size"] for match in beside.matches] == [7, 14, 28]
    assert "samples_per_epoch: 1400 here, 14000 in the paper" in beside.deviations
    assert not any("batches_per_epoch" in words for words in beside.deviations)
    # Table 9 keeps 1,000 batches: there the number of batches, which varies here, decides.
    assert lay_beside(tmp_path, 9).matches == ()


def test_schedules_are_laid_beside_against_the_tuned_encoder(tmp_path: Path) -> None:
    """Batch 64 without a schedule, of Table 17: its tuned set has the errors of batch 14, and half of the untuned."""
    write_planted(tmp_path, Plan({RATE: 0.1}, seeds=(0, 1), axes={"tuning.batch_size": (64, 14)}))
    beside = lay_beside(tmp_path, 17)
    (row,) = {
        tuple(match.settings[f"tuning.{name}"] for name in ("batch_size", "schedule")) for match in beside.matches
    }
    assert row == (64, "none") and [match.settings["tuning.seed"] for match in beside.matches] == [0, 1]
    assert [line(match, TUNED).ours for match in beside.matches] == [0, 0]
    assert line(beside.matches[0], TUNED).paper == pytest.approx(0.0158)
    assert "against a tuned encoder" in printed(beside)
    write_planted(tmp_path / "without", Plan({RATE: 0.1}, axes={"tuning.batch_size": (64,)}))
    beside = lay_beside(tmp_path / "without", 17)
    assert {line(match, TUNED).ours for match in beside.matches} == {None}
    assert "no finished trial to compare it with: batch_size=14, schedule=none, weight_decay=0" in flat(printed(beside))


def test_rank_measures_of_table_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted, "TUNED", "squad")
    spec = write_planted(tmp_path, Plan({RATE: 0.1}))
    (trial_id,) = (trial.trial_id for trial in spec.expand())
    texts = Texts(Plan({RATE: 0.1}))
    rows = ranking_rows(trial_id, texts.untuned_counts(), texts.tuned_counts(0.1))
    results.write_table(tmp_path, "rankings", trial_id, rows)
    (match,) = lay_beside(tmp_path, 2).matches
    (expected,) = (
        row for row in rows if (row["set"], row["measure"], row["statistic"]) == ("squad", "cosine", "reciprocal_rank")
    )
    found = line(match, Quantity("squad", "", "reciprocal_rank", "cosine"))
    assert found.paper == pytest.approx(0.0017)
    assert (found.ours, found.low) == (expected["improvement"], expected["improvement_low"]) and found.low > 0
    assert line(match, Quantity("squad", "", "pnd", "cosine")).ours == pytest.approx(0.5)
    text = printed(lay_beside(tmp_path, 2))
    assert "1 of the paper's 1 rows" in text and "set hotpotqa-hard: not evaluated here" in text
    assert "msmarco-65-negatives MRR cosine +0.48 -" in flat(text)


def test_an_untuned_encoder_stands_once_however_many_trials_it_has(tmp_path: Path) -> None:
    write_planted(tmp_path, Plan({RATE: 0.1, 1e-7: 0.2}, axes={"backbone.name": (E5.name,)}))
    beside = lay_beside(tmp_path, 3)
    (match,) = beside.matches
    texts = Texts(Plan({}))
    found = line(match, Quantity("xnli", "entailment-neutral", "pnd_untuned", "cosine"))
    assert found.paper == pytest.approx(0.108) and found.ours == pytest.approx(texts.untuned[0].sum() / 9 / 40**2)
    assert beside.trials_alone == () and len(beside.rows_alone) == 2
    assert not any("tuning" in words for words in beside.deviations)
    assert f"xnli e-n PND cosine 10.80 {100 * found.ours:.2f} -" in flat(printed(beside))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["OUT", "19"], "a table must be one of the paper's with numbers of encoders, got 19; there are 1, 2, 3"),
        (["OUT/none", "1"], "a results folder must exist"),
        (["OUT/empty", "1"], "sweep.json"),
        (["OUT/unfinished", "1"], "at least one finished trial, got none of 1"),
    ],
)
def test_bad_input_is_one_clear_message(tmp_path: Path, arguments: list[str], words: str) -> None:
    write_planted(tmp_path, Plan({RATE: 0.1}))
    (tmp_path / "empty").mkdir()
    write_planted(tmp_path / "unfinished", Plan({RATE: 0.1}, change={(RATE, 0): "MISSING"}))
    done = CliRunner().invoke(app, ["beside", *(text.replace("OUT", str(tmp_path)) for text in arguments)])
    assert done.exit_code == 2 and "Traceback" not in done.output and words in done.output.replace("\n", " ")


def test_the_command_prints_the_table(tmp_path: Path) -> None:
    write_planted(tmp_path, Plan({RATE: 0.1}, axes=FREEZE))
    done = CliRunner().invoke(app, ["beside", str(tmp_path), "1"], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    assert "Table 1 of the paper, section 3.1" in done.output and "Rows of the paper without a trial" in done.output
