"""Folders on a disk and in an object store: the same contract, checked on both; the store is a real server."""

from __future__ import annotations

import pickle
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adiabatic_ray.object_stores import ObjectPath, StorageError
from adiabatic_ray.storage import Location, in_order, local_file, local_folder, node_folder, open_folder, replacing
from tests.object_server import ObjectServer

ODD = (
    "ä ö.txt",
    "100%.txt",
    "a?b.txt",
    "#1.txt",
    "x+y&z=1.txt",
    "%20.txt",
    "[a].txt",
    "'\"`.txt",
    "日本.txt",
    ".hidden",
)


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "local":
        return tmp_path / "results"
    return open_folder(f"s3://{request.getfixturevalue('bucket')}/{tmp_path.name}/results")


def write(location: Location, text: str) -> None:
    with replacing(location) as temporary:
        temporary.write_text(text, encoding="utf-8")


def test_what_was_written_is_read_and_a_second_time_replaces_it(folder: Location) -> None:
    file = folder / "deep" / "er" / "a.json"
    for text in ("one", "two, longer", ""):
        write(file, text)
        assert file.read_text(encoding="utf-8") == text and file.read_bytes() == text.encode()
    assert file.is_file() and not file.is_dir() and file.exists()
    assert folder.is_dir() and not folder.is_file() and folder.exists()


def test_a_block_that_fails_leaves_the_old_content_and_nothing_else(
    folder: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    write(folder / "a", "old")
    for target in ("a", "b"):
        with pytest.raises(RuntimeError, match="half way"), replacing(folder / target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("half way")
    assert (folder / "a").read_text(encoding="utf-8") == "old"
    assert [one.name for one in in_order(folder, "*")] == ["a"] and not list(scratch.iterdir())


def test_what_is_missing_is_said_so(folder: Location) -> None:
    missing = folder / "nothing.json"
    assert not missing.exists() and not missing.is_file() and not folder.is_dir()
    assert in_order(folder, "*") == []
    with pytest.raises(FileNotFoundError) as raised:
        missing.read_bytes()
    assert raised.value.filename == str(missing)
    with pytest.raises(FileNotFoundError):
        missing.unlink()
    missing.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError), local_file(missing) as local:
        local.read_bytes()


def test_a_deleted_file_is_gone_and_its_neighbour_is_not(folder: Location) -> None:
    write(folder / "a", "1")
    write(folder / "b", "2")
    (folder / "a").unlink()
    assert not (folder / "a").exists() and [one.name for one in in_order(folder, "*")] == ["b"]


def test_a_folder_lists_its_own_files_of_a_kind_in_order(folder: Location) -> None:
    for name in ("b.parquet", "a.parquet", "a.json", "below/c.parquet"):
        write(folder / name, name)
    assert in_order(folder, "*.parquet") == [folder / "a.parquet", folder / "b.parquet"]


def test_more_files_than_one_answer_of_a_server_holds_are_all_listed(folder: Location) -> None:
    names = [f"{place:04d}.json" for place in range(1_005)]  # a server lists 1,000 at most
    write(folder / names[0], "{}")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: write(folder / name, "{}"), names[1:]))
    assert [one.name for one in in_order(folder, "*.json")] == names


def test_odd_names_come_back_as_they_were_given(folder: Location) -> None:
    for name in ODD:
        write(folder / name, name)
    assert [(folder / name).read_text(encoding="utf-8") for name in ODD] == list(ODD)
    assert {one.name for one in in_order(folder, "*")} == set(ODD)


def test_libraries_get_local_files(folder: Location) -> None:
    write(folder / "a.csv", "1")
    write(folder / "b.csv", "2")
    with local_file(folder / "a.csv") as file:
        assert file.name == "a.csv" and file.read_text() == "1"
    with local_folder(folder) as files:
        assert sorted(one.read_text() for one in files.iterdir()) == ["1", "2"]
    assert file.exists() == files.exists() == isinstance(folder, Path), "copies are gone, files are not"


def test_a_place_travels_to_another_process_as_itself(folder: Location) -> None:
    write(folder / "a", "1")
    again = pickle.loads(pickle.dumps(folder))
    assert again == folder and (again / "a").read_bytes() == b"1"
    assert open_folder(str(folder)) == folder


