"""What a model card says of a trial's results: figures set by set, the language pairs that got worse, the boundary.

Figures are the tables' own numbers; the card's machine-readable head has them unrounded, its text rounded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from adiabatic_ray.results import ResultsError
from adiabatic_ray.storage import Location

from .curves import ALPHA, PairCounts, count_pairs
from .load import load_sweep, read_whole
from .markdown import table_lines
from .terminal import percent
from .wording import format_rate


@dataclass(frozen=True)
class WorsePair:
    """A language pair whose PND rose by the clustered test, at a false discovery rate of 5% over its criterion."""

    query_language: str
    passage_language: str
    improvement: float
    """Below 0; NaN where the untuned tower makes no error."""


@dataclass(frozen=True)
class Figure:
    """The tuned tower against the untuned one on one set, by one relation and measure."""

    set: str
    relation: str
    """positive-negative for triplets."""
    measure: str
    num_language_pairs: int
    """0 for triplets; else PND is a mean over so many pairs."""
    num_comparisons: int
    """Of triplets; of one language pair."""
    num_clusters: int
    """What counts as independent."""
    pnd_untuned: float
    pnd_tuned: float
    improvement: float
    """Relative fall of PND, equation 1 of the paper; positive is better."""
    low: float
    high: float
    """95% interval of the improvement, paired and clustered."""
    reason: str
    """Why a number is missing or in doubt; else ''."""
    counts: PairCounts | None
    """Language pairs that changed; None for triplets."""
    worse: tuple[WorsePair, ...]
    """Worst first."""


def read_figures(out: Location, trial_id: str) -> list[Figure]:
    """Figures of a trial that is done, set by set.

    Raises:
        ResultsError: a table is missing or of another schema version.
    """
    scores, means = (read_whole(out, table, [trial_id]) for table in ("scores", "aggregates"))
    whole = means[(means["axis"] == "all") & (means["group"] == "all")]
    figures = []
    for criterion, rows in scores.groupby(["set", "relation", "measure"], sort=False):
        if (rows["kind"] == "triplets").all():
            figures.append(_figure(rows.iloc[0], rows, 0, None, ()))
            continue
        is_its_mean = (whole[["set", "relation", "measure"]] == list(criterion)).all(axis=1)
        figures.append(_figure(whole[is_its_mean].iloc[0], rows, len(rows), count_pairs(rows), _worse(rows)))
    return figures


def read_boundaries(out: Location, trial_id: str) -> list[dict[str, Any]]:
    """Boundaries of the trial's curve as OUT/report/boundary.json has them; none where there is no report.

    Raises:
        ResultsError: a report that is damaged, or, with several curves in it, a folder that `load_sweep` refuses.
    """
    path = out / "report" / "boundary.json"
    if not path.is_file():
        return []
    try:
        boundaries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["boundaries"]
        groups = {boundary["group"] for boundary in boundaries}
        missing = [key for boundary in boundaries for key in _READ if key not in boundary]
        if missing:
            raise KeyError(missing[0])
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path} must be what `adiabatic report` wrote, got {error!r}; run `adiabatic report {out}` again"
        ) from None
    own = load_sweep(out).groups.get(trial_id) if len(groups) > 1 else next(iter(groups), None)
    return [boundary for boundary in boundaries if boundary["group"] == own]


def evaluation_lines(figures: Sequence[Figure]) -> list[str]:
    """Markdown: a table of all figures, and the language pairs that got worse."""
    titles = [
        "set",
        "relation",
        "measure",
        "comparisons",
        "clusters",
        "untuned %",
        "tuned %",
        "improvement %",
        "95% interval",
    ]
    titles += ["pairs better / worse", "preserved"]
    lines = [
        "PND is the share of comparisons in which the positive passage is not strictly closer than the negative one; "
        "of a set in several languages, the mean over its language pairs. "
        "Improvement is its relative fall against the untuned query tower: positive is better. Both towers see the "
        "same texts and the same passage embeddings; intervals are paired and clustered by shared text. Pairs count "
        "as better or worse at a false discovery rate of 5%; preserved are those shown to have lost less than 1%.",
        "",
        *table_lines(titles, map(_cells, figures), "<<<>>>>>>>>"),
        "",
    ]
    doubts = dict.fromkeys((_name(figure), figure.reason) for figure in figures if figure.reason)
    lines += [f"- {name}: {reason}" for name, reason in doubts] + ([""] if doubts else [])
    with_pairs = [figure for figure in figures if figure.counts is not None]
    if with_pairs:
        lines += ["### Language pairs that are significantly worse", ""]
        lines += ["Query language / passage language, with the improvement in %, worst first.", ""]
        lines += [_worse_line(figure) for figure in with_pairs] + [""]
    return lines


def boundary_lines(boundaries: Sequence[Mapping[str, Any]], learning_rate: float) -> list[str]:
    """Markdown: each boundary's sentence, and where the trial's own rate lies."""
    return [f"- {boundary['sentence']}{_place(boundary, learning_rate)}" for boundary in boundaries]


_READ = ("sentence", "low", "high", "low_censored", "high_censored", "num_trials", "num_kept_untuned", "num_unmoved")


def _figure(
    row: pd.Series[Any],
    scores: pd.DataFrame,
    num_language_pairs: int,
    counts: PairCounts | None,
    worse: tuple[WorsePair, ...],
) -> Figure:
    """From the row that has the PND and its interval, and the scores that it is about."""
    return Figure(
        set=str(row["set"]),
        relation=str(row["relation"]),
        measure=str(row["measure"]),
        num_language_pairs=num_language_pairs,
        num_comparisons=int(scores["num_comparisons"].iloc[0]),
        num_clusters=int(scores["num_clusters"].iloc[0]),
        pnd_untuned=float(row["pnd_untuned"]),
        pnd_tuned=float(row["pnd_tuned"]),
        improvement=float(row["improvement"]),
        low=float(row["improvement_low"]),
        high=float(row["improvement_high"]),
        reason=str(row["reason"]),
        counts=counts,
        worse=worse,
    )


def _worse(scores: pd.DataFrame) -> tuple[WorsePair, ...]:
    """Language pairs that `count_pairs` counts as degraded."""
    found = scores[(scores["bh_p"] <= ALPHA) & (scores["clustered_z"] > 0)].sort_values("improvement", kind="stable")
    columns = (found[name] for name in ("query_language", "passage_language", "improvement"))
    return tuple(WorsePair(*pair) for pair in zip(*columns, strict=True))


def _name(figure: Figure) -> str:
    return f"{figure.set}, {figure.relation}, {figure.measure}"


def _cells(figure: Figure) -> list[str]:
    counts = figure.counts
    interval = f"{percent(figure.low)} to {percent(figure.high)}"
    return [
        figure.set,
        figure.relation,
        figure.measure,
        (f"{figure.num_language_pairs:,} pairs x " if counts else "") + f"{figure.num_comparisons:,}",
        f"{figure.num_clusters:,}",
        f"{100 * figure.pnd_untuned:.2f}",
        f"{100 * figure.pnd_tuned:.2f}",
        percent(figure.improvement),
        "-" if math.isnan(figure.low) or math.isnan(figure.high) else interval,
        f"{counts.improved} / {counts.degraded}" if counts else "",
        f"{counts.preserved} of {counts.testable}" if counts else "",
    ]


def _worse_line(figure: Figure) -> str:
    pairs = ", ".join(
        f"{pair.query_language}/{pair.passage_language} {percent(pair.improvement)}" for pair in figure.worse
    )
    head = f"- {_name(figure)}: {len(figure.worse) or 'none'} of {figure.num_language_pairs:,}"
    return f"{head}: {pairs}" if pairs else head


def _place(boundary: Mapping[str, Any], rate: float) -> str:
    """A sentence; none where there is no boundary to be on one side of."""
    if rate == 0 or boundary["num_kept_untuned"] + boundary["num_unmoved"] == boundary["num_trials"]:
        return ""
    low, high = boundary["low"], boundary["high"]
    low_censored, high_censored = boundary["low_censored"], boundary["high_censored"]
    # An end beyond the rates that were tried stands at the outermost of them.
    if low_censored != "below" and (rate < low or (rate == low and low_censored == "above")):
        where = "below"
    elif high_censored != "above" and (rate > high or (rate == high and high_censored == "below")):
        where = "above"
    else:
        where = "inside"
    return f" This tower's rate, {format_rate(rate, 3)}, lies {where} that interval."
