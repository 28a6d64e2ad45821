"""Scores one tower without a sweep: `adiabatic evaluate TOWER --on SWEEP`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adiabatic_ray.changes import with_changes
from adiabatic_ray.spec import BackboneSpec
from adiabatic_ray.storage import open_folder

from .environment import plain_console, prepare_environment
from .errors import user_errors
from .sweep_files import load_untuned

if TYPE_CHECKING:
    from adiabatic_ray.orchestration.tower_evaluation import TowerEvaluation

DEFAULT_OUT = "results/evaluations"


@user_errors
def evaluate(
    tower: Annotated[
        str,
        typer.Argument(
            metavar="TOWER", help="Folder below OUT/towers, transformers or sentence-transformers folder, or hub id."
        ),
    ],
    on: Annotated[
        str,
        typer.Option(
            "--on",
            metavar="SWEEP[:SET,...]",
            help="Sweep file or shipped sweep whose backbone, evaluation sets and cluster settings are used; after a "
            "colon only these sets.",
        ),
    ],
    out: Annotated[
        str, typer.Option("--out", help="Results folder, a path or a URI; that of a sweep does as well.")
    ] = DEFAULT_OUT,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", metavar="BACKBONE", help="Folder or hub id of the untuned encoder, where it is not the sweep's."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Replace a field of the sweep. Repeatable."),
    ] = None,
    banks: Annotated[str | None, typer.Option(help="Folder of passage banks; default: beside --out.")] = None,
) -> None:
    """Score one tuned tower against its untuned backbone: the tables and tests of a sweep, for a single tower.

    Running the same command again is answered from disk.
    """
    spec, untuned = load_untuned(on, overrides or [])
    if base is not None:
        untuned = untuned.model_copy(update={"backbone": with_base(untuned.backbone, base)})
    prepare_environment()
    from adiabatic_ray.on_ray.cluster import start_ray
    from adiabatic_ray.orchestration.tower_evaluation import plan_evaluation, run_evaluation

    from .progress import StageProgress
    from .reporting import print_comparison, read_comparison

    console = plain_console()
    results_folder = open_folder(out)
    banks_folder = open_folder(banks) if banks else results_folder.resolve().parent / "banks"
    with StageProgress(console) as progress:
        evaluation = plan_evaluation(tower, untuned, progress)
        if evaluation.is_finished(results_folder):
            progress.stage(f"{evaluation.tower_id} is scored already: reading {out}")
        else:
            results_folder.mkdir(parents=True, exist_ok=True)
            start_ray()
            run_evaluation(evaluation, spec.cluster, results_folder, banks_folder, progress)
    console.print()
    for line in describe(evaluation):
        console.print(line, markup=False, highlight=False)
    console.print()
    print_comparison(read_comparison(results_folder, evaluation.tower_id), console)
    console.print(f"\nParquet:  {out}/*/{evaluation.tower_id}.parquet", soft_wrap=True, highlight=False)


def describe(evaluation: TowerEvaluation) -> list[str]:
    """What was scored, under which conventions, and what a reader has to know."""
    backbone, tower = evaluation.inputs.backbone, evaluation.tower
    spec = backbone.spec
    prefix = f"{spec.query_prefix!r} before every query" if spec.query_prefix else "no prefix"
    return [
        f"{len(tower.changed)} of {len(backbone.weights)} tensors of the tower differ from the untuned backbone's.",
        f"Both are scored with the backbone's conventions: {spec.pooling} pooling, {prefix}, {spec.max_length} tokens.",
        *(f"The tower {note}." for note in tower.notes),
    ]


def with_base(backbone: BackboneSpec, base: str) -> BackboneSpec:
    """The conventions of a sweep's backbone with other weights, from a folder or the hub.

    Raises:
        ValueError: a name that no backbone can have.
    """
    source = "folder" if Path(base).exists() else "hub"
    return with_changes(backbone, {"name": base, "source": source, "revision": None, "encoder_digest": None})
