"""Writes `OUT/report/`: the boundary as JSON, the curve table as CSV, two pictures and a short Markdown page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adiabatic_ray import results

from .boundary import LEVEL, NOTHING_TO_ESTIMATE, Boundary, boundary_of, sentence, to_json
from .curves import Criterion, curve_table
from .load import Sweep, load_sweep
from .markdown import table_lines
from .plots import plot_curves, plot_heatmap
from .resample import NUM_RESAMPLES, Evidence, gather, mean_curves
from .terminal import LEGEND, cells, completeness_line, header, sections


@dataclass(frozen=True)
class Report:
    """What was written, and what it says."""

    sweep: Sweep
    boundaries: list[Boundary]
    folder: Path
    markdown: Path
    table: Path
    """`curves.csv`: `curves.curve_table`, one row a trial."""
    pictures: tuple[Path, ...]
    """`curves.png` and `heatmap.png`; without the latter when every trial diverged, without both when no pair set has
    untuned errors."""
    evidence: Evidence
    """What the tables of boundaries take, without curves of single language pairs."""


def write_report(out: Path, *, level: float = LEVEL, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Report:
    """Analyse a results folder and write `OUT/report/`; a report that is there is replaced.

    Args:
        out: the folder that `adiabatic sweep` wrote.
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
    evidence = gather(sweep, num_resamples=num_resamples, seed=seed, has_pairs=False)
    curves = mean_curves(sweep, evidence=evidence)
    boundaries = [boundary_of(curve, level=level) for curve in curves]
    folder = out / "report"
    results.write_json(folder / "boundary.json", to_json(boundaries))
    curve_table(sweep).to_csv(folder / "curves.csv", index=False)
    pictures = []
    if curves:
        pictures.append(folder / "curves.png")
        plot_curves(sweep, pictures[-1], curves=curves, level=level)
    if boundaries and sweep.completeness.done:
        pictures.append(folder / "heatmap.png")
        first = boundaries[0]
        criterion = Criterion(first.set, first.relation, first.measure)
        plot_heatmap(sweep, _trial_to_show(sweep, first), pictures[-1], criterion=criterion)
    markdown = folder / "report.md"
    markdown.write_text(_markdown(sweep, boundaries, pictures), encoding="utf-8")
    return Report(sweep, boundaries, folder, markdown, folder / "curves.csv", tuple(pictures), evidence)


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


def _markdown(sweep: Sweep, boundaries: list[Boundary], pictures: list[Path]) -> str:
    provenance = sweep.provenance
    backbones = dict.fromkeys(spec.backbone.name for spec in sweep.trial_specs.values())
    lines = [
        f"# {sweep.spec.name}",
        "",
        f"> {sweep.spec.question}",
        "",
        f"Backbone: {', '.join(backbones)}. Commit: {provenance.get('commit') or 'not recorded'}. "
        f"Versions: {_versions(provenance)}.",
        "",
        completeness_line(sweep),
        "",
        "## Boundary",
        "",
        *([f"- {sentence(boundary)}" for boundary in boundaries] or [f"No boundary: {NOTHING_TO_ESTIMATE}."]),
        "",
        "## Curves",
        "",
    ]
    for title, rates, criterion, measure in sections(sweep):
        titles = header(sweep, criterion)
        rows = cells(sweep, rates, criterion, measure)
        lines += [f"### {title}", "", *table_lines(titles, rows, ">" * (len(titles) - 1) + "<"), ""]
    lines += [LEGEND, ""]
    lines += [f"![{picture.stem}]({picture.name})\n" for picture in pictures]
    return "\n".join(lines)


def _versions(provenance: dict[str, object]) -> str:
    versions = provenance.get("versions")
    if not isinstance(versions, dict):
        return "not recorded"
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)
