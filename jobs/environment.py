"""What every command starts with: its console, and the environment of the driver."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from typing import IO
from urllib.parse import urlsplit

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class PlainConsole(Console):
    """A console that prints texts as they are: a label `[same]` is no markup, and `:cat:` no emoji.

    Control characters are shown, not sent: a name in a results folder of somebody else could give orders to the
    terminal. Line feeds and tabs stay. No colour and no cursor movement where the output is no terminal, whatever
    FORCE_COLOR says: a log file shows them.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        is_terminal = (file or sys.stdout).isatty()
        super().__init__(file=file, markup=False, emoji=False, force_terminal=is_terminal)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """As rich does, of what `visible` makes of each text; rich's own orders to the terminal stay."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def visible(text: str) -> str:
    """The text with its control characters (C0 but line feed and tab, DEL, C1) written as escapes."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def plain_console() -> PlainConsole:
    """The console of a command."""
    return PlainConsole()


def prepare_environment() -> None:
    """Set before Ray, torch and MLflow are imported, never over what the user set.

    Token authentication for a local Ray, no second progress display and no second logs of every trial, no usage
    reports, tokenizers in parallel.
    """
    defaults = {
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # CSV, TensorBoard: threads, files for each trial in flight
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
