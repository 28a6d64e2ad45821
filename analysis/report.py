"""Writes `OUT/report/`: the report as one HTML file and as Markdown, the boundary as JSON, the curve table as CSV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from threadpoolctl import threadpool_limits

from adiabatic_ray import results
from adiabatic_ray.storage import Location, replacing

from .curves import Criterion
from .level import LEVEL, Boundary
from .load import Sweep, load_sweep
from .material import Material, material_of
from .page import Page, Part, Section
from .page_html import render_html
from .page_markdown import render_markdown
from .plots import plot_curves, plot_heatmap
from .report_boundary import boundary_section
from .report_breaking import breaking_section
from .report_cost import cost_section
from .report_criteria import criteria_section
from .report_curves import curves_section
from .report_drift import drift_section
from .report_gain import gain_section
from .report_languages import languages_section
from .report_provenance import provenance_section
from .report_ratios import ratios_section
from .report_settings import settings_section
from .resample import NUM_RESAMPLES, Evidence
from .wording import to_json


@dataclass(frozen=True)
class Report:
    """What was written, and what it says."""

    sweep: Sweep
    boundaries: list[Boundary]
    folder: Location
    html: Location
    """`report.html`: one file that needs no other."""
    markdown: Location
    """`report.md`: the same in words and tables."""
    table: Location
    """`curves.csv`: `curves.curve_table`, one row a trial."""
    pictures: tuple[Location, ...]
    """`curves.png` and `heatmap.png`; without the latter when every trial diverged, without both when no pair set has
    untuned errors."""
    evidence: Evidence
    """What the tables of boundaries take, without curves of single language pairs."""


@threadpool_limits.wrap(limits=1, user_api="blas")  # its products are small: more threads wait more than they work
def write_report(
    out: Location,
    *,
    folder: Location | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Report:
    """Analyse a results folder and write `OUT/report/`; a report that is there is replaced.

    Args:
        out: the folder that `adiabatic sweep` wrote.
        folder: where to write instead of `OUT/report/`, such as a disk for results in a bucket.
        level: see `boundary.estimate_boundaries`, as the other two.
        num_resamples: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        ResultsError: a folder that cannot be analysed, see `load_sweep` and `mean_curves`. A sweep without
            a pair set or a rate above 0 can be: its report says that there is no boundary.
        ValueError: a level, number of replicates or seed out of range.
        OSError: the report cannot be written.
    """
    sweep = load_sweep(out)
    material = material_of(sweep, level=level, num_resamples=num_resamples, seed=seed)
    boundaries = material.boundaries
    page = Page(f"{sweep.spec.name}: adiabatic boundary", (part_of(material),))
    folder = folder or report_folder(out)
    results.write_json(folder / "boundary.json", to_json(boundaries))
    write_text(folder / "curves.csv", material.trials.to_csv(index=False))
    pictures = []
    if material.curves:
        pictures.append(folder / "curves.png")
        plot_curves(sweep, pictures[-1], curves=material.curves, level=level)
    if boundaries and sweep.completeness.done:
        pictures.append(folder / "heatmap.png")
        first = boundaries[0]
        criterion = Criterion(first.set, first.relation, first.measure)
        plot_heatmap(sweep, _trial_to_show(sweep, first), pictures[-1], criterion=criterion)
    html, markdown = folder / "report.html", folder / "report.md"
    write_text(html, render_html(page))
    write_text(markdown, render_markdown(page, [picture.name for picture in pictures]))
    return Report(sweep, boundaries, folder, html, markdown, folder / "curves.csv", tuple(pictures), material.evidence)


SECTIONS: tuple[Callable[[Material], Section | None], ...] = (
    boundary_section,
    provenance_section,
    criteria_section,
    ratios_section,
    curves_section,
    gain_section,
    languages_section,
    breaking_section,
    settings_section,
    drift_section,
    cost_section,
)
"""In the order of the page. A new section is a function here; None where a sweep has nothing for it."""


def part_of(material: Material, prefix: str = "") -> Part:
    """All sections about one sweep.

    Args:
        material: of the sweep.
        prefix: of the sections' keys, where a page has several sweeps.
    """
    made = [section(material) for section in SECTIONS]
    present = tuple(replace(one, key=f"{prefix}{one.key}") for one in made if one is not None)
    return Part(material.sweep.spec.name, material.sweep.spec.question, present)


def _trial_to_show(sweep: Sweep, boundary: Boundary) -> str | float:
    """For the heat map: the highest rate before the crossing, where gains are largest; else the lowest with scores.

    A rate, for the mean over its seeds; with several groups of settings the first such trial of the boundary's group.
    """
    done = sweep.completeness.done
    ids = [trial_id for trial_id in done if sweep.groups[trial_id] == boundary.group] or list(done)
    rates = {trial_id: sweep.trial_specs[trial_id].tuning.learning_rate for trial_id in ids}
    limit = boundary.last_holding_rate or 0.0
    holding = [rate for rate in rates.values() if 0 < rate <= limit]
    rate = max(holding) if holding else min(rates.values())
    if len(set(sweep.groups.values())) == 1:
        return rate
    return next(trial_id for trial_id, its_rate in rates.items() if its_rate == rate)


def report_folder(out: Location) -> Location:
    """`OUT/report`, to be written into.

    Raises:
        ResultsError: a link, which would lead the report out of a results folder that came from somebody else.
    """
    folder = out / "report"
    if isinstance(folder, Path) and folder.is_symlink():
        raise results.ResultsError(
            f"a report is written into its results folder, got the link {folder}; remove it, or make it a folder"
        )
    return folder


def write_text(path: Location, text: str) -> None:
    """Write a file of the report, whole or not at all.

    Raises:
        OSError: the disk is full or read-only.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
