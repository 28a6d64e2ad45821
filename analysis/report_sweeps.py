"""Several sweeps in one report: what each is, boundaries on one axis, curves in one chart, then each by itself."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from adiabatic_ray.storage import Location

from .curve_charts import overlay_picture
from .level import LEVEL, NOTHING_TO_ESTIMATE
from .load import load_sweep
from .material import Material, material_of
from .page import Beside, Block, Bullets, Page, Paragraph, Part, Section, text_table
from .page_html import render_html
from .page_markdown import render_markdown
from .report import part_of, report_folder, write_text
from .report_boundary import DEFINITION, boundary_table, in_blocks, range_of, range_picture
from .report_provenance import commits_of
from .resample import NUM_RESAMPLES
from .terminal import completeness_line
from .wording import sentence

STEM = "comparison"
"""Name of the files, `OUT/report/comparison.html` and `.md` of the first folder: its own report stays."""


@dataclass(frozen=True)
class SweepsReport:
    """What was written, and what it says."""

    materials: list[Material]
    """In the order of the folders."""
    html: Location
    markdown: Location


def write_sweeps_report(
    outs: Sequence[Location],
    *,
    folder: Location | None = None,
    level: float = LEVEL,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> SweepsReport:
    """Analyse several results folders and write one report about all of them into the first one's `report/`.

    Args:
        outs: folders that `adiabatic sweep` wrote, two or more, none twice.
        folder: where to write instead.
        level: see `boundary.estimate_boundaries`, as the other two.
        num_resamples: bootstrap replicates.
        seed: of the bootstrap.

    Raises:
        ResultsError: a folder that cannot be analysed, see `report.write_report`.
        ValueError: fewer than two folders, or one twice.
        OSError: the report cannot be written.
    """
    if len(outs) < 2 or len({out.resolve() for out in outs}) < len(outs):
        given = ", ".join(map(str, outs)) or "none"
        raise ValueError(f"a comparison needs two or more different results folders, got {given}")
    sweeps = [load_sweep(out) for out in outs]  # all of them before the work on any
    materials = [material_of(sweep, level=level, num_resamples=num_resamples, seed=seed) for sweep in sweeps]
    names = _names(materials)
    parts = [_overview(materials, names)]
    for place, (material, name) in enumerate(zip(materials, names, strict=True), start=1):
        parts.append(dataclasses.replace(part_of(material, f"sweep-{place}-"), title=name))
    page = Page(f"{len(materials)} sweeps: adiabatic boundary", tuple(parts))
    folder = folder or report_folder(outs[0])
    html, markdown = folder / f"{STEM}.html", folder / f"{STEM}.md"
    write_text(html, render_html(page))
    write_text(markdown, render_markdown(page))
    return SweepsReport(materials, html, markdown)


def _names(materials: Sequence[Material]) -> list[str]:
    """Names of the sweeps; with the folder where two have the same."""
    names = [material.sweep.spec.name for material in materials]
    return [
        f"{name} ({material.sweep.out})" if names.count(name) > 1 else name
        for name, material in zip(names, materials, strict=True)
    ]


def _overview(materials: Sequence[Material], names: Sequence[str]) -> Part:
    found = (_completeness(materials, names), _boundaries(materials, names), _curves(materials, names))
    return Part(f"{len(materials)} sweeps compared", "", tuple(section for section in found if section is not None))


def _completeness(materials: Sequence[Material], names: Sequence[str]) -> Section:
    blocks: list[Block] = []
    for material in materials:
        is_whole = material.sweep.completeness.is_whole
        blocks.append(Paragraph(completeness_line(material.sweep), "plain" if is_whole else "warning"))
    rows, backbones, commits = [], [], []
    for material, name in zip(materials, names, strict=True):
        sweep = material.sweep
        kinds = sweep.completeness
        encoders = dict.fromkeys(sweep.trials["backbone"] + " " + sweep.trials["encoder_digest"].str[:10])
        own = list(commits_of(sweep))
        backbones.append(list(encoders))
        commits.append(own)
        numbers = [len(ids) for ids in (kinds.done, kinds.diverged, kinds.failed, kinds.missing)]
        about = [", ".join(encoders), ", ".join(commit[:10] for commit in own)]
        rows.append([name, str(sweep.out), *map(str, numbers), *about])
    titles = ("sweep", "folder", "complete", "diverged", "failed", "missing", "backbone", "commit of the trials")
    notes = []
    if len({tuple(one) for one in backbones}) > 1:
        notes.append("The sweeps have different backbones: improvements are relative to each one's own untuned PND.")
    if len({tuple(one) for one in commits}) > 1:
        notes.append("The sweeps were run by different commits; code that changed between them may show.")
    sets = {tuple(sorted({f"{one.set} {one.relation}" for one in material.criteria})) for material in materials}
    if len(sets) > 1:
        notes.append("The sweeps were scored on different pair sets; only what they share is laid over one another.")
    sizes = {curve.num_clusters for material in materials for curve in material.curves}
    if len(sizes) > 1:
        counts = ", ".join(map(str, sorted(sizes)))
        notes.append(f"Pair sets of the same name differ in size between sweeps or sets: {counts} clusters of texts.")
    blocks += [Bullets(tuple(notes))] if notes else []
    blocks.append(text_table("The sweeps", titles, rows, "<<>>>><<"))
    sources = ("sweep.json and table trials (backbone, encoder_digest, provenance_json) of each folder.",)
    return Section("sweeps", "Completeness and provenance", tuple(blocks), sources)


def _boundaries(materials: Sequence[Material], names: Sequence[str]) -> Section:
    sentences, lines, table_rows = [], [], []
    for material, name in zip(materials, names, strict=True):
        first = {boundary.group: boundary for boundary in reversed(material.boundaries)}
        of_groups = [first[group] for group in material.groups if group in first]
        sentences += [f"{name}: {sentence(boundary)}" for boundary in of_groups]
        if not material.boundaries:
            sentences.append(f"{name}: No boundary: {NOTHING_TO_ESTIMATE}.")
        for curve, boundary in zip(material.curves, material.boundaries, strict=True):
            label = f"{name}; {curve.group}" if curve.group else name
            lines.append(range_of(curve, boundary, label, str(curve.criterion)))
        table_rows += [(name, boundary) for boundary in material.boundaries]
    blocks: list[Block] = [Bullets(tuple(sentences), num_leads=len(sentences))]
    if lines:
        blocks += [range_picture(in_blocks(lines)), boundary_table(table_rows), Paragraph(DEFINITION, "note")]
    sources = ("Tables influence and untuned of each folder, as in each sweep's own section below.",)
    return Section("boundaries", "Boundaries", tuple(blocks), sources)


def _curves(materials: Sequence[Material], names: Sequence[str]) -> Section | None:
    """One chart for each criterion by cosine that two or more sweeps have a curve for."""
    found = list(dict.fromkeys(itertools.chain.from_iterable(material.shown_criteria() for material in materials)))
    charts: list[Block] = []
    for criterion in found:
        curves = [
            (f"{name}; {curve.group}" if curve.group else name, curve)
            for material, name in zip(materials, names, strict=True)
            for curve in material.curves
            if curve.criterion == criterion
        ]
        if len({name.partition(";")[0] for name, _ in curves}) > 1:
            charts.append(overlay_picture(curves, criterion, materials[0].level, "sweeps"))
    if not charts:
        return None
    sources = ("analysis.resample.mean_curves of each folder; the numbers are in each sweep's own tables below.",)
    return Section("overlay", "Curves over one another", (Beside(tuple(charts)),), sources)
