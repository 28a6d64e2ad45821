"""One trial of a pack: the stopping rule, what is kept, and how it goes on after an interruption."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tuning.member import Member
from adiabatic_ray.tuning.news import EpochReport


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


def test_a_resumed_member_goes_on_to_the_last_bit() -> None:
    whole, half = _member(learning_rate=0.1, keep="improved"), _member(learning_rate=0.1, keep="improved")
    script = [(1.0, 10), (0.9, 9), (0.95, 9), (0.96, 9)]
    for member, epochs in ((whole, script), (half, script[:2])):
        for epoch, (loss, errors) in enumerate(epochs):
            for _ in range(3 if epoch else 0):
                _step(member)
            member.finish_epoch(0.5, loss, errors, 20)
    again = _member(learning_rate=0.1, keep="improved")
    state = half.state()
    again.resume(state)
    for loss, errors in script[2:]:
        for _ in range(3):
            _step(again)
        again.finish_epoch(0.5, loss, errors, 20)
    assert torch.equal(again.parameters["weight"], whole.parameters["weight"])
    assert np.array_equal(again.trained()["weight"], whole.trained()["weight"])
    outcome = [(one.epoch, one.improved, one.stopped_by) for one in again.reports]
    assert outcome == [(one.epoch, one.improved, one.stopped_by) for one in whole.reports]
    assert again.reports[-1].elapsed_s >= half.reports[-1].elapsed_s
