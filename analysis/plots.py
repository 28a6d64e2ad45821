"""Pictures: curves against the learning rate, and a heat map of the language pairs.

They follow the paper's Figures 2 and 1. Colours are Okabe and Ito's, which the colour-blind can tell apart; every
series also differs in marker or line. Files are drawn by the Agg backend, without a display.
"""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from adiabatic_ray.results import ResultsError
from adiabatic_ray.storage import Location, replacing

from .curves import ALPHA, Criterion, criteria, curve_table, other_triplet_sets, rate_table
from .level import LEVEL, NOTHING_TO_ESTIMATE, Boundary, boundary_of
from .load import Sweep
from .resample import MeanCurve, mean_curves
from .wording import format_rate

GOOD, BAD, MEAN = "#0072B2", "#D55E00", "#333333"
SERIES = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v")
TITLE_CHARACTERS = 72
"""Of a line above a panel; more would reach into the next one."""
WIDE_PERCENT = 25.0
"""The improvement axis is linear up to this and logarithmic beyond it, when anything lies beyond: broken rates lose
hundreds of percent and would press everything else into one line."""


def plot_curves(
    sweep: Sweep, path: Location, *, curves: list[MeanCurve] | None = None, level: float = LEVEL
) -> list[Boundary]:
    """Both panels against the learning rate, one row for each pair set and relation by cosine.

    Left: language pairs improved and degraded, by the clustered test (thick) and by the paper's z-test (thin, open).
    Right: improvement in percent on the English triplet sets, one marker a trial, open where the clustered test is not
    significant at 5%; and that of the mean PND over language pairs with its 95% band. The boundary is a vertical line
    in its interval. A sweep with several groups of settings gets one row for each group, for its first criterion only.

    Args:
        sweep: a loaded sweep.
        path: PNG to write; its folder must exist.
        curves: what `mean_curves` gave, to spare doing it again; none: computed here.
        level: of the boundary.

    Returns:
        The boundaries that are drawn, one for each row.

    Raises:
        ResultsError: no curve to draw, see `estimate_boundaries`.
        OSError: the file cannot be written.
    """
    curves = mean_curves(sweep) if curves is None else curves
    if not curves:
        raise ResultsError(f"{NOTHING_TO_ESTIMATE}, got none in {sweep.out}; there is nothing to draw")
    chosen = _rows_to_draw(curves)
    trials, rates = curve_table(sweep), rate_table(sweep)
    trials, rates = trials[trials["learning_rate"] > 0], rates[rates["learning_rate"] > 0]
    figure = Figure(figsize=(12, 0.4 + 5.2 * len(chosen)), layout="constrained")
    grid = figure.subplots(len(chosen), 2, squeeze=False)
    boundaries = []
    for (left, right), curve in zip(grid, chosen, strict=True):
        boundary = boundary_of(curve, level=level)
        boundaries.append(boundary)
        of_group = rates[rates["group"] == curve.group]
        _draw_counts(left, of_group, curve)
        _draw_improvement(right, sweep, trials[trials["group"] == curve.group], of_group, curve, level)
        for axes in (left, right):
            _draw_boundary(axes, boundary)
            _draw_diverged(axes, of_group)
            _log_rate_axis(axes, of_group["learning_rate"].to_numpy())
        title = "; ".join(text for text in (str(curve.criterion), curve.group) if text)
        left.set_title(textwrap.fill(f"Language pairs ({title})", TITLE_CHARACTERS), loc="left", fontsize=11)
        right.set_title("Improvement of PND (positive is better)", loc="left", fontsize=11)
        for axes in (left, right):
            axes.legend(fontsize=9, loc="upper left", bbox_to_anchor=(0, -0.12), ncols=2, frameon=False)
    _save(figure, path)
    return boundaries


