"""What tuning reads: triplets as numbers, in a seeded order.

Legend: Q queries (samples), B queries of a batch, P passages, D embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from adiabatic_ray.encoders.backbones import TokenizedTexts


@dataclass(frozen=True)
class TuningTriplets:
    """Triplets ready to tune or validate on: token ids of the queries, rows of their passages."""

    queries: TokenizedTexts
    positive_rows_Q: np.ndarray
    negative_rows_Q: np.ndarray
    passages: np.ndarray | TokenizedTexts
    """The bank [P, D]; token ids, where the passage tower is tuned as well."""
    held_PD: torch.Tensor | None = None
    """The bank on the device that tunes."""

    def __len__(self) -> int:
        """Number of triplets."""
        return len(self.queries)

    def held_on(self, device: str, free_bytes: int) -> TuningTriplets:
        """With the bank on a GPU, if it takes less than half of its free memory; else as they are."""
        if device == "cpu" or isinstance(self.passages, TokenizedTexts) or self.passages.nbytes >= free_bytes // 2:
            return self
        return replace(self, held_PD=torch.tensor(self.passages, device=device))


def seeded_batches(num_samples: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Rows [B] of each batch, without end: one seeded permutation after another; a last short batch is dropped."""
    generator = np.random.default_rng(seed)
    while True:
        order_Q = generator.permutation(num_samples)
        for start in range(0, num_samples - batch_size + 1, batch_size):
            yield order_Q[start : start + batch_size]
