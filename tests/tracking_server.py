"""A real MLflow server on SQLite, which can be killed and started again on the same port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Self

from tests.fault_cluster import wait_until


class TrackingServer:
    """Listens on a free port of this machine."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            self._port = held.getsockname()[1]
        self._folder, self.uri = folder, f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        stored = [f"--backend-store-uri=sqlite:///{self._folder / 'server.db'}"]
        stored += [f"--artifacts-destination={self._folder / 'artifacts'}", "--workers=1"]
        with (self._folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={self._port}", *stored],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(self._answers, "an answer of the MLflow server", limit_s=200, every_s=0.5)

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self._folder / "server.log").read_text()
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
