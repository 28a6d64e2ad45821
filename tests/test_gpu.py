"""What runs on a GPU: packs as graphs. And what is carried to one: the bundle, whose every line is tried on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adiabatic_ray.encoders.backbones import Backbone, load_backbone
from adiabatic_ray.evaluation.closeness import OnDevice, OnHost
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.evaluation.evaluate import PreparedTriplets, score_sets
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tuning.news import EpochReport
from adiabatic_ray.tuning.pack import Pack
from adiabatic_ray.tuning.tune import trainable_names, tune
from adiabatic_ray.tuning.tuning_data import TuningTriplets
from benchmarks.bench_gpu import PARTS
from benchmarks.gpu_bundle import write_checked
from benchmarks.gpu_material import (
    Material,
    PairTokens,
    TripletTokens,
    first_pairs,
    first_triplets,
    read_material,
    to_blocks,
)
from benchmarks.gpu_trajectories import MEMBERS, apart, follow, is_untouched
from tests.tiny import save_tiny_bert, save_tiny_distilbert, tiny_spec

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES, LABELS = ("en", "de", "sw"), ("entailment", "neutral", "contradiction")
NUM_QUERIES = 40


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """Tiny, its feed-forward matrices four bits and a scale; two blocks of 32 weights have negative scales."""
    loaded = load_backbone(tiny_spec(save_tiny_bert(tmp_path_factory.mktemp("encoder"))))
    generator = np.random.default_rng(0)
    for name, value in loaded.weights.items():
        if name.endswith("dense.weight"):
            nibbles_BW = generator.integers(0, 16, (value.size // 32, 32))
            nibbles_BW[:, 0] = 0
            scales_B1 = generator.normal(0, 0.05, (len(nibbles_BW), 1)).astype(np.float16).astype(np.float32)
            loaded.weights[name] = ((nibbles_BW - 8).astype(np.float32) * scales_B1).reshape(value.shape)
            loaded.weights[name].flags.writeable = False
    return loaded


@pytest.fixture(scope="module")
def material(backbone: Backbone) -> Material:
    queries = backbone.tokenize(
        [f"what is {number}?" + " so" * (number % 5) for number in range(NUM_QUERIES)], "query: "
    )
    passages = backbone.tokenize([f"{number} it is" for number in range(NUM_QUERIES)], "passage: ")
    rows, offsets = np.arange(NUM_QUERIES), np.arange(NUM_QUERIES + 1)
    part = TripletTokens(queries, passages, rows, offsets, (rows + 7) % NUM_QUERIES, offsets, rows.astype(np.int32))
    premises = [f"{language} premise {number}" for language in LANGUAGES for number in range(12)]
    hypotheses = [f"{language} {label} {number}" for language in LANGUAGES for number in range(12) for label in LABELS]
    of_pair = np.repeat(np.arange(12), len(LABELS))
    labels = np.tile(np.arange(len(LABELS)), 12)
    xnli = PairTokens(
        backbone.tokenize(premises, "query: "),
        backbone.tokenize(hypotheses, "passage: "),
        of_pair,
        of_pair,
        labels,
        np.array(LANGUAGES),
        np.array(LABELS),
    )
    names = [f"{name}-{part}" for name in ("msmarco", "squad") for part in ("tune", "validation", "evaluation")]
    return Material(backbone, {name: part for name in names if name != "msmarco-evaluation"}, xnli)


@pytest.fixture(scope="module")
def bundle(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_checked(folder, material, {"note": "tiny"})
    return folder


@pytest.fixture(scope="module")
def triplets(material: Material) -> TuningTriplets:
    part = material.triplets["msmarco-tune"]
    bank_PD = encode(material.backbone.build_tower(), part.passages, 512)
    return TuningTriplets(part.queries, part.positive_rows, part.negative_rows, bank_PD)


def test_a_bundle_gives_back_what_was_put_in(bundle: Path, material: Material) -> None:
    restored = read_material(bundle)
    stored = np.load(bundle / "weights.npz")
    assert "encoder.layer.0.output.dense.weight/shape" in stored  # as nibbles
    assert "encoder.layer.0.attention.self.query.weight/shape" not in stored  # random: no four bits can say it
    assert restored.backbone.config["vocab_size"] < material.backbone.config["vocab_size"]
    assert restored.backbone.tokenizer_json == ""
    assert restored.triplets.keys() == material.triplets.keys()
    np.testing.assert_array_equal(restored.xnli.languages, LANGUAGES)
    np.testing.assert_array_equal(restored.xnli.label_of_pair_N, material.xnli.label_of_pair_N)
    np.testing.assert_array_equal(restored.xnli.queries.offsets, material.xnli.queries.offsets)


def test_a_bundle_that_is_missing_or_was_changed_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="make gpu-bundle"):
        read_material(tmp_path)
    for file in bundle.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    about = json.loads((bundle / "bundle.json").read_text())
    (tmp_path / "bundle.json").write_text(json.dumps(about | {"config": about["config"] | {"layer_norm_eps": 1.0}}))
    with pytest.raises(ValueError, match="come back as it was written"):
        read_material(tmp_path)


def test_blocks_by_hand() -> None:
    weights = np.zeros((1, 32), dtype=np.float32)
    weights[0, :3] = 4.0, -3.5, 0.5  # the largest is -8 steps of -0.5: nibbles 0, 15, 7, and 8 for zero
    weights[0, 3:] = -0.0
    blocks = to_blocks(weights)
    assert blocks is not None
    assert blocks[0, :2].view("<f2")[0] == -0.5
    assert blocks[0, 2:6].tolist() == [0x80, 0x8F, 0x87, 0x88]
    weights[0, 5] = 0.3
    assert to_blocks(weights) is None


def test_the_first_texts_of_a_set(material: Material) -> None:
    part = first_triplets(material.triplets["squad-tune"], 3)
    assert len(part.queries) == 3 and len(part.passages) == 6
    assert part.positive_rows.tolist() == [0, 1, 2] and part.negative_rows.tolist() == [3, 4, 5]
    pairs = first_pairs(material.xnli, 2, 5)
    assert (len(pairs.queries), len(pairs.passages), len(pairs.query_of_pair_N)) == (10, 30, 15)
    whole = material.xnli.passages
    german, expected = pairs.passages.select(np.array([15])), whole.select(np.array([36]))
    assert german.ids.tolist() == expected.ids.tolist()


@pytest.mark.slow
def test_every_part_runs_without_a_gpu(bundle: Path, tmp_path: Path) -> None:
    parts = PARTS[1:]  # the first one starts these tests
    little = ["--device", "cpu", "--tiny", "--minutes", "0.02", "--parts", *parts]
    command = [sys.executable, "benchmarks/bench_gpu.py", str(bundle), "--out", str(tmp_path), *little]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(parts) <= results.keys()
    assert results["evaluation"]["counts in which device and numpy differ"] == 0
    assert results["rates"]["counts of rate 0 are the untuned ones"] is True
    assert all(results["trajectories"]["rate 0 untouched"].values())
    assert {"rates_scores.parquet", "rates_curves.parquet", "results.md"} <= {file.name for file in tmp_path.iterdir()}


# The rest needs a GPU.

STEPS = 30
"""Of an epoch: batches have few shapes, so that some shape is met often enough to be captured."""
NEAR = {"distance_frac": 0.05, "far_frac": 0.01}
"""Rounding moves a weight by a whole step where its gradient is near zero; such weights are few."""


@pytest.mark.gpu
def test_graphs_kernels_and_the_cpu_come_to_the_same(backbone: Backbone, triplets: TuningTriplets) -> None:
    graphs, eager, on_cpu = (
        follow(backbone, triplets, STEPS, device, graphed, batch_size=4)
        for device, graphed in (("cuda", True), ("cuda", False), ("cpu", False))
    )
    assert graphs.num_captures > 0 and graphs.num_replays > 0 and eager.num_replays == 0
    for name, changes in MEMBERS.items():
        rate = changes["learning_rate"]
        for one, other in ((graphs, eager), (graphs, on_cpu)):
            if rate == 0:
                assert is_untouched(one.tensors[name], backbone.weights)
                continue
            figures = apart(one.tensors[name], other.tensors[name], backbone.weights, 2 * STEPS * rate)
            assert all(figures[key] <= most for key, most in NEAR.items()), (name, figures)
            assert one.train_loss[name] == pytest.approx(other.train_loss[name], rel=1e-3)


def _pack(backbone: Backbone, triplets: TuningTriplets, num_slots: int) -> Pack:
    return Pack(
        backbone, trainable_names(backbone, "embeddings")[0], _spec(), num_slots, triplets, triplets, 512, "cuda"
    )


def _spec(**changes: Any) -> TuningSpec:
    settings: dict[str, Any] = {"batch_size": 4, "batches_per_epoch": STEPS, "idle_epochs": None, "max_epochs": 3}
    return TuningSpec(**(settings | {"learning_rate": 1e-5, "keep": "final"} | changes))


@pytest.mark.gpu
def test_who_stopped_is_not_trained_by_a_replay(backbone: Backbone, triplets: TuningTriplets) -> None:
    pack, trainable = _pack(backbone, triplets, 2), trainable_names(backbone, "embeddings")[0]
    pack.join("short", _spec(max_epochs=1, seed=1), trainable)
    pack.join("long", _spec(), trainable)
    pack.run_epoch()
    stopped = pack.members["short"].trained()
    while pack.run_epoch()["long"].stopped_by is None:
        pass
    assert pack.graphs is not None and pack.graphs.num_replays > 0
    assert all(np.array_equal(value, stopped[name]) for name, value in pack.leave("short").tensors.items())
    name = "encoder.layer.1.output.dense.bias"
    assert not np.array_equal(pack.leave("long").tensors[name], backbone.weights[name])


@pytest.mark.gpu
def test_graphs_are_captured_again_when_members_come_and_go(backbone: Backbone, triplets: TuningTriplets) -> None:
    """Each time in a new pool: the handle of one whose graphs are gone can't be used again."""
    pack, trainable = _pack(backbone, triplets, 2), trainable_names(backbone, "embeddings")[0]
    pack.join("stays", _spec(max_epochs=9), trainable)
    assert pack.graphs is not None
    for number in range(3):
        pack.join(str(number), _spec(seed=number + 1), trainable)
        before = pack.graphs.num_captures
        pack.run_epoch()
        assert pack.graphs.num_captures > before
        pack.leave(str(number))
    alone = tune(backbone, _spec(max_epochs=3), triplets, triplets, 512, lambda report: None).tensors
    figures = apart(pack.leave("stays").tensors, alone, backbone.weights, 3 * STEPS * 1e-5)
    assert all(figures[key] <= most for key, most in NEAR.items()), figures


