"""Counting errors on an XNLI-sized evaluation: sorting and bisection against the comparison matrix.

Run: `python benchmarks/bench_pair_counting.py`. Work: 15 languages, 225 language pairs, 1,670 positives against 1,670
negatives of 2 relations, by 2 measures, from random float32 embeddings; scoring and counting are timed apart. The
direct way forms the 1,670 x 1,670 comparison matrix and sums its rows and columns. It is timed on a few language pairs
and scaled to 225, as every pair takes the same time. The two ways take turns; medians over the rounds are printed.
Two more lines time the paper's MS MARCO triplets and the clustered test of all 900 statistics.
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

from adiabatic_ray.metrics import count_errors, errors_per_query, pair_scores
from adiabatic_ray.significance import clustered_test, pair_influence_KC

NUM_LANGUAGES, NUM_PAIRS_PER_LABEL = 15, 1670
NUM_QUERIES, NUM_TRIPLETS = 7_000, 357_642

Embeddings = NDArray[np.float32]
Counts = tuple[NDArray[np.int64], NDArray[np.int64]]
Counter = Callable[[NDArray[np.float64], NDArray[np.float64]], Counts]
LanguagePairs = list[tuple[int, int]]


def direct_count(positives_M: NDArray[np.float64], negatives_N: NDArray[np.float64]) -> Counts:
    """The same counts from the whole comparison matrix."""
    errors_MN = positives_M[:, np.newaxis] <= negatives_N[np.newaxis, :]
    return np.count_nonzero(errors_MN, axis=1), np.count_nonzero(errors_MN, axis=0)


def evaluate(
    queries: Embeddings, passages: Embeddings, pairs: LanguagePairs, counter: Counter
) -> tuple[list[Counts], float, float]:
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


def bench_pairs(rng: np.random.Generator, dimensions: int, rounds: int, direct_pairs: int) -> list[Counts]:
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


def bench_triplets(rng: np.random.Generator, rounds: int) -> None:
    """The paper's MS MARCO evaluation: 7,000 queries with one positive each and 357,642 negatives in all."""
    extra = rng.multinomial(NUM_TRIPLETS - NUM_QUERIES, np.full(NUM_QUERIES, 1 / NUM_QUERIES))
    negative_offsets = np.concatenate([[0], np.cumsum(extra + 1)])
    positives, negatives = rng.standard_normal(NUM_QUERIES), rng.standard_normal(NUM_TRIPLETS)
    times = []
    for _ in range(rounds):
        start = perf_counter()
        errors_per_query(positives, np.arange(NUM_QUERIES + 1), negatives, negative_offsets)
        times.append(perf_counter() - start)
    line(f"triplets: {NUM_QUERIES:,} queries, {NUM_TRIPLETS:,}   {median(times):8.3f} s")


def bench_test(counts: list[Counts], rounds: int) -> None:
    """Influences and clustered test of every statistic, over premises."""
    by_positive, by_negative = (np.array([count[side] for count in counts]) for side in (0, 1))
    ones = np.ones(NUM_PAIRS_PER_LABEL, dtype=np.int64)
    delta = by_positive.sum(axis=1) / NUM_PAIRS_PER_LABEL**2
    times = []
    for _ in range(rounds):
        start = perf_counter()
        clustered_test(delta, pair_influence_KC(by_positive, by_negative, ones, ones))
        times.append(perf_counter() - start)
    line(f"clustered test of {len(counts)} statistics       {median(times):8.3f} s")


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
    bench_triplets(rng, options.rounds)
    bench_test(counts, options.rounds)


if __name__ == "__main__":
    main()
