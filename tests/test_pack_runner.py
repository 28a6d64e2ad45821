"""Trials that come and go in packs: slots, turns, saved states, memory that runs out, devices that fail."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adiabatic_ray.encoders.backbones import load_backbone
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tuning import saved_states
from adiabatic_ray.tuning.news import EpochReport, ReplacedError
from adiabatic_ray.tuning.pack import Pack
from adiabatic_ray.tuning.pack_memory import member_bytes, weight_bytes
from adiabatic_ray.tuning.pack_runner import Material, Notice, PackRunner
from adiabatic_ray.tuning.saved_states import MemberState
from adiabatic_ray.tuning.tune import trainable_names, tune
from adiabatic_ray.tuning.tuning_data import TuningTriplets
from tests.tiny import save_tiny_bert, save_tiny_distilbert, tiny_spec

BUDGET = 512
Heard = tuple[list[EpochReport], list[str], dict[str, np.ndarray]]


def _material(folder: Path, save: Callable[..., Path] = save_tiny_bert) -> Material:
    backbone = load_backbone(tiny_spec(save(folder)))
    texts = [f"question about thing {number}" for number in range(30)]
    passages = [f"thing {number} is explained here" for number in range(30)]
    bank_PD = encode(backbone.build_tower(), backbone.tokenize(passages, "passage: "), BUDGET)
    rows_Q = np.arange(30)
    triplets = TuningTriplets(backbone.tokenize(texts, "query: "), rows_Q, (rows_Q + 7) % 30, bank_PD)
    return Material(str(folder), backbone, triplets, triplets, BUDGET)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return _material(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return _material(tmp_path_factory.mktemp("distilbert"), save_tiny_distilbert)


def _spec(**changes: object) -> TuningSpec:
    settings = {"batch_size": 4, "batches_per_epoch": 3, "idle_epochs": None, "max_epochs": 3, "keep": "final"}
    return TuningSpec(**({"learning_rate": 1e-4} | settings | changes))  # type: ignore[arg-type]


def _hear(runner: PackRunner, name: str, spec: TuningSpec, material: Material) -> Heard:
    reports: list[EpochReport] = []
    notices: list[str] = []
    for news in runner.tune(name, spec, material):
        if isinstance(news, Notice):
            notices.append(news.text)
        elif isinstance(news, EpochReport):
            reports[news.epoch :] = [news]
        else:
            return reports, notices, dict(news.tensors)
    raise AssertionError("the call ended without tensors")


def _hear_all(runner: PackRunner, asked: dict[str, tuple[TuningSpec, Material]]) -> dict[str, Heard]:
    with ThreadPoolExecutor(len(asked)) as threads:
        calls = {name: threads.submit(_hear, runner, name, *one) for name, one in asked.items()}
        return {name: call.result(timeout=120) for name, call in calls.items()}


def _check_as_alone(heard: Heard, spec: TuningSpec, material: Material) -> None:
    reports: list[EpochReport] = []
    trained = tune(material.backbone, spec, material.triplets, material.validation, BUDGET, reports.append).tensors
    assert [(one.epoch, one.stopped_by) for one in heard[0]] == [(one.epoch, one.stopped_by) for one in reports]
    for one, expected in zip(heard[0], reports, strict=True):
        assert one.train_loss == pytest.approx(expected.train_loss, rel=1e-4, nan_ok=True)
    for name, value in trained.items():
        if not name.endswith("key.bias"):
            far = np.abs(heard[2][name] - value) > 0.01 * spec.learning_rate * spec.batches_per_epoch
            assert far.mean() <= 0.01, name


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Slots of every pack that is built."""
    built: list[int] = []
    build = Pack.__init__

    def recorded(self: Pack, *arguments: Any) -> None:
        build(self, *arguments)
        built.append(self.num_slots)

    monkeypatch.setattr(Pack, "__init__", recorded)
    return built


def test_a_pack_is_gone_before_the_next_one_is_built(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Pack] = weakref.WeakSet()
    found: list[int] = []
    build = Pack.__init__

    def counted(self: Pack, *arguments: Any) -> None:
        found.append(len(alive))
        build(self, *arguments)
        alive.add(self)

    monkeypatch.setattr(Pack, "__init__", counted)
    gc.disable()
    try:
        _hear_all(PackRunner(4), {str(seed): (_spec(seed=seed, max_epochs=seed), material) for seed in (1, 2, 9, 12)})
    finally:
        gc.enable()
    assert len(found) > 1 and not any(found)


