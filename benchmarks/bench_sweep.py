"""Trials an hour of a whole sweep: processes that tune one trial each, and packs, on the cluster that this machine is.

The sweep is the demo's with fewer steps and texts, so that what Ray, Tune, files and processes cost shows beside the
work. Layouts are run one after another from the same banks; the time counts from the first lease to the last row.

    python benchmarks/bench_sweep.py [--layouts 2x1 1x2 1x4] [--rates 6]       (TUNERSxPACK_SIZE)
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adiabatic_ray import results
from adiabatic_ray.on_ray.cluster import start_ray
from adiabatic_ray.orchestration.orchestrator import run_sweep
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.spec import SweepSpec, geometric, with_changes
from jobs.sweep_files import load_sweep


class _Clock:
    """A listener that remembers when trials began."""

    started: float = 0.0

    def stage(self, text: str) -> None:
        pass

    def counted(self, what: str, done: int, total: int) -> None:
        pass

    def sweep_started(self, num_trials: int, num_finished_before: int) -> None:
        self.started = time.monotonic()

    def trial_started(self, trial_id: str) -> None:
        pass

    def epoch_finished(self, event: object) -> None:
        pass

    def trial_finished(self, trial_id: str, status: TrialStatus) -> None:
        pass


def main() -> None:
    """Run each layout and print what a trial cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", nargs="+", default=["2x1", "1x2", "1x4"], help="TUNERSxPACK_SIZE")
    parser.add_argument("--rates", type=int, default=6, help="trials")
    options = parser.parse_args()
    start_ray()
    print(f"{'layout':>8s}{'trials/hour':>13s}{'tuning s':>10s}{'scoring s':>11s}{'other s':>9s}   (a trial, mean)")
    with tempfile.TemporaryDirectory() as folder:
        for layout in options.layouts:
            tuners, pack_size = map(int, layout.split("x"))
            spec = _small(options.rates, tuners, pack_size)
            out, clock = Path(folder) / layout, _Clock()
            run_sweep(spec, out, Path(folder) / "banks", clock)
            wall_s = time.monotonic() - clock.started
            trials = results.read_table(out, "trials", columns=["tune_s", "evaluate_s"]).to_pandas()
            slots = tuners * pack_size
            print(
                f"{layout:>8s}{3600 * len(trials) / wall_s:13.0f}{trials['tune_s'].mean():10.2f}"
                f"{trials['evaluate_s'].mean():11.2f}"
                f"{wall_s * slots / len(trials) - trials['tune_s'].mean():9.2f}",
                flush=True,
            )


def _small(num_rates: int, tuners: int, pack_size: int) -> SweepSpec:
    changes = {
        "grid.tuning.learning_rate": list(geometric(1e-7, 1e-4, num_rates)),
        "grid.tuning.seed": [0],
        "trial.tuning.batches_per_epoch": 5,
        "trial.evaluation.sets.2.languages": ["en", "de", "zh"],
        "cluster.tuners": tuners,
        "cluster.pack_size": pack_size,
        "cluster.tuner_cpus": 2 / tuners,
    }
    return with_changes(load_sweep("demo", []), changes)


if __name__ == "__main__":
    main()
