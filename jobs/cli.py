"""The `adiabatic` command."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from adiabatic_ray.storage import on_disk, open_folder

from . import build_negatives, evaluate_tower, export_tower, run_sweep, show_status, submit
from .environment import plain_console, prepare_environment
from .errors import user_errors
from .list_sweeps import print_sweeps
from .sweep_files import Scale, load_sweep

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Map how far a query tower may be tuned on English before its other languages break.",
)
app.command("sweep")(run_sweep.sweep)
app.command("submit")(submit.submit)
app.command("status")(show_status.status)
app.command("stop")(submit.stop)
app.command("evaluate")(evaluate_tower.evaluate)
app.command("export")(export_tower.export)

ResultsArgument = Annotated[
    str,
    typer.Argument(metavar="OUT", help="Results folder of a sweep: a path, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER."),
]


@app.command()
@user_errors
def report(
    outs: Annotated[
        list[str],
        typer.Argument(
            metavar="OUT [OUT2 ...]", help="Results folder of a sweep; of several, to lay them side by side."
        ),
    ],
    to: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Write the report there: a disk, where OUT is in a bucket.")
    ] = None,
) -> None:
    """Print the table and the boundary of a sweep, and write OUT/report. Needs no torch, Ray or MLflow.

    Of several sweeps it writes one report with all of them, OUT/report/comparison.html.
    """
    from .reporting import print_boundaries, print_report, write_report, write_sweeps_report

    console = plain_console()
    folders, folder = [open_folder(out) for out in outs], open_folder(to) if to else None
    if len(folders) == 1:
        written = write_report(folders[0], folder=folder)
        print_report(written.sweep, written.boundaries, console)
        print_boundaries(written.evidence, console)
        html = written.html
    else:
        compared = write_sweeps_report(folders, folder=folder)
        for material in compared.materials:
            print_report(material.sweep, material.boundaries, console)
            console.print()
        html = compared.html
    console.print(f"\nReport:  {shlex.quote(str(html))}", soft_wrap=True, markup=False, highlight=False)


@app.command()
@user_errors
def compare(
    out: ResultsArgument,
    first: Annotated[str, typer.Argument(metavar="A", help="Id of a trial or an evaluated tower, or its beginning.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one: what is printed is B against A.")],
) -> None:
    """Compare two trials with each other, paired and clustered, from the Parquet alone: no torch, Ray or MLflow."""
    from .reporting import compare_trials, print_comparison

    print_comparison(compare_trials(open_folder(out), first, second), plain_console())


@app.command()
@user_errors
def beside(
    out: ResultsArgument,
    table: Annotated[int, typer.Argument(metavar="TABLE", help="Number of a table of the paper.")],
) -> None:
    """Lay a sweep beside a table of the paper, row by row, from the Parquet alone: no torch, Ray or MLflow."""
    from .reporting import lay_beside, print_beside

    print_beside(lay_beside(open_folder(out), table), plain_console())


@app.command()
@user_errors
def layers(
    out: ResultsArgument,
    csv: Annotated[bool, typer.Option("--csv", help="All of it as CSV, with names of the settings that vary.")] = False,
) -> None:
    """Print each trial's most changed layers, as in Tables 14 and 15 of the paper. Needs no torch, Ray or MLflow."""
    from .reporting import most_changed, print_layers

    if csv:
        typer.echo(most_changed(open_folder(out)).to_csv(index=False), nl=False)
    else:
        print_layers(open_folder(out), plain_console())


@app.command()
@user_errors
def predict(
    outs: Annotated[list[str], typer.Argument(metavar="OUT [OUT2 ...]", help="Results folders of sweeps.")],
    csv: Annotated[
        str | None, typer.Option("--csv", metavar="FOLDER", help="Write all columns there too, and the chart.")
    ] = None,
) -> None:
    """Print which signal of an unscored tower tells harm, and in which coordinate boundaries agree. Parquet alone."""
    from .reporting import print_predictions

    print_predictions([open_folder(out) for out in outs], on_disk(csv) if csv else None, plain_console())


@app.command()
@user_errors
def sync(out: ResultsArgument, tracking_uri: run_sweep.UriOption = None) -> None:
    """Write everything that a results folder holds into MLflow; safe to repeat, catches up after an outage."""
    prepare_environment()
    from adiabatic_ray.on_ray.tracking import sync as sync_to_mlflow

    plain_console().print(f"{sync_to_mlflow(open_folder(out), tracking_uri)} trials are in MLflow")


@app.command()
@user_errors
def sweeps(scale: run_sweep.ScaleOption = Scale.FULL) -> None:
    """List the sweeps that come with the project: question, number of trials, cost."""
    print_sweeps(plain_console(), scale)


data = typer.Typer(no_args_is_help=True, help="Show the texts of a sweep, or build texts that sweeps use.")
app.add_typer(data, name="data")
data.command("arxiv-negatives")(build_negatives.arxiv_negatives)


@data.command()
@user_errors
def show(
    file: Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of a shipped sweep.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Replace a field of the sweep. Repeatable.")
    ] = None,
) -> None:
    """Load the texts of a sweep and show what is in them: sizes, digests, one example each."""
    from .show_data import print_data

    print_data(plain_console(), load_sweep(file, overrides or []))


@app.command()
def tables() -> None:
    """Print the columns of every result table (Markdown): name, type, unit, meaning."""
    from .show_tables import tables_markdown

    typer.echo(tables_markdown(), nl=False)


def main() -> None:
    """Entry point of the installed command."""
    app()


if __name__ == "__main__":
    main()
