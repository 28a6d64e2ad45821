"""Backbones and towers on tiny random encoders of four layouts, loaded from real files."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, T5EncoderModel

from adiabatic_ray.encoders import backbones
from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts, digest_of_weights, load_backbone
from tests.tiny import save_tiny_bert, save_tiny_distilbert, save_tiny_t5_encoder, save_tiny_xlm_roberta, tiny_spec

TEXTS = ["a", "hello wörld, how are you?", "日本語のテキスト"]
WORDS = "embeddings.word_embeddings.weight"
QUERY = "encoder.layer.1.attention.self.query.weight"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
Save = Callable[..., Path]


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def bert(bert_folder: Path) -> Backbone:
    return load_backbone(tiny_spec(bert_folder))


def padded(texts: TokenizedTexts) -> tuple[torch.Tensor, torch.Tensor]:
    ids_BT = torch.zeros(len(texts), int(texts.lengths().max()), dtype=torch.int64)
    mask_BT = torch.zeros_like(ids_BT)
    for row, length in enumerate(texts.lengths()):
        ids_BT[row, :length] = torch.from_numpy(texts.select(np.array([row])).ids.astype(np.int64))
        mask_BT[row, :length] = 1
    return ids_BT, mask_BT


@pytest.mark.parametrize("save", [save_tiny_bert, save_tiny_xlm_roberta, save_tiny_distilbert, save_tiny_t5_encoder])
def test_tower_equals_the_model_of_from_pretrained(save: Save, tmp_path: Path) -> None:
    backbone = load_backbone(tiny_spec(save(tmp_path)))
    ids_BT, mask_BT = padded(backbone.tokenize(TEXTS, "query: "))
    model_class: Any = T5EncoderModel if save is save_tiny_t5_encoder else AutoModel
    model = model_class.from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="sdpa").eval()
    with torch.no_grad():
        hidden_BTD = model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state
        expected_BD = torch.stack(
            [row[: int(mask.sum())].mean(0) for row, mask in zip(hidden_BTD, mask_BT, strict=True)]
        )
        embeddings_BD = backbone.build_tower()(ids_BT, mask_BT)
    torch.testing.assert_close(embeddings_BD, expected_BD, rtol=1e-6, atol=1e-6)
    assert embeddings_BD.dtype == torch.float32
    assert (embeddings_BD[0] - embeddings_BD[1]).abs().max() > 0.01
    assert backbone.num_blocks == 2


def test_cls_pooling_is_the_first_token(bert_folder: Path) -> None:
    spec = tiny_spec(bert_folder).model_copy(update={"pooling": "cls"})
    tower = load_backbone(spec).build_tower()
    ids_BT, mask_BT = padded(load_backbone(spec).tokenize(TEXTS, ""))
    with torch.no_grad():
        expected_BD = tower.model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state[:, 0]
        assert torch.equal(tower(ids_BT, mask_BT), expected_BD)


def test_padding_does_not_matter(bert: Backbone) -> None:
    ids_BT, mask_BT = padded(bert.tokenize(TEXTS, ""))
    other_BT = torch.where(mask_BT == 1, ids_BT, 77)
    tower = bert.build_tower()
    with torch.no_grad():
        assert torch.equal(tower(ids_BT, mask_BT), tower(other_BT, mask_BT))


def test_weights_are_float32_read_only_and_in_the_order_of_the_model(bert: Backbone) -> None:
    model_names = [name for name, _ in bert.build_tower().model.named_parameters()]
    assert list(bert.weights) == model_names
    for value in bert.weights.values():
        assert value.dtype == np.float32
        with pytest.raises(ValueError, match="read-only"):
            value[...] = 0


def test_frozen_parameters_share_memory_and_trainable_ones_are_copies(bert: Backbone) -> None:
    for name, parameter in bert.build_tower([QUERY]).model.named_parameters():
        shares = parameter.data_ptr() == bert.weights[name].ctypes.data
        assert (shares, parameter.requires_grad) == ((False, True) if name == QUERY else (True, False))
        assert np.array_equal(parameter.detach().numpy(), bert.weights[name])


def test_a_step_changes_what_is_trained_and_nothing_else(bert: Backbone) -> None:
    digest = digest_of_weights(bert.weights)
    tower = bert.build_tower([QUERY])
    optimizer = torch.optim.SGD([parameter for parameter in tower.parameters() if parameter.requires_grad], lr=0.1)
    tower(*padded(bert.tokenize(TEXTS, ""))).square().sum().backward()
    optimizer.step()
    changed = {
        name
        for name, parameter in tower.model.named_parameters()
        if not np.array_equal(parameter.detach().numpy(), bert.weights[name])
    }
    assert changed == {QUERY}
    assert digest_of_weights(bert.weights) == digest


def test_building_is_deterministic_and_leaves_the_random_generator_alone(bert: Backbone) -> None:
    ids_BT, mask_BT = padded(bert.tokenize(TEXTS, ""))
    before = torch.get_rng_state()
    first, second = bert.build_tower(), bert.build_tower(list(bert.weights))
    assert torch.equal(torch.get_rng_state(), before)
    assert not first.training
    assert not any(tensor.is_meta for tensor in (*first.parameters(), *first.buffers()))
    with torch.no_grad():
        assert torch.equal(first(ids_BT, mask_BT), second(ids_BT, mask_BT))


def test_tied_tensors_are_one_parameter(tmp_path: Path) -> None:
    backbone = load_backbone(tiny_spec(save_tiny_t5_encoder(tmp_path)))
    model: Any = backbone.build_tower(["shared.weight"]).model
    assert model.encoder.embed_tokens.weight is model.shared.weight
    assert model.shared.weight.requires_grad
    assert sum(name.endswith(("shared.weight", "embed_tokens.weight")) for name in backbone.weights) == 1


def test_unknown_trainable_name_is_refused_with_near_misses(bert: Backbone) -> None:
    with pytest.raises(ValueError, match=rf"got \['encoder.layer.1.attention.self.qery.weight'\].*{QUERY}"):
        bert.build_tower([QUERY.replace("query", "qery")])


@pytest.mark.parametrize("out_of_band", [True, False])
def test_pickling_keeps_the_arrays_read_only_and_out_of_band(bert: Backbone, out_of_band: bool) -> None:
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(bert, protocol=5, buffer_callback=buffers.append) if out_of_band else pickle.dumps(bert)
    restored: Backbone = pickle.loads(content, buffers=buffers)
    num_bytes = sum(value.nbytes for value in bert.weights.values())
    assert (len(content) > num_bytes) is not out_of_band
    assert digest_of_weights(restored.weights) == digest_of_weights(bert.weights)
    for name, value in restored.weights.items():
        assert not value.flags.writeable
        assert np.shares_memory(value, bert.weights[name]) is out_of_band
    batch = padded(bert.tokenize(TEXTS, ""))
    with torch.no_grad():
        assert torch.equal(restored.build_tower()(*batch), bert.build_tower()(*batch))


def test_digest_by_hand_and_independent_of_the_order() -> None:
    one, two = np.array([[1, 2]], np.float32), np.array([3], np.float32)
    expected = hashlib.sha256(b"a [1, 2] <f4\n" + one.tobytes() + b"b [1] <f4\n" + two.tobytes()).hexdigest()
    assert digest_of_weights({"b": two, "a": one}) == digest_of_weights({"a": one, "b": two}) == expected
    others = [{"a": one.T, "b": two}, {"a": one, "c": two}, {"a": one, "b": -two}, {"a": one.astype(float), "b": two}]
    assert expected not in {digest_of_weights(weights) for weights in others}


def test_seed_decides_the_tiny_weights_and_another_digest_is_refused(bert: Backbone, tmp_path: Path) -> None:
    same, other = save_tiny_bert(tmp_path / "same"), save_tiny_bert(tmp_path / "other", seed=1)
    pinned = tiny_spec(same).model_copy(update={"encoder_digest": bert.encoder_digest})
    assert load_backbone(pinned).encoder_digest == bert.encoder_digest
    with pytest.raises(ValueError, match=f"must have the digest {bert.encoder_digest}, got "):
        load_backbone(pinned.model_copy(update={"name": str(other)}))


@pytest.mark.parametrize(
    ("file", "found", "other"),
    [
        ("tokenizer.json", '"normalizer": null', '"normalizer": {"type": "Lowercase"}'),
        ("config.json", "1e-12", "1e-05"),
    ],
)
def test_another_tokenizer_or_configuration_is_another_encoder(tmp_path, file, found, other):
    path = save_tiny_bert(tmp_path) / file
    before = load_backbone(tiny_spec(tmp_path))
    text = path.read_text(encoding="utf-8")
    assert found in text
    path.write_text(text.replace(found, other), encoding="utf-8")
    after = load_backbone(tiny_spec(tmp_path))
    assert digest_of_weights(after.weights) == digest_of_weights(before.weights)
    assert after.encoder_digest != before.encoder_digest


def test_max_length_must_fit_the_position_table(tmp_path: Path) -> None:
    bert_folder = save_tiny_bert(tmp_path / "bert", max_positions=32)
    xlm_folder = save_tiny_xlm_roberta(tmp_path / "xlm", max_positions=32)  # table of 34 rows, the first two not used
    t5_folder = save_tiny_t5_encoder(tmp_path / "t5")
    for folder in (bert_folder, xlm_folder):
        backbone = load_backbone(tiny_spec(folder, max_length=32))
        texts = backbone.tokenize(["a" * 100], "")
        assert len(texts.ids) == 32
        assert torch.isfinite(backbone.build_tower()(*padded(texts))).all()
        with pytest.raises(ValueError, match=r"\(32 tokens\), got 33; set max_length to 32 or less"):
            load_backbone(tiny_spec(folder, max_length=33))
    assert load_backbone(tiny_spec(t5_folder, max_length=1000)).num_blocks == 2


def test_tokenizer_of_a_larger_vocabulary_is_refused(tmp_path: Path) -> None:
    path = save_tiny_bert(tmp_path) / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["longer"] = 260
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="below the 260 rows of the word embeddings, got 260"):
        load_backbone(tiny_spec(tmp_path))


def test_tokens_by_hand(bert: Backbone) -> None:
    vocabulary = json.loads(bert.tokenizer_json)["model"]["vocab"]
    texts = bert.tokenize(["ab", "c"], "q")
    expected = [[2, *(vocabulary[letter] for letter in word), 3] for word in ("qab", "qc")]  # [CLS] 2, [SEP] 3
    assert texts.ids.tolist() == expected[0] + expected[1]
    assert texts.offsets.tolist() == [0, 5, 9]
    assert texts.lengths().tolist() == [5, 4]
    assert len(texts) == 2
    assert (str(texts.ids.dtype), str(texts.offsets.dtype)) == ("int32", "int64")


def test_long_texts_are_cut_and_keep_their_last_special_token(bert_folder: Path) -> None:
    texts = load_backbone(tiny_spec(bert_folder, max_length=6)).tokenize(["a" * 10, "a"], "")
    assert texts.lengths().tolist() == [6, 3]
    assert texts.ids[[0, 5, 6, 8]].tolist() == [2, 3, 2, 3]


def test_many_texts_are_tokenized_in_order(bert: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [chr(ord("a") + number % 26) * (number % 5 + 1) for number in range(23)]
    whole = bert.tokenize(words, "q: ")
    monkeypatch.setattr(backbones, "_TOKENIZE_AT_ONCE", 4)
    parts = bert.tokenize(words, "q: ")
    assert np.array_equal(whole.ids, parts.ids)
    assert parts.lengths().tolist() == [len(word) + 5 for word in words]


def test_no_texts_give_no_tokens(bert: Backbone) -> None:
    texts = bert.tokenize([], "q: ")
    assert (len(texts), texts.ids.size, texts.offsets.tolist()) == (0, 0, [0])


@pytest.mark.parametrize(("bad", "shown"), [("", "''"), (" \n", r"' \\n'"), (None, "None"), (float("nan"), "nan")])
def test_empty_text_is_refused_with_its_row(bert: Backbone, bad: Any, shown: str) -> None:
    with pytest.raises(ValueError, match=f"got {shown} in row 2"):
        bert.tokenize(["a", "b", bad], "query: ")


@given(st.lists(st.lists(st.integers(0, 9), max_size=5), min_size=1, max_size=8), st.data())
def test_select_picks_texts_in_the_given_order(texts: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=10))
    ids = np.array([token for text in texts for token in text], dtype=np.int32)
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    chosen = TokenizedTexts(ids, offsets).select(np.array(rows, dtype=np.int64))
    assert [
        chosen.ids[start:stop].tolist() for start, stop in zip(chosen.offsets, chosen.offsets[1:], strict=False)
    ] == [texts[row] for row in rows]
    assert len(chosen) == len(rows)
    assert (str(chosen.ids.dtype), str(chosen.offsets.dtype)) == ("int32", "int64")
