"""Tuning of one trial: what moves, determinism, divergence, stopping."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from adiabatic_ray import results
from adiabatic_ray.encoders.backbones import Backbone, load_backbone
from adiabatic_ray.evaluation.encode import encode, pad
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tuning.news import EpochReport
from adiabatic_ray.tuning.tune import trainable_names, tune
from adiabatic_ray.tuning.tuning_data import TuningTriplets, seeded_batches
from tests.tiny import save_tiny_bert, save_tiny_t5_encoder, tiny_spec

BUDGET = 512


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_spec(save_tiny_bert(tmp_path_factory.mktemp("encoder"))))


@pytest.fixture(scope="module")
def triplets(backbone: Backbone) -> TuningTriplets:
    return _triplets(backbone)


def _triplets(backbone: Backbone) -> TuningTriplets:
    texts = [f"question about thing {number}" for number in range(30)]
    passages = [f"thing {number} is explained here" for number in range(30)]
    bank_PD = encode(backbone.build_tower(), backbone.tokenize(passages, "passage: "), BUDGET)
    rows_Q = np.arange(30)
    return TuningTriplets(backbone.tokenize(texts, "query: "), rows_Q, (rows_Q + 7) % 30, bank_PD)


def _spec(**changes: object) -> TuningSpec:
    settings = {"batch_size": 4, "batches_per_epoch": 3, "idle_epochs": None, "max_epochs": 3, "keep": "final"}
    return TuningSpec(**(settings | changes))  # type: ignore[arg-type]


def _run(
    backbone: Backbone, triplets: TuningTriplets, spec: TuningSpec
) -> tuple[list[EpochReport], dict[str, np.ndarray]]:
    reports: list[EpochReport] = []
    return reports, dict(tune(backbone, spec, triplets, triplets, BUDGET, reports.append).tensors)


def test_a_run_is_repeated_to_the_last_bit(backbone: Backbone, triplets: TuningTriplets) -> None:
    (reports, trained), (again, trained_again) = (_run(backbone, triplets, _spec(learning_rate=1e-3)) for _ in range(2))
    assert [one.train_loss for one in reports[1:]] == [one.train_loss for one in again[1:]]
    assert trained.keys() == trained_again.keys()
    assert all(trained[name].tobytes() == trained_again[name].tobytes() for name in trained)


def test_a_bank_that_is_held_gives_what_rows_that_are_sent_give(backbone: Backbone, triplets: TuningTriplets) -> None:
    held = replace(triplets, held_PD=torch.tensor(triplets.passages))
    (_, sent), (_, there) = (_run(backbone, one, _spec(learning_rate=1e-3)) for one in (triplets, held))
    assert all(value.tobytes() == there[name].tobytes() for name, value in sent.items())


def test_another_seed_is_another_order(backbone: Backbone, triplets: TuningTriplets) -> None:
    losses = [_run(backbone, triplets, _spec(seed=seed))[0][1].train_loss for seed in (0, 1)]
    assert losses[0] != losses[1]


def test_rate_zero_leaves_the_tower_bit_identical(backbone: Backbone, triplets: TuningTriplets) -> None:
    weights = {name: value.copy() for name, value in backbone.weights.items()}
    weights["encoder.layer.1.output.dense.weight"][:] = -0.0
    backbone = replace(backbone, weights=weights)
    _, trained = _run(backbone, triplets, _spec(learning_rate=0.0))
    assert all(value.tobytes() == backbone.weights[name].tobytes() for name, value in trained.items())


def test_frozen_tensors_stay_and_the_others_move(backbone: Backbone, triplets: TuningTriplets) -> None:
    _, trained = _run(backbone, triplets, _spec(learning_rate=1e-3, freeze="emb, B0"))
    assert set(trained) == set(backbone.weights) - set(trainable_names(backbone, "emb, B0")[1])
    # Softmax does not see what all keys have in common: their bias has no gradient but for rounding.
    moving = [name for name in trained if not name.endswith("key.bias")]
    assert all(trained[name].tobytes() != backbone.weights[name].tobytes() for name in moving)


@pytest.mark.parametrize("save", [save_tiny_bert, save_tiny_t5_encoder])
def test_steps_are_those_of_a_plain_loop_in_torch(tmp_path: Path, save: object) -> None:
    backbone = load_backbone(tiny_spec(save(tmp_path)))  # type: ignore[operator]
    triplets, spec = _triplets(backbone), _spec(learning_rate=1e-3, margin=0.5, weight_decay=0.1, max_epochs=2)
    reports, trained = _run(backbone, triplets, spec)
    tower = backbone.build_tower(trained)
    parameters = {name: one for name, one in tower.model.named_parameters() if one.requires_grad}
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-3, weight_decay=0.1)
    batches = seeded_batches(30, 4, spec.seed)
    for epoch in (1, 2):
        losses = []
        for _ in range(3):
            rows_B = next(batches)
            positives_BD, negatives_BD = (
                torch.from_numpy(triplets.passages[side[rows_B]])
                for side in (triplets.positive_rows_Q, triplets.negative_rows_Q)
            )
            queries_BD = tower(*pad(triplets.queries, rows_B, torch.device("cpu")))
            loss = functional.triplet_margin_loss(queries_BD, positives_BD, negatives_BD, margin=0.5)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
        assert reports[epoch].train_loss == pytest.approx(np.mean(losses), rel=1e-5)
    for name, parameter in parameters.items():
        if not name.endswith("key.bias"):  # rounding alone, which AdamW makes a full step of
            # Six steps of 1e-3; rounding may turn the sign of a gradient near 0, and then a step's.
            far = np.abs(trained[name] - parameter.detach().numpy()) > 1e-5
            assert far.mean() < 0.01, name


def test_tuning_lowers_the_loss(backbone: Backbone, triplets: TuningTriplets) -> None:
    reports, _ = _run(backbone, triplets, _spec(learning_rate=1e-3, max_epochs=8, batches_per_epoch=7))
    assert reports[-1].validation_loss < reports[0].validation_loss
    assert reports[-1].validation_errors < reports[0].validation_errors


def test_epoch_zero_is_the_untuned_tower(backbone: Backbone, triplets: TuningTriplets) -> None:
    first = _run(backbone, triplets, _spec(max_epochs=1))[0][0]
    queries_QD = encode(backbone.build_tower(), triplets.queries, BUDGET).astype(np.float64)
    to_positive_Q = np.linalg.norm(queries_QD - triplets.passages[triplets.positive_rows_Q] + 1e-6, axis=1)
    to_negative_Q = np.linalg.norm(queries_QD - triplets.passages[triplets.negative_rows_Q] + 1e-6, axis=1)
    assert first.epoch == 0 and first.improved
    assert first.validation_errors == int((to_positive_Q >= to_negative_Q).sum())
    assert first.validation_loss == pytest.approx(np.maximum(to_positive_Q - to_negative_Q + 0.1, 0).mean(), rel=1e-5)


def test_a_rate_without_bounds_diverges_for_real(backbone: Backbone, triplets: TuningTriplets) -> None:
    reports, _ = _run(backbone, triplets, _spec(learning_rate=1e38, max_epochs=9))
    assert reports[-1].stopped_by == "diverged" and reports[-1].epoch < 9


def test_passes_over_the_data_use_every_sample_once() -> None:
    batches = seeded_batches(12, 4, 0)
    first_pass = np.concatenate([next(batches) for _ in range(3)])
    second_pass = np.concatenate([next(batches) for _ in range(3)])
    assert sorted(first_pass) == sorted(second_pass) == list(range(12))
    assert list(first_pass) != list(second_pass)


def test_too_few_samples_and_nothing_to_train_are_errors(backbone: Backbone, triplets: TuningTriplets) -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        _run(backbone, triplets, _spec(batch_size=31))
    with pytest.raises(ValueError, match="something to train"):
        _run(backbone, triplets, _spec(freeze="emb, B0-1"))


def test_dropout_is_seeded(backbone: Backbone, triplets: TuningTriplets) -> None:
    losses = [_run(backbone, triplets, _spec(dropout=dropout))[0][1].train_loss for dropout in (True, True, False)]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("precision", ["float32", "compensated", "float64"])
def test_precision_decides_whether_small_steps_arrive(
    backbone: Backbone, triplets: TuningTriplets, precision: str, tmp_path: Path
) -> None:
    """36 steps of 2e-9: float32 has lost each of them at the gains, together they show."""
    spec = _spec(learning_rate=2e-9, precision=precision, batches_per_epoch=12)
    drift = tune(backbone, spec, triplets, triplets, BUDGET, lambda report: None).drift
    results.write_table(tmp_path, "drift", "one", [{"trial_id": "one", **row} for row in drift])
    gain = next(row for row in drift if row["tensor"] == "encoder.layer.0.output.LayerNorm.weight")
    assert gain["movable_frac"] == 0.0
    if precision == "float32":
        assert gain["moved_frac"] == 0.0 and gain["l2_lost"] is None
    else:
        assert gain["moved_frac"] > 0.2
        assert 0 < gain["l2_lost"] < gain["num_weights"] ** 0.5 * 2**-24
