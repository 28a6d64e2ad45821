"""Plays a search to its end without Ray: each trial that is suggested is written as a planted result."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adiabatic_ray.orchestration.plans import Search
from adiabatic_ray.spec import TrialSpec
from tests import planted
from tests.listening import Quiet

Curve = Callable[[TrialSpec], float | None]
"""Improvement of a trial; none: it diverges."""


def play(search: Search, out: Path, plan: planted.Plan, curve: Curve, listener: Quiet, stop_after: int = 10**6) -> int:
    """Run at most so many trials, as many at a time as the search has in flight; how many ended."""
    texts, flying, ended = planted.Texts(plan), {}, 0

    def config_of(trial: TrialSpec) -> dict[str, TrialSpec]:
        return {"trial": trial}

    searcher = search.queue(config_of, listener).searcher
    assert searcher is not None
    for number in range(10**4):
        suggested = searcher.suggest(str(number))
        if isinstance(suggested, dict):
            flying[str(number)] = suggested["trial"]["trial"]
            continue
        if not flying or ended == stop_after:
            return ended
        name, trial = next(iter(flying.items()))
        del flying[name]
        wanted = curve(trial)
        status = "DIVERGED" if wanted is None else "COMPLETE"
        planted.write_trial(out, "planted", trial, plan, texts, status, wanted or 0.0)
        searcher.on_trial_complete(trial_id=name, result={"status": status})
        ended += 1
    raise AssertionError("the search did not end")
