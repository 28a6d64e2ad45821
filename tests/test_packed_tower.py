"""A packed tower computes what each of its members would compute alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts, load_backbone
from adiabatic_ray.evaluation.encode import pad
from adiabatic_ray.tuning.packed_tower import PackedTower
from adiabatic_ray.tuning.token_rows import lay_out
from adiabatic_ray.tuning.tune import trainable_names
from tests.tiny import save_tiny_bert, save_tiny_xlm_roberta, tiny_spec

TEXTS = ["a", "hello wörld, how are you?", "日本語", "one more", "and another one", "the last"]
ROWS_KB = np.array([[0, 1, 2], [3, 4, 5], [5, 1, 0]])
ROUNDING = 5e-6
"""Largest difference of an embedding of size 1 over two blocks: a few dozen float32 roundings."""


@pytest.fixture(scope="module", params=[save_tiny_bert, save_tiny_xlm_roberta])
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    save: Callable[..., Path] = request.param
    return load_backbone(tiny_spec(save(tmp_path_factory.mktemp("encoder"))))


def _perturbed(backbone: Backbone, names: list[str], seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        name: (backbone.weights[name] + generator.normal(0, 0.05, backbone.weights[name].shape)).astype(np.float32)
        for name in names
    }


def _load(packed: PackedTower, slot: int, values: dict[str, np.ndarray]) -> None:
    with torch.no_grad():
        for name, parameter in packed.parameters_of(slot).items():
            if name in values:
                parameter.copy_(torch.from_numpy(values[name]))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize(
    "freeze", ["embeddings", "emb.base", "", "embeddings, B0", "B1", "*.LayerNorm.*", "*.bias", "*.weight"]
)
def test_members_embed_and_learn_as_towers_do(backbone: Backbone, freeze: str, pooling: str) -> None:
    backbone = replace(backbone, spec=backbone.spec.model_copy(update={"pooling": pooling}))
    names = trainable_names(backbone, freeze)[0] if freeze else list(backbone.weights)
    texts = backbone.tokenize(TEXTS, "query: ")
    packed = PackedTower(backbone, 3, names)
    embeddings_KBD = []
    for member, rows_B in enumerate(ROWS_KB):
        values = _perturbed(backbone, names, member)
        _load(packed, member, values)
        tower = backbone.build_tower(names)
        parameters = dict(tower.model.named_parameters())
        for name, value in values.items():
            parameters[name].data.copy_(torch.from_numpy(value))
        expected_BD = tower(*pad(texts, rows_B, torch.device("cpu")))
        expected_BD.square().sum().backward()
        embeddings_KBD.append((expected_BD, {name: parameters[name].grad for name in names}))
    got_KBD = packed.embed(lay_out(texts, ROWS_KB))
    got_KBD.square().sum().backward()
    for member, (expected_BD, gradients) in enumerate(embeddings_KBD):
        torch.testing.assert_close(got_KBD[member], expected_BD, rtol=0, atol=ROUNDING)
        for name, gradient in gradients.items():
            of_member = packed.stacked[name].grad
            assert of_member is not None and gradient is not None
            torch.testing.assert_close(of_member[member], gradient, rtol=1e-4, atol=2e-4)


def test_members_with_the_same_texts_share_the_frozen_prefix(backbone: Backbone) -> None:
    texts = backbone.tokenize(TEXTS, "query: ")
    names = trainable_names(backbone, "embeddings, B0")[0]
    packed = PackedTower(backbone, 3, names)
    for member in range(3):
        _load(packed, member, _perturbed(backbone, names, member))
    apart = packed.embed(lay_out(texts, np.stack([ROWS_KB[0]] * 3)))
    for_all = packed.embed(lay_out(texts, ROWS_KB[:1]))
    torch.testing.assert_close(for_all, apart, rtol=0, atol=ROUNDING)
    chosen = packed.embed(lay_out(texts, ROWS_KB[:2]), torch.tensor([0, 1, 0]))
    torch.testing.assert_close(chosen[0], apart[0], rtol=0, atol=ROUNDING)
    torch.testing.assert_close(chosen[2], apart[2], rtol=0, atol=ROUNDING)
    assert not torch.allclose(chosen[1], apart[1], atol=1e-2)


def test_a_member_that_is_not_finite_leaves_the_others_alone(backbone: Backbone) -> None:
    texts = backbone.tokenize(TEXTS, "query: ")
    names = trainable_names(backbone, "embeddings")[0]
    packed = PackedTower(backbone, 3, names)
    before = packed.embed(lay_out(texts, ROWS_KB)).detach().clone()
    _load(packed, 1, {names[0]: np.full_like(backbone.weights[names[0]], np.nan)})
    after = packed.embed(lay_out(texts, ROWS_KB))
    after.nan_to_num().sum().backward()
    assert after[1].isnan().all()
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    gradient = packed.stacked[names[-1]].grad
    assert gradient is not None and gradient[[0, 2]].isfinite().all()


@given(
    lengths=st.lists(st.lists(st.integers(1, 9), min_size=2, max_size=2), min_size=1, max_size=4),
    multiple=st.sampled_from([1, 8, 16]),
)
def test_rows_hold_every_token_once(lengths: list[list[int]], multiple: int) -> None:
    flat = [length for row in lengths for length in row]
    offsets = np.concatenate([[0], np.cumsum(flat)])
    texts = TokenizedTexts(np.arange(1, offsets[-1] + 1, dtype=np.int32), offsets)
    rows_MB = np.arange(len(flat)).reshape(len(lengths), 2)
    rows = lay_out(texts, rows_MB, multiple)
    assert rows.ids_MS.shape[1] % multiple == 0
    for row, (first, second) in enumerate(lengths):
        total = first + second
        ids = rows.ids_MS[row].tolist()
        start = int(offsets[2 * row])
        assert ids[:total] == list(range(start + 1, start + total + 1)) and not any(ids[total:])
        assert rows.positions_MS[row, :total].tolist() == [*range(first), *range(second)]
        texts_of_tokens = [0] * first + [1] * second + [2] * (len(ids) - total)
        assert rows.text_of_token_MS[row].tolist() == texts_of_tokens