@pytest.mark.gpu
def test_a_dropped_pack_gives_its_memory_back(backbone: Backbone, triplets: TuningTriplets) -> None:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    pack = _pack(backbone, triplets, 4)
    pack.join("one", _spec(), trainable_names(backbone, "embeddings")[0])
    pack.run_epoch()
    held = torch.cuda.memory_allocated() - before
    del pack
    torch.cuda.synchronize()
    # What libraries keep for themselves, their work spaces, stays.
    weights = sum(backbone.weights[name].nbytes for name in trainable_names(backbone, "embeddings")[0])
    assert held - (torch.cuda.memory_allocated() - before) >= 4 * weights


@pytest.mark.gpu
def test_trials_that_pack_alone_run_step_by_step(backbone: Backbone, triplets: TuningTriplets, tmp_path: Path) -> None:
    other = load_backbone(tiny_spec(save_tiny_distilbert(tmp_path)))
    rows = np.arange(NUM_QUERIES)
    bank_PD = encode(other.build_tower(), other.tokenize([f"{row} it is" for row in rows], "passage: "), 512)
    queries = other.tokenize([f"what is {row}?" for row in rows], "query: ")
    others = TuningTriplets(queries, rows, (rows + 7) % NUM_QUERIES, bank_PD)
    for one, data, dropout in ((backbone, triplets, True), (other, others, False)):
        reports: list[EpochReport] = []
        tensors = tune(one, _spec(dropout=dropout), data, data, 512, reports.append, "cuda").tensors
        assert reports[-1].stopped_by == "max_epochs" and all(np.isfinite(value).all() for value in tensors.values())


