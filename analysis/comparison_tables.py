"""One tower against another as tables for a terminal of 80 columns: a table a triplet set, two kinds a pair set.

What is significant is said by the `scores` table's own tests; nothing is computed here but counts of language pairs.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from .comparison import Comparison
from .curves import MEASURES, count_pairs
from .terminal import percent

RANKS = {"reciprocal_rank": "MRR", "average_precision": "MAP", "precision_at_1": "P@1"}
GROUPS = {
    ("all", "all"): "all pairs",
    ("same language", "same"): "same language",
    ("same language", "cross"): "cross-language",
}
"""Groups of the `aggregates` table that are shown, beside those by query language."""
LEGEND = (
    "Improvement: PND's relative fall, a rank measure's relative rise; positive is better. Intervals and p: paired and "
    "clustered, not adjusted; an interval leaves out 0 exactly when p is below .05."
)
PAIR_LEGEND = (
    "Means are of PND over language pairs, clusters are premises or groups of names. +/- counts language pairs "
    "improved and degraded: by the clustered test at a false discovery rate of 5%; by max-T, which bounds the chance "
    "of a single false find by 5%; by the paper's z-test, which takes all comparisons for independent. Preserved: PND "
    "is shown to have risen by less than 1% of itself (one-sided, 2.5%)."
)


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Which two towers, every set's tables in the order of the evaluation, and the legend."""
    width = max(len(side.title) for side in (comparison.before, comparison.after))
    for side in (comparison.before, comparison.after):
        console.print(f"{side.title:<{width}}  {side.name}", markup=False, highlight=False, soft_wrap=True)
    console.print()
    for table in tables(comparison):
        console.print(table)
        console.print()
    has_pairs = (comparison.scores["kind"] == "pairs").any()
    console.print(f"{LEGEND} {PAIR_LEGEND}" if has_pairs else LEGEND, style="dim", highlight=False)


def tables(comparison: Comparison) -> Iterator[Table]:
    """Rich tables, set by set: triplets have one; pairs have counts of language pairs, then means by relation."""
    for (name, kind), scores in comparison.scores.groupby(["set", "kind"], sort=False):
        if kind == "triplets":
            yield _triplets(comparison, scores, comparison.rankings[comparison.rankings["set"] == name])
            continue
        yield _pair_counts(scores)
        for (relation, measure), rows in scores.groupby(["relation", "measure"], sort=False):
            means = comparison.aggregates
            chosen = (means["set"] == name) & (means["relation"] == relation) & (means["measure"] == measure)
            yield _pair_means(comparison, rows, means[chosen])


def _triplets(comparison: Comparison, scores: pd.DataFrame, rankings: pd.DataFrame) -> Table:
    first = scores.iloc[0]
    num_queries, num_clusters = int(rankings.iloc[0]["num_queries"]), int(first["num_clusters"])
    clusters = f" in {num_clusters:,} clusters" if num_clusters < num_queries else ""
    title = f"{first['set']}: {num_queries:,} queries{clusters}, {first['num_comparisons']:,} comparisons"
    table = _table(title, scores, rankings)
    table.add_column("measure")
    table.add_column("")
    _add_estimate_columns(table, comparison)
    for measure in MEASURES:
        (row,) = scores[scores["measure"] == measure].to_dict("records")
        table.add_row(measure, "PND", *_shares(row["pnd_untuned"], row["pnd_tuned"]), *_estimate(row))
        of_measure = rankings[rankings["measure"] == measure].set_index("statistic")
        for statistic, short in RANKS.items():
            row = of_measure.loc[statistic].to_dict()
            table.add_row("", short, *_shares(row["untuned"], row["tuned"]), *_estimate(row))
    return table


def _pair_counts(scores: pd.DataFrame) -> Table:
    first = scores.iloc[0]
    num_pairs = len(scores[["query_language", "passage_language"]].drop_duplicates())
    title = f"{first['set']}: {num_pairs:,} language pairs, {first['num_clusters']:,} clusters"
    table = _table(title, scores)
    table.add_column("relation")
    table.add_column("measure")
    for heading in ("clustered\nFDR +/-", "max-T\n+/-", "paper's z\n+/-", "preserved"):
        table.add_column(heading, justify="right", no_wrap=True)
    for (relation, measure), rows in scores.groupby(["relation", "measure"], sort=False):
        counts = count_pairs(rows)
        table.add_row(
            str(relation),
            str(measure),
            f"{counts.improved}/{counts.degraded}",
            f"{counts.improved_maxt}/{counts.degraded_maxt}",
            f"{counts.improved_z}/{counts.degraded_z}",
            str(counts.preserved),
        )
    return table


def _pair_means(comparison: Comparison, scores: pd.DataFrame, means: pd.DataFrame) -> Table:
    first = scores.iloc[0]
    title = f"{first['set']}, {first['relation']}, {first['measure']}: {first['num_comparisons']:,} comparisons a pair"
    table = _table(title, means)
    table.add_column("mean over")
    table.add_column("pairs", justify="right")
    _add_estimate_columns(table, comparison)
    of_group = {(row["axis"], row["group"]): row for row in means.to_dict("records")}
    languages = {(axis, name): f"query in {name}" for axis, name in of_group if axis == "query language"}
    for group, words in (GROUPS | languages).items():
        if group in of_group:  # a set of same-language pairs has no others
            row = of_group[group]
            shares = _shares(row["pnd_untuned"], row["pnd_tuned"])
            table.add_row(words, str(row["num_pairs"]), *shares, *_estimate(row))
    return table


def _table(title: str, *rows: pd.DataFrame) -> Table:
    """An empty table; its caption says why some of the rows that it is made from have no number.

    Whoever has no improvement or no test has no interval of the improvement either.
    """
    without = pd.concat([part.loc[part["improvement_low"].isna(), "reason"] for part in rows])
    caption = ", ".join(f"{reason} ({number})" for reason, number in without.value_counts().items())
    return Table(
        title=title,
        caption=f"without an improvement, its interval or a test: {caption}" if caption else None,
        title_justify="left",
        caption_justify="left",
        box=None,
        padding=(0, 1),
        header_style="bold",
    )


def _add_estimate_columns(table: Table, comparison: Comparison) -> None:
    sides = (f"{side.title}\n%" for side in (comparison.before, comparison.after))
    for heading in (*sides, "improve-\nment %", "95% interval", "p"):
        table.add_column(heading, justify="right", no_wrap=True)


def _shares(before: float, after: float) -> tuple[str, str]:
    return f"{100 * before:.2f}", f"{100 * after:.2f}"


def _estimate(row: Mapping[Hashable, Any]) -> tuple[str, str, str]:
    """Improvement, its interval, and p of the change."""
    low, high = percent(row["improvement_low"]), percent(row["improvement_high"])
    interval = "-" if low == high == "-" else f"{low} to {high}"
    return percent(row["improvement"]), interval, _probability(row["clustered_p"])


def _probability(p: float) -> str:
    if math.isnan(p):
        return "-"
    return "<.001" if p < 0.0005 else f"{p:.3f}".removeprefix("0")
