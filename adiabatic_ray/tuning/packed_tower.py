"""Query towers of several trials in one module: tensors that are trained are stacked, the others are shared.

A step of this regime is 14 short queries through some 20 M weights: on a GPU it is bound by the launches of its
kernels, and K towers that are tuned side by side need no more launches than one. Member k's matrices are slice k of
stacked tensors, a linear layer is one batched product, and a tensor that every member freezes is the backbone's own,
for all of them. Nothing that belongs to one member enters another's numbers: what a member computes is what it would
compute alone, but for the rounding of a batched product.

The texts of a member's batch lie one after another in a single row (`TokenRows`), where a token sees only its own text.
So a batch costs its tokens, not its longest text times its size: with the queries of MS MARCO nearly half as many.

As long as tensors are shared, members with the same batch share its computation too: the frozen prefix (the embedding
block, frozen lower blocks) runs once for a validation that all go through, and once a step for trials of one seed.

Legend: K members (slots), M distinct rows of a batch (1 to K), S tokens of a row, B texts of a row, D embedding size,
H attention heads.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers.activations import ACT2FN

from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts, view_of
from adiabatic_ray.tuning.device_work import to_device
from adiabatic_ray.tuning.token_rows import TokenRows, lay_out

PACKABLE_TYPES = ("bert", "roberta", "xlm-roberta")
"""Model types of transformers with BERT's layout: their tensors have the same names and the same places."""


LONGEST_ROW = 256
"""Tokens of a row in `embed_all`: attention compares all tokens of a row, wasted work where they are of other texts. At
256 that is a ninth of a block's work in E5-small."""
ROW_MULTIPLE = 16
"""On a GPU row lengths are multiples of this: few shapes, and those that its kernels like."""
_TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings")


def is_packable(backbone: Backbone) -> bool:
    """Whether a backbone has the layout that this file computes."""
    return backbone.config["model_type"] in PACKABLE_TYPES and not backbone.config.get("is_decoder", False)


