"""The report's page: every section, the tables' own numbers, nothing from elsewhere, hostile names, bad input."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from planted import Plan, write_planted
from planted_xnli import Look, write_xnli
from typer.testing import CliRunner

from adiabatic_ray import results
from analysis.boundary_tables import boundary_table, language_boundaries
from analysis.curves import rate_table
from analysis.gains import best_rates
from analysis.interval import estimate, interval_of
from analysis.load import load_sweep
from analysis.pareto import pareto_front
from analysis.ratios import boundary_ratios
from analysis.report import Report, write_report
from analysis.report_sweeps import write_sweeps_report
from analysis.rules import Rule, definition
from analysis.terminal import percent
from jobs.cli import app

FALLING = {0.0: 0.0, 1e-8: 0.01, 1e-7: 0.02, 3e-7: -0.04, 1e-6: None}
VOID = {"meta", "rect", "path", "br", "hr", "img", "link", "input"}


class Parsed(HTMLParser):
    """Elements with their attributes and text, and whether every one was closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closed out of turn"

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))

    def named(self, tag: str) -> list[str]:
        return [text for where, text in self.texts if where == tag]

    def classes(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.elements if name in (attrs.get("class") or "").split()]


def parsed(report: Report) -> Parsed:
    return Parsed(report.html.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def look_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four languages, both relations, two freeze plans; one trial failed, one diverged, two commits."""
    out = tmp_path_factory.mktemp("look")
    changes = {(4e-7, 1): "DIVERGED", (2e-8, 0): "FAILED"}
    freeze = {"embeddings": 1.0, "embeddings, output.dense.weight": 2.0}
    look = Look(
        rates=(2e-8, 7e-8, 2e-7, 4e-7),
        num_languages=4,
        num_clusters=60,
        freeze=freeze,
        changes=changes,
        commits=("a" * 40, "b" * 40),
    )
    write_xnli(out, look)
    return out


@pytest.fixture(scope="module")
def look(look_folder: Path) -> Report:
    return write_report(look_folder, num_resamples=200)


def test_every_section_is_there_and_in_order_in_both_files(look):
    titles = [
        "Boundary",
        "Completeness and provenance",
        "All criteria",
        "Ratios of boundaries",
        "Curves",
        "Gain and its price",
        "Languages",
        "Which language breaks first",
        "Freezing compared",
        "Drift and step resolution",
        "Cost",
    ]
    page = parsed(look)
    assert page.named("h2") == titles and page.named("a") == titles
    anchors = {attrs["href"] for tag, attrs in page.elements if tag == "a"}
    assert anchors == {f"#{attrs['id']}" for tag, attrs in page.elements if tag == "section"}
    markdown = look.markdown.read_text()
    assert [line[3:] for line in markdown.splitlines() if line.startswith("## ")] == titles
    assert all(text.startswith("Source: ") for text in page.named("p") if "Table" in text[:16])
    assert len(page.classes("source")) == len(titles)


def test_completeness_comes_before_any_number(look):
    page = parsed(look)
    paragraphs = page.named("p")
    line = next(text for text in paragraphs if "trials" in text)
    assert line.startswith("INCOMPLETE planted-xnli: 16 trials, 12 complete, 2 diverged, 2 failed.")
    bullets = page.named("li")
    assert any(text.startswith("Failed: ") and "lost node" in text for text in bullets)
    assert any(text.startswith("Mixed commits: ") and "a" * 40 in text and "b" * 40 in text for text in bullets)
    text = look.html.read_text()
    assert text.index("INCOMPLETE") < text.index("Multilingual quality")


def test_nothing_is_loaded_from_elsewhere(look):
    page = parsed(look)
    for tag, attrs in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form"}
        assert not attrs.keys() & {"src", "srcset", "data", "action", "poster", "background"}
        assert (attrs.get("href") or "#").startswith("#")
        assert not any(name.startswith("on") for name in attrs)
    text = look.html.read_text()
    assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(|XMLHttpRequest|import\(", text)


def test_a_page_is_small(look):
    assert look.html.stat().st_size < 1_000_000


def test_the_numbers_are_those_of_the_tables(look, look_folder):
    sweep = load_sweep(look_folder)
    page, markdown = parsed(look), look.markdown.read_text()
    cells = set(page.named("td"))
    for row in rate_table(sweep).to_dict("records"):
        if row["num_seeds"]:
            for column in (
                "gain_tuned/cosine",
                "gain/arxiv-title/distance",
                "improvement/xnli/entailment-neutral/cosine",
            ):
                assert percent(row[column]) in cells and percent(row[column]) in markdown
    written = json.loads((look.folder / "boundary.json").read_text())["boundaries"]
    assert len(written) == 8
    assert all(one["sentence"] in page.named("li") and f"- {one['sentence']}" in markdown for one in written)


def test_a_map_shows_each_pair_with_value_and_interval(look, look_folder):
    sweep = load_sweep(look_folder)
    scores = sweep.scores
    trial_ids = [
        i
        for i in sweep.completeness.done
        if sweep.trial_specs[i].tuning.learning_rate == 7e-8 and sweep.trial_specs[i].tuning.freeze == "embeddings"
    ]
    assert len(trial_ids) == 2
    rows = scores[scores["trial_id"].isin(trial_ids) & (scores["relation"] == "entailment-neutral")]
    rows = rows[(rows["measure"] == "cosine") & (rows["query_language"] == "bg") & (rows["passage_language"] == "el")]
    low, high = rows["improvement_low"].min(), rows["improvement_high"].max()
    significant = int((rows["bh_p"] <= 0.05).sum())
    hull = f"hull of the seeds' 95% intervals, {percent(low)} to {percent(high)}"
    tip = f"bg to el: {percent(rows['improvement'].mean())}% ({hull})"
    titles = [attrs.get("title") or "" for tag, attrs in parsed(look).elements if tag == "td"]
    assert f"{tip}, {significant} of 2 seeds significant" in titles


def test_relatives_stand_together(look):
    page = parsed(look)
    heads = page.named("th")
    place = heads.index("bg")
    assert heads[place - 1 : place + 3] == ["de", "bg", "el", "ar"]


def test_languages_over_rates_are_the_aggregates(look, look_folder):
    sweep = load_sweep(look_folder)
    means = pq.read_table(look_folder / "aggregates").to_pandas()
    chosen = [i for i, spec in sweep.trial_specs.items() if spec.tuning.learning_rate == 2e-7]
    chosen = [i for i in chosen if i in sweep.completeness.done and sweep.groups[i] == "freeze=embeddings"]
    rows = means[means["trial_id"].isin(chosen) & (means["axis"] == "query language") & (means["group"] == "ar")]
    rows = rows[(rows["relation"] == "entailment-contradiction") & (rows["measure"] == "cosine")]
    assert len(rows) == 2
    titles = [attrs.get("title") or "" for tag, attrs in parsed(look).elements if tag == "td"]
    assert any(
        title.startswith(f"query language ar, 2e-07: {percent(rows['improvement'].mean())}%") for title in titles
    )


def test_boundaries_by_language_have_a_column_a_chart_and_a_table(look):
    page, markdown = parsed(look), look.markdown.read_text()
    found = language_boundaries(look.evidence, axes=("query language", "passage language"))
    rows = found[(found["measure"] == "cosine") & (found["group"] == "freeze=embeddings")].to_dict("records")
    assert len(rows) == 2 * 2 * 4, "two relations, two sides, four languages"
    heads, cells, titles = page.named("th"), page.named("td"), page.named("title")
    assert "boundary" in heads
    for row in rows:
        assert estimate(interval_of(row)) in cells
        assert f"{row['axis']} {row['member']}: {row['words']}" in titles
        assert f"| {row['words']} |" in markdown
    first = next(row for row in rows if row["axis"] == "query language")
    assert any(f"query language {first['member']} at" in text for text in page.named("li"))


def test_every_criterion_is_defined_and_has_its_numbers(look):
    page, markdown = parsed(look), look.markdown.read_text()
    for rule in Rule:
        assert f"{rule}: {definition(rule)}." in page.named("li") and f"- {rule}: {definition(rule)}." in markdown
    for row in boundary_table(look.evidence).to_dict("records"):
        assert str(row["words"]) in page.named("td") and f"| {row['words']} |" in markdown
    assert any("arxiv-title" in text and "all criteria" in text for text in page.named("figcaption"))


def test_ratios_between_groups_are_shown(look):
    page, markdown = parsed(look), look.markdown.read_text()
    for row in boundary_ratios(look.evidence).to_dict("records"):
        assert row["words"] in page.named("td") and row["words"] in markdown


def test_the_gain_and_its_price(look):
    page, markdown = parsed(look), look.markdown.read_text()
    points = pareto_front(look.evidence)
    cosine = points[points["measure"] == "cosine"]
    titles = [text for text in page.named("title") if "msmarco" in text and "entailment-" in text]
    assert len(titles) == len(cosine), "every trial is a point of both relations"
    assert sum(text.endswith("on the front") for text in titles) == cosine["on_front"].sum()
    assert page.classes("front"), "the front is joined"
    for row in best_rates(look.evidence).to_dict("records"):
        assert percent(row["unconstrained_gain"]) in page.named("td") and percent(row["unconstrained_gain"]) in markdown
    assert any("Lower end of the gain" in text for text in page.named("li"))


def test_definitions_of_the_criteria_stand_in_the_docs_word_for_word():
    text = (Path(__file__).resolve().parents[1] / "docs" / "boundary.md").read_text()
    assert all(f"| `{rule}` | {definition(rule)} |" in text for rule in Rule)


def test_marks_are_open_where_not_significant(look, look_folder):
    sweep = load_sweep(look_folder)
    page = look.html.read_text()
    scores = sweep.scores[(sweep.scores["set"] == "arxiv-title") & (sweep.scores["measure"] == "cosine")]
    for row in scores.to_dict("records"):
        spec = sweep.trial_specs[row["trial_id"]]
        begins = (
            f"arxiv-title, {spec.tuning.learning_rate:.0e}, seed {spec.tuning.seed}: {percent(row['improvement'])}%"
        )
        found = re.findall(rf'<path class="mark c3( open)?"[^>]*><title>{re.escape(begins)}', page)
        assert found, begins
        assert all(bool(openness) == (not row["clustered_p"] <= 0.05) for openness in found)
    assert 'class="broken"' in page and "1 trial diverged" in page


def test_freezing_is_compared_in_the_columns_of_table_1(look):
    heads = parsed(look).named("th")
    place = heads.index("trained weights")
    assert heads[place + 1 : place + 5] == ["tuned set c%", "tuned set d%", "arxiv-title c%", "arxiv-title d%"]
    assert heads[place + 5 : place + 7] == ["xnli entailment-neutral c+/-", "xnli entailment-neutral d+/-"]


def test_one_group_has_no_comparison_of_settings(tmp_path):
    write_planted(tmp_path, Plan(FALLING))
    assert "Freezing compared" not in parsed(write_report(tmp_path, num_resamples=100)).named("h2")


HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)> & \"q\" | {{ 7*7 }}"


def test_names_with_html_in_them_stay_names(tmp_path):
    write_planted(tmp_path, Plan(FALLING, seeds=(0, 1), change={(3e-7, 1): "FAILED"}))
    content = json.loads((tmp_path / "sweep.json").read_text())
    content["spec"] |= {"question": f"Why {HOSTILE}?"}
    content["provenance"] |= {"argv": ["run", HOSTILE], "host": HOSTILE, "commit": HOSTILE}
    (tmp_path / "sweep.json").write_text(json.dumps(content))
    for path in tmp_path.glob("failures/*.json"):
        failure = {"trial_id": path.stem, "error": f"{HOSTILE} & more"}
        path.write_text(json.dumps(failure))
    report = write_report(tmp_path, num_resamples=100)
    page = parsed(report)
    assert not any(tag == "img" for tag, _ in page.elements)
    assert len(page.named("script")) == 1 and "alert" not in page.named("script")[0]
    assert any(HOSTILE in text for text in page.named("p"))
    outside_fences = "".join(report.markdown.read_text().split("```")[::2])
    assert HOSTILE.partition("<")[2][:10] in outside_fences
    assert "<script" not in outside_fences and "<img" not in outside_fences


def test_a_hostile_group_is_escaped_in_charts(tmp_path):
    write_planted(tmp_path, Plan(FALLING, axes={"backbone.name": ("planted", "<b onclick=x>&")}))
    text = write_report(tmp_path, num_resamples=100).html.read_text()
    assert "<b " not in text and "&lt;b onclick=x&gt;&amp;" in text


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan({1e-5: None, 1e-4: None}), ["No trial has scores: every finished one diverged", "lies below 1e-05"]),
        (Plan({0.0: 0.0}), ["Only the control (rate 0) has a result", "No boundary: a boundary needs"]),
        (Plan(FALLING, has_pairs=False), ["No pair set with untuned errors was evaluated", "No boundary: a boundary"]),
        (Plan({1e-8: 0.01, 1e-7: -0.2}), ["One seed a rate", "2 rates above 0 to a curve (1e-08, 1e-07)"]),
        (Plan({1e-8: 0.01}), ["1 rate above 0 to a curve (1e-08)", "One rate above 0: a point, and no curve"]),
        (
            Plan(FALLING, seeds=(0, 1), change={(r, s): "MISSING" for r in (1e-7, 3e-7) for s in (0, 1)}),
            ["INCOMPLETE planted: 10 trials, 4 complete, 2 diverged, 4 missing.", "Missing: lr1e-07-"],
        ),
        (
            Plan({1e-8: 0.01, 1e-7: 0.0}, change={(1e-8, 0): "UNTUNED", (1e-7, 0): "UNTUNED"}),
            ["In 2 trials no epoch improved and the untuned state was kept", "no rate could show harm"],
        ),
    ],
    ids=["all diverged", "control only", "no pairs", "two rates", "one rate", "half", "kept untuned"],
)
def test_whatever_can_be_said_is_said(tmp_path, plan, words):
    write_planted(tmp_path, plan)
    report = write_report(tmp_path, num_resamples=100)
    page, markdown = parsed(report), report.markdown.read_text()
    said = " ".join(text for _, text in page.texts)
    for word in words:
        assert word in said and word in markdown, word
    assert "nan" not in {text.strip("+-%") for text in page.named("td")}


def test_mixed_backbones_are_named(tmp_path):
    write_planted(tmp_path, Plan(FALLING, axes={"backbone.name": ("planted", "another")}))
    page = parsed(write_report(tmp_path, num_resamples=100))
    assert any(text.startswith("Mixed backbones: planted 0000000000 (5 trials), another") for text in page.named("li"))


def test_drift_is_weighted_by_the_size_of_tensors():
    from analysis.report_drift import totals

    rows = pd.DataFrame(
        {
            "trial_id": "a",
            "num_weights": [300, 100],
            "movable_frac": [1.0, 0.0],
            "moved_frac": [0.5, 0.1],
            "max_change": [0.1, 0.2],
            "l2_change": [3.0, 4.0],
            "l2_lost": [np.nan, np.nan],
            "l2_untuned": [6.0, 8.0],
        }
    )
    found = totals(rows, ["trial_id"]).loc["a"]
    assert (found["movable"], found["moved"], found["distance"]) == pytest.approx((0.75, 0.4, 0.5))
    assert np.isnan(found["lost"]) and found["max_change"] == 0.2


@pytest.fixture(scope="module")
def two_sweeps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    first, second = (tmp_path_factory.mktemp(name) for name in ("first", "second"))
    write_planted(first, Plan(FALLING, seeds=(0, 1)))
    write_planted(second, Plan({1e-8: 0.0, 3e-7: -0.03, 1e-6: -0.2}, num_clusters=30))
    return first, second


def test_several_sweeps_share_a_page(two_sweeps):
    first, second = two_sweeps
    report = write_sweeps_report([first, second], num_resamples=100)
    assert report.html == first / "report" / "comparison.html"
    page = Parsed(report.html.read_text())
    assert page.named("h1") == ["2 sweeps compared", f"planted ({first})", f"planted ({second})"]
    assert page.named("h2").count("Boundary") == 2 and "Curves over one another" in page.named("h2")
    keys = [attrs["id"] for tag, attrs in page.elements if tag == "section"]
    assert len(set(keys)) == len(keys)
    assert any("differ in size" in text and "30, 40" in text for text in page.named("li"))
    assert not (first / "report" / "report.html").exists()
    markdown = report.markdown.read_text()
    assert markdown.startswith("# 2 sweeps compared") and f"\n## planted ({second})\n" in markdown


def test_a_sweep_is_not_laid_beside_itself(two_sweeps):
    with pytest.raises(ValueError, match="two or more different results folders"):
        write_sweeps_report([two_sweeps[0], two_sweeps[0] / ".." / two_sweeps[0].name])


def test_one_damaged_folder_among_several_is_named(two_sweeps, tmp_path):
    with pytest.raises(results.ResultsError, match=re.escape(str(tmp_path))):
        write_sweeps_report([two_sweeps[0], tmp_path])


def test_the_command_takes_one_folder_or_several(two_sweeps):
    first, second = map(str, two_sweeps)
    one = CliRunner().invoke(app, ["report", second], env={"COLUMNS": "200"})
    assert one.exit_code == 0 and f"Report:  {second}/report/report.html" in one.output
    both = CliRunner().invoke(app, ["report", first, second], env={"COLUMNS": "200"})
    assert both.exit_code == 0 and f"Report:  {first}/report/comparison.html" in both.output
    twice = CliRunner().invoke(app, ["report", first, first], env={"COLUMNS": "200"})
    assert twice.exit_code == 2 and "two or more different results folders" in twice.output
