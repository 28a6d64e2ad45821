"""Are the boundaries right? Planted curves with noise of texts and seeds: bias, error, coverage of each criterion.

Each repeat draws texts (premises, 3 x 3 languages), shifts the grid of 12 rates (0.15 decades apart) at random, and
counts errors of 3 seeds a rate whose improvement deviates by `SEED_SD` from the planted curve. Then the boundary is
estimated as a report does. Levels are also read off an isotonic and a segmented fit, to choose between the three.

    python benchmarks/planted_boundaries.py [--repeats 200] [--clusters 100]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import isotonic_regression

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from analysis.curves import Criterion
from analysis.influences import pooled_improvement
from analysis.level import first_crossing
from analysis.resample import MeanCurve, resample_curve
from analysis.rules import TAIL, Rule, cross, neighbours, window
from tests.planted import Plan, Texts

STEP, NUM_RATES, LOWEST = 0.15, 12, -8.0
SEED_SD = 0.004
RULES = (Rule.ONSET, Rule.BREAK_EVEN, Rule.TOLERANCE, Rule.LEVEL)
HALF = np.array([0.5])


@dataclass(frozen=True)
class Shape:
    """A planted curve over x = log10 of the rate, and where it truly crosses; NaN: no true value."""

    curve: Callable[[np.ndarray], np.ndarray]
    onset: float
    break_even: float
    level: float

    def truth(self, rule: Rule) -> float:
        """True crossing; of `tolerance` that of the level, which it promises to stay below."""
        return {Rule.ONSET: self.onset, Rule.BREAK_EVEN: self.break_even}.get(rule, self.level)


SHAPES = {
    "kink": Shape(lambda x: 0.02 - 0.3 * np.maximum(0, x + 7.1), -7.1, -7.1 + 0.02 / 0.3, -7.0),
    "smooth": Shape(lambda x: 0.02 - 0.03 * 10 ** (1.5 * (x + 7)), math.nan, -7 + math.log10(2 / 3) / 1.5, -7.0),
    "step": Shape(lambda x: np.where(x < -7.05, 0.02, -0.1), -7.05, -7.05, -7.05),
    "none": Shape(lambda x: np.full_like(x, 0.02), math.inf, math.inf, math.inf),
    "non-monotone": Shape(
        lambda x: np.where(x > -6.65, 0.0, np.minimum(0.03 + 0.04 * (x + 7.3), 0.03 - 0.2 * (x + 7.3))),
        -7.3,
        -7.15,
        -7.1,
    ),
}


def simulate(
    shape: Shape, repeat: int, *, num_clusters: int, num_seeds: int = 3, num_resamples: int = 500
) -> MeanCurve:
    """A curve as a report would have it."""
    rng = np.random.default_rng([repeat, 5])
    texts = Texts(Plan({}, num_clusters=num_clusters, text_seed=repeat, exact=False))
    log_R = LOWEST + STEP * (np.arange(NUM_RATES) + rng.random())
    sizes_C = np.ones(num_clusters, dtype=np.int64)
    log_T = np.repeat(log_R, num_seeds)
    trials = []
    for improvement in shape.curve(log_T) + SEED_SD * rng.standard_normal(len(log_T)):
        tuned = texts.tuned(float(improvement))
        change = tuned[0] - texts.untuned[0], tuned[1] - texts.untuned[1]
        trials.append(pooled_improvement(*change, *texts.untuned, sizes_C, sizes_C))
    rates_R, mean_R, replicates_BR, seeds_R = resample_curve(
        10**log_T,
        np.array([trial.improvement for trial in trials]),
        np.stack([trial.influence_C for trial in trials]),
        num_resamples=num_resamples,
        seed=repeat,
    )
    return MeanCurve(
        group="",
        criterion=Criterion("planted", "r", "cosine"),
        rates_R=rates_R,
        mean_R=mean_R,
        replicates_BR=replicates_BR,
        seeds_R=seeds_R,
        num_diverged=0,
        num_trials=len(trials),
        num_kept_untuned=0,
        num_unmoved=0,
        num_absent=0,
        num_language_pairs=len(texts.language_pairs),
        num_clusters=num_clusters,
        seed=repeat,
    )


@dataclass(frozen=True)
class Outcome:
    """Of one shape and criterion, over all repeats."""

    shape: str
    rule: str
    truth: float
    num_repeats: int
    found: float
    """Share of repeats with an estimate inside the rates."""
    bias: float
    """Mean error in decades, of those."""
    rmse: float
    coverage: float
    """Share of repeats whose 95% interval holds the truth; of `tolerance`: share whose estimate is at most the true
    level."""
    bracketed: float
    """The same of the interval widened to the rates that were tried on either side of the estimate."""
    width: float
    """Median width of the interval, decades, where both ends are inside."""


def study(*, num_repeats: int, num_clusters: int, shapes: tuple[str, ...] = tuple(SHAPES)) -> Iterator[Outcome]:
    """Every shape and criterion."""
    for name in shapes:
        curves = [simulate(SHAPES[name], repeat, num_clusters=num_clusters) for repeat in range(num_repeats)]
        for rule in RULES:
            yield _outcome(name, rule, [interval(rule, curve) for curve in curves])
        for other, read in (("level, isotonic", isotonic), ("level, segmented", segmented)):
            estimates = [(read(curve), *[math.nan] * 4) for curve in curves]
            yield _outcome(name, Rule.LEVEL, estimates, label=other)


def interval(rule: Rule, curve: MeanCurve) -> tuple[float, ...]:
    """Estimate, ends, and the rates tried on either side of the estimate, in log10."""
    found = cross(rule, curve)
    low = high = math.nan
    if len(found.replicates_B):
        low = float(np.quantile(found.replicates_B, TAIL, method="lower"))
        high = float(np.quantile(found.replicates_B, 1 - TAIL, method="higher"))
    sides = np.log10(neighbours(found.estimate, curve.rates_R))
    return found.estimate, float(low), float(high), *map(float, sides)


def isotonic(curve: MeanCurve) -> float:
    """The level read off a falling fit, from the curve's highest point on."""
    peak = int(curve.mean_R.argmax())
    fit_R = np.append(curve.mean_R[:peak], isotonic_regression(curve.mean_R[peak:], increasing=False).x)
    return float(first_crossing(np.log10(curve.rates_R), fit_R[None], -0.01, HALF)[0])