def plot_heatmap(sweep: Sweep, which: str | float, path: Location, *, criterion: Criterion | None = None) -> None:
    """Improvement of every language pair, query language on Y, passage language on X.

    The colour scale is symmetric about 0 and ends at the 95th percentile of the absolute values, so that a few extreme
    pairs do not wash out the rest; values beyond it are printed all the same.

    Args:
        sweep: a loaded sweep.
        which: a trial id, or a learning rate: then the mean over its seeds.
        path: PNG to write; its folder must exist.
        criterion: pair set, relation and measure; none: the sweep's first.

    Raises:
        ResultsError: no such trial or rate with scores, or no pair set.
        OSError: the file cannot be written.
    """
    found = criteria(sweep)
    if not found:
        raise ResultsError(f"a heat map needs a pair set with untuned errors, got none in {sweep.out}; evaluate one")
    criterion = criterion or found[0]
    improvement_LL, title = _improvement_by_pair(sweep, which, criterion)
    languages = list(improvement_LL.index)
    percent_LL = 100 * improvement_LL.to_numpy()
    known = np.abs(percent_LL[np.isfinite(percent_LL)])
    limit = float(np.quantile(known, 0.95)) or float(known.max()) or 1.0
    is_clipped = bool(known.max() > limit)
    size = max(4.5, 0.55 * len(languages) + 2.2)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(percent_LL, cmap="RdBu", norm=Normalize(-limit, limit))
    for row, column in np.ndindex(percent_LL.shape):
        value = float(percent_LL[row, column])
        ink = "white" if abs(value) > 0.55 * limit else "black"
        text = axes.text(column, row, _cell(value, limit), ha="center", va="center", fontsize=8, color=ink)
        text.set_in_layout(False)  # inside its cell anyway, and 225 take long to be measured
    axes.set_xticks(range(len(languages)), languages)
    axes.set_yticks(range(len(languages)), languages)
    axes.tick_params(length=0)
    axes.set_xlabel("passage language")
    axes.set_ylabel("query language (tuned tower)")
    undefined = "" if np.isfinite(percent_LL).all() else "; -: no untuned error"
    axes.set_title(f"Improvement of PND in %, {criterion}\n{title}{undefined}", loc="left", fontsize=11)
    bar = figure.colorbar(image, ax=axes, extend="both" if is_clipped else "neither", shrink=0.8)
    bar.set_label("improvement, % (blue is better)")
    _save(figure, path)


def _rows_to_draw(curves: list[MeanCurve]) -> list[MeanCurve]:
    groups = list(dict.fromkeys(curve.group for curve in curves))
    if len(groups) > 1:
        return [next(curve for curve in curves if curve.group == group) for group in groups]
    by_cosine = [curve for curve in curves if curve.criterion.measure == "cosine"]
    return by_cosine or curves[:1]


def _draw_counts(axes: Axes, rates: pd.DataFrame, curve: MeanCurve) -> None:
    scored = rates[rates["num_seeds"] > 0]
    for what, colour, marker in (("improved", GOOD, "^"), ("degraded", BAD, "v")):
        for suffix, label, width, face in (("", "clustered test", 2.0, colour), ("_z", "paper's z", 0.8, "white")):
            axes.plot(
                scored["learning_rate"],
                scored[curve.criterion.column(what + suffix)],
                color=colour,
                marker=marker,
                markersize=6,
                markerfacecolor=face,
                linewidth=width,
                linestyle="-" if not suffix else "--",
                label=f"{what}, {label}",
            )
    axes.set_ylim(-0.03 * curve.num_language_pairs, 1.06 * curve.num_language_pairs)
    axes.set_ylabel(f"language pairs, of {curve.num_language_pairs}")
    axes.grid(alpha=0.25)


def _draw_improvement(
    axes: Axes, sweep: Sweep, trials: pd.DataFrame, rates: pd.DataFrame, curve: MeanCurve, level: float
) -> None:
    measure = curve.criterion.measure
    tuned_set = trials["tuned_set"].iloc[0]
    english = [(f"{tuned_set} (tuned on)", f"gain_tuned/{measure}", f"p_tuned/{measure}")]
    english += [(name, f"gain/{name}/{measure}", f"p/{name}/{measure}") for name in other_triplet_sets(sweep)]
    shown = []
    for place, (label, gain, p) in enumerate(english):
        colour, marker = SERIES[place % len(SERIES)], MARKERS[place % len(MARKERS)]
        means = rates.dropna(subset=[gain])
        axes.plot(means["learning_rate"], 100 * means[gain], color=colour, linewidth=1.5)
        for is_significant, part in trials.dropna(subset=[gain]).groupby(trials[p] <= ALPHA):
            face = colour if is_significant else "white"
            axes.plot(part["learning_rate"], 100 * part[gain], marker, color=colour, markerfacecolor=face, markersize=6)
        axes.plot([], [], color=colour, marker=marker, label=label)
        shown.append(100 * means[gain].to_numpy())
    is_finite_R = np.isfinite(curve.mean_R)
    mean_R = np.where(is_finite_R, 100 * curve.mean_R, np.nan)
    low_R, high_R = (np.where(is_finite_R & np.isfinite(end_R), 100 * end_R, np.nan) for end_R in curve.band())
    axes.fill_between(curve.rates_R, low_R, high_R, color=MEAN, alpha=0.2, linewidth=0)
    label = "mean over language pairs, 95% band"
    # Straight in log rate between its points, as the boundary reads it: on a symlog axis that is no straight line.
    fine = np.geomspace(curve.rates_R[0], curve.rates_R[-1], 400)
    axes.plot(fine, np.interp(np.log(fine), np.log(curve.rates_R), mean_R), color=MEAN, linewidth=2)
    axes.plot(curve.rates_R, mean_R, color=MEAN, marker="*", markersize=9, linestyle="none", label=label)
    shown.append(mean_R[is_finite_R])
    axes.axhline(0, color="black", linewidth=0.6)
    axes.axhline(100 * level, color=BAD, linewidth=1, linestyle=":", label=f"level of the criterion, {100 * level:g}%")
    label = "not significant (clustered)"
    axes.plot([], [], linestyle="none", marker="o", color="grey", markerfacecolor="white", label=label)
    values = np.concatenate(shown)
    if len(values) and np.abs(values).max() > WIDE_PERCENT:
        axes.set_yscale("symlog", linthresh=10, linscale=2)
        beyond = [step * 10.0**decade for decade in range(1, 7) for step in (1, 3)]
        axes.yaxis.set_major_locator(FixedLocator([-x for x in reversed(beyond)] + [-5, -2, 0, 2, 5, *beyond]))
        axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    axes.set_ylabel("improvement, %")
    axes.grid(alpha=0.25)


