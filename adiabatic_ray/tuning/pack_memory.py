"""How many members of a pack a device holds: an estimate beforehand, so that a pack is split and not lost.

A member has its trained weights, their gradients, what its optimizer remembers and, where the improved state is kept,
one more copy; and what a step remembers for its backward pass. `benchmarks/gpu_steps.py` prints the estimate beside
what a pack takes on a device. Left out: what an optimizer needs for the length of its step, since members take theirs
one after another, in memory that the backward pass has just given back.
"""

from __future__ import annotations

from collections.abc import Collection

from adiabatic_ray.encoders.backbones import Backbone
from adiabatic_ray.spec import TuningSpec

_FLOAT_BYTES = 4
_COPIES = 3
"""Weights, gradients, kept weights."""
_MOMENTS = {"adamw": 2, "adamax": 2, "adadelta": 2}
"""Tensors of a weight's shape that an optimizer remembers; of a user's own this is a guess."""
_REMEMBERED_WIDTHS = 34
"""Floats that a block remembers for a token, in embedding sizes: input, queries, keys, values, attended, two sums, two
normalised, two outputs (11); four times two of the inner layer and what GELU makes of it (8), its gradient's passing
copies (8); and attention's own (about 7)."""


def weight_bytes(spec: TuningSpec) -> int:
    """Bytes for each trained weight: float64 doubles what is remembered and adds the weights that are summed up in."""
    moments = int(spec.momentum > 0) if spec.optimizer == "sgd" else _MOMENTS.get(spec.optimizer, 2)
    remembered = {"float32": moments, "compensated": moments + 1, "float64": 2 * (moments + 1)}[spec.precision]
    return _FLOAT_BYTES * (_COPIES + remembered)


def member_bytes(backbone: Backbone, trainable: Collection[str], tokens: int, spec: TuningSpec) -> int:
    """Bytes that one member adds.

    Args:
        backbone: of the pack.
        trainable: names of the stacked tensors.
        tokens: of a member's row in one step.
        spec: its optimizer and precision.
    """
    weights = sum(backbone.weights[name].size for name in trainable)
    remembered = backbone.num_blocks * tokens * _REMEMBERED_WIDTHS * backbone.embedding_size
    return weight_bytes(spec) * weights + _FLOAT_BYTES * remembered
