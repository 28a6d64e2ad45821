"""Which block of an encoder a parameter tensor belongs to, read from its name alone.

Layouts name their blocks differently (`encoder.layer.3.` in BERT, `transformer.layer.3.` in DistilBERT, `layers.3.` in
ModernBERT, `encoder.block.3.layer.0.` in T5), but in each of them the first number in a name is the block's.
"""

from __future__ import annotations

import re

EMBEDDINGS = "embeddings"
OTHER = "other"
"""What belongs to no block: a final LayerNorm, a projection behind the blocks."""
PASSAGE_TOWER = "passage_tower."
"""What stands before the names of a passage tower's tensors, where both towers are tuned."""
_FIRST_NUMBER = re.compile(r"(?:^|\.)(\d+)\.")


def in_embeddings(tensor: str) -> bool:
    """Whether a tensor of an encoder belongs to its embedding block; T5 calls its token embeddings `shared`."""
    return tensor.startswith("embeddings.") or tensor in ("shared.weight", "encoder.embed_tokens.weight")


def block_of(tensor: str) -> str:
    """`embeddings`, the block's number as text (`0`, `11`), or `other`; a passage tower's with its prefix before it.

    Encoders that share one block's weights between all depths (ALBERT) have a single block, `0`.
    """
    name = tensor.removeprefix(PASSAGE_TOWER)
    tower = tensor[: len(tensor) - len(name)]
    if in_embeddings(name):
        return tower + EMBEDDINGS
    number = _FIRST_NUMBER.search(name)
    return tower + (number[1] if number else OTHER)
