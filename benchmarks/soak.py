"""A thousand trials through the real path: does anything grow with them, and does each cost what the first did?

The sweep is that of the tests (a tiny random encoder, texts and pairs of one's own), with one epoch of one batch, so
that what is left is Ray, Tune, files, MLflow and the driver. Every EVERY finished trials all gauges are read; the time
that this takes is not counted. The driver's CPU seconds beside the wall clock tell growth from other work on a machine.

    python benchmarks/soak.py --out FOLDER [--trials 1000] [--every 50] [--tracking-uri URI]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # these are read when ray and mlflow are imported
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import ray

from adiabatic_ray.changes import with_changes
from adiabatic_ray.events import EpochEvent
from adiabatic_ray.on_ray.cluster import start_ray
from adiabatic_ray.on_ray.tracking import Tracker
from adiabatic_ray.orchestration.orchestrator import run_sweep
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.spec import SweepSpec
from benchmarks.long_run_gauges import driver_gauges, folder_mb, ray_gauges, slope
from jobs.environment import plain_console
from jobs.progress import SweepProgress
from tests.small_sweep import small_sweep


class TimedTracker(Tracker):
    """Counts the seconds for which its callers wait."""

    def __init__(self, out: Path, uri: str | None, warn: Callable[[str], None]) -> None:
        super().__init__(out, uri, warn)
        self.waits_s: dict[str, list[float]] = defaultdict(list)

    def trial_epoch(self, event: EpochEvent) -> None:
        """See `Tracker`."""
        started = time.perf_counter()
        super().trial_epoch(event)
        self.waits_s["epoch"].append(time.perf_counter() - started)

    def sync_trial(self, trial_id: str, status: TrialStatus) -> None:
        """See `Tracker`."""
        started = time.perf_counter()
        super().sync_trial(trial_id, status)
        self.waits_s["trial"].append(time.perf_counter() - started)


class Soaked(SweepProgress):
    """Reads the gauges when so many more trials are finished."""

    def __init__(self, out: Path, every: int, tracker: TimedTracker) -> None:
        super().__init__(plain_console(), tracker)
        self._out, self._every, self._timed = out, every, tracker
        connected = ray.init(ignore_reinit_error=True, logging_level=logging.WARNING)  # it is: this asks where
        self._session = Path(connected.address_info["session_dir"])  # type: ignore[attr-defined]
        self._last_s = time.monotonic()
        self._wall_s = self._waited_s = 0.0
        self.samples: list[dict[str, float]] = []

    def trial_finished(self, trial_id: str, status: TrialStatus) -> None:
        """Pass it on, then look."""
        super().trial_finished(trial_id, status)
        if self._num_done % self._every == 0:
            self._wall_s += time.monotonic() - self._last_s
            self.samples.append({"trials": self._num_done, "wall s": self._wall_s, **self._gauges()})
            (self._out / "soak.json").write_text(json.dumps(self.samples))
            self._last_s = time.monotonic()

    def _gauges(self) -> dict[str, float]:
        waits = {f"MLflow {what} s": sum(times) for what, times in self._timed.waits_s.items()}
        folders = {
            "session MB": self._session,
            "logs MB": self._session / "logs",
            "mlflow.db MB": self._out / "mlflow.db",
        }
        sizes = {name: folder_mb(folder) for name, folder in folders.items()}
        tables = sum(folder_mb(folder) for folder in self._out.iterdir() if folder.name != "mlflow")
        sizes["tables MB"] = tables - sizes["mlflow.db MB"]
        return driver_gauges() | ray_gauges() | sizes | waits


def soaking_sweep(folder: Path, num_trials: int) -> SweepSpec:
    """Trials that differ by seed, each tuned on one batch."""
    changes = {"trial.tuning.batches_per_epoch": 1, "trial.tuning.max_epochs": 1}
    return with_changes(small_sweep(folder, rates=(1e-3,), seeds=tuple(range(num_trials))), changes)


def main() -> None:
    """Run the sweep and print what was read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="results folder; its content is left there")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--every", type=int, default=50)
    parser.add_argument("--tracking-uri", help="default: SQLite in the results folder")
    options = parser.parse_args()
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    tracker = TimedTracker(out, options.tracking_uri, warn=lambda text: print(text, flush=True))
    start_ray()
    with Soaked(out, options.every, tracker) as progress:
        run_sweep(soaking_sweep(out.parent / "soak-inputs", options.trials), out, out.parent / "soak-banks", progress)
    tracker.finish(None)
    print(f"\n{os.cpu_count()} cores, load at the end {os.getloadavg()[0]:.1f}\n\n{report(progress.samples)}")


def report(samples: Sequence[dict[str, float]]) -> str:
    """Markdown: what each gauge read first, in the middle and last, and its change a trial, whole and by halves."""
    trials = [one["trials"] for one in samples]
    middle = len(samples) // 2
    lines = [
        f"| gauge | after {trials[0]:.0f} | after {trials[middle]:.0f} | after {trials[-1]:.0f} "
        "| a trial (standard error) | first half | second half |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name in samples[0]:
        if name == "trials":
            continue
        values = [one[name] for one in samples]
        rates = [slope(trials[part], values[part]) for part in (slice(None), slice(middle + 1), slice(middle, None))]
        numbers = " | ".join(f"{values[place]:.4g}" for place in (0, middle, -1))
        slopes = " | ".join(f"{rate:.3g} ({error:.1g})" for rate, error in rates)
        lines.append(f"| {name} | {numbers} | {slopes} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
