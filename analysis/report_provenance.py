"""Section of the report: what there is, what lacks, where it comes from, and what to know before any number."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pandas as pd

from adiabatic_ray import results

from .curves import criteria
from .level import NOTHING_TO_ESTIMATE
from .load import Sweep
from .material import Material
from .page import Block, Bullets, Code, Fold, Paragraph, Section, Table, text_table
from .terminal import completeness_line
from .wording import format_rate

_FEW_RATES = 3
_SHOWN_IDS = 10


def provenance_section(material: Material) -> Section:
    """Completeness, warnings, origin, evaluation sets, every trial."""
    sweep = material.sweep
    is_whole = sweep.completeness.is_whole
    blocks: list[Block] = [Paragraph(completeness_line(sweep), "plain" if is_whole else "warning")]
    if notes := warnings(material):
        blocks.append(Bullets(tuple(notes)))
    blocks += [
        Paragraph(origin(sweep)),
        Code(tuple(commands(sweep))),
        *([_sets(sweep)] if len(sweep.scores) else []),
        Fold(f"Every trial ({len(sweep.trial_ids)})", (_trials(material),)),
    ]
    sources = (
        "sweep.json; tables trials (status, backbone, encoder_digest, untuned_id, provenance_json) and scores "
        "(num_comparisons, num_clusters, pnd_untuned); failures/*.json. Computed by analysis.load.load_sweep and "
        "analysis.curves.curve_table.",
    )
    return Section("completeness", "Completeness and provenance", tuple(blocks), sources)


def origin(sweep: Sweep) -> str:
    """Backbone, commit and versions in a few sentences."""
    provenance = sweep.provenance
    backbones = dict.fromkeys(spec.backbone.name for spec in sweep.trial_specs.values())
    text = (
        f"Backbone: {', '.join(backbones)}. Commit: {provenance.get('commit') or 'not recorded'}. "
        f"Versions: {_versions(provenance)}."
    )
    return text + (f" Host: {provenance['host']}." if provenance.get("host") else "")


def commands(sweep: Sweep) -> list[str]:
    """How the sweep was run, where that is recorded, and how this report is made again."""
    lines = []
    argv = sweep.provenance.get("argv")
    if isinstance(argv, list) and argv:
        lines.append(f"python {shlex.join(map(str, argv))}")
    return [*lines, f"adiabatic report {shlex.quote(str(sweep.out))}"]


def commits_of(sweep: Sweep) -> dict[str, int]:
    """Commit -> finished trials that it ran."""
    return _counted([_commit(text) for text in sweep.trials["provenance_json"]])


def warnings(material: Material) -> list[str]:
    """What to know before any number, each in a sentence or two."""
    sweep = material.sweep
    return [
        *_lacking(sweep),
        *_mixed(sweep),
        *_thin(material),
    ]


def _lacking(sweep: Sweep) -> list[str]:
    kinds, notes = sweep.completeness, []
    if not kinds.done:
        notes.append("No trial has scores: every finished one diverged. What is left to say is said below.")
    if kinds.failed:
        failures = results.failed_trials(sweep.out)
        reasons = dict.fromkeys(_last_line(failures[trial_id]) for trial_id in kinds.failed)
        notes.append(f"Failed: {_some(kinds.failed)}. Last error: {'; '.join(list(reasons)[:3])}.")
    if kinds.missing:
        notes.append(f"Missing: {_some(kinds.missing)}.")
    return notes


def _mixed(sweep: Sweep) -> list[str]:
    """More than one commit, backbone, encoder, or untuned state among the finished trials."""
    notes = []
    commits = commits_of(sweep)
    if len(commits) > 1:
        notes.append(f"Mixed commits: trials were run by {_listed(commits)}. Code that changed between them may show.")
    encoders = sweep.trials["backbone"].astype(str) + " " + sweep.trials["encoder_digest"].astype(str).str[:10]
    backbones = _counted(list(encoders))
    if len(backbones) > 1:
        notes.append(
            f"Mixed backbones: {_listed(backbones)}. Every trial is compared with its own untuned backbone; curves of "
            "different backbones are never averaged."
        )
    untuned = _counted(list(sweep.trials["untuned_id"].astype(str)))
    if len(untuned) > 1 and len(backbones) == 1:
        notes.append(
            f"Trials are compared with {len(untuned)} untuned states ({_listed(untuned)}): the sets, the device, the "
            "number of threads or versions differ."
        )
    return notes


def _thin(material: Material) -> list[str]:
    """Too few seeds or rates for what a reader may expect."""
    notes, sweep = [], material.sweep
    tuned = material.rates[material.rates["learning_rate"] > 0]
    with_result = tuned[tuned["num_seeds"] + tuned["num_diverged"] > 0]
    if not criteria(sweep):
        notes.append("No pair set with untuned errors was evaluated: nothing is said of other languages.")
    if with_result.empty:
        notes.append(f"Only the control (rate 0) has a result; {NOTHING_TO_ESTIMATE}.")
        return notes
    if int((with_result["num_seeds"] + with_result["num_diverged"]).max()) == 1:
        notes.append("One seed a rate: what the order of the data changes is in no interval.")
    counts = with_result.groupby("group", sort=False)["learning_rate"].nunique()
    few = int(counts.max())
    if few < _FEW_RATES:
        rates = ", ".join(format_rate(rate) for rate in sorted(with_result["learning_rate"].unique())[:4])
        notes.append(
            f"{few} rate{'' if few == 1 else 's'} above 0 to a curve ({rates}): a boundary between them is read off a "
            "straight line, and nothing is known of what lies between."
        )
    if kept := int(tuned["num_kept_untuned"].sum()):
        notes.append(f"In {kept} trials no epoch improved and the untuned state was kept: those could show no harm.")
    return notes


def _sets(sweep: Sweep) -> Table:
    """Evaluation sets and their size."""
    rows = []
    scores = sweep.scores
    for (name, relation, measure), part in scores.groupby(["set", "relation", "measure"], sort=False):
        first = part.iloc[0]
        num_pairs = part[["query_language", "passage_language"]].drop_duplicates().shape[0]
        rows.append(
            [
                str(name),
                str(relation),
                str(measure),
                "English" if first["kind"] == "triplets" else str(num_pairs),
                f"{int(first['num_comparisons']):,}",
                f"{int(first['num_clusters']):,}",
                f"{100 * float(part['pnd_untuned'].mean()):.3g}",
            ]
        )
    titles = ("set", "relation", "measure", "language pairs", "comparisons", "clusters", "untuned PND %")
    caption = "Evaluation sets. Comparisons and clusters of one language pair; PND is the mean over pairs"
    return text_table(caption, titles, rows, "<<<>>>>")


def _trials(material: Material) -> Table:
    sweep = material.sweep
    commits = dict(zip(sweep.trials["trial_id"], map(_commit, sweep.trials["provenance_json"]), strict=True))
    rows = [
        [
            str(row["trial_id"]),
            "-" if pd.isna(row["learning_rate"]) else format_rate(row["learning_rate"], 3),
            "-" if pd.isna(row["seed"]) else f"{row['seed']:.0f}",
            str(row["group"]) or "-",
            str(row["status"]),
            "-" if pd.isna(row["kept_epoch"]) else f"{row['kept_epoch']:.0f}",
            str(commits.get(row["trial_id"], "-"))[:10],
        ]
        for row in material.trials.to_dict("records")
    ]
    return text_table(
        "Trials in the order of the sweep; curves.csv beside this file has every number of each",
        ("trial", "rate", "seed", "settings", "status", "kept epoch", "commit"),
        rows,
        "<>><<><",
    )


def _commit(provenance_json: str) -> str:
    try:
        content: Any = json.loads(provenance_json)
    except ValueError:
        return "not recorded"
    return str((content.get("commit") if isinstance(content, dict) else None) or "not recorded")


def _versions(provenance: dict[str, object]) -> str:
    versions = provenance.get("versions")
    if not isinstance(versions, dict):
        return "not recorded"
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def _last_line(failure: dict[str, Any]) -> str:
    lines = str(failure.get("error", "")).strip().splitlines()
    return lines[-1] if lines else "not recorded"


def _some(ids: tuple[str, ...]) -> str:
    more = f" and {len(ids) - _SHOWN_IDS} more" if len(ids) > _SHOWN_IDS else ""
    return ", ".join(ids[:_SHOWN_IDS]) + more


def _counted(values: list[str]) -> dict[str, int]:
    return {value: values.count(value) for value in dict.fromkeys(values)}


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} ({number} trial{'' if number == 1 else 's'})" for name, number in counts.items())
