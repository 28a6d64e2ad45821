"""Environment of the driver: set before Ray, torch and MLflow are imported, never over what the user set."""

from __future__ import annotations

import os


def prepare_environment() -> None:
    """Token authentication for a local Ray, no second progress display, no usage reports, tokenizers in parallel."""
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
