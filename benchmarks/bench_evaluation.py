"""What it takes to score a tuned query tower: as it is usually written, and by this project.

The same tower, passages under the same frozen tower, the same texts, threads and machine. XNLI (real test set, some of
its languages and premises) and MS MARCO (65 negatives a query), packaged E5; the tuned tower is the packaged one with
small noise in every weight of its blocks.

- usual: `SentenceTransformer.encode` of queries and passages, at its default batch size, for every tower; scores by its
  `pairwise_cos_sim` and `pairwise_euclidean_sim`; each language pair's (or query's) errors from the comparison matrix.
  Premises are encoded once a language, though a row of XNLI holds one for each label: so is it here;
- this project: once for all towers the bank (shards written, joined, checked) and token ids of the queries; for each
  tower `score_shard`, that is queries and counts, by cluster and with rank measures.

Parts are timed in turn; medians, and ratios of their sums. Then counts are compared. On the same scores the comparison
matrix must give the same counts, or the benchmark fails; what remains is rounding, and is printed: embeddings depend on
how texts are batched, and the usual scores are float32. A comparison may differ only where both scores are that close.

On a machine that others use too, take `--threads 1`: two threads that wait for each other measure the others.

    ADIABATIC_DATA=... python benchmarks/bench_evaluation.py [--languages en ur zh] [--premises 40]
        [--queries 2] [--rounds 3] [--threads 2] [--device cpu]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import sentence_transformers
import torch

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adiabatic_ray.corpora.data import load_pairs, load_triplets
from adiabatic_ray.corpora.text_sets import PairSet, TripletSet
from adiabatic_ray.encoders.backbones import Backbone, Tower, load_backbone
from adiabatic_ray.encoders.towers import tuned_tower
from adiabatic_ray.evaluation import bank
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.evaluation.evaluate import Prepared, score_sets
from adiabatic_ray.evaluation.prepare import EvaluationInputs, prepare_sets
from adiabatic_ray.sources import MsMarco, Xnli
from adiabatic_ray.spec import PACKAGED_E5
from adiabatic_ray.statistics.counts import Counts
from adiabatic_ray.statistics.metrics import pair_scores
from adiabatic_ray.tuning.tune import trainable_names
from benchmarks.sentence_encoders import sentence_encoder
from benchmarks.timings import interleaved, timed
from benchmarks.usual_counting import Errors, counted, usual_scores

HUB = "${ADIABATIC_DATA}/hub"
TOKEN_BUDGET = 512
NOISE = 0.03
"""Of each tensor's standard deviation: tuned and untuned counts differ, both are those of a working encoder."""
NUM_TOWERS = 100
"""Towers that share a bank in the ratio for a sweep."""
PARTS = (
    "usual: passages",
    "usual: queries",
    "usual: scores and comparison matrices",
    "this project, once: bank, token ids",
    "this project, a tower: queries and counts",
)
LARGEST_ROUNDING = 1e-4
"""Of a number of an embedding; numbers are about 0.2. More than this is no rounding but another encoder."""


