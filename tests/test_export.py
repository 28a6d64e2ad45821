"""Exported towers, read back by the libraries they are for: the same embeddings, the same token ids, whole files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import AutoModel, AutoTokenizer

from adiabatic_ray.corpora.data import load_pairs
from adiabatic_ray.encoders import export
from adiabatic_ray.encoders.backbones import Backbone, load_backbone
from adiabatic_ray.encoders.export import check_is_free, new_folder, write_towers
from adiabatic_ray.encoders.tower_sources import read_tower
from adiabatic_ray.encoders.towers import tuned_tower
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.sources import Xnli
from adiabatic_ray.spec import PACKAGED_E5, BackboneSpec
from tests.tiny import save_tiny_bert, save_tiny_distilbert, save_tiny_t5_encoder, save_tiny_xlm_roberta, tiny_spec

TEXTS = ("river stone", "Überzug, 2\uff5e3日 ", "  鹽 and\tmore\n", "ราคาเท่าไหร่", "cut at the limit " * 200)
TINY: dict[str, Callable[[Path], Path]] = {
    "bert": save_tiny_bert,
    "xlm-roberta": save_tiny_xlm_roberta,
    "distilbert": save_tiny_distilbert,
    "t5": save_tiny_t5_encoder,
}
TOLERANCE = 2e-6
"""Of the largest number in an embedding. A text by itself gives the same bits; in a batch, padding makes other matrix
shapes and so another order of summation: some float32 roundings of 6e-8 each. On the packaged E5 4e-7 was seen."""
IN_ANOTHER_PROCESS = """
import sys, numpy
from sentence_transformers import SentenceTransformer
texts = {texts!r}
for folder in sys.argv[1:]:
    both, query = SentenceTransformer(folder, device="cpu"), SentenceTransformer(folder + "/query", device="cpu")
    try:
        both.encode(texts)
    except ValueError as error:
        assert "task='query' and task='document'" in str(error)
    else:
        raise AssertionError("a tower was guessed")
    numpy.savez(
        folder + ".npz",
        query=both.encode_query(list(texts)),
        document=both.encode_document(list(texts)),
        query_alone=query.encode(list(texts)),
        query_one_by_one=numpy.stack([both.encode_query(text) for text in texts]),
        document_one_by_one=numpy.stack([both.encode_document(text) for text in texts]),
        max_length=both.max_seq_length,
        similarity=both.similarity_fn_name,
    )
