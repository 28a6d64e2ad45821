"""Nothing grows with the number of trials that a driver has seen; `benchmarks/soak.py` has it for a thousand."""

from __future__ import annotations

from pathlib import Path

import pytest

from adiabatic_ray.orchestration.orchestrator import run_sweep
from adiabatic_ray.schemas import TrialStatus
from benchmarks.long_run_gauges import slope
from benchmarks.soak import Soaked, TimedTracker, report, soaking_sweep

EVERY, NUM_TRIALS = 10, 40


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_driver_holds_no_more_after_many_trials(ray_cluster: None, tmp_path: Path) -> None:
    """Twenty trials apart, both with others in flight. One descriptor a trial would be 20 more."""
    out = tmp_path / "out"
    out.mkdir()
    tracker = TimedTracker(out, None, warn=pytest.fail)
    with Soaked(out, EVERY, tracker) as progress:
        outcome = run_sweep(soaking_sweep(tmp_path / "inputs", NUM_TRIALS), out, tmp_path / "banks", progress)
    tracker.finish(None)
    assert list(outcome.statuses.values()) == [TrialStatus.COMPLETE] * NUM_TRIALS
    early, later = progress.samples[0], progress.samples[2]
    apart = later["trials"] - early["trials"]
    assert apart == 20
    grown = {name: later[name] - early[name] for name in ("driver fds", "driver threads", "driver MB")}
    assert grown["driver fds"] < apart / 2, grown
    assert grown["driver threads"] < apart / 2, grown
    assert grown["driver MB"] < 1.5 * apart, grown
    assert later["MLflow trial s"] < 0.05 * NUM_TRIALS, "the driver's loop waited for MLflow"


def test_the_table_has_a_line_a_gauge_with_slopes_of_the_whole_and_of_the_halves() -> None:
    """Twice as fast in the second half: 1 and 2 MB a trial."""
    samples = [
        {"trials": trials, "driver MB": size}
        for trials, size in zip((10.0, 20.0, 30.0, 40.0, 50.0), (110.0, 120.0, 130.0, 150.0, 170.0), strict=True)
    ]
    *_, line = report(samples).splitlines()
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:4] == ["driver MB", "110", "130", "170"] and cells[5:] == ["1 (0)", "2 (0)"]
    assert slope([1, 2, 3], [3, 5, 7]) == pytest.approx((2, 0))
