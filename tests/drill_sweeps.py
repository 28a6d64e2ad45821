"""The sweep that failure drills disturb, and its results when nothing does."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from adiabatic_ray import results
from adiabatic_ray.changes import with_changes
from adiabatic_ray.spec import SweepSpec
from tests.fault_cluster import Driver, epochs_tuned_twice, sweep
from tests.namespaces import Namespace
from tests.small_sweep import small_sweep, write_pairs

NUM_TRIALS = 4


@dataclass(frozen=True)
class Sweeps:
    """A sweep file, banks that are there already, and the results of a run that nothing disturbed."""

    file: Path
    banks: Path
    undisturbed: Path

    def run(
        self, out: Path, address: str | None, *more: str, inside: Namespace | None = None
    ) -> AbstractContextManager[Driver]:
        """The same sweep on a cluster, or, without its address, on a local Ray."""
        return sweep(self.file, out, self.banks, address, *more, inside=inside)


def write_sweep(spec: SweepSpec, path: Path) -> Path:
    """A sweep file."""
    path.write_text(
        "from adiabatic_ray.spec import SweepSpec\n\n\n"
        f"def sweep():\n    return SweepSpec.model_validate_json({spec.model_dump_json()!r})\n"
    )
    return path


def undisturbed_sweep(folder: Path) -> Sweeps:
    """Trials of a few seconds, saved after each epoch, and shards that take long enough to be interrupted."""
    spec = small_sweep(folder / "inputs", rates=(1e-4, 1e-3), seeds=(0, 1))
    write_pairs(folder / "inputs" / "pairs.jsonl", 300)
    longer = {"trial.tuning.batches_per_epoch": 60, "trial.tuning.max_epochs": 8, "cluster.checkpoint_every_s": 0}
    made = Sweeps(write_sweep(with_changes(spec, longer), folder / "a_sweep.py"), folder / "banks", folder / "whole")
    with made.run(made.undisturbed, None) as driver:
        assert driver.end() == 0, driver.text()
    assert len(results.finished_trials(made.undisturbed)) == NUM_TRIALS
    assert set(epochs_tuned_twice(driver.heard).values()) == {0}, "epochs differ where nothing happened"
    return made
