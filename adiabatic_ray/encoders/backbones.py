"""A pretrained encoder with its conventions, and the towers that are built from it.

A `Backbone` is plain data: numpy arrays, a configuration and a tokenizer as text. It pickles with its arrays out of
band, so Ray's object store holds the weights once per node and every worker reads them in place. `build_tower` makes a
torch module whose frozen parameters are views of those arrays: the word embeddings, most of a multilingual encoder, are
never copied per trial. Weights are float32 whatever a checkpoint stores; a checkpoint of 16 bits is refused unless the
specification accepts it, because steps of 5e-8 would start from rounded weights.
How checkpoints are found and read is in `checkpoints`.

Legend: B texts of a batch, T tokens of its longest text, D embedding size.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import PreTrainedModel

from adiabatic_ray.encoders import checkpoints, packaged_e5
from adiabatic_ray.encoders.checkpoints import Arrays, Checkpoint, model_class_of, transformers_config
from adiabatic_ray.encoders.packages import TOKENIZER_FILE
from adiabatic_ray.spec import BackboneSpec

_TOKENIZE_AT_ONCE = 4096  # texts in one call of the tokenizer: bounds the memory of its verbose results


@dataclass(frozen=True, eq=False)
class TokenizedTexts:
    """Token ids of many texts in one flat array, special tokens included: cheap to ship through an object store."""

    ids: np.ndarray  # int32 [total tokens]
    offsets: np.ndarray  # int64 [num_texts + 1]; text n is ids[offsets[n] : offsets[n + 1]]

    def __len__(self) -> int:
        """Number of texts."""
        return len(self.offsets) - 1

    def lengths(self) -> np.ndarray:
        """Tokens of each text, int64 [num_texts]."""
        return np.diff(self.offsets)

    def select(self, rows: np.ndarray) -> TokenizedTexts:
        """Texts at some rows (integers), in the order of `rows`."""
        lengths = self.lengths()[rows]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return TokenizedTexts(self.ids[places], offsets)


class Tower(nn.Module):
    """An encoder with its pooling; `model` is the transformers encoder."""

    def __init__(self, model: PreTrainedModel, pooling: str) -> None:
        """Wrap an encoder; pooling is `mean` over the tokens that the mask shows, or `cls`, the first token."""
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(self, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
        """Embeddings [B, D], pooled and not normalised, in the type of the parameters.

        Both arguments are int64; the mask is 1 on tokens, which begin at the left. Ids where it is 0 do not matter.
        """
        hidden_BTD: torch.Tensor = self.model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        if self.pooling == "cls":
            return hidden_BTD[:, 0]
        shown_BT1 = mask_BT[..., None].to(hidden_BTD.dtype)
        return (hidden_BTD * shown_BT1).sum(dim=1) / shown_BT1.sum(dim=1)


@dataclass(frozen=True, eq=False)
class Backbone:
    """A pretrained encoder as data; see the file head."""

    spec: BackboneSpec
    config: dict[str, Any]  # arguments of the transformers configuration, `model_type` included
    weights: Arrays  # float32, read-only, by name and in the order of named_parameters(); tied tensors once
    tokenizer_json: str
    encoder_digest: str  # `digest_of_encoder`: of everything that decides an embedding, texts and lengths aside
    buffers: Arrays  # the encoder's constant tensors (positions and the like), by name in named_buffers()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore from a pickle: arrays that travelled inside it come back writable."""
        self.__dict__.update(state)
        _protect(self.weights)

    @property
    def num_blocks(self) -> int:
        """Transformer blocks of the encoder."""
        return int(transformers_config(self.config).num_hidden_layers)

    @property
    def embedding_size(self) -> int:
        """Numbers in one embedding."""
        return int(transformers_config(self.config).hidden_size)

    def tokenize(self, texts: Sequence[str], prefix: str) -> TokenizedTexts:
        """Token ids of texts, each with a prefix before it, cut to the specification's `max_length` tokens.

        Raises:
            ValueError: a text that is empty or is no string; the message names its row.
        """
        for row, text in enumerate(texts):
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"texts must be strings, not empty, got {text!r} in row {row}; remove that row")
        tokenizer = _tokenizer(self.tokenizer_json, self.spec.max_length)
        ids: list[np.ndarray] = [np.empty(0, dtype=np.int32)]
        for start in range(0, len(texts), _TOKENIZE_AT_ONCE):
            batch = [prefix + text for text in texts[start : start + _TOKENIZE_AT_ONCE]]
            ids += [np.asarray(encoding.ids, dtype=np.int32) for encoding in tokenizer.encode_batch_fast(batch)]
        offsets = np.cumsum([len(one) for one in ids], dtype=np.int64)
        return TokenizedTexts(np.concatenate(ids), offsets)

    def build_tower(self, trainable: Collection[str] = (), device: torch.device | str = "cpu") -> Tower:
        """A tower in evaluation mode (dropout off).

        Args:
            trainable: names of the parameters to train: copies, with `requires_grad`. All others are frozen; on the CPU
                they share memory with `weights`. That memory is read-only (a write ends the process): never assign
                into a frozen parameter, replace its `data` instead.
            device: where the parameters go; other devices than the CPU get copies of all of them.

        Raises:
            ValueError: a name in `trainable` that the encoder lacks.
        """
        unknown = sorted(set(trainable) - self.weights.keys())
        if unknown:
            near = difflib.get_close_matches(unknown[0], self.weights, n=3)
            raise ValueError(f"trainable names must be parameters of the encoder, got {unknown[:5]}; near: {near}")
        model = _empty_model(self.config)
        parameters, trained = {}, set(trainable)
        for name, value in self.weights.items():
            tensor = torch.tensor(value) if name in trained else view_of(value)
            parameters[name] = nn.Parameter(tensor.to(device), requires_grad=name in trained)
        _fill(model, parameters, {name: torch.tensor(value, device=device) for name, value in self.buffers.items()})
        return Tower(model, self.spec.pooling).eval()