@pytest.mark.gpu
def test_a_bank_that_is_held_gives_what_rows_that_are_sent_give(backbone: Backbone, triplets: TuningTriplets) -> None:
    held, bank_PD = triplets.held_on("cuda", 2**40), triplets.passages
    assert isinstance(bank_PD, np.ndarray)
    assert held.held_PD is not None and triplets.held_on("cuda", bank_PD.nbytes).held_PD is None
    one, other = (tune(backbone, _spec(), data, data, 512, lambda report: None, "cuda") for data in (triplets, held))
    assert one.changed and all(np.array_equal(value, other.tensors[name]) for name, value in one.tensors.items())


@pytest.mark.gpu
def test_scores_of_the_device_are_those_of_numpy(material: Material) -> None:
    part, backbone = material.triplets["msmarco-tune"], material.backbone
    bank_PD = encode(backbone.build_tower(), part.passages, 512)
    prepared = PreparedTriplets(
        "msmarco",
        part.queries,
        bank_PD,
        part.positive_rows,
        part.positive_offsets_Q1,
        part.negative_rows,
        part.negative_offsets_Q1,
        np.zeros(0, np.int32),
    )
    queries_QD = encode(backbone.build_tower(device="cuda"), part.queries, 512)
    everyone = np.arange(NUM_QUERIES)
    for holds_bank in (True, False):
        ours = OnDevice(bank_PD, "cuda", holds_bank).scores(queries_QD, everyone, part.positive_rows)
        theirs = OnHost(bank_PD).scores(queries_QD, everyone, part.positive_rows)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)
    (counts,) = score_sets(backbone.build_tower(device="cuda"), [prepared], 512)
    (expected,) = score_sets(backbone.build_tower(), [prepared], 512)
    assert counts.num_changed(expected) <= 2, "rounding may turn a near tie"


