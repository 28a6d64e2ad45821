"""What every command starts with: its console, and the environment of the driver."""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

from rich.console import Console


def plain_console() -> Console:
    """A console that prints texts as they are: a label `[same]` is no markup, and `:cat:` no emoji.

    No colour and no cursor movement where the output is no terminal, whatever FORCE_COLOR says: a log file shows them.
    """
    return Console(markup=False, emoji=False, force_terminal=sys.stdout.isatty())


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


def prepare_client(address: str) -> None:
    """Set before Ray's client of submitted jobs is imported: what was typed wins over RAY_ADDRESS, and a token is sent.

    Args:
        address: URL of the cluster's dashboard, such as http://127.0.0.1:8265.

    Raises:
        ValueError: no URL.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(
            f"--address must be the URL of a Ray dashboard, got {address!r}; write http://127.0.0.1:8265, for example"
        )
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    prepare_environment()
