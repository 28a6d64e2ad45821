"""Where measurements on a GPU go: JSON and Markdown that are whole after every part."""

from __future__ import annotations

import json
import platform
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adiabatic_ray import provenance

Rows = Sequence[Mapping[str, Any]]


class Report:
    """`results.json` and `results.md` in a folder."""

    def __init__(self, folder: Path, device: str, argv: Sequence[str]) -> None:
        """Begin with machine and versions."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        name = torch.cuda.get_device_name() if device != "cpu" else platform.processor() or "CPU"
        self._results: dict[str, Any] = {
            "machine": name,
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "threads": torch.get_num_threads(),
            "argv": list(argv),
            "provenance": provenance.collect(),
        }
        self._text = [f"# On {name}", f"torch {torch.__version__}, CUDA {torch.version.cuda}, `{' '.join(argv)}`"]
        self.failed: list[str] = []
        self._write()

    def part(self, name: str, work: Callable[[], Mapping[str, Any]]) -> None:
        """Run a part and keep what it gives: figures under their names, and a list of rows as a table.

        A part that fails is recorded with its traceback: it must not cost the other parts.
        """
        started = time.perf_counter()
        try:
            figures = dict(work())
        except Exception:
            self.failed.append(name)
            figures = {"error": traceback.format_exc()}
        figures["took_s"] = round(time.perf_counter() - started, 1)
        self._results[name] = figures
        self._text.append(f"## {name}")
        for title, value in figures.items():
            is_table = isinstance(value, list) and bool(value)
            self._text.append(f"{title}:\n\n{markdown_table(value)}" if is_table else f"{title}: {_shown(value)}")
        self._write()
        print("\n".join(self._text[-1 - len(figures) :]), flush=True)

    def _write(self) -> None:
        text = json.dumps(self._results, indent=1, default=_plain)
        (self._folder / "results.json").write_text(text, encoding="utf-8")
        (self._folder / "results.md").write_text("\n\n".join(self._text) + "\n", encoding="utf-8")


def markdown_table(rows: Rows) -> str:
    """Rows under the names of their fields; a field that a row lacks stays empty."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["--"] * len(names), *([_shown(row.get(name, "")) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else str(value)