def main() -> None:
    """Time both ways on both sets, compare their counts, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--languages", nargs="+", default=["en", "ur", "zh"], help="of XNLI")
    parser.add_argument("--premises", type=int, default=40, help="of XNLI, at most 1,670; three pairs each")
    parser.add_argument("--queries", type=int, default=2, help="of MS MARCO, with 65 negatives each")
    parser.add_argument("--rounds", type=int, default=3, help="timings of each part")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    backbone = load_backbone(PACKAGED_E5)
    tower = noisy_tower(backbone, options.device)
    print(
        f"{options.device}, {options.threads} threads, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python "
        f"{platform.python_version()}, torch {torch.__version__}, sentence-transformers "
        f"{sentence_transformers.__version__}, numpy {np.__version__}; medians of {options.rounds} interleaved timings"
    )
    xnli = Xnli(path=HUB, languages=tuple(options.languages), num_premises=options.premises)
    msmarco = MsMarco(path=HUB, num_tune=None, num_validation=0, num_evaluation=options.queries)
    for texts in (load_pairs(xnli), load_triplets(msmarco, "evaluation")):
        bench_set(backbone, tower, texts, options.rounds, options.device)


def noisy_tower(backbone: Backbone, device: str) -> Tower:
    """A tower that differs from the untuned one in every tensor that tuning would change."""
    rng = np.random.default_rng(0)
    trainable, _ = trainable_names(backbone, "embeddings")
    changed = {}
    for name in trainable:
        weights = backbone.weights[name]
        noise = rng.standard_normal(weights.shape, dtype=np.float32)
        changed[name] = weights + np.float32(NOISE) * weights.std() * noise
    return tuned_tower(backbone, changed, device)


def bench_set(backbone: Backbone, tower: Tower, texts: PairSet | TripletSet, rounds: int, device: str) -> None:
    """Time and compare both ways on one set."""
    inputs, frozen = EvaluationInputs(backbone, (texts,), TOKEN_BUDGET, "float32"), backbone.build_tower(device=device)
    (query_texts,), (passage_texts,) = inputs.query_texts(), inputs.bank_texts()
    usual_queries, usual_passages = (
        partial(sentence_encoder(backbone, one, device).encode, [prefix + text for text in side])
        for one, prefix, side in (
            (tower, backbone.spec.query_prefix, query_texts),
            (frozen, backbone.spec.passage_prefix, passage_texts),
        )
    )
    # The first call of each part warms it up, and is what the counts are compared on.
    usual, prepared = (usual_queries(), usual_passages()), prepared_once(inputs, frozen)
    counts = score(tower, prepared)
    works: tuple[Callable[[], object], ...] = (
        usual_passages,
        usual_queries,
        partial(counted, texts, *usual, usual_scores),
        partial(prepared_once, inputs, frozen),
        partial(score, tower, prepared),
    )
    parts = {name: partial(timed, work, device) for name, work in zip(PARTS, works, strict=True)}
    print(
        f"\n{texts.name}: {len(query_texts):,} queries, {len(passage_texts):,} passages, "
        f"{counts.comparisons_K.sum():,} comparisons in {len(counts.keys)} counts"
    )
    print_times(interleaved(parts, rounds, 0))
    print_differences(texts, tower, prepared, counts, usual)


def print_times(seconds: Mapping[str, float]) -> None:
    """Seconds of each part, and ratios."""
    for name, median_s in seconds.items():
        print(f"  {name:42s}{median_s:9.3f} s")
    passages_s, queries_s, counting_s, once_s, tower_s = (seconds[name] for name in PARTS)
    for what, usual_s, ours_s in (
        ("bank at hand", passages_s + queries_s + counting_s, tower_s),
        (f"bank shared by {NUM_TOWERS} towers", passages_s + queries_s + counting_s, tower_s + once_s / NUM_TOWERS),
        ("bank included, a single tower", passages_s + queries_s + counting_s, tower_s + once_s),
        ("passages at hand in both", queries_s + counting_s, tower_s),
    ):
        print(f"  usual / this project, {what:32s}{usual_s / ours_s:8.2f}")


def print_differences(
    texts: PairSet | TripletSet,
    tower: Tower,
    prepared: Prepared,
    counts: Counts,
    usual: tuple[np.ndarray, np.ndarray],
) -> None:
    """Check this project's counts against comparison matrices, and print what rounding alone changes.

    Args:
        texts: the set.
        tower: the tower that was scored.
        prepared: the set as this project scores it.
        counts: this project's.
        usual: embeddings of queries and passages that the usual way made.
    """
    ours: Errors = dict(zip(counts.keys, counts.errors_K.tolist(), strict=True))
    shards = [prepared.queries.select(np.arange(*shard)) for shard in prepared.shards]
    our_queries_QD = np.concatenate([encode(tower, shard, TOKEN_BUDGET) for shard in shards])
    assert counted(texts, our_queries_QD, prepared.passages_PD, pair_scores) == ours, "same scores, other counts"
    sides = zip(usual, (our_queries_QD, prepared.passages_PD), strict=True)
    rounding = max(float(np.abs(theirs - own).max()) for theirs, own in sides)
    assert rounding < LARGEST_ROUNDING, f"both ways must encode alike, got embeddings that differ by {rounding}"
    print("  comparison matrices on this project's embeddings: every count the same")
    print(f"  usual embeddings differ by {rounding:.1e} at most, by how texts are batched; counts from them")
    for what, scores in (("by float64 scores", pair_scores), ("by float32 scores, as usual", usual_scores)):
        found = counted(texts, *usual, scores)
        changes_K = np.array([abs(found[key] - errors) for key, errors in ours.items()])
        print(f"    {what}: {np.count_nonzero(changes_K)} differ, by {changes_K.sum()} comparisons in all")


def prepared_once(inputs: EvaluationInputs, frozen: Tower) -> Prepared:
    """What all towers share: the bank, built as a sweep builds it, but in this process; token ids of the queries."""
    (texts,) = inputs.bank_texts()
    key = inputs.bank_key(texts)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number, (start, stop) in enumerate(key.shards()):
            tokens = inputs.backbone.tokenize(texts[start:stop], key.prefix)
            bank.store_shard(root, key, number, encode(frozen, tokens, key.token_budget))
        bank.assemble(root, key)
        bank_PD = bank.open_bank(root, key)
        assert bank_PD is not None, "a bank that was just there is gone"
        (prepared,) = prepare_sets(inputs, [bank_PD])
    return prepared


def score(tower: Tower, prepared: Prepared) -> Counts:
    """Counts of one tower: `score_shard` of all shards, as in a sweep."""
    (counts,) = score_sets(tower, [prepared], TOKEN_BUDGET)
    return counts


if __name__ == "__main__":
    main()
