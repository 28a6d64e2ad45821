"""Reading a user's records one at a time: JSON lines (also gzipped) and Parquet, each with the place it stands at.

Files may hold gigabytes: nothing here keeps more than one batch. Every complaint names the file and the line or row,
counted from 1 as editors and viewers do.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from os import environ
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq

from adiabatic_ray.sources import Source

JSON_SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
PARQUET_SUFFIX = ".parquet"
ROWS_PER_BATCH = 4096


class Record(NamedTuple):
    """One JSON object or Parquet row, and where it stands."""

    place: str
    content: dict[str, Any]

    def value(self, *keys: str) -> Any:
        """Value under the one of the keys that is there; several are two names of the same thing.

        Raises:
            ValueError: none of them is there, or more than one.
        """
        found = [key for key in keys if self.content.get(key) is not None]
        if len(found) > 1:
            both = " and ".join(map(repr, found))
            raise ValueError(f"{self.place}: {both} mean the same and only one may stand there, got both; remove one")
        if found:
            return self.content[found[0]]
        wanted = " or ".join(repr(key) for key in keys)
        raise ValueError(f"{self.place}: a record needs {wanted}, got the keys {sorted(self.content)}; add it")

    def text(self, *keys: str) -> str:
        """Non-empty text under the one of the keys that is there.

        Raises:
            ValueError: the key is missing, or its value is no text, or nothing but white space.
        """
        return checked_text(self.value(*keys), self.place, keys[0])


def checked_text(value: object, place: str, key: str) -> str:
    """The value, when it is a text that can be encoded.

    Raises:
        ValueError: it is no text, is nothing but white space, or has half a surrogate pair in it.
    """
    if not isinstance(value, str):
        raise ValueError(f"{place}: {key!r} must be a text, got {value!r:.80}; write it as a string")
    if not value.strip():
        raise ValueError(f"{place}: {key!r} must not be empty, got {value!r:.80}; fill it or remove the record")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{place}: {key!r} must be valid Unicode, got {error.reason}; repair the text") from None
    return value


def local_path(source: Source, field: str = "path") -> Path:
    """`source.path`, or what another field names, with variables and `~` expanded.

    Raises:
        ValueError: there is no path, a variable is not set, or nothing lies there.
    """
    given: str | None = getattr(source, field)
    if given is None:
        raise ValueError(
            f"{source.name}: a source of kind {source.kind} reads a local file, got no {field}; set `{field}`"
        )
    unset = [name for name in re.findall(r"\$\{(\w+)\}", given) if name not in environ]
    if unset:
        raise ValueError(
            f"{source.name}: a path may use variables that are set, got {given!r} without {', '.join(unset)}; "
            f"export {unset[0]}, or write the path out"
        )
    path = Path(re.sub(r"\$\{(\w+)\}", lambda match: environ[match[1]], given)).expanduser()
    if not path.exists():
        raise ValueError(f"{source.name}: a path must exist, got {path}; correct `{field}` or bring the data there")
    return path


def count_records(path: Path) -> int:
    """Records in a file, without parsing them; blank lines are none.

    Raises:
        ValueError: the file cannot be read, or its ending tells no known format.
    """
    if path.name.endswith(PARQUET_SUFFIX):
        with _open_parquet(path) as file:
            return int(file.metadata.num_rows)
    return sum(1 for _ in _lines(path))


def read_records(path: Path, start: int = 0, stop: int | None = None) -> Iterator[Record]:
    """Records `start` to `stop` (exclusive; none: the end) in file order.

    Raises:
        ValueError: the file cannot be read, its ending tells no known format, or a line is no JSON object.
    """
    if path.name.endswith(PARQUET_SUFFIX):
        yield from _read_parquet(path, start, stop)
        return
    for position, (number, line) in enumerate(_lines(path)):
        if stop is not None and position >= stop:
            return
        if position >= start:
            yield _parsed(line, f"{path}, line {number}")


def _parsed(line: bytes, place: str) -> Record:
    try:
        content = json.loads(line)
    except RecursionError:
        raise ValueError(f"{place}: an object may be nested a few levels deep, got hundreds; repair it") from None
    except ValueError as error:  # also bytes that are no UTF-8
        raise ValueError(f"{place}: every line must be one JSON object in UTF-8, got {error}; repair it") from None
    if not isinstance(content, dict):
        raise ValueError(f"{place}: every line must be one JSON object, got {content!r:.80}; wrap it in braces")
    return Record(place, content)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their number from 1."""
    if not path.name.endswith(JSON_SUFFIXES):
        endings = ", ".join((*JSON_SUFFIXES, PARQUET_SUFFIX))
        raise ValueError(f"{path}: the name must end in one of {endings}, which tells the format; rename the file")
    number = 0
    try:
        with _open_lines(path) as file:
            for number, line in enumerate(file, start=1):
                if not line.isspace():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:  # OSError: also a file that is not gzipped
        raise ValueError(f"{path}, after line {number}: cannot be read: {error}; replace the file") from error


def _open_lines(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if path.name.endswith(".gz") else path.open("rb")


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: must be a Parquet file, got {error}; write it again") from error


def _read_parquet(path: Path, start: int, stop: int | None) -> Iterator[Record]:
    first = 0
    with _open_parquet(path) as file:
        try:
            for batch in file.iter_batches(batch_size=ROWS_PER_BATCH):
                if stop is not None and first >= stop:
                    return
                wanted = batch.slice(max(start - first, 0)) if start < first + len(batch) else batch.slice(0, 0)
                skipped = len(batch) - len(wanted)
                for position, content in enumerate(wanted.to_pylist(), start=first + skipped):
                    if stop is not None and position >= stop:
                        return
                    yield Record(f"{path}, row {position + 1}", content)
                first += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}, after row {first}: cannot be read: {error}; write it again") from error
