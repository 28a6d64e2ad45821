"""Texts one after another in a row, for encoders in which a token sees only its own text.

A batch laid out like this costs its tokens, not its longest text times its size: the first 14 queries of MS MARCO have
195 tokens, padded they have 322.

Legend: M rows, S tokens of a row, B texts of a row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from adiabatic_ray.encoders.backbones import TokenizedTexts


@dataclass(frozen=True)
class TokenRows:
    """Texts laid out one after another, a row for each distinct batch."""

    ids_MS: torch.Tensor
    """int64; 0 behind the last text."""
    positions_MS: torch.Tensor
    """int64, 0 at the first token of each text."""
    text_of_token_MS: torch.Tensor
    """int64, 0..B-1; B behind the last text."""
    num_texts: int

    def to(self, device: torch.device) -> TokenRows:
        """The same on a device."""
        ids_MS, positions_MS, text_of_token_MS = (
            tensor.to(device, non_blocking=True) for tensor in (self.ids_MS, self.positions_MS, self.text_of_token_MS)
        )
        return TokenRows(ids_MS, positions_MS, text_of_token_MS, self.num_texts)


def lay_out(texts: TokenizedTexts, rows_MB: np.ndarray, multiple: int = 1) -> TokenRows:
    """Lay texts out in rows.

    Args:
        texts: tokenised, prefix included.
        rows_MB: which texts, one row for each distinct batch; int64.
        multiple: row lengths are rounded up to a multiple of it, so that a device meets few different shapes.
    """
    num_rows, num_texts = rows_MB.shape
    lengths_MB = texts.offsets[rows_MB + 1] - texts.offsets[rows_MB]
    totals_M = lengths_MB.sum(axis=1)
    size = -(-int(totals_M.max()) // multiple) * multiple
    ids_MS = np.zeros((num_rows, size), dtype=np.int64)
    positions_MS = np.zeros((num_rows, size), dtype=np.int64)
    text_of_token_MS = np.full((num_rows, size), num_texts, dtype=np.int64)
    is_token_MS = np.arange(size) < totals_M[:, np.newaxis]
    ids_MS[is_token_MS] = texts.select(rows_MB.ravel()).ids
    lengths = lengths_MB.ravel()
    starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
    positions_MS[is_token_MS] = np.arange(len(starts)) - starts
    text_of_token_MS[is_token_MS] = np.repeat(np.tile(np.arange(num_texts), num_rows), lengths)
    ids, positions, text_of_token = (torch.from_numpy(one) for one in (ids_MS, positions_MS, text_of_token_MS))
    return TokenRows(ids, positions, text_of_token, num_texts)