@pytest.mark.parametrize("pack_size", [1, 3, 8])
def test_many_trials_share_a_few_slots(material: Material, other: Material, pack_size: int, sizes: list[int]) -> None:
    asked = {
        f"rate {number}": (_spec(learning_rate=number * 1e-4, max_epochs=number), material) for number in (1, 2, 4)
    }
    asked |= {
        "batch": (_spec(batch_size=5), material),
        "dropout": (_spec(dropout=True), material),
        "freeze": (_spec(freeze="embeddings, B0"), material),
        "tables": (_spec(freeze="B0"), material),
        "layout": (_spec(), other),
    }
    heard = _hear_all(PackRunner(pack_size), asked)
    assert max(sizes) <= pack_size
    for name, (spec, of) in asked.items():
        assert not heard[name][1]
        if not spec.dropout:  # its random numbers are the process's, which a parallel run disturbs
            _check_as_alone(heard[name], spec, of)


def test_an_error_is_heard_by_its_trial_alone(material: Material) -> None:
    runner = PackRunner(2)
    with pytest.raises(ValueError, match="something to train"):
        _hear(runner, "nothing", _spec(freeze="emb, B0-1"), material)
    with pytest.raises(ValueError, match="at least one batch"):
        _hear(runner, "batch", _spec(batch_size=31), material)
    _check_as_alone(_hear(runner, "good", _spec(), material), _spec(), material)


