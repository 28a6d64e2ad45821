"""Submits a sweep to a Ray cluster: `adiabatic submit SWEEP --address URL --out FOLDER`, and stops it again."""

from __future__ import annotations

import os
import shlex
import uuid
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from .environment import plain_console, prepare_client
from .errors import user_errors
from .job_files import SweepCommand, check_command, checkout, entrypoint, forwarded, runtime_environment, staged
from .run_sweep import BanksOption, OverridesOption, ScaleOption, SweepArgument
from .sweep_files import Scale, load_sweep

if TYPE_CHECKING:  # it imports Ray
    from .cluster_jobs import ClusterJobs

AddressOption = Annotated[
    str, typer.Option("--address", metavar="URL", help="Dashboard of the cluster, e.g. http://127.0.0.1:8265.")
]


@user_errors
def submit(
    file: SweepArgument,
    address: AddressOption,
    out: Annotated[
        str, typer.Option("--out", help="Results folder: an absolute path that all nodes see, or s3://BUCKET/FOLDER.")
    ],
    overrides: OverridesOption = None,
    scale: ScaleOption = Scale.FULL,
    banks: BanksOption = None,
    tracking_uri: Annotated[
        str | None, typer.Option("--tracking-uri", help="MLflow server, as the cluster reaches it.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the log, or return at once.")] = True,
) -> None:
    """Run a sweep on a Ray cluster: upload, follow the log, and end with the job's exit code.

    Ctrl-C leaves the log and lets the job run. Submitting the same again continues: finished trials are skipped.
    """
    command = SweepCommand(file, out, tuple(overrides or ()), scale.value, banks, tracking_uri)
    spec = load_sweep(file, overrides or [], scale)
    check_command(command, os.environ)
    prepare_client(address)
    from .cluster_jobs import ClusterJobs  # heavy: Ray

    console = plain_console()
    jobs = ClusterJobs(address)
    jobs.check_ray_version()
    job, root = f"{spec.name}-{uuid.uuid4().hex[:8]}", checkout()
    _say(console, f"submitting {job} to {address} ...")
    with staged(file, root) as (folder, name):
        try:
            jobs.submit_job(
                entrypoint=entrypoint(command, name, root),
                submission_id=job,
                runtime_env=runtime_environment(folder, os.environ),
                metadata={"sweep": spec.name, "out": out},
            )
        except RuntimeError as error:
            raise ValueError(
                f"the cluster must accept the job, got {error} from {address}; see its dashboard"
            ) from error
    _announce(console, job, address, out)
    if wait:
        _follow(console, jobs, job, address)


@user_errors
def stop(
    job: Annotated[str, typer.Argument(metavar="JOB", help="Id that `adiabatic submit` printed.")],
    address: AddressOption,
) -> None:
    """Stop a submitted sweep. Finished trials are kept; submitting the same sweep again continues."""
    prepare_client(address)
    from .cluster_jobs import ClusterJobs

    console, jobs = plain_console(), ClusterJobs(address)
    was_running = jobs.stop(job)
    state = jobs.details(job).status
    _say(console, f"{job} is {state}" if was_running else f"{job} had ended already: {state}")


def _announce(console: Console, job: str, address: str, out: str) -> None:
    names = ", ".join(forwarded(os.environ)) or "none"
    _say(console, f"job:      {job}   (variables handed on: {names})")
    _say(console, f"log:      ray job logs --follow {job} --address {address}")
    _say(console, f"state:    adiabatic status {job} --address {address}")
    _say(console, f"trials:   adiabatic status {shlex.quote(out)}   (where that folder is seen)")
    _say(console, f"to stop:  adiabatic stop {job} --address {address}")


def _follow(console: Console, jobs: ClusterJobs, job: str, address: str) -> None:
    from .follow_job import exit_code, follow

    try:
        ended = follow(jobs, job, console)
    except KeyboardInterrupt:
        _say(
            console,
            f"left the log of {job}: the job goes on; to come back: ray job logs --follow {job} --address {address}",
        )
        raise typer.Exit(130) from None
    code = exit_code(ended)
    _say(console, f"{job} {ended.status}, exit code {code}")
    if code and not ended.driver_exit_code and ended.message:  # it never ran: its log does not say why
        _say(console, ended.message)
    raise typer.Exit(code)


def _say(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, markup=False, highlight=False)