def _draw_boundary(axes: Axes, boundary: Boundary) -> None:
    """Line at the estimate and its interval; an end outside the rates runs off the axis."""
    left, right = 0.0 if boundary.low_censored == "below" else boundary.low, boundary.high
    right = np.inf if boundary.high_censored == "above" else right
    edge = boundary.lowest_rate / 10, boundary.highest_rate * 10
    axes.axvspan(max(left, edge[0]), min(right, edge[1]), color="#F0E442", alpha=0.35, linewidth=0, zorder=0)
    if boundary.censored == "none":
        label = f"boundary {format_rate(boundary.estimate)} ({boundary.confidence:.0%})"
        axes.axvline(boundary.estimate, color="black", linewidth=1.2, linestyle="-.", label=label, zorder=1)
    else:
        rate = format_rate(boundary.estimate)
        axes.plot([], [], " ", label=f"boundary {boundary.censored} {rate}")


def _draw_diverged(axes: Axes, rates: pd.DataFrame) -> None:
    broken = rates[rates["num_diverged"] > 0]
    if len(broken):
        axes.plot(
            broken["learning_rate"],
            np.full(len(broken), 0.03),
            transform=axes.get_xaxis_transform(),
            linestyle="none",
            marker="X",
            markersize=9,
            color="black",
            label="a trial diverged",
        )


def _log_rate_axis(axes: Axes, rates: np.ndarray) -> None:
    """Log axis over the rates with a margin; ticks at 1, 2 and 5 in every decade, or at decades when there are many."""
    low, high = np.log10(rates.min()), np.log10(rates.max())
    margin = max(0.04 * (high - low), 0.05)
    axes.set_xscale("log")
    axes.set_xlim(10 ** (low - margin), 10 ** (high + margin))
    steps = (1, 2, 5) if high - low < 2 else (1, 3) if high - low < 4 else (1,)
    decades = range(int(np.floor(low - margin)), int(np.ceil(high + margin)) + 1)
    ticks = [step * 10.0**decade for decade in decades for step in steps]
    axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if low - margin <= np.log10(t) <= high + margin]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: format_rate(rate)))
    axes.xaxis.set_minor_locator(FixedLocator(list(rates)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("learning rate")


def _improvement_by_pair(sweep: Sweep, which: str | float, criterion: Criterion) -> tuple[pd.DataFrame, str]:
    """Improvement [query language, passage language] in the order of the source, and what it is of."""
    if isinstance(which, str):
        chosen, title = [which], which
    else:
        chosen = [trial_id for trial_id, spec in sweep.trial_specs.items() if spec.tuning.learning_rate == which]
        chosen = [trial_id for trial_id in chosen if trial_id in sweep.completeness.done]
        title = f"learning rate {format_rate(which, 3)}, seeds: {len(chosen)}"
    scores = sweep.scores
    rows = scores[
        scores["trial_id"].isin(chosen)
        & (scores["set"] == criterion.set)
        & (scores["relation"] == criterion.relation)
        & (scores["measure"] == criterion.measure)
    ]
    if rows.empty:
        raise ResultsError(
            f"a heat map needs a trial with scores for {criterion}, got {which!r}; choose one of "
            f"{', '.join(sweep.completeness.done[:5]) or 'none'} ..., or a rate that was tried"
        )
    languages = list(dict.fromkeys(rows["query_language"]))
    passages = list(dict.fromkeys(rows["passage_language"]))
    table = rows.pivot_table(
        index="query_language", columns="passage_language", values="improvement", aggfunc="mean", dropna=False
    )
    return table.reindex(index=languages, columns=passages), title


def _cell(value: float, limit: float) -> str:
    if np.isnan(value):
        return "-"
    return f"{value:z.1f}" if limit < 10 and abs(value) < 100 else f"{value:z.0f}"


def _save(figure: Figure, path: Location) -> None:
    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
