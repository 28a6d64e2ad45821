"""The most changed layers of a sweep, for a terminal of 80 columns: one table for each definition of change."""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adiabatic_ray.storage import Location

from .layers import DEFINITIONS, NUMBER_SHOWN, Definition, most_changed
from .load import load_sweep
from .paper_settings import describe
from .terminal import completeness_line

LEGEND = (
    "Of each trial the most changed layer, then the second: parameter tensors, whose names leave out `encoder.layer.`. "
    "Tables are the paper's. Large is large in magnitude; distance and norm are Euclidean. -: no other layer changed."
)


def print_layers(out: Location, console: Console) -> None:
    """Completeness, a table for each of `DEFINITIONS`, the legend.

    Raises:
        ResultsError: a folder that cannot be analysed, see `load_sweep`.
    """
    sweep = load_sweep(out)
    style = None if sweep.completeness.is_whole else "bold red"
    console.print(completeness_line(sweep), style=style, markup=False, highlight=False)
    found = most_changed(sweep)
    for definition in DEFINITIONS:
        console.print()
        console.print(_table(definition, found))
    console.print()
    console.print(LEGEND, style="dim", markup=False, highlight=False)


def _table(definition: Definition, found: pd.DataFrame) -> Table:
    of_paper = f"As in Table {definition.paper_table}: " if definition.paper_table else ""
    table = Table(
        title=Text(of_paper + definition.title, style="table.title"),
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    table.add_column("trial")
    table.add_column("layer", overflow="fold")
    table.add_column("change", justify="right", no_wrap=True)
    paths = [name for name in found.columns if "/" not in name and name not in ("trial_id", "status")]
    for row in found.to_dict("records"):
        layers, changes = (
            [row[f"{definition.name}/{place}/{what}"] for place in range(1, NUMBER_SHOWN + 1)]
            for what in ("layer", "change")
        )
        settings = describe({path: row[path] for path in paths})
        status = "" if row["status"] == "COMPLETE" else f", {row['status']}"
        table.add_row(
            Text(settings + status),
            Text("\n".join(layer or "-" for layer in layers)),
            "\n".join(f"{change:.3g}" if layer else "-" for layer, change in zip(layers, changes, strict=True)),
        )
    return table
