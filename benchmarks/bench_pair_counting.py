"""Counting errors on an XNLI-sized evaluation: sorting and bisection against the comparison matrix.

Run: `python benchmarks/bench_pair_counting.py`. Work: 15 languages, 225 language pairs, 1,670 positives against 1,670
negatives of 2 relations, by 2 measures, from random float32 embeddings; scoring and counting are timed apart. The
direct way forms the 1,670 x 1,670 comparison matrix and sums its rows and columns. It is timed on a few language pairs
and scaled to 225, as every pair takes the same time. The two ways take turns; medians over the rounds are printed.
Two more lines time the paper's MS MARCO triplets, from embeddings to errors and rank measures, and everything that
is said about the 900 statistics: tests, intervals, bands of 9,999 resamples, means over groups of language pairs.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adiabatic_ray.evaluation.evaluate import SHARD_QUERIES
from adiabatic_ray.sources import XNLI_LANGUAGES
from adiabatic_ray.statistics.counts import MEASURES, Counts, no_ranks
from adiabatic_ray.statistics.metrics import count_errors, errors_per_query, pair_scores
from adiabatic_ray.statistics.ranking import rank_measures
from adiabatic_ray.statistics.score_tables import aggregate_rows, score_rows

NUM_LANGUAGES, NUM_PAIRS_PER_LABEL = 15, 1670
NUM_QUERIES, NUM_TRIPLETS = 7_000, 357_642

Embeddings = NDArray[np.float32]
Errors = tuple[NDArray[np.int64], NDArray[np.int64]]
Counter = Callable[[NDArray[np.float64], NDArray[np.float64]], Errors]
LanguagePairs = list[tuple[int, int]]


def direct_count(positives_M: NDArray[np.float64], negatives_N: NDArray[np.float64]) -> Errors:
    """The same counts from the whole comparison matrix."""
    errors_MN = positives_M[:, np.newaxis] <= negatives_N[np.newaxis, :]
    return np.count_nonzero(errors_MN, axis=1), np.count_nonzero(errors_MN, axis=0)


def evaluate(
    queries: Embeddings, passages: Embeddings, pairs: LanguagePairs, counter: Counter
) -> tuple[list[Errors], float, float]:
    """Score and count language pairs.

    Args:
        queries: premises, shape (languages, pairs per label, dimensions).
        passages: hypotheses, shape (languages, 3 labels, pairs per label, dimensions).
        pairs: (query language, passage language).
        counter: how to count.

    Returns:
        Counts per language pair, measure and relation, seconds of scoring, seconds of counting.
    """
    counts, scoring_s, counting_s = [], 0.0, 0.0
    for query, passage in pairs:
        start = perf_counter()
        scores = [pair_scores(queries[query], passages[passage, label]) for label in range(3)]
        scored = perf_counter()
        for measure, relation in product(range(2), (1, 2)):
            counts.append(counter(scores[0][measure], scores[relation][measure]))
        scoring_s += scored - start
        counting_s += perf_counter() - scored
    return counts, scoring_s, counting_s


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB (Linux counts it in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def line(text: str) -> None:
    """Print one line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def bench_pairs(rng: np.random.Generator, dimensions: int, rounds: int, direct_pairs: int) -> list[Errors]:
    """The XNLI-sized comparison; returns the counts for the test of significance."""
    shape = (NUM_LANGUAGES, NUM_PAIRS_PER_LABEL, dimensions)
    queries = rng.standard_normal(shape, dtype=np.float32)
    passages = rng.standard_normal((NUM_LANGUAGES, 3, *shape[1:]), dtype=np.float32)
    pairs = list(product(range(NUM_LANGUAGES), range(NUM_LANGUAGES)))
    some = pairs[:: len(pairs) // direct_pairs][:direct_pairs]
    before_mib = peak_mib()
    counts, scoring_s, counting_s = evaluate(queries, passages, pairs, count_errors)
    after_mib = peak_mib()
    expected, _, _ = evaluate(queries, passages, some, direct_count)
    for index, pair in enumerate(some):
        for statistic in range(4):
            ours, theirs = counts[4 * pairs.index(pair) + statistic], expected[4 * index + statistic]
            if not all(np.array_equal(first, second) for first, second in zip(ours, theirs, strict=True)):
                raise AssertionError(f"language pair {pair}, statistic {statistic}: the two ways count differently")
    direct_mib = peak_mib()
    scoring, sorting, matrix = [], [], []
    for _ in range(rounds):
        _, scoring_s, counting_s = evaluate(queries, passages, pairs, count_errors)
        scoring.append(scoring_s)
        sorting.append(counting_s)
        _, _, direct_s = evaluate(queries, passages, some, direct_count)
        matrix.append(direct_s * len(pairs) / len(some))
    score_s, sort_s, matrix_s = median(scoring), median(sorting), median(matrix)
    comparisons = NUM_PAIRS_PER_LABEL**2 * len(pairs) * 4
    line(
        f"{len(pairs)} language pairs x 2 relations x 2 measures, {comparisons:,} comparisons, {dimensions} dimensions"
    )
    line(f"scoring, both measures                {score_s:8.2f} s")
    line(f"counting, sort and bisection          {sort_s:8.2f} s   ({min(sorting):.2f} to {max(sorting):.2f})")
    line(f"counting, comparison matrix           {matrix_s:8.2f} s   (scaled from {len(some)} language pairs)")
    line(f"ratio, counting alone                 {matrix_s / sort_s:8.1f}")
    line(f"ratio, scoring and counting           {(score_s + matrix_s) / (score_s + sort_s):8.1f}")
    line(f"peak memory: embeddings only          {before_mib:8.0f} MiB")
    line(f"peak memory: + sort and bisection     {after_mib:8.0f} MiB")
    line(f"peak memory: + comparison matrix      {direct_mib:8.0f} MiB")
    return counts


def bench_triplets(rng: np.random.Generator, dimensions: int, rounds: int) -> None:
    """The paper's MS MARCO evaluation: 7,000 queries with one positive each and 357,642 negatives in all."""
    extra = rng.multinomial(NUM_TRIPLETS - NUM_QUERIES, np.full(NUM_QUERIES, 1 / NUM_QUERIES))
    negative_offsets_Q1 = np.concatenate([[0], np.cumsum(extra + 1)])
    queries_QD = rng.standard_normal((NUM_QUERIES, dimensions), dtype=np.float32)
    bank_PD = rng.standard_normal((NUM_TRIPLETS, dimensions), dtype=np.float32)
    times = []
    for _ in range(rounds):
        start = perf_counter()
        for first in range(0, NUM_QUERIES, SHARD_QUERIES):
            shard = slice(first, min(first + SHARD_QUERIES, NUM_QUERIES))
            offsets = negative_offsets_Q1[first : shard.stop + 1]
            positives = pair_scores(queries_QD[shard], bank_PD[shard])
            repeated_ND = np.repeat(queries_QD[shard], np.diff(offsets), axis=0)
            negatives = pair_scores(repeated_ND, bank_PD[offsets[0] : offsets[-1]])
            for positive_scores, negative_scores in zip(positives, negatives, strict=True):
                layout = positive_scores, np.arange(len(positive_scores) + 1), negative_scores, offsets - offsets[0]
                errors_per_query(*layout)
                rank_measures(*layout)
        times.append(perf_counter() - start)
    line(f"triplets: {NUM_QUERIES:,} queries, {NUM_TRIPLETS:,}, both measures {median(times):8.2f} s")


def bench_inference(rng: np.random.Generator, errors: list[Errors], rounds: int) -> None:
    """Rows of `scores` and `aggregates`: every test, interval, band and mean over groups."""
    languages = list(product(XNLI_LANGUAGES, XNLI_LANGUAGES))
    keys = tuple(
        (f"entailment-{label}", measure, *pair)
        for pair in languages
        for measure in MEASURES
        for label in ("neutral", "contradiction")
    )
    by_positive, by_negative = (np.array([count[side] for count in errors], dtype=np.int32) for side in (0, 1))
    moved = np.diff(rng.integers(0, 3, (len(keys), NUM_PAIRS_PER_LABEL + 1)), axis=1).astype(np.int32)
    moved[:, -1] -= moved.sum(axis=1, dtype=np.int32)
    ones = np.ones_like(by_positive)
    untuned = Counts("xnli", "pairs", keys, by_positive, by_negative, ones, ones, no_ranks(len(keys)))
    tuned = Counts("xnli", "pairs", keys, by_positive + moved, by_negative + moved, ones, ones, no_ranks(len(keys)))
    times = []
    for _ in range(rounds):
        start = perf_counter()
        score_rows("trial", [untuned], [tuned])
        aggregate_rows("trial", [untuned], [tuned])
        times.append(perf_counter() - start)
    line(f"tests, bands and groups of {len(keys)} statistics {median(times):8.2f} s")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--dimensions", type=int, default=384, help="embedding dimensions (default: %(default)s, E5-small)"
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="times that each way takes its turn (default: %(default)s)"
    )
    parser.add_argument(
        "--direct-pairs", type=int, default=5, help="language pairs for the matrix (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random embeddings (default: %(default)s)")
    options = parser.parse_args()
    if min(options.dimensions, options.rounds, options.direct_pairs) < 1 or options.direct_pairs > NUM_LANGUAGES**2:
        parser.error("dimensions, rounds and direct pairs must be at least 1, and direct pairs at most 225")
    rng = np.random.default_rng(options.seed)
    counts = bench_pairs(rng, options.dimensions, options.rounds, options.direct_pairs)
    bench_triplets(rng, options.dimensions, options.rounds)
    bench_inference(rng, counts, options.rounds)


if __name__ == "__main__":
    main()
