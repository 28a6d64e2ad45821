"""What all tests share: a deterministic hypothesis, markers that skip where their means are missing, the real corpora.

Nothing is sent home while testing: Ray's and MLflow's usage reports are off, also in the processes that tests start.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.object_server import ObjectServer

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("RAY_AUTH_MODE", "token")  # before ray is imported: it reads the mode once
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 lets its processes starve beside others
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

# A shell ignores ctrl-C in what it runs in the background; so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Same examples on every run: a red test stays red until someone mends it. No deadline: the machine may be shared.
hypothesis.settings.register_profile("deterministic", derandomize=True, deadline=None, database=None, print_blob=True)
hypothesis.settings.load_profile("deterministic")

DATA_VARIABLE = "ADIABATIC_DATA"
pytest_plugins = ("tests.drills",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip `realdata` tests without the corpora and `gpu` tests without a device."""
    if not os.environ.get(DATA_VARIABLE):
        for item in _marked(items, "realdata"):
            item.add_marker(pytest.mark.skip(reason=f"{DATA_VARIABLE} does not name a folder of real corpora"))
    if gpu_items := _marked(items, "gpu"):
        import torch  # late: most runs need no torch

        if not torch.cuda.is_available():
            for item in gpu_items:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real corpora; skips without it, fails when the variable names something else."""
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        pytest.skip(f"{DATA_VARIABLE} does not name a folder of real corpora")
    folder = Path(value)
    if not folder.is_dir():
        pytest.fail(f"{DATA_VARIABLE} must name a folder; got {value!r}, which is none. Unset it to skip these tests.")
    return folder


@pytest.fixture(scope="session")
def object_server() -> Iterator[ObjectServer]:
    """A real S3 server."""
    from tests.object_server import object_server  # late: most runs need none

    with object_server() as server:
        yield server


@pytest.fixture(scope="module")
def bucket(object_server: ObjectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An empty bucket, for the tests of a file; the environment names its server and a cache."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in object_server.environment().items():
            patch.setenv(name, value)
        patch.setenv("ADIABATIC_CACHE", str(tmp_path_factory.mktemp("cache")))
        name = f"bucket-{uuid.uuid4().hex}"
        object_server.new_bucket(name)
        yield name


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[None]:
    """Ray on this machine, for the tests of a file."""
    import ray  # late: most runs need none

    from adiabatic_ray.on_ray.cluster import start_ray

    start_ray()
    yield
    ray.shutdown()


def _marked(items: list[pytest.Item], marker: str) -> list[pytest.Item]:
    return [item for item in items if item.get_closest_marker(marker)]
