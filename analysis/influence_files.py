"""Influence tables of finished trials as matrices of counts, without a copy of what lies in order on disk.

A table of the paper's size holds 3 million counts in 900 rows, and a sweep has hundreds of tables: what is done once a
row or once a count decides how long a report takes. So counts stay the array that was read, and where each language
pair has its row is looked up once for all tables with the same rows, which in a sweep are all.

Legend: K language pairs, C clusters (triplets: queries).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from adiabatic_ray.results import ResultsError
from adiabatic_ray.storage import Location

from .curves import Criterion
from .load import read_arrow

Counts = NDArray[np.signedinteger]
Pair = tuple[str, str]
"""Query and passage language; two of '' for triplets."""

_KEYS = ("set", "relation", "measure", "query_language", "passage_language")
_SIDES = ("by_positive", "by_negative")


class InfluenceFiles:
    """Reads influence tables of one sweep; several threads may read at once."""

    def __init__(self, out: Location) -> None:
        """`out`: the results folder."""
        self.out = out
        self._orders: list[tuple[pa.Table, dict[Criterion, dict[Pair, int]]]] = []

    def read(self, trial_id: str) -> TrialCounts:
        """The counts of a finished trial.

        Raises:
            ResultsError: the file is missing, damaged, or of another schema version.
        """
        table = read_arrow(self.out, "influence", [trial_id], [*_KEYS, *_SIDES])
        return TrialCounts(trial_id, self._rows(table.select(_KEYS)), [_Lists(table[name]) for name in _SIDES])

    def _rows(self, keys: pa.Table) -> dict[Criterion, dict[Pair, int]]:
        """Row of every language pair by criterion."""
        for known, rows in self._orders:
            if known.equals(keys):
                return rows
        found: dict[Criterion, dict[Pair, int]] = {}
        for row, (*about, query, passage) in enumerate(zip(*(keys[name].to_pylist() for name in _KEYS), strict=True)):
            found.setdefault(Criterion(*about), {})[query, passage] = row
        self._orders.append((keys, found))
        return found


class TrialCounts:
    """Tuned minus untuned errors of one trial."""

    def __init__(self, trial_id: str, rows: dict[Criterion, dict[Pair, int]], sides: Sequence[_Lists]) -> None:
        """`rows`: row of every language pair by criterion; `sides`: lists by positive and by negative."""
        self._trial_id, self._rows, self._sides = trial_id, rows, sides

    def of(self, criterion: Criterion, pairs: Sequence[Pair], lengths: tuple[int, int]) -> tuple[Counts, Counts]:
        """Counts [K, C] by positive and by negative.

        Args:
            criterion: whose rows.
            pairs: their order.
            lengths: numbers in a row, by positive and by negative.

        Raises:
            ResultsError: other language pairs, or rows of another length.
        """
        rows = self._rows.get(criterion, {})
        matrices = []
        if rows.keys() == set(pairs):
            rows_K = np.array([rows[pair] for pair in pairs])
            matrices = [side.matrix(rows_K, length) for side, length in zip(self._sides, lengths, strict=True)]
        found = [matrix for matrix in matrices if matrix is not None]
        if len(found) != len(self._sides):
            raise ResultsError(
                f"trial {self._trial_id} must have influence rows for the language pairs and clusters of its untuned "
                f"counts, got others for {criterion}; delete its row in trials/ and run the sweep again"
            )
        return found[0], found[1]


class _Lists:
    """A column of lists as one array and where each list begins."""

    def __init__(self, column: pa.ChunkedArray[Any]) -> None:
        lists: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        self._offsets, self._values = lists.offsets.to_numpy(), lists.values.to_numpy()

    def matrix(self, rows_K: NDArray[np.int64], length: int) -> Counts | None:
        """Some lists under one another, not copied where they lie so; None where one has another length."""
        starts_K = self._offsets[rows_K]
        if (self._offsets[rows_K + 1] - starts_K != length).any():
            return None
        if (np.diff(rows_K) == 1).all():
            return np.asarray(
                self._values[starts_K[0] : starts_K[0] + len(rows_K) * length].reshape(len(rows_K), length)
            )
        return np.stack([self._values[start : start + length] for start in starts_K])
