"""Encoding of tokenised texts: sorted by length, batched by a token budget, the same layout for every tower.

Embeddings depend slightly on how texts are batched, so the layout is a pure function of the lengths and the budget:
an untuned and a tuned tower see the same batches, wherever they run.

Legend: N texts, B texts of a batch, T tokens of its longest text, D embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

from adiabatic_ray.encoders.backbones import TokenizedTexts, Tower
from adiabatic_ray.spec import Precision


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


def encode(tower: Tower, texts: TokenizedTexts, token_budget: int, precision: Precision = "float32") -> np.ndarray:
    """Embeddings of all texts under one tower: see `encode_together`."""
    return encode_together([tower], texts, token_budget, precision)[0]


def encode_together(
    towers: Sequence[Tower], texts: TokenizedTexts, token_budget: int, precision: Precision = "float32"
) -> list[np.ndarray]:
    """Embeddings of the same texts under each of some towers.

    A batch is padded and sent to the device once, and goes through one tower after the other. Each tower runs what it
    would run alone, so that its embeddings are the same bit for bit, beside whomever it is scored. One stacked product
    for all towers would not keep that: libraries choose kernels by the number of matrices.

    Args:
        towers: on one device; in evaluation mode for deterministic embeddings.
        texts: tokenised, prefix included.
        token_budget: see `plan_batches`.
        precision: of matrix products, see `spec.EvaluationSpec`.

    Returns:
        float32 [N, D] for each tower, pooled and not normalised, in the order of the texts.

    Raises:
        ValueError: no texts.
    """
    device = next(towers[0].parameters()).device
    embeddings: list[np.ndarray] = []
    with torch.inference_mode(), _computing_in(precision, device):
        for rows_B in plan_batches(texts.lengths(), token_budget):
            padded = pad(texts, rows_B, device)
            # All towers first: reading the first result back would wait for it, and let the device stand idle.
            found = [tower(*padded).float() for tower in towers]
            for place, embeddings_BD in enumerate(found):
                if place == len(embeddings):
                    embeddings.append(np.empty((len(texts), embeddings_BD.shape[1]), dtype=np.float32))
                embeddings[place][rows_B] = embeddings_BD.cpu().numpy()
    if not embeddings:
        raise ValueError("encoding needs at least one text, got none; check the data set's size")
    return embeddings


@contextmanager
def _computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Matrix products in a precision; float32 is torch's own, whatever a process was set to."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    try:
        with ExitStack() as stack:
            if precision == "bf16":
                stack.enter_context(torch.autocast(device.type, dtype=torch.bfloat16))
            yield
    finally:
        torch.set_float32_matmul_precision(before)