"""


def tiny_backbone(folder: Path, kind: str = "bert", **changes: object) -> Backbone:
    spec = tiny_spec(TINY[kind](folder))
    return load_backbone(BackboneSpec(**(spec.model_dump() | changes)))  # type: ignore[arg-type]


def tuned(backbone: Backbone, num: int = 6) -> dict[str, np.ndarray]:
    """The last so many tensors, moved."""
    draw = np.random.default_rng(0)
    names = list(backbone.weights)[-num:]
    moves = {name: draw.normal(0, 0.02, backbone.weights[name].shape) for name in names}
    return {name: (backbone.weights[name] + move).astype(np.float32) for name, move in moves.items()}


def write(folder: Path, backbone: Backbone, changed: dict[str, np.ndarray]) -> export.Exported:
    with new_folder(folder) as written:
        return write_towers(written, backbone, changed)


def tensors_in(folder: Path) -> dict[str, np.ndarray]:
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return tiny_backbone(tmp_path_factory.mktemp("base"))


def embedded_elsewhere(folders: list[Path]) -> list[dict[str, np.ndarray]]:
    """What sentence-transformers makes of exported folders, in a process that has never seen this project."""
    pytest.importorskip("sentence_transformers", reason="the extra [bench] is not installed")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [sys.executable, "-c", IN_ANOTHER_PROCESS.format(texts=TEXTS), *map(str, folders)]
    done = subprocess.run(command, cwd=folders[0].parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "newly initialized" not in done.stdout + done.stderr, "a tensor that the files lack"
    return [dict(np.load(f"{folder}.npz")) for folder in folders]


def check_embeddings(
    backbone: Backbone,
    changed: dict[str, np.ndarray],
    theirs: dict[str, np.ndarray],
    of_passages: dict[str, np.ndarray] | None = None,
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for side, tower, prefix in (
            ("query", tuned_tower(backbone, changed), backbone.spec.query_prefix),
            ("document", tuned_tower(backbone, of_passages or {}), backbone.spec.passage_prefix),
        ):
            ours = encode(tower, backbone.tokenize(TEXTS, prefix), 512)
            assert theirs[side].dtype == np.float32
            np.testing.assert_allclose(theirs[side], ours, rtol=0, atol=TOLERANCE * np.abs(ours).max())
            alone = np.concatenate([encode(tower, backbone.tokenize([text], prefix), 512) for text in TEXTS])
            np.testing.assert_array_equal(theirs[f"{side}_one_by_one"], alone)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(theirs["query_alone"], theirs["query"])
    assert theirs["max_length"] == backbone.spec.max_length and theirs["similarity"] == "cosine"


@pytest.mark.slow
def test_sentence_transformers_embeds_as_the_project_does(tmp_path: Path) -> None:
    """Four architectures; pooling by the first token; no prefixes; every tensor tuned, and none."""
    cases = [(tiny_backbone(tmp_path / f"{kind}-encoder", kind), 6) for kind in TINY]
    cases += [
        (tiny_backbone(tmp_path / "cls-encoder", pooling="cls", max_length=20), 6),
        (tiny_backbone(tmp_path / "bare-encoder", query_prefix="", passage_prefix=""), 37),
        (tiny_backbone(tmp_path / "still-encoder"), 0),
    ]
    folders = [tmp_path / f"out-{place}" for place in range(len(cases))]
    made = [(backbone, tuned(backbone, num) if num else {}) for backbone, num in cases]
    for folder, (backbone, changed) in zip(folders, made, strict=True):
        write(folder, backbone, changed)
    for (backbone, changed), theirs in zip(made, embedded_elsewhere(folders), strict=True):
        check_embeddings(backbone, changed, theirs)


@pytest.mark.slow
def test_the_packaged_e5_embeds_as_the_project_does(tmp_path: Path) -> None:
    backbone = load_backbone(PACKAGED_E5)
    changed = tuned(backbone, 40)
    exported = write(tmp_path / "out", backbone, changed)
    (theirs,) = embedded_elsewhere([tmp_path / "out"])
    check_embeddings(backbone, changed, theirs)
    assert exported.num_changed == 40 and exported.size_bytes < 1.2 * exported.tower_bytes


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.timeout(600)
def test_the_packaged_e5_gives_the_same_token_ids_for_all_of_xnli(tmp_path: Path) -> None:
    """15 languages, premises and hypotheses: where rebuilt tokenizers lose 72% of the Chinese and 46% of the Thai."""
    backbone = load_backbone(PACKAGED_E5)
    write(tmp_path / "out", backbone, {})
    texts = load_pairs(Xnli(path=f"{os.environ['ADIABATIC_DATA']}/hub"))
    for folder, prefix, texts_of in (
        ("query", "query: ", texts.query_texts),
        ("document", "passage: ", texts.passage_texts),
    ):
        read = AutoTokenizer.from_pretrained(tmp_path / "out" / folder)
        for language in texts.languages:
            wanted = backbone.tokenize(texts_of[language], prefix)
            got = read([prefix + text for text in texts_of[language]], truncation=True)["input_ids"]
            np.testing.assert_array_equal(np.concatenate([np.asarray(one) for one in got]), wanted.ids)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "distilbert"])
def test_transformers_alone_reads_the_query_tower(tmp_path: Path, kind: str) -> None:
    backbone = tiny_backbone(tmp_path / "encoder", kind)
    changed = tuned(backbone)
    exported = write(tmp_path / "out", backbone, changed)
    folder = tmp_path / "out" / "query"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    assert type(model).__name__ == exported.model_class and model.dtype == torch.float32
    prefixed = [backbone.spec.query_prefix + text for text in TEXTS]
    batch = tokenizer(prefixed, padding=True, truncation=True, return_tensors="pt")
    assert set(batch) == {"input_ids", "attention_mask"}
    with torch.inference_mode():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    theirs = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    ours = encode(tuned_tower(backbone, changed), backbone.tokenize(TEXTS, backbone.spec.query_prefix), 512)
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=TOLERANCE * np.abs(ours).max())


def test_the_project_reads_its_own_export_as_the_same_tower(base: Backbone, tmp_path: Path) -> None:
    changed = tuned(base)
    write(tmp_path / "out", base, changed)
    given = read_tower(str(tmp_path / "out" / "query"), base, TEXTS)
    assert given.changed.keys() == changed.keys() and given.notes == ()
    assert all(np.array_equal(given.changed[name], value) for name, value in changed.items())
    assert read_tower(str(tmp_path / "out" / "document"), base, TEXTS).changed == {}


@pytest.mark.parametrize(("num", "files"), [(0, 1), (6, 2), (37, 1)])
def test_the_files_hold_every_tensor_once(base: Backbone, tmp_path: Path, num: int, files: int) -> None:
    changed = tuned(base, num) if num else {}
    exported = write(tmp_path / "out", base, changed)
    assert (exported.num_changed, exported.num_tensors) == (num, 37)
    for folder, wanted in (("query", base.weights | changed), ("document", base.weights)):
        stored = tensors_in(tmp_path / "out" / folder)
        assert len(list((tmp_path / "out" / folder).glob("*.safetensors"))) == files
        assert stored.keys() == wanted.keys()
        for name, value in stored.items():
            assert value.dtype == np.float32 and np.isfinite(value).all() and np.array_equal(value, wanted[name])


def test_what_the_towers_share_is_one_file(base: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tuned(base)
    linked = write(tmp_path / "linked", base, changed)
    shared = ("model-00001-of-00002.safetensors", "tokenizer.json")
    for file in shared:
        assert (tmp_path / "linked" / "query" / file).samefile(tmp_path / "linked" / "document" / file)

    def refused(self: Path, target: Path) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    copied = write(tmp_path / "copied", base, changed)
    sizes = [(tmp_path / "copied" / "query" / file).stat().st_size for file in shared]
    assert copied.size_bytes - linked.size_bytes == sum(sizes)
    for folder in ("query", "document"):
        one, other = (tensors_in(tmp_path / out / folder) for out in ("linked", "copied"))
        assert all(np.array_equal(one[name], other[name]) for name in one | other)


def test_prompts_are_the_prefixes_of_their_side(base: Backbone, tmp_path: Path) -> None:
    write(tmp_path / "out", base, tuned(base))
    both, query, document = (
        json.loads((tmp_path / "out" / folder / "config_sentence_transformers.json").read_text())
        for folder in ("", "query", "document")
    )
    assert both["prompts"] == {"query": "query: ", "document": "passage: "} and both["default_prompt_name"] is None
    assert query["prompts"] == {"query": "query: "} and query["default_prompt_name"] == "query"
    assert document["prompts"] == {"document": "passage: "} and document["default_prompt_name"] == "document"


def test_a_tokenizer_that_comes_back_changed_is_refused(
    base: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(texts: list[str], truncation: bool) -> dict[str, list[list[int]]]:
        return {"input_ids": [[2, 3]] * len(texts)}

    monkeypatch.setattr(export, "AutoTokenizer", SimpleNamespace(from_pretrained=lambda folder, **_: other))
    with pytest.raises(ValueError, match=r"must give the ids .* got \[2, 3\] for .*constraints\.txt"):
        write(tmp_path / "out", base, {})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    with pytest.raises(KeyboardInterrupt), new_folder(target) as folder:
        (folder / "half").write_text("x")
        assert not target.exists()
        raise KeyboardInterrupt
    assert list(target.parent.iterdir()) == []
    target.mkdir()  # an empty one will do
    with new_folder(target) as folder:
        (folder / "whole").write_text("x")
    assert [path.name for path in target.iterdir()] == ["whole"] and len(list(target.parent.iterdir())) == 1


def test_a_taken_place_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"new or empty, got the file .*give another name"):
        check_is_free(tmp_path / "file")
    with pytest.raises(ValueError, match="which holds file; give another"), new_folder(tmp_path):
        pytest.fail("must not start")
    meanwhile = tmp_path / "target"
    with pytest.raises(OSError, match="not empty"), new_folder(meanwhile):
        meanwhile.mkdir()
        (meanwhile / "theirs").write_text("x")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "target", "theirs"]
    shutil.rmtree(meanwhile)
