"""What every command starts with: its console, and the environment of the driver."""

from __future__ import annotations

import os
from typing import IO, Any

from rich.console import Console
from rich.text import Text


class PlainConsole(Console):
    """A console that prints texts as they are: a label `[same]` is no markup, and `:cat:` no emoji.

    Control characters are shown, not sent: a name in a results folder of somebody else could give orders to the
    terminal. Line feeds and tabs stay.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        super().__init__(file=file, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich does, of what `visible` makes of the text."""
        return super().render_str(visible(text), **options)


def visible(text: str) -> str:
    """The text with its control characters (C0 but line feed and tab, DEL, C1) written as escapes."""
    return "".join(f"\\x{ord(one):02x}" if _is_control(one) else one for one in text)


def _is_control(one: str) -> bool:
    return (one < " " and one not in "\n\t") or "\x7f" <= one <= "\x9f"


def plain_console() -> PlainConsole:
    """The console of a command."""
    return PlainConsole()


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
