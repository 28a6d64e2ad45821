"""What the project starts listens on loopback; what Ray opens besides asks for a token."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import ray

from adiabatic_ray.on_ray.cluster import start_ray
from jobs.environment import prepare_environment

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("adiabatic_ray", "analysis", "jobs", "benchmarks")
SERVERS = {"socketserver", "http.server", "wsgiref", "uvicorn", "flask", "fastapi", "gunicorn", "werkzeug", "waitress"}


def test_a_local_ray_has_no_dashboard(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **options: seen.append(options))
    start_ray()
    (options,) = seen
    assert options["address"] == "local" and options["include_dashboard"] is False


def test_a_local_ray_asks_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    environment: dict[str, str] = {}
    monkeypatch.setattr("os.environ", environment)
    prepare_environment()
    assert environment["RAY_AUTH_MODE"] == "token"


def test_no_file_starts_a_server_or_names_every_address() -> None:
    for path in [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        imported = {
            name
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
        }
        assert not imported & SERVERS, path
        assert "0.0.0.0" not in text, path
    for name in ("Makefile", "cluster.yaml"):
        text = (ROOT / name).read_text(encoding="utf-8")
        hosts = re.findall(r"--(?:dashboard-)?host[ =](\S+)", text)
        assert set(hosts) <= {"127.0.0.1", "localhost"} and "0.0.0.0" not in text, name
