"""Signals against harm, and boundaries by coordinate, for a terminal of 80 columns: a table for each criterion."""

from __future__ import annotations

import math

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .curves import Criterion
from .wording import format_rate

SIGNALS_LEGEND = (
    "rho: Spearman's rank correlation with the improvement of the mean PND over language pairs, -1 orders harm "
    "perfectly; its 95% interval resamples groups of settings. error: root mean square of log10(predicted / found "
    "boundary rate) of groups left out of the calibration, in decades; right: their trials rightly called held or "
    "broken. Left out: a group, then a whole results folder. The learning rate is the trivial predictor. -: no number."
)
COORDINATES_LEGEND = (
    "Boundaries of the groups of settings, each in its own coordinate: sd and range of log10. Divided by the slope of "
    "the coordinate against log rate they are decades of the learning rate, which compare. noise: the sd that redrawn "
    "texts (and seeds, where a rate has several) give alone."
)


def print_predictor(table: pd.DataFrame, console: Console) -> None:
    """A table for each criterion by cosine (all when there is none), why predictions are missing, the legend.

    Args:
        table: of `predictor.predictor_table`.
        console: where to.
    """
    for criterion, rows in shown(table):
        made = _titled(f"Signals against harm: {criterion}", "signal")
        for name in ("rho", "95%", "group\nerror", "\nright", "folder\nerror", "\nright"):
            made.add_column(name, justify="right", no_wrap=True)
        for row in rows.to_dict("records"):
            interval = f"{row['low']:.2f} to {row['high']:.2f}" if math.isfinite(row["low"]) else "-"
            found = [_number(row["spearman"]), interval]
            for unit in ("group", "folder"):
                found += [_number(row[f"{unit}/rms_log10_error"]), _percent(row[f"{unit}/right_frac"])]
            made.add_row(row["title"], *found)
        console.print(made)
        first = rows.iloc[0]
        console.print(
            f"{first['num_trials']} trials in {first['num_groups']} groups, {100 * first['holds_frac']:.0f}% hold; of "
            f"the learning rate {first['group/num_boundaries']} boundaries were predicted by other groups, "
            f"{first['folder/num_boundaries']} by other folders{_because(first)}.",
            highlight=False,
            markup=False,
        )
        console.print()
    console.print(SIGNALS_LEGEND, style="dim", markup=False, highlight=False)


def print_coordinates(table: pd.DataFrame, console: Console) -> None:
    """A table for each criterion by cosine (all when there is none), the closest coordinate, the legend.

    Args:
        table: of `coordinates.spread_table`.
        console: where to.
    """
    for criterion, rows in shown(table):
        made = _titled(f"Boundary by coordinate: {criterion}", "coordinate")
        for name in ("mean", "sd", "range", "in rate:\nsd", "\nrange", "\nnoise"):
            made.add_column(name, justify="right", no_wrap=True)
        for row in rows.to_dict("records"):
            numbers = ("sd_decades", "range_decades", "sd_rate_decades", "range_rate_decades", "noise_rate_decades")
            centre = "-" if math.isnan(row["centre"]) else format_rate(row["centre"])
            made.add_row(row["title"], centre, *(_number(row[name]) for name in numbers))
        console.print(made)
        console.print(closest(rows), highlight=False, markup=False)
        console.print()
    console.print(COORDINATES_LEGEND, style="dim", markup=False, highlight=False)


def closest(rows: pd.DataFrame) -> str:
    """Which coordinate brings the groups closest, in one sentence.

    Args:
        rows: of `coordinates.spread_table`, of one criterion.
    """
    first = rows.iloc[0]
    others = f" ({first['num_other']} more have no boundary in every coordinate)" if first["num_other"] else ""
    if first["reason"]:
        return f"No spread: {first['reason']}{others}."
    best = rows.sort_values("sd_rate_decades").iloc[0]
    return (
        f"{first['num_groups']} groups{others}: closest in {best['title']}, sd {best['sd_rate_decades']:.2f} decades "
        f"of rate, against {first['sd_rate_decades']:.2f} in {first['title']}."
    )


def shown(table: pd.DataFrame) -> list[tuple[Criterion, pd.DataFrame]]:
    """Rows by criterion, those by cosine; all when there is none."""
    parts = table.groupby(["set", "relation", "measure"], sort=False)
    found = [(Criterion(*map(str, key)), rows) for key, rows in parts]
    return [one for one in found if one[0].measure == "cosine"] or found


def _titled(title: str, first: str) -> Table:
    table = Table(
        title=Text(title, style="table.title"),
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )
    table.add_column(f"\n{first}", overflow="fold")
    return table


def _because(row: pd.Series) -> str:
    reasons = [f"{unit} left out: {row[f'{unit}/reason']}" for unit in ("group", "folder") if row[f"{unit}/reason"]]
    return f" ({'; '.join(reasons)})" if reasons else ""


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _percent(frac: float) -> str:
    return "-" if math.isnan(frac) else f"{100 * frac:.0f}%"
