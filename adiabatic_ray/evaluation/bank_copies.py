"""Passage banks in an object store: copied to this machine once, checked, and memory-mapped there like any other.

`ROOT/<digest>/` holds what a local bank's folder holds. Without a rename the description says that a bank is whole: it
is uploaded last. Shards of a build that was cut short stay on the machine that built.
"""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import asdict
from pathlib import Path

import numpy as np

from adiabatic_ray.evaluation.bank import ARRAY, DESCRIPTION, BankKey, checksum_of, open_bank
from adiabatic_ray.object_stores import ObjectPath
from adiabatic_ray.storage import Location, node_folder


def open_or_fetch(root: Location, key: BankKey) -> np.ndarray | None:
    """The bank as a read-only memory map [P, D] float32, from this machine or copied to it; None: there is none.

    Raises:
        ValueError: the store holds a bank of something else under this name.
        OSError: the store cannot be read, or the cache (`storage.node_folder`) not be written.
    """
    folder = node_folder(root)
    embeddings_PD = open_bank(folder, key)
    if embeddings_PD is None and not isinstance(root, Path) and _fetch(root / key.digest, key, folder / key.digest):
        embeddings_PD = open_bank(folder, key)
    return embeddings_PD


def publish(root: Location, key: BankKey) -> None:
    """Upload a bank that is whole on this machine, unless the store has it. On a disk it is where it belongs already.

    Raises:
        StorageError: the store cannot be written.
    """
    if isinstance(root, Path) or (root / key.digest / DESCRIPTION).is_file():
        return
    for name in (ARRAY, DESCRIPTION):
        (root / key.digest / name).upload(node_folder(root) / key.digest / name)


def _fetch(stored: ObjectPath, key: BankKey, folder: Path) -> bool:
    """Copy a bank, whole or not at all. One that is damaged loses its description, so that it is built anew."""
    if not (stored / DESCRIPTION).is_file():
        return False
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir()
    try:
        try:
            for name in (ARRAY, DESCRIPTION):
                (stored / name).download(temporary / name)
            description = json.loads((temporary / DESCRIPTION).read_text(encoding="utf-8"))
            checksum = description["sha256"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            (stored / DESCRIPTION).unlink(missing_ok=True)
            return False
        if description.get("key") != asdict(key):
            raise ValueError(
                f"a bank's folder must hold what its name says, got another in {stored}: {description.get('key')}; "
                "delete what lies there"
            )
        if checksum_of(temporary / ARRAY) != checksum:
            (stored / DESCRIPTION).unlink()
            return False
        if not folder.exists():  # another driver on this machine may have been faster: the bytes are the same
            temporary.rename(folder)
        return True
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
