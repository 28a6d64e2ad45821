"""Records of a user as files, and triplets as they were before they were compressed."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from adiabatic_ray.corpora.text_sets import TripletSet


def write_lines(path: Path, rows: Sequence[object]) -> Path:
    """JSON lines; gzipped when the name ends in .gz."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def write_parquet(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def comparisons(texts: TripletSet) -> list[tuple[str, list[str], list[str]]]:
    """Queries with their texts, the compressed rows undone."""
    sides = []
    for rows, offsets in ((texts.positive_rows, texts.positive_offsets), (texts.negative_rows, texts.negative_offsets)):
        bounds = itertools.pairwise(offsets)
        sides.append([[texts.passages[row] for row in rows[first:last]] for first, last in bounds])
    return list(zip(texts.queries, *sides, strict=True))
