"""Boundaries for a terminal of 80 columns: a table for each set, relation and measure, a row for each criterion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .boundary_tables import boundary_table
from .gains import best_rates, gain_floor
from .ratios import boundary_ratios
from .resample import Evidence
from .rules import DELTA, Rule, definition
from .wording import format_rate


def print_boundaries(evidence: Evidence, console: Console, *, delta: float = DELTA) -> None:
    """Every boundary, the lower end, the best rate, and how groups compare; nothing without a curve."""
    found = boundary_table(evidence, delta=delta)
    if found.empty:
        return
    if evidence.num_absent:
        console.print()
        console.print(f"INCOMPLETE: {evidence.num_absent} trials failed or missing.", style="bold red", highlight=False)
    for (group, name, relation, measure), part in found.groupby(["group", "set", "relation", "measure"], sort=False):
        title = "; ".join(text for text in (f"Boundaries: {name}, {relation}, {measure}", str(group)) if text)
        table = Table(title=Text(title, style="table.title"), title_justify="left", box=None, padding=(0, 1))
        for column in ("criterion", "rate", "95% interval", "seeds", "remark"):
            table.add_column(column, justify="left", no_wrap=column != "remark")
        for row in part.to_dict("records"):
            table.add_row(str(row["criterion"]), _end(row, "estimate", "censored"), _interval(row), _seeds(row),
                          Text(str(row["reason"])))  # fmt: skip
        console.print()
        console.print(table)
    console.print()
    meanings = ". ".join(f"{rule}: {definition(rule, delta=delta)}" for rule in Rule)
    legend = (
        f"Learning rates with 95% intervals. {meanings}. seeds: crossings of single seeds. < and >: outside the rates."
    )
    console.print(legend, style="dim", highlight=False)
    _print_gains(evidence, console, delta)


def _print_gains(evidence: Evidence, console: Console, delta: float) -> None:
    shown = [("Gain begins", gain_floor(evidence), ("set",)), ("Best rate", best_rates(evidence), ())]
    if len(evidence.groups) > 1:
        shown.append((f"Against {evidence.groups[0]}", boundary_ratios(evidence, delta=delta), ("set", "relation")))
    for title, table, keys in shown:
        for row in table.to_dict("records"):
            where = ", ".join(str(row[key]) for key in (*keys, "measure", "group") if row[key])
            console.print(f"{title} ({where}): {row['words']}.", markup=False, highlight=False)


def _end(row: Mapping[Any, Any], name: str, mark: str) -> str:
    value = float(row[name])
    sign = {"none": "", "above": ">", "below": "<"}[str(row[mark])]
    return "-" if math.isnan(value) else sign + format_rate(value)


def _interval(row: Mapping[Any, Any]) -> str:
    ends = _end(row, "low", "low_censored"), _end(row, "high", "high_censored")
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"


def _seeds(row: Mapping[Any, Any]) -> str:
    ends = float(row["seed_low"]), float(row["seed_high"])
    if math.isnan(ends[0]):
        return ""
    texts = ["<" if end == 0 else ">" if math.isinf(end) else format_rate(end) for end in ends]
    return " to ".join(dict.fromkeys(texts))
