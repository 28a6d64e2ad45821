"""Where folders lie: on a disk of this machine or of a file server, or in an object store.

A `Location` is joined, asked and read the same way everywhere (`out / "trials"`). On a disk it is a plain `Path`, with
nothing in between. Three things differ and are here: how a file is written whole, how a library gets its local file,
and where that is kept which can't lie in an object store (memory maps, SQLite).
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from adiabatic_ray.object_stores import SCHEMES, ObjectPath, endpoint

Location = Path | ObjectPath
SameLocation = TypeVar("SameLocation", Path, ObjectPath, Location)
"""What is made of a local path is one."""
CACHE_VARIABLE = "ADIABATIC_CACHE"
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,221}")


def open_folder(given: str) -> Location:
    """A folder as users give it: a path, `s3://BUCKET/FOLDER` or `gs://BUCKET/FOLDER`. Nothing is contacted yet.

    A URI is taken as it is written, without escapes and settings: the environment says where the store is.

    Raises:
        ValueError: another scheme, no bucket or no folder in it, keys or settings in the URI.
    """
    if not _URI.match(given):
        return Path(given)
    scheme, _, rest = given.partition(":")
    shown = _without_secret(given)
    if scheme not in SCHEMES or not rest.startswith("//"):
        raise ValueError(
            f"a folder is a path, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER, got {shown}; give one of these"
        )
    if any(mark in rest for mark in "@?#"):
        raise ValueError(
            f"a folder in a bucket is named without keys or settings, got {shown}; set AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and, for a store that is not Amazon's, AWS_ENDPOINT_URL_S3"
        )
    bucket, _, key = rest[2:].rstrip("/").partition("/")
    if not _BUCKET.fullmatch(bucket) or not key:
        raise ValueError(f"a folder in a bucket is {scheme}://BUCKET/FOLDER, got {given}; name both")
    return ObjectPath(scheme, bucket, key)


def on_disk(given: str) -> Path:
    """A path for what is written to disks only.

    Raises:
        ValueError: a URI.
    """
    if _URI.match(given):
        raise ValueError(f"this is written to a disk only, got {_without_secret(given)}; give a path, and copy it then")
    return Path(given)


def in_order(folder: Location, pattern: str) -> list[Location]:
    """Files right in a folder whose names match, sorted; none where there is no such folder."""
    return [*sorted(folder.glob(pattern))] if isinstance(folder, Path) else [*folder.glob(pattern)]


class replacing:
    """Context that gives a path to write to, and puts what was written in place of `target` when the block succeeds.

    Whole or not at all, on either kind. On a disk: a temporary file beside it, flushed to the disk and renamed. In an
    object store: a temporary file of this machine, uploaded as one object.
    """

    def __init__(self, target: Location) -> None:
        self.target = target

    def __enter__(self) -> Path:
        if isinstance(self.target, Path):
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self.temporary = self.target.with_name(f".{self.target.name}.{uuid.uuid4().hex}.tmp")
        else:
            self.temporary = Path(tempfile.mkdtemp()) / self.target.name
        return self.temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if isinstance(self.target, Path):
            self._rename(kind is None, self.target)
            return
        try:
            if kind is None:
                self.target.upload(self.temporary)
        finally:
            shutil.rmtree(self.temporary.parent)

    def _rename(self, is_whole: bool, target: Path) -> None:
        if not is_whole:
            self.temporary.unlink(missing_ok=True)
            return
        with self.temporary.open("rb") as written:
            os.fsync(written.fileno())
        self.temporary.replace(target)


@contextmanager
def local_file(location: Location) -> Iterator[Path]:
    """The file itself, or a copy of the object for as long as the block lasts, under the same name.

    Raises:
        FileNotFoundError: there is no such object; of a missing file whoever opens it hears.
        StorageError: it cannot be read.
    """
    if isinstance(location, Path):
        yield location
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / location.name
        location.download(copy)
        yield copy


@contextmanager
def local_folder(location: Location) -> Iterator[Path]:
    """The folder itself, or copies of the objects right below it for as long as the block lasts.

    Raises:
        StorageError: they cannot be read.
    """
    if isinstance(location, Path):
        yield location
        return
    with tempfile.TemporaryDirectory() as folder:
        for found in location.glob("*"):
            found.download(Path(folder) / found.name)
        yield Path(folder)


def node_folder(location: Location) -> Path:
    """Where this machine keeps what belongs to a folder and must be a local file: there, or in the cache.

    The cache is the folder that ADIABATIC_CACHE names, else `~/.cache/adiabatic_ray`. What lies there can be made anew.

    Raises:
        OSError: the cache cannot be written.
    """
    if isinstance(location, Path):
        return location.resolve()
    cache = os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "adiabatic_ray"
    digest = hashlib.sha256(f"{endpoint()} {location}".encode()).hexdigest()[:12]
    folder = Path(cache).resolve() / f"{location.name}-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _without_secret(uri: str) -> str:
    """A URI to be shown: what stands before an @ is not."""
    scheme, _, rest = uri.partition(":")
    return f"{scheme}://...@{rest.rpartition('@')[2]}" if "@" in rest else uri