class PackedTower:
    """K query towers of one backbone; see the file head."""

    def __init__(self, backbone: Backbone, num_slots: int, trainable: Collection[str], device: str = "cpu") -> None:
        """Every slot starts as the untuned backbone.

        Args:
            backbone: of a type in `PACKABLE_TYPES`.
            num_slots: K.
            trainable: names of the tensors that any member may train; these are stacked.
            device: where everything goes; on the CPU the shared tensors are views of the backbone's memory.
        """
        config = backbone.config
        assert is_packable(backbone), config["model_type"]
        self.num_slots = num_slots
        self.device = torch.device(device)
        self._pooling = backbone.spec.pooling
        self._num_heads = int(config["num_attention_heads"])
        self._epsilon = float(config["layer_norm_eps"])
        self._activation = ACT2FN[config["hidden_act"]]
        # RoBERTa's positions begin after the padding id.
        self._first_position = 0 if config["model_type"] == "bert" else int(config["pad_token_id"]) + 1
        self.shared = {
            name: view_of(value).to(self.device) for name, value in backbone.weights.items() if name not in trainable
        }
        self.stacked = {
            name: nn.Parameter(view_of(value).to(self.device).expand(num_slots, *value.shape).clone())
            for name, value in backbone.weights.items()
            if name in trainable
        }
        self._slices = {
            name: [nn.Parameter(one) for one in tensor.detach().unbind(0)] for name, tensor in self.stacked.items()
        }
        self._row_multiple = ROW_MULTIPLE if self.device.type == "cuda" else 1
        self._blocks = [f"encoder.layer.{number}." for number in range(backbone.num_blocks)]
        beginnings: list[str | tuple[str, ...]] = [
            tuple(f"embeddings.{table}" for table in _TABLES),
            "embeddings.LayerNorm",
            *self._blocks,
        ]
        self._first_stacked = min(
            (number for number, start in enumerate(beginnings) if any(name.startswith(start) for name in self.stacked)),
            default=0,
        )

    def parameters_of(self, slot: int) -> Mapping[str, nn.Parameter]:
        """A member's slices of the stacked tensors, by name; their gradients come from `hand_out_gradients`."""
        return {name: slices[slot] for name, slices in self._slices.items()}

    def clear_gradients(self) -> None:
        """Forget the gradients of the last step, and give their memory back."""
        for name, tensor in self.stacked.items():
            for one in (tensor, *self._slices[name]):
                one.grad = None

    def hand_out_gradients(self) -> None:
        """Give each member's parameters their slices of the gradients."""
        for name, tensor in self.stacked.items():
            assert tensor.grad is not None, name
            for parameter, gradient in zip(self._slices[name], tensor.grad.unbind(0), strict=True):
                parameter.grad = gradient

    def batch(self, texts: TokenizedTexts, rows_KB: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Ids, positions and texts of tokens [M, S], equal batches once, and which row each member reads [K]."""
        first_of: dict[bytes, int] = {}
        row_of_member_K = np.array([first_of.setdefault(rows_B.tobytes(), len(first_of)) for rows_B in rows_KB])
        _, firsts = np.unique(row_of_member_K, return_index=True)
        rows = lay_out(texts, rows_KB[firsts], self._row_multiple)
        parts = (rows.ids_MS, rows.positions_MS, rows.text_of_token_MS, torch.from_numpy(row_of_member_K))
        return tuple(to_device(one, self.device) for one in parts)

    def embed_batch(self, batch: Sequence[torch.Tensor], num_texts: int) -> torch.Tensor:
        """Embeddings [K, B, D] of a batch, with gradients."""
        ids_MS, positions_MS, text_of_token_MS, row_of_member_K = batch
        return self.embed(TokenRows(ids_MS, positions_MS, text_of_token_MS, num_texts), row_of_member_K)

    def embed_all(self, texts: TokenizedTexts, token_budget: int) -> torch.Tensor:
        """Embeddings [K, N, D] of the same texts under every member, without gradients.

        Args:
            texts: tokenised, prefix included.
            token_budget: tokens of all members at once; see `LONGEST_ROW` for another bound.
        """
        row_tokens = min(LONGEST_ROW, token_budget // self.num_slots)
        starts_N = texts.offsets[:-1] // max(1, row_tokens)  # texts that start in the same stretch share a row
        cuts = np.flatnonzero(np.diff(starts_N)) + 1
        with torch.inference_mode():
            embedded = [
                self.embed(lay_out(texts, rows_B[np.newaxis], self._row_multiple).to(self.device))
                for rows_B in np.split(np.arange(len(texts)), cuts)
            ]
        return torch.cat(embedded, dim=1)

    def embed(self, rows: TokenRows, row_of_member_K: torch.Tensor | None = None) -> torch.Tensor:
        """Embeddings [K, B, D], pooled and not normalised.

        Args:
            rows: M rows.
            row_of_member_K: which row each member reads (int64, on the device); None: M is K, or 1 for all.
        """
        visible = (rows.text_of_token_MS[:, :, None] == rows.text_of_token_MS[:, None, :]).unsqueeze(1)
        flow = _Flow(rows.ids_MS, rows.positions_MS, visible, self._pool(rows), None)
        for number, stage in enumerate(self._stages()):
            if number == self._first_stacked:
                flow = flow.spread(self.num_slots, row_of_member_K)
            flow = replace(flow, hidden=stage(flow))
        return flow.pool @ flow.last

    def _stages(self) -> list[Callable[[_Flow], torch.Tensor]]:
        """What a text goes through. Not kept: a tower that refers to itself outlives its last user."""
        return [
            self._embed_tokens,
            lambda flow: self._norm(flow.last, "embeddings.LayerNorm"),
            *(partial(self._block, block) for block in self._blocks),
        ]

    def _pool(self, rows: TokenRows) -> torch.Tensor:
        """Weights [M, B, S] that make a text's embedding of its tokens."""
        texts_B = torch.arange(rows.num_texts, device=self.device)
        own_MBS = rows.text_of_token_MS[:, None, :] == texts_B[None, :, None]
        if self._pooling == "cls":
            return (own_MBS & (rows.positions_MS[:, None, :] == 0)).float()
        return own_MBS / own_MBS.sum(dim=2, keepdim=True)

    def _embed_tokens(self, flow: _Flow) -> torch.Tensor:
        positions = flow.positions + self._first_position
        hidden = self._look_up("word_embeddings", flow.ids) + self._look_up("position_embeddings", positions)
        return hidden + self._look_up("token_type_embeddings", torch.zeros_like(flow.ids))

    def _look_up(self, table: str, rows_MS: torch.Tensor) -> torch.Tensor:
        name = f"embeddings.{table}.weight"
        if name in self.shared:
            return functional.embedding(rows_MS, self.shared[name])
        stacked_KVD = self.stacked[name]
        offsets_K1 = torch.arange(self.num_slots, device=self.device)[:, None] * stacked_KVD.shape[1]
        return functional.embedding(rows_MS + offsets_K1, stacked_KVD.flatten(0, 1))

    def _block(self, prefix: str, flow: _Flow) -> torch.Tensor:
        hidden = flow.last
        parts = (self._linear(hidden, f"{prefix}attention.self.{part}") for part in ("query", "key", "value"))
        queries, keys, values = (part.view(*part.shape[:2], self._num_heads, -1).transpose(1, 2) for part in parts)
        attended = functional.scaled_dot_product_attention(queries, keys, values, flow.visible)
        attended = self._linear(attended.transpose(1, 2).flatten(2), f"{prefix}attention.output.dense")
        hidden = self._norm(attended + hidden, f"{prefix}attention.output.LayerNorm")
        inner = self._activation(self._linear(hidden, f"{prefix}intermediate.dense"))
        return self._norm(self._linear(inner, f"{prefix}output.dense") + hidden, f"{prefix}output.LayerNorm")

    def _linear(self, hidden: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias")
        if weight.dim() == 2 and bias.dim() == 1:
            return functional.linear(hidden, weight, bias)
        if bias.dim() == 2:
            bias = bias[:, None]
        return torch.matmul(hidden, weight.mT) + bias if weight.dim() == 2 else torch.baddbmm(bias, hidden, weight.mT)

    def _norm(self, hidden: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = self._tensor(f"{name}.weight"), self._tensor(f"{name}.bias")
        size = hidden.shape[-1:]
        if weight.dim() == 1 and bias.dim() == 1:
            return functional.layer_norm(hidden, size, weight, bias, self._epsilon)
        weight, bias = (one if one.dim() == 1 else one[:, None] for one in (weight, bias))
        return torch.addcmul(bias, functional.layer_norm(hidden, size, eps=self._epsilon), weight)

    def _tensor(self, name: str) -> torch.Tensor:
        return self.shared[name] if name in self.shared else self.stacked[name]


@dataclass(frozen=True)
class _Flow:
    """What goes from stage to stage; the first axis has M entries, and K once members differ."""

    ids: torch.Tensor
    positions: torch.Tensor
    visible: torch.Tensor
    """bool [., 1, S, S]: whether a token sees another one."""
    pool: torch.Tensor
    """float [., B, S]."""
    hidden: torch.Tensor | None
    """float [., S, D]."""

    @property
    def last(self) -> torch.Tensor:
        """What the stage before gave."""
        assert self.hidden is not None
        return self.hidden

    def spread(self, num_slots: int, row_of_member_K: torch.Tensor | None) -> _Flow:
        """One entry a member."""

        def chosen(tensor: torch.Tensor) -> torch.Tensor:
            if row_of_member_K is not None:
                return tensor[row_of_member_K]
            return tensor.expand(num_slots, *tensor.shape[1:])

        hidden = None if self.hidden is None else chosen(self.hidden)
        return _Flow(chosen(self.ids), chosen(self.positions), chosen(self.visible), chosen(self.pool), hidden)
