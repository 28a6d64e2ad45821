"""`adiabatic submit` and `stop` against a dashboard's answers: what is uploaded and handed on, and what is refused."""

from __future__ import annotations

import io
import os
import re
import shlex
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from jobs import job_files, same_versions
from jobs.cli import app
from jobs.job_files import FORWARDED, SweepCommand, checkout, entrypoint, staged
from jobs.run_sweep import app as sweep_app
from jobs.sweep_files import shipped_sweeps
from tests.job_server import JobServer, details, serving

ROOT = Path(__file__).resolve().parents[1]
SWEEP = (
    "from adiabatic_ray.sources import TripletFile\n"
    "from adiabatic_ray.spec import E5, EvaluationSpec, SweepSpec, TrialSpec\n\n\n"
    "def sweep():\n"
    "    ours = TripletFile(name='ours', path='/shared/ours.jsonl', num_validation=5, num_evaluation=5)\n"
    "    trial = TrialSpec(backbone=E5, source=ours, evaluation=EvaluationSpec(sets=(ours,)))\n"
    "    return SweepSpec(name='ours', question='How far?', trial=trial, grid={'tuning.seed': (0, 1)})\n"
)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JobServer]:
    for name in (*FORWARDED, "RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:1")  # what is typed has to win over it
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret-token-of-the-cluster")
    with serving() as found:
        yield found


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    path = tmp_path / "ours.py"
    path.write_text(SWEEP)
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments], env={"COLUMNS": "200"})


def submit(server: JobServer, sweep: str | Path, *more: str) -> Result:
    return run("submit", sweep, "--address", server.address, "--out", "/shared/ours", "--no-wait", *more)


def refused(result: Result, *words: str) -> None:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.output.replace("\n", " "), result.output


def test_what_is_printed_is_enough_to_come_back(server: JobServer, sweep_file: Path) -> None:
    result = submit(server, sweep_file)
    assert result.exit_code == 0, result.output
    job = server.submitted["submission_id"]
    assert re.fullmatch(r"ours-[0-9a-f]{8}", job)
    for command in ("ray job logs --follow", "adiabatic status", "adiabatic stop"):
        assert f"{command} {job} --address {server.address}" in result.output
    assert server.submitted["metadata"] == {"sweep": "ours", "out": "/shared/ours"}


def test_from_a_checkout_the_code_and_the_sweep_file_are_packed_and_little_else(
    server: JobServer, sweep_file: Path
) -> None:
    assert submit(server, sweep_file).exit_code == 0
    names = zipfile.ZipFile(io.BytesIO(server.package)).namelist()
    assert {name.split("/")[0] for name in names if "/" in name} == {
        "adiabatic_ray",
        "analysis",
        "jobs",
        "submitted",
        "sweeps",
    }
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    code = {name for name in tracked if name.split("/")[0] in {"adiabatic_ray", "analysis", "jobs", "sweeps"}}
    assert code <= set(names) and "submitted/ours.py" in names
    assert len(server.package) < 5e6, "a job's code is small: what else was packed?"


def test_nothing_private_large_or_made_by_tools_is_packed(
    server: JobServer, tmp_path: Path, sweep_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "checkout"
    kept = ("adiabatic_ray/corpora/data.py", "jobs/cli.py", "helper.py", "adiabatic_ray/results.py")
    left_out = (
        *(f"{name}/x" for name in (".git", ".venv", "results", "data", "mlruns", "build", "dist", "tests", "docs")),
        *(f"{name}/x" for name in ("jobs/__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis")),
        *("mlflow.db", "mlflow.db-wal", ".env", ".env.local", "a.egg-info/x", "by_gitignore.bin"),
    )
    for name in (*kept, *left_out):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("content")
    (root / ".gitignore").write_text("*.bin\n")
    monkeypatch.setattr("jobs.submit.checkout", lambda: root)
    monkeypatch.setenv("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", "")  # Ray then leaves nothing out by itself
    assert submit(server, sweep_file).exit_code == 0
    packed = {name for name in zipfile.ZipFile(io.BytesIO(server.package)).namelist() if not name.endswith("/")}
    assert packed == {*kept, ".gitignore", "submitted/ours.py"}
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} == {
        *kept,
        *left_out,
        ".gitignore",
    }, "the checkout itself is as it was"


