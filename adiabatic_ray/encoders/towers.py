"""A tuned tower as the tensors that changed: collected, stored as safetensors, put back onto its backbone.

The frozen tensors (most of a multilingual encoder is its word embeddings) are never copied, sent or stored again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import torch
from safetensors.numpy import save

from adiabatic_ray.encoders.backbones import Backbone, Tower
from adiabatic_ray.results import replacing

FILE_NAME = "tower.safetensors"


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


def save_tower(folder: Path, changed: Mapping[str, np.ndarray], backbone: Backbone, trial_id: str) -> Path:
    """Write `folder/tower.safetensors`, whole or not at all.

    Raises:
        OSError: the disk is full or read-only.
    """
    metadata = {"trial_id": trial_id, "backbone": backbone.spec.name, "encoder_digest": backbone.encoder_digest}
    path = folder / FILE_NAME
    with replacing(path) as temporary:
        temporary.write_bytes(save(dict(changed), metadata=metadata))
    return path


def load_changed(folder: Path, backbone: Backbone) -> dict[str, np.ndarray]:
    """Changed tensors that `save_tower` wrote.

    Raises:
        ValueError: no such file, one that is damaged, tensors that are not float32, or a tower of another backbone.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise ValueError(f"a tower folder holds {FILE_NAME}, got none in {folder}; give a folder below OUT/towers")
    try:
        with safetensors.safe_open(path, framework="numpy") as stored:
            metadata = stored.metadata() or {}
            dtypes = {name: stored.get_slice(name).get_dtype() for name in stored.keys()}  # noqa: SIM118
            if other := {name: dtype for name, dtype in dtypes.items() if dtype != "F32"}:
                first, dtype = next(iter(other.items()))
                raise ValueError(
                    f"a tower's tensors must be float32 (F32), as it was tuned, got {len(other)} of {len(dtypes)} that "
                    f"are not, {first} in {dtype} first, in {path}; copy the file that was written, or tune it again"
                )
            changed = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} must be a whole safetensors file, got {error}; copy or tune it again") from error
    digest = metadata.get("encoder_digest")
    if digest != backbone.encoder_digest:
        raise ValueError(
            f"a tower belongs to the backbone that it was tuned from, {metadata.get('backbone')} with weights "
            f"{digest}, got {backbone.spec.name} with weights {backbone.encoder_digest}; load that backbone"
        )
    return changed
