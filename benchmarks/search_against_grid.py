"""How many trials a search and an even grid need on real results, by the same interval.

Reads two results folders of the same trial: one that a search made, one of an even grid over the same rates. Of the
search: the interval after each trial, in the order in which they ended. Of the grid: those of coarser even grids, every
second rate of it, every third, ..., and of fewer seeds.

    python benchmarks/search_against_grid.py results/searched results/grid
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adiabatic_ray import results
from adiabatic_ray.search.outcomes import margin
from adiabatic_ray.search.placement import Observation, Setting, crossing
from adiabatic_ray.search_spec import BoundarySearch
from adiabatic_ray.spec import SweepSpec


def observations(out: Path, search: BoundarySearch) -> list[Observation]:
    """What the finished trials say of the search's criterion, in the order in which they ended."""
    columns = ["trial_id", "learning_rate", "seed", "status", "finished_at"]
    rows = results.read_table(out, "trials", columns=columns).to_pylist()
    found = []
    for row in sorted(rows, key=lambda row: row["finished_at"]):
        diverged = row["status"] == "DIVERGED"
        value = math.nan if diverged else margin(out, row["trial_id"], search)
        found.append(Observation(row["learning_rate"], row["seed"], value, diverged))
    return found


def coarser(grid: Sequence[Observation]) -> list[tuple[str, list[Observation]]]:
    """Even grids within a grid: every n-th rate, with the first seeds; words and trials, fewest trials first."""
    rates, seeds = (sorted({getattr(one, name) for one in grid}) for name in ("rate", "seed"))
    found = []
    for step in (step for step in range(1, len(rates)) if (len(rates) - 1) % step == 0):
        for num_seeds in range(1, len(seeds) + 1):
            chosen = [one for one in grid if one.rate in rates[::step] and one.seed in seeds[:num_seeds]]
            found.append((f"{len(rates[::step])} rates, {num_seeds} of {len(seeds)} seeds", chosen))
    return sorted(found, key=lambda each: len(each[1]))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("searched", type=Path)
    parser.add_argument("grid", type=Path)
    given = parser.parse_args()
    search = SweepSpec.model_validate(results.read_sweep(given.searched)["spec"]).search
    if not isinstance(search, BoundarySearch):
        raise SystemExit(f"{given.searched} must hold a sweep that searches for a boundary, got search={search!r}")
    setting = Setting(search.lowest_rate, search.highest_rate, search.width_decades, tuple(search.seeds))
    searched = observations(given.searched, search)
    steps = [(f"search, {number} trials", searched[:number]) for number in range(1, len(searched) + 1)]
    table = Table("trials", "which", "estimate", "95% for these texts", "decades", "narrow enough")
    for which, chosen in [*steps, *coarser(observations(given.grid, search))]:
        found = crossing(chosen, setting)
        ends = f"{found.low:.3g} to {found.high:.3g}"
        narrow = "yes" if found.is_narrow(setting) else "no"
        table.add_row(str(len(chosen)), which, f"{found.estimate:.3g}", ends, f"{found.width_decades:.3f}", narrow)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
