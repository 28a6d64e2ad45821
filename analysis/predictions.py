"""What `adiabatic predict` prints and writes: signals against harm and boundaries by coordinate, of several folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from adiabatic_ray.storage import Location

from .coordinate_plot import plot_coordinates
from .coordinates import coordinate_table, spread_table
from .load import load_sweep
from .predictor import left_out_table, predictor_table
from .predictor_print import print_coordinates, print_predictor
from .resample import gather
from .signals import signal_table
from .terminal import completeness_line


def print_predictions(outs: Sequence[Location], folder: Path | None, console: Console) -> None:
    """Completeness of each sweep, then both kinds of tables.

    Args:
        outs: results folders, at least one.
        folder: where all tables are written as CSV (`signals`, `predictor`, `left_out`, `coordinates`, `spread`), and
            the curves as `coordinates.png`; None: nowhere.
        console: where to print.

    Raises:
        ResultsError: a folder that cannot be analysed, or nothing in them that shows harm.
        OSError: a file cannot be written.
    """
    sweeps = [load_sweep(out) for out in outs]
    for sweep in sweeps:
        style = None if sweep.completeness.is_whole else "bold red"
        console.print(completeness_line(sweep), style=style, markup=False, highlight=False)
    console.print()
    predictor = predictor_table(sweeps)
    print_predictor(predictor, console)
    console.print()
    evidences = [gather(sweep, has_pairs=False) for sweep in sweeps]
    spread = spread_table(evidences)
    print_coordinates(spread, console)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    tables = {"signals": signal_table(sweeps), "predictor": predictor, "left_out": left_out_table(sweeps)}
    tables |= {"coordinates": coordinate_table(evidences), "spread": spread}
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    plot_coordinates(evidences, folder / "coordinates.png")
    console.print(f"\nTables and chart:  {folder}", soft_wrap=True, markup=False, highlight=False)
