"""One tower against another as tables for a terminal of 80 columns: a table a triplet set, two kinds a pair set.

What is significant is said by the `scores` table's own tests; nothing is computed here but counts of language pairs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from adiabatic_ray.statistics.score_tables import CONSEQUENCES, REASON_SEPARATOR

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
    "Improvement: {after} against {before}; PND's relative fall, a rank measure's relative rise; positive: {after} is "
    "better. Intervals and p: paired and clustered, not adjusted; an interval leaves out 0 exactly when p is below .05."
)
PAIR_LEGEND = (
    "Means are of PND over language pairs. Clusters: what a set takes for independent (premises, groups of names, in a "
    "file of your own its `cluster` or its query). +/- counts language pairs improved and degraded: by the clustered "
    "test at a false discovery rate of 5%; by max-T, which bounds the chance of a single false find by 5%; by the "
    "paper's z-test, which takes all comparisons for independent. Preserved: of the pairs that allow the test (none "
    "where {before} is 0), those whose PND is shown to have risen by less than 1% of itself (one-sided, 2.5%)."
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
    legend = (f"{LEGEND} {PAIR_LEGEND}" if has_pairs else LEGEND).format(
        before=comparison.before.title, after=comparison.after.title
    )
    console.print(legend, style="dim", markup=False, highlight=False)


def tables(comparison: Comparison) -> Iterator[Table]:
    """Rich tables, set by set: triplets have one; pairs have counts of language pairs, then means by relation."""
    for (name, kind), scores in comparison.scores.groupby(["set", "kind"], sort=False):
        if kind == "triplets":
            yield _triplets(comparison, scores, comparison.rankings[comparison.rankings["set"] == name])
            continue
        yield _pair_counts(comparison, scores)
        for (relation, measure), rows in scores.groupby(["relation", "measure"], sort=False):
            means = comparison.aggregates
            chosen = (means["set"] == name) & (means["relation"] == relation) & (means["measure"] == measure)
            yield _pair_means(comparison, rows, means[chosen])


def _triplets(comparison: Comparison, scores: pd.DataFrame, rankings: pd.DataFrame) -> Table:
    first = scores.iloc[0]
    num_queries, num_clusters = int(rankings.iloc[0]["num_queries"]), int(first["num_clusters"])
    clusters = f" in {num_clusters:,} clusters" if num_clusters < num_queries else ""
    title = f"{first['set']}: {num_queries:,} queries{clusters}, {first['num_comparisons']:,} comparisons"
    of_measure = {row["measure"]: row for row in scores.to_dict("records")}
    of_statistic = {(row["measure"], row["statistic"]): row for row in rankings.to_dict("records")}
    ranks = {(measure, statistic): of_statistic[measure, statistic] for measure in MEASURES for statistic in RANKS}
    table = _table(comparison, title, [*of_measure.values(), *ranks.values()])
    table.add_column("measure")
    table.add_column("")
    _add_estimate_columns(table, comparison)
    for measure in MEASURES:
        row = of_measure[measure]
        table.add_row(measure, "PND", *_shares(row["pnd_untuned"], row["pnd_tuned"]), *_estimate(row))
        for statistic, short in RANKS.items():
            row = ranks[measure, statistic]
            table.add_row("", short, *_shares(row["untuned"], row["tuned"]), *_estimate(row))
    return table


def _pair_counts(comparison: Comparison, scores: pd.DataFrame) -> Table:
    first = scores.iloc[0]
    num_pairs = len(scores[["query_language", "passage_language"]].drop_duplicates())
    title = f"{first['set']}: {num_pairs:,} language pairs, {first['num_clusters']:,} clusters"
    table = _table(comparison, title, scores.to_dict("records"), "tests of a language pair")
    table.add_column("relation")
    table.add_column("measure")
    for heading in ("clustered\nFDR +/-", "max-T\n+/-", "paper's z\n+/-", "preserved"):
        table.add_column(heading, justify="right", no_wrap=True)
    for (relation, measure), rows in scores.groupby(["relation", "measure"], sort=False):
        counts = count_pairs(rows)
        table.add_row(
            Text(str(relation)),
            str(measure),
            f"{counts.improved}/{counts.degraded}",
            f"{counts.improved_maxt}/{counts.degraded_maxt}",
            f"{counts.improved_z}/{counts.degraded_z}",
            f"{counts.preserved} of {counts.testable}",
        )
    return table


def _pair_means(comparison: Comparison, scores: pd.DataFrame, means: pd.DataFrame) -> Table:
    first = scores.iloc[0]
    title = f"{first['set']}, {first['relation']}, {first['measure']}: {first['num_comparisons']:,} comparisons a pair"
    of_group = {(row["axis"], row["group"]): row for row in means.to_dict("records")}
    languages = {(axis, name): f"query in {name}" for axis, name in of_group if axis == "query language"}
    # A set of same-language pairs has no others.
    shown = [(words, of_group[group]) for group, words in (GROUPS | languages).items() if group in of_group]
    table = _table(comparison, title, [row for _, row in shown])
    table.add_column("mean over")
    table.add_column("pairs", justify="right")
    _add_estimate_columns(table, comparison)
    for words, row in shown:
        shares = _shares(row["pnd_untuned"], row["pnd_tuned"])
        table.add_row(Text(words), str(row["num_pairs"]), *shares, *_estimate(row))
    return table


def _table(comparison: Comparison, title: str, rows: Sequence[Mapping[Hashable, Any]], of_what: str = "rows") -> Table:
    """An empty table; its caption says which of the rows it is made from lack a number, or have one in doubt, and why.

    What comes from a user's file is `Text` here: Rich reads square brackets in a plain string as markup.
    """
    found = Counter(reason for row in rows for reason in row["reason"].split(REASON_SEPARATOR))
    notes = [
        f"{consequence}, {_of_sides(reason, comparison)}: {found[reason]} of {len(rows)} {of_what}"
        for reason, consequence in CONSEQUENCES.items()
        if found[reason]
    ]
    return Table(
        title=Text(title, style="table.title"),
        caption=Text("; ".join(notes), style="table.caption") if notes else None,
        title_justify="left",
        caption_justify="left",
        box=None,
        padding=(0, 1),
        header_style="bold",
    )


def _of_sides(reason: str, comparison: Comparison) -> str:
    """A reason in the words of the columns: `A's value is 0` where A stands in the place of the untuned backbone."""
    for word, side in (("untuned", comparison.before), ("tuned", comparison.after)):
        if side.title != word:
            reason = reason.replace(f"{word} value", f"{side.title}'s value")
    return reason


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
