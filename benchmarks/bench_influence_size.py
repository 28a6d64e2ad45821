"""Size of a trial's `influence` table at the paper's size: a real Parquet file, by set and by column.

Scores are simulated: half of a score's variance is its query's, PND is about 10.8%, and scores before and after tuning
correlate at .999 (`--correlation`), every language pair and measure with noise of its own. Towers share more than that,
so a real table is rather smaller. Labelled pairs: 1,670 premises, 225 language pairs, two relations, two measures.
Triplets: MS MARCO with 51 negatives a query, both arXiv sets with one.

    python benchmarks/bench_influence_size.py [--correlation 0.999]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adiabatic_ray import results
from adiabatic_ray.sources import XNLI_LANGUAGES
from adiabatic_ray.statistics import metrics
from adiabatic_ray.statistics.counts import MEASURES, Counts, influence_rows, no_ranks
from adiabatic_ray.statistics.ranking import rank_measures

POSITIVE_MEAN = 1.75
NUM_PREMISES = 1670
TRIPLETS = {"msmarco": (7_000, 51), "arxiv-title": (253_140, 1), "arxiv-first": (253_140, 1)}
"""Queries, and negatives of each; every query has one positive."""


def towers(rng: np.random.Generator, correlation: float, num_queries: int, width: int) -> Iterator[np.ndarray]:
    """Scores of two towers, [queries, 1 positive and then the negatives]."""
    common, *own = (
        np.sqrt(0.5) * (rng.standard_normal((num_queries, 1)) + rng.standard_normal((num_queries, width)))
        for _ in range(3)
    )
    for noise in own:
        scores = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * noise
        scores[:, 0] += POSITIVE_MEAN
        yield scores


def pair_counts(rng: np.random.Generator, correlation: float) -> list[Counts]:
    """XNLI with both towers."""
    languages = [(query, passage) for query in XNLI_LANGUAGES for passage in XNLI_LANGUAGES]
    keys, sides = [], ([], [])  # type: ignore[var-annotated]
    for pair in languages:
        for measure in MEASURES:
            for scores, counted in zip(towers(rng, correlation, NUM_PREMISES, 3), sides, strict=True):
                counted += [metrics.count_errors(scores[:, 0], scores[:, place]) for place in (1, 2)]
            keys += [(f"entailment-{label}", measure, *pair) for label in ("neutral", "contradiction")]
    ones = np.ones((len(keys), NUM_PREMISES), np.int32)
    found = []
    for side in sides:
        by_positive_KC, by_negative_KC = np.array(side, np.int32).swapaxes(0, 1)
        arrays = by_positive_KC, by_negative_KC, ones, ones, no_ranks(len(keys))
        found.append(Counts("xnli", "pairs", tuple(keys), *arrays))
    return found


def triplet_counts(
    rng: np.random.Generator, correlation: float, name: str, num_queries: int, num_negatives: int
) -> list[Counts]:
    """A triplet set with both towers."""
    offsets = [np.arange(num_queries + 1) * size for size in (1, num_negatives)]
    errors, ranks = ([], []), ([], [])  # type: ignore[var-annotated]
    for _ in MEASURES:
        for tower, scores in enumerate(towers(rng, correlation, num_queries, 1 + num_negatives)):
            layout = scores[:, 0].copy(), offsets[0], scores[:, 1:].ravel(), offsets[1]
            errors[tower].append(metrics.errors_per_query(*layout).astype(np.int32))
            ranks[tower].append(np.stack(rank_measures(*layout)))
    keys = tuple(("positive-negative", measure, "", "") for measure in MEASURES)
    ones = np.ones((len(MEASURES), num_queries), np.int32)
    return [
        Counts(name, "triplets", keys, np.stack(by_query), ones[:, :0], ones, num_negatives * ones, np.stack(rank))
        for by_query, rank in zip(errors, ranks, strict=True)
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--correlation", type=float, default=0.999, help="of scores before and after tuning")
    correlation, rng = parser.parse_args().correlation, np.random.default_rng(0)
    sets = [pair_counts(rng, correlation)]
    sets += [triplet_counts(rng, correlation, name, *sizes) for name, sizes in TRIPLETS.items()]
    untuned, tuned = ([one[tower] for one in sets] for tower in (0, 1))
    with tempfile.TemporaryDirectory() as folder:
        for before, after in zip(untuned, tuned, strict=True):
            part = results.write_table(Path(folder), "influence", "part", influence_rows("t", [before], [after]))
            changed = np.mean(before.by_positive_KC != after.by_positive_KC)
            print(f"{before.set_name}: {part.stat().st_size:,} bytes, {100 * changed:.1f}% of the numbers not 0")
        start = time.perf_counter()
        whole = results.write_table(Path(folder), "influence", "whole", influence_rows("t", untuned, tuned))
        print(
            f"whole table: {whole.stat().st_size:,} bytes, written in {time.perf_counter() - start:.1f} s; by column:"
        )
        group = pq.ParquetFile(whole).metadata.row_group(0)
        for column in map(group.column, range(group.num_columns)):
            print(f"  {column.path_in_schema.split('.')[0]}: {column.total_compressed_size:,} bytes")


if __name__ == "__main__":
    main()
