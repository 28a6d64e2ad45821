"""Where a pack's passages come from: the bank, or a passage tower that is tuned beside the query tower.

Legend: K slots, B queries of a batch, Q validation queries, P passages, D embedding size.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import nn

from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts
from adiabatic_ray.encoders.tower_files import passage_part
from adiabatic_ray.statistics.blocks import PASSAGE_TOWER
from adiabatic_ray.tuning.device_work import to_device
from adiabatic_ray.tuning.lone_tower import LoneTower
from adiabatic_ray.tuning.tuning_data import TuningTriplets

Sides = tuple[torch.Tensor, torch.Tensor]
"""Of positives, of negatives."""


class Passages(Protocol):
    """What a pack asks for passages."""

    parameters: Mapping[str, nn.Parameter]
    """What a member can train, by name."""

    def batch(self, rows_KB: np.ndarray) -> Sides:
        """A batch of samples on the device, in the form that `embed_batch` takes."""

    def embed_batch(self, batch: Sequence[torch.Tensor]) -> Sides:
        """Embeddings [K, B, D] of positives and negatives; nothing is copied to or from the device."""

    def embed_validation(self) -> Sides:
        """Embeddings [Q, D] of the positives and negatives of all validation samples."""

    def clear_gradients(self) -> None:
        """Forget the gradients of the last step."""


class BankPassages:
    """Passages of the frozen tower: rows of the bank."""

    def __init__(self, triplets: TuningTriplets, validation: TuningTriplets, device: torch.device) -> None:
        """The validation samples' rows are held on the device."""
        self.parameters: Mapping[str, nn.Parameter] = {}
        self._triplets, self._device = triplets, device
        self._validation = self._rows_of(validation, np.arange(len(validation)))

    def batch(self, rows_KB: np.ndarray) -> Sides:
        """See `Passages`."""
        return self._rows_of(self._triplets, rows_KB)

    def embed_batch(self, batch: Sequence[torch.Tensor]) -> Sides:
        """See `Passages`."""
        positives_KBD, negatives_KBD = batch
        return positives_KBD, negatives_KBD

    def embed_validation(self) -> Sides:
        """See `Passages`."""
        return self._validation

    def clear_gradients(self) -> None:
        """There are none."""

    def _rows_of(self, triplets: TuningTriplets, samples: np.ndarray) -> Sides:
        assert isinstance(triplets.passages, np.ndarray)
        positives, negatives = (rows_Q[samples] for rows_Q in (triplets.positive_rows_Q, triplets.negative_rows_Q))
        if triplets.held_PD is None:
            bank_PD = triplets.passages
            return to_device(bank_PD[positives], self._device), to_device(bank_PD[negatives], self._device)
        held_PD = triplets.held_PD
        return held_PD[to_device(positives, self._device)], held_PD[to_device(negatives, self._device)]


class TunedPassages:
    """Passages under a tower of their own, which a pack of one tunes as well."""

    def __init__(
        self,
        backbone: Backbone,
        trainable: Collection[str],
        triplets: TuningTriplets,
        validation: TuningTriplets,
        token_budget: int,
        device: str,
        dropout: bool,
    ) -> None:
        """Start as the untuned backbone.

        Args:
            backbone: where the tower starts.
            trainable: names of all that the pack trains, of both towers.
            triplets: samples to tune on.
            validation: samples to validate on.
            token_budget: see `encode.plan_batches`; for validation.
            device: where the tower is held.
            dropout: while tuning.
        """
        self._tower = LoneTower(backbone, passage_part(dict.fromkeys(trainable)), device, dropout)
        self.parameters: Mapping[str, nn.Parameter] = {
            PASSAGE_TOWER + name: one for name, one in self._tower.parameters_of(0).items()
        }
        self._triplets, self._validation, self._budget = triplets, validation, token_budget

    def batch(self, rows_KB: np.ndarray) -> Sides:
        """Token ids and mask of the positives, then of the negatives."""
        rows_B = rows_KB[0]
        both = np.concatenate([self._triplets.positive_rows_Q[rows_B], self._triplets.negative_rows_Q[rows_B]])
        ids, mask = self._tower.batch(_texts_of(self._triplets), both[np.newaxis])
        return ids, mask

    def embed_batch(self, batch: Sequence[torch.Tensor]) -> Sides:
        """See `Passages`; with gradients."""
        positives, negatives = self._tower.embed_batch(batch, len(batch[0])).chunk(2, dim=1)
        return positives, negatives

    def embed_validation(self) -> Sides:
        """See `Passages`."""
        (embedded_PD,) = self._tower.embed_all(_texts_of(self._validation), self._budget)
        sides = (self._validation.positive_rows_Q, self._validation.negative_rows_Q)
        positives_QD, negatives_QD = (embedded_PD[to_device(rows_Q, embedded_PD.device)] for rows_Q in sides)
        return positives_QD, negatives_QD

    def clear_gradients(self) -> None:
        """See `Passages`."""
        self._tower.clear_gradients()


def _texts_of(triplets: TuningTriplets) -> TokenizedTexts:
    assert isinstance(triplets.passages, TokenizedTexts)
    return triplets.passages
