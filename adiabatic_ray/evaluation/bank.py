"""The passage bank: embeddings of every passage under the frozen tower, computed once and shared.

A bank's folder is named by a digest of all that decides its bytes: backbone weights, pooling, prefix, length limit,
texts, batch layout and number type. It is assembled beside its place and renamed into it, so a folder with the right
name is a whole bank; its checksum is verified each time it is opened. Finished shards of a build that was cut short
are kept beside it and used by the next attempt.

Legend: P passages, D embedding size.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from adiabatic_ray.results import write_json

DESCRIPTION, ARRAY = "bank.json", "embeddings.npy"
"""Files of a bank's folder."""
SHARD_TEXTS = 256
"""Texts of one shard: the unit of work, of resuming, and of batching (so that bytes do not depend on who encodes)."""


@dataclass(frozen=True)
class BankKey:
    """Everything that decides the bytes of a bank."""

    encoder_digest: str
    pooling: str
    prefix: str
    max_length: int
    texts_digest: str
    num_texts: int
    token_budget: int
    dtype: str = "float32"
    shard_texts: int = SHARD_TEXTS

    @property
    def digest(self) -> str:
        """SHA-256 (first 24 hex digits) of the key: the bank's folder name."""
        content = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()[:24]

    def shards(self) -> list[tuple[int, int]]:
        """Row ranges [start, stop) of the shards, in order."""
        return [(start, min(start + SHARD_TEXTS, self.num_texts)) for start in range(0, self.num_texts, SHARD_TEXTS)]


def digest_of_texts(texts: Iterable[str]) -> str:
    """SHA-256 of texts in order, each with its length in front so that no two lists share a digest."""
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode()
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()


def open_bank(root: Path, key: BankKey) -> np.ndarray | None:
    """The bank as a read-only memory map [P, D] float32, or None when there is none or it was damaged.

    A damaged bank (wrong size, checksum or description) is removed so that it is built again.

    Raises:
        ValueError: the folder holds a whole bank of something else, e.g. copied there by hand.
    """
    folder = root / key.digest
    description_path, array_path = folder / DESCRIPTION, folder / ARRAY
    if not folder.is_dir():
        return None
    try:
        description = json.loads(description_path.read_text(encoding="utf-8"))
        checksum = checksum_of(array_path)
    except (OSError, ValueError):
        shutil.rmtree(folder)
        return None
    if description.get("key") != asdict(key):
        raise ValueError(
            f"a bank's folder must hold what its name says, got the bank of another backbone or text set in {folder}: "
            f"{description.get('key')}; delete that folder"
        )
    if checksum != description.get("sha256"):
        shutil.rmtree(folder)
        return None
    embeddings_PD: np.ndarray = np.load(array_path, mmap_mode="r", allow_pickle=False)
    return embeddings_PD


def finished_shards(root: Path, key: BankKey) -> dict[int, Path]:
    """Shards that an earlier, unfinished build left behind: number -> file."""
    paths = {number: _shard_path(root, key, number) for number in range(len(key.shards()))}
    return {number: path for number, path in paths.items() if path.is_file()}


def store_shard(root: Path, key: BankKey, number: int, embeddings_SD: np.ndarray) -> None:
    """Keep one shard of a build, whole or not at all.

    Args:
        root: folder of all banks.
        key: the bank being built.
        number: the shard's position in `key.shards()`.
        embeddings_SD: float32, one row per text of the shard.
    """
    path = _shard_path(root, key, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with temporary.open("wb") as file:
        np.save(file, embeddings_SD, allow_pickle=False)
    temporary.replace(path)


def assemble(root: Path, key: BankKey) -> None:
    """Join the shards into the bank and check it.

    Raises:
        ValueError: a shard has the wrong number of rows or numbers that are not finite.
    """
    ranges = key.shards()
    temporary = root / f".{key.digest}.{uuid.uuid4().hex}.tmp"
    temporary.mkdir(parents=True)
    try:
        first = np.load(_shard_path(root, key, 0), mmap_mode="r", allow_pickle=False)
        array_path = temporary / ARRAY
        embeddings_PD = np.lib.format.open_memmap(
            array_path, mode="w+", dtype=np.float32, shape=(key.num_texts, first.shape[1])
        )
        for number, (start, stop) in enumerate(ranges):
            shard_SD = np.load(_shard_path(root, key, number), allow_pickle=False)
            if shard_SD.shape != (stop - start, first.shape[1]) or not np.isfinite(shard_SD).all():
                _shard_path(root, key, number).unlink()
                raise ValueError(
                    f"passage embeddings must be finite, {stop - start} rows a shard; got shard {number} of shape "
                    f"{shard_SD.shape} (removed); run again, and check the checkpoint if it comes back"
                )
            embeddings_PD[start:stop] = shard_SD
        embeddings_PD.flush()
        write_json(temporary / DESCRIPTION, {"key": asdict(key), "sha256": checksum_of(array_path)})
        if not (root / key.digest).exists():  # another driver may have been faster: the bytes are the same
            temporary.rename(root / key.digest)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(_shard_path(root, key, 0).parent, ignore_errors=True)


def _shard_path(root: Path, key: BankKey, number: int) -> Path:
    return root / f".{key.digest}.building" / f"shard-{number:05d}.npy"


def checksum_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
