"""What the report writes and shows: files, tables for terminal and Markdown, pictures."""

import dataclasses
import io
import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from planted import HELD_OUT, PAIRS, RELATION, Plan, write_planted
from rich.console import Console

from adiabatic_ray.results import ResultsError
from analysis import plots
from analysis.boundary import estimate_boundaries
from analysis.curves import Criterion
from analysis.load import load_sweep
from analysis.report import write_report
from analysis.terminal import completeness_line, percent, print_report, tables

FALLING = {0.0: 0.0, 1e-8: 0.01, 1e-7: 0.02, 3e-7: -0.04, 1e-6: None}
COSINE = Criterion(PAIRS, RELATION, "cosine")


@pytest.fixture
def drawn(monkeypatch):
    """Figures that the pictures are made from, by file name, beside the files."""
    figures = {}
    save = plots._save

    def keep(figure, path):
        figures[path.name] = figure
        save(figure, path)

    monkeypatch.setattr(plots, "_save", keep)
    return figures


def printed(sweep, width=80):
    """What a terminal of this width shows."""
    stream = io.StringIO()
    print_report(sweep, estimate_boundaries(sweep, num_resamples=100), Console(file=stream, width=width))
    return stream.getvalue()


def test_the_report_is_written_whole(tmp_path):
    write_planted(tmp_path, Plan(FALLING, seeds=(0, 1), change={(3e-7, 1): "MISSING"}))
    report = write_report(tmp_path, num_resamples=200)
    names = {"boundary.json", "curves.csv", "curves.png", "heatmap.png", "report.html", "report.md"}
    assert {path.name for path in (tmp_path / "report").iterdir()} == names
    assert report.pictures == (tmp_path / "report" / "curves.png", tmp_path / "report" / "heatmap.png")
    assert all(min(imread(picture).shape[:2]) > 300 for picture in report.pictures)
    assert len(pd.read_csv(report.table)) == 10
    written = json.loads((tmp_path / "report" / "boundary.json").read_text())["boundaries"]
    assert [one["measure"] for one in written] == ["cosine", "distance"]
    assert written[0] == dataclasses.asdict(report.boundaries[0]) | {"sentence": written[0]["sentence"]}
    text = report.markdown.read_text()
    assert "> Is the planted boundary found?" in text and "Commit: planted." in text
    assert "INCOMPLETE planted: 10 trials, 7 complete, 2 diverged, 1 missing." in text
    assert f"- {written[0]['sentence']}" in text
    assert "| 1e-07 | 2 | +50.0 | +0.00 | " in text and "| 1e-06 | 0 | - | - | - | - | - | DIVERGED |" in text
    assert "![curves](curves.png)" in text and "![heatmap](heatmap.png)" in text


def test_a_report_is_replaced_when_the_sweep_went_on(tmp_path):
    write_planted(tmp_path, Plan(FALLING, change={(3e-7, 0): "MISSING"}))
    write_report(tmp_path, num_resamples=100)
    write_planted(tmp_path, Plan(FALLING))
    report = write_report(tmp_path, num_resamples=100)
    assert report.markdown.read_text().count("planted: 5 trials, 4 complete, 1 diverged.") == 1
    assert "INCOMPLETE" not in report.markdown.read_text()


def test_all_diverged_gives_a_report_without_a_heat_map(tmp_path):
    write_planted(tmp_path, Plan({1e-5: None, 1e-4: None}))
    report = write_report(tmp_path, num_resamples=100)
    assert [picture.name for picture in report.pictures] == ["curves.png"]
    assert "the boundary lies below 1e-05" in report.markdown.read_text()


@pytest.mark.parametrize("plan", [Plan({0.0: 0.0}), Plan(FALLING, has_pairs=False)], ids=["control only", "no pairs"])
def test_a_sweep_without_a_boundary_has_a_report_that_says_so(tmp_path, plan):
    write_planted(tmp_path, plan)
    report = write_report(tmp_path)
    text = report.markdown.read_text()
    assert report.boundaries == [] and report.pictures == ()
    assert "No boundary: a boundary needs" in text and "| 0 | 1 | +0.00 | +0.00 |" in text


