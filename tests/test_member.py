"""One trial of a pack: the stopping rule, what is kept, and how it goes on after an interruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tuning.member import Member
from adiabatic_ray.tuning.news import EpochReport
from adiabatic_ray.tuning.saved_states import load_state, save_state


def _spec(**changes: object) -> TuningSpec:
    settings = {"batch_size": 4, "batches_per_epoch": 3, "idle_epochs": None, "max_epochs": 3, "keep": "final"}
    return TuningSpec(**(settings | changes))  # type: ignore[arg-type]


def _member(**changes: object) -> Member:
    return Member(_spec(**changes), {"weight": torch.nn.Parameter(torch.zeros(2))}, 12)


def _run(
    script: list[tuple[float, int]], train_loss: float = 0.5, **changes: object
) -> tuple[list[EpochReport], float]:
    """Validations of a script; every epoch sets the weight to its number. The reports, and the weight that is kept."""
    member = _member(**changes)
    for epoch, (loss, errors) in enumerate(script):
        with torch.no_grad():
            member.parameters["weight"].fill_(epoch)
        member.finish_epoch(train_loss if epoch else float("nan"), loss, errors, 20)
        if member.stopped_by:
            break
    return member.reports, float(member.trained()["weight"][0])


def test_an_epoch_improves_only_when_loss_and_errors_both_fall() -> None:
    # epoch:     0          1 better   2 loss only  3 errors only  4 better than 1   5, 6 idle
    script = [(1.0, 10), (0.9, 9), (0.5, 9), (0.95, 5), (0.8, 8), (0.8, 8), (0.9, 9)]
    reports, kept = _run(script, idle_epochs=3, max_epochs=6, keep="improved")
    assert [report.improved for report in reports] == [True, True, False, False, True, False, False]
    assert reports[-1].stopped_by == "max_epochs" and kept == 4.0


def test_idle_epochs_stop_and_the_last_improved_state_is_kept() -> None:
    script = [(1.0, 10), (0.9, 9), (0.9, 8), (0.8, 9), (0.7, 7)]
    reports, kept = _run(script, idle_epochs=2, max_epochs=None, keep="improved")
    assert [report.epoch for report in reports] == [0, 1, 2, 3]
    assert [report.stopped_by for report in reports] == [None, None, None, "idle"]
    assert kept == 1.0


def test_without_improvement_the_untuned_tower_is_kept() -> None:
    reports, kept = _run([(1.0, 10), (1.1, 11), (1.2, 12)], idle_epochs=2, max_epochs=None, keep="improved")
    assert len(reports) == 3 and kept == 0.0


def test_the_final_state_is_kept_when_asked_for() -> None:
    assert _run([(1.0, 10), (0.9, 9), (1.1, 11), (1.2, 12)], max_epochs=3, keep="final")[1] == 3.0


@pytest.mark.parametrize(("validation", "train_loss"), [(float("nan"), 0.5), (1.0, float("inf"))])
def test_divergence_ends_the_run_as_a_result(validation: float, train_loss: float) -> None:
    reports, state = _run([(1.0, 10), (validation, 9)], train_loss, keep="improved")
    assert reports[-1].epoch == 1 and reports[-1].stopped_by == "diverged" and not reports[-1].improved
    assert state == 1.0


def _step(member: Member) -> None:
    rows_B = torch.from_numpy(member.begin_step()).float()
    member.parameters["weight"].grad = rows_B.mean() - member.parameters["weight"].detach()
    member.optimizer.step()


RULES: dict[str, dict[str, object]] = {
    "adamw": {},
    "adamw, compensated": {"precision": "compensated", "weight_decay": 0.1},
    "adamw, float64": {"precision": "float64", "schedule": "linear"},
    "adamax, compensated": {"optimizer": "adamax", "precision": "compensated", "schedule": "E0.95"},
    "adamax": {"optimizer": "adamax", "schedule": "quadratic"},
    "sgd, compensated": {"optimizer": "sgd", "momentum": 0.9, "precision": "compensated"},
    "sgd, float64": {"optimizer": "sgd", "momentum": 0.9, "precision": "float64", "schedule": "E0.98"},
    "sgd": {"optimizer": "sgd", "momentum": 0.9},
    "adadelta": {"optimizer": "adadelta"},
    "own": {"optimizer": "torch.optim:RMSprop"},
}


@pytest.mark.parametrize("rules", RULES.values(), ids=list(RULES))
@pytest.mark.parametrize("keep", ["improved", "final"])
def test_a_resumed_member_goes_on_to_the_last_bit(rules: dict[str, object], keep: str, tmp_path: Path) -> None:
    settings: dict[str, object] = {"learning_rate": 0.1, "keep": keep} | rules
    whole, half = _member(**settings), _member(**settings)
    script = [(1.0, 10), (0.9, 9), (0.95, 9), (0.96, 9)]
    for member, epochs in ((whole, script), (half, script[:2])):
        for epoch, (loss, errors) in enumerate(epochs):
            for _ in range(3 if epoch else 0):
                _step(member)
            member.finish_epoch(0.5, loss, errors, 20)
    again = _member(**settings)
    save_state(tmp_path, "one", half.state())
    state = load_state(tmp_path, "one")
    assert state is not None and again.can_resume(state)
    again.resume(state)
    for loss, errors in script[2:]:
        for _ in range(3):
            _step(again)
        again.finish_epoch(0.5, loss, errors, 20)
    assert again.l2_lost() == whole.l2_lost()
    assert (whole.l2_lost() is None) == ("precision" not in rules)
    for name, value in whole.state().tensors.items():
        assert value.tobytes() == again.state().tensors[name].tobytes(), name
    assert np.abs(whole.trained()["weight"]).min() > 0, "something was learnt"
    assert torch.equal(again.parameters["weight"], whole.parameters["weight"])
    assert np.array_equal(again.trained()["weight"], whole.trained()["weight"])
    outcome = [(one.epoch, one.improved, one.stopped_by) for one in again.reports]
    assert outcome == [(one.epoch, one.improved, one.stopped_by) for one in whole.reports]
    assert again.reports[-1].elapsed_s >= half.reports[-1].elapsed_s


def test_what_rounding_leaves_out_is_that_of_the_state_that_is_kept() -> None:
    """1 minus steps of 1e-8: float32 has 1 and 1 - 6e-8; four steps show as one of its own."""
    for precision in ("compensated", "float64"):
        changes = {"optimizer": "sgd", "learning_rate": 1e-8, "precision": precision, "keep": "improved"}
        member = Member(_spec(**changes), {"weight": torch.nn.Parameter(torch.ones(1))}, 12)
        spacing = 2.0**-24
        for epoch, (loss, errors) in enumerate([(1.0, 10), (0.9, 9), (0.95, 9)]):
            for _ in range(4 if epoch else 0):
                member.begin_step()
                member.parameters["weight"].grad = torch.ones(1)
                member.optimizer.step()
            member.finish_epoch(0.5, loss, errors, 20)
        lost = member.l2_lost()
        assert lost is not None
        assert float(member.trained()["weight"][0]) == 1 - spacing  # of 4e-8, more than half a spacing
        assert lost["weight"] == pytest.approx(spacing - 4e-8, rel=1e-6)
        assert float(member.parameters["weight"].detach()) == 1 - spacing  # of 8e-8, nearer to one spacing than to two
