"""Writes `.bench-gpu/`: all that `bench_gpu.py` needs on a machine with a GPU and without registry or data.

Packaged E5, trimmed; MS MARCO triplets (first positive, first negative); SQuAD sentences of 3,000 training paragraphs,
with 60 to validate on and 300 held out; XNLI's premises and hypotheses in 15 languages; wheels of what such a machine
lacks. Checked before it is called done: the weights come back bit for bit, and texts of every set have the embeddings
that the untrimmed encoder gives them.

    ADIABATIC_DATA=... python benchmarks/gpu_bundle.py [.bench-gpu] [--python 3.12]      (2 minutes)
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adiabatic_ray import provenance
from adiabatic_ray.corpora.data import load_pairs, load_triplets
from adiabatic_ray.corpora.text_sets import PARTS, PairSet, TripletSet
from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts, load_backbone
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.sources import MsMarco, SquadSentences, TripletSource, Xnli
from adiabatic_ray.spec import PACKAGED_E5
from benchmarks.gpu_material import Material, PairTokens, TripletTokens, read_material, trimmed, write_material

HUB = "${ADIABATIC_DATA}/hub"
MS_MARCO = MsMarco(path=HUB, num_tune=3000, num_validation=400, num_evaluation=0)
SQUAD_PARAGRAPHS = {"num_tune": 3000, "num_validation": 60, "num_evaluation": 300}
WHEELS = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection")
"""What a machine with torch and transformers may lack of what `adiabatic_ray.spec` imports."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
NUM_CHECKED = 64
"""Texts of each set that are embedded twice."""


def main() -> None:
    """Read, trim, write, check, and print what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(".bench-gpu"))
    parser.add_argument("--python", default="3.12", help="Python of the machine with the GPU, for the wheels")
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    material = load_material(load_backbone(PACKAGED_E5))
    # Written beside its place and moved at the end: a folder that is there is whole.
    partial = folder.with_name(f"{folder.name}-partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_checked(partial, material, {"provenance": provenance.collect()})
    download_wheels(partial / "wheels", arguments.python)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        print(f"{path.stat().st_size / 1e6:8.2f} MB  {path.relative_to(folder)}")
    print(f"{sum(path.stat().st_size for path in folder.rglob('*')) / 1e6:8.2f} MB  {folder}, checked")


def load_material(backbone: Backbone) -> Material:
    """Token ids of all sets under the untrimmed encoder."""
    parts = {}
    with tempfile.TemporaryDirectory() as hub:
        squad = SquadSentences(path=hub, splits=("train",), **SQUAD_PARAGRAPHS)
        _write_squad(Path(hub) / squad.repository / squad.config / "train-00000-of-00001.parquet")
        sources: tuple[TripletSource, ...] = (MS_MARCO, squad)
        for source in sources:
            sizes = source.num_tune, source.num_validation, source.num_evaluation
            for part, size in zip(PARTS, sizes, strict=True):
                if size:
                    parts[f"{source.name}-{part}"] = triplet_tokens(backbone, load_triplets(source, part))
    return Material(backbone, parts, pair_tokens(backbone, load_pairs(Xnli(path=HUB))))


def triplet_tokens(backbone: Backbone, texts: TripletSet) -> TripletTokens:
    """A triplet set as numbers. MS MARCO is cut to first positives and negatives, as tuning takes them."""
    sides = [(texts.positive_rows, texts.positive_offsets), (texts.negative_rows, texts.negative_offsets)]
    if texts.name == MS_MARCO.name:
        sides = [(rows[offsets[:-1]], np.arange(len(offsets))) for rows, offsets in sides]
    (positives, positive_offsets_Q1), (negatives, negative_offsets_Q1) = sides
    kept = np.unique(np.concatenate([positives, negatives]))
    return TripletTokens(
        backbone.tokenize(texts.queries, backbone.spec.query_prefix),
        backbone.tokenize([texts.passages[row] for row in kept], backbone.spec.passage_prefix),
        np.searchsorted(kept, positives),
        positive_offsets_Q1,
        np.searchsorted(kept, negatives),
        negative_offsets_Q1,
        texts.cluster_of_query.astype(np.int32),
    )


def pair_tokens(backbone: Backbone, pairs: PairSet) -> PairTokens:
    """A set of labelled pairs as numbers."""

    def tokens(texts: dict[str, list[str]], prefix: str) -> TokenizedTexts:
        return backbone.tokenize([text for language in pairs.languages for text in texts[language]], prefix)

    return PairTokens(
        tokens(pairs.query_texts, backbone.spec.query_prefix),
        tokens(pairs.passage_texts, backbone.spec.passage_prefix),
        pairs.query_of_pair,
        pairs.cluster_of_pair,
        pairs.label_of_pair,
        np.array(pairs.languages),
        np.array(pairs.labels),
    )


def write_checked(folder: Path, material: Material, notes: dict[str, Any]) -> None:
    """Write a bundle, read it again, and compare it with where it came from.

    Args:
        folder: exists.
        material: of an untrimmed encoder.
        notes: kept in `bundle.json`.

    Raises:
        AssertionError: weights or embeddings that differ in a bit.
    """
    small, former_ids_V = trimmed(material)
    write_material(folder, small, notes)
    restored = read_material(folder)
    for name, value in material.backbone.weights.items():
        expected = value[former_ids_V] if name == "embeddings.word_embeddings.weight" else value
        assert restored.backbone.weights[name].tobytes() == expected.tobytes(), name
    towers = [one.backbone.build_tower() for one in (material, restored)]
    for key in [*material.triplets, "xnli"]:
        for side in ("queries", "passages"):
            both = [getattr(one.xnli if key == "xnli" else one.triplets[key], side) for one in (material, restored)]
            rows = np.random.default_rng(0).choice(len(both[0]), min(NUM_CHECKED, len(both[0])), replace=False)
            found = [encode(tower, one.select(rows), 4096) for tower, one in zip(towers, both, strict=True)]
            assert np.array_equal(found[0], found[1]), (key, side)


def download_wheels(folder: Path, python: str) -> None:
    """Wheels of `WHEELS`, in the versions that are installed here, for a Python on Linux x86-64."""
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in WHEELS]
    options = [f"--platform={platform}" for platform in PLATFORMS]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *options]
    subprocess.run([*command, f"--python-version={python}", f"--dest={folder}", *wanted], check=True)


def _write_squad(path: Path) -> None:
    """SQuAD 1.1's training part in the hub's layout, of the copy that ADIABATIC_DATA names."""
    data = Path(os.environ["ADIABATIC_DATA"])
    questions = pq.read_table(data / "squad_questions.parquet", filters=[("split", "=", "train_v1.1")]).to_pylist()
    contexts = {one["context_id"]: one["context"] for one in pq.read_table(data / "squad_contexts.parquet").to_pylist()}
    records = [
        {
            "context": contexts[one["context_id"]],
            "question": one["question"],
            "answers": {"text": list(one["answers"]), "answer_start": [one["first_answer_start"]]},
        }
        for one in questions
    ]
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(records), path)


if __name__ == "__main__":
    main()
