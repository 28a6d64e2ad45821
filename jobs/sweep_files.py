"""Finds and loads sweep files: Python files with a function `sweep() -> SweepSpec`, at full size or small."""

from __future__ import annotations

import ast
import importlib.util
import re
import traceback
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from adiabatic_ray.changes import explain, parse_override, with_changes
from adiabatic_ray.small import small_sweep
from adiabatic_ray.spec import SweepSpec, UntunedSpec

SHIPPED = Path(__file__).resolve().parent.parent / "sweeps"
"""Beside `jobs` in a checkout and in an installed package alike."""


class Scale(StrEnum):
    """How large a sweep is run."""

    FULL = "full"
    SMALL = "small"


def shipped_sweeps() -> dict[str, Path]:
    """Sweeps that come with the project: name -> file."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.py")) if path.stem != "__init__"}


def cost_of(path: Path) -> str:
    """What a sweep file says of its cost: the first clause after `Cost:` in its docstring, or `not stated`."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    found = re.search(r"\bCost:\s+([^(;]+?)\.?\s*(?:[(;]|\n[A-Z]|\Z)", text)
    return " ".join(found[1].split()) if found else "not stated"


def load_sweep(name_or_path: str, overrides: list[str], scale: Scale = Scale.FULL) -> SweepSpec:
    """The specification of a sweep, with `--set` overrides applied.

    Args:
        name_or_path: a shipped sweep's name, or the path of a Python file.
        overrides: `path.to.field=value` each.
        scale: small for its small version (`adiabatic_ray.small`), which the overrides then change.

    Raises:
        ValueError: no such file, no `sweep()` in it, a fault in the file, no small version, or a field that refuses its
            value.
    """
    path = _find(name_or_path)
    found = importlib.util.spec_from_file_location(f"adiabatic_sweep_{path.stem}", path)
    assert found is not None and found.loader is not None, "a .py file always has a loader"
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
        spec = module.sweep() if hasattr(module, "sweep") else None
    except ValidationError as error:
        raise ValueError(f"{path}: {explain(error)}") from error
    except Exception as error:  # whatever a user's file raises is the user's to mend: say where, not how we got there
        line = next(
            (
                f", line {frame.lineno}"
                for frame in reversed(traceback.extract_tb(error.__traceback__))
                if frame.filename == str(path)
            ),
            "",
        )
        raise ValueError(
            f"a sweep file defines sweep() -> SweepSpec, got {type(error).__name__} in {path}{line}: {error}"
        ) from error
    if not isinstance(spec, SweepSpec):
        got = type(spec).__name__ if hasattr(module, "sweep") else "no such function"
        raise ValueError(
            f"a sweep file defines sweep() -> SweepSpec, got {got} in {path}; `adiabatic sweeps` lists examples"
        )
    if scale is Scale.SMALL:
        spec = small_sweep(spec)
    return with_changes(spec, dict(parse_override(override) for override in overrides))


def load_untuned(on: str, overrides: list[str]) -> tuple[SweepSpec, UntunedSpec]:
    """A sweep, and its backbone with its evaluation sets or some of them.

    Args:
        on: a shipped sweep's name or the path of a Python file; after a colon, names of evaluation sets with commas
            between them: `demo:held-out,cldr`.
        overrides: see `load_sweep`.

    Raises:
        ValueError: as `load_sweep`, and a set that the sweep lacks.
    """
    match = re.fullmatch(r"(.*?)(?::([^/]*))?", on)
    assert match is not None, "everything matches"
    spec = load_sweep(match[1], overrides)
    untuned = spec.trial.untuned
    if match[2] is None:
        return spec, untuned
    wanted = match[2].split(",")
    known = [source.name for source in untuned.evaluation.sets]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(
            f"after the colon stand evaluation sets of {spec.name}, got {', '.join(map(repr, unknown))}; choose from "
            f"{', '.join(known)}"
        )
    chosen = tuple(source for source in untuned.evaluation.sets if source.name in wanted)
    return spec, untuned.model_copy(update={"evaluation": untuned.evaluation.model_copy(update={"sets": chosen})})


def _find(name_or_path: str) -> Path:
    shipped = shipped_sweeps()
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path)
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(
            f"a sweep is a Python file or one of {', '.join(shipped)}, got {name_or_path!r}; see `adiabatic sweeps`"
        )
    return path
