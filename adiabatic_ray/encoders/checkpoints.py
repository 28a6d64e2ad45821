"""Checkpoints as files: where one lies, what must be there, and its tensors, configuration and tokenizer.

A hub id is first brought into the local cache and a package is looked up by its metadata (`packages`), so that hub,
folder and package are read by the same code. Types are checked by what the files store, before a tensor is loaded.
Code from a checkpoint is never run.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING as TEXT_ENCODERS
from transformers import MODEL_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from adiabatic_ray.encoders import packages
from adiabatic_ray.encoders.packages import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE
from adiabatic_ray.spec import BackboneSpec

INDEX_FILE = "model.safetensors.index.json"
_SAVE_AGAIN = "save it again with save_pretrained of transformers 5 (model and fast tokenizer)"
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What is stored of an encoder, in the terms of its transformers class without head."""

    config: dict[str, Any]
    """Arguments of the transformers configuration, `model_type` included; see `config_arguments`."""
    weights: Arrays
    """float32, by name in `named_parameters()`; tied tensors once."""
    buffers: Arrays
    """The model's constant tensors (positions and the like), by name in `named_buffers()`."""
    tokenizer: Tokenizer


def find_folder(spec: BackboneSpec) -> Path:
    """The folder of the checkpoint that a specification names.

    Raises:
        ValueError: the hub cannot be reached, or an installed package does not hold exactly one such folder.
    """
    match spec.source:
        case "folder":
            return Path(spec.name)
        case "package":
            return packages.encoder_folder(spec.name, spec.revision)
        case "hub":
            return download(spec)


def read_folder(spec: BackboneSpec, folder: Path) -> Checkpoint:
    """Read a transformers folder; what is needed of `spec` is its name, for messages, and `accept_half_precision`.

    Raises:
        ValueError: a file or tensor is missing or malformed, transformers has no encoder of that type, or weights are
            stored in 16 bits and that is not accepted.
    """
    _check_stored_types(spec, _weight_files(spec, folder))
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        model_class, arguments = model_class_of(config)
        loaded: Any  # transformers' types do not know that it gives a pair here
        with _quiet_transformers():
            loaded = model_class.from_pretrained(
                folder, config=config, use_safetensors=True, output_loading_info=True, **arguments
            )
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    except Exception as error:  # transformers and tokenizers raise bare Exceptions for malformed files
        raise ValueError(
            f"a backbone must be a checkpoint that transformers loads, got {error} for {spec.name}; {_SAVE_AGAIN}"
        ) from error
    model, report = loaded
    missing = sorted(report["missing_keys"])
    if missing:
        raise ValueError(
            f"a checkpoint must hold every tensor of its encoder, got {spec.name} without {missing[:5]} "
            f"({len(missing)} missing); {_SAVE_AGAIN}"
        )
    # Copies, because transformers maps the file into memory: a checkpoint replaced meanwhile would show through.
    weights = {name: parameter.detach().numpy().copy() for name, parameter in model.named_parameters()}
    buffers = {name: buffer.numpy().copy() for name, buffer in model.named_buffers(remove_duplicate=False)}
    return Checkpoint(config_arguments(config), weights, buffers, tokenizer)


def download(spec: BackboneSpec) -> Path:
    """Folder of the hub's cache with the needed files (a pinned revision there needs no network), or a ValueError."""
    try:
        folder = Path(hf_hub_download(spec.name, CONFIG_FILE, revision=spec.revision)).parent
        commit = folder.name  # the other files must be of the same commit, even when a branch moves meanwhile
        hf_hub_download(spec.name, TOKENIZER_FILE, revision=commit)
        try:
            hf_hub_download(spec.name, WEIGHTS_FILE, revision=commit)
        except EntryNotFoundError:
            index = Path(hf_hub_download(spec.name, INDEX_FILE, revision=commit))
            for file in _shard_names(index):
                hf_hub_download(spec.name, file, revision=commit)
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise ValueError(
            f"a hub backbone needs {CONFIG_FILE}, {TOKENIZER_FILE} and {WEIGHTS_FILE} (pickled weights are never read) "
            f"from the hub or its cache, got {type(error).__name__} for {spec.name} at revision {spec.revision}: "
            f"{error}; check name, revision and network, or set source 'folder' and name to a local copy"
        ) from error
    return folder


