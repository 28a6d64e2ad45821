"""The other side of a comparison: a tower of this project as the modules of sentence-transformers."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from transformers import PreTrainedTokenizerFast

from adiabatic_ray.encoders.backbones import Backbone, Tower


def encoder_modules(backbone: Backbone, tower: Tower) -> tuple[Transformer, Pooling]:
    """Encoder and pooling, each with weights of its own: equal to the tower's, and as trainable as they come.

    Args:
        backbone: gives tokenizer and length limit.
        tower: gives weights, configuration and pooling.
    """
    with tempfile.TemporaryDirectory() as folder:
        tower.model.save_pretrained(folder)
        tokenizer = Path(folder) / "tokenizer.json"
        tokenizer.write_text(backbone.tokenizer_json, encoding="utf-8")
        read = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer), pad_token="<pad>", unk_token="<unk>")  # type: ignore[no-untyped-call]
        read.save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=backbone.spec.max_length)
    return transformer, Pooling(transformer.get_embedding_dimension(), tower.pooling)


def sentence_encoder(backbone: Backbone, tower: Tower, device: str) -> SentenceTransformer:
    """A tower as a user of sentence-transformers holds it; prefixes are the caller's."""
    return SentenceTransformer(modules=list(encoder_modules(backbone, tower)), device=device)
