"""Where a trial's tuning was left: a safetensors file each, so that a lost process costs minutes and not the trial.

Nothing is pickled. A file that is damaged counts as none: the trial starts over. The folder is one that every node
sees, since it may be another node that goes on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import safetensors
from safetensors.numpy import save

from adiabatic_ray.storage import Location, local_file, replacing
from adiabatic_ray.tuning.news import EpochReport


@dataclass(frozen=True)
class MemberState:
    """All that a member of a pack needs to go on elsewhere, as if nothing had happened."""

    tensors: Mapping[str, np.ndarray]
    """Weights, optimizer state, kept weights."""
    reports: tuple[EpochReport, ...]


def save_state(folder: Location, trial_id: str, state: MemberState) -> None:
    """Write a trial's state, whole or not at all, over an older one.

    Raises:
        OSError: the disk is full or read-only; the older state is still there then.
    """
    reports = json.dumps([asdict(report) for report in state.reports])
    content = save(dict(state.tensors), metadata={"trial_id": trial_id, "reports": reports})
    with replacing(_path(folder, trial_id)) as temporary:
        temporary.write_bytes(content)


def load_state(folder: Location, trial_id: str) -> MemberState | None:
    """The state that was last saved, or None: there is none, or its file is damaged or another trial's."""
    try:
        with (
            local_file(_path(folder, trial_id)) as path,
            safetensors.safe_open(path, framework="numpy") as stored,
        ):
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - not a mapping
        reports = tuple(EpochReport(**fields) for fields in json.loads(metadata["reports"]))
    except (FileNotFoundError, safetensors.SafetensorError, KeyError, TypeError, ValueError):
        return None
    return MemberState(tensors, reports) if metadata.get("trial_id") == trial_id and reports else None


def remove_state(folder: Location, trial_id: str) -> None:
    """Forget a trial's state: it is done."""
    _path(folder, trial_id).unlink(missing_ok=True)


def _path(folder: Location, trial_id: str) -> Location:
    return folder / f"{trial_id}.safetensors"
