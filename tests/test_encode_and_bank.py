"""Encoding in a fixed layout, and the bank: whole or absent, checked, resumable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adiabatic_ray.encoders.backbones import Backbone, load_backbone
from adiabatic_ray.encoders.towers import with_tensors
from adiabatic_ray.evaluation import bank
from adiabatic_ray.evaluation.encode import encode, encode_together, plan_batches
from tests.tiny import save_tiny_bert, tiny_spec

TEXTS = [f"text number {number} " + "word " * (number % 7) for number in range(23)]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_spec(save_tiny_bert(tmp_path_factory.mktemp("encoder"))))


@given(st.lists(st.integers(1, 300), min_size=1, max_size=80), st.integers(64, 600))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    lengths_N = np.array(lengths)
    batches = plan_batches(lengths_N, budget)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for rows_B in batches:
        assert len(rows_B) == 1 or len(rows_B) * lengths_N[rows_B].max() <= budget
    longest = [lengths_N[rows_B].max() for rows_B in batches]
    assert longest == sorted(longest, reverse=True)


def test_encoding_is_in_order_and_agrees_with_one_text_at_a_time(backbone: Backbone) -> None:
    tower = backbone.build_tower()
    tokens = backbone.tokenize(TEXTS, "query: ")
    together_ND = encode(tower, tokens, 512)
    alone_ND = np.concatenate([encode(tower, tokens.select(np.array([row])), 512) for row in range(len(TEXTS))])
    assert together_ND.dtype == np.float32
    np.testing.assert_allclose(together_ND, alone_ND, atol=2e-6)
    assert np.array_equal(together_ND, encode(tower, tokens, 512))


def test_towers_together_encode_as_each_does_alone(backbone: Backbone) -> None:
    """Bit for bit, in several batches; what they do not change they share."""
    draw = np.random.default_rng(0)
    untuned = backbone.build_tower()
    names = [name for name in backbone.weights if name.startswith("encoder.layer.1.")]
    changes = [
        {name: backbone.weights[name] + scale * draw.standard_normal(backbone.weights[name].shape, np.float32)}
        for name, scale in zip(names, (0.01, 0.1, 1.0), strict=False)
    ]
    towers = [untuned, *(with_tensors(untuned, changed) for changed in changes)]
    texts = backbone.tokenize([f"{'so ' * (row % 7)}text {row}" for row in range(23)], "query: ")
    together = encode_together(towers, texts, 64)
    for tower, found in zip(towers, together, strict=True):
        assert np.array_equal(found, encode(tower, texts, 64))
    assert len({found.tobytes() for found in together}) == 4
    for changed, tower in zip(changes, towers[1:], strict=True):
        for (name, own), (_, base) in zip(tower.named_parameters(), untuned.named_parameters(), strict=True):
            assert (own is base) == (name.removeprefix("model.") not in changed), name
        (name,) = changed
        assert np.array_equal(dict(tower.model.named_parameters())[name].numpy(), changed[name])


def test_bf16_moves_embeddings_a_little_and_only_where_it_is_asked_for(backbone: Backbone) -> None:
    texts, tower = backbone.tokenize([f"text {row}" for row in range(9)], "query: "), backbone.build_tower()
    exact, rounded = encode(tower, texts, 64), encode(tower, texts, 64, "bf16")
    assert rounded.dtype == np.float32 and not np.array_equal(exact, rounded)
    assert np.abs(exact - rounded).max() < 2**-5 * np.abs(exact).max()  # bf16 has 8 bits of precision
    assert np.array_equal(encode(tower, texts, 64), exact)


def test_no_texts_is_an_error(backbone: Backbone) -> None:
    with pytest.raises(ValueError, match="at least one text"):
        encode(backbone.build_tower(), backbone.tokenize([], ""), 512)


def _key(num_texts: int = 10, **changes: object) -> bank.BankKey:
    key = bank.BankKey("w", "mean", "passage: ", 64, bank.digest_of_texts(TEXTS[:num_texts]), num_texts, 512)
    return replace(key, **changes)  # type: ignore[arg-type]


def _build(root: Path, key: bank.BankKey) -> np.ndarray:
    for number, (start, stop) in enumerate(key.shards()):
        bank.store_shard(root, key, number, np.arange(start * 4, stop * 4, dtype=np.float32).reshape(-1, 4))
    bank.assemble(root, key)
    built_PD = bank.open_bank(root, key)
    assert built_PD is not None
    return built_PD


def test_a_bank_is_what_its_shards_were(tmp_path: Path) -> None:
    key = _key(num_texts=23)
    many = replace(key, num_texts=2 * bank.SHARD_TEXTS + 1)
    assert many.shards() == [(0, 256), (256, 512), (512, 513)]
    built_PD = _build(tmp_path, many)
    assert built_PD.shape == (513, 4) and not built_PD.flags.writeable
    assert np.array_equal(built_PD.ravel(), np.arange(513 * 4, dtype=np.float32))
    assert [path.name for path in tmp_path.iterdir()] == [many.digest]


def test_a_half_built_bank_is_not_opened_but_its_shards_are_used(tmp_path: Path) -> None:
    key = _key(num_texts=2 * bank.SHARD_TEXTS)
    bank.store_shard(tmp_path, key, 1, np.zeros((bank.SHARD_TEXTS, 4), np.float32))
    assert bank.open_bank(tmp_path, key) is None
    assert list(bank.finished_shards(tmp_path, key)) == [1]


@pytest.mark.parametrize("damage", ["flip", "truncate", "description"])
def test_a_damaged_bank_is_set_aside_and_can_be_built_again(tmp_path: Path, damage: str) -> None:
    key = _key()
    _build(tmp_path, key)
    path = tmp_path / key.digest / ("bank.json" if damage == "description" else "embeddings.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content if damage == "flip" else content[: len(content) // 2])
    assert bank.open_bank(tmp_path, key) is None
    assert _build(tmp_path, key).shape == (10, 4)


def test_a_bank_of_another_backbone_is_refused(tmp_path: Path) -> None:
    key, other = _key(), _key(encoder_digest="other")
    assert key.digest != other.digest
    _build(tmp_path, other)
    (tmp_path / other.digest).rename(tmp_path / key.digest)
    with pytest.raises(ValueError, match="bank of another backbone"):
        bank.open_bank(tmp_path, key)


def test_numbers_that_are_not_finite_never_become_a_bank(tmp_path: Path) -> None:
    key = _key()
    bank.store_shard(tmp_path, key, 0, np.full((10, 4), np.nan, np.float32))
    with pytest.raises(ValueError, match="must be finite"):
        bank.assemble(tmp_path, key)
    assert bank.open_bank(tmp_path, key) is None and not bank.finished_shards(tmp_path, key)


def test_lists_of_texts_with_other_borders_have_other_digests() -> None:
    assert bank.digest_of_texts(["ab", "c"]) != bank.digest_of_texts(["a", "bc"])
