"""Specification: expansion, identity, overrides, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adiabatic_ray.changes import parse_override, with_changes
from adiabatic_ray.sources import CldrNames, DocstringTriplets, MsMarco, Xnli
from adiabatic_ray.spec import PACKAGED_E5, BackboneSpec, EvaluationSpec, SweepSpec, TrialSpec, TuningSpec, geometric
from tests.small_sweep import small_sweep

TRIAL = TrialSpec(
    backbone=PACKAGED_E5, source=DocstringTriplets(libraries=("numpy",)), evaluation=EvaluationSpec(sets=(CldrNames(),))
)
SWEEP = SweepSpec(
    name="s", question="q", trial=TRIAL, grid={"tuning.learning_rate": (1e-8, 1e-7), "tuning.seed": (0, 1, 2)}
)


def test_defaults_are_the_papers_regime() -> None:
    tuning = TuningSpec()
    assert (tuning.learning_rate, tuning.batch_size, tuning.margin) == (5e-8, 14, 0.1)
    assert (tuning.freeze, tuning.batches_per_epoch, tuning.idle_epochs) == ("embeddings", 1000, 10)
    assert (tuning.keep, tuning.weight_decay, tuning.dropout) == ("improved", 0.0, False)
    assert (MsMarco().num_tune, MsMarco().num_validation, MsMarco().num_evaluation) == (487_983, 4_200, 7_000)
    assert len(Xnli().languages) ** 2 == 225


def test_expansion_turns_the_last_axis_fastest_and_ends_with_the_points() -> None:
    spec = with_changes(SWEEP, {"points": ({"tuning.learning_rate": 1e-3},)})
    found = [(trial.tuning.learning_rate, trial.tuning.seed) for trial in spec.expand()]
    assert found == [(1e-8, 0), (1e-8, 1), (1e-8, 2), (1e-7, 0), (1e-7, 1), (1e-7, 2), (1e-3, 0)]


def test_a_sweep_that_gains_points_keeps_the_ids_of_the_others() -> None:
    before = [trial.trial_id for trial in SWEEP.expand()]
    after = [
        trial.trial_id for trial in with_changes(SWEEP, {"grid.tuning.learning_rate": [1e-9, 1e-8, 1e-7]}).expand()
    ]
    assert after[3:] == before


def test_what_is_compared_with_is_named_by_backbone_and_sets_alone() -> None:
    named = TRIAL.untuned.untuned_id
    for change in ({"tuning.margin": 0.2}, {"source.libraries": ("scipy",)}):
        assert with_changes(TRIAL, change).untuned.untuned_id == named, "however it was tuned, and on what"
    changes = ({"evaluation.token_budget": 2048}, {"backbone.pooling": "cls"}, {"evaluation.sets.0.num_names": 7})
    assert len({named, *(with_changes(TRIAL, change).untuned.untuned_id for change in changes)}) == 4
    pinned = {"evaluation.sets.0.digest": "0", "evaluation.sets.0.path": "here"}
    moved = with_changes(TRIAL, pinned | {"evaluation.sets.0.path": "there"})
    assert with_changes(TRIAL, pinned).untuned.untuned_id == moved.untuned.untuned_id


@pytest.mark.parametrize(
    "change",
    [
        {"tuning.margin": 0.2},
        {"tuning.seed": 7},
        {"source.libraries": ("scipy",)},
        {"evaluation.token_budget": 2048},
        {"backbone.encoder_digest": "0" * 64},
        {"evaluation.sets": (Xnli(),)},
    ],
)
def test_everything_that_decides_a_result_is_in_the_id(change: dict[str, object]) -> None:
    assert with_changes(TRIAL, change).trial_id != TRIAL.trial_id


def test_two_kinds_of_source_never_share_an_id() -> None:
    one = TRIAL.model_copy(update={"evaluation": EvaluationSpec(sets=(CldrNames(name="x"),))})
    other = TRIAL.model_copy(update={"evaluation": EvaluationSpec(sets=(Xnli(name="x"),))})
    assert one.trial_id != other.trial_id


def test_where_a_pinned_copy_lies_is_not_in_the_id() -> None:
    here = with_changes(TRIAL, {"source.digest": "ab", "source.path": "/here"})
    there = with_changes(TRIAL, {"source.digest": "ab", "source.path": "/there"})
    assert here.trial_id == there.trial_id
    unpinned = [with_changes(TRIAL, {"source.path": path}).trial_id for path in ("/here", "/there")]
    assert unpinned[0] != unpinned[1]


def test_the_cluster_is_not_in_the_id() -> None:
    wider = with_changes(SWEEP, {"cluster.evaluators": 7})
    assert [trial.trial_id for trial in wider.expand()] == [trial.trial_id for trial in SWEEP.expand()]


@given(
    st.lists(st.floats(1e-12, 1.0), min_size=1, max_size=6, unique=True),
    st.lists(st.integers(0, 99), unique=True, min_size=1),
)
def test_expansion_is_the_product_and_survives_json(rates: list[float], seeds: list[int]) -> None:
    spec = with_changes(SWEEP, {"grid": {"tuning.learning_rate": tuple(rates), "tuning.seed": tuple(seeds)}})
    trials = spec.expand()
    assert len(trials) == len(rates) * len(seeds) == len({trial.trial_id for trial in trials})
    again = SweepSpec.model_validate_json(spec.model_dump_json())
    assert [trial.trial_id for trial in again.expand()] == [trial.trial_id for trial in trials]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("trial.tuning.batch=3", "no 'batch' there; choose from"),
        ("trial.tuning.batch_size=three", "valid integer"),
        ("trial.tuning.learning_rate=-1e-8", "greater than or equal to 0"),
        ("trial.tuning.learning_rate=nan", "finite|valid number"),
        ("trial.tuning.idle_epochs=null", "neither idle_epochs nor max_epochs"),
        ("grid={}", "at least one trial"),
        ("grid.tuning.seed=[]", "at least one value"),
        ("grid.tuning.seed=[1,1]", "trials must differ"),
        ("grid.tuning.sed=[1]", "no 'sed' there"),
        ("trial.evaluation.sets.1.name=x", "a number below the list's length"),
        ("name=../up", "string should match pattern|String should match pattern"),
        ("trial.tuning.batch_size", "an override reads path.to.field=value"),
    ],
)
def test_a_wrong_override_says_the_rule(override: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        with_changes(SWEEP, dict([parse_override(override)]))


def test_all_problems_come_in_one_error() -> None:
    with pytest.raises(ValueError) as caught:
        with_changes(SWEEP, {"trial.tuning.margin": -1, "trial.tuning.batch_size": 0, "name": ""})
    assert all(words in str(caught.value) for words in ("margin", "batch_size", "name"))


def test_unknown_keys_and_changes_in_place_are_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        BackboneSpec(name="x", poling="mean")  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="frozen"):
        TRIAL.tuning.seed = 3  # type: ignore[misc]


def test_two_evaluation_sets_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="distinct names"):
        EvaluationSpec(sets=(CldrNames(), CldrNames()))


def test_geometric_rates() -> None:
    assert geometric(1e-8, 1e-6, 3) == (1e-8, 1e-7, 1e-6)
    assert geometric(1e-7, 2e-7, 2) == (1e-7, 2e-7)
    with pytest.raises(ValueError, match="0 < first < last"):
        geometric(1e-6, 1e-7, 3)


def test_tf32_wants_a_gpu(tmp_path: Path) -> None:
    spec = small_sweep(tmp_path)
    with pytest.raises(ValueError, match=r"tf32 is computed by GPUs, got .*evaluator_gpus 0; give the evaluators"):
        with_changes(spec, {"trial.evaluation.precision": "tf32"})
    assert with_changes(spec, {"trial.evaluation.precision": "tf32", "cluster.evaluator_gpus": 0.5}).expand()
