"""A tower from wherever it lies, as the tensors in which it differs from its base.

Two kinds: a folder below OUT/towers of a sweep, which holds just those tensors, and a whole checkpoint (transformers or
sentence-transformers, a folder or a hub id), of which they are taken. Either way the tower is then scored as a trial's
is: the base's backbone with these tensors in their place, its tokenizer, pooling, prefixes and length. So a checkpoint
must be the same function of its tensors as the base, and that is checked here.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
from transformers import AutoConfig, PreTrainedConfig

from adiabatic_ray.encoders import sentence_folders, tower_files, towers
from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts, load_backbone
from adiabatic_ray.encoders.checkpoints import download
from adiabatic_ray.spec import BackboneSpec
from adiabatic_ray.statistics.blocks import PASSAGE_TOWER
from adiabatic_ray.storage import open_folder

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_ONLY_TRAINING = re.compile(r"dropout|initializer|use_cache|bos_token|eos_token")
"""Fields of a configuration that an encoder in evaluation mode does not read."""


@dataclass(frozen=True)
class GivenTower:
    """A tower that is ready to be scored."""

    name: str
    """As it was given: a folder or a hub id."""
    changed: Mapping[str, np.ndarray]
    """float32 tensors in which it differs from its base, by name."""
    notes: tuple[str, ...]
    """What a reader of its scores has to know: sentences that go on after "The tower", without a full stop."""


def read_tower(tower: str, base: Backbone, query_texts: Sequence[str]) -> GivenTower:
    """Read a tower and check that it can stand in the place of its base's query tower.

    Args:
        tower: a folder below OUT/towers of a sweep, a path or a URI; a transformers or sentence-transformers folder;
            or a hub id.
        base: the untuned backbone that it was tuned from, and that the passages are embedded with.
        query_texts: the texts that will be scored; a checkpoint's tokenizer must give the same ids for each.

    Raises:
        ValueError: no such folder or repository, a tower of another backbone, another architecture, embedding size or
            tokenizer, modules that change the embedding, or tensors that are not finite.
    """
    folder = open_folder(tower)
    notes: tuple[str, ...] = ()
    if not isinstance(folder, Path) or (folder / tower_files.FILE_NAME).is_file():  # a bucket holds no checkpoints
        changed = tower_files.load_changed(folder, base.spec.name, base.encoder_digest)
        _check_shapes(tower, changed, base)
        if tower_files.passage_part(changed):
            notes = ("comes with a tuned passage tower, which embeds the passages that it is scored on",)
    else:
        encoder_folder, notes = sentence_folders.encoder_of(_checkpoint(tower, folder), base.spec)
        checkpoint = _load_beside(encoder_folder, base.spec)
        _check_same_function(tower, checkpoint, base, query_texts)
        changed = towers.changed_tensors(base, checkpoint.weights)
    broken = sorted(name for name, value in changed.items() if not np.isfinite(value).all())
    if broken:
        raise ValueError(f"a tower's tensors must be finite, got inf or NaN in {broken[:5]} of {tower}; tune it again")
    return GivenTower(tower, changed, notes)


def _checkpoint(tower: str, folder: Path) -> Path:
    """The folder of a checkpoint, from the hub where it is no folder."""
    if folder.is_dir():
        return folder
    if folder.exists() or not _HUB_ID.fullmatch(tower):
        siblings = [one.name for one in folder.parent.iterdir()] if folder.parent.is_dir() else []
        near = difflib.get_close_matches(folder.name, siblings, n=3)
        raise ValueError(
            "a tower is a folder below OUT/towers, a transformers or sentence-transformers folder, or a hub id, got "
            f"{tower}, which is {'a file' if folder.exists() else 'not there'}; "
            + (f"near: {', '.join(near)}" if near else "correct the path")
        )
    try:
        cached = download(BackboneSpec(name=tower))
        _download_modules(tower, cached)
    except ValueError as error:
        raise ValueError(f"{tower} is no folder here, and as a hub id: {error}") from error
    return cached


def _download_modules(name: str, cached: Path) -> None:
    """Bring what `sentence_folders` reads into the cache; a repository without it is a plain checkpoint."""
    try:
        hf_hub_download(name, sentence_folders.MODULES_FILE, revision=cached.name)
        for file in sentence_folders.pooling_files(cached):
            hf_hub_download(name, file, revision=cached.name)
    except LocalEntryNotFoundError as error:  # offline: what is not in the cache may still be in the repository
        raise ValueError(
            f"whether {name} has modules beside its encoder must be known, got {error}; run `hf download {name}` once, "
            f"or give the folder {cached}"
        ) from error
    except EntryNotFoundError:
        return
    except (OSError, HfHubHTTPError) as error:
        raise ValueError(f"the modules of {name} must be readable, got {error}; try again, or give a folder") from error


def _load_beside(folder: Path, base: BackboneSpec) -> Backbone:
    """A checkpoint under the conventions of the base."""
    place = {"name": str(folder), "source": "folder", "revision": None, "encoder_digest": None}
    return load_backbone(base.model_copy(update=place))


def _check_same_function(tower: str, checkpoint: Backbone, base: Backbone, query_texts: Sequence[str]) -> None:
    """Refuse a checkpoint that is not the base with other tensors."""
    if checkpoint.embedding_size != base.embedding_size:
        raise ValueError(
            f"a tower must give embeddings of its base's size, {base.embedding_size}, to be compared with the stored "
            f"passages; got {checkpoint.embedding_size} from {tower}; give the base that it was tuned from"
        )
    wanted, got = _architecture(base), _architecture(checkpoint)
    different = [name for name in wanted | got if wanted.get(name) != got.get(name)]
    if different:
        words = ", ".join(f"{name} {got.get(name)} for {wanted.get(name)}" for name in different[:5])
        raise ValueError(
            f"a tower must have the architecture of its base, {base.spec.name}, got {words} in {tower}; give the base "
            "that it was tuned from"
        )
    _check_shapes(tower, checkpoint.weights, base)
    if checkpoint.tokenizer_json != base.tokenizer_json:
        _check_token_ids(tower, checkpoint, base, query_texts)


def _architecture(backbone: Backbone) -> dict[str, Any]:
    """Model type, and the fields that this type's configuration adds to every model's, but for those of training."""
    model_type = backbone.config["model_type"]
    own = AutoConfig.for_model(model_type).to_dict().keys() - PreTrainedConfig().to_dict().keys()
    fields = {name: backbone.config.get(name) for name in sorted(own) if not _ONLY_TRAINING.search(name)}
    return {"model_type": model_type, **fields}


def _check_shapes(tower: str, tensors: Mapping[str, np.ndarray], base: Backbone) -> None:
    for name, value in tensors.items():
        its_name = name.removeprefix(PASSAGE_TOWER)
        wanted = base.weights[its_name].shape if its_name in base.weights else "none"
        if value.shape != wanted:
            raise ValueError(
                f"a tower must have the tensors of its base, {base.spec.name}, got {name} of shape {value.shape} for "
                f"{wanted} in {tower}; give the base that it was tuned from"
            )


def _check_token_ids(tower: str, checkpoint: Backbone, base: Backbone, query_texts: Sequence[str]) -> None:
    """By what the tokenizers do to the texts at hand: their files differ between library versions."""
    prefix = base.spec.query_prefix
    wanted, got = (backbone.tokenize(query_texts, prefix) for backbone in (base, checkpoint))
    different = [row for row in range(len(query_texts)) if not np.array_equal(_ids(wanted, row), _ids(got, row))]
    if different:
        first = different[0]
        raise ValueError(
            f"a tower must have the tokenizer of its base, {base.spec.name}, got other ids from {tower} for "
            f"{len(different):,} of {len(query_texts):,} queries, the first {query_texts[first]!r:.80}: "
            f"{_ids(got, first).tolist()[:8]} for {_ids(wanted, first).tolist()[:8]}; give the base that it was tuned "
            "from"
        )


def _ids(texts: TokenizedTexts, row: int) -> np.ndarray:
    ids: np.ndarray = texts.ids[texts.offsets[row] : texts.offsets[row + 1]]
    return ids
