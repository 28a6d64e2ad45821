"""A tuned query tower beside its passage tower, as a folder that sentence-transformers loads.

    FOLDER/              SentenceTransformer(FOLDER): a Router with the routes `query` and `document`
      router_config.json, modules.json, config_sentence_transformers.json
      query/             the tuned tower: a folder by itself, for SentenceTransformer and for transformers
      document/          the passage tower, likewise; untuned, unless the trial tuned both

Files are written here and not by sentence-transformers, which a sweep does not need, in the older of its layouts where
there are two: versions from 5 on are meant to read it, and 6.2 is tested. The router has no default route: `encode`
without a task is an error, because either guess gives wrong embeddings for the other side.

A tower's tensors are in two files: those that both towers share, and those in which they differ. The first is one file
under two names (a hard link), and so is the tokenizer: a multilingual encoder is mostly word embeddings, which stay
frozen. Where links can't be made, or do not survive a copy, it is two equal files, and each folder is whole either way.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from transformers import AutoTokenizer

from adiabatic_ray.encoders.backbones import Backbone
from adiabatic_ray.encoders.checkpoints import INDEX_FILE, Arrays, model_class_of, transformers_config
from adiabatic_ray.encoders.packages import TOKENIZER_FILE, WEIGHTS_FILE
from adiabatic_ray.encoders.sentence_folders import MODULES_FILE
from adiabatic_ray.encoders.tower_files import passage_part, query_part

QUERY, DOCUMENT = "query", "document"
"""Folders of the two towers, and sentence-transformers' own names of the two tasks."""
_POOLING = "1_Pooling"
_PADDING = ("<pad>", "[PAD]")
_PROBES = (
    "river stone",
    "  Two  spaces,\ta tab\nand a line\u00a0break ",
    # Ligature, fraction, full-width tilde, half-width kana: what normalisers differ in.
    "Über naïve Straßen: ﬁve ½ Ⅷ ①, 2\uff5e3日 ﾊﾝｶｸ",
    "鹽和胡椒 ราคาเท่าไหร่ कितना है السلام عليكم Ποιος; где",
    "🙂 \u200b\u200d\ufeff e\u0301 \ue000 \U0001d518",
    "<s> [CLS] <pad> [PAD] </s> [SEP] <mask> [MASK]",  # the special tokens' own spelling in a text
    "cut after so many tokens " * 600,
)
"""Texts that tell tokenizers apart which are thought to be the same."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    model_class: str
    """Of transformers, for the folders `query` and `document`; its arguments are `model_arguments`."""
    model_arguments: Mapping[str, Any]
    num_tensors: int
    """Of one tower."""
    num_changed: int
    """Tensors of the query tower that are not the backbone's."""
    num_passage_changed: int
    """Those of the passage tower: 0 unless it was tuned too."""
    size_bytes: int
    """On disk; what has two names is counted once."""
    tower_bytes: int
    """Of one tower's tensors."""


def check_is_free(target: Path) -> None:
    """Refuse a place where something is.

    Raises:
        ValueError: a file, or a folder with something in it.
    """
    if target.is_dir() and any(target.iterdir()):
        raise ValueError(
            f"an export needs a folder that is new or empty, got {target}, which holds {_first_names(target)}; give "
            "another, or empty it"
        )
    if target.exists() and not target.is_dir():
        raise ValueError(f"an export needs a folder that is new or empty, got the file {target}; give another name")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Give a folder beside `target` that takes its place when the block succeeds, and is removed when it does not.

    Raises:
        ValueError: see `check_is_free`.
        OSError: it cannot be written, or somebody else has written there meanwhile.
    """
    target = target.resolve()
    check_is_free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                with path.open("rb") as written:
                    os.fsync(written.fileno())
        temporary.rename(target)  # onto an empty folder too; onto one with content it is an OSError
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_towers(folder: Path, backbone: Backbone, changed: Mapping[str, np.ndarray]) -> Exported:
    """Write the layout of the file head, without a model card.

    Args:
        folder: exists and is empty.
        backbone: where both towers started, and their conventions.
        changed: float32 tensors in which they differ from it, as `tower_files` names them.

    Raises:
        ValueError: transformers reads another tokenizer out of the files than was put there.
        OSError: the disk is full or read-only.
    """
    config = transformers_config(backbone.config)
    model_class, arguments = model_class_of(config)
    config.architectures, config.dtype = [model_class.__name__], torch.float32
    if hasattr(config, "auto_map"):
        del config.auto_map  # names code of the backbone's owner, which was not run here and is not passed on
    model_arguments = {name: value for name, value in arguments.items() if name == "add_pooling_layer"}
    of_queries, of_passages = query_part(changed), passage_part(changed)
    untuned = {name: backbone.weights[name] for name in {**of_queries, **of_passages}}
    shared = _persistent_buffers(backbone) | {n: v for n, v in backbone.weights.items() if n not in untuned}
    prefixes = {QUERY: backbone.spec.query_prefix, DOCUMENT: backbone.spec.passage_prefix}
    for name, own in ((DOCUMENT, untuned | of_passages), (QUERY, untuned | of_queries)):
        tower = folder / name
        tower.mkdir()
        config.save_pretrained(tower)
        files = _write_weights(tower, [part for part in (shared, own) if part])
        if name == DOCUMENT:
            (tower / TOKENIZER_FILE).write_text(backbone.tokenizer_json, encoding="utf-8")
            once = [TOKENIZER_FILE, *files[: 1 if shared else 0]]
        else:
            for file in once:
                _one_file(folder / DOCUMENT / file, tower / file)
        _write_tower_settings(tower, backbone, model_arguments)
        _write_model_settings(tower, {name: prefixes[name]}, default_prompt=name)
    _write_router(folder)
    _write_model_settings(folder, prefixes, default_prompt=None)
    _check_token_ids(folder / QUERY, backbone)
    return Exported(
        model_class.__name__,
        model_arguments,
        len(backbone.weights),
        len(of_queries),
        len(of_passages),
        _size_on_disk(folder),
        sum(value.nbytes for value in backbone.weights.values()),
    )


def _persistent_buffers(backbone: Backbone) -> Arrays:
    """Constant tensors that transformers expects in a checkpoint; most are made anew when it is loaded."""
    stored = backbone.build_tower().model.state_dict().keys()
    return {name: value for name, value in backbone.buffers.items() if name in stored}


def _write_weights(folder: Path, parts: Sequence[Arrays]) -> list[str]:
    """Write each part to a file of its own, with an index when there are several; returns the files' names."""
    names = [f"model-{place:05}-of-{len(parts):05}.safetensors" for place in range(1, len(parts) + 1)]
    if len(parts) == 1:
        names = [WEIGHTS_FILE]
    for name, part in zip(names, parts, strict=True):
        save_file(part, folder / name, metadata={"format": "pt"})  # transformers refuses a file without it
    if len(parts) > 1:
        place_of = {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part}
        size = sum(value.nbytes for part in parts for value in part.values())
        _write_json(folder / INDEX_FILE, {"metadata": {"total_size": size}, "weight_map": place_of})
    return names


