"""How close queries are to the passages of a bank: measured in numpy, or on a GPU that holds the bank.

Both add float64 numbers row by row. In numpy a pair's scores do not depend on what is scored beside it; on a GPU a
library may choose the order of its sums by the number of rows, which is the same for an untuned and a tuned tower. Both
towers are scored by the same one of the two (`orchestrator.untuned_id_of`).

Legend: N scored pairs, Q queries, P passages, D embedding size.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from adiabatic_ray.statistics import metrics

_ROWS_AT_ONCE = 65_536
"""Pairs scored at a time on a device: 400 MB of float64 numbers at 384 dimensions."""


class Closeness(Protocol):
    """A bank that can be asked how close queries are."""

    def scores(
        self, queries_QD: np.ndarray, query_of_N: np.ndarray, passage_of_N: np.ndarray
    ) -> tuple[metrics.FloatArray, metrics.FloatArray]:
        """Cosine and minus Euclidean distance of pairs of rows, as `metrics.pair_scores` defines them.

        Args:
            queries_QD: float32 embeddings.
            query_of_N: row of the query of each pair.
            passage_of_N: row of its passage in the bank.

        Raises:
            ValueError: an embedding that is zero or not finite.
        """


class OnHost:
    """In numpy, on the bank where it lies."""

    def __init__(self, passages_PD: np.ndarray) -> None:
        """Nothing is copied."""
        self._passages_PD = passages_PD

    def scores(
        self, queries_QD: np.ndarray, query_of_N: np.ndarray, passage_of_N: np.ndarray
    ) -> tuple[metrics.FloatArray, metrics.FloatArray]:
        """See `Closeness.scores`."""
        return metrics.pair_scores(queries_QD[query_of_N], self._passages_PD[passage_of_N])


class OnDevice:
    """In torch, on a device; the bank is held there where it fits, else the rows that are asked for are sent."""

    def __init__(self, passages_PD: np.ndarray, device: str, holds_bank: bool) -> None:
        """Send the bank, if it is to be held.

        Args:
            passages_PD: float32.
            device: where to score.
            holds_bank: whether there is room for the whole bank.
        """
        self._device = torch.device(device)
        self._host_PD = passages_PD
        self._held_PD = torch.tensor(passages_PD, device=self._device) if holds_bank else None

    def scores(
        self, queries_QD: np.ndarray, query_of_N: np.ndarray, passage_of_N: np.ndarray
    ) -> tuple[metrics.FloatArray, metrics.FloatArray]:
        """See `Closeness.scores`."""
        sent_QD = torch.tensor(queries_QD, device=self._device)
        cosines, distances = [np.zeros(0)], [np.zeros(0)]
        for start in range(0, len(query_of_N), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            query = sent_QD[torch.tensor(query_of_N[rows], device=self._device)].double()
            passage = self._passages(passage_of_N[rows]).double()
            norms = (query * query).sum(dim=1), (passage * passage).sum(dim=1)
            for side, squared_norms in zip(("query", "passage"), norms, strict=True):
                metrics.check_norms(squared_norms.cpu().numpy(), side, start)
            cosines.append(((query * passage).sum(dim=1) / (norms[0] * norms[1]).sqrt()).cpu().numpy())
            query -= passage
            distances.append(-(query * query).sum(dim=1).sqrt().cpu().numpy())
        return np.concatenate(cosines), np.concatenate(distances)

    def _passages(self, rows: np.ndarray) -> torch.Tensor:
        if self._held_PD is None:
            return torch.tensor(self._host_PD[rows], device=self._device)
        return self._held_PD[torch.tensor(rows, device=self._device)]


def closeness_for(passages_PD: np.ndarray, device: str) -> Closeness:
    """Numpy for a tower on the CPU; else its device, which holds a bank that takes less than half of what is free."""
    if device == "cpu":
        return OnHost(passages_PD)
    free, _ = torch.cuda.mem_get_info()
    return OnDevice(passages_PD, device, holds_bank=passages_PD.nbytes < free // 2)
