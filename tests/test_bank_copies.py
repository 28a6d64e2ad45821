"""Passage banks in a bucket: built once, copied to a machine once, checked, and memory-mapped there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adiabatic_ray.evaluation import bank
from adiabatic_ray.evaluation.bank_copies import open_or_fetch, publish
from adiabatic_ray.storage import Location, node_folder, open_folder, replacing
from tests.object_server import ObjectServer

KEY = bank.BankKey("weights", "mean", "passage: ", 512, "texts", 10, 512)
EMBEDDINGS_PD = np.arange(40, dtype=np.float32).reshape(10, 4)


@pytest.fixture
def root(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    """Banks of a test; this machine has no copy of any."""
    monkeypatch.setenv("ADIABATIC_CACHE", str(tmp_path / "cache"))
    return open_folder(f"s3://{bucket}/{tmp_path.name}/banks")


def build(root: Location, key: bank.BankKey = KEY) -> None:
    folder = node_folder(root)
    bank.store_shard(folder, key, 0, EMBEDDINGS_PD)
    bank.assemble(folder, key)
    publish(root, key)


def on_another_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADIABATIC_CACHE", str(tmp_path / "other"))


def replaced(file: Location, content: bytes) -> None:
    with replacing(file) as temporary:
        temporary.write_bytes(content)


def test_a_bank_is_downloaded_once_and_mapped(
    root: Location, object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert open_or_fetch(root, KEY) is None
    build(root)
    on_another_machine(monkeypatch, tmp_path)
    fetched_PD = open_or_fetch(root, KEY)
    assert fetched_PD is not None and np.array_equal(fetched_PD, EMBEDDINGS_PD)
    assert isinstance(fetched_PD, np.memmap) and not fetched_PD.flags.writeable
    before = len(object_server.requests())
    again_PD = open_or_fetch(root, KEY)
    assert again_PD is not None and np.array_equal(again_PD, EMBEDDINGS_PD)
    assert len(object_server.requests()) == before, "the copy is there: nothing is asked of the store"


def test_the_description_is_uploaded_last_and_only_once(root: Location, object_server: ObjectServer) -> None:
    before = len(object_server.requests())
    build(root)
    publish(root, KEY)
    puts = [one.rpartition("/")[2] for one in object_server.requests()[before:] if one.startswith("PUT")]
    assert puts == ["embeddings.npy", "bank.json"]


def test_half_an_upload_is_no_bank(root: Location, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    build(root)
    (root / KEY.digest / "bank.json").unlink()
    on_another_machine(monkeypatch, tmp_path)
    assert open_or_fetch(root, KEY) is None
    build(root)
    assert (root / KEY.digest / "bank.json").is_file(), "built here, it is uploaded again"


@pytest.mark.parametrize("damage", ["flip", "lost", "description"])
def test_a_bank_that_was_damaged_in_the_store_is_built_again(
    root: Location, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    build(root)
    array, description = root / KEY.digest / "embeddings.npy", root / KEY.digest / "bank.json"
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    if damage == "flip":
        replaced(array, bytes(content))
    elif damage == "lost":
        array.unlink()
    else:
        replaced(description, description.read_bytes()[:-20])
    on_another_machine(monkeypatch, tmp_path)
    assert open_or_fetch(root, KEY) is None
    assert not [*node_folder(root).iterdir()], "nothing of it was kept"
    build(root)
    on_another_machine(monkeypatch, tmp_path / "third")
    mended_PD = open_or_fetch(root, KEY)
    assert mended_PD is not None and np.array_equal(mended_PD, EMBEDDINGS_PD)


def test_a_copy_that_was_damaged_here_is_fetched_again(root: Location) -> None:
    build(root)
    array = node_folder(root) / KEY.digest / "embeddings.npy"
    array.write_bytes(array.read_bytes()[:-1])
    fetched_PD = open_or_fetch(root, KEY)
    assert fetched_PD is not None and np.array_equal(fetched_PD, EMBEDDINGS_PD)


def test_the_bank_of_another_backbone_is_refused(
    root: Location, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = bank.BankKey("other", "mean", "passage: ", 512, "texts", 10, 512)
    build(root, other)
    for name in ("embeddings.npy", "bank.json"):
        replaced(root / KEY.digest / name, (root / other.digest / name).read_bytes())
    on_another_machine(monkeypatch, tmp_path)
    with pytest.raises(ValueError, match="delete what lies there") as raised:
        open_or_fetch(root, KEY)
    assert str(root) in str(raised.value)


def test_on_a_disk_nothing_is_copied(tmp_path: Path) -> None:
    build(tmp_path)
    opened_PD = open_or_fetch(tmp_path, KEY)
    assert opened_PD is not None and [one.name for one in tmp_path.iterdir()] == [KEY.digest]
