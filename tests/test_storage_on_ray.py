"""A sweep on real Ray with results and banks in a bucket: stopped, continued elsewhere, equal to one that was not."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from adiabatic_ray import results
from adiabatic_ray.storage import in_order, open_folder
from tests.object_server import ObjectServer
from tests.same_rows import COMPARED, assert_same_tables
from tests.small_sweep import small_sweep

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1800)]
CHECKOUT = Path(__file__).resolve().parent.parent
SECRET = "hush-hush-4711"


def command(inputs: Path, *more: str) -> list[str]:
    file = inputs / "a_sweep.py"
    small_sweep(inputs)
    file.write_text(
        "from pathlib import Path\nfrom adiabatic_ray.changes import with_changes\n"
        "from tests.small_sweep import small_sweep\n\n\n"
        "def sweep():\n"
        f"    spec = small_sweep(Path({str(inputs)!r}), rates=(0.0, 1e-3), seeds=(0, 1))\n"
        # Long enough that it can be interrupted after its first trial; states are saved again and again.
        "    changes = {'trial.tuning.batches_per_epoch': 200, 'cluster.checkpoint_every_s': 0.1}\n"
        "    return with_changes(spec, changes)\n"
    )
    return [sys.executable, "-m", "jobs.run_sweep", str(file), *more]


def environment(server: ObjectServer, cache: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    named = {"PYTHONUNBUFFERED": "1", "COLUMNS": "160", "ADIABATIC_CACHE": str(cache)}
    return kept | server.environment(secret=SECRET) | named


def test_a_sweep_in_a_bucket_continues_on_another_machine(
    bucket: str, object_server: ObjectServer, tmp_path: Path
) -> None:
    out, banks = open_folder(f"s3://{bucket}/sweeps/small"), open_folder(f"s3://{bucket}/sweeps/banks")
    arguments = command(tmp_path / "inputs", "--out", str(out))
    process = subprocess.Popen(
        arguments,
        cwd=CHECKOUT,
        env=environment(object_server, tmp_path / "first"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "COMPLETE" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate()
    assert process.returncode == 130, said + rest
    num_done = len(results.finished_trials(out))
    assert 1 <= num_done < 4, "the interrupt came too late to test anything"
    assert any(one.startswith("PUT") and "/states/" in one for one in object_server.requests())

    done = subprocess.run(  # with another cache, as another machine has
        arguments, cwd=CHECKOUT, env=environment(object_server, tmp_path / "second"), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{num_done} of 4 trials are finished already" in done.stdout
    assert f"{out}/report/report.html" in done.stdout and (out / "report" / "report.html").is_file()
    assert str(tmp_path / "second") in done.stdout, "where MLflow's database is"
    assert in_order(out / "states", "*") == [], "what was saved of trials is gone with their end"
    # A path that ends with / is the mark of a folder.
    put = [one for one in object_server.requests() if re.match(r"PUT .*/banks/.*[^/]$", one)]
    assert {one.rpartition("/")[2] for one in put} == {"bank.json", "embeddings.npy"}
    assert len(set(put)) == len(put), "each bank is uploaded once"
    assert banks.is_dir()

    whole = tmp_path / "whole"
    done = subprocess.run(
        command(tmp_path / "inputs", "--out", str(whole)),
        cwd=CHECKOUT,
        env=environment(object_server, tmp_path / "none"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same_tables(out, whole, (*COMPARED, "untuned"))
    assert not (tmp_path / "none").exists(), "a local sweep needs no cache"

    client = object_server.client("s3")
    stored = [found["Key"] for found in client.list_objects_v2(Bucket=bucket)["Contents"]]
    kept = [client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in stored]
    kept += [
        file.read_bytes() for name in ("first", "second") for file in (tmp_path / name).rglob("*") if file.is_file()
    ]
    assert len(kept) > len(stored) > 50 and not any(SECRET.encode() in content for content in kept)
