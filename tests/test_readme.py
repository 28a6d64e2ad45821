"""README says what the code is: the tables' columns, the file tree, the commands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from typer.testing import CliRunner

from jobs.cli import app
from jobs.show_tables import tables_markdown

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_columns_in_readme_are_those_of_the_schemas() -> None:
    assert tables_markdown() in README, "replace that part of README with the output of `adiabatic tables`"


def test_the_file_tree_names_every_module_once() -> None:
    files = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    tree = README.split("## File tree")[1]
    for file in files:
        folder, name = Path(file).parts[0], Path(file).name
        if folder in {"adiabatic_ray", "analysis", "jobs", "sweeps", "benchmarks"} and name != "__init__.py":
            assert len(re.findall(rf"^  {re.escape(name)} ", tree, re.MULTILINE)) == 1, file


def test_every_command_in_readme_exists() -> None:
    names = set(re.findall(r"^(?:\$ )?adiabatic ([a-z]+)", README, re.MULTILINE))
    assert names
    for name in names:
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0, name