def test_from_a_wheel_only_the_sweep_file_and_the_check_are_packed(
    server: JobServer, sweep_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.submit.checkout", lambda: None)
    assert submit(server, sweep_file).exit_code == 0
    names = zipfile.ZipFile(io.BytesIO(server.package)).namelist()
    assert sorted(names) == ["same_versions.py", "submitted/ours.py"]
    command = server.submitted["entrypoint"]
    assert "python same_versions.py" in command and " adiabatic_ray=" in command
    assert "python -m adiabatic_ray.jobs.run_sweep submitted/ours.py --out /shared/ours" in command


def test_a_shipped_sweep_goes_by_its_name(server: JobServer) -> None:
    assert submit(server, "demo").exit_code == 0
    assert "python -m jobs.run_sweep demo --out /shared/ours" in server.submitted["entrypoint"]
    assert "sweeps/demo.py" in zipfile.ZipFile(io.BytesIO(server.package)).namelist()


def test_the_job_runs_the_options_that_were_typed(server: JobServer, sweep_file: Path) -> None:
    options = ("--set", "question=Is it so?", "--set", "cluster.tuners=2", "--banks", "/shared/the banks")
    assert submit(server, sweep_file, *options, "--tracking-uri", "http://127.0.0.1:5000").exit_code == 0
    check, _, command = server.submitted["entrypoint"].partition(" && exec ")
    assert shlex.split(check)[:2] == ["python", "jobs/same_versions.py"]
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "jobs.run_sweep"]
    assert words[3:] == [
        "submitted/ours.py",
        "--out",
        "/shared/ours",
        *options,
        "--tracking-uri",
        "http://127.0.0.1:5000",
    ]


def test_every_option_is_one_that_the_sweep_command_knows(sweep_file: Path) -> None:
    command = SweepCommand(str(sweep_file), "/shared/x", ("cluster.tuners=2",), "small", "/b", "http://m")
    arguments = [*command.arguments(str(sweep_file)), "--dry-run", "--help"]
    assert CliRunner().invoke(sweep_app, arguments).exit_code == 0
    known = {name for name in arguments if name.startswith("--")}
    assert known == {"--out", "--set", "--scale", "--banks", "--tracking-uri", "--dry-run", "--help"}


def test_only_the_named_variables_are_handed_on(
    server: JobServer, sweep_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADIABATIC_DATA", "/shared/data")
    monkeypatch.setenv("HF_TOKEN", "secret-of-the-hub")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-cloud")
    result = submit(server, sweep_file)
    environment = server.submitted["runtime_env"]
    assert environment["env_vars"] == {"ADIABATIC_DATA": "/shared/data"}
    assert environment.keys() <= {"working_dir", "excludes", "env_vars", "_ray_commit"}, "no pip, no conda"
    sent = repr(server.submitted) + repr(zipfile.ZipFile(io.BytesIO(server.package)).namelist()) + result.output
    assert "secret-" not in sent
    assert "handed on: ADIABATIC_DATA" in result.output
    assert server.headers["authorization"] == "Bearer secret-token-of-the-cluster"


def test_a_cluster_of_another_ray_is_refused_before_the_upload(server: JobServer, sweep_file: Path) -> None:
    server.ray_version = "2.59.0"
    refused(submit(server, sweep_file), "2.59.0", "constraints.txt")
    assert not server.package and not server.submitted


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (
            (401, "Unauthorized: Missing authentication token"),
            ["token", "RAY_AUTH_MODE", "ray get-auth-token --generate"],
        ),
        ((403, "Forbidden: Invalid authentication token"), ["Invalid authentication token", "~/.ray/auth_token"]),
        ((404, "not found"), ["a Ray dashboard must answer", "404", "port of the dashboard"]),
        ((200, "<html>another server</html>"), ["a Ray dashboard must answer", "port of the dashboard"]),
        ((500, "broken"), ["a Ray dashboard must answer", "500"]),
    ],
)
def test_who_answers_otherwise_is_named(
    server: JobServer, sweep_file: Path, refusal: tuple[int, str], words: list[str]
) -> None:
    server.refusal = refusal
    refused(submit(server, sweep_file), server.address, *words)


def test_an_address_where_nobody_answers_is_named(server: JobServer, sweep_file: Path) -> None:
    with socket.socket() as held:  # bound, not listening: connections are refused
        held.bind(("127.0.0.1", 0))
        server.address = f"http://127.0.0.1:{held.getsockname()[1]}"
        refused(submit(server, sweep_file), server.address, "must answer", "tunnel")