def load_backbone(spec: BackboneSpec) -> Backbone:
    """Load what a specification names.

    Args:
        spec: `source` says where: `hub` (downloaded into the hub's cache, or taken from it offline), `folder` (a
            transformers or sentence-transformers folder; the revision is not looked at), `package` (an installed
            package: `packaged_e5`, or one that holds a transformers folder, see `packages`). The modules of a
            sentence-transformers folder are not looked at: pooling is the specification's, without normalisation.

    Raises:
        ValueError: it cannot be found or reached, a file or tensor is missing, weights are stored in 16 bits and that
            is not accepted, `max_length` is beyond the position table, or the digest is another than the given one.
    """
    if spec.source == "package" and spec.name == packaged_e5.PACKAGE:
        return _checked(spec, packaged_e5.load_packaged_e5(spec.revision))
    return _checked(spec, checkpoints.read_folder(spec, checkpoints.find_folder(spec)))


def digest_of_weights(weights: Mapping[str, np.ndarray]) -> str:
    """SHA-256, in hex, over name, shape, type and bytes of every tensor, sorted by name."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        digest.update(f"{name} {list(value.shape)} {value.dtype.str}\n".encode())
        digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()


def digest_of_encoder(weights: Arrays, buffers: Arrays, config: Mapping[str, Any], tokenizer_json: str) -> str:
    """SHA-256, in hex, over weights, buffers, configuration and tokenizer.

    Two checkpoints with the same weights and another normaliser, or another LayerNorm epsilon, are two encoders.
    """
    parts = (
        digest_of_weights(weights),
        digest_of_weights(buffers),
        json.dumps(config, sort_keys=True, default=str),
        tokenizer_json,
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _checked(spec: BackboneSpec, checkpoint: Checkpoint) -> Backbone:
    """The backbone, when weights, tokenizer and specification fit the configuration and each other."""
    config, weights, buffers = checkpoint.config, checkpoint.weights, checkpoint.buffers
    tokenizer_json = checkpoint.tokenizer.to_str()
    model = _empty_model(config)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes == {name: value.shape for name, value in weights.items()}, "weights of another configuration"
    limit = _position_limit(model)
    if limit is not None and spec.max_length > limit:
        raise ValueError(
            f"max_length must be within the position table of {spec.name} ({limit} tokens), got {spec.max_length}; "
            f"set max_length to {limit} or less"
        )
    num_rows = len(model.get_input_embeddings().weight)  # type: ignore[arg-type]
    largest = max(checkpoint.tokenizer.get_vocab().values(), default=0)
    if largest >= num_rows:
        raise ValueError(
            f"token ids must be below the {num_rows} rows of the word embeddings, got {largest} in the tokenizer of "
            f"{spec.name}; put the encoder's own {TOKENIZER_FILE} there"
        )
    _protect(weights)
    digest = digest_of_encoder(weights, buffers, config, tokenizer_json)
    if spec.encoder_digest not in (None, digest):
        raise ValueError(
            f"the encoder {spec.name} must have the digest {spec.encoder_digest}, got {digest}; restore the "
            "checkpoint, or remove encoder_digest to ask a new question"
        )
    return Backbone(spec, config, {name: weights[name] for name in shapes}, tokenizer_json, digest, buffers)


def _empty_model(config: Mapping[str, Any]) -> PreTrainedModel:
    """The encoder without memory behind its tensors; the random generator is not touched."""
    loaded = transformers_config(config)
    model_class, arguments = model_class_of(loaded)
    with torch.device("meta"):
        model: PreTrainedModel = model_class._from_config(loaded, **arguments)  # type: ignore[no-untyped-call]
    return model


def _fill(model: nn.Module, parameters: Mapping[str, nn.Parameter], buffers: Mapping[str, torch.Tensor]) -> None:
    """Put tensors in the place of a model's empty ones; tied places get the same tensor."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for prefix, module in model.named_modules():
        for key, empty in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            setattr(module, key, parameters[names[id(empty)]])
        for key, _ in list(module.named_buffers(recurse=False, remove_duplicate=False)):
            setattr(module, key, buffers[f"{prefix}.{key}" if prefix else key])


def _protect(weights: Mapping[str, np.ndarray]) -> None:
    for value in weights.values():
        value.flags.writeable = False


def view_of(value: np.ndarray) -> torch.Tensor:
    """Tensor on an array's memory. Torch warns that it is read-only: a frozen parameter is never written."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(value)


def _position_limit(model: nn.Module) -> int | None:
    """Tokens for which the encoder has position embeddings; None where positions are relative."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            # RoBERTa's positions begin after the padding id, so XLM-R's table of 514 rows is for 512 tokens.
            before_first = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - before_first
    return None


@lru_cache(maxsize=2)
def _tokenizer(tokenizer_json: str, max_length: int) -> Tokenizer:
    """Tokenizer that cuts and does not pad; kept, because reading a vocabulary of 250,000 takes 2 s."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.enable_truncation(max_length)
    tokenizer.no_padding()
    return tokenizer
