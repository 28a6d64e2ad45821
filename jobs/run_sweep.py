"""Runs a sweep file to its report: `adiabatic sweep FILE`, or `python -m jobs.run_sweep FILE` in a submitted job."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from adiabatic_ray.redaction import without_credentials
from adiabatic_ray.storage import Location, open_folder

from .dry_run import print_dry_run
from .environment import plain_console, prepare_environment
from .errors import user_errors
from .progress import StageProgress, SweepProgress
from .sweep_files import Scale, load_sweep

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

ScaleOption = Annotated[
    Scale,
    typer.Option(
        help="small: fewer and shorter trials on local texts, minutes on 2 cores; needs ADIABATIC_DATA "
        "(see adiabatic_ray/small.py)."
    ),
]

SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of a shipped sweep.")]
OverridesOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Replace a field, e.g. trial.tuning.batch_size=28. Repeatable."),
]
BanksOption = Annotated[
    str | None,
    typer.Option("--banks", help="Folder of passage banks, shared by sweeps, given like --out; default: beside it."),
]
OutOption = Annotated[
    str | None,
    typer.Option(
        "--out",
        help="Results folder: a path, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER (docs/storage.md); default: "
        "results/<sweep name>.",
    ),
]
UriOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        envvar="MLFLOW_TRACKING_URI",
        help="MLflow server; default: SQLite in the results folder; for one in a bucket, in this machine's cache.",
    ),
]


@app.command()
@user_errors
def sweep(
    file: SweepArgument,
    out: OutOption = None,
    overrides: OverridesOption = None,
    scale: ScaleOption = Scale.FULL,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; start nothing.")] = False,
    banks: BanksOption = None,
    tracking_uri: UriOption = None,
) -> None:
    """Run a sweep: tune every trial, evaluate it, record it, and report where quality breaks down.

    Running the same command again continues: finished trials are skipped.
    """
    console = plain_console()
    spec = load_sweep(file, overrides or [], scale)
    if dry_run:
        print_dry_run(console, spec)
        return
    results_folder = open_folder(out) if out else Path("results") / spec.name
    banks_folder = open_folder(banks) if banks else results_folder.resolve().parent / "banks"
    for folder in (results_folder, banks_folder):  # before anything is loaded: later it would be late to hear of it
        folder.mkdir(parents=True, exist_ok=True)
    prepare_environment()
    from adiabatic_ray.on_ray.cluster import start_ray  # heavy: only once the specification is known to be right
    from adiabatic_ray.on_ray.one_driver import only_driver
    from adiabatic_ray.on_ray.tracking import Tracker
    from adiabatic_ray.orchestration.orchestrator import run_as_driver
    from adiabatic_ray.results import failed_trials, finished_trials
    from adiabatic_ray.schemas import TrialStatus

    from .reporting import print_report, write_report

    tracker = Tracker(
        results_folder,
        tracking_uri,
        warn=lambda text: console.print(text, style="yellow", markup=False, soft_wrap=True),
    )
    start_ray()
    around = StageProgress(console)
    with only_driver(results_folder, around) as driver:  # until MLflow, which has one writer, has it all
        with SweepProgress(console, tracker) as progress:
            outcome = run_as_driver(spec, results_folder, banks_folder, driver, progress)
        try:
            if outcome.num_finished_before == outcome.num_trials:
                console.print(f"all {outcome.num_trials} trials are finished already; nothing to run")
            failed = failed_trials(results_folder) if TrialStatus.FAILED in outcome.statuses.values() else {}
            for trial_id, failure in failed.items():
                cause = failure["error"].strip().splitlines()[-1]
                console.print(f"{trial_id} FAILED: {cause}", style="red", markup=False, soft_wrap=True)
            report = write_report(results_folder) if finished_trials(results_folder) or not failed else None
            if report is not None:
                print_report(report.sweep, report.boundaries, console)
                _print_places(console, results_folder, report.html, tracker.uri)
        except BaseException:
            tracker.close()
            raise
        tracker.finish(report.folder if report else None, around.stage)
    if failed:
        console.print(
            f"{len(failed)} trials FAILED (see {results_folder / 'failures'}); run the same command to try them again",
            style="red",
            markup=False,
        )
        raise typer.Exit(1)


def _print_places(console: Console, results_folder: Location, report: Location, uri: str) -> None:
    read = f"import pandas; print(pandas.read_parquet({json.dumps(str(results_folder / 'trials'))}))"
    interface = (sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri)
    for title, text in (
        ("\nReport:   ", shlex.quote(str(report))),
        ("MLflow UI:", without_credentials(uri if uri.startswith("http") else shlex.join(interface))),
        ("Parquet:  ", shlex.join((sys.executable, "-c", read))),
    ):
        console.print(f"{title}  {text}", soft_wrap=True, markup=False, highlight=False)


if __name__ == "__main__":
    app()
