"""Time and memory of all boundaries of a large sweep: 300 trials, 225 language pairs, 1,670 premises, 2,000 replicates.

A folder is planted: two relations and two measures of XNLI's size, 100 rates with 3 seeds, influence tables as sparse
as real ones (3.4% of the counts are not 0; one drawn table is written for all trials, with different numbers of errors
by rate in `scores`). Time is that of reading it and of every table; memory is the most that the process ever held.

    python benchmarks/bench_boundaries.py [--trials 300] [--resamples 2000]
"""

from __future__ import annotations

import argparse
import itertools
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adiabatic_ray import results
from adiabatic_ray.sources import XNLI_LANGUAGES
from adiabatic_ray.statistics.counts import MEASURES, Counts, influence_rows, no_ranks, untuned_rows
from adiabatic_ray.statistics.score_tables import score_rows
from analysis.boundary_tables import boundary_table, language_boundaries
from analysis.gains import best_rates, gain_floor
from analysis.load import load_sweep
from analysis.ratios import boundary_ratios
from analysis.resample import gather
from tests import planted

NUM_PREMISES, NUM_SEEDS = 1670, 3
RELATIONS = ("entailment-neutral", "entailment-contradiction")


def counts(rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Untuned and tuned counts of the pair set of the planted sweep."""
    pairs = list(itertools.product(XNLI_LANGUAGES, XNLI_LANGUAGES))
    keys = [(r, m, query, passage) for r in RELATIONS for m in MEASURES for query, passage in pairs]
    errors_KC = rng.binomial(NUM_PREMISES, 0.1, (len(keys), NUM_PREMISES)).astype(np.int32)
    order_C = rng.permutation(NUM_PREMISES)
    changed_KC = (rng.random(errors_KC.shape) < 0.034).astype(np.int32)
    ones, sides = np.ones_like(errors_KC), []
    for by_positive_KC in (errors_KC, errors_KC + changed_KC):
        both = by_positive_KC, by_positive_KC[:, order_C]
        sides.append(Counts(planted.PAIRS, "pairs", tuple(keys), *both, ones, ones, no_ranks(len(keys))))
    return sides[0], sides[1]


def write(out: Path, num_trials: int) -> None:
    """The planted folder: small first, then with large tables in place of the small ones."""
    rates = np.geomspace(1e-8, 1e-6, num_trials // NUM_SEEDS).tolist()
    plan = planted.Plan(dict.fromkeys(rates, 0.01), seeds=tuple(range(NUM_SEEDS)), num_languages=15, num_clusters=2,
                        has_pairs=False)  # fmt: skip
    pair_plan = planted.Plan(plan.improvement, seeds=plan.seeds, num_languages=15)
    spec = planted.write_planted(out, plan)
    content = results.read_sweep(out)
    with_pairs = planted.sweep_spec(pair_plan)
    trials = with_pairs.expand()
    results.write_sweep(out, with_pairs.model_dump(mode="json"), [t.trial_id for t in trials], content["provenance"])
    before, after = counts(np.random.default_rng(0))
    other = planted.Texts(planted.Plan({}, num_clusters=200)).untuned_counts()[1:]
    untuned, tuned = [*other, before], [*other, after]
    results.write_table(out, "untuned", planted.UNTUNED_ID, untuned_rows(planted.UNTUNED_ID, untuned))
    tables = {"influence": influence_rows("x", untuned, tuned), "scores": score_rows("x", untuned, tuned)}
    kept = {name: pq.read_table(results.write_table(out, name, "x", rows)) for name, rows in tables.items()}
    for old, trial in zip(spec.expand(), trials, strict=True):
        for name, table in kept.items():
            (out / name / f"{old.trial_id}.parquet").unlink()
            write_as(out, name, trial.trial_id, table)
        for name in ("trials", "curves", "drift"):
            table = pq.read_table(results.table_path(out, name, old.trial_id))
            results.table_path(out, name, old.trial_id).unlink()
            if name == "trials":
                column = pa.array([trial.model_dump_json()], table.schema.field("spec_json").type)
                table = table.set_column(
                    table.schema.get_field_index("spec_json"), table.schema.field("spec_json"), column
                )
            write_as(out, name, trial.trial_id, table)
    for name in kept:
        results.table_path(out, name, "x").unlink()


def write_as(out: Path, name: str, trial_id: str, table: pa.Table) -> None:
    """The same rows as another trial's."""
    ids = pa.array([trial_id] * len(table), table.schema.field("trial_id").type)
    table = table.set_column(table.schema.get_field_index("trial_id"), table.schema.field("trial_id"), ids)
    pq.write_table(table, results.table_path(out, name, trial_id), compression="zstd", write_page_checksum=True)


def measure(out: Path, num_resamples: int) -> None:
    """Read the folder and make every table; print what each took."""
    begin = start = time.perf_counter()
    work = begin_work = time.process_time()

    def lap(what: str) -> None:
        nonlocal start, work
        now, done = time.perf_counter(), time.process_time()
        print(f"{what:34} {now - start:6.1f} s, of a processor {done - work:6.1f} s", flush=True)
        start, work = now, done

    sweep = load_sweep(out)
    lap("load_sweep")
    evidence = gather(sweep, num_resamples=num_resamples)
    lap("gather")
    rows = len(boundary_table(evidence))
    lap(f"boundary_table, {rows} rows")
    rows = len(language_boundaries(evidence))
    lap(f"language_boundaries, {rows} rows")
    boundary_ratios(evidence), best_rates(evidence), gain_floor(evidence)
    lap("ratios, best rates, gain floor")
    print(f"{'all':34} {start - begin:6.1f} s, of a processor {work - begin_work:6.1f} s")
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        measure(given.read, given.resamples)
        return
    folder = Path(tempfile.mkdtemp())
    try:
        write(folder, given.trials)
        # A process of its own: what writing held is not what reading takes.
        command = [sys.executable, __file__, "--read", str(folder), "--resamples", str(given.resamples)]
        subprocess.run(command, check=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
