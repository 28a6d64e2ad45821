"""What every command starts with: its console, and the environment of the driver."""

from __future__ import annotations

import os

from rich.console import Console


def plain_console() -> Console:
    """A console that prints texts as they are: a label `[same]` is no markup, and `:cat:` no emoji."""
    return Console(markup=False, emoji=False)


def prepare_environment() -> None:
    """Set before Ray, torch and MLflow are imported, never over what the user set.

    Token authentication for a local Ray, no second progress display, no usage reports, tokenizers in parallel.
    """
    defaults = {
        "RAY_AIR_NEW_OUTPUT": "0",  # Tune's own tables: this project shows progress itself
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TOKENIZERS_PARALLELISM": "true",
    }
    if not os.environ.get("RAY_ADDRESS"):
        defaults["RAY_AUTH_MODE"] = "token"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