@pytest.mark.gpu
def test_tf32_moves_embeddings_a_little(backbone: Backbone, material: Material) -> None:
    tower, queries = backbone.build_tower(device="cuda"), material.triplets["msmarco-tune"].queries
    exact, rounded = encode(tower, queries, 512), encode(tower, queries, 512, "tf32")
    assert not np.array_equal(exact, rounded)
    assert np.abs(exact - rounded).max() < 2**-7 * np.abs(exact).max()  # 10 bits of precision


RULES: dict[str, dict[str, Any]] = {
    "schedule": {"schedule": "linear"},
    "compensated, with a schedule": {"precision": "compensated", "schedule": "quadratic", "weight_decay": 0.1},
    "float64": {"precision": "float64"},
    "adamax": {"optimizer": "adamax", "schedule": "E0.98"},
    "adamax, compensated": {"optimizer": "adamax", "precision": "compensated"},
    "sgd": {"optimizer": "sgd", "learning_rate": 1e-2, "schedule": "linear", "momentum": 0.9},
    "adadelta": {"optimizer": "adadelta", "learning_rate": 1e-2, "schedule": "linear"},
}


@pytest.mark.gpu
@pytest.mark.parametrize("rules", RULES.values(), ids=list(RULES))
def test_replayed_steps_have_the_rates_of_their_schedule(
    backbone: Backbone, triplets: TuningTriplets, rules: dict[str, Any]
) -> None:
    """What changes from step to step must not be frozen into a graph."""
    pack, spec = _pack(backbone, triplets, 1), _spec(max_epochs=2, **rules)
    pack.join("one", spec, trainable_names(backbone, "embeddings")[0])
    while pack.run_epoch()["one"].stopped_by is None:
        pass
    assert pack.graphs is not None and pack.graphs.num_replays > 0
    on_cpu = tune(backbone, spec, triplets, triplets, 512, lambda report: None).tensors
    figures = apart(pack.leave("one").tensors, on_cpu, backbone.weights, 2 * STEPS * spec.learning_rate)
    assert all(figures[key] <= most for key, most in NEAR.items()), figures


@pytest.mark.gpu
def test_an_own_optimizer_is_not_captured(backbone: Backbone, triplets: TuningTriplets) -> None:
    pack = _pack(backbone, triplets, 1)
    pack.join("own", _spec(optimizer="torch.optim:RMSprop"), trainable_names(backbone, "embeddings")[0])
    pack.run_epoch()
    assert pack.graphs is not None and pack.graphs.num_captures == 0
