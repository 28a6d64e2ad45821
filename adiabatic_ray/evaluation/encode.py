"""Encoding of tokenised texts: sorted by length, batched by a token budget, the same layout for every tower.

Embeddings depend slightly on how texts are batched, so the layout is a pure function of the lengths and the budget:
an untuned and a tuned tower see the same batches, wherever they run.

Legend: N texts, B texts of a batch, T tokens of its longest text, D embedding size.
"""

from __future__ import annotations

import numpy as np
import torch

from adiabatic_ray.encoders.backbones import TokenizedTexts, Tower


def plan_batches(lengths_N: np.ndarray, token_budget: int) -> list[np.ndarray]:
    """Rows of each batch: longest texts first, so many that rows x longest length stays within the budget.

    Args:
        lengths_N: tokens of each text.
        token_budget: tokens of a batch, padding included; a single longer text still makes a batch of its own.

    Returns:
        Row numbers (int64) of each batch; together every row once.
    """
    order_N = np.argsort(-lengths_N, kind="stable")
    batches, start = [], 0
    while start < len(order_N):
        rows = max(1, token_budget // int(lengths_N[order_N[start]]))
        batches.append(order_N[start : start + rows])
        start += rows
    return batches


def pad(texts: TokenizedTexts, rows_B: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [B, T] (int64) and mask [B, T] (int64, 1 on tokens) of some rows, padded to the longest of them.

    The padding id is 0: where the mask is 0 the id is never read by attention or pooling.
    """
    lengths_B = texts.offsets[rows_B + 1] - texts.offsets[rows_B]
    ids_BT = np.zeros((len(rows_B), int(lengths_B.max())), dtype=np.int64)
    mask_BT = np.arange(ids_BT.shape[1]) < lengths_B[:, None]
    ids_BT[mask_BT] = np.concatenate([texts.ids[texts.offsets[row] : texts.offsets[row + 1]] for row in rows_B])
    return torch.from_numpy(ids_BT).to(device), torch.from_numpy(mask_BT.astype(np.int64)).to(device)


def encode(tower: Tower, texts: TokenizedTexts, token_budget: int) -> np.ndarray:
    """Embeddings of all texts.

    Args:
        tower: in evaluation mode for deterministic embeddings.
        texts: tokenised, prefix included.
        token_budget: see `plan_batches`.

    Returns:
        float32 [N, D], pooled and not normalised, in the order of the texts.
    """
    device = next(tower.parameters()).device
    batches = plan_batches(texts.lengths(), token_budget)
    embeddings_ND: np.ndarray | None = None
    with torch.inference_mode():
        for rows_B in batches:
            embeddings_BD = tower(*pad(texts, rows_B, device)).float().cpu().numpy()
            if embeddings_ND is None:
                embeddings_ND = np.empty((len(texts), embeddings_BD.shape[1]), dtype=np.float32)
            embeddings_ND[rows_B] = embeddings_BD
    if embeddings_ND is None:
        raise ValueError("encoding needs at least one text, got none; check the data set's size")
    return embeddings_ND
