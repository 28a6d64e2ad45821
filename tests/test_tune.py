"""The tuning loop: the stopping rule, what is kept, what moves, determinism, divergence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from adiabatic_ray import tune as tune_module
from adiabatic_ray.backbones import Backbone, Tower, load_backbone
from adiabatic_ray.encode import encode
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.towers import trained_tensors
from adiabatic_ray.trial import trainable_names
from adiabatic_ray.tune import EpochReport, TuningTriplets, tune
from tests.tiny import save_tiny_bert, tiny_spec

BUDGET = 512


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_spec(save_tiny_bert(tmp_path_factory.mktemp("encoder"))))


@pytest.fixture(scope="module")
def triplets(backbone: Backbone) -> TuningTriplets:
    texts = [f"question about thing {number}" for number in range(30)]
    passages = [f"thing {number} is explained here" for number in range(30)]
    tower = backbone.build_tower()
    bank_PD = encode(tower, backbone.tokenize(passages, "passage: "), BUDGET)
    rows_Q = np.arange(30)
    return TuningTriplets(backbone.tokenize(texts, "query: "), rows_Q, (rows_Q + 7) % 30, bank_PD)


def _tower(backbone: Backbone, freeze: str = "embeddings") -> Tower:
    return backbone.build_tower(trainable_names(backbone, freeze)[0])


def _spec(**changes: object) -> TuningSpec:
    settings = {"batch_size": 4, "batches_per_epoch": 3, "idle_epochs": None, "max_epochs": 3, "keep": "final"}
    return TuningSpec(**(settings | changes))  # type: ignore[arg-type]


def test_a_run_is_repeated_to_the_last_bit(backbone: Backbone, triplets: TuningTriplets) -> None:
    towers, losses = [], []
    for _ in range(2):
        tower = _tower(backbone)
        losses.append(
            [report.train_loss for report in tune(tower, _spec(learning_rate=1e-3), triplets, triplets, BUDGET)][1:]
        )
        towers.append(trained_tensors(tower))
    assert losses[0] == losses[1]
    assert all(towers[0][name].tobytes() == towers[1][name].tobytes() for name in towers[0])


def test_another_seed_is_another_order(backbone: Backbone, triplets: TuningTriplets) -> None:
    losses = [
        [report.train_loss for report in tune(_tower(backbone), _spec(seed=seed), triplets, triplets, BUDGET)][1:]
        for seed in (0, 1)
    ]
    assert losses[0] != losses[1]


def test_rate_zero_leaves_the_tower_bit_identical(backbone: Backbone, triplets: TuningTriplets) -> None:
    tower = _tower(backbone)
    list(tune(tower, _spec(learning_rate=0.0, weight_decay=0.1), triplets, triplets, BUDGET))
    assert all(value.tobytes() == backbone.weights[name].tobytes() for name, value in trained_tensors(tower).items())


def test_frozen_tensors_stay_and_the_others_move(backbone: Backbone, triplets: TuningTriplets) -> None:
    tower = _tower(backbone, "emb, B0")
    list(tune(tower, _spec(learning_rate=1e-2), triplets, triplets, BUDGET))
    frozen = set(trainable_names(backbone, "emb, B0")[1])
    for name, parameter in tower.model.named_parameters():
        same = parameter.detach().numpy().tobytes() == backbone.weights[name].tobytes()
        # A key's bias shifts all scores of a query alike, and softmax does not see it: its gradient is rounding alone.
        assert same if name in frozen else (not same or name.endswith("key.bias")), name


def test_tuning_lowers_the_loss(backbone: Backbone, triplets: TuningTriplets) -> None:
    spec = _spec(learning_rate=1e-3, max_epochs=8, batches_per_epoch=7)
    reports = list(tune(_tower(backbone), spec, triplets, triplets, BUDGET))
    assert reports[-1].validation_loss < reports[0].validation_loss
    assert reports[-1].validation_errors < reports[0].validation_errors


def test_epoch_zero_is_the_untuned_tower(backbone: Backbone, triplets: TuningTriplets) -> None:
    first = next(iter(tune(_tower(backbone), _spec(), triplets, triplets, BUDGET)))
    queries_QD = encode(backbone.build_tower(), triplets.queries, BUDGET).astype(np.float64)
    to_positive_Q = np.linalg.norm(queries_QD - triplets.passages_PD[triplets.positive_rows_Q] + 1e-6, axis=1)
    to_negative_Q = np.linalg.norm(queries_QD - triplets.passages_PD[triplets.negative_rows_Q] + 1e-6, axis=1)
    assert first.epoch == 0 and first.improved
    assert first.validation_errors == int((to_positive_Q >= to_negative_Q).sum())
    assert first.validation_loss == pytest.approx(np.maximum(to_positive_Q - to_negative_Q + 0.1, 0).mean(), rel=1e-5)


def _scripted(monkeypatch: pytest.MonkeyPatch, script: list[tuple[float, int]], train_loss: float = 0.5) -> None:
    """Make validation return a script, and an epoch set every trained weight to its epoch's number."""
    validations: Iterator[tuple[float, int]] = iter(script)
    epochs = iter(range(1, 100))

    def run_epoch(tower: Tower, parameters: list[torch.nn.Parameter], *_: object) -> float:
        number = next(epochs)
        with torch.no_grad():
            for parameter in parameters:
                parameter.fill_(number)
        return train_loss

    monkeypatch.setattr(tune_module, "_validate", lambda *_: next(validations))
    monkeypatch.setattr(tune_module, "_run_epoch", run_epoch)


