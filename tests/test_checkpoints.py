"""Checkpoints on disk and in the hub's cache: what is read, and what is refused with a clear message."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM

from adiabatic_ray.encoders import checkpoints
from adiabatic_ray.encoders.backbones import Backbone, digest_of_weights, load_backbone
from adiabatic_ray.spec import BackboneSpec
from tests.tiny import save_tiny_bert, tiny_spec

WORDS = "embeddings.word_embeddings.weight"
QUERY = "encoder.layer.1.attention.self.query.weight"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def bert(bert_folder: Path) -> Backbone:
    return load_backbone(tiny_spec(bert_folder))


@pytest.mark.parametrize(("dtype", "name"), [(torch.float16, "F16"), (torch.bfloat16, "BF16")])
def test_half_precision_is_refused_unless_accepted(tmp_path: Path, dtype: torch.dtype, name: str) -> None:
    spec = tiny_spec(save_tiny_bert(tmp_path, dtype=dtype))
    config = json.loads((tmp_path / "config.json").read_text())
    config["dtype"] = "float32"  # what the files store decides, not what the configuration claims
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"float32 or better, got {name} in 37 tensors.*accept_half_precision"):
        load_backbone(spec)
    stored = load_file(tmp_path / "model.safetensors")
    accepted = load_backbone(spec.model_copy(update={"accept_half_precision": True}))
    for tensor_name, value in accepted.weights.items():
        assert value.dtype == np.float32
        assert np.array_equal(value, stored[tensor_name].float().numpy())
    assert {parameter.dtype for parameter in accepted.build_tower().parameters()} == {torch.float32}


def test_one_half_precision_tensor_is_enough_to_refuse(tmp_path: Path) -> None:
    path = save_tiny_bert(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {QUERY: tensors[QUERY].half()}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"got F16 in 1 tensors of .*e\.g\. {QUERY}"):
        load_backbone(tiny_spec(tmp_path))


def test_checkpoint_with_a_head_and_in_several_files(tmp_path: Path, bert_folder: Path) -> None:
    config = BertConfig.from_pretrained(bert_folder)
    BertForMaskedLM(config).save_pretrained(tmp_path, max_shard_size="20KB")
    (tmp_path / "tokenizer.json").write_bytes((bert_folder / "tokenizer.json").read_bytes())
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    stored = {name: value for shard in shards for name, value in load_file(shard).items()}
    backbone = load_backbone(tiny_spec(tmp_path))
    assert np.array_equal(backbone.weights[WORDS], stored[f"bert.{WORDS}"].numpy())
    shards[1].unlink()
    with pytest.raises(ValueError, match=f"without {shards[1].name}"):
        load_backbone(tiny_spec(tmp_path))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_missing_file_is_named(tmp_path: Path, file: str) -> None:
    (save_tiny_bert(tmp_path) / file).unlink()
    with pytest.raises(ValueError, match=rf"must hold config\.json, .*got .* without {file}; correct the path"):
        load_backbone(tiny_spec(tmp_path))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "checkpoint that transformers loads, got .*config.json"),
        ("config.json", '{"model_type": "no-such-model"}', "checkpoint that transformers loads, got .*no-such-model"),
        ("config.json", '{"model_type": "bart"}', "got model type 'bart', for which transformers has no encoder class"),
        ("tokenizer.json", "{", "checkpoint that transformers loads"),
        ("model.safetensors", "x", "model.safetensors must be a whole safetensors file"),
    ],
)
def test_broken_file_is_refused(tmp_path: Path, file: str, content: str, message: str) -> None:
    (save_tiny_bert(tmp_path) / file).write_text(content)
    with pytest.raises(ValueError, match=message):
        load_backbone(tiny_spec(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": []}'])
def test_broken_index_is_refused(tmp_path: Path, content: str) -> None:
    (save_tiny_bert(tmp_path) / "model.safetensors").rename(tmp_path / "model-1.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json must map tensors to files"):
        load_backbone(tiny_spec(tmp_path))


def test_code_of_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    folder = save_tiny_bert(tmp_path)
    ran = tmp_path / "ran"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass OwnConfig: pass\n")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="checkpoint that transformers loads"):
        load_backbone(tiny_spec(folder))
    assert not ran.exists()


def test_a_checkpoint_that_is_overwritten_later_does_not_show_through(tmp_path: Path) -> None:
    path = save_tiny_bert(tmp_path) / "model.safetensors"
    backbone = load_backbone(tiny_spec(tmp_path))
    digest = digest_of_weights(backbone.weights)
    with path.open("r+b") as file:
        file.write(b"\1" * path.stat().st_size)
    assert digest_of_weights(backbone.weights) == digest


def test_missing_tensor_is_refused_instead_of_drawn_at_random(tmp_path: Path) -> None:
    path = save_tiny_bert(tmp_path) / "model.safetensors"
    tensors = load_file(path)
    del tensors[QUERY]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"every tensor of its encoder, got .* without \['{QUERY}'\] \(1 missing\)"):
        load_backbone(tiny_spec(tmp_path))


def test_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = save_tiny_bert(tmp_path) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"intermediate_size": 96}))
    with pytest.raises(ValueError, match=r"checkpoint that transformers loads, got .*[Mm]ismatch"):
        load_backbone(tiny_spec(tmp_path))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache without a network; returns where the files of owner/tiny at COMMIT belong."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "models--owner--tiny" / "snapshots" / COMMIT


def hub_spec(revision: str | None = COMMIT) -> BackboneSpec:
    return BackboneSpec(name="owner/tiny", revision=revision, max_length=64)


def test_hub_id_is_loaded_from_the_cache_without_a_network(hub_cache: Path, bert: Backbone) -> None:
    save_tiny_bert(hub_cache)
    assert load_backbone(hub_spec()).encoder_digest == bert.encoder_digest
    refs = hub_cache.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text(COMMIT)
    assert load_backbone(hub_spec(revision=None)).encoder_digest == bert.encoder_digest


def test_hub_id_in_several_files(hub_cache: Path) -> None:
    save_tiny_bert(hub_cache)
    tensors = load_file(hub_cache / "model.safetensors")
    (hub_cache / "model.safetensors").unlink()
    files = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(tensors)}
    for file in set(files.values()):
        part = {name: value for name, value in tensors.items() if files[name] == file}
        save_file(part, hub_cache / file, metadata={"format": "pt"})
    (hub_cache / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    backbone = load_backbone(hub_spec())
    assert np.array_equal(backbone.weights[QUERY], tensors[QUERY].numpy())


def test_unreachable_hub_says_what_to_do(hub_cache: Path) -> None:
    with pytest.raises(ValueError, match=r"LocalEntryNotFoundError for owner/tiny at revision 0123.*source 'folder'"):
        load_backbone(hub_spec())


def test_failing_network_is_the_same_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> str:
        raise LocalEntryNotFoundError("Name or service not known")

    monkeypatch.setattr(checkpoints, "hf_hub_download", fail)
    with pytest.raises(ValueError, match=r"Name or service not known; check name, revision and network"):
        load_backbone(hub_spec())


def test_malformed_hub_id_is_the_same_clear_error(hub_cache: Path) -> None:
    with pytest.raises(ValueError, match=r"HFValidationError for bad//name"):
        load_backbone(BackboneSpec(name="bad//name", revision=COMMIT))
