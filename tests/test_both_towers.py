"""Both towers tuned, as two encoders that start alike: steps, freezing, saved states, exports, and one sweep on Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from adiabatic_ray import results
from adiabatic_ray.changes import with_changes
from adiabatic_ray.encoders import tower_files
from adiabatic_ray.encoders.backbones import Backbone, load_backbone
from adiabatic_ray.encoders.tower_files import passage_part, query_part
from adiabatic_ray.encoders.towers import tuned_tower
from adiabatic_ray.evaluation.encode import encode, pad
from adiabatic_ray.evaluation.evaluate import score_sets
from adiabatic_ray.evaluation.prepare import Loader, passage_tokens, prepare
from adiabatic_ray.orchestration.dryrun import dry_run
from adiabatic_ray.orchestration.orchestrator import pin_trials, run_sweep
from adiabatic_ray.orchestration.tower_evaluation import plan_evaluation, run_evaluation
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.statistics import counts
from adiabatic_ray.statistics.blocks import PASSAGE_TOWER
from adiabatic_ray.tuning.news import EpochReport, Tuned
from adiabatic_ray.tuning.pack import Pack
from adiabatic_ray.tuning.tune import trainable_names, tune, tuned_names
from adiabatic_ray.tuning.tuning_data import TuningTriplets, seeded_batches
from tests.listening import Quiet
from tests.small_sweep import small_sweep
from tests.test_export import check_embeddings, embedded_elsewhere, tuned, write
from tests.tiny import save_tiny_bert, save_tiny_t5_encoder, tiny_spec

BUDGET = 512


def _spec(**changes: object) -> TuningSpec:
    settings = {
        "towers": "both",
        "batch_size": 4,
        "batches_per_epoch": 3,
        "idle_epochs": None,
        "max_epochs": 2,
        "keep": "final",
    }
    return TuningSpec(**(settings | changes))  # type: ignore[arg-type]


def _triplets(backbone: Backbone) -> TuningTriplets:
    texts = [f"question about thing {number}" for number in range(30)]
    passages = [f"thing {number} is explained here" + " at length" * (number % 3) for number in range(30)]
    rows_Q = np.arange(30)
    return TuningTriplets(
        backbone.tokenize(texts, "query: "), rows_Q, (rows_Q + 7) % 30, passage_tokens(backbone, passages)
    )


def _run(backbone: Backbone, triplets: TuningTriplets, spec: TuningSpec) -> tuple[list[EpochReport], Tuned]:
    reports: list[EpochReport] = []
    return reports, tune(backbone, spec, triplets, triplets, BUDGET, reports.append)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_spec(save_tiny_bert(tmp_path_factory.mktemp("encoder"))))


@pytest.mark.parametrize("save", [save_tiny_bert, save_tiny_t5_encoder])
def test_steps_are_those_of_a_plain_loop_over_two_encoders(tmp_path: Path, save: object) -> None:
    backbone = load_backbone(tiny_spec(save(tmp_path)))  # type: ignore[operator]
    triplets, spec = _triplets(backbone), _spec(learning_rate=1e-3, margin=0.5, weight_decay=0.1)
    reports, tuned = _run(backbone, triplets, spec)
    names = trainable_names(backbone, spec.freeze)[0]
    towers = {"": backbone.build_tower(names), PASSAGE_TOWER: backbone.build_tower(names)}
    parameters = {
        prefix + name: one
        for prefix, tower in towers.items()
        for name, one in tower.model.named_parameters()
        if one.requires_grad
    }
    assert parameters.keys() == tuned.tensors.keys()
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-3, weight_decay=0.1)
    batches, device, texts = seeded_batches(30, 4, spec.seed), torch.device("cpu"), triplets.passages
    assert not isinstance(texts, np.ndarray)
    for epoch in (1, 2):
        losses = []
        for _ in range(3):
            rows_B = next(batches)
            positives_BD, negatives_BD = (
                towers[PASSAGE_TOWER](*pad(texts, side[rows_B], device))
                for side in (triplets.positive_rows_Q, triplets.negative_rows_Q)
            )
            queries_BD = towers[""](*pad(triplets.queries, rows_B, device))
            loss = functional.triplet_margin_loss(queries_BD, positives_BD, negatives_BD, margin=0.5)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        assert reports[epoch].train_loss == pytest.approx(np.mean(losses), rel=1e-5)
    for name, parameter in parameters.items():
        if not name.endswith("key.bias"):  # no gradient but for rounding, of which AdamW makes full steps
            np.testing.assert_allclose(tuned.tensors[name], parameter.detach().numpy(), atol=3e-5, err_msg=name)
            assert name in tuned.changed


def test_it_starts_where_the_bank_does_and_a_rate_of_zero_stays_there(backbone: Backbone) -> None:
    triplets = _triplets(backbone)
    assert not isinstance(triplets.passages, np.ndarray)
    bank_PD = encode(backbone.build_tower(), triplets.passages, BUDGET)
    (first, *_), frozen = _run(backbone, replace(triplets, passages=bank_PD), _spec(towers="query", dropout=False))
    reports, tuned = _run(backbone, triplets, _spec(learning_rate=0.0))
    assert {one.validation_errors for one in reports} == {first.validation_errors}
    assert all(one.validation_loss == pytest.approx(first.validation_loss, rel=1e-6) for one in reports)
    assert not tuned.changed and len(tuned.tensors) == 2 * len(frozen.tensors)


def test_the_plan_freezes_in_both_towers_and_both_are_counted(backbone: Backbone) -> None:
    spec = _spec(learning_rate=1e-3, freeze="emb, B0")
    _, tuned = _run(backbone, _triplets(backbone), spec)
    trainable, frozen = trainable_names(backbone, spec.freeze)
    assert tuned_names(backbone, spec) == [*trainable, *(PASSAGE_TOWER + name for name in trainable)]
    assert set(query_part(tuned.tensors)) == set(passage_part(tuned.tensors)) == set(trainable)
    assert tuned.num_frozen == 2 * sum(backbone.weights[name].size for name in frozen)
    moved = {row["tensor"]: row["l2_change"] for row in tuned.drift}
    dense = "encoder.layer.1.output.dense.weight"
    assert moved.keys() == tuned.tensors.keys() and 0 < moved[dense] != moved[PASSAGE_TOWER + dense] > 0
    assert tuned_names(backbone, _spec(towers="query", freeze="emb, B0")) == list(trainable)


def test_a_saved_state_holds_both_towers(backbone: Backbone) -> None:
    triplets, spec = _triplets(backbone), _spec(learning_rate=1e-3, max_epochs=3)
    trainable = tuned_names(backbone, spec)
    _, wanted = _run(backbone, triplets, spec)
    first, second = (Pack(backbone, trainable, spec, 1, triplets, triplets, BUDGET) for _ in range(2))
    first.join("one", spec, trainable)
    first.run_epoch()
    second.join("one", spec, trainable, first.members["one"].state())
    while second.members["one"].stopped_by is None:
        second.run_epoch()
    found = second.leave("one").tensors
    assert all(value.tobytes() == wanted.tensors[name].tobytes() for name, value in found.items())


def test_parts_of_a_towers_tensors() -> None:
    tensors = {"a": 1, f"{PASSAGE_TOWER}a": 2, "b.passage_tower.c": 3}
    assert query_part(tensors) == {"a": 1, "b.passage_tower.c": 3} and passage_part(tensors) == {"a": 2}


def test_an_export_has_the_tuned_passage_tower(backbone: Backbone, tmp_path: Path) -> None:
    of_queries, of_passages = tuned(backbone, 6), {name: one + 1 for name, one in tuned(backbone, 9).items()}
    changed = {**of_queries, **{PASSAGE_TOWER + name: one for name, one in of_passages.items()}}
    exported = write(tmp_path / "both", backbone, changed)
    assert (exported.num_changed, exported.num_passage_changed) == (6, 9)
    (theirs,) = embedded_elsewhere([tmp_path / "both"])
    check_embeddings(backbone, of_queries, theirs, of_passages)


def test_the_dry_run_counts_what_no_bank_gives(tmp_path: Path) -> None:
    one = small_sweep(tmp_path, rates=(1e-3,))
    plan, usual = dry_run(with_changes(one, {"trial.tuning.towers": "both"})), dry_run(one)
    assert [bank.name for bank in usual.banks] == ["mine (tuning)", "mine (validation)", "mine", "pairs"]
    assert [bank.name for bank in plan.banks] == ["mine", "pairs"]
    assert plan.evaluation_passage_tokens == sum(bank.num_tokens for bank in plan.banks)
    assert usual.passage_tokens_per_epoch == usual.evaluation_passage_tokens == 0 < plan.passage_tokens_per_epoch
    (count,), (alone,) = plan.freezing, usual.freezing
    assert (count.num_trainable, count.num_frozen) == (2 * alone.num_trainable, 2 * alone.num_frozen)
    more = plan.total_flops(1) - usual.total_flops(1)
    saved = sum(bank.num_tokens for bank in usual.banks[:2])
    extra = 3 * plan.passage_tokens_per_epoch + plan.evaluation_passage_tokens - saved
    assert more == pytest.approx(extra * plan.flops_per_token)
    mixed = dry_run(with_changes(one, {"grid.tuning.towers": ["query", "both"]}))
    assert (usual.num_both, plan.num_both, mixed.num_both) == (0, 1, 1)
    assert mixed.passage_tokens_per_epoch == plan.passage_tokens_per_epoch
    assert mixed.evaluation_passage_tokens == plan.evaluation_passage_tokens


@pytest.mark.ray
def test_a_sweep_of_one_and_of_two_towers(ray_cluster: None, tmp_path: Path) -> None:
    """Rate 0 changes nothing; a tuned passage tower embeds what it is scored on; evaluated alone, the same rows."""
    inputs_folder, out, banks = tmp_path / "inputs", tmp_path / "out", tmp_path / "banks"
    spec = with_changes(small_sweep(inputs_folder, rates=(0.0, 1e-2)), {"grid.tuning.towers": ["query", "both"]})
    outcome = run_sweep(spec, out, banks, Quiet())
    assert set(outcome.statuses.values()) == {TrialStatus.COMPLETE} and len(outcome.statuses) == 4
    loader = Loader()
    for trial in pin_trials(spec, loader):
        trial_id = trial.trial_id
        scores = results.read_table(out, "scores", [trial_id]).to_pandas()
        assert len(scores)
        if trial.tuning.learning_rate == 0:
            assert (scores["errors_tuned"] == scores["errors_untuned"]).all()
            continue
        inputs = loader.load(trial)
        backbone = inputs.backbone
        assert backbone.encoder_digest is not None
        folder = out / "towers" / trial_id
        changed = tower_files.load_changed(folder, backbone.spec.name, backbone.encoder_digest)
        assert bool(passage_part(changed)) == (trial.tuning.towers == "both")
        tower = tuned_tower(backbone, passage_part(changed))
        own_banks = [encode(tower, passage_tokens(backbone, texts), BUDGET) for texts in inputs.passage_texts()]
        unused = [] if trial.tuning.towers == "both" else [np.zeros((1, 1))] * 2
        kit = prepare(inputs, [*unused, *own_banks])
        wanted = score_sets(tuned_tower(backbone, query_part(changed)), kit.evaluation, BUDGET)
        (row,) = results.read_table(out, "trials", [trial_id]).to_pylist()
        untuned = counts.counts_from_rows(results.read_table(out, "untuned", [row["untuned_id"]]).to_pylist())
        influence = results.read_table(out, "influence", [trial_id]).to_pylist()
        for ours, theirs in zip(counts.tuned_counts(untuned, influence), wanted, strict=True):
            np.testing.assert_array_equal(ours.by_positive_KC, theirs.by_positive_KC)
        if trial.tuning.towers == "both":
            evaluation = plan_evaluation(str(folder), trial.untuned, Quiet())
            assert "tuned passage tower" in evaluation.tower.notes[0]
            run_evaluation(evaluation, spec.cluster, out, banks, Quiet())
            again = results.read_table(out, "scores", [evaluation.tower_id]).to_pandas()
            assert again.drop(columns="trial_id").equals(scores.drop(columns="trial_id"))
