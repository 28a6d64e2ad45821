"""A pickle that leaves a marker when somebody unpickles it, and folders that hide it where files are read."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa


class Trap:
    """Unpickled, it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_text, (self.marker, "somebody unpickled this")


def trapped(marker: Path) -> bytes:
    """The pickle."""
    return pickle.dumps(Trap(marker))


def with_trapped_types(table: pa.Table, marker: Path) -> pa.Table:
    """The table with a column type, and metadata, that older versions of pyarrow unpickled (CVE-2023-47248)."""
    extension = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": trapped(marker),
    }
    fields = [field.with_metadata(extension) for field in table.schema]
    return table.cast(pa.schema(fields, metadata=table.schema.metadata))
