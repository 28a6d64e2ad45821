"""A sweep beside a table of the paper, for a terminal of 80 columns: a block for each row of the paper and trial."""

from __future__ import annotations

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .beside_paper import Beside, Line, Match
from .layers import definition_of
from .paper_settings import describe
from .paper_tables import PairChange, PaperTable, Quantity
from .terminal import completeness_line, percent

SHORT = {
    "pnd": "PND",
    "pnd_untuned": "PND",
    "reciprocal_rank": "MRR",
    "average_precision": "MAP",
    "precision_at_1": "P@1",
    "pairs": "pairs",
    "entailment-neutral": "e-n",
    "entailment-contradiction": "e-c",
}
LEGEND = (
    "PND, MRR, MAP, P@1: improvement in % (equation 1) {against}, of all comparisons of a set, positive is better; its "
    "95% interval is paired and clustered, of the texts alone, not of the seed. pairs: language pairs "
    "improved/worsened, in both columns by the paper's z-test, and [in brackets] by the clustered test at a false "
    "discovery rate of 5%. ours - paper: percentage points, or language pairs. e-n, e-c: entailment against neutral "
    "and against contradiction. -: not here. ?: not legible in the text that the table was read from."
)
UNTUNED_LEGEND = (
    "PND in % of the untuned encoder: of all comparisons of a set, and the mean over language pairs; e-n, e-c: "
    "entailment against neutral and against contradiction. ours - paper: percentage points. -: not here."
)
LAYERS_LEGEND = (
    "The two most changed layers, the most changed first. Change: {definition}, in magnitude. listed: whether ours is "
    "either of the paper's two in the row. Names leave out `encoder.layer.`. -: no other layer changed, or no result."
)


def print_beside(beside: Beside, console: Console) -> None:
    """What is compared, in what the sweep is not the paper's, matched rows, what has no counterpart, the legend."""
    table, sweep = beside.table, beside.sweep

    def say(text: str, style: str | None = None) -> None:
        console.print(text, style=style, markup=False, highlight=False)

    say(f"Table {table.number} of the paper, {table.section}. {table.title}", "bold")
    say(completeness_line(sweep), None if sweep.completeness.is_whole else "bold red")
    num_matched = len(table.rows) - len(beside.rows_alone)
    say(f"{num_matched} of the paper's {len(table.rows)} rows have a trial here.")
    if table.names_layers:
        lines = [match.is_among_the_papers(line) for match in beside.matches for line in match.lines if line.ours]
        say(f"{sum(lines)} of {len(lines)} layers named here are among the paper's two of their row.")
    if beside.deviations:
        say("\nNot the paper's:")
        for line in beside.deviations:
            say(f"- {line}")
    for match in beside.matches:
        console.print()
        console.print(_layers(match) if table.names_layers else _block(match))
        if match.note:
            say(f"no numbers of ours: {match.note}", "bold red")
    if beside.rows_alone:
        say("\nRows of the paper without a trial here:")
        for row in beside.rows_alone:
            say(f"- {describe(row)}")
    if beside.trials_alone:
        say("\nTrials without a row in the paper:")
        for trial_id, settings in beside.trials_alone:
            say(f"- {describe(settings)}: {trial_id}, {sweep.status(trial_id)}")
    say(f"\n{_legend(table)}", "dim")


def _legend(table: PaperTable) -> str:
    if table.untuned:
        return UNTUNED_LEGEND
    if table.names_layers:
        return LAYERS_LEGEND.format(definition=definition_of(table.number).title)
    return LEGEND.format(against="against a tuned encoder" if table.compared_with else "against the untuned encoder")


def _empty(match: Match) -> Table:
    """A table without columns, with settings and trial above it."""
    status = "" if match.status == "COMPLETE" else f", {match.status}"
    title = ": ".join(text for text in (describe(match.settings), f"{match.trial_id}{status}") if text)
    return Table(
        title=Text(title, style="table.title"),
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        header_style="bold",
    )


def _layers(match: Match) -> Table:
    made = _empty(match)
    for heading in ("paper", "ours"):
        made.add_column(heading, overflow="fold")
    made.add_column("listed", no_wrap=True)
    for line in match.lines:
        listed = "yes" if match.is_among_the_papers(line) else "no"
        made.add_row(
            "?" if line.paper is None else str(line.paper),
            "-" if line.ours is None else Text(str(line.ours)),
            "-" if line.ours is None else listed,
        )
    return made


def _block(match: Match) -> Table:
    made = _empty(match)
    made.add_column("")
    made.add_column("measure")
    for heading in ("paper", "ours", "95% interval\n[clustered]", "ours - paper"):
        made.add_column(heading, justify="right", no_wrap=True)
    for line in match.lines:
        value = _untuned if line.quantity.statistic == "pnd_untuned" else _value
        made.add_row(
            _what(line.quantity),
            line.quantity.measure,
            "?" if line.paper is None else value(line.paper),
            "-" if line.ours is None else value(line.ours),
            Text(_interval(line)),
            _difference(line),
        )
    return made


def _what(quantity: Quantity) -> str:
    parts = (quantity.set, SHORT.get(quantity.relation, quantity.relation), SHORT[quantity.statistic])
    return " ".join(part for part in parts if part)


def _value(value: object) -> str:
    if isinstance(value, PairChange):
        return f"{value.improved}/{value.worsened}"
    return percent(value) if isinstance(value, float) else str(value)


def _untuned(value: object) -> str:
    return f"{100 * value:.2f}" if isinstance(value, float) else str(value)


def _interval(line: Line) -> str:
    if line.clustered is not None:
        return f"[{_value(line.clustered)}]"
    low, high = percent(line.low), percent(line.high)
    return "-" if low == high == "-" else f"{low} to {high}"


def _difference(line: Line) -> str:
    if isinstance(line.paper, PairChange) and isinstance(line.ours, PairChange):
        return f"{line.ours.improved - line.paper.improved:+d}/{line.ours.worsened - line.paper.worsened:+d}"
    if isinstance(line.paper, float) and isinstance(line.ours, float) and not math.isnan(line.ours):
        return percent(line.ours - line.paper)
    return "-"
