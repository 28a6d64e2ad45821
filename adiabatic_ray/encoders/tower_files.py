"""Tuned towers as files: the tensors that changed, as safetensors, with the backbone that they belong to.

The frozen tensors (most of a multilingual encoder is its word embeddings) are never stored again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import safetensors
from safetensors.numpy import save

from adiabatic_ray.statistics.blocks import PASSAGE_TOWER
from adiabatic_ray.storage import Location, local_file, replacing

Tensor = TypeVar("Tensor")
FILE_NAME = "tower.safetensors"


def query_part(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the query tower, whose names have no prefix."""
    return {name: value for name, value in tensors.items() if not name.startswith(PASSAGE_TOWER)}


def passage_part(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the passage tower, by their names in the backbone."""
    of_passages = [name for name in tensors if name.startswith(PASSAGE_TOWER)]
    return {name.removeprefix(PASSAGE_TOWER): tensors[name] for name in of_passages}


def save_tower(
    folder: Location, changed: Mapping[str, np.ndarray], backbone_name: str, encoder_digest: str, trial_id: str
) -> Location:
    """Write `folder/tower.safetensors`, whole or not at all.

    Args:
        folder: of this tower alone.
        changed: float32 tensors that differ from the backbone's, by name.
        backbone_name: said where the tower is loaded with another one.
        encoder_digest: of the backbone, see `backbones.digest_of_encoder`.
        trial_id: what made the tower.

    Raises:
        OSError: the disk is full or read-only.
    """
    metadata = {"trial_id": trial_id, "backbone": backbone_name, "encoder_digest": encoder_digest}
    path = folder / FILE_NAME
    with replacing(path) as temporary:
        temporary.write_bytes(save(dict(changed), metadata=metadata))
    return path


def load_changed(folder: Location, backbone_name: str, encoder_digest: str) -> dict[str, np.ndarray]:
    """Changed tensors that `save_tower` wrote.

    Raises:
        ValueError: no such file, one that is damaged, tensors that are not float32, or a tower of another backbone.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise ValueError(f"a tower folder holds {FILE_NAME}, got none in {folder}; give a folder below OUT/towers")
    try:
        with local_file(path) as local, safetensors.safe_open(local, framework="numpy") as stored:
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
    if digest != encoder_digest:
        raise ValueError(
            f"a tower belongs to the backbone that it was tuned from, {metadata.get('backbone')} with weights "
            f"{digest}, got {backbone_name} with weights {encoder_digest}; load that backbone"
        )
    return changed
