"""A tuned tower on its backbone: the tensors that changed, put back among those that did not.

The frozen tensors (most of a multilingual encoder is its word embeddings) are never copied or sent again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from adiabatic_ray.encoders.backbones import Backbone, Tower


def changed_tensors(backbone: Backbone, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those tensors whose bytes differ from the backbone's."""
    return {name: value for name, value in tensors.items() if value.tobytes() != backbone.weights[name].tobytes()}


def tuned_tower(backbone: Backbone, changed: Mapping[str, np.ndarray], device: str = "cpu") -> Tower:
    """A tower in evaluation mode: the backbone's tensors, shared, with the changed ones in their place.

    Raises:
        ValueError: a changed tensor that the backbone lacks, or of another shape.
    """
    tower = backbone.build_tower(device=device)
    parameters = dict(tower.model.named_parameters())
    for name, value in changed.items():
        if name not in parameters or tuple(parameters[name].shape) != value.shape:
            raise ValueError(
                f"a tower's tensors must be those of its backbone, got {name} {value.shape}; "
                f"it was tuned from another backbone than {backbone.spec.name}"
            )
        parameters[name].data = torch.tensor(value, device=device)
    return tower
