"""Tiny random encoders as local folders, for everyone's tests: real layouts, real files, milliseconds to run.

Weights are deterministic by seed and far from zero everywhere (LayerNorms and biases included), so that a tensor that
is lost, mixed up or not trained shows in the embeddings. The tokenizer is byte level: any text in any language is fine,
a token is a byte.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedModel,
    T5Config,
    T5EncoderModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from adiabatic_ray.spec import BackboneSpec

BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
XLM_R_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
T5_TOKENS = ("<pad>", "</s>", "<unk>")
NUM_BYTES = 256


def tiny_spec(folder: Path, *, max_length: int = 64) -> BackboneSpec:
    """Specification of a tiny encoder in a folder, with the prefixes of E5."""
    return BackboneSpec(
        name=str(folder),
        source="folder",
        query_prefix="query: ",
        passage_prefix="passage: ",
        max_length=max_length,
    )


def save_tiny_bert(
    folder: Path,
    *,
    seed: int = 0,
    num_blocks: int = 2,
    hidden_size: int = 32,
    max_positions: int = 64,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """BertModel without pooling layer; 260 token ids, `[CLS] text [SEP]`."""
    config = BertConfig(
        vocab_size=NUM_BYTES + len(BERT_TOKENS),
        hidden_size=hidden_size,
        num_hidden_layers=num_blocks,
        num_attention_heads=2,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=max_positions,
        pad_token_id=0,
    )
    tokenizer = _byte_tokenizer(BERT_TOKENS, "[CLS] $A [SEP]")
    return _save(folder, BertModel(config, add_pooling_layer=False), tokenizer, seed, dtype)


def save_tiny_xlm_roberta(
    folder: Path,
    *,
    seed: int = 0,
    num_blocks: int = 2,
    hidden_size: int = 32,
    max_positions: int = 64,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """XLMRobertaModel without pooling layer; the padding id is 1 and the position table has two rows more."""
    config = XLMRobertaConfig(
        vocab_size=NUM_BYTES + len(XLM_R_TOKENS),
        hidden_size=hidden_size,
        num_hidden_layers=num_blocks,
        num_attention_heads=2,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=max_positions + 2,
        type_vocab_size=1,
        pad_token_id=1,
    )
    tokenizer = _byte_tokenizer(XLM_R_TOKENS, "<s> $A </s>")
    return _save(folder, XLMRobertaModel(config, add_pooling_layer=False), tokenizer, seed, dtype)


def save_tiny_distilbert(
    folder: Path,
    *,
    seed: int = 0,
    num_blocks: int = 2,
    hidden_size: int = 32,
    max_positions: int = 64,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """DistilBertModel, which names blocks and parts in its own way and has no type embeddings."""
    config = DistilBertConfig(
        vocab_size=NUM_BYTES + len(BERT_TOKENS),
        dim=hidden_size,
        n_layers=num_blocks,
        n_heads=2,
        hidden_dim=2 * hidden_size,
        max_position_embeddings=max_positions,
        pad_token_id=0,
    )
    return _save(folder, DistilBertModel(config), _byte_tokenizer(BERT_TOKENS, "[CLS] $A [SEP]"), seed, dtype)


def save_tiny_t5_encoder(
    folder: Path,
    *,
    seed: int = 0,
    num_blocks: int = 2,
    hidden_size: int = 32,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """T5EncoderModel: relative positions, tied word embeddings, `text </s>`."""
    config = T5Config(
        vocab_size=NUM_BYTES + len(T5_TOKENS),
        d_model=hidden_size,
        d_kv=hidden_size // 2,
        num_layers=num_blocks,
        num_heads=2,
        d_ff=2 * hidden_size,
        pad_token_id=0,
        eos_token_id=1,
    )
    return _save(folder, T5EncoderModel(config), _byte_tokenizer(T5_TOKENS, "$A </s>"), seed, dtype)


def _byte_tokenizer(special: tuple[str, ...], template: str) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate((*special, *alphabet))}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special))
    used = [(token, vocabulary[token]) for token in special if token in template.split()]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    return tokenizer


def _save(folder: Path, model: PreTrainedModel, tokenizer: Tokenizer, seed: int, dtype: torch.dtype) -> Path:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = name.endswith(("LayerNorm.weight", "layer_norm.weight"))
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.1 * noise if is_gain else 0.2 * noise)
    torch.nn.Module.to(model, dtype=dtype)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
