"""Trials an hour of a whole sweep, on the cluster that this machine is: the usual way, and this project's pools.

The sweep is the demo's with fewer steps and texts, so that what Ray, Tune, files and processes cost shows beside the
work. The usual way is Ray Tune with a process for each trial in flight, which tunes and scores by itself, one CPU each;
it is given this project's step, banks and scoring. Layouts run one after another from the same banks; the time counts
from the first trial to the last row, the pools' start included.

    python benchmarks/bench_sweep.py [--layouts usual 2x1 1x2 1x4 2x1@2] [--trials 8]

TUNERSxPACK_SIZE; @2: on a cluster of two nodes, simulated here, each with half of the CPUs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # read when ray is imported: Tune prints no tables of its own

import ray
from ray import tune as ray_tune
from ray.cluster_utils import Cluster

from adiabatic_ray import provenance, results
from adiabatic_ray.changes import with_changes
from adiabatic_ray.encoders.towers import tuned_tower
from adiabatic_ray.evaluation.evaluate import score_sets
from adiabatic_ray.evaluation.prepare import Loader, prepare
from adiabatic_ray.on_ray.cluster import start_ray
from adiabatic_ray.on_ray.devices import use_threads
from adiabatic_ray.orchestration.orchestrator import open_banks, pin_trials, run_sweep
from adiabatic_ray.spec import SweepSpec, TrialSpec, geometric
from adiabatic_ray.trial import TrialContext, run_trial
from adiabatic_ray.tuning.tune import tune
from jobs.sweep_files import load_sweep
from tests.listening import Quiet

NUM_CPUS = 2


def main() -> None:
    """Run each layout and print what a trial cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", nargs="+", default=["usual", "2x1", "1x2", "1x4", "2x1@2"], help="see above")
    parser.add_argument("--trials", type=int, default=8)
    options = parser.parse_args()
    print(f"{NUM_CPUS} CPUs, {options.trials} trials a layout; a trial's means")
    print(f"{'layout':>8s}{'trials/hour':>13s}{'tuning s':>10s}{'scoring s':>11s}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        banks = Path(folder) / "banks"
        for layout in options.layouts:
            shape, _, num_nodes = layout.partition("@")
            cluster = _start(int(num_nodes or 1))
            out = Path(folder) / layout
            spec = _small(options.trials, shape)
            _fill_banks(spec, banks)
            started = time.monotonic()
            if shape == "usual":
                _sweep_the_usual_way(spec, out, banks)
            else:
                run_sweep(spec, out, banks, Quiet())
            wall_s = time.monotonic() - started
            trials = results.read_table(out, "trials", columns=["tune_s", "evaluate_s"]).to_pandas()
            assert len(trials) == options.trials
            means = trials["tune_s"].mean(), trials["evaluate_s"].mean()
            print(f"{layout:>8s}{3600 * len(trials) / wall_s:13.0f}{means[0]:10.2f}{means[1]:11.2f}", flush=True)
            ray.shutdown()
            if cluster is not None:
                cluster.shutdown()  # type: ignore[no-untyped-call]


def _start(num_nodes: int) -> Cluster | None:
    """Ray with NUM_CPUS CPUs; more than one node are simulated, and handed back to be shut down."""
    if num_nodes == 1:
        start_ray()
        return None
    share = {"num_cpus": NUM_CPUS // num_nodes, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=share)
    for _ in range(num_nodes - 1):
        cluster.add_node(num_cpus=NUM_CPUS // num_nodes)
    ray.init(address=cluster.address, log_to_driver=False)
    return cluster


def _small(num_trials: int, shape: str) -> SweepSpec:
    tuners, pack_size = (NUM_CPUS, 1) if shape == "usual" else map(int, shape.split("x"))
    changes = {
        "grid.tuning.learning_rate": list(geometric(1e-7, 1e-4, num_trials)),
        "grid.tuning.seed": [0],
        "trial.tuning.batches_per_epoch": 5,
        "trial.evaluation.sets.2.languages": ["en", "de", "zh"],
        "cluster.tuners": tuners,
        "cluster.pack_size": pack_size,
        "cluster.tuner_cpus": NUM_CPUS / tuners,
    }
    return with_changes(load_sweep("demo", []), changes)


def _fill_banks(spec: SweepSpec, banks: Path) -> None:
    """Passages are encoded before any layout is timed."""
    inputs = Loader().load(pin_trials(spec, Loader())[0])
    open_banks(inputs, ray.put(inputs.backbone), banks, spec.cluster, Quiet())


def _sweep_the_usual_way(spec: SweepSpec, out: Path, banks: Path) -> None:
    loader = Loader()
    trials = pin_trials(spec, loader)
    inputs = loader.load(trials[0])
    kit = prepare(inputs, open_banks(inputs, None, banks, spec.cluster, Quiet()))
    untuned = score_sets(inputs.backbone.build_tower(), kit.evaluation, inputs.token_budget)
    shared = ray.put((inputs, kit, untuned, provenance.collect()))

    def trainable(config: dict[str, Any]) -> None:
        use_threads(1)
        inputs, kit, untuned, recorded = ray.get(shared)
        run_trial(
            TrialSpec.model_validate_json(config["trial"]),
            TrialContext(spec.name, out, "untuned", untuned, 0.0, recorded),
            lambda trial, report: tune(
                inputs.backbone, trial.tuning, kit.tuning, kit.validation, inputs.token_budget, report
            ),
            lambda changed: score_sets(tuned_tower(inputs.backbone, changed), kit.evaluation, inputs.token_budget),
            lambda report: ray_tune.report({"epoch": report.epoch}),
        )

    ray_tune.Tuner(
        ray_tune.with_resources(trainable, {"cpu": 1}),
        param_space={"trial": ray_tune.grid_search([trial.model_dump_json() for trial in trials])},
        run_config=ray_tune.RunConfig(storage_path=str(out / "ray"), verbose=0),
    ).fit()


if __name__ == "__main__":
    main()
