"""docs/own_data.md: its files are written, its code is run, and what it says about them is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from adiabatic_ray.corpora.data import load_pairs, load_triplets
from adiabatic_ray.corpora.text_sets import PARTS
from adiabatic_ray.spec import E5, EvaluationSpec, TrialSpec

PAGE = (Path(__file__).resolve().parent.parent / "docs/own_data.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Names that the page's code leaves behind, its blocks taken in order in an empty folder."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for language, file, content in BLOCKS:
        if file:
            Path(file).write_text(content, encoding="utf-8")
        else:
            assert language == "python"
            exec(content, names)
    return names


def test_the_page_shows_both_layouts():
    assert [file for _, file, _ in BLOCKS if file] == ["triplets.jsonl", "pairs.jsonl"]


def test_triplets(page):
    tune, validation, evaluation = (load_triplets(page["faq"], part) for part in PARTS)
    assert tune.queries == ["how tall is the eiffel tower", "who wrote emma"]
    assert len(tune.positive_rows) == len(tune.negative_rows) == 2
    assert validation.queries == ["what is rust"]
    assert evaluation.queries == ["what do cats eat", "when do cats sleep"] and len(evaluation.positive_rows) == 3
    assert evaluation.cluster_of_query.tolist() == [0, 0]
    everything = load_triplets(page["only_to_evaluate_on"], "evaluation")
    from_lines = page["only_to_evaluate_on"].model_copy(update={"path": "triplets.jsonl"})
    assert len(everything.queries) == 5 and everything.cluster_of_query.tolist() == [0, 1, 2, 3, 3]
    assert everything.digest == load_triplets(from_lines, "evaluation").digest


def test_pairs(page):
    texts = load_pairs(page["pairs"])
    assert texts.labels == ("follows", "contradicts", "open") and texts.languages == ("en", "de")
    assert texts.cluster_of_pair.tolist() == [0, 0, 1, 1]
    assert texts.digest == load_pairs(page["pairs"].model_copy(update={"path": "pairs.jsonl"})).digest


def test_the_sources_fit_a_trial(page):
    trial = TrialSpec(
        backbone=E5,
        source=page["faq"],
        evaluation=EvaluationSpec(sets=(page["faq"], page["only_to_evaluate_on"], page["pairs"])),
    )
    assert TrialSpec.model_validate_json(trial.model_dump_json()) == trial
