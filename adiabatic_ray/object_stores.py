"""Paths in an object store (S3 and what speaks its protocol, Google Cloud Storage), with the part of `Path` used here.

An object store has no folders, no rename and no lock. What it has is enough for a results folder: an object is there
whole, from the moment that its upload is complete, or not at all, and whoever lists or reads after that finds it. So
nothing is written under a temporary name. An upload above some 10 MB goes in parts; a process that dies in between
leaves parts that nobody sees and that are paid for, until a rule of the bucket ("abort incomplete multipart uploads")
removes them.

Where the store is and who asks is said by the environment alone (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
AWS_DEFAULT_REGION, AWS_ENDPOINT_URL_S3, ~/.aws, GOOGLE_APPLICATION_CREDENTIALS). A path holds none of it, so paths may
be printed, recorded and sent to other processes, each of which connects for itself.
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

SCHEMES = ("s3", "gs")
_CONNECT_TIMEOUT_S = 5.0
_SILENCE_S = 10.0
"""Of a server in the middle of a request; pyarrow's 3 s are short for a busy one."""
_MAX_ATTEMPTS = 3
"""Of a request, with pauses of a second or so between them: a sweep outlives a hiccup, nobody waits for minutes."""
_COPIED_BYTES = 8 * 2**20
_TROUBLES = (
    (("NO_SUCH_BUCKET",), "a bucket must exist before it is written to", "create it, or correct its name"),
    (
        ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "EXPIRED_TOKEN", "HTTP status 403"),
        "a store's keys must be right, and allow to list, read, write and delete there",
        "see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY or your ~/.aws, and what the bucket allows them",
    ),
    (
        ("HTTP status 301", "PERMANENT_REDIRECT", "AUTHORIZATION_HEADER_MALFORMED"),
        "a bucket must be asked in its own region",
        "set AWS_DEFAULT_REGION",
    ),
    (
        ("NETWORK_CONNECTION", "REQUEST_TIMEOUT", "SERVICE_UNAVAILABLE"),
        "an object store must answer",
        "see AWS_ENDPOINT_URL_S3, proxies and the network, and run the same command again",
    ),
)
"""What pyarrow's errors hold, the rule, the fix."""


class StorageError(OSError):
    """An object store that cannot be used: the rule, what was got, the fix."""


