"""A trial that fails gives its place in the lobby back only where nothing of it is left with the tuner."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import RayActorError, RayTaskError

from adiabatic_ray.on_ray import tuner_pool
from adiabatic_ray.on_ray.tuner_pool import MaterialRefs, TunerPool
from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tuning.news import Notice, ReplacedError


def raised(error: Exception) -> Exception:
    """As it comes from an actor."""
    return RayTaskError("tune", "", error).as_instanceof_cause()  # type: ignore[no-untyped-call,no-any-return]


def failing(error: Exception) -> Iterator[Notice]:
    yield Notice("begun")
    raise error


@pytest.mark.parametrize(
    ("over_there", "here", "told"),
    [
        (raised(ValueError("no samples")), None, ["left"]),
        (raised(ReplacedError("asked again")), None, []),
        (RayActorError(), None, ["lost"]),
        (StopIteration(), KeyError("of a listener"), []),
    ],
)
def test_what_the_lobby_hears(
    monkeypatch: pytest.MonkeyPatch, over_there: Exception, here: Exception | None, told: list[str]
) -> None:
    heard: list[str] = []

    def call(answer: Any, what: str | None = None) -> Any:
        return SimpleNamespace(remote=lambda *_: heard.append(what) if what else answer)

    def notice(_: str) -> None:
        if here is not None:
            raise here

    stream = SimpleNamespace(remote=lambda *_: failing(over_there))
    tuner = SimpleNamespace(tune=SimpleNamespace(options=lambda **_: stream))
    lobby = SimpleNamespace(enter=call((0, 1)), leave=call(None, "left"), lost=call(None, "lost"))
    monkeypatch.setattr(tuner_pool.ray, "get", lambda one: one)
    with pytest.raises(type(here or over_there)):
        TunerPool(lobby, (tuner,), 10).tune("one", TuningSpec(), MaterialRefs("", None, None, 1), print, notice)
    assert heard == told
