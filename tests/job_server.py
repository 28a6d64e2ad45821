"""A dashboard's answers without a Ray cluster: what Ray's client of submitted jobs sends is kept, to be looked at."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import ray
from ray._raylet import AuthenticationTokenLoader


@dataclass
class JobServer:
    """What the server says, and what it was told."""

    address: str = ""
    ray_version: str = ray.__version__
    refusal: tuple[int, str] | None = None
    """Status and text that every request is answered with."""
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Job id -> details; a job that is stopped becomes STOPPED."""
    package: bytes = b""
    """Zip of the working directory that was uploaded last."""
    submitted: dict[str, Any] = field(default_factory=dict)
    """Request that submitted the last job."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of the last request."""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if self.refusal is not None:
            return self.refusal
        if path == "/api/version":
            return 200, {"version": "4", "ray_version": self.ray_version, "ray_commit": "", "session_name": ""}
        if path.startswith("/api/packages/"):
            if method == "PUT":
                self.package = body
            return (200, {}) if self.package else (404, "no such package")
        if (method, path) == ("POST", "/api/jobs/"):
            self.submitted = json.loads(body)
            job = self.submitted["submission_id"]
            self.jobs[job] = details(job, "PENDING")
            return 200, {"job_id": job, "submission_id": job}
        job = path.split("/")[3]
        if job not in self.jobs:
            return 404, f"Job {job} does not exist"
        if path.endswith("/stop"):
            was_running = self.jobs[job]["status"] in {"PENDING", "RUNNING"}
            if was_running:
                self.jobs[job]["status"] = "STOPPED"
            return 200, {"stopped": was_running}
        return 200, self.jobs[job]


def details(job: str, status: str, **more: Any) -> dict[str, Any]:
    """A job as the dashboard describes it."""
    return {"type": "SUBMISSION", "submission_id": job, "status": status, "entrypoint": "python", **more}


@contextmanager
def serving() -> Iterator[JobServer]:
    """A server on a free port of this machine."""
    state = JobServer()

    class Handler(BaseHTTPRequestHandler):
        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.headers = dict(self.headers)
            status, content = state.answer(self.command, self.path, body)
            sent = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = _respond

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}"
    # Ray reads its token once in a process: the test's own is not to be an earlier test's, nor a later one's.
    AuthenticationTokenLoader.instance().reset_cache()
    try:
        yield state
    finally:
        AuthenticationTokenLoader.instance().reset_cache()
        server.shutdown()
        server.server_close()
        thread.join()
