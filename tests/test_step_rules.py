"""Optimizers, schedules and precisions as a sweep names them: what goes together, what a step's rate is, identity."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from adiabatic_ray.changes import with_changes
from adiabatic_ray.sources import CldrNames, DocstringTriplets
from adiabatic_ray.spec import PACKAGED_E5, EvaluationSpec, SweepSpec, TrialSpec, TuningSpec
from adiabatic_ray.tuning.member import Member
from adiabatic_ray.tuning.optim import build_optimizer, check_optimizer
from adiabatic_ray.tuning.precise_steps import PreciseOptimizer
from adiabatic_ray.tuning.schedules import check_schedule, factor_of

TRIAL = TrialSpec(
    backbone=PACKAGED_E5, source=DocstringTriplets(libraries=("numpy",)), evaluation=EvaluationSpec(sets=(CldrNames(),))
)
FINITE = {"idle_epochs": None, "max_epochs": 5, "batches_per_epoch": 20}
OWN = """
import torch
falling = lambda t: 1 / (1 + t)
rising_forever = lambda t: 2.0**t if t < 9 else float("inf")
words = lambda t: "fast"
number = 3
def optimizer(parameters, lr):
    return torch.optim.RMSprop(parameters, lr=lr)
def no_optimizer(parameters, lr):
    return "RMSprop"
def other_arguments(parameters, rate):
    return None
class Forgetful(torch.optim.SGD):
    def step(self, closure=None):
        self.param_groups[0]["seen"] = self.param_groups[0].get("seen", 0) + 1
        super().step()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)


@pytest.mark.parametrize(
    ("changes", "trial_id"),
    [
        ({}, "lr5e-08-embeddings-seed0-8b9bd26170"),
        (
            {"learning_rate": 1e-7, "weight_decay": 0.1, "adam_betas": (0.8, 0.99), "adam_epsilon": 1e-7},
            "lr1e-07-embeddings-seed0-3ea55d7153",
        ),
        (
            {"freeze": "emb, B0a", "max_epochs": 3, "idle_epochs": None, "keep": "final", "dropout": True},
            "lr5e-08-emb_B0a-seed0-290f4bc5d6",
        ),
    ],
)
def test_trials_of_before_keep_their_ids(changes: dict[str, Any], trial_id: str) -> None:
    """Computed with the release that had neither optimizers nor schedules nor precisions."""
    assert with_changes(TRIAL, {f"tuning.{name}": value for name, value in changes.items()}).trial_id == trial_id


def test_every_choice_is_in_the_id_and_in_a_grid() -> None:
    axes = {
        "tuning.optimizer": ("adamw", "adamax", "sgd", "mine:optimizer"),
        "tuning.schedule": ("constant", "E0.95", "E0.98", "mine:falling"),
    }
    points = ({"tuning.precision": "compensated"}, {"tuning.precision": "float64"}, {"tuning.schedule": "linear"})
    tuning = {"tuning": TuningSpec(**FINITE)}  # type: ignore[arg-type]
    trials = SweepSpec(name="s", question="q", trial=TRIAL.model_copy(update=tuning), grid=axes, points=points).expand()
    assert len(trials) == 19


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", {0: 1.0, 99: 1.0}),
        ("linear", {0: 1.0, 25: 0.75, 50: 0.5, 99: 0.01, 100: 0.0, 150: 0.0}),
        ("quadratic", {0: 1.0, 25: 0.9375, 50: 0.75, 99: 0.0199, 100: 0.0, 150: 0.0}),
        ("E0.95", {0: 1.0, 1: 0.95, 2: 0.9025, 3: 0.857375}),
        ("E0.98", {0: 1.0, 1: 0.98, 2: 0.9604, 3: 0.941192}),
    ],
)
def test_schedules_by_hand(schedule: str, expected: dict[int, float]) -> None:
    """Table 19 at exact steps, T = 5 epochs of 20 steps."""
    factor = factor_of(TuningSpec(schedule=schedule, **FINITE))  # type: ignore[arg-type]
    assert {t: factor(t) for t in expected} == pytest.approx(expected, abs=1e-12)


def test_a_length_that_is_given_comes_first() -> None:
    factor = factor_of(TuningSpec(schedule="linear", schedule_steps=10, **FINITE))  # type: ignore[arg-type]
    assert [factor(t) for t in (0, 5, 10, 99)] == [1.0, 0.5, 0.0, 0.0]


