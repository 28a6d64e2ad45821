"""The sweep as tables for a terminal of 80 columns: one table for each pair set, relation and measure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .curves import MEASURES, Criterion, criteria, other_triplet_sets, rate_table
from .level import Boundary
from .load import Sweep
from .wording import format_rate, sentence

LEGEND = (
    "Improvements of PND in %, positive is better; the mean change is that of the mean PND over language pairs. +/- "
    "counts language pairs improved and degraded: by the paired test clustered by shared text (false discovery rate "
    "5%), and by the paper's z-test, which takes all comparisons for independent. Means over seeds; -: no "
    "untuned error."
)


def completeness_line(sweep: Sweep) -> str:
    """How many trials are done, diverged, failed and missing, in one sentence, with what to do when some lack."""
    kinds = sweep.completeness
    parts = [
        f"{len(ids)} {word}"
        for ids, word in (
            (kinds.done, "complete"),
            (kinds.diverged, "diverged"),
            (kinds.failed, "failed"),
            (kinds.missing, "missing"),
        )
        if ids
    ]
    line = f"{sweep.spec.name}: {len(sweep.trial_ids)} trials, {', '.join(parts)}."
    return line if kinds.is_whole else f"INCOMPLETE {line} Run the sweep again: it continues where it stopped."


def header(sweep: Sweep, criterion: Criterion | None) -> list[str]:
    """Column titles of `cells`."""
    titles = ["rate", "seeds", "tuned set %"]
    titles += [f"{name} %" for name in other_triplet_sets(sweep)]
    if criterion is not None:
        titles += ["pairs +/-", "paper z +/-", "mean change %"]
    return [*titles, "status"]


def cells(sweep: Sweep, rates: pd.DataFrame, criterion: Criterion | None, measure: str) -> list[list[str]]:
    """Rows of text, one for each row of `rates` (of `rate_table`), as `header` names them."""
    others = other_triplet_sets(sweep)
    rows = []
    for row in rates.to_dict("records"):
        texts = [format_rate(row["learning_rate"], 3), str(row["num_seeds"]), percent(row[f"gain_tuned/{measure}"])]
        texts += [percent(row[f"gain/{name}/{measure}"]) for name in others]
        if criterion is not None:
            texts.append(_counts(row[criterion.column("improved")], row[criterion.column("degraded")]))
            texts.append(_counts(row[criterion.column("improved_z")], row[criterion.column("degraded_z")]))
            texts.append(percent(row[criterion.column("improvement")]))
        rows.append([*texts, str(row["status"])])
    return rows


def sections(sweep: Sweep) -> list[tuple[str, pd.DataFrame, Criterion | None, str]]:
    """What to show, in order: title, rows of `rate_table` of one group, criterion (none without pair sets), measure."""
    rates, found = rate_table(sweep), criteria(sweep)
    parts: list[tuple[Criterion | None, str]] = [(criterion, criterion.measure) for criterion in found]
    sections = []
    for group in rates["group"].unique():
        for criterion, measure in parts or [(None, measure) for measure in MEASURES]:
            title = "; ".join(text for text in (str(criterion or measure), group) if text)
            sections.append((title, rates[rates["group"] == group], criterion, measure))
    return sections


def tables(sweep: Sweep) -> list[Table]:
    """Rich tables: rate, seeds, gains on the English sets, mean change, language pairs +/- by both tests, status."""
    made = []
    for title, rates, criterion, measure in sections(sweep):
        table = Table(
            title=Text(title, style="table.title"), title_justify="left", box=None, padding=(0, 1), header_style="bold"
        )
        for name in header(sweep, criterion):
            # Broken at spaces and hyphens, so that narrow columns leave the set names whole words.
            title_lines = re.sub(r" |(?<=-)(?=\w)", "\n", name)
            if name == "status":
                table.add_column(title_lines, min_width=len("COMPLETE"))
            else:
                table.add_column(title_lines, justify="right", no_wrap=True)
        for row in cells(sweep, rates, criterion, measure):
            table.add_row(*row)
        made.append(table)
    return made


def print_report(sweep: Sweep, boundaries: Sequence[Boundary], console: Console) -> None:
    """Completeness, tables, legend and the boundaries' sentences."""
    style = None if sweep.completeness.is_whole else "bold red"
    console.print(completeness_line(sweep), style=style, markup=False, highlight=False)
    for table in tables(sweep):
        console.print()
        console.print(table)
    console.print()
    console.print(LEGEND, style="dim", highlight=False)
    for boundary in boundaries:
        console.print()
        console.print(sentence(boundary), markup=False, highlight=False)


def percent(frac: float) -> str:
    """A fraction in percent with its sign and three or more digits; '-' where there is none."""
    if math.isnan(frac):
        return "-"
    value = 100 * frac
    return f"{value:+z.2f}" if abs(value) < 9.995 else f"{value:+.1f}" if abs(value) < 99.95 else f"{value:+.0f}"


def _counts(improved: float, degraded: float) -> str:
    if math.isnan(improved):
        return "-"
    return f"{_count(improved)}/{_count(degraded)}"


def _count(mean: float) -> str:
    return f"{mean:.0f}" if float(mean).is_integer() else f"{mean:.1f}"
