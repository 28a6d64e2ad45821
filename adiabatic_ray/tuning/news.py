"""What a trial hears from whoever tunes it: its epochs, notices, and at the end its tower.

Plain data, so that the process that records a trial needs none of the libraries that tune it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

StoppedBy = Literal["idle", "max_epochs", "diverged"]


@dataclass(frozen=True)
class EpochReport:
    """State after an epoch; epoch 0 is the untuned tower. The last report of a run says what stopped it."""

    epoch: int
    num_steps: int
    train_loss: float
    validation_loss: float
    validation_errors: int
    num_validation: int
    improved: bool
    elapsed_s: float
    finished_at_ms: int
    """Milliseconds since 1970, UTC."""
    stopped_by: StoppedBy | None


@dataclass(frozen=True)
class Notice:
    """Something that a user should know about how a trial is run."""

    text: str


class ReplacedError(Exception):
    """The trial asked again, and its later call goes on in place of this one."""


@dataclass(frozen=True)
class Trained:
    """What a member leaves when it leaves a pack."""

    tensors: Mapping[str, np.ndarray]
    """The trained ones, by name: see `Member.trained`."""
    l2_lost: Mapping[str, float] | None
    """See `Member.l2_lost`."""
    queue_s: float = 0.0
    """Seconds that it waited for a slot."""


@dataclass(frozen=True)
class Tuned:
    """What tuning leaves."""

    tensors: Mapping[str, np.ndarray]
    """The trained ones, by name: see `Member.trained`."""
    changed: frozenset[str]
    """Names of those whose bytes differ from the backbone's."""
    drift: Sequence[Mapping[str, Any]]
    """See `drift.drift_rows`."""
    num_frozen: int
    """Weights that were not trained."""
    peak_memory_bytes: int
    """Largest resident memory so far of the process that tuned."""
    queue_s: float = 0.0
    """Seconds of waiting for whoever tunes it, and for a slot there."""
    load_s: float = 0.0
    """Seconds until whoever tunes it had what it is tuned from."""


News = EpochReport | Notice | Tuned