def _one_file(source: Path, target: Path) -> None:
    """Make `target` a second name of `source`, or a copy where the file system has no such thing."""
    target.unlink(missing_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _write_tower_settings(folder: Path, backbone: Backbone, model_arguments: Mapping[str, Any]) -> None:
    """Tokenizer, length, pooling: what makes a checkpoint's folder a sentence-transformers folder."""
    spec = backbone.spec
    # The class that takes tokenizer.json as it is: others build a tokenizer of their own from its vocabulary, and lose
    # the normaliser. Of the special tokens only the one for padding is named, because tokenizer.json has the others,
    # and a name given here replaces how they match. Token types are left out, as they are when a tower is scored.
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": spec.max_length,
        "pad_token": _padding_token(backbone.tokenizer_json),
        "padding_side": "right",
        "truncation_side": "right",
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }
    _write_json(folder / "tokenizer_config.json", settings)
    encoder = {"max_seq_length": spec.max_length, "do_lower_case": False, "model_args": dict(model_arguments)}
    _write_json(folder / "sentence_bert_config.json", encoder)
    (folder / _POOLING).mkdir()
    modes = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens"}
    pooling = {key: name == spec.pooling for name, key in modes.items()}
    pooling_settings = {"word_embedding_dimension": backbone.embedding_size, **pooling, "include_prompt": True}
    _write_json(folder / _POOLING / "config.json", pooling_settings)
    _write_modules(folder, {"": "Transformer", _POOLING: "Pooling"})


def _write_router(folder: Path) -> None:
    """Which modules a task goes through. Their names are their folders."""
    structure = {name: [name, f"{name}/{_POOLING}"] for name in (QUERY, DOCUMENT)}
    kinds = ("Transformer", "Pooling")
    router = {
        "types": {
            module: _class(kind) for modules in structure.values() for module, kind in zip(modules, kinds, strict=True)
        },
        "structure": structure,
        "parameters": {"default_route": None, "allow_empty_key": False},
    }
    _write_json(folder / "router_config.json", router)
    _write_modules(folder, {"": "Router"})


def _write_modules(folder: Path, kinds: Mapping[str, str]) -> None:
    """`modules.json`: path -> class of sentence-transformers."""
    rows = [
        {"idx": place, "name": str(place), "path": path, "type": _class(kind)}
        for place, (path, kind) in enumerate(kinds.items())
    ]
    _write_json(folder / MODULES_FILE, rows)


def _class(kind: str) -> str:
    """The name that every version knows; newer ones have moved what it stands for."""
    return f"sentence_transformers.models.{kind}"


def _write_model_settings(folder: Path, prompts: Mapping[str, str], default_prompt: str | None) -> None:
    settings = {
        "model_type": "SentenceTransformer",
        "prompts": dict(prompts),
        "default_prompt_name": default_prompt,
        "similarity_fn_name": "cosine",
    }
    _write_json(folder / "config_sentence_transformers.json", settings)


def _padding_token(tokenizer_json: str) -> str:
    """The token that fills up a batch; where none is known, any: it is masked, so its id is never read."""
    special = [token["content"] for token in json.loads(tokenizer_json)["added_tokens"] if token["special"]]
    known = [token for token in _PADDING if token in special]
    if not special:
        raise ValueError(
            "an export needs a tokenizer with a special token to pad with, got none; add one to tokenizer.json, "
            "masked padding changes no embedding"
        )
    return (known or special)[0]


def _check_token_ids(folder: Path, backbone: Backbone) -> None:
    """By what transformers makes of the files: it rebuilds tokenizers, differently from version to version."""
    read: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    prefix = backbone.spec.query_prefix
    got = read([prefix + text for text in _PROBES], truncation=True)["input_ids"]
    wanted = backbone.tokenize(_PROBES, prefix)
    for row, text in enumerate(_PROBES):
        ids = wanted.ids[wanted.offsets[row] : wanted.offsets[row + 1]].tolist()
        if got[row] != ids:
            raise ValueError(
                f"an exported tokenizer must give the ids that the tower was tuned with, got {got[row][:8]} for "
                f"{ids[:8]} from transformers {transformers.__version__} for {text!r:.60}; export with the version in "
                "constraints.txt"
            )


def _size_on_disk(folder: Path) -> int:
    stats = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in stats}.values())


def _first_names(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
