"""Do the tests keep their promises? Simulated towers with a known truth, and the share of runs in which each test errs.

Run: `python benchmarks/calibration_table.py` (about a minute and a half on one core).

A run draws the scores of an untuned tower, of a tuned one that can be exchanged with it (a true null), and of one whose
positives are farther by a known amount. Premises carry one positive and one negative for each of K statistics (language
pairs); half of each score's variance is the premise's, and half of that is shared by all statistics. Scores before and
after tuning have the correlation of the row. PND is about 10.8% (AUC .892), as the paper prints it for E5.

Columns, all at a nominal 5% or 95%: false positives of the paper's z-test and of the clustered test under the null, and
the clustered standard error over the spread that the changes really have; how often the intervals on the change and on
the improvement cover the true ones under the planted change; how often max-T finds anything under the null; how often
the clustered test finds the planted change, and how often it should (normal theory, with the spread that the runs
have). `tests/test_calibration.py` holds the same numbers to their bounds, and says why the standard error is a little
too large where few comparisons change.

Shape suffixes: K statistics, C clusters (premises), R runs; towers are untuned, tuned without effect, tuned with one.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adiabatic_ray.statistics.inference import Estimates, estimate_change, estimate_improvement
from adiabatic_ray.statistics.metrics import count_errors
from adiabatic_ray.statistics.significance import PAPER_CRITICAL_Z, pair_influence_KC, paper_z
from adiabatic_ray.statistics.simultaneous import simultaneous_test

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

CORRELATIONS = (0.9999, 0.999, 0.995, 0.99, 0.95)
POSITIVE_MEAN = 1.75
"""Mean score of a positive, in units of a score's standard deviation; negatives have mean 0."""
PREMISE_FRAC = 0.5
"""Share of a score's variance that belongs to its premise."""
SHARED_FRAC = 0.5
"""Share of the premise's variance that all statistics have in common."""
EFFECT = 7.5
"""Planted loss of the positives' mean over sqrt((1 - correlation) / C): a change of about three standard errors."""
NUM_RESAMPLES = 99
"""Of max-T. Its error rate is right for any number; more would only raise its power."""
ALPHA = 0.05
HEAD = (
    "| correlation | paper's z | clustered | standard error / true | coverage, change | coverage, improvement "
    "| max-T, any | power | power expected |\n" + "|---" * 9 + "|"
)


@dataclass(frozen=True)
class Calibration:
    """What happened in each run; fields of shape (R, K) unless said otherwise."""

    paper_rejects: BoolArray
    clustered_rejects: BoolArray
    change_covered: BoolArray
    improvement_covered: BoolArray
    family_rejects: BoolArray
    """Max-T found anything (R, 1)."""
    detected: BoolArray
    """The planted change was found, in its direction."""
    null_change: FloatArray
    null_se: FloatArray
    planted_change: FloatArray
    true_change: float
    """Planted, in units of PND; a scalar."""

    @property
    def se_ratio(self) -> float:
        """Estimated standard error (root mean square) over the spread that the estimates have under the null."""
        return float(np.sqrt(np.mean(self.null_se**2) / self.null_change.var(axis=0, ddof=1).mean()))

    @property
    def power_expected(self) -> float:
        """Chance to find the planted change: its size over the spread of its estimates, against 1.96."""
        return float(ndtr(self.true_change / self.planted_change.std(axis=0).mean() - PAPER_CRITICAL_Z))


def rate(outcomes_RK: BoolArray) -> tuple[float, float]:
    """Share of True and its standard error over runs; the statistics of one run depend on each other."""
    means_R = outcomes_RK.mean(axis=1)
    return float(means_R.mean()), float(means_R.std(ddof=1) / np.sqrt(len(means_R)))


def expected_pnd(num_premises: int, loss: float = 0.0) -> float:
    """True PND of a simulated tower: comparisons within a premise (1 of C) share its part of the variance."""
    distance = POSITIVE_MEAN - loss
    between, within = ndtr(-distance / np.sqrt(2)), ndtr(-distance / np.sqrt(2 * (1 - PREMISE_FRAC)))
    return float(((num_premises - 1) * between + within) / num_premises)


def draw_scores(rng: np.random.Generator, num_premises: int, num_statistics: int, correlation: float) -> FloatArray:
    """Scores of two exchangeable towers, shape (2 towers, positive or negative, K, C)."""

    def part(num_towers: int) -> FloatArray:
        of_all = rng.standard_normal((num_towers, 1, 1, num_premises))
        of_premises = rng.standard_normal((num_towers, 1, num_statistics, num_premises))
        of_texts = rng.standard_normal((num_towers, 2, num_statistics, num_premises))
        premise_part = np.sqrt(SHARED_FRAC) * of_all + np.sqrt(1 - SHARED_FRAC) * of_premises
        summed: FloatArray = np.sqrt(PREMISE_FRAC) * premise_part + np.sqrt(1 - PREMISE_FRAC) * of_texts
        return summed

    scores: FloatArray = np.sqrt(correlation) * part(1) + np.sqrt(1 - correlation) * part(2)
    scores[:, 0] += POSITIVE_MEAN
    return scores