def test_what_must_be_local_is_beside_a_local_folder_and_in_the_cache_of_another(
    folder: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = node_folder(folder)
    if isinstance(folder, Path):
        assert place == folder
        return
    assert place.is_dir() and place == node_folder(folder) != node_folder(folder.parent / "other" / "results")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    assert place != node_folder(folder), "another server's bucket of the same name is another bucket"


def test_a_large_object_is_seen_only_when_its_last_part_is_there(bucket: str, object_server: ObjectServer) -> None:
    file, client = open_folder(f"s3://{bucket}/parts") / "tower", object_server.client("s3")
    write(file, "old")
    begun = client.create_multipart_upload(Bucket=bucket, Key="parts/tower")["UploadId"]
    client.upload_part(Bucket=bucket, Key="parts/tower", UploadId=begun, PartNumber=1, Body=b"n" * 5 * 2**20)
    assert file.read_bytes() == b"old"
    content = bytes(range(256)) * (12 * 2**12)  # 12 MiB: more than one part
    with replacing(file) as temporary:
        temporary.write_bytes(content)
    assert file.read_bytes() == content
    uploads = client.list_multipart_uploads(Bucket=bucket)["Uploads"]
    assert [upload["UploadId"] for upload in uploads] == [begun], "its own parts were joined, the others still wait"


def test_a_small_object_is_one_request_to_write_and_two_to_read(bucket: str, object_server: ObjectServer) -> None:
    file = open_folder(f"s3://{bucket}/requests") / "a"
    write(file, "warm: the connection asks for the bucket once")
    before = len(object_server.requests())
    write(file, "again")
    assert file.read_bytes() == b"again"
    assert [one.split()[0] for one in object_server.requests()[before:]] == ["PUT", "HEAD", "GET"]


def test_an_upload_that_fails_leaves_what_was_there(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = open_folder(f"s3://{bucket}/fails") / "a"
    write(file, "old")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
        with pytest.raises(StorageError, match="must answer"):
            write(file, "new")
    assert file.read_text(encoding="utf-8") == "old"


PARTS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="/"), min_size=1)


@given(st.lists(PARTS.filter(lambda part: part not in (".", "..")), min_size=1, max_size=4))
def test_a_path_has_the_parts_of_a_posix_path(parts: list[str]) -> None:
    path, posix = ObjectPath("s3", "bucket", ""), PurePosixPath("/")
    for part in parts:
        path, posix = path / part, posix / part
    assert str(path) == f"s3://bucket{posix}"
    assert (path.name, path.stem) == (posix.name, posix.stem)
    assert str(path.parent) == f"s3://bucket{posix.parent}".rstrip("/")
    assert path.resolve() == path


@pytest.mark.parametrize("escape", ["..", "../other", "a/../b", ".", "a//b", "/a", "a/", "a\nb", ""])
def test_paths_that_lead_elsewhere_are_refused(escape: str) -> None:
    with pytest.raises(ValueError, match="parts of printable characters"):
        ObjectPath("s3", "bucket", "out") / escape


def test_a_bucket_is_its_own_parent() -> None:
    bucket = ObjectPath("s3", "bucket", "out").parent
    assert str(bucket) == "s3://bucket" and bucket.parent == bucket and bucket.name == "bucket"


@pytest.mark.parametrize("text", ["results/a", "/shared/a", "a", "~x", "a:b", "C:dir"])
def test_a_path_stays_a_path(text: str) -> None:
    assert open_folder(text) == Path(text)


@pytest.mark.parametrize(("text", "key"), [("s3://bucket/a", "a"), ("gs://bucket/a/b c/", "a/b c")])
def test_a_uri_is_taken_as_it_is_written(text: str, key: str) -> None:
    assert open_folder(text) == ObjectPath(text[:2], "bucket", key)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("ftp://host/a", "a folder is a path, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER, got ftp://host/a"),
        ("s3:/bucket/a", "a folder is a path"),
        ("file:///a", "a folder is a path"),
        ("s3://bucket", "name both"),
        ("s3:///a", "name both"),
        ("s3://b?/a", "without keys or settings"),
        ("s3://bucket/a?endpoint_override=x", "set AWS_ACCESS_KEY_ID"),
        ("s3://bucket/../a", "none of them empty"),
    ],
)
def test_what_is_no_folder_is_refused(text: str, rule: str) -> None:
    with pytest.raises(ValueError) as raised:
        open_folder(text)
    assert rule in str(raised.value)


@pytest.mark.parametrize("scheme", ["s3", "ftp"])
def test_a_secret_in_a_uri_is_refused_and_not_repeated(scheme: str) -> None:
    with pytest.raises(ValueError, match="got " + scheme) as raised:
        open_folder(f"{scheme}://AKIAKEY:hush@bucket/a")
    assert "hush" not in str(raised.value) and "AKIAKEY" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_a_pyarrow_without_the_library_says_so(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.fs

    for name in ("S3FileSystem", "GcsFileSystem"):
        monkeypatch.delattr(pyarrow.fs, name)
    with pytest.raises(StorageError, match="built with it"):
        (open_folder(f"{scheme}://no-library-{scheme}/a") / "b").read_bytes()
