"""Prints the sweeps that come with the project: name, number of trials, cost, question."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from adiabatic_ray.small import small_minutes

from .sweep_files import Scale, cost_of, load_sweep, shipped_sweeps

_NOTES = {
    Scale.FULL: "Run one: adiabatic sweep NAME. A100-hours are the paper's (its section M.6: 1 h of tuning, 1.2 h of "
    "evaluation a trial, one trial after another), not measured here. A file's docstring has the hypothesis and the "
    "deciding rule. --scale small lists versions for two cores.",
    Scale.SMALL: "Run one: adiabatic sweep NAME --scale small. Texts come from the folder that ADIABATIC_DATA names; "
    "adiabatic_ray/small.py says what is cut.",
}


def print_sweeps(console: Console, scale: Scale) -> None:
    """Two or three lines a sweep. Costs at full size are what the files say; small ones are estimates for two cores."""
    width = max(len(name) for name in shipped_sweeps()) + 2
    total = 0
    for name, path in shipped_sweeps().items():
        spec = load_sweep(name, [], scale)
        num_trials = spec.most_trials
        cost = cost_of(path) if scale is Scale.FULL else f"about {small_minutes(spec):.0f} minutes on 2 cores"
        console.print(Text.assemble((f"{name:<{width}}", "bold"), f"{num_trials:>3} trials  {cost}"))
        console.print(Padding(Text(spec.question), (0, 0, 0, 4)))
        total += num_trials
    console.print(f"\n{total} trials in all. {_NOTES[scale]}")