def segmented(curve: MeanCurve) -> float:
    """The level read off the right one of two lines."""
    knot = cross(Rule.ONSET, curve).estimate
    if not math.isfinite(knot):
        return knot
    stop = window(curve.mean_R)
    log_R = np.log10(curve.rates_R)[:stop]
    design_RD = np.column_stack([np.ones(stop), log_R, np.maximum(0, log_R - knot)])
    a, b, c = np.linalg.lstsq(design_RD, curve.mean_R[:stop], rcond=None)[0]
    at_knot = a + b * knot
    return float(knot + (at_knot + 0.01) / -(b + c)) if at_knot > -0.01 else float(knot)


def _outcome(name: str, rule: Rule, found: list[tuple[float, ...]], label: str = "") -> Outcome:
    truth = SHAPES[name].truth(rule)
    estimate_N, low_N, high_N, before_N, after_N = np.array(found).T
    inside_N = np.isfinite(estimate_N)
    error_N = estimate_N[inside_N] - truth
    has_width_N = np.isfinite(high_N) & np.isfinite(low_N)
    width_N = high_N[has_width_N] - low_N[has_width_N]
    covered = estimate_N <= truth if rule is Rule.TOLERANCE else (low_N <= truth) & (truth <= high_N)
    within = (np.fmin(low_N, before_N) <= truth) & (truth <= np.fmax(high_N, after_N))
    is_known = not math.isnan(truth) and (rule is Rule.TOLERANCE or not np.isnan(low_N).all())
    has_error = math.isfinite(truth) and len(error_N) > 0
    return Outcome(
        shape=name,
        rule=label or str(rule),
        truth=truth,
        num_repeats=len(found),
        found=float(inside_N.mean()),
        bias=float(error_N.mean()) if has_error else math.nan,
        rmse=float(np.sqrt((error_N**2).mean())) if has_error else math.nan,
        coverage=float(covered.mean()) if is_known else math.nan,
        bracketed=float(within.mean()) if is_known and rule is not Rule.TOLERANCE else math.nan,
        width=float(np.median(width_N)) if len(width_N) else math.nan,
    )


def table(outcomes: list[Outcome]) -> str:
    """Markdown."""
    lines = [
        "| shape | criterion | truth, log10 | found | bias | RMSE | coverage | with gap | width |",
        "|:--|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in outcomes:
        numbers = [f"{value:.3f}" if math.isfinite(value) else "-" for value in (one.bias, one.rmse)]
        truth = "-" if math.isnan(one.truth) else "outside" if math.isinf(one.truth) else f"{one.truth:.3f}"
        shares = ["-" if math.isnan(value) else f"{100 * value:.1f}%" for value in (one.coverage, one.bracketed)]
        width = "-" if math.isnan(one.width) else f"{one.width:.3f}"
        cells = [one.shape, one.rule, truth, f"{100 * one.found:.0f}%", *numbers, *shares, width]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--clusters", type=int, default=100, help="premises")
    given = parser.parse_args()
    start = time.perf_counter()
    print(table(list(study(num_repeats=given.repeats, num_clusters=given.clusters))))
    print(f"\n{given.repeats} repeats, {given.clusters} premises, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