def count(scores_KC: FloatArray) -> tuple[IntArray, IntArray]:
    """Errors by premise of one tower, by positive and by negative, (K, C) each; `scores_KC` has both sides first."""
    counts = [count_errors(positives, negatives) for positives, negatives in zip(*scores_KC, strict=True)]
    return np.stack([by_positive for by_positive, _ in counts]), np.stack([by_negative for _, by_negative in counts])


def simulate(
    seed: int, correlation: float, *, num_runs: int, num_premises: int = 1670, num_statistics: int = 8
) -> Calibration:
    """Run the simulation; the same arguments give the same outcomes.

    Args:
        seed: of the generator.
        correlation: of the scores before and after tuning.
        num_runs: R.
        num_premises: C.
        num_statistics: K.
    """
    rng = np.random.default_rng(seed)
    loss = EFFECT * np.sqrt(1 - correlation) / np.sqrt(num_premises)
    untuned_pnd = expected_pnd(num_premises)
    true_change = expected_pnd(num_premises, loss) - untuned_pnd
    ones_C = np.ones(num_premises, dtype=np.int64)
    runs: list[dict[str, NDArray[Any]]] = []
    for _ in range(num_runs):
        scores = draw_scores(rng, num_premises, num_statistics, correlation)
        untuned, tuned = count(scores[0]), count(scores[1])
        scores[1, 0] -= loss
        worsened = count(scores[1])
        base_K, errors_K, worsened_K = (counts[0].sum(axis=1) for counts in (untuned, tuned, worsened))
        z_K, _ = paper_z(base_K, errors_K, num_premises**2)
        delta_K = (errors_K - base_K) / num_premises**2
        influence_KC = pair_influence_KC(tuned[0] - untuned[0], tuned[1] - untuned[1], ones_C, ones_C)
        null = estimate_change(delta_K, influence_KC)
        family = simultaneous_test(delta_K, influence_KC, rng, NUM_RESAMPLES, 1 - ALPHA)
        planted_K = (worsened_K - base_K) / num_premises**2
        planted_KC = pair_influence_KC(worsened[0] - untuned[0], worsened[1] - untuned[1], ones_C, ones_C)
        change = estimate_change(planted_K, planted_KC)
        improvement = estimate_improvement(
            base_K / num_premises**2, planted_K, pair_influence_KC(*untuned, ones_C, ones_C), planted_KC
        )
        runs.append(
            {
                "paper_rejects": np.abs(z_K) > PAPER_CRITICAL_Z,
                "clustered_rejects": null.p <= ALPHA,
                "change_covered": _covers(change, true_change),
                "improvement_covered": _covers(improvement, -true_change / untuned_pnd),
                "family_rejects": np.array([np.any(family.p <= ALPHA)]),
                "detected": (change.p <= ALPHA) & (change.z > 0),
                "null_change": delta_K,
                "null_se": null.se,
                "planted_change": planted_K,
            }
        )
    return Calibration(**{name: np.stack([run[name] for run in runs]) for name in runs[0]}, true_change=true_change)


def _covers(estimates: Estimates, truth: float) -> BoolArray:
    covered: BoolArray = (estimates.low <= truth) & (truth <= estimates.high)
    return covered


def table_row(correlation: float, calibration: Calibration) -> str:
    """One row of the Markdown table: percentages, each with its standard error."""
    paper, clustered, change, improvement, family, power = (
        "{:.1f} ({:.1f})".format(*(100 * number for number in rate(outcomes)))
        for outcomes in (
            calibration.paper_rejects,
            calibration.clustered_rejects,
            calibration.change_covered,
            calibration.improvement_covered,
            calibration.family_rejects,
            calibration.detected,
        )
    )
    return (
        f"| {correlation} | {paper} | {clustered} | {calibration.se_ratio:.2f} | {change} | {improvement} | {family} "
        f"| {power} | {100 * calibration.power_expected:.1f} |"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=1000, help="runs for each correlation (default: %(default)s)")
    parser.add_argument("--premises", type=int, default=1670, help="clusters (default: %(default)s, XNLI)")
    parser.add_argument("--statistics", type=int, default=8, help="statistics of one run (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=20, help="of the simulation (default: %(default)s)")
    parser.add_argument("--correlations", type=float, nargs="+", default=CORRELATIONS, help="default: %(default)s")
    options = parser.parse_args()
    if min(options.runs, options.premises) < 2 or options.statistics < 1:
        parser.error("at least 2 runs, 2 premises and 1 statistic are needed")
    if not all(0 <= correlation < 1 for correlation in options.correlations):
        parser.error("correlations must be at least 0 and below 1")
    size = f"{options.premises} premises, {options.statistics} statistics"
    print(f"{options.runs} runs, {size}; percent (standard error)\n\n{HEAD}", flush=True)
    for correlation in options.correlations:
        calibration = simulate(
            options.seed,
            correlation,
            num_runs=options.runs,
            num_premises=options.premises,
            num_statistics=options.statistics,
        )
        print(table_row(correlation, calibration), flush=True)


if __name__ == "__main__":
    main()
