"""One driver for a results folder, and trials that see another one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from adiabatic_ray.folder_lock import FILE, driver_of, holder_of
from adiabatic_ray.object_stores import ObjectPath
from adiabatic_ray.on_ray.one_driver import check_shared, only_driver
from adiabatic_ray.results import ResultsError
from tests.listening import Quiet

CHECKOUT = Path(__file__).resolve().parent.parent
HOLD = """
import sys
from pathlib import Path
from adiabatic_ray.folder_lock import FILE, driver_of, holder_of
from adiabatic_ray.object_stores import ObjectPath
from adiabatic_ray.on_ray.one_driver import only_driver
from tests.listening import Quiet
with only_driver(Path(sys.argv[1]), Quiet()) as driver:
    print(driver, flush=True)
    sys.stdin.read()
"""


def test_a_second_driver_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    """Gone by SIGKILL: the kernel lets go of its lock."""
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with first:
        assert first.stdout is not None
        name = first.stdout.readline().strip()
        assert name.startswith(f"process {first.pid} on ")
        with (
            pytest.raises(ResultsError, match=rf"one driver at a time, got .*, which {re.escape(name)} holds"),
            only_driver(tmp_path, Quiet()),
        ):
            raise AssertionError("two drivers")
        check_shared(tmp_path, name)
        first.kill()
    with only_driver(tmp_path, Quiet()) as driver:
        assert driver.startswith(f"process {os.getpid()} on ")
        check_shared(tmp_path, driver)
        with pytest.raises(
            ValueError, match=r"shared by all nodes, got that of another driver \(process .*one driver at a"
        ):
            check_shared(tmp_path, name)


def test_a_node_without_the_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shared by all nodes, got none at .*elsewhere.*s3://BUCKET/FOLDER"):
        check_shared(tmp_path / "elsewhere", "process 1 on a, since then")


def test_a_lock_file_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    """A results folder that came from somebody else may name any file of the user's."""
    mine = tmp_path / "mine.txt"
    mine.write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / ".driver").symlink_to(mine)
    with pytest.raises(OSError, match="symbolic links"), only_driver(out, Quiet()):
        raise AssertionError("written through a link")
    assert mine.read_text() == "precious"


@pytest.mark.ray
def test_a_bucket_has_one_driver_on_a_cluster(ray_cluster: None) -> None:
    """No store is asked: the cluster knows who is there."""
    out = ObjectPath("s3", "bucket", "sweeps/ours")
    with only_driver(out, Quiet()) as driver:
        with pytest.raises(ResultsError, match=re.escape(driver)), only_driver(out, Quiet()):
            raise AssertionError("two drivers")
        check_shared(out, "nobody")  # is the same on every node
        with only_driver(out / "other", Quiet()):
            pass
    with only_driver(out, Quiet()):
        pass


def test_a_lock_file_that_is_no_plain_file_is_not_read(tmp_path: Path) -> None:
    """Neither a pipe, which would be waited for, nor a link to what somebody holds."""
    (tmp_path / "piped").mkdir()
    os.mkfifo(tmp_path / "piped" / FILE)
    mine, linked = tmp_path / "mine", tmp_path / "linked"
    linked.mkdir()
    with only_driver(mine, Quiet()) as driver:
        (linked / FILE).symlink_to(mine / FILE)
        assert [driver_of(one) for one in (mine, linked, tmp_path / "piped")] == [driver, "", ""]
        assert [holder_of(one) for one in (mine, linked, tmp_path / "piped")] == [driver, None, None]


def test_a_file_server_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(file: object, how: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unsupported)
    listener = Quiet()
    with only_driver(tmp_path, listener) as driver:
        check_shared(tmp_path, driver)
    (said,) = [event[1] for event in listener.events if event[0] == "stage"]
    assert "cannot be locked (Function not implemented)" in str(said)