def test_a_failing_device_ends_every_call_and_all_go_on_from_where_they_were_saved(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = {f"seed {seed}": _spec(seed=seed, max_epochs=20, keep="improved") for seed in (0, 1)}
    runner = PackRunner(2, folder=tmp_path, save_every_s=0.0)
    run_epoch = Pack.run_epoch
    finished: dict[str, list[int]] = {name: [] for name in specs}

    def recorded(pack: Pack) -> dict[str, EpochReport]:
        reports = run_epoch(pack)
        for name, report in reports.items():
            finished.setdefault(name, []).append(report.epoch)
        return reports

    def vanishing(pack: Pack) -> dict[str, EpochReport]:
        reports = recorded(pack)
        if len(reports) == 2 and max(report.epoch for report in reports.values()) >= 3:
            raise RuntimeError("the device is gone")
        return reports

    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as threads:
        patch.setattr(Pack, "run_epoch", vanishing)
        calls = [threads.submit(_hear, runner, name, spec, material) for name, spec in specs.items()]
        for call in calls:
            with pytest.raises(RuntimeError, match="the device is gone"):
                call.result(timeout=120)
    before = {name: epochs.copy() for name, epochs in finished.items()}
    monkeypatch.setattr(Pack, "run_epoch", recorded)
    heard = _hear_all(PackRunner(2, folder=tmp_path), {name: (spec, material) for name, spec in specs.items()})
    for name, spec in specs.items():
        # The epoch that failed was not saved and is run again; no other one is.
        assert finished[name][len(before[name]) :] == list(range(before[name][-1], 21))
        _check_as_alone(heard[name], spec, material)


def test_a_pack_that_does_not_fit_is_halved_and_says_so(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    """One trial runs alone, three more come, and there is room for two."""
    run_epoch = Pack.run_epoch
    everyone_waits = threading.Event()

    def small(pack: Pack) -> dict[str, EpochReport]:
        everyone_waits.wait(60)
        if pack.num_slots > 2:
            raise torch.OutOfMemoryError("out of memory")
        return run_epoch(pack)

    monkeypatch.setattr(Pack, "run_epoch", small)
    specs = {f"seed {seed}": _spec(seed=seed, max_epochs=20, batches_per_epoch=1) for seed in range(4)}
    runner = PackRunner(4)
    with ThreadPoolExecutor(len(specs)) as threads:
        calls = {}
        for name, spec in specs.items():
            calls[name] = threads.submit(_hear, runner, name, spec, material)
            while len(runner._waiting) + len(runner._active) < len(calls) or not runner._active:
                threading.Event().wait(0.01)
        everyone_waits.set()
        heard = {name: call.result(timeout=120) for name, call in calls.items()}
    assert [notice for one in heard.values() for notice in one[1]] == [
        "a pack of 4 did not fit the memory: from now on 2 at a time"
    ]
    for name, spec in specs.items():
        _check_as_alone(heard[name], spec, material)


def test_a_single_trial_that_does_not_fit_hears_of_it(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(pack: Pack) -> dict[str, EpochReport]:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(Pack, "run_epoch", full)
    with pytest.raises(torch.OutOfMemoryError):
        _hear(PackRunner(4), "alone", _spec(), material)


def test_memory_is_looked_at_before_a_pack_is_built(material: Material, sizes: list[int]) -> None:
    trainable, _ = trainable_names(material.backbone, "embeddings")
    each = member_bytes(
        material.backbone, trainable, int(np.sort(material.triplets.queries.lengths())[-4:].sum()), _spec()
    )
    asked = {f"seed {seed}": (_spec(seed=seed), material) for seed in range(3)}
    heard = _hear_all(PackRunner(8, free_bytes=lambda: int(0.5 * each)), asked)
    assert set(sizes) == {1}
    assert any(notices for _, notices, _ in heard.values())
    assert all("are tuned at a time" in notice for one in heard.values() for notice in one[1])


def test_memory_that_runs_out_while_a_pack_grows_halves_it(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with room for three slots, whoever holds them: what a dropped pack held must be free again."""
    live: weakref.WeakSet[Pack] = weakref.WeakSet()
    build, run_epoch = Pack.__init__, Pack.run_epoch
    everyone_waits = threading.Event()

    def limited(self: Pack, backbone: Any, trainable: Any, like: TuningSpec, num_slots: int, *more: Any) -> None:
        if sum(pack.num_slots for pack in live) + num_slots > 3:
            raise torch.OutOfMemoryError("out of memory")
        build(self, backbone, trainable, like, num_slots, *more)
        live.add(self)

    def when_all_are_there(pack: Pack) -> dict[str, EpochReport]:
        everyone_waits.wait(60)
        return run_epoch(pack)

    monkeypatch.setattr(Pack, "__init__", limited)
    monkeypatch.setattr(Pack, "run_epoch", when_all_are_there)
    specs = {f"seed {seed}": _spec(seed=seed) for seed in range(5)}
    runner = PackRunner(8)
    with ThreadPoolExecutor(len(specs)) as threads:
        calls = {name: threads.submit(_hear, runner, name, spec, material) for name, spec in specs.items()}
        while len(runner._waiting) + len(runner._active) < len(specs):
            threading.Event().wait(0.01)
        everyone_waits.set()
        heard = {name: call.result(timeout=120) for name, call in calls.items()}
    assert any("did not fit the memory" in notice for one in heard.values() for notice in one[1])
    for name, spec in specs.items():
        _check_as_alone(heard[name], spec, material)


def test_a_trial_that_waits_and_asks_again_is_tuned_once(material: Material, monkeypatch: pytest.MonkeyPatch) -> None:
    run_epoch, gate = Pack.run_epoch, threading.Event()
    monkeypatch.setattr(Pack, "run_epoch", lambda pack: (gate.wait(60), run_epoch(pack))[1])
    runner = PackRunner(1)
    with ThreadPoolExecutor(3) as threads:
        running = threads.submit(_hear, runner, "running", _spec(), material)
        while "running" not in runner._active:
            threading.Event().wait(0.01)
        earlier = threads.submit(_hear, runner, "twice", _spec(seed=1), material)
        while len(runner._waiting) < 1:
            threading.Event().wait(0.01)
        later = threads.submit(_hear, runner, "twice", _spec(seed=1), material)
        with pytest.raises(ReplacedError):
            earlier.result(timeout=60)
        gate.set()
        _check_as_alone(running.result(timeout=60), _spec(), material)
        _check_as_alone(later.result(timeout=60), _spec(seed=1), material)


def test_one_bad_trial_leaves_its_neighbours_alone(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside a running one: no such freeze plan, too large a batch, a saved state of other tensors, a full disk."""
    run_epoch, gate = Pack.run_epoch, threading.Event()
    monkeypatch.setattr(Pack, "run_epoch", lambda pack: (gate.wait(60), run_epoch(pack))[1])
    folder = tmp_path / "states"
    foreign = MemberState({"weights.other": np.zeros(2)}, (EpochReport(0, 0, 0.0, 1.0, 1, 1, True, 0.0, 0, None),))
    saved_states.save_state(folder, "foreign", foreign)
    runner = PackRunner(4, folder=folder, save_every_s=0.0)
    monkeypatch.setattr(saved_states, "save_state", _raise_no_space)
    with ThreadPoolExecutor(4) as threads:
        good = threads.submit(_hear, runner, "good", _spec(), material)
        while "good" not in runner._active:
            threading.Event().wait(0.01)
        bad = {
            "plan": threads.submit(_hear, runner, "plan", _spec(freeze="nothing.like.this"), material),
            "batch": threads.submit(_hear, runner, "batch", _spec(batch_size=31), material),
        }
        other = threads.submit(_hear, runner, "foreign", _spec(seed=3), material)
        gate.set()
        for call in bad.values():
            with pytest.raises(ValueError):
                call.result(timeout=60)
        for call, spec in ((good, _spec()), (other, _spec(seed=3))):
            heard = call.result(timeout=60)
            _check_as_alone(heard, spec, material)
    assert any("can't be saved" in notice for call in (good, other) for notice in call.result()[1])


def _raise_no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_call_that_is_closed_gives_its_slot_back(material: Material) -> None:
    runner = PackRunner(1)
    abandoned = runner.tune("left", _spec(max_epochs=10_000), material)
    assert isinstance(next(abandoned), EpochReport)
    abandoned.close()  # type: ignore[attr-defined]
    _check_as_alone(_hear(runner, "next", _spec(), material), _spec(), material)


def test_a_trial_that_asks_again_takes_the_place_of_its_earlier_call(material: Material) -> None:
    runner = PackRunner(2)
    abandoned = runner.tune("twice", _spec(max_epochs=50), material)
    assert isinstance(next(abandoned), EpochReport)
    _check_as_alone(_hear(runner, "twice", _spec(), material), _spec(), material)
    with pytest.raises(ReplacedError):
        for _ in abandoned:
            pass


def test_states_survive_a_file_and_damage_counts_as_none(material: Material, tmp_path: Path) -> None:
    trainable, _ = trainable_names(material.backbone, "embeddings")
    pack = Pack(material.backbone, trainable, _spec(), 1, material.triplets, material.validation, BUDGET)
    pack.join("one", _spec(), trainable)
    pack.run_epoch()
    state = pack.members["one"].state()
    saved_states.save_state(tmp_path, "one", state)
    again = saved_states.load_state(tmp_path, "one")
    assert again is not None and again.reports[1:] == state.reports[1:] and again.tensors.keys() == state.tensors.keys()
    assert all(np.array_equal(again.tensors[name], value) for name, value in state.tensors.items())
    path = tmp_path / "one.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    assert saved_states.load_state(tmp_path, "one") is None
    saved_states.remove_state(tmp_path, "one")
    assert saved_states.load_state(tmp_path, "one") is None


def test_bytes_of_a_weight_by_hand() -> None:
    """Weight, gradient, kept weight; the optimizer's; the compensation, or weight and optimizer's in float64."""
    adamw = [weight_bytes(_spec(precision=one)) for one in ("float32", "compensated", "float64")]
    assert adamw == [12 + 8, 12 + 8 + 4, 12 + 16 + 8]
    assert [weight_bytes(_spec(optimizer="sgd", momentum=one)) for one in (0.0, 0.9)] == [12, 16]


OWN_SCHEDULE = """
def breaking(step):
    if step == 7:
        raise IndexError("no factor for step 7")
    return 1.0
"""


def test_a_users_schedule_that_fails_takes_nobody_with_it(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is only asked for step 7 in the third epoch, long after everything was checked."""
    (tmp_path / "a_users_schedule.py").write_text(OWN_SCHEDULE)
    monkeypatch.syspath_prepend(tmp_path)
    runner = PackRunner(4)
    own = _spec(schedule="a_users_schedule:breaking")
    with ThreadPoolExecutor(3) as threads:
        failing = threads.submit(_hear, runner, "own", own, material)
        others = [threads.submit(_hear, runner, str(seed), _spec(seed=seed), material) for seed in (1, 2)]
        with pytest.raises(IndexError, match="no factor for step 7"):
            failing.result(timeout=120)
        for seed, other_call in zip((1, 2), others, strict=True):
            _check_as_alone(other_call.result(timeout=120), _spec(seed=seed), material)