@dataclass(frozen=True, order=True)
class ObjectPath:
    """`scheme://bucket/key`. Has no `__fspath__`: what takes local files only refuses it."""

    scheme: str
    bucket: str
    key: str
    """Parts joined by `/`, none of them empty, `.` or `..`; empty: the bucket itself."""

    def __post_init__(self) -> None:
        """Refuse a key that could mean another place than it says.

        Raises:
            ValueError: such a key.
        """
        parts = self.key.split("/") if self.key else []
        if any(part in ("", ".", "..") for part in parts) or not self.key.isprintable():
            raise ValueError(
                "a path in an object store has parts of printable characters, none of them empty, '.' or '..', got "
                f"{self.key!r}; write it without"
            )

    def __str__(self) -> str:
        """The URI, which `storage.open_folder` takes."""
        return f"{self.scheme}://{self._place}"

    def __truediv__(self, name: str) -> ObjectPath:
        """The path below this one.

        Raises:
            ValueError: see `__post_init__`.
        """
        return ObjectPath(self.scheme, self.bucket, f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        """Last part; of a bucket its name."""
        return PurePosixPath(self.key).name or self.bucket

    @property
    def stem(self) -> str:
        """Last part without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> ObjectPath:
        """The path above; of a bucket itself."""
        return ObjectPath(self.scheme, self.bucket, self.key.rpartition("/")[0])

    def resolve(self) -> ObjectPath:
        """Itself: it has no working directory."""
        return self

    def mkdir(self, *, parents: bool, exist_ok: bool) -> None:
        """Nothing is made, since folders come with what lies in them; but the store must answer and have the bucket.

        Raises:
            StorageError: it cannot be used.
        """
        with self._explaining():
            self._filesystem()

    def is_file(self) -> bool:
        """Whether there is such an object; one or two requests."""
        return self._info().type.name == "File"

    def is_dir(self) -> bool:
        """Whether any object lies below."""
        return self._info().type.name == "Directory"

    def exists(self) -> bool:
        """Whether there is such an object, or any below."""
        return self._info().type.name != "NotFound"

    def glob(self, pattern: str) -> list[ObjectPath]:
        """Objects right below this path whose names match, in order; a request for every thousand that lie there.

        Args:
            pattern: of a name, as `fnmatch` takes it.
        """
        from pyarrow.fs import FileSelector

        with self._explaining():
            found = self._filesystem().get_file_info(FileSelector(self._place, allow_not_found=True))
        names = sorted(info.base_name for info in found if info.type.name == "File")
        return [self / name for name in names if fnmatchcase(name, pattern)]

    def read_bytes(self) -> bytes:
        """The whole object; two requests.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it cannot be read.
        """
        with self._explaining(), self._filesystem().open_input_stream(self._place) as stream:
            content: bytes = stream.read()
        return content

    def read_text(self, encoding: str) -> str:
        """`read_bytes`, decoded."""
        return self.read_bytes().decode(encoding)

    def download(self, target: Path) -> None:
        """Copy the object into a local file, which is not whole until this returns.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it cannot be read.
        """
        with self._explaining(), self._filesystem().open_input_stream(self._place) as stream, target.open("wb") as file:
            shutil.copyfileobj(stream, file, _COPIED_BYTES)

    def upload(self, source: Path) -> None:
        """Put a local file in the place of the object: readers see the old one until the new one is whole.

        One request below some 10 MB, else one for every part of that size and two more.

        Raises:
            StorageError: it cannot be written; what was there is there still.
        """
        import pyarrow as pa  # late: most commands need none

        # Given as one buffer: `close` completes the upload, also where reading the next piece had failed before it.
        content = pa.memory_map(str(source)).read_buffer() if source.stat().st_size else b""
        with self._explaining(), self._filesystem().open_output_stream(self._place) as stream:
            stream.write(content)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object; three requests, the last of which leaves an empty object for the folder.

        Raises:
            FileNotFoundError: there is none, and that is not expected.
            StorageError: it cannot be deleted.
        """
        try:
            with self._explaining():
                self._filesystem().delete_file(self._place)
        except FileNotFoundError:
            if not missing_ok:
                raise

    @property
    def _place(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else self.bucket

    def _info(self) -> FileInfo:
        with self._explaining():
            return self._filesystem().get_file_info(self._place)

    def _filesystem(self) -> FileSystem:
        return _connect(self.scheme, self.bucket, endpoint())

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """Errors of the store as errors of this project; those of the local disk, which have a number, as they are."""
        try:
            yield
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self)) from None
        except StorageError:
            raise
        except OSError as error:
            if error.errno is not None:
                raise
            raise StorageError(_explained(self, str(error))) from error


def endpoint() -> str | None:
    """URL of an S3-compatible server, by the variables that AWS's own tools read; None: Amazon's.

    pyarrow reads them only where it is given a URI, and asks Amazon for the bucket's region then.
    """
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


@functools.lru_cache
def _connect(scheme: str, bucket: str, url: str | None) -> FileSystem:
    """Connection of this process to a bucket that is there: a store says `not found` of objects in a missing one."""
    filesystem = _s3(url) if scheme == "s3" else _google()
    if filesystem.get_file_info(bucket).type.name == "NotFound":
        raise OSError("NO_SUCH_BUCKET")
    return filesystem


def _s3(url: str | None) -> FileSystem:
    try:
        from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem
    except ImportError as error:
        raise _without_library("s3", error) from error

    protocol, _, host = (url or "").rpartition("://")
    return S3FileSystem(  # type: ignore[call-arg] # the stubs lack allow_delayed_open
        scheme="http" if protocol == "http" else "https",
        endpoint_override=host.rstrip("/") or None,
        connect_timeout=_CONNECT_TIMEOUT_S,
        request_timeout=_SILENCE_S,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_MAX_ATTEMPTS),
        allow_delayed_open=True,  # a small object is one request
        background_writes=False,  # parts of a large one are not copied in memory, however fast the disk
    )


def _google() -> FileSystem:
    try:
        from pyarrow.fs import GcsFileSystem
    except ImportError as error:
        raise _without_library("gs", error) from error

    return GcsFileSystem(retry_time_limit=timedelta(seconds=_CONNECT_TIMEOUT_S * _MAX_ATTEMPTS))


def _without_library(scheme: str, error: ImportError) -> StorageError:
    return StorageError(
        f"{scheme}:// needs a pyarrow that was built with it, got {error}; install pyarrow's wheel, or give a path"
    )


def _explained(path: ObjectPath, found: str) -> str:
    for marks, rule, fix in _TROUBLES:
        if any(mark in found for mark in marks):
            return f"{rule}, got {path}: {found:.300}; {fix}"
    return f"an object store must do what it is asked, got {path}: {found:.300}; see docs/storage.md, and try again"
