"""One query tower of any architecture behind the interface of `packed_tower`: a pack of one.

For encoders whose layout is not BERT's, for trials with dropout, whose random numbers must not depend on who else is in
a pack, and for those that tune both towers.

Legend: B texts of a batch, N texts, D embedding size; the first axis has one entry.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import nn

from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts
from adiabatic_ray.evaluation.encode import encode, pad


class LoneTower:
    """A tower as transformers builds it; see the file head."""

    def __init__(
        self, backbone: Backbone, trainable: Collection[str], device: str = "cpu", dropout: bool = False
    ) -> None:
        """Start as the untuned backbone; arguments as in `PackedTower`."""
        self.device = torch.device(device)
        self._dropout = dropout
        self._tower = backbone.build_tower(trainable, device)
        self._parameters = {name: one for name, one in self._tower.model.named_parameters() if one.requires_grad}

    def parameters_of(self, slot: int) -> Mapping[str, nn.Parameter]:
        """What can be trained, by name."""
        return self._parameters

    def batch(self, texts: TokenizedTexts, rows_KB: np.ndarray) -> tuple[torch.Tensor, ...]:
        """Token ids and mask [B, T]."""
        return pad(texts, rows_KB[0], self.device)

    def embed_batch(self, batch: Sequence[torch.Tensor], num_texts: int) -> torch.Tensor:
        """Embeddings [1, B, D] with gradients, dropout as asked for."""
        self._tower.train(self._dropout)
        embeddings_BD: torch.Tensor = self._tower(*batch)
        return embeddings_BD[np.newaxis]

    def embed_all(self, texts: TokenizedTexts, token_budget: int) -> torch.Tensor:
        """Embeddings [1, N, D] without gradients and without dropout."""
        self._tower.eval()
        return torch.from_numpy(encode(self._tower, texts, token_budget))[np.newaxis].to(self.device)

    def clear_gradients(self) -> None:
        """Forget the gradients of the last step, and give their memory back."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def hand_out_gradients(self) -> None:
        """Nothing to do: the parameters are the ones that were differentiated."""