def test_a_terminal_of_80_columns_shows_every_rate_in_one_line(tmp_path):
    write_planted(tmp_path, Plan(FALLING, seeds=(0, 1), seed_sd=0.01))
    text = printed(load_sweep(tmp_path))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "planted: 10 trials, 8 complete, 2 diverged."
    rates = [line.split()[0] for line in lines if line.rstrip().endswith(("COMPLETE", "DIVERGED"))]
    assert rates == ["0", "1e-08", "1e-07", "3e-07", "1e-06"] * 2
    falling = next(line for line in lines if line.startswith(" 3e-07")).split()
    assert falling[1:4] == ["2", "+50.0", "+0.00"] and falling[-1] == "COMPLETE"
    assert float(falling[-2]) == pytest.approx(-4, abs=2)
    assert "names, same-other, cosine" in text and "names, same-other, distance" in text
    assert text.count("Multilingual quality (") == 2


def test_set_names_break_at_hyphens_and_states_do_not_break(tmp_path):
    write_planted(tmp_path, Plan({1e-8: 0.01, 1e-7: -0.03}, seeds=(0, 1), change={(1e-7, 1): "FAILED"}))
    sweep = load_sweep(tmp_path)
    scores = [sweep.scores]
    for name in ("arxiv-title", "arxiv-first"):
        more = sweep.scores[sweep.scores["set"] == HELD_OUT].copy()
        more["set"] = name
        scores.append(more)
    lines = printed(dataclasses.replace(sweep, scores=pd.concat(scores))).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split() == ["tuned", "held-", "arxiv-", "arxiv-", "paper", "mean"] for line in lines)
    assert any(line.endswith("COMPLETE") for line in map(str.rstrip, lines))


def test_an_incomplete_sweep_says_so_first(tmp_path):
    write_planted(tmp_path, Plan(FALLING, change={(1e-8, 0): "FAILED", (1e-7, 0): "MISSING"}))
    sweep = load_sweep(tmp_path)
    line = completeness_line(sweep)
    assert line == (
        "INCOMPLETE planted: 5 trials, 2 complete, 1 diverged, 1 failed, 1 missing. "
        "Run the sweep again: it continues where it stopped."
    )
    assert " ".join(printed(sweep).split()).startswith(line)


def test_groups_have_tables_of_their_own(tmp_path):
    write_planted(tmp_path, Plan(FALLING, axes={"tuning.batch_size": (14, 28)}))
    titles = [str(table.title) for table in tables(load_sweep(tmp_path))]
    assert titles == [f"names, same-other, {m}; batch_size={b}" for b in (14, 28) for m in ("cosine", "distance")]


@pytest.mark.parametrize("frac, text", [
    (0.0123, "+1.23"), (-0.09994, "-9.99"), (-0.09996, "-10.0"), (0.5, "+50.0"), (-12.3456, "-1235"),
    (-0.00001, "+0.00"), (float("nan"), "-"),
])  # fmt: skip
def test_percentages(frac, text):
    assert percent(frac) == text


def test_curves_show_counts_gains_boundary_and_what_diverged(tmp_path, drawn):
    write_planted(tmp_path, Plan(FALLING, seeds=(0, 1)))
    (boundary,) = plots.plot_curves(load_sweep(tmp_path), tmp_path / "curves.png")
    left, right = drawn["curves.png"].axes
    assert boundary.measure == "cosine" and left.get_xscale() == right.get_xscale() == "log"
    labels = [text.get_text() for text in right.get_legend().get_texts()]
    assert labels[:3] == ["questions (tuned on)", HELD_OUT, "mean over language pairs, 95% band"]
    assert "a trial diverged" in labels and any(label.startswith("boundary ") for label in labels)
    for axes in (left, right):
        assert [line for line in axes.lines if list(line.get_xdata()) == [boundary.estimate] * 2], "boundary line"
    mean = next(line for line in right.lines if line.get_label().startswith("mean over"))
    assert list(mean.get_xdata()) == [1e-8, 1e-7, 3e-7, 1e-6]
    assert list(mean.get_ydata()[:3]) == pytest.approx([1, 2, -4], abs=0.1) and np.isnan(mean.get_ydata()[3])
    # Filled where the clustered test is significant: the generator halves the tuned set's errors, and leaves the other.
    points = [line for line in right.lines if line.get_linestyle() == "None" and len(line.get_xdata()) == 6]
    assert {(line.get_ydata()[0], line.get_markerfacecolor() == "white") for line in points} == {(50, False), (0, True)}


