"""A tuned tower on its backbone: the tensors that changed, put back among those that did not.

The frozen tensors (most of a multilingual encoder is its word embeddings) are never copied or sent again.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from adiabatic_ray.encoders.backbones import Backbone, Tower
from adiabatic_ray.statistics.blocks import PASSAGE_TOWER


def untuned_tensor(backbone: Backbone, name: str) -> np.ndarray:
    """Where a tensor of a query tower or, by its prefixed name, of a passage tower starts."""
    return backbone.weights[name.removeprefix(PASSAGE_TOWER)]


def changed_tensors(backbone: Backbone, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those tensors whose bytes differ from the backbone's."""
    return {
        name: value for name, value in tensors.items() if value.tobytes() != untuned_tensor(backbone, name).tobytes()
    }


def tuned_tower(backbone: Backbone, changed: Mapping[str, np.ndarray], device: str = "cpu") -> Tower:
    """A tower in evaluation mode: the backbone's tensors, shared, with the changed ones in their place.

    Raises:
        ValueError: as `with_tensors`.
    """
    return with_tensors(backbone.build_tower(device=device), changed)


def with_tensors(tower: Tower, changed: Mapping[str, np.ndarray]) -> Tower:
    """A tower with some tensors of its own; it shares all others with the one that it was made from.

    Raises:
        ValueError: a changed tensor that the tower lacks, or of another shape.
    """
    parameters = dict(tower.model.named_parameters())
    own: dict[int, Any] = {id(one): one for one in (*parameters.values(), *tower.model.buffers())}
    for name, value in changed.items():
        if name not in parameters or tuple(parameters[name].shape) != value.shape:
            raise ValueError(
                f"a tower's tensors must be those of its backbone, got {name} {value.shape}; it was tuned from another "
                "backbone"
            )
        place = parameters[name]
        own[id(place)] = nn.Parameter(torch.tensor(value, device=place.device), requires_grad=False)
    return copy.deepcopy(tower, own)  # whatever stands in the memo is taken as it is
