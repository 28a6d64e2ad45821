"""Changes to a specification: fields at dotted paths replaced, overrides read, problems of pydantic in one line."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


def with_changes(model: Model, changes: Mapping[str, Any]) -> Model:
    """Copy of a model with fields at dotted paths replaced, validated as a whole.

    Args:
        model: a specification or a part of one.
        changes: `{"tuning.learning_rate": 1e-7}`; a list is reached by number (`evaluation.sets.0.path`); what follows
            `grid.` is one key, since the keys of a grid hold dots themselves.

    Raises:
        ValueError: a path that names no field, or a value that the field refuses; every problem in one message.
    """
    content = model.model_dump(mode="python")
    problems = []
    for path, value in changes.items():
        try:
            _assign(content, path, value)
        except KeyError as error:
            problems.append(str(error.args[0]))
    if problems:
        raise ValueError("; ".join(problems))
    try:
        return type(model).model_validate(content)
    except ValidationError as error:
        raise ValueError(explain(error)) from None


def parse_override(text: str) -> tuple[str, Any]:
    """`path.to.field=value` as (path, value); the value is read as JSON where it is JSON, else as a string."""
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise ValueError(f"an override reads path.to.field=value, got {text!r}; e.g. trial.tuning.batch_size=28")
    try:
        return path.strip(), json.loads(value)
    except json.JSONDecodeError:
        return path.strip(), value


def explain(error: ValidationError) -> str:
    """Every problem of a pydantic error in one line: where, the rule, what was got."""
    lines = []
    for problem in error.errors(include_url=False):
        place = ".".join(str(part) for part in problem["loc"]) or "spec"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "no such field; see the field list in adiabatic_ray/spec.py"
        got = "" if problem["type"] in {"value_error", "missing"} else f" (got {problem['input']!r:.80})"
        lines.append(f"{place}: {message}{got}")
    return "; ".join(lines)


def _assign(content: dict[str, Any], path: str, value: Any) -> None:
    head, _, rest = path.partition(".")
    parts = [head, rest] if head == "grid" and rest else path.split(".")
    place: Any = content
    for depth, part in enumerate(parts):
        key: Any = part
        known: Iterable[Any] = place if isinstance(place, dict) else ()
        if isinstance(place, tuple | list) and part.isdigit() and int(part) < len(place):
            key, known = int(part), range(len(place))
        if key not in known and not (depth == 1 and head == "grid"):
            choices = sorted(place) if isinstance(place, dict) else "a number below the list's length"
            raise KeyError(f"a path must name a field, got {path!r}: no {part!r} there; choose from {choices}")
        if depth + 1 == len(parts):
            place[key] = value
        else:
            if isinstance(place[key], tuple):
                place[key] = list(place[key])
            place = place[key]