def test_every_relation_by_cosine_or_every_group_gets_a_row(tmp_path, drawn):
    write_planted(tmp_path, Plan(FALLING, axes={"tuning.freeze": ("embeddings", "emb, B0", "B0")}))
    found = plots.plot_curves(load_sweep(tmp_path), tmp_path / "curves.png")
    assert [boundary.group for boundary in found] == ["freeze=embeddings", "freeze=emb, B0", "freeze=B0"]
    assert len(drawn["curves.png"].axes) == 6


def test_the_heat_map_shows_each_pair_queries_down_passages_across(tmp_path, drawn):
    write_planted(tmp_path, Plan({1e-8: -0.05, 1e-7: 0.1}, seeds=(0, 1), seed_sd=0.01))
    sweep = load_sweep(tmp_path)
    scores = sweep.scores[(sweep.scores["measure"] == "cosine") & (sweep.scores["set"] == PAIRS)]
    scores = scores[(scores["query_language"] == "bg") & (scores["passage_language"] == "de")].set_index("trial_id")
    one, other = (scores.loc[i, "improvement"] for i in sweep.trial_ids[:2])
    for which, expected in ((1e-8, (one + other) / 2), (sweep.trial_ids[0], one)):
        plots.plot_heatmap(sweep, which, tmp_path / "heat.png")
        axes = drawn["heat.png"].axes[0]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["ar", "bg", "de"]
        shown = {text.get_position(): text.get_text() for text in axes.texts}
        assert shown[(2, 1)] == f"{100 * expected:.1f}"
        low, high = axes.images[0].get_clim()
        assert low == -high


def test_one_extreme_pair_does_not_wash_out_the_scale(tmp_path, drawn):
    write_planted(tmp_path, Plan({1e-8: 0.05}, num_languages=15))
    sweep = load_sweep(tmp_path)
    scores = sweep.scores.copy()
    pairs = scores.index[(scores["set"] == PAIRS) & (scores["measure"] == "cosine")]
    scores.loc[pairs[:3], "improvement"] = [-50.0, np.nan, -0.0001]
    plots.plot_heatmap(dataclasses.replace(sweep, scores=scores), 1e-8, tmp_path / "heat.png")
    axes, bar = drawn["heat.png"].axes
    assert axes.images[0].get_clim()[1] < 20
    assert [text.get_text() for text in axes.texts[:3]] == ["-5000", "-", "0.0"]
    assert bar.get_ylabel() == "improvement, % (blue is better)"


def test_a_heat_map_of_nothing_is_refused(tmp_path):
    write_planted(tmp_path / "a", Plan({1e-8: 0.05, 1e-5: None}))
    sweep = load_sweep(tmp_path / "a")
    for which in (1e-5, 2e-8, "lr1"):
        with pytest.raises(ResultsError, match="needs a trial with scores for names, same-other, cosine"):
            plots.plot_heatmap(sweep, which, tmp_path / "heat.png", criterion=COSINE)
    write_planted(tmp_path / "b", Plan({1e-8: 0.05}, has_pairs=False))
    with pytest.raises(ResultsError, match="needs a pair set"):
        plots.plot_heatmap(load_sweep(tmp_path / "b"), 1e-8, tmp_path / "heat.png")
    with pytest.raises(ResultsError, match="a boundary needs"):
        plots.plot_curves(load_sweep(tmp_path / "b"), tmp_path / "curves.png")


def test_the_heat_map_of_the_report_is_the_last_rate_that_holds(tmp_path, drawn):
    write_planted(tmp_path / "a", Plan(FALLING, seeds=(0, 1)))
    write_report(tmp_path / "a", num_resamples=100)
    assert "learning rate 1e-07, seeds: 2" in drawn["heatmap.png"].axes[0].get_title(loc="left")
    write_planted(tmp_path / "b", Plan({1e-8: -0.3, 1e-7: -0.5}))
    write_report(tmp_path / "b", num_resamples=100)
    assert "learning rate 1e-08, seeds: 1" in drawn["heatmap.png"].axes[0].get_title(loc="left")
