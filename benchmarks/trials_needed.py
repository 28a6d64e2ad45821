"""Does the adaptive search save trials? Planted curves with noise of seeds: adaptive placement against an even grid.

Both search the same two decades, shifted at random in every repeat, may use three seeds a rate, and are done when the
95% interval by the same function, `crossing`, is narrower than asked for. The grid is planned beforehand, so its median
is the number of trials that are enough in half of the repeats, with the number of seeds that is best for the shape.

Trials are counted when they start: those that run while the last result comes in are spent too.

    python benchmarks/trials_needed.py [--repeats 40] [--shapes kink,smooth] [--widths 0.1,0.2]
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adiabatic_ray.search.placement import Crossing, Observation, Place, Setting, crossing, next_place
from benchmarks.planted_boundaries import SEED_SD, SHAPES, Shape

LEVEL = -0.01
CREEPING = Shape(lambda x: -0.01 * 10 ** (1.3 * (x + 7)), math.nan, math.nan, -7.0)
"""Falls ever faster from a plateau at 0 and crosses the level slowly: as packaged E5 does in docs/squad_rates.md."""
CURVES = SHAPES | {"creeping": CREEPING}
LOWEST, DECADES, SHIFT = -8.0, 2.0, 0.5
SEEDS = (0, 1, 2)
MOST_TRIALS = 150
PARALLEL = (1, 4)
GRID_SIZES = (5, 7, 9, 11, 13, 15, 18, 21, 25, 29, 34, 40, 48, 57, 68, 80, 100, 120, 150)
"""Rates of a grid, about a fifth apart."""


@dataclass(frozen=True)
class Search:
    """How one search ended."""

    trials: float
    """Started until the interval was narrow; inf: it never was."""
    crossing: Crossing


@dataclass(frozen=True)
class Outcome:
    """Of one shape, width and way to search, over all repeats."""

    shape: str
    width: float
    way: str
    trials: float
    """Half of the repeats end with so many, or fewer; inf: fewer than half end."""
    most: float
    """The same of 90%."""
    rmse: float
    """Decades, of the estimates within the limits, of a grid with its median size; NaN: the truth is outside."""
    coverage: float
    """Share of the same whose interval at the end holds the truth."""


def planted_trial(shape: Shape, rate: float, seed: int, rng: np.random.Generator) -> Observation:
    """A trial whose margin deviates by `SEED_SD` from the curve."""
    margin = float(shape.curve(np.array([math.log10(rate)]))[0]) - LEVEL + SEED_SD * float(rng.standard_normal())
    return Observation(rate, seed, margin, diverged=False)


def planted_setting(repeat: int, width: float) -> Setting:
    """Two decades around the boundary, which lies anywhere from a quarter to half of the way."""
    lowest = LOWEST + SHIFT * float(np.random.default_rng([repeat, 1]).random())
    return Setting(10**lowest, 10 ** (lowest + DECADES), width, SEEDS)


def adaptive(shape: Shape, repeat: int, width: float, *, parallel: int) -> Search:
    """Search with `parallel` trials at a time that end in the order in which they started."""
    setting, rng = planted_setting(repeat, width), np.random.default_rng([repeat, 2])
    observations: list[Observation] = []
    running: list[Place] = []
    while True:
        found = crossing(observations, setting)
        num_trials = len(observations) + len(running)
        if found.is_narrow(setting):
            return Search(num_trials, found)
        while len(running) < parallel and (place := next_place(observations, running, setting)):
            running.append(place)
        if not running or num_trials >= MOST_TRIALS:
            return Search(math.inf, found)
        first = running.pop(0)
        observations.append(planted_trial(shape, first.rate, first.seed, rng))


def even_grid(shape: Shape, repeat: int, width: float, *, size: int, num_seeds: int) -> Search:
    """A grid that was planned beforehand; inf trials: it was not enough."""
    setting, rng = planted_setting(repeat, width), np.random.default_rng([repeat, 3])
    rates = np.geomspace(setting.first_rate, setting.last_rate, size)
    grid = [planted_trial(shape, float(rate), seed, rng) for rate in rates for seed in SEEDS[:num_seeds]]
    found = crossing(grid, setting)
    return Search(len(grid) if found.is_narrow(setting) else math.inf, found)


def study(*, num_repeats: int, widths: tuple[float, ...], shapes: tuple[str, ...] = tuple(CURVES)) -> Iterator[Outcome]:
    """Every shape and width: the best grid, then adaptive searches."""
    for name in shapes:
        for width in widths:
            yield best_grid(name, width, num_repeats=num_repeats)
            for parallel in PARALLEL:
                searches = [adaptive(CURVES[name], repeat, width, parallel=parallel) for repeat in range(num_repeats)]
                trials = [one.trials for one in searches]
                median, most = (float(np.quantile(trials, share, method="higher")) for share in (0.5, 0.9))
                yield _outcome(name, width, f"adaptive, {parallel} at a time", median, most, searches)


def best_grid(name: str, width: float, *, num_repeats: int) -> Outcome:
    """The smallest grids that are enough in half and in 90% of the repeats, with any number of seeds a rate."""
    designs = sorted(
        (size * num_seeds, size, num_seeds)
        for size in GRID_SIZES
        for num_seeds in range(1, len(SEEDS) + 1)
        if size * num_seeds <= MOST_TRIALS
    )
    median, way, kept = math.inf, "even grid", []
    for num_trials, size, num_seeds in designs:
        searches = [
            even_grid(CURVES[name], repeat, width, size=size, num_seeds=num_seeds) for repeat in range(num_repeats)
        ]
        share = float(np.mean([math.isfinite(one.trials) for one in searches]))
        if share >= 0.5 and math.isinf(median):
            median, way, kept = num_trials, f"even grid, {size} rates, seeds: {num_seeds}", searches
        if share >= 0.9:
            return _outcome(name, width, way, median, num_trials, kept)
    return _outcome(name, width, way, median, math.inf, kept or searches)


def _outcome(name: str, width: float, way: str, median: float, most: float, searches: list[Search]) -> Outcome:
    truth = 10 ** CURVES[name].level
    errors = [
        math.log10(one.crossing.estimate / truth)
        for one in searches
        if math.isfinite(truth) and 0 < one.crossing.estimate < math.inf
    ]
    return Outcome(
        shape=name,
        width=width,
        way=way,
        trials=median,
        most=most,
        rmse=math.sqrt(sum(error**2 for error in errors) / len(errors)) if errors else math.nan,
        coverage=float(np.mean([one.crossing.low <= truth <= one.crossing.high for one in searches])),
    )


def table(outcomes: list[Outcome]) -> str:
    """Markdown; `of the grid` is the median against that of the grid above."""
    lines = [
        "| shape | width | way | trials, median | 90% | of the grid | RMSE | coverage |",
        "|:--|--:|:--|--:|--:|--:|--:|--:|",
    ]
    grid = math.nan
    for one in outcomes:
        is_grid = one.way.startswith("even")
        grid = one.trials if is_grid else grid
        share = (
            "-"
            if is_grid
            else f"{one.trials / grid:.2f}"
            if math.isfinite(grid)
            else f"< {one.trials / MOST_TRIALS:.2f}"
        )
        rmse = "-" if math.isnan(one.rmse) else f"{one.rmse:.3f}"
        cells = [one.shape, f"{one.width:g}", one.way, _count(one.trials), _count(one.most), share, rmse]
        lines.append("| " + " | ".join([*cells, f"{100 * one.coverage:.1f}%"]) + " |")
    return "\n".join(lines)


def _count(trials: float) -> str:
    return f"{trials:.0f}" if math.isfinite(trials) else f"> {MOST_TRIALS}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--shapes", default=",".join(CURVES))
    parser.add_argument("--widths", default="0.1,0.2", help="decades")
    given = parser.parse_args()
    start = time.process_time()
    widths = tuple(float(width) for width in given.widths.split(","))
    outcomes = study(num_repeats=given.repeats, widths=widths, shapes=tuple(given.shapes.split(",")))
    print(table(list(outcomes)))
    print(f"\n{given.repeats} repeats, {time.process_time() - start:.0f} s of a processor")


if __name__ == "__main__":
    main()