def _state(tower: Tower) -> float:
    return float(next(parameter for parameter in tower.parameters() if parameter.requires_grad).detach().flatten()[0])


def _run(backbone: Backbone, triplets: TuningTriplets, spec: TuningSpec) -> tuple[list[EpochReport], float]:
    tower = _tower(backbone)
    reports = list(tune(tower, spec, triplets, triplets, BUDGET))
    return reports, _state(tower)


def test_an_epoch_improves_only_when_loss_and_errors_both_fall(
    monkeypatch: pytest.MonkeyPatch, backbone: Backbone, triplets: TuningTriplets
) -> None:
    # epoch:     0          1 better   2 loss only  3 errors only  4 better than 1   5, 6 idle
    script = [(1.0, 10), (0.9, 9), (0.5, 9), (0.95, 5), (0.8, 8), (0.8, 8), (0.9, 9)]
    _scripted(monkeypatch, script)
    spec = _spec(idle_epochs=3, max_epochs=6, keep="improved")
    reports, state = _run(backbone, triplets, spec)
    assert [report.improved for report in reports] == [True, True, False, False, True, False, False]
    assert reports[-1].stopped_by == "max_epochs" and state == 4.0


def test_idle_epochs_stop_and_the_last_improved_state_is_kept(
    monkeypatch: pytest.MonkeyPatch, backbone: Backbone, triplets: TuningTriplets
) -> None:
    _scripted(monkeypatch, [(1.0, 10), (0.9, 9), (0.9, 8), (0.8, 9), (0.7, 7)])
    reports, state = _run(backbone, triplets, _spec(idle_epochs=2, max_epochs=None, keep="improved"))
    assert [report.epoch for report in reports] == [0, 1, 2, 3]
    assert [report.stopped_by for report in reports] == [None, None, None, "idle"]
    assert state == 1.0


def test_without_improvement_the_untuned_tower_is_kept(
    monkeypatch: pytest.MonkeyPatch, backbone: Backbone, triplets: TuningTriplets
) -> None:
    _scripted(monkeypatch, [(1.0, 10), (1.1, 11), (1.2, 12)])
    tower = _tower(backbone)
    untuned = _state(tower)
    reports = list(tune(tower, _spec(idle_epochs=2, max_epochs=None, keep="improved"), triplets, triplets, BUDGET))
    assert len(reports) == 3 and _state(tower) == untuned


def test_the_final_state_is_kept_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, backbone: Backbone, triplets: TuningTriplets
) -> None:
    _scripted(monkeypatch, [(1.0, 10), (0.9, 9), (1.1, 11), (1.2, 12)])
    assert _run(backbone, triplets, _spec(max_epochs=3, keep="final"))[1] == 3.0


@pytest.mark.parametrize(("validation", "train_loss"), [(float("nan"), 0.5), (1.0, float("inf"))])
def test_divergence_ends_the_run_as_a_result(
    monkeypatch: pytest.MonkeyPatch, backbone: Backbone, triplets: TuningTriplets, validation: float, train_loss: float
) -> None:
    _scripted(monkeypatch, [(1.0, 10), (validation, 9)], train_loss)
    reports, _ = _run(backbone, triplets, _spec())
    assert reports[-1].epoch == 1 and reports[-1].stopped_by == "diverged" and not reports[-1].improved


def test_a_rate_without_bounds_diverges_for_real(backbone: Backbone, triplets: TuningTriplets) -> None:
    reports = list(tune(_tower(backbone), _spec(learning_rate=1e38, max_epochs=9), triplets, triplets, BUDGET))
    assert reports[-1].stopped_by == "diverged" and reports[-1].epoch < 9


def test_passes_over_the_data_use_every_sample_once() -> None:
    batches = tune_module._batches(12, _spec(batch_size=4))
    first_pass = np.concatenate([next(batches) for _ in range(3)])
    second_pass = np.concatenate([next(batches) for _ in range(3)])
    assert sorted(first_pass) == sorted(second_pass) == list(range(12))
    assert list(first_pass) != list(second_pass)


def test_too_few_samples_and_nothing_to_train_are_errors(backbone: Backbone, triplets: TuningTriplets) -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        next(tune(_tower(backbone), _spec(batch_size=31), triplets, triplets, BUDGET))
    with pytest.raises(ValueError, match="something to train"):
        next(tune(backbone.build_tower(), _spec(), triplets, triplets, BUDGET))


def test_dropout_is_seeded(tmp_path: Path, backbone: Backbone, triplets: TuningTriplets) -> None:
    losses = [
        [report.train_loss for report in tune(_tower(backbone), _spec(dropout=dropout), triplets, triplets, BUDGET)][1]
        for dropout in (True, True, False)
    ]
    assert losses[0] == losses[1] != losses[2]
