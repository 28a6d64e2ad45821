"""A pack tunes each of its members as if it were alone, whoever joins, stops or diverges beside it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adiabatic_ray.encoders.backbones import Backbone, load_backbone
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tuning.news import EpochReport
from adiabatic_ray.tuning.pack import Pack, packs_alone
from adiabatic_ray.tuning.tune import trainable_names, tune
from adiabatic_ray.tuning.tuning_data import TuningTriplets
from tests.tiny import save_tiny_bert, save_tiny_distilbert, save_tiny_xlm_roberta, tiny_spec

BUDGET = 512
STEPS = 4
Run = tuple[list[EpochReport], dict[str, np.ndarray]]


@pytest.fixture(scope="module", params=[save_tiny_bert, save_tiny_xlm_roberta])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    save: Callable[..., Path] = request.param
    return load_backbone(tiny_spec(save(tmp_path_factory.mktemp("encoder"))))


@pytest.fixture(scope="module")
def triplets(backbone: Backbone) -> TuningTriplets:
    texts = [f"question about thing {number}" + " again" * (number % 4) for number in range(30)]
    passages = [f"thing {number} is explained here" for number in range(30)]
    bank_PD = encode(backbone.build_tower(), backbone.tokenize(passages, "passage: "), BUDGET)
    rows_Q = np.arange(30)
    return TuningTriplets(backbone.tokenize(texts, "query: "), rows_Q, (rows_Q + 7) % 30, bank_PD)


def _spec(**changes: object) -> TuningSpec:
    settings = {"batch_size": 4, "batches_per_epoch": STEPS, "idle_epochs": None, "max_epochs": 3, "keep": "final"}
    return TuningSpec(**({"learning_rate": 1e-4} | settings | changes))  # type: ignore[arg-type]


MEMBERS = {
    "plain": _spec(),
    "rate": _spec(learning_rate=3e-4, max_epochs=5),
    "margin": _spec(margin=1.0, max_epochs=2),
    "frozen": _spec(freeze="embeddings, B0", max_epochs=4),
    "seed": _spec(seed=5, weight_decay=0.1),
    "improved": _spec(keep="improved", idle_epochs=1, max_epochs=6, seed=2),
    "nothing": _spec(learning_rate=0.0),
}
RULES = {
    "plain": _spec(),
    "compensated": _spec(precision="compensated", schedule="linear"),
    "float64": _spec(precision="float64", weight_decay=0.1, seed=3),
    "adamax": _spec(optimizer="adamax", schedule="E0.95"),
    "sgd": _spec(optimizer="sgd", learning_rate=1e-2, precision="compensated"),
    "own": _spec(optimizer="torch.optim:RMSprop", learning_rate=1e-5),
    "nothing": _spec(learning_rate=0.0, precision="compensated"),
}


def _pack(backbone: Backbone, triplets: TuningTriplets, num_slots: int, like: TuningSpec | None = None) -> Pack:
    trainable, _ = trainable_names(backbone, "embeddings")
    return Pack(backbone, trainable, like or _spec(), num_slots, triplets, triplets, BUDGET)


def _run_all(pack: Pack, backbone: Backbone, specs: dict[str, TuningSpec]) -> dict[str, Run]:
    """Tune many with few slots: whoever waits joins when a slot is free."""
    waiting, runs, reports = dict(specs), {}, {}
    while waiting or pack.members:
        while waiting and len(pack.members) < pack.num_slots:
            name = next(iter(waiting))
            spec = waiting.pop(name)
            reports[name] = list(pack.join(name, spec, trainable_names(backbone, spec.freeze)[0]))
        for name, report in pack.start().items():
            reports[name].append(report)
        for name, report in pack.run_epoch().items():
            reports[name].append(report)
            if report.stopped_by:
                runs[name] = reports[name], dict(pack.leave(name).tensors)
    return runs


def _alone(backbone: Backbone, triplets: TuningTriplets, spec: TuningSpec) -> Run:
    reports: list[EpochReport] = []
    return reports, dict(tune(backbone, spec, triplets, triplets, BUDGET, reports.append).tensors)


def _check_alike(backbone: Backbone, got: Run, expected: Run, spec: TuningSpec) -> None:
    assert [one.stopped_by for one in got[0]] == [one.stopped_by for one in expected[0]]
    for one, other in zip(got[0], expected[0], strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4, nan_ok=True)
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-4)
        assert one.improved == other.improved
    assert got[1].keys() == expected[1].keys()
    for name, value in got[1].items():
        if name.endswith("key.bias"):  # has no gradient but rounding, of which AdamW makes steps of full size
            continue
        # Where a gradient is near 0 its rounded sign, and with it a whole step, may differ; elsewhere steps are equal.
        far = np.abs(value - expected[1][name]) > 0.01 * spec.learning_rate * spec.batches_per_epoch
        assert far.mean() <= 0.01, name
        moved = np.abs(expected[1][name] - backbone.weights[name]).max()
        assert np.abs(value - expected[1][name]).max() <= 0.2 * moved + 1e-7, name


@pytest.mark.parametrize("num_slots", [1, 2, 3, 7])
def test_members_are_tuned_as_alone(backbone: Backbone, triplets: TuningTriplets, num_slots: int) -> None:
    runs = _run_all(_pack(backbone, triplets, num_slots), backbone, MEMBERS)
    assert runs.keys() == MEMBERS.keys()
    for name, spec in MEMBERS.items():
        _check_alike(backbone, runs[name], _alone(backbone, triplets, spec), spec)
    assert all(value.tobytes() == backbone.weights[name].tobytes() for name, value in runs["nothing"][1].items())


def test_each_member_has_its_own_steps(backbone: Backbone, triplets: TuningTriplets) -> None:
    runs = _run_all(_pack(backbone, triplets, 3), backbone, RULES)
    for name, spec in RULES.items():
        _check_alike(backbone, runs[name], _alone(backbone, triplets, spec), spec)
    assert all(value.tobytes() == backbone.weights[name].tobytes() for name, value in runs["nothing"][1].items())


def test_a_member_that_diverges_leaves_the_others_alone(backbone: Backbone, triplets: TuningTriplets) -> None:
    specs = {"wild": _spec(learning_rate=1e38, max_epochs=9), "plain": MEMBERS["plain"], "seed": MEMBERS["seed"]}
    runs = _run_all(_pack(backbone, triplets, 3), backbone, specs)
    assert runs["wild"][0][-1].stopped_by == "diverged"
    for name in ("plain", "seed"):
        _check_alike(backbone, runs[name], _alone(backbone, triplets, specs[name]), specs[name])


def test_a_member_goes_on_in_another_pack(backbone: Backbone, triplets: TuningTriplets) -> None:
    first, second = (_pack(backbone, triplets, num_slots) for num_slots in (1, 2))
    spec = MEMBERS["rate"]
    trainable, _ = trainable_names(backbone, spec.freeze)
    first.join("rate", spec, trainable)
    for _ in range(2):
        first.run_epoch()
    second.join("other", MEMBERS["seed"], trainable)
    reports = list(second.join("rate", spec, trainable, first.members["rate"].state()))
    assert [report.epoch for report in reports] == [0, 1, 2]
    while reports[-1].stopped_by is None:
        reports.append(second.run_epoch()["rate"])
    _check_alike(backbone, (reports, dict(second.leave("rate").tensors)), _alone(backbone, triplets, spec), spec)


def test_who_packs_alone(backbone: Backbone, tmp_path: Path) -> None:
    other = load_backbone(tiny_spec(save_tiny_distilbert(tmp_path)))
    assert not packs_alone(backbone, _spec())
    assert packs_alone(backbone, _spec(dropout=True)) and packs_alone(other, _spec())


def test_members_have_batch_and_epoch_in_common(backbone: Backbone, triplets: TuningTriplets) -> None:
    pack = _pack(backbone, triplets, 2)
    assert pack.fits(_spec(learning_rate=1.0, seed=3, margin=2.0))
    assert not any(pack.fits(_spec(**change)) for change in ({"batch_size": 5}, {"batches_per_epoch": 9}))


def test_a_pack_that_is_dropped_frees_its_memory_at_once(backbone: Backbone, triplets: TuningTriplets) -> None:
    """A pack that referred to itself would hold a device's memory until Python looks for cycles."""
    pack = _pack(backbone, triplets, 2)
    pack.join("plain", MEMBERS["plain"], trainable_names(backbone, "embeddings")[0])
    pack.run_epoch()
    weights = weakref.ref(next(iter(pack.members["plain"].parameters.values())))
    gc.collect()
    gc.disable()
    try:
        del pack
        assert weights() is None
    finally:
        gc.enable()


def test_nothing_of_a_step_is_left_behind(backbone: Backbone, triplets: TuningTriplets) -> None:
    pack = _pack(backbone, triplets, 2)
    pack.join("plain", MEMBERS["plain"], trainable_names(backbone, "embeddings")[0])
    pack.run_epoch()
    assert all(one.grad is None for one in pack.members["plain"].parameters.values())
