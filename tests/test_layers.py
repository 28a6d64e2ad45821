"""Which file may import what. The table below is the architecture; a file that it does not know fails until placed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYERS: tuple[dict[str, str], ...] = (
    # what a laptop needs to read a sweep and its results
    {
        "": "__init__ spec changes step_rules search_spec sources paper small schemas results provenance redaction "
        "events storage object_stores folder_lock",
        "statistics": "metrics ranking counts significance inference preservation simultaneous language_groups "
        "score_tables blocks drift query_samples cosine_tables step_resolution",
        "search": "level_process boundary_interval placement outcomes proposals boundary_search",
    },
    # torch: texts, encoders, tuning, scoring; runs and is tested without Ray
    {
        "": "trial",
        "corpora": "data hub_data local_data record_files text_sets docstrings cldr sentences arxiv_papers "
        "arxiv_negatives",
        "encoders": "backbones checkpoints packages packaged_e5 freezing towers tower_files sentence_folders "
        "tower_sources export",
        "search": "gain_search",
        "evaluation": "encode bank bank_copies closeness evaluate prepare",
        "tuning": "own_code schedules precise_steps optim tuning_data device_work token_rows packed_tower lone_tower "
        "passages member pack pack_memory saved_states news tune pack_runner",
    },
    # a cluster, a tracking server
    {
        "on_ray": "cluster room one_driver devices bank_tasks evaluators evaluation_pool scoring_desk lobby shelf "
        "tuners tuner_pool scheduling searcher negative_tasks callbacks tracking_machine tracking_measures "
        "tracking_words tracking"
    },
    # composes all of the above into a run
    {"orchestration": "orchestrator plans tower_evaluation dryrun"},
)
"""Files of adiabatic_ray by sub-package, from the bottom up."""
LAYER_OF = {
    f"{package}.{name}".strip("."): layer
    for layer, packages in enumerate(LAYERS)
    for package, names in packages.items()
    for name in (f"__init__ {names}" if package else names).split()
}

ONLY_IN = {"ray": ("on_ray.", "orchestration."), "mlflow": ("on_ray.tracking",), "optuna": ("search.gain_search",)}
"""Third-party package -> beginnings of the files of adiabatic_ray that may import it. `jobs` may import ray too."""

LAYER_0_PACKAGES = {"numpy", "psutil", "pyarrow", "pydantic", "scipy"}
ANALYSIS_PACKAGES = {
    *("jinja2", "markupsafe", "matplotlib", "numpy", "pandas", "pyarrow", "pydantic", "rich", "scipy"),
    "threadpoolctl",
}
ANALYSIS_MODULES = {
    "spec",
    "changes",
    "search_spec",
    "sources",
    "schemas",
    "results",
    "storage",
    "statistics.language_groups",
    "statistics.metrics",
    "statistics.significance",
    "statistics.counts",
    "statistics.score_tables",
    "statistics.drift",
}
SWEEPS_MODULES = {"spec", "changes", "search_spec", "sources", "paper"}
FOLDERS = ("adiabatic_ray", "analysis", "jobs", "sweeps")


@dataclass(frozen=True)
class Import:
    """One imported module by its absolute name; `dots`: how many leading dots it was written with."""

    line: int
    name: str
    dots: int = 0

    @property
    def top(self) -> str:
        return self.name.partition(".")[0]

    @property
    def inner(self) -> str:
        """The file below the top: `spec` of `adiabatic_ray.spec.SweepSpec`; of a package itself, its `__init__`."""
        parts = self.name.split(".")[1:]
        known = (".".join(parts[:count]) for count in (2, 1) if len(parts) >= count)
        folder = f"{parts[0]}.__init__" if parts else "__init__"
        return next((name for name in known if name in LAYER_OF or name in FOLDERS), folder)


def imports_in(source: str, package: str) -> Iterator[Import]:
    """Every import of a file in `package`, also those inside functions, conditions and `import_module("...")`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                for alias in node.names:
                    yield Import(node.lineno, alias.name)
            case ast.ImportFrom():
                above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
                base = [*above, node.module] if node.module else above
                for alias in node.names:  # what is imported may itself be a module: `from adiabatic_ray import trial`
                    yield Import(node.lineno, ".".join([*base, alias.name]), node.level)
            case ast.Call(
                func=ast.Attribute(attr="import_module" | "__import__") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield Import(node.lineno, name)


def violations(path: str, source: str) -> list[str]:
    """What the file at `path` (relative to the root) imports against the rules, one line each."""
    folder, _, rest = path.partition("/")
    module = rest.removesuffix(".py").replace("/", ".")
    package = str(PurePosixPath(path).parent).replace("/", ".")
    if folder == "adiabatic_ray" and module not in LAYER_OF:
        return [f"{path}: no layer knows this file. Place it in LAYERS of tests/test_layers.py."]
    found = []
    for item in imports_in(source, package):
        if reason := _broken_rule(folder, module, item):
            found.append(f"{path}:{item.line}: imports {item.name}: {reason}")
    return found


def _broken_rule(folder: str, module: str, item: Import) -> str | None:
    if item.top in {"tests", "benchmarks"}:
        return "not part of what is installed"
    if item.dots > 1:
        return "relative imports stay inside their folder, which has another parent in the checkout than installed"
    if item.top == folder != "adiabatic_ray":
        if not item.dots:
            return f"write it relative: {folder} has another name installed"
        return "a sweep file stands alone" if folder == "sweeps" else None
    if item.top in FOLDERS and item.top != "adiabatic_ray":
        return None if folder == "jobs" else "only jobs composes adiabatic_ray, analysis and sweeps"
    if item.top == "adiabatic_ray":
        return _broken_inner_rule(folder, module, item.inner)
    if item.top in sys.stdlib_module_names:
        return None
    return _broken_package_rule(folder, module, item.top)


def _broken_inner_rule(folder: str, module: str, target: str) -> str | None:
    if target in FOLDERS:
        return None if folder == "jobs" else "only jobs composes adiabatic_ray, analysis and sweeps"
    layer = LAYER_OF.get(target, LAYER_OF["__init__"])  # no module of its own: a name in adiabatic_ray/__init__.py
    if folder == "adiabatic_ray" and layer > LAYER_OF[module]:
        return f"layer {LAYER_OF[module]} may not import from layer {layer}"
    if folder == "analysis" and target not in ANALYSIS_MODULES:
        return f"analysis imports from adiabatic_ray only {sorted(ANALYSIS_MODULES)}"
    if folder == "sweeps" and target not in SWEEPS_MODULES:
        return f"sweeps import from adiabatic_ray only {sorted(SWEEPS_MODULES)}"
    return None


def _broken_package_rule(folder: str, module: str, package: str) -> str | None:
    if folder == "sweeps":
        return "a sweep file needs only the standard library and adiabatic_ray's configuration"
    if folder == "analysis":
        return None if package in ANALYSIS_PACKAGES else f"analysis imports only {sorted(ANALYSIS_PACKAGES)}"
    allowed = ONLY_IN.get(package, ("",))
    if not module.startswith(allowed) and not (folder == "jobs" and package == "ray"):
        return f"only {sorted(allowed)} may"
    if folder == "adiabatic_ray" and LAYER_OF[module] == 0 and package not in LAYER_0_PACKAGES:
        return f"layer 0 imports only {sorted(LAYER_0_PACKAGES)}"
    return None


FILES = sorted(file.relative_to(ROOT).as_posix() for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", FILES)
def test_imports_point_one_way(path):
    assert violations(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_every_layer_has_files():
    modules = [path.removesuffix(".py").replace("/", ".") for path in FILES if path.startswith("adiabatic_ray/")]
    present = {LAYER_OF[module.removeprefix("adiabatic_ray.")] for module in modules}
    assert present == set(range(len(LAYERS)))


@pytest.mark.parametrize(
    ("path", "source", "reason"),
    [
        ("adiabatic_ray/utils.py", "", "LAYERS"),
        ("adiabatic_ray/statistics/spec.py", "", "LAYERS"),
        ("adiabatic_ray/results.py", "import torch", "layer 0 imports only"),
        ("adiabatic_ray/results.py", "def f():\n    from torch import nn", "layer 0 imports only"),
        ("adiabatic_ray/spec.py", "from adiabatic_ray.tuning import tune", "layer 0 may not import from layer 1"),
        ("adiabatic_ray/spec.py", "from .tuning.tune import tune", "layer 0 may not import from layer 1"),
        ("adiabatic_ray/spec.py", "from . import trial", "layer 0 may not import from layer 1"),
        (
            "adiabatic_ray/tuning/tune.py",
            "import adiabatic_ray.on_ray.evaluators as a",
            "layer 1 may not import from layer 2",
        ),
        (
            "adiabatic_ray/on_ray/evaluators.py",
            "from adiabatic_ray.orchestration.orchestrator import run",
            "layer 2 may not import from layer 3",
        ),
        ("adiabatic_ray/tuning/tune.py", "import ray.tune", "may"),
        ("adiabatic_ray/tuning/tune.py", "import importlib\nimportlib.import_module('ray')", "may"),
        ("adiabatic_ray/orchestration/orchestrator.py", "import mlflow", "['on_ray.tracking'] may"),
        ("jobs/cli.py", "import mlflow", "['on_ray.tracking'] may"),
        ("adiabatic_ray/orchestration/orchestrator.py", "import analysis", "only jobs composes"),
        (
            "adiabatic_ray/orchestration/orchestrator.py",
            "from adiabatic_ray.analysis import boundary",
            "only jobs composes",
        ),
        ("adiabatic_ray/orchestration/orchestrator.py", "from ..analysis import boundary", "stay inside their folder"),
        (
            "analysis/load.py",
            "from adiabatic_ray.statistics.inference import x",
            "analysis imports from adiabatic_ray only",
        ),
        ("analysis/load.py", "import torch", "analysis imports only"),
        ("analysis/load.py", "from analysis.curves import x", "write it relative"),
        ("analysis/load.py", "from jobs import cli", "only jobs composes"),
        ("jobs/cli.py", "from jobs.run_sweep import main", "write it relative"),
        ("jobs/cli.py", "from ..analysis import boundary", "stay inside their folder"),
        ("jobs/cli.py", "from ..jobs import run_sweep", "stay inside their folder"),
        ("sweeps/demo.py", "import numpy", "standard library and adiabatic_ray's configuration"),
        ("sweeps/demo.py", "from adiabatic_ray.encoders.freezing import x", "sweeps import from adiabatic_ray only"),
        ("sweeps/demo.py", "from .other import sweep", "stands alone"),
        ("adiabatic_ray/tuning/tune.py", "import tests.helpers", "not part of"),
    ],
)
def test_a_planted_violation_is_found(path, source, reason):
    (found,) = violations(path, source)
    assert found.startswith(path) and reason in found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "adiabatic_ray/on_ray/tracking.py",
            "import mlflow\nfrom adiabatic_ray import results\nfrom adiabatic_ray.statistics import ranking",
        ),
        (
            "adiabatic_ray/on_ray/evaluators.py",
            "import ray\nimport torch\nfrom adiabatic_ray.evaluation.encode import encode",
        ),
        ("adiabatic_ray/results.py", "import json\nimport pyarrow as pa\nfrom adiabatic_ray import SOME_CONSTANT"),
        (
            "jobs/cli.py",
            "import ray\nimport analysis\nfrom .run_sweep import main\nfrom adiabatic_ray.analysis import boundary",
        ),
        (
            "analysis/load.py",
            "import pandas\nfrom .curves import x\nfrom . import curves\nfrom adiabatic_ray import results",
        ),
        (
            "sweeps/demo.py",
            "import math\nfrom adiabatic_ray.spec import SweepSpec\nfrom adiabatic_ray.sources import Xnli",
        ),
    ],
)
def test_what_the_rules_allow(path, source):
    assert violations(path, source) == []


ANALYSIS = [path.removesuffix(".py").replace("/", ".") for path in FILES if path.startswith("analysis/")]


RECORDING = ["adiabatic_ray.on_ray.scheduling"]
READING = {"torch", "ray", "mlflow", "transformers", "datasets"}


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (ANALYSIS, READING),
        (["jobs.cli", "jobs.reporting"], READING),
        (RECORDING, READING - {"ray"}),  # every trial has a process of its own: its start and memory are paid each time
    ],
    ids=["analysis", "adiabatic report", "a trial's process"],
)
def test_what_only_reads_or_records_loads_without_heavy_libraries(modules, heavy):
    """The rules see this project's imports only; this sees what those bring in."""
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
