"""Loading and pinning: once each, by content."""

from __future__ import annotations

from pathlib import Path

import pytest

from adiabatic_ray.changes import with_changes
from adiabatic_ray.evaluation import prepare
from adiabatic_ray.evaluation.prepare import Loader
from tests.small_sweep import small_sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inputs")


def test_everything_is_loaded_once_for_all_trials_pinned_or_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("load_backbone", "load_tuning", "load_triplets", "load_pairs"):
        real = getattr(prepare, name)
        monkeypatch.setattr(prepare, name, lambda *given, name=name, real=real: calls.append(name) or real(*given))
    loader = Loader()
    pinned = [loader.pin(trial) for trial in small_sweep(folder).expand()]
    for trial in pinned:
        loader.load(trial)
    assert sorted(calls) == ["load_backbone", "load_pairs", "load_triplets", "load_tuning"]


def test_pinning_twice_changes_nothing(folder: Path) -> None:
    trial = small_sweep(folder).expand()[0]
    pinned = Loader().pin(trial)
    assert pinned.is_pinned and not trial.is_pinned
    assert Loader().pin(pinned) == pinned


def test_changed_texts_are_another_trial_and_refused_under_the_old_digest(folder: Path, tmp_path: Path) -> None:
    trial = small_sweep(folder).expand()[0]
    pinned = Loader().pin(trial)
    text = (folder / "triplets.jsonl").read_text(encoding="utf-8")
    changed = tmp_path / "triplets.jsonl"
    changed.write_text(text.replace("river", "brook"), encoding="utf-8")
    assert Loader().pin(with_changes(trial, {"source.path": str(changed)})).trial_id != pinned.trial_id
    with pytest.raises(ValueError, match="digest"):
        Loader().pin(with_changes(pinned, {"source.path": str(changed)}))


def test_a_bank_serves_every_set_with_the_same_texts_and_backbone_only(folder: Path) -> None:
    inputs = Loader().load(small_sweep(folder).expand()[0])
    lists = inputs.bank_texts()
    assert [len(texts) for texts in lists[2:]] == [len(inputs.evaluation[0].passages), 180]  # type: ignore[union-attr]
    keys = {inputs.bank_key(texts).digest for texts in lists}
    assert len(keys) == len(lists)
    assert inputs.bank_key(list(lists[0])).digest in keys
