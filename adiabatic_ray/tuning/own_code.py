"""A user's own optimizer or schedule, found by its import path: trusted code, imported and called here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def import_callable(path: str, role: str) -> Callable[..., Any]:
    """What `package.module:callable` names.

    Args:
        path: of the form that `step_rules.is_import_path` accepts.
        role: for the message: the field that names it.

    Raises:
        ValueError: the module can't be imported, has no such name, or the name is nothing to call.
    """
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever a user's module raises, it can't be used
        raise ValueError(
            f"{role} must be importable wherever trials are tuned, got {path!r}: {type(error).__name__}: {error}; "
            "install the package there, or put its folder on PYTHONPATH"
        ) from error
    found = getattr(module, name, None)
    if not callable(found):
        raise ValueError(f"{role} must name something to call, got {path!r}: {module_name} has no callable {name!r}")
    return found  # type: ignore[no-any-return]
