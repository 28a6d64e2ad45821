"""What a model card says beside its figures: which boundary is the trial's, where its rate lies, what the hub reads."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from adiabatic_ray.encoders.export import Exported
from adiabatic_ray.results import ResultsError
from adiabatic_ray.sources import MsMarco, Xnli
from adiabatic_ray.spec import E5, BackboneSpec, EvaluationSpec, TrialSpec, TuningSpec
from analysis.markdown import table_lines
from analysis.report import write_report
from analysis.trial_card import Figure, boundary_lines, evaluation_lines, read_boundaries
from jobs.model_card import backbone_name, model_card
from tests.planted import Plan, write_planted

FALLING = {1e-8: 0.02, 1e-7: 0.01, 1e-6: -0.2}


def boundary(low: float, high: float, low_censored: str = "none", high_censored: str = "none") -> dict[str, Any]:
    counts = {"num_trials": 4, "num_kept_untuned": 1, "num_unmoved": 0}
    return (
        {"sentence": "S.", "low": low, "high": high}
        | counts
        | {
            "low_censored": low_censored,
            "high_censored": high_censored,
        }
    )


@pytest.mark.parametrize(
    ("rate", "found", "where"),
    [
        (1e-8, boundary(1e-7, 1e-6), "below"),
        (1e-7, boundary(1e-7, 1e-6), "inside"),
        (2e-6, boundary(1e-7, 1e-6), "above"),
        (1e-8, boundary(1e-8, 1e-6, low_censored="below"), "inside"),  # below 1e-8 to 1e-6
        (1e-6, boundary(1e-7, 1e-6, high_censored="above"), "inside"),  # 1e-7 to above 1e-6
        (1e-6, boundary(1e-6, 1e-6, "above", "above"), "below"),  # above every rate tried
        (1e-8, boundary(1e-8, 1e-8, "below", "below"), "above"),  # below every rate tried
    ],
)
def test_where_a_rate_lies(rate: float, found: dict[str, Any], where: str) -> None:
    (line,) = boundary_lines([found], rate)
    assert line.startswith("- S. This tower's rate, ") and line.endswith(f"lies {where} that interval.")


def test_a_rate_of_0_and_a_sweep_without_harm_have_no_place() -> None:
    assert boundary_lines([boundary(1e-7, 1e-6)], 0.0) == ["- S."]
    assert boundary_lines([boundary(1e-7, 1e-6) | {"num_kept_untuned": 3, "num_unmoved": 1}], 1e-7) == ["- S."]


def test_of_several_curves_the_trials_own_is_taken(tmp_path: Path) -> None:
    spec = write_planted(tmp_path, Plan(FALLING, axes={"tuning.freeze": ("embeddings", "emb, B0")}))
    first = spec.expand()[0].trial_id
    assert read_boundaries(tmp_path, first) == [], "no report yet"
    write_report(tmp_path, num_resamples=100)
    of_trial = {trial.trial_id: read_boundaries(tmp_path, trial.trial_id) for trial in spec.expand()}
    for trial in spec.expand():
        found = of_trial[trial.trial_id]
        assert len(found) == 2 and all(f"freeze={trial.tuning.freeze}" in one["sentence"] for one in found)


def test_one_curve_is_every_trials(tmp_path: Path) -> None:
    """Also with an unfinished trial's name: the sweep's tables are not read for it."""
    write_planted(tmp_path, Plan(FALLING))
    write_report(tmp_path, num_resamples=100)
    assert len(read_boundaries(tmp_path, "any")) == 2


@pytest.mark.parametrize("text", ["[", "[]", '{"boundaries": 3}', '{"boundaries": [{"group": ""}]}'])
def test_a_damaged_report_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "boundary.json").write_text(text)
    with pytest.raises(ResultsError, match=r"boundary\.json must be what `adiabatic report` wrote, got .*; run `adia"):
        read_boundaries(tmp_path, "any")


def figure(name: str, **changes: Any) -> Figure:
    numbers = {"pnd_untuned": 0.2, "pnd_tuned": 0.15, "improvement": 0.25, "low": 0.125, "high": 0.375}
    fixed = {"relation": "positive-negative", "measure": "cosine", "num_language_pairs": 0, "num_comparisons": 4200}
    return Figure(name, **(fixed | numbers | {"num_clusters": 60, "reason": "", "counts": None, "worse": ()} | changes))


def test_what_is_no_number_is_a_dash_with_its_reason_and_not_in_the_head() -> None:
    broken = figure("msmarco", low=math.nan, high=math.nan, reason="too few")
    lines = evaluation_lines([broken])
    assert "| msmarco | positive-negative | cosine | 4,200 | 60 | 20.00 | 15.00 | +25.0 | - |  |  |" in lines
    assert "- msmarco, positive-negative, cosine: too few" in lines
    assert not any("language pairs that are" in line.lower() for line in lines), "it has none"
    types = [metric["type"] for metric in head_of(card([broken]))["model-index"][0]["results"][0]["metrics"]]
    assert types == ["pnd", "pnd_untuned", "improvement"]


def test_bars_and_line_ends_stay_inside_their_cell() -> None:
    assert table_lines(["a", "b"], [["x|y", "1\n2"]], "<>") == ["| a | b |", "| :-- | --: |", "| x\\|y | 1 2 |"]


def card(figures: list[Figure], backbone: BackboneSpec = E5, num_changed: int = 3, num_of_passages: int = 0) -> str:
    source = MsMarco()
    sets = (source, Xnli())
    tuning = TuningSpec(towers="both" if num_of_passages else "query")
    trial = TrialSpec(backbone=backbone, source=source, tuning=tuning, evaluation=EvaluationSpec(sets=sets))
    counts = dict.fromkeys(("num_steps", "num_epochs", "kept_epoch", "num_trainable", "num_frozen"), 1000)
    words = {"sweep": "s", "stopped_by": "idle", "encoder_digest": "0", "provenance_json": json.dumps({})}
    exported = Exported(
        "BertModel", {"add_pooling_layer": False}, 197, num_changed, num_of_passages, 560_000_000, 470_000_000
    )
    return model_card("folder", trial, {"trial_id": trial.trial_id} | counts | words, exported, figures, [])


def head_of(text: str) -> dict[str, Any]:
    head: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return head


def test_the_hub_finds_base_model_and_data_sets() -> None:
    text = card([figure("msmarco")])
    head = head_of(text)
    assert head["base_model"] == "intfloat/multilingual-e5-small"
    assert head["datasets"] == ["sentence-transformers/embedding-training-data"]
    (result,) = head["model-index"][0]["results"]
    assert result["dataset"] == {
        "name": "msmarco",
        "type": "sentence-transformers/embedding-training-data",
        "config": "positive-negative",
    }
    assert 'BertModel.from_pretrained("folder/query", add_pooling_layer=False)' in text


def test_a_tower_without_a_change_says_so() -> None:
    assert "Not one tensor of the query tower differs" in card([figure("msmarco")], num_changed=0)
    assert "3 of 197 tensors of the query tower differ" in card([figure("msmarco")])


def test_a_local_backbone_keeps_its_path_to_itself() -> None:
    local = BackboneSpec(name="/home/me/encoders/enc", source="folder", encoder_digest="0")
    text = card([figure("msmarco")], local)
    assert backbone_name(local) == "enc" and "/home/me" not in text and "base_model" not in head_of(text)


def test_a_tuned_passage_tower_says_that_passages_must_be_embedded_anew() -> None:
    both, one = card([figure("msmarco")], num_of_passages=7), card([figure("msmarco")])
    assert "(7 tensors): passages must be embedded with it" in both and "query and passage tower tuned" in both
    assert "embeddings that were made with that encoder stay valid" in one and "stay valid" not in both
