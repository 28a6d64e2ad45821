"""Curves of all groups of settings over one another: on the learning rate, and on the coordinate that unites them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from .coordinates import COORDINATES, CoordinateCurve, coordinate_curves, spread_table
from .curves import Criterion
from .level import LEVEL
from .plots import BAD, GOOD, MARKERS, MEAN, SERIES
from .resample import Evidence
from .signals import RATE, Signal

LOWEST_LEVELS = 10
"""The axis ends at so many times the level: beyond it every curve is broken, and the crossing would be too small."""


def plot_coordinates(evidences: Sequence[Evidence], path: Path, *, level: float = LEVEL) -> Criterion:
    """Two panels, the improvement against the rate and against the coordinate of least spread in decades of rate.

    Of the first criterion that has a spread; without any, the first criterion in the rate and the last coordinate.

    Args:
        evidences: see `coordinates.coordinate_curves`.
        path: PNG to write; its folder must exist.
        level: see `coordinates.coordinate_curves`.

    Returns:
        The criterion that is drawn.

    Raises:
        ValueError: see `coordinates.coordinate_curves`.
        ResultsError: see `coordinates.coordinate_curves`.
        OSError: the file cannot be written.
    """
    curves = coordinate_curves(evidences, level=level)
    criterion, best = _chosen(evidences, curves, level)
    figure = Figure(figsize=(12, 5.6), layout="constrained")
    of_criterion = [one for one in curves if one.criterion == criterion]
    names = list(dict.fromkeys((one.folder, one.group) for one in of_criterion))
    labels = short_names(names)
    colours = (GOOD, BAD, MEAN, *SERIES)
    for axes, coordinate in zip(figure.subplots(1, 2, sharey=True), (RATE, best), strict=True):
        for one in of_criterion:
            if one.coordinate == coordinate:
                place = names.index((one.folder, one.group))
                colour, marker = colours[place % len(colours)], MARKERS[place % len(MARKERS)]
                is_scored_R = np.isfinite(one.mean_R)
                x_R, y_R = 10 ** one.log_values_R[is_scored_R], 100 * one.mean_R[is_scored_R]
                axes.plot(x_R, y_R, color=colour, marker=marker, markersize=5, linewidth=1.5, label=labels[place])
        axes.axhline(100 * level, color="black", linewidth=1, linestyle=":")
        axes.set_xscale("log")
        axes.set_xlabel(coordinate.title)
        axes.grid(alpha=0.25)
    first = figure.axes[0]
    values = [100 * value for one in of_criterion for value in one.mean_R if np.isfinite(value)]
    first.set_ylim(max(min(values), -abs(100 * LOWEST_LEVELS * level)) - 0.3, max(*values, 0) + 0.3)
    first.set_ylabel(f"improvement of mean PND, %\n{criterion}")
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=150)
    return criterion


def short_names(groups: Sequence[tuple[str, str]]) -> list[str]:
    """Folder and settings of each group, without the settings that most groups of its folder share.

    Args:
        groups: folder and group, as in `signals.signal_table`.
    """
    parts = [re.split(r", (?=\w+=)", group) for _, group in groups]
    times = Counter((folder, part) for (folder, _), own in zip(groups, parts, strict=True) for part in own)
    sizes = Counter(folder for folder, _ in groups)
    names = []
    for (folder, _), own in zip(groups, parts, strict=True):
        rare = [part for part in own if part and 2 * times[folder, part] <= sizes[folder]]
        names.append(f"{folder}: {', '.join(rare)}" if rare else folder)
    return names


def _chosen(evidences: Sequence[Evidence], curves: Sequence[CoordinateCurve], level: float) -> tuple[Criterion, Signal]:
    spreads = spread_table(evidences, level=level).dropna(subset=["sd_rate_decades"])
    by_name = {signal.name: signal for signal in COORDINATES}
    if spreads.empty:
        return curves[0].criterion, curves[-1].coordinate
    first = spreads.iloc[0]
    criterion = Criterion(first["set"], first["relation"], first["measure"])
    own = spreads[(spreads[["set", "relation", "measure"]] == list(first[["set", "relation", "measure"]])).all(axis=1)]
    others = own[own["coordinate"] != RATE.name]
    return criterion, by_name[str(others.sort_values("sd_rate_decades")["coordinate"].iloc[0])]
