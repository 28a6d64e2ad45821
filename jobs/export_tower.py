"""Exports a trial's tower for other libraries: `adiabatic export OUT TRIAL FOLDER`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from adiabatic_ray import results
from adiabatic_ray.results import ResultsError
from adiabatic_ray.storage import Location, on_disk, open_folder

from .environment import plain_console, prepare_environment
from .errors import user_errors

if TYPE_CHECKING:
    import numpy as np

    from adiabatic_ray.encoders.backbones import Backbone


@user_errors
def export(
    out: Annotated[str, typer.Argument(metavar="OUT", help="Results folder of a sweep: a path or a URI.")],
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="Id of a trial there, or its beginning.")],
    target: Annotated[str, typer.Argument(metavar="FOLDER", help="What to write: new, or an empty folder, on a disk.")],
) -> None:
    """Write a trial's tuned query tower and its passage tower as a folder that sentence-transformers loads.

    FOLDER/query is the query tower by itself, for sentence-transformers and transformers. The model card has the
    specification, the evaluation and, where `adiabatic report` was run, the boundary. Needs no Ray.
    """
    from .reporting import read_boundaries, read_figures, trial_spec, tuned_trial

    results_folder, folder = open_folder(out), on_disk(target)
    trial_id, record = tuned_trial(results_folder, trial)
    spec = trial_spec(trial_id, record.spec)
    figures, boundaries = read_figures(results_folder, trial_id), read_boundaries(results_folder, trial_id)
    (row,) = results.read_table(results_folder, "trials", [trial_id]).to_pylist()
    prepare_environment()
    from adiabatic_ray.encoders.backbones import load_backbone
    from adiabatic_ray.encoders.export import check_is_free, new_folder, write_towers

    from .model_card import model_card

    check_is_free(folder)
    backbone = load_backbone(spec.backbone)
    changed = read_changed(results_folder, trial_id, backbone)
    with new_folder(folder) as written:
        exported = write_towers(written, backbone, changed)
        card = model_card(folder.resolve().name, spec, row, exported, figures, boundaries)
        (written / "README.md").write_text(card, encoding="utf-8")
    no_boundary = f", without a boundary: `adiabatic report {out}` estimates it"
    console = plain_console()
    of_passages = exported.num_passage_changed
    for line in (
        f"{trial_id}: {exported.num_changed} of {exported.num_tensors} tensors of the query tower were changed"
        + (f", {of_passages} of the passage tower: passages must be embedded anew" if of_passages else ""),
        f'both towers:  SentenceTransformer("{folder}"), encode_query and encode_document',
        f'query tower:  SentenceTransformer("{folder / "query"}"), or {exported.model_class} of transformers',
        f"model card:   {folder / 'README.md'}" + ("" if boundaries else no_boundary),
        f"on disk:      {exported.size_bytes / 1e6:,.1f} MB; a tower alone is {exported.tower_bytes / 1e6:,.1f} MB",
    ):
        console.print(line, soft_wrap=True, highlight=False)


def read_changed(out: Location, trial_id: str, backbone: Backbone) -> dict[str, np.ndarray]:
    """Tensors in which a trial's tower differs from its backbone.

    Raises:
        ValueError: the file is gone, damaged, or of another backbone.
    """
    from adiabatic_ray.encoders.tower_files import FILE_NAME
    from adiabatic_ray.encoders.tower_sources import read_tower

    path = out / "towers" / trial_id / FILE_NAME
    if not path.is_file():
        trial_row = results.table_path(out, "trials", trial_id)
        raise ResultsError(
            f"a finished trial has its tower, got no {path}; copy the whole folder, or {results.how_to_redo(trial_row)}"
        )
    return dict(read_tower(str(path.parent), backbone, ()).changed)
