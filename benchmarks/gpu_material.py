"""Encoder, token ids and labels in a folder of some 40 MB, for a machine without registry, tokenizer or data sets.

The encoder is trimmed to the tokens that its texts use; ids are renumbered to match. A matrix whose weights are four
bits and a scale (the packaged E5's: see `check_weight_rounding`) is stored so, in its package's own blocks, and comes
back bit for bit; any other tensor is stored as it is.

    weights.npz   name -> float32 tensor, or uint8 [blocks, 18] beside name + "/shape"
    buffers.npz   name -> constant tensor of the encoder
    texts.npz     "<set>/<field>" -> array; token ids flat, with the length of each text
    bundle.json   configuration, conventions, names of the sets, what was checked

Legend: Q queries, P passages, L languages, U unique queries a language, N pairs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts, digest_of_encoder
from adiabatic_ray.encoders.packaged_e5 import dequantize
from adiabatic_ray.spec import BackboneSpec

BLOCK_WEIGHTS = 32
NO_TOKENIZER = ""


@dataclass(frozen=True)
class TripletTokens:
    """A part of a triplet set as numbers; positives of query q are rows offsets[q] to offsets[q + 1] of the list."""

    queries: TokenizedTexts
    passages: TokenizedTexts
    positive_rows: np.ndarray
    positive_offsets_Q1: np.ndarray
    negative_rows: np.ndarray
    negative_offsets_Q1: np.ndarray
    cluster_of_query_Q: np.ndarray


@dataclass(frozen=True)
class PairTokens:
    """Labelled pairs in several languages as numbers."""

    queries: TokenizedTexts
    """L * U, language after language."""
    passages: TokenizedTexts
    """L * N, language after language."""
    query_of_pair_N: np.ndarray
    cluster_of_pair_N: np.ndarray
    label_of_pair_N: np.ndarray
    languages: np.ndarray
    labels: np.ndarray
    """Names, the positive label first."""


@dataclass(frozen=True)
class Material:
    """All that the measurements read."""

    backbone: Backbone
    triplets: dict[str, TripletTokens]
    """By set and part: `msmarco-tune`, `msmarco-validation`, `squad-tune`, `squad-validation`, `squad-evaluation`."""
    xnli: PairTokens


def trimmed(material: Material) -> tuple[Material, np.ndarray]:
    """The same texts with an encoder that knows their tokens alone, and the former id of each row of its table.

    Rows up to the padding id stay where they are, so that the configuration's special ids keep their meaning.
    """
    sets: list[TripletTokens | PairTokens] = [*material.triplets.values(), material.xnli]
    texts = [one for part in sets for one in (part.queries, part.passages)]
    config, name = material.backbone.config, "embeddings.word_embeddings.weight"
    special = np.arange(int(config["pad_token_id"] or 0) + 1)
    former_ids_V = np.unique(np.concatenate([special, *(one.ids for one in texts)]))

    def renumbered(one: TokenizedTexts) -> TokenizedTexts:
        return TokenizedTexts(np.searchsorted(former_ids_V, one.ids).astype(np.int32), one.offsets)

    def of_part(part: Any) -> Any:
        return replace(part, queries=renumbered(part.queries), passages=renumbered(part.passages))

    weights = material.backbone.weights | {name: material.backbone.weights[name][former_ids_V]}
    backbone = _backbone(
        material.backbone.spec, config | {"vocab_size": len(former_ids_V)}, weights, material.backbone.buffers
    )
    triplets = {key: of_part(part) for key, part in material.triplets.items()}
    return Material(backbone, triplets, of_part(material.xnli)), former_ids_V


def write_material(folder: Path, material: Material, notes: dict[str, Any]) -> None:
    """Write a bundle's files.

    Args:
        folder: exists.
        material: trimmed.
        notes: kept in `bundle.json`.
    """
    weights: dict[str, np.ndarray] = {}
    for name, value in material.backbone.weights.items():
        blocks = to_blocks(value)
        weights |= {name: value} if blocks is None else {name: blocks, f"{name}/shape": np.array(value.shape)}
    np.savez(folder / "weights.npz", **weights)  # type: ignore[arg-type]  # the stub takes every keyword for a flag
    np.savez(folder / "buffers.npz", **material.backbone.buffers)  # type: ignore[arg-type]  # the stub takes every keyword for a flag
    texts: dict[str, np.ndarray] = {}
    parts: dict[str, TripletTokens | PairTokens] = {**material.triplets, "xnli": material.xnli}
    for key, part in parts.items():
        for field in fields(part):
            value = getattr(part, field.name)
            if isinstance(value, TokenizedTexts):
                texts[f"{key}/{field.name}.ids"], value = value.ids, value.lengths().astype(np.int32)
            texts[f"{key}/{field.name}"] = value
    np.savez_compressed(folder / "texts.npz", **texts)  # type: ignore[arg-type]
    about = {
        "config": material.backbone.config,
        "spec": material.backbone.spec.model_dump(mode="json"),
        "triplets": list(material.triplets),
        "encoder_digest": material.backbone.encoder_digest,
        **notes,
    }
    (folder / "bundle.json").write_text(json.dumps(about, indent=1), encoding="utf-8")


def read_material(folder: Path) -> Material:
    """Read what `write_material` wrote.

    Raises:
        ValueError: no bundle there, or weights that are not those that were written.
    """
    if not (folder / "bundle.json").is_file():
        raise ValueError(f"a bundle must hold bundle.json, got none in {folder}; write one: make gpu-bundle")
    about = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    stored, texts = np.load(folder / "weights.npz"), np.load(folder / "texts.npz")
    weights = {
        name: dequantize(stored[name]).reshape(stored[f"{name}/shape"]) if f"{name}/shape" in stored else stored[name]
        for name in stored.files
        if not name.endswith("/shape")
    }
    buffers = dict(np.load(folder / "buffers.npz"))
    backbone = _backbone(BackboneSpec(**about["spec"]), about["config"], weights, buffers)
    if backbone.encoder_digest != about["encoder_digest"]:
        raise ValueError(
            f"the encoder of a bundle must come back as it was written, with digest {about['encoder_digest']}, got "
            f"{backbone.encoder_digest}; write the bundle again: make gpu-bundle"
        )

    def part(kind: type[Any], key: str) -> Any:
        values = {}
        for field in fields(kind):
            values[field.name] = value = texts[f"{key}/{field.name}"]
            if f"{key}/{field.name}.ids" in texts:
                offsets = np.concatenate([[0], np.cumsum(value, dtype=np.int64)])
                values[field.name] = TokenizedTexts(texts[f"{key}/{field.name}.ids"], offsets)
        return kind(**values)

    triplets = {key: part(TripletTokens, key) for key in about["triplets"]}
    return Material(backbone, triplets, part(PairTokens, "xnli"))


def first_triplets(part: TripletTokens, num_queries: int) -> TripletTokens:
    """The first queries of a part, with the passages that they name."""
    positives = part.positive_rows[: part.positive_offsets_Q1[: num_queries + 1][-1]]
    negatives = part.negative_rows[: part.negative_offsets_Q1[: num_queries + 1][-1]]
    kept = np.unique(np.concatenate([positives, negatives]))
    return TripletTokens(
        part.queries.select(np.arange(min(num_queries, len(part.queries)))),
        part.passages.select(kept),
        np.searchsorted(kept, positives),
        part.positive_offsets_Q1[: num_queries + 1],
        np.searchsorted(kept, negatives),
        part.negative_offsets_Q1[: num_queries + 1],
        part.cluster_of_query_Q[:num_queries],
    )


def first_pairs(pairs: PairTokens, num_languages: int, num_queries: int) -> PairTokens:
    """The pairs of the first queries in the first languages."""
    per_language = len(pairs.queries) // len(pairs.languages)
    chosen_N = np.flatnonzero(pairs.query_of_pair_N < num_queries)
    places = range(min(num_languages, len(pairs.languages)))
    queries = [place * per_language + np.arange(min(num_queries, per_language)) for place in places]
    passages = [place * len(pairs.query_of_pair_N) + chosen_N for place in places]
    return PairTokens(
        pairs.queries.select(np.concatenate(queries)),
        pairs.passages.select(np.concatenate(passages)),
        pairs.query_of_pair_N[chosen_N],
        pairs.cluster_of_pair_N[chosen_N],
        pairs.label_of_pair_N[chosen_N],
        pairs.languages[: len(places)],
        pairs.labels,
    )


def to_blocks(weights: np.ndarray) -> np.ndarray | None:
    """Blocks of which `dequantize` makes exactly these weights; None where four bits and a scale can't say them.

    Args:
        weights: float32 of any shape.

    Returns:
        uint8 [num_blocks, 18], in the layout of `packaged_e5`.
    """
    if weights.ndim != 2 or weights.size % BLOCK_WEIGHTS:
        return None
    blocks_BW = weights.reshape(-1, BLOCK_WEIGHTS)
    # The weight of largest size is -8 steps: so the package's blocks were made.
    largest_B1 = np.take_along_axis(blocks_BW, np.abs(blocks_BW).argmax(axis=1)[:, None], axis=1)
    scales_B1 = (largest_B1 / np.float32(-8)).astype("<f2")
    steps_B1 = scales_B1.astype(np.float32)
    units_BW = np.rint(blocks_BW / np.where(steps_B1 == 0, 1, steps_B1)) + 8
    nibbles_BW = np.clip(np.nan_to_num(units_BW), 0, 15).astype(np.uint8)
    half = BLOCK_WEIGHTS // 2
    packed = nibbles_BW[:, :half] | (nibbles_BW[:, half:] << 4)
    blocks: np.ndarray = np.concatenate([np.ascontiguousarray(scales_B1).view(np.uint8).reshape(-1, 2), packed], axis=1)
    return blocks if dequantize(blocks).tobytes() == weights.tobytes() else None


def _backbone(
    spec: BackboneSpec, config: dict[str, Any], weights: dict[str, np.ndarray], buffers: dict[str, np.ndarray]
) -> Backbone:
    """A backbone that can't tokenise."""
    for value in weights.values():
        value.flags.writeable = False
    return Backbone(
        spec, config, weights, NO_TOKENIZER, digest_of_encoder(weights, buffers, config, NO_TOKENIZER), buffers
    )
