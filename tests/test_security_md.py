"""Every test that SECURITY.md names exists, and every threat names one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.split("## What is defended")[1].split("\n## ")[0].splitlines() if line.startswith("| ")]
NAMED = re.findall(r"`(tests/\w+\.py)::(\w+)`", TEXT)


def functions(path: Path) -> set[str]:
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}


def test_every_named_test_exists() -> None:
    assert NAMED
    lost = [f"{file}::{name}" for file, name in NAMED if name not in functions(ROOT / file)]
    assert lost == []


def test_every_threat_has_a_defence_and_a_test() -> None:
    header, *threats = ROWS
    assert header == "| threat | defence | test |" and threats
    for row in threats:
        threat, defence, tests = (cell.strip() for cell in row.strip("|").split(" | "))
        assert threat and defence and re.fullmatch(r"`tests/\w+\.py::test_\w+`(<br>`tests/\w+\.py::test_\w+`)*", tests)


def test_no_address_is_invented() -> None:
    assert "has no address" in TEXT and not re.search(r"\S+@\S+\.\w+|https?://", TEXT)