def test_a_server_that_never_answers_is_not_waited_for_for_ever(
    server: JobServer, sweep_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.cluster_jobs.REQUEST_LIMITS_S", (0.2, 0.2))
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        server.address = f"http://127.0.0.1:{held.getsockname()[1]}"
        refused(submit(server, sweep_file), server.address, "must answer", "ReadTimeout")


@pytest.mark.parametrize("address", ["127.0.0.1:8265", "ray://127.0.0.1:10001", "localhost", "http://", ""])
@pytest.mark.parametrize("command", ["submit", "stop", "status"])
def test_an_address_that_is_no_url_is_refused(sweep_file: Path, address: str, command: str) -> None:
    rest = ("--out", "/shared/ours") if command == "submit" else ()
    refused(run(command, sweep_file, "--address", address, *rest), "URL of a Ray dashboard", "http://127.0.0.1:8265")


@pytest.mark.parametrize("option", ["--out", "--banks"])
def test_a_relative_folder_is_refused(server: JobServer, sweep_file: Path, option: str) -> None:
    refused(submit(server, sweep_file, option, "results/ours"), option, "results/ours", "temporary copy")
    assert not server.submitted


def test_a_password_in_a_tracking_uri_is_refused_and_not_repeated(
    server: JobServer, sweep_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = "http://me:hunter2@mlflow.example:5000"
    typed = submit(server, sweep_file, "--tracking-uri", uri)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for result in (typed, submit(server, sweep_file)):
        refused(result, "mlflow.example", "MLFLOW_TRACKING_PASSWORD")
        assert "hunter2" not in result.output


def test_no_such_sweep_and_a_broken_one_are_refused_before_any_connection(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def sweep():\n    return 1 / 0\n")
    nowhere = ("--address", "http://127.0.0.1:9", "--out", "/shared/x")
    refused(run("submit", "dmeo", *nowhere), "dmeo", "demo")
    refused(run("submit", tmp_path / "broken.py", *nowhere), "ZeroDivisionError")


def test_a_job_that_does_not_exist_is_named(server: JobServer) -> None:
    for command in ("stop", "status"):
        refused(run(command, "ours-0", "--address", server.address), "'ours-0'", "ray job list --address")


def test_stop_says_what_became_of_the_job(server: JobServer) -> None:
    server.jobs = {"a": details("a", "RUNNING"), "b": details("b", "SUCCEEDED")}
    assert "a is STOPPED" in run("stop", "a", "--address", server.address).output
    assert "b had ended already: SUCCEEDED" in run("stop", "b", "--address", server.address).output


def test_a_job_that_does_not_stop_is_not_waited_for_for_ever(
    server: JobServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.cluster_jobs.END_LIMIT_S", 0.0)
    monkeypatch.setattr("jobs.cluster_jobs.POLL_S", 0.0)
    server.jobs = {"a": details("a", "RUNNING")}
    answer = server.answer

    def never_stopping(method: str, path: str, body: bytes) -> tuple[int, object]:
        return (200, {"stopped": True}) if path.endswith("/stop") else answer(method, path, body)

    monkeypatch.setattr(server, "answer", never_stopping)
    refused(run("stop", "a", "--address", server.address), "should have ended", "got RUNNING", "adiabatic status a")


def test_same_versions_pass_and_others_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert same_versions.main([f"python={python}", "ray=" + same_versions.found_version("ray")]) == 0
    assert same_versions.main(["python=2.7", "ray=1.0", "no-such-package=3"]) == 2
    complaints = capsys.readouterr().err.splitlines()
    assert len(complaints) == 3
    for line, name, wanted, got in zip(
        complaints, ("python", "ray", "no-such-package"), ("2.7", "1.0", "3"), (python, "2", "none"), strict=True
    ):
        assert f"the {name} of the machine that submits, {wanted}, got {got}" in line


def test_the_command_of_a_job_compares_and_then_runs_with_the_exit_code_of_either() -> None:
    """By a shell, as Ray does it: a comparison that fails ends with 2, one that passes leaves the sweep's own code."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}

    def shell(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(line, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    line = entrypoint(SweepCommand("no_such_sweep", "/shared/x"), "no_such_sweep", ROOT)
    done = shell(line)
    assert done.returncode == 2 and "a sweep is a Python file or one of" in done.stderr
    done = shell(line.replace("ray=", "ray=0."))
    assert done.returncode == 2 and "the cluster must have the ray" in done.stderr and "a sweep is" not in done.stderr


def test_the_checkout_is_found_and_an_installed_package_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert checkout() == ROOT
    monkeypatch.setattr(
        job_files, "__file__", str(tmp_path / "site-packages" / "adiabatic_ray" / "jobs" / "job_files.py")
    )
    assert checkout() is None


def test_a_folder_of_the_checkout_that_is_in_the_way_is_refused(tmp_path: Path, sweep_file: Path) -> None:
    (tmp_path / "root" / "submitted").mkdir(parents=True)
    with pytest.raises(ValueError, match="rename it"), staged(str(sweep_file), tmp_path / "root"):
        pytest.fail("nothing is staged")
    with staged(next(iter(shipped_sweeps())), tmp_path / "root") as (folder, _):
        assert (folder / "submitted").is_symlink()
