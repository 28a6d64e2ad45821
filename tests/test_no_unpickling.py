"""Nothing that a user or a stranger can put in a file is unpickled: booby traps in every place that is read."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from booby_trap import Trap, trapped, with_trapped_types
from planted import Plan, write_planted
from typer.testing import CliRunner

from adiabatic_ray import results
from adiabatic_ray.corpora.hub_data import hub_records
from adiabatic_ray.corpora.record_files import read_records
from adiabatic_ray.encoders.backbones import Backbone, load_backbone
from adiabatic_ray.encoders.tower_files import FILE_NAME, load_changed
from adiabatic_ray.encoders.tower_sources import read_tower
from adiabatic_ray.evaluation import bank
from adiabatic_ray.on_ray.tracking import sync
from adiabatic_ray.tuning.saved_states import load_state
from analysis.report import write_report
from jobs.cli import app
from tests.tiny import save_tiny_bert, tiny_spec

KEY = bank.BankKey("e" * 64, "mean", "", 64, "t" * 64, 2, 512)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """Appears when a trap goes off; that traps do go off is seen first."""
    probe = tmp_path / "probe"
    pickle.loads(trapped(probe))
    assert probe.read_text() == "somebody unpickled this"
    return tmp_path / "marker"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(tiny_spec(save_tiny_bert(tmp_path_factory.mktemp("base"))))


def test_a_checkpoint_with_pickled_weights_alone_is_refused(tmp_path: Path, marker: Path) -> None:
    folder = save_tiny_bert(tmp_path / "encoder")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "pytorch_model.bin").write_bytes(trapped(marker))
    words = r"stored as safetensors, got .* with pytorch_model\.bin alone: unpickling can run code, so .* never read"
    with pytest.raises(ValueError, match=words):
        load_backbone(tiny_spec(folder))
    (folder / "pytorch_model.bin").rename(folder / "pytorch_model-00001-of-00001.bin")
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(ValueError, match=r"pytorch_model-00001-of-00001\.bin alone"):
        load_backbone(tiny_spec(folder))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.bin", "optimizer.pt", "adapter_model.bin"])
def test_pickles_beside_safetensors_are_left_alone(tmp_path: Path, marker: Path, base: Backbone, name: str) -> None:
    folder = save_tiny_bert(tmp_path / "encoder")
    (folder / name).write_bytes(trapped(marker))
    if name.startswith("adapter"):  # an adapter of the peft library, which transformers looks for
        content = {"peft_type": "LORA", "base_model_name_or_path": str(folder), "target_modules": ["query"]}
        (folder / "adapter_config.json").write_text(json.dumps(content))
    assert load_backbone(tiny_spec(folder)).encoder_digest == base.encoder_digest
    assert not marker.exists()


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_pickle_in_the_place_of_a_checkpoints_file_is_refused(tmp_path: Path, marker: Path, file: str) -> None:
    folder = save_tiny_bert(tmp_path / "encoder")
    (folder / file).write_bytes(trapped(marker))
    with pytest.raises(ValueError, match=r"safetensors file|checkpoint that transformers loads"):
        load_backbone(tiny_spec(folder))
    assert not marker.exists()


def test_a_pickle_in_the_place_of_a_tower_or_a_saved_state(tmp_path: Path, marker: Path, base: Backbone) -> None:
    (tmp_path / FILE_NAME).write_bytes(trapped(marker))
    for read in (
        lambda: load_changed(tmp_path, base.spec.name, base.encoder_digest),
        lambda: read_tower(str(tmp_path), base, ("text",)),
    ):
        with pytest.raises(ValueError, match="must be a whole safetensors file"):
            read()
    (tmp_path / "lr1-x.safetensors").write_bytes(trapped(marker))
    assert load_state(tmp_path, "lr1-x") is None, "the trial starts over"
    assert not marker.exists()


def test_a_bank_with_objects_in_it_is_refused(tmp_path: Path, marker: Path) -> None:
    folder = tmp_path / KEY.digest
    folder.mkdir()
    objects = np.array([Trap(marker), None], dtype=object)
    np.save(folder / "embeddings.npy", objects, allow_pickle=True)
    digest = hashlib.sha256((folder / "embeddings.npy").read_bytes()).hexdigest()
    (folder / "bank.json").write_text(json.dumps({"key": asdict(KEY), "sha256": digest}))
    with pytest.raises(ValueError, match=r"Object arrays cannot be loaded|Python objects"):
        bank.open_bank(tmp_path, KEY)
    shutil.rmtree(folder)
    bank.store_shard(tmp_path, KEY, 0, np.zeros((2, 3), np.float32))
    (shard,) = bank.finished_shards(tmp_path, KEY).values()
    np.save(shard, objects, allow_pickle=True)
    with pytest.raises(ValueError, match=r"Object arrays cannot be loaded|Python objects"):
        bank.assemble(tmp_path, KEY)
    assert not marker.exists()


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    write_planted(tmp_path / "out", Plan({0.0: 0.0, 1e-8: 0.01, 1e-7: -0.04}))
    return tmp_path / "out"


def test_a_results_folder_full_of_traps_is_read_without_unpickling(planted: Path, marker: Path) -> None:
    """Column types that carry a pickle, and every file that Ray Tune would restore from."""
    for path in planted.glob("*/*.parquet"):
        pq.write_table(with_trapped_types(pq.read_table(path), marker), path)
    for name in ("tuner.pkl", "trainable.pkl", "tune/tuner.pkl", "tune/searcher-state.pkl", "states/x.pkl"):
        path = planted / "ray" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(trapped(marker))
    first, second = results.read_sweep(planted)["trial_ids"][:2]
    write_report(planted, num_resamples=100)
    for command in (("layers", planted), ("compare", planted, first, second)):
        assert CliRunner().invoke(app, [str(one) for one in command]).exit_code == 0
    assert sync(planted, None) == 3
    assert not marker.exists()


@pytest.mark.parametrize("table", ["trials", "scores", "untuned", "influence"])
def test_a_pickle_in_the_place_of_a_table_is_refused(planted: Path, marker: Path, table: str) -> None:
    for path in (planted / table).glob("*.parquet"):
        path.write_bytes(trapped(marker))
    result = CliRunner().invoke(app, ["report", str(planted)])
    assert result.exit_code == 2 and "must be a Parquet file without damage" in result.output.replace("\n", " ")
    assert not marker.exists()


@pytest.mark.parametrize("read", [read_records, hub_records], ids=["own reader", "datasets"])
def test_texts_in_parquet_with_trapped_types(tmp_path: Path, marker: Path, read: Callable[[Path], object]) -> None:
    table = pa.table({"query": ["a"], "positives": [["b"]]})
    features = {"info": {"features": {"query": {"dtype": "string", "_type": "Value"}}}, "pickle": "gASV"}
    table = table.replace_schema_metadata({b"huggingface": json.dumps(features).encode()})
    path = tmp_path / "texts.parquet"
    pq.write_table(with_trapped_types(table, marker), path)
    try:
        rows = [record.content for record in read(path)]  # type: ignore[attr-defined]
    except ValueError as error:
        assert "cannot be read" in str(error)
    else:
        assert rows == [{"query": "a", "positives": ["b"]}]
    assert not marker.exists()


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.jsonl.gz", "texts.parquet", "texts.pkl"])
def test_a_pickle_in_the_place_of_texts_is_refused(tmp_path: Path, marker: Path, name: str) -> None:
    (tmp_path / name).write_bytes(trapped(marker))
    with pytest.raises(ValueError, match=r"cannot be read|must be|must end"):
        list(read_records(tmp_path / name))
    assert not marker.exists()
