"""What MLflow's interface is told in words: the sweep's description, and tags by which its trials are told apart.

A trial's parameters name the fields that most sweeps vary. Whatever else this sweep varies, and nothing that it does
not, is a tag `grid.<path>` of the trial: a column to show, and something to filter by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from adiabatic_ray.spec import CHOSEN_BY_A_SEARCH

GRID = "grid."
"""Beginning of the tags' names, as of the parent run's parameters."""
_MOST_CHARACTERS = 500
"""Of a tag's value: a list of evaluation sets is long."""
_FEW = 5
"""Values of an axis that the description lists, of more the first and the last; and answers."""


def description(sweep: Mapping[str, Any], answers: Sequence[str] = ()) -> str:
    """The parent run's note, Markdown: the question, its answers, what varies, and how to find trials.

    Args:
        sweep: what `results.read_sweep` returns.
        answers: what `results.read_answers` returns, once there is a report.
    """
    spec = sweep["spec"]
    paths = varied_paths(spec)
    more = [f"{len(answers) - _FEW} more are in the report."] if len(answers) > _FEW else []
    lines = [
        spec["question"],
        "",
        *(line for answer in (*answers[:_FEW], *more) for line in (answer, "")),
        f"A child run for each trial ({len(sweep['trial_ids'])} when this was written).",
        "The report is among the artifacts once the sweep is over: `report/report.html`.",
        "",
    ]
    if paths:
        lines += ["What varies, each a tag of the trials:", "", *(f"- `{_varied(spec, path)}`" for path in paths), ""]
    examples = ["tags.status = 'DIVERGED'", *(f'tags."{GRID}{path}" = ...' for path in paths[:1])]
    lines.append(f"To find trials: {', '.join(f'`{example}`' for example in examples)}.")
    return "\n".join(lines)


def varied_paths(spec: Mapping[str, Any]) -> list[str]:
    """Dotted paths inside a trial that differ between the trials of a sweep: axes, points, what a search chooses."""
    axes = [path for path, values in spec["grid"].items() if len(values) > 1 or spec.get("points")]
    points = [path for point in spec.get("points", ()) for path in point]
    chosen = CHOSEN_BY_A_SEARCH if spec.get("search") else ()
    return list(dict.fromkeys((*axes, *points, *chosen)))


def grid_tags(paths: list[str], trial: Mapping[str, Any]) -> dict[str, str]:
    """Tags of one trial; without a path that its specification, perhaps of an older release, does not have.

    Args:
        paths: `varied_paths` of its sweep.
        trial: its specification, as in the column `spec_json`.
    """
    tags = {}
    for path in paths:
        value: Any = trial
        try:
            for part in path.split("."):
                value = value[int(part) if isinstance(value, list) else part]
        except (LookupError, TypeError, ValueError):
            continue
        tags[f"{GRID}{path}"] = _text(value)
    return tags


def _varied(spec: Mapping[str, Any], path: str) -> str:
    values = spec["grid"].get(path)
    if values is None:
        return f"{GRID}{path}"
    few = values if len(values) <= _FEW else [values[0], "...", values[-1]]
    return f"{GRID}{path}`, {len(values)} values: `{', '.join(map(_text, few))}"


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value))[:_MOST_CHARACTERS]