def _weight_files(spec: BackboneSpec, folder: Path) -> list[Path]:
    """Files that hold the tensors, when everything that is needed is there."""
    index = folder / INDEX_FILE
    in_shards = index.is_file() and not (folder / WEIGHTS_FILE).is_file()  # transformers' order too
    weights = _shard_names(index) if in_shards else [WEIGHTS_FILE]
    absent = [file for file in (CONFIG_FILE, TOKENIZER_FILE, *weights) if not (folder / file).is_file()]
    pickled = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
    if pickled and set(absent) & set(weights):
        raise ValueError(
            f"weights must be stored as safetensors, got {spec.name} with {', '.join(pickled[:3])} alone: unpickling "
            f"can run code, so such a file is never read; if you trust it, {_SAVE_AGAIN}"
        )
    if absent:
        raise ValueError(
            f"a backbone folder must hold {CONFIG_FILE}, {TOKENIZER_FILE} and {WEIGHTS_FILE}, "
            f"got {spec.name} without {', '.join(absent[:3])}; correct the path, or {_SAVE_AGAIN}"
        )
    return [folder / file for file in weights]


def _shard_names(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        strays = [name for name in names if Path(name).name != name]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{INDEX_FILE} must map tensors to files, got {error!r}; {_SAVE_AGAIN}") from error
    if strays:
        raise ValueError(f"{INDEX_FILE} must name files of its own folder, got {strays[0]!r:.80}; {_SAVE_AGAIN}")
    return names


def _check_stored_types(spec: BackboneSpec, files: Sequence[Path]) -> None:
    """Refuse tensors of 16 bits or fewer by what the files store, whatever config.json says."""
    narrow: dict[str, str] = {}
    for path in files:
        try:
            with safe_open(path, framework="numpy") as stored:
                types = {name: stored.get_slice(name).get_dtype() for name in stored.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path.name} must be a whole safetensors file, got {error}; fetch it again") from error
        narrow |= {name: kind for name, kind in types.items() if kind.startswith(("F16", "BF16", "F8", "F6", "F4"))}
    if narrow and not spec.accept_half_precision:
        got = ", ".join(sorted(set(narrow.values())))
        raise ValueError(
            f"a checkpoint must store float32 or better, got {got} in {len(narrow)} tensors of {spec.name}, e.g. "
            f"{min(narrow)}; use a float32 checkpoint, or set accept_half_precision to true"
        )


def transformers_config(config: Mapping[str, Any]) -> PreTrainedConfig:
    """The configuration of some arguments, `model_type` among them."""
    loaded: PreTrainedConfig = AutoConfig.for_model(**config)  # its first parameter is `model_type`
    return loaded


def config_arguments(config: PreTrainedConfig) -> dict[str, Any]:
    """Arguments that give the same configuration again, without the path and version that it was loaded with."""
    left_out = ("_name_or_path", "transformers_version", "architectures", "dtype")
    return {key: value for key, value in config.to_dict().items() if key not in left_out}


def model_class_of(config: PreTrainedConfig) -> tuple[type[PreTrainedModel], dict[str, Any]]:
    """Class of the encoder without head, and the arguments that its two constructors share."""
    mappings: tuple[Any, Any] = (TEXT_ENCODERS, MODEL_MAPPING)  # the first has T5's encoder, the second T5 as a whole
    model_class = mappings[0].get(type(config), None) or mappings[1].get(type(config), None)
    if model_class is None or (config.is_encoder_decoder and type(config) not in TEXT_ENCODERS):
        raise ValueError(f"model type {config.model_type!r}, for which transformers has no encoder class")
    attention = "sdpa" if model_class._supports_sdpa else "eager"
    arguments: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": attention}
    if "add_pooling_layer" in inspect.signature(model_class).parameters:
        arguments["add_pooling_layer"] = False
    return model_class, arguments


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the table of unused tensors and the progress bar; missing tensors are checked by the caller."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
