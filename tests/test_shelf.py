"""What a tuner keeps: read once, kept while it is used, gone when something else comes."""

from __future__ import annotations

import threading

import pytest

from adiabatic_ray.on_ray.shelf import Shelf


def test_things_in_use_stay_and_others_make_room() -> None:
    shelf: Shelf[str] = Shelf()
    read: list[str] = []

    def reading(name: str) -> str:
        read.append(name)
        return name.upper()

    with shelf.borrowed("a", lambda: reading("a")) as first:
        with shelf.borrowed("a", lambda: reading("a")) as again, shelf.borrowed("b", lambda: reading("b")) as other:
            assert (first, again, other) == ("A", "A", "B")
        with shelf.borrowed("c", lambda: reading("c")):
            pass  # b makes room, a is in use
        with shelf.borrowed("a", lambda: reading("a")):
            pass
        with shelf.borrowed("b", lambda: reading("b")):
            pass
    assert read == ["a", "b", "c", "b"]
    with shelf.borrowed("c", lambda: reading("c")), shelf.borrowed("a", lambda: reading("a")):
        pass
    assert read[4:] == ["c", "a"]


def test_what_cannot_be_read_is_asked_for_again() -> None:
    shelf: Shelf[str] = Shelf()

    def broken() -> str:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"), shelf.borrowed("a", broken):
        pass
    with shelf.borrowed("a", lambda: "there") as thing:
        assert thing == "there"


def test_threads_that_come_together_read_once() -> None:
    shelf: Shelf[int] = Shelf()
    together, read = threading.Barrier(8), []

    def borrow() -> None:
        together.wait()
        with shelf.borrowed("a", lambda: read.append(1) or len(read)):  # type: ignore[func-returns-value]
            together.wait()

    threads = [threading.Thread(target=borrow) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [1]