@pytest.mark.parametrize("precision", ["float32", "compensated", "float64"])
def test_each_step_has_the_rate_of_its_schedule(precision: str) -> None:
    """SGD under a gradient of -1 moves a weight by the rate; from 0, where float32 is fine enough."""
    rates = {"learning_rate": 0.5, "optimizer": "sgd", "precision": precision, "schedule": "linear", "batch_size": 1}
    member = Member(TuningSpec(schedule_steps=4, **rates), {"w": torch.nn.Parameter(torch.zeros(1))}, 9)  # type: ignore[arg-type]
    places = []
    for _ in range(6):
        member.begin_step()
        member.parameters["w"].grad = -torch.ones(1)
        member.optimizer.step()
        places.append(float(member.parameters["w"].detach()))
    assert places == [0.5, 0.875, 1.125, 1.25, 1.25, 1.25]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimizer": "adam"}, "choose from adamw, adamax, adadelta, sgd, or give your own"),
        ({"schedule": "E0.9"}, "choose from constant, linear, quadratic, E0.95, E0.98"),
        ({"schedule": "linear"}, "got neither schedule_steps nor max_epochs"),
        ({"schedule": "quadratic"}, "got neither schedule_steps nor max_epochs"),
        ({"schedule_steps": 5}, "schedule_steps is of linear and quadratic, got schedule 'constant'"),
        ({"adam_betas": (0.9, 1.0)}, r"adam_betas must lie in \[0, 1\), got \(0.9, 1.0\)"),
        ({"adam_betas": (-0.1, 0.9)}, r"adam_betas must lie in \[0, 1\)"),
        ({"optimizer": "sgd", "momentum": 1.0}, "less than 1"),
        ({"momentum": 0.9}, "momentum is of sgd, got 0.9 with optimizer 'adamw'"),
        ({"optimizer": "sgd", "weight_decay": 0.1}, "weight_decay is of adamw, got 0.1 with optimizer 'sgd'"),
        ({"optimizer": "sgd", "adam_betas": (0.0, 0.9)}, "adam_betas is of adamw and adamax"),
        ({"optimizer": "adadelta", "precision": "float64"}, "there for adamw, adamax, sgd, got optimizer 'adadelta'"),
        ({"optimizer": "a.b:c", "precision": "compensated"}, "there for adamw, adamax, sgd, got optimizer 'a.b:c'"),
        ({"precision": "bfloat16"}, "'float32', 'compensated' or 'float64'"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TuningSpec(**changes)


def test_what_is_wrong_comes_in_one_error() -> None:
    with pytest.raises(ValueError) as caught:
        TuningSpec(optimizer="sgd", weight_decay=0.1, schedule="linear", idle_epochs=None)
    assert all(words in str(caught.value) for words in ("weight_decay is of", "schedule_steps nor", "tuning must end"))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, torch.optim.AdamW),
        ({"optimizer": "adamax", "adam_betas": (0.0, 0.0)}, torch.optim.Adamax),
        ({"optimizer": "adadelta"}, torch.optim.Adadelta),
        ({"optimizer": "sgd", "momentum": 0.9}, torch.optim.SGD),
        ({"optimizer": "adamax", "precision": "compensated"}, PreciseOptimizer),
        ({"optimizer": "mine:optimizer"}, torch.optim.RMSprop),
    ],
)
def test_the_optimizer_is_the_one_that_was_named(changes: dict[str, Any], kind: type, own: None) -> None:
    spec = TuningSpec(**changes)
    check_optimizer(spec)
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = build_optimizer([parameter], spec)
    assert type(optimizer) is kind
    if kind is torch.optim.Adamax:
        assert optimizer.defaults["betas"] == (0.0, 0.0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere.to.be:found", "must be importable wherever trials are tuned"),
        ("mine:absent", "has no callable 'absent'"),
        ("mine:number", "has no callable 'number'"),
        ("mine:no_optimizer", "must give a torch.optim.Optimizer, got str"),
        ("mine:other_arguments", "must take a list of parameters and lr"),
        ("mine:Forgetful", "must keep its state as tensors"),
    ],
)
def test_an_own_optimizer_that_cannot_be_used_is_refused(name: str, words: str, own: None) -> None:
    with pytest.raises(ValueError, match=words):
        check_optimizer(TuningSpec(optimizer=name))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine:words", "finite factor, 0 or more, got 'fast'"),
        ("mine:rising_forever", "got inf from 'mine:rising_forever' at step 9"),
        ("mine:other_arguments", "which raised TypeError"),
        ("nowhere:found", "tuning.schedule must be importable"),
    ],
)
def test_an_own_schedule_that_cannot_be_used_is_refused(name: str, words: str, own: None) -> None:
    check_schedule(TuningSpec(schedule="mine:falling"))
    with pytest.raises(ValueError, match=words):
        check_schedule(TuningSpec(schedule=name))
