"""Towers from wherever they lie: a sweep's folder, transformers and sentence-transformers folders, the hub's cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch_file

from adiabatic_ray.encoders.backbones import Backbone, load_backbone
from adiabatic_ray.encoders.sentence_folders import NORMALIZE_NOTE
from adiabatic_ray.encoders.tower_files import FILE_NAME, save_tower
from adiabatic_ray.encoders.tower_sources import read_tower
from adiabatic_ray.encoders.towers import tuned_tower
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.spec import BackboneSpec
from tests.tiny import save_tiny_bert, save_tiny_xlm_roberta, tiny_spec

TEXTS = ("river stone", "Überzug", "鹽")
CHANGED = ("encoder.layer.0.output.dense.weight", "encoder.layer.1.attention.self.query.bias")
COMMIT = "0" * 40


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_spec(save_tiny_bert(tmp_path_factory.mktemp("base"))))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The base with two tensors changed, as transformers saves it."""
    folder = save_tiny_bert(tmp_path / "checkpoint")
    tensors = load_file(folder / "model.safetensors")
    for name in CHANGED:
        tensors[name] = tensors[name] + np.float32(0.01)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def add_modules(folder: Path, *kinds: str, pooling: dict[str, Any] | None = None, encoder: str = "") -> Path:
    """The files that sentence-transformers writes beside an encoder; kinds follow after Transformer and Pooling."""
    types = ["sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling", *kinds]
    paths = [encoder, "1_Pooling", *(f"{place}_X" for place in range(2, len(types)))]
    rows = [
        {"idx": place, "name": str(place), "path": path, "type": kind}
        for place, (path, kind) in enumerate(zip(paths, types, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(rows), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    config = {"pooling_mode": "mean"} if pooling is None else pooling
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_a_sweeps_tower_is_read_as_it_was_saved(base: Backbone, tmp_path: Path) -> None:
    changed = {name: base.weights[name] * np.float32(2) for name in CHANGED}
    save_tower(tmp_path, changed, base.spec.name, base.encoder_digest, "lr1-x")
    given = read_tower(str(tmp_path), base, TEXTS)
    assert given.changed.keys() == changed.keys() and given.notes == ()
    assert all(np.array_equal(given.changed[name], value) for name, value in changed.items())


def test_a_sweeps_tower_of_another_backbone_is_refused(base: Backbone, tmp_path: Path) -> None:
    other = load_backbone(tiny_spec(save_tiny_bert(tmp_path / "other", seed=1)))
    save_tower(tmp_path, {}, other.spec.name, other.encoder_digest, "lr1-x")
    with pytest.raises(ValueError, match=f"{other.encoder_digest}, got .*{base.encoder_digest}; load that backbone"):
        read_tower(str(tmp_path), base, TEXTS)


def test_a_damaged_or_broken_tower_is_refused(base: Backbone, tmp_path: Path) -> None:
    broken = {CHANGED[0]: np.full_like(base.weights[CHANGED[0]], np.nan)}
    save_tower(tmp_path, broken, base.spec.name, base.encoder_digest, "lr1-x")
    with pytest.raises(ValueError, match=rf"finite, got inf or NaN in \['{CHANGED[0]}'\]"):
        read_tower(str(tmp_path), base, TEXTS)
    (tmp_path / FILE_NAME).write_bytes((tmp_path / FILE_NAME).read_bytes()[:-9])
    with pytest.raises(ValueError, match="must be a whole safetensors file"):
        read_tower(str(tmp_path), base, TEXTS)


@pytest.mark.parametrize(
    ("dtype", "word"), [("float16", "F16"), ("bfloat16", "BF16"), ("float64", "F64"), ("int32", "I32")]
)
def test_a_tower_of_another_number_format_is_refused(base: Backbone, tmp_path: Path, dtype: str, word: str) -> None:
    tensors = {name: torch.zeros(base.weights[name].shape) for name in CHANGED}
    tensors[CHANGED[1]] = tensors[CHANGED[1]].to(getattr(torch, dtype))
    save_torch_file(tensors, tmp_path / FILE_NAME, metadata={"encoder_digest": base.encoder_digest})
    with pytest.raises(ValueError, match=f"must be float32 .*got 1 of 2 that are not, {CHANGED[1]} in {word}"):
        read_tower(str(tmp_path), base, TEXTS)


def test_a_checkpoint_gives_the_tensors_that_differ(base: Backbone, checkpoint: Path) -> None:
    given = read_tower(str(checkpoint), base, TEXTS)
    assert set(given.changed) == set(CHANGED)
    for name, value in given.changed.items():
        assert value.dtype == np.float32 and np.array_equal(value, base.weights[name] + np.float32(0.01))


def test_the_base_itself_differs_in_nothing(base: Backbone, tmp_path: Path) -> None:
    assert read_tower(str(save_tiny_bert(tmp_path)), base, TEXTS).changed == {}


def test_what_only_training_reads_may_differ(base: Backbone, checkpoint: Path) -> None:
    edit(
        checkpoint / "config.json",
        lambda config: config.update(hidden_dropout_prob=0.3, use_cache=False, id2label={"0": "x"}, unknown_field=1),
    )
    assert set(read_tower(str(checkpoint), base, TEXTS).changed) == set(CHANGED)


@pytest.mark.parametrize(
    ("field", "value", "words"), [("num_attention_heads", 4, "4 for 2"), ("hidden_act", "relu", "relu for gelu")]
)
def test_the_same_tensors_under_another_configuration_are_refused(
    base: Backbone, checkpoint: Path, field: str, value: object, words: str
) -> None:
    edit(checkpoint / "config.json", lambda config: config.update({field: value}))
    with pytest.raises(ValueError, match=f"must have the architecture of its base, .*got {field} {words}"):
        read_tower(str(checkpoint), base, TEXTS)


def test_other_sizes_and_architectures_are_refused(base: Backbone, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"embeddings of its base's size, 32, .* got 48 from"):
        read_tower(str(save_tiny_bert(tmp_path / "wide", hidden_size=48)), base, TEXTS)
    with pytest.raises(ValueError, match=r"got num_hidden_layers 3 for 2"):
        read_tower(str(save_tiny_bert(tmp_path / "deep", num_blocks=3)), base, TEXTS)
    with pytest.raises(ValueError, match="got model_type xlm-roberta for bert"):
        read_tower(str(save_tiny_xlm_roberta(tmp_path / "roberta")), base, TEXTS)


def test_the_tokenizer_is_judged_by_the_ids_it_gives(base: Backbone, checkpoint: Path) -> None:
    file = checkpoint / "tokenizer.json"
    edit(
        file,
        lambda tokenizer: tokenizer.update(
            truncation={"max_length": 9, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
        ),
    )
    assert set(read_tower(str(checkpoint), base, TEXTS).changed) == set(CHANGED)
    vocabulary = json.loads(file.read_text(encoding="utf-8"))["model"]["vocab"]
    swapped = vocabulary | {"v": vocabulary["w"], "w": vocabulary["v"]}
    edit(file, lambda tokenizer: tokenizer["model"].update(vocab=swapped))
    with pytest.raises(ValueError, match=r"the tokenizer of its base, .* for 1 of 3 queries, the first 'river stone'"):
        read_tower(str(checkpoint), base, TEXTS)


def test_a_path_that_is_no_tower_names_what_is_near(base: Backbone, tmp_path: Path) -> None:
    (tmp_path / "lr1e-06-emb").mkdir()
    with pytest.raises(ValueError, match="lr1e-06-em, which is not there; near: lr1e-06-emb"):
        read_tower(str(tmp_path / "lr1e-06-em"), base, TEXTS)
    with pytest.raises(ValueError, match="nowhere/at/all, which is not there; correct the path"):
        read_tower("nowhere/at/all", base, TEXTS)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="which is a file"):
        read_tower(str(tmp_path / "file"), base, TEXTS)
    with pytest.raises(ValueError, match=r"must hold config\.json"):
        read_tower(str(tmp_path / "lr1e-06-emb"), base, TEXTS)


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache without a network; returns where the files of owner/tuned belong."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "models--owner--tuned"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return repository / "snapshots" / COMMIT


def test_a_hub_id_is_read_from_the_cache(base: Backbone, hub_folder: Path) -> None:
    save_tiny_bert(hub_folder, seed=1)
    with pytest.raises(
        ValueError, match=r"modules beside its encoder must be known.* run `hf download owner/tuned` once"
    ):
        read_tower("owner/tuned", base, TEXTS)
    add_modules(hub_folder, "sentence_transformers.models.Normalize")
    given = read_tower("owner/tuned", base, TEXTS)
    assert given.changed.keys() == base.weights.keys() and given.notes == (NORMALIZE_NOTE,)


def test_a_mistyped_folder_says_that_it_was_tried_as_a_hub_id(base: Backbone, hub_folder: Path) -> None:
    with pytest.raises(ValueError, match="towers/lr1 is no folder here, and as a hub id: a hub backbone needs"):
        read_tower("towers/lr1", base, TEXTS)


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode": "mean"},
        {"pooling_mode": ["mean"], "include_prompt": True},
        {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False},
    ],
)
def test_pooling_is_read_in_every_layout(base: Backbone, checkpoint: Path, pooling: dict[str, Any]) -> None:
    add_modules(checkpoint, "sentence_transformers.models.Dropout", pooling=pooling)
    given = read_tower(str(checkpoint), base, TEXTS)
    assert set(given.changed) == set(CHANGED) and given.notes == ()


def test_the_encoder_may_have_a_folder_of_its_own(base: Backbone, checkpoint: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    outer.mkdir()
    checkpoint.rename(outer / "0_Transformer")
    assert set(read_tower(str(add_modules(outer, encoder="0_Transformer")), base, TEXTS).changed) == set(CHANGED)


@pytest.mark.parametrize(
    ("kinds", "pooling", "words"),
    [
        (("sentence_transformers.models.Dense",), None, "got the module Dense"),
        (("custom_code.Normalize",), None, "got custom_code.Normalize.*never run"),
        (("sentence_transformers.models.Pooling",), None, "Transformer, Pooling, Pooling"),
        ((), {"pooling_mode": "cls"}, "pooled as its base, mean, got cls.* set the backbone's pooling to cls"),
        ((), {"pooling_mode_max_tokens": True}, "got max_tokens.* tune with that pooling"),
        ((), {"pooling_mode": ["mean", "cls"]}, "got mean and cls"),
        ((), {"pooling_mode": "mean", "include_prompt": False}, "include_prompt"),
    ],
)
def test_modules_that_make_another_embedding_are_refused(
    base: Backbone, checkpoint: Path, kinds: tuple[str, ...], pooling: dict[str, Any] | None, words: str
) -> None:
    add_modules(checkpoint, *kinds, pooling=pooling)
    with pytest.raises(ValueError, match=words):
        read_tower(str(checkpoint), base, TEXTS)


def test_malformed_module_files_are_named(base: Backbone, checkpoint: Path) -> None:
    add_modules(checkpoint)
    (checkpoint / "1_Pooling" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"must hold 1_Pooling/config\.json"):
        read_tower(str(checkpoint), base, TEXTS)
    (checkpoint / "modules.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="must be a list of modules"):
        read_tower(str(checkpoint), base, TEXTS)
    (checkpoint / "modules.json").write_text("[")
    with pytest.raises(ValueError, match=r"must hold checkpoint/modules\.json as JSON"):
        read_tower(str(checkpoint), base, TEXTS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the library, which is not ours
def test_what_sentence_transformers_saves_embeds_as_it_does(base: Backbone, checkpoint: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="the extra [bench] is not installed")
    from sentence_transformers import models
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(checkpoint / "tokenizer.json"), model_max_length=64, **names)
    tokenizer.save_pretrained(checkpoint)
    encoder = models.Transformer(str(checkpoint))
    model = library.SentenceTransformer(modules=[encoder, models.Pooling(32, "mean")], device="cpu")
    model.save_pretrained(str(tmp_path / "saved"))
    given = read_tower(str(tmp_path / "saved"), base, TEXTS)
    assert set(given.changed) == set(CHANGED) and given.notes == ()
    ours = encode(tuned_tower(base, given.changed), base.tokenize(TEXTS, "query: "), 512)
    theirs = model.encode([f"query: {text}" for text in TEXTS], convert_to_numpy=True)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_the_conventions_are_those_of_the_base(base: Backbone, checkpoint: Path) -> None:
    """A backbone pooled by its first token takes a tower that is, too."""
    spec = BackboneSpec(**(base.spec.model_dump() | {"pooling": "cls"}))
    by_first_token = load_backbone(spec)
    add_modules(checkpoint, pooling={"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    assert set(read_tower(str(checkpoint), by_first_token, TEXTS).changed) == set(CHANGED)
