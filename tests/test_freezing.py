"""Freeze plans against the real parameter names of multilingual-e5-small and of tiny DistilBERT and T5 encoders.

Sizes of E5-small by hand (hidden 384, feed-forward 1536, vocabulary 250,037, 512 positions, 2 types, 12 blocks):
word 250,037 x 384 = 96,014,208; positions 512 x 384 = 196,608; types 2 x 384 = 768; LayerNorm 2 x 384 = 768.
Attention: query, key, value, output dense 4 x (384 x 384 + 384) = 591,360, LayerNorm 768: 592,128 in 10 tensors.
Intermediate: 384 x 1536 + 1536 = 591,360. Output dense: 1536 x 384 + 384 = 590,208. Its LayerNorm 768.
A block: 1,774,464 in 16 tensors. All of it: 96,212,352 + 12 x 1,774,464 = 117,505,920 in 5 + 12 x 16 = 197 tensors.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, T5Config, T5EncoderModel

from adiabatic_ray.encoders.freezing import (
    count_parameters,
    find_block_prefix,
    frozen_names,
    parse_plan,
    trainable_names,
)

E5_CONFIG = BertConfig(
    vocab_size=250_037, hidden_size=384, num_hidden_layers=12, num_attention_heads=12, intermediate_size=1536
)
with torch.device("meta"):
    E5_SHAPES = {
        name: tuple(parameter.shape)
        for name, parameter in BertModel(E5_CONFIG, add_pooling_layer=False).named_parameters()
    }
    DISTILBERT_NAMES = [name for name, _ in DistilBertModel(DistilBertConfig(n_layers=2)).named_parameters()]
    T5_NAMES = [name for name, _ in T5EncoderModel(T5Config(num_layers=2)).named_parameters()]
    T5_GATED_NAMES = [
        name for name, _ in T5EncoderModel(T5Config(num_layers=2, feed_forward_proj="gated-gelu")).named_parameters()
    ]
E5_NAMES = list(E5_SHAPES)


def short_names(plan: str, names: list[str], num_blocks: int = 2) -> set[str]:
    return set(frozen_names(parse_plan(plan), names, num_blocks))


@pytest.mark.parametrize(
    ("plan", "num_tensors", "num_frozen"),
    [
        ("", 0, 0),
        ("emb.base", 3, 96_211_584),
        ("emb", 5, 96_212_352),
        ("embeddings", 5, 96_212_352),
        ("emb, B0a", 15, 96_804_480),
        ("emb, B0a,i", 17, 97_395_840),
        ("emb, B0a,i,od", 19, 97_986_048),
        ("emb, B0", 21, 97_986_816),
        ("emb, B0-5", 101, 106_859_136),
        ("emb, B0-10", 181, 115_731_456),
        ("output.dense.weight", 12, 7_077_888),
        ("embeddings, output.dense.weight", 17, 103_290_240),
        ("*.LayerNorm.*", 50, 19_200),
        ("emb, B0-11", 197, 117_505_920),
    ],
)
def test_rows_of_table_1_have_the_sizes_computed_by_hand(plan: str, num_tensors: int, num_frozen: int) -> None:
    frozen = frozen_names(parse_plan(plan), E5_NAMES, 12)
    assert len(frozen) == num_tensors
    assert count_parameters(E5_SHAPES, frozen) == (117_505_920 - num_frozen, num_frozen)


def test_parts_of_a_block_are_the_named_tensors() -> None:
    attention = {
        f"encoder.layer.0.attention.{part}.{kind}"
        for part in ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm")
        for kind in ("weight", "bias")
    }
    intermediate = {f"encoder.layer.0.intermediate.dense.{kind}" for kind in ("weight", "bias")}
    output_dense = {f"encoder.layer.0.output.dense.{kind}" for kind in ("weight", "bias")}
    assert short_names("B0a", E5_NAMES, 12) == attention
    assert short_names("B0i", E5_NAMES, 12) == intermediate
    assert short_names("B0a,i,od", E5_NAMES, 12) == attention | intermediate | output_dense
    assert short_names("B0", E5_NAMES, 12) - short_names("B0a,i,od", E5_NAMES, 12) == {
        f"encoder.layer.0.output.LayerNorm.{kind}" for kind in ("weight", "bias")
    }


def test_block_1_is_not_block_10_or_11() -> None:
    assert {name.split(".")[2] for name in short_names("B1", E5_NAMES, 12)} == {"1"}
    assert {name.split(".")[2] for name in short_names("B9-11a", E5_NAMES, 12)} == {"9", "10", "11"}


def test_output_dense_weight_is_the_feed_forward_one_in_every_layout() -> None:
    assert short_names("output.dense.weight", E5_NAMES, 12) == {
        f"encoder.layer.{number}.output.dense.weight" for number in range(12)
    }
    assert short_names("output.dense.weight", DISTILBERT_NAMES) == {
        f"transformer.layer.{number}.ffn.lin2.weight" for number in range(2)
    }
    assert short_names("output.dense.weight", T5_NAMES) == {
        f"encoder.block.{number}.layer.1.DenseReluDense.wo.weight" for number in range(2)
    }


def test_distilbert_parts() -> None:
    assert short_names("emb.base", DISTILBERT_NAMES) == {
        "embeddings.word_embeddings.weight",
        "embeddings.position_embeddings.weight",
    }
    assert short_names("emb", DISTILBERT_NAMES) - short_names("emb.base", DISTILBERT_NAMES) == {
        "embeddings.LayerNorm.weight",
        "embeddings.LayerNorm.bias",
    }
    attention = {
        f"transformer.layer.1.{part}.{kind}"
        for part in ("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm")
        for kind in ("weight", "bias")
    }
    assert short_names("B1a", DISTILBERT_NAMES) == attention
    assert short_names("B1a,i", DISTILBERT_NAMES) - attention == {
        "transformer.layer.1.ffn.lin1.weight",
        "transformer.layer.1.ffn.lin1.bias",
    }
    assert short_names("B1", DISTILBERT_NAMES) - short_names("B1a,i,od", DISTILBERT_NAMES) == {
        "transformer.layer.1.output_layer_norm.weight",
        "transformer.layer.1.output_layer_norm.bias",
    }


def test_t5_parts() -> None:
    assert short_names("emb", T5_NAMES) == short_names("emb.base", T5_NAMES) == {"shared.weight"}
    attention = {f"encoder.block.0.layer.0.SelfAttention.{part}.weight" for part in "qkvo"} | {
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "encoder.block.0.layer.0.layer_norm.weight",
    }
    assert short_names("B0a", T5_NAMES) == attention
    assert short_names("B0i", T5_NAMES) == {"encoder.block.0.layer.1.DenseReluDense.wi.weight"}
    assert short_names("B0i", T5_GATED_NAMES) == {
        "encoder.block.0.layer.1.DenseReluDense.wi_0.weight",
        "encoder.block.0.layer.1.DenseReluDense.wi_1.weight",
    }
    assert short_names("B0", T5_NAMES) - short_names("B0a,i,od", T5_NAMES) == {
        "encoder.block.0.layer.1.layer_norm.weight"
    }


def test_block_prefix_is_the_outermost_list() -> None:
    assert find_block_prefix(E5_NAMES, 12) == "encoder.layer."
    assert find_block_prefix(DISTILBERT_NAMES) == "transformer.layer."
    # two blocks of two layers each: the inner list has as many numbers as the outer one
    assert find_block_prefix(T5_NAMES, 2) == find_block_prefix(T5_NAMES) == "encoder.block."


def test_a_list_inside_a_block_is_never_the_blocks() -> None:
    three_blocks = [*T5_NAMES, *(name.replace("block.1.", "block.2.") for name in T5_NAMES if "block.1." in name)]
    assert find_block_prefix(three_blocks, 3) == "encoder.block."
    with pytest.raises(ValueError, match=r"2 numbered blocks to freeze by block, got \{'encoder.block.': 3"):
        find_block_prefix(three_blocks, 2)


def test_shared_blocks_cannot_be_frozen_by_number_but_by_glob() -> None:
    names = ["embeddings.word_embeddings.weight", "encoder.groups.0.layers.0.ffn.weight", "encoder.map.weight"]
    with pytest.raises(ValueError, match=r"12 numbered blocks.*'encoder.groups.': 1.*globs"):
        frozen_names(["B0"], names, 12)
    assert frozen_names(["emb", "encoder.groups.*"], names, 12) == set(names[:2])


def test_parts_of_an_unknown_layout_are_refused_but_whole_blocks_work() -> None:
    names = ["layers.0.attn.weight", "layers.0.mlp.weight", "layers.1.attn.weight", "layers.1.mlp.weight"]
    assert frozen_names(["B0"], names, 2) == set(names[:2])
    with pytest.raises(ValueError, match=r"encoder.layer.*got 'layers.'.*'layers.0.\*'"):
        frozen_names(["B0a"], names, 2)


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        ("", ()),
        ("  ", ()),
        ("emb", ("emb",)),
        ("emb, B0a,i,od", ("emb", "B0a,i,od")),
        ("B0a, i ,od,B1", ("B0a,i,od", "B1")),
        ("B0-5a,od, *.LayerNorm.*", ("B0-5a,od", "*.LayerNorm.*")),
    ],
)
def test_parse_plan(text: str, elements: tuple[str, ...]) -> None:
    assert parse_plan(text) == elements


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("emb,,B0", "must not be empty"),
        ("emb,", "must not be empty"),
        ("i", "'i' alone in 'i'; write e.g. B0i"),
        ("emb, od", "write e.g. B0od"),
        ("B0,i", "'i' alone in 'B0,i'"),
    ],
)
def test_parse_plan_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_plan(text)


@pytest.mark.parametrize(
    ("element", "near_miss"),
    [
        ("embedings", "embeddings"),
        ("b0", "B0"),
        ("emb.bas", "emb.base"),
        ("*.LayerNrom.*", r"\*\.LayerNorm\.\*"),
        ("encoder.layer.3.output.dens.weight", r"encoder\.layer\.3\.output\.dense\.weight"),
        ("B0x", "B0"),
    ],
)
def test_what_matches_nothing_is_refused_with_near_misses(element: str, near_miss: str) -> None:
    with pytest.raises(ValueError, match=f"near misses: .*{near_miss}"):
        frozen_names([element], E5_NAMES, 12)


@pytest.mark.parametrize("element", ["B12", "B0-12", "B5-2", "B12a,i"])
def test_blocks_out_of_range_are_refused_with_near_misses(element: str) -> None:
    with pytest.raises(ValueError, match=f"B0 to B11, got '{element}'; near misses: .*B"):
        frozen_names([element], E5_NAMES, 12)


def test_all_problems_of_a_plan_come_at_once() -> None:
    with pytest.raises(ValueError, match=r"(?s)'embedings'.*'B12'.*'qqqqqqq'.*nothing is near it; names look like emb"):
        frozen_names(["embedings", "B0", "B12", "qqqqqqq"], E5_NAMES, 12)


@given(st.sets(st.integers(0, 11)), st.booleans())
def test_frozen_and_trainable_share_out_the_encoder(blocks: set[int], with_embeddings: bool) -> None:
    plan = [f"B{number}" for number in sorted(blocks)] + ["emb"] * with_embeddings
    frozen = frozen_names(plan, E5_NAMES, 12)
    trainable = trainable_names(plan, E5_NAMES, 12)
    assert [name for name in E5_NAMES if name not in frozen] == list(trainable)
    num_frozen = 1_774_464 * len(blocks) + 96_212_352 * with_embeddings
    assert count_parameters(E5_SHAPES, frozen) == (117_505_920 - num_frozen, num_frozen)
