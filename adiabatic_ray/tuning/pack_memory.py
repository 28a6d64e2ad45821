"""How many members of a pack a device holds: an estimate beforehand, so that a pack is split and not lost.

A member has its trained weights, their gradients, AdamW's two moments and, where the improved state is kept, one more
copy; and what a step remembers for its backward pass. `benchmarks/gpu_steps.py` prints the estimate beside what a pack
takes on a device.
"""

from __future__ import annotations

from collections.abc import Collection

from adiabatic_ray.encoders.backbones import Backbone

_FLOAT_BYTES = 4
_COPIES = 5
"""Weights, gradients, two moments, kept weights."""
_REMEMBERED_WIDTHS = 34
"""Floats that a block remembers for a token, in embedding sizes: input, queries, keys, values, attended, two sums, two
normalised, two outputs (11); four times two of the inner layer and what GELU makes of it (8), its gradient's passing
copies (8); and attention's own (about 7)."""


def member_bytes(backbone: Backbone, trainable: Collection[str], tokens: int) -> int:
    """Bytes that one member adds.

    Args:
        backbone: of the pack.
        trainable: names of the stacked tensors.
        tokens: of a member's row in one step.
    """
    weights = sum(backbone.weights[name].size for name in trainable)
    remembered = backbone.num_blocks * tokens * _REMEMBERED_WIDTHS * backbone.embedding_size
    return _FLOAT_BYTES * (_COPIES * weights + remembered)


def slots_that_fit(backbone: Backbone, trainable: Collection[str], tokens: int, free_bytes: int) -> int:
    """Members for which so much memory is enough."""
    return free_bytes // member_bytes(backbone, trainable, tokens)
