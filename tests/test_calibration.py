"""Do the tests keep their promises? `benchmarks/calibration_table.py` simulates; here its rates meet their bounds.

A rate of R runs may differ from its nominal value by 3 binomial standard deviations, as if each run had one statistic;
the runs have more, so the rates are less noisy than that. Three, because fifty rates are looked at. The seed is fixed.

The clustered standard error is never too small, and a few percent too large where few comparisons change: the chance
part of a single comparison enters it twice, by its positive and by its negative, and the change once (variances of the
jackknife's kind err upwards, Efron and Stein 1981, Ann. Stat. 9:586-596).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.calibration_table import ALPHA, CORRELATIONS, Calibration, expected_pnd, rate, simulate

ROOT = Path(__file__).resolve().parents[1]


def _check(correlation: float, calibration: Calibration, num_runs: int) -> None:
    slack = 3 * np.sqrt(ALPHA * (1 - ALPHA) / num_runs)
    false_positives, _ = rate(calibration.clustered_rejects)
    assert abs(false_positives - ALPHA) < slack
    for covered in (calibration.change_covered, calibration.improvement_covered):
        assert abs(rate(covered)[0] - (1 - ALPHA)) < slack
    family_errors, _ = rate(calibration.family_rejects)
    assert family_errors < ALPHA + slack
    assert family_errors > 0.01  # not so careful that it is of no use; Bonferroni's bound on 8 would be .05 as well
    power, power_error = rate(calibration.detected)
    assert abs(power - calibration.power_expected) < 0.03 + 3 * power_error
    assert power > 0.7
    assert 1 - 2 / np.sqrt(num_runs) < calibration.se_ratio < 1.1 + 2 / np.sqrt(num_runs)
    paper, _ = rate(calibration.paper_rejects)
    assert paper < 0.01 if correlation == 0.9999 else True
    if correlation <= 0.995:
        assert paper > 0.25


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_calibration(correlation: float) -> None:
    """300 runs of 1,200 premises and 3 statistics: about two seconds a correlation."""
    calibration = simulate(21, correlation, num_runs=300, num_premises=1200, num_statistics=3)
    _check(correlation, calibration, 300)


@pytest.mark.slow
@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_calibration_at_the_size_of_xnli(correlation: float) -> None:
    """1,000 runs of 1,670 premises and 8 statistics: about a quarter of a minute a correlation."""
    _check(correlation, simulate(22, correlation, num_runs=1000), 1000)


def test_the_simulation_has_the_pnd_that_it_says() -> None:
    """Twenty premises, where comparisons within a premise show: mean of 4,000 simulated PNDs against the formula."""
    calibration = simulate(3, 0.5, num_runs=1000, num_premises=20, num_statistics=4)
    error = calibration.planted_change.std() / np.sqrt(1000)
    assert calibration.planted_change.mean() == pytest.approx(calibration.true_change, abs=3 * error)
    assert expected_pnd(1670) == pytest.approx(0.108, abs=0.001)


def test_the_same_seed_gives_the_same_table() -> None:
    first, second = (simulate(4, 0.99, num_runs=3, num_premises=50) for _ in range(2))
    assert first.planted_change.tobytes() == second.planted_change.tobytes()
    assert np.array_equal(first.family_rejects, second.family_rejects)


def test_the_command_prints_a_table() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "calibration_table.py"), "--runs", "2", "--premises", "30"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert printed[0].startswith("2 runs, 30 premises, 8 statistics")
    assert [line.split("|")[1].strip() for line in printed[4:]] == [str(correlation) for correlation in CORRELATIONS]
    assert {line.count("|") for line in printed[2:]} == {10}
