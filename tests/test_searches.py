"""A search from its openings to its end, on planted results and without Ray: budget, resuming, settings, samplers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from adiabatic_ray import results
from adiabatic_ray.changes import with_changes
from adiabatic_ray.orchestration.plans import Search, open_plan
from adiabatic_ray.results import ResultsError
from adiabatic_ray.search import outcomes
from adiabatic_ray.search_spec import BoundarySearch, GainSearch
from adiabatic_ray.spec import SweepSpec, TrialSpec
from tests import planted
from tests.listening import Quiet
from tests.rehearsal import play

PLAN = planted.Plan({1e-7: 0.0}, num_clusters=200)
BOUNDARY = BoundarySearch(lowest_rate=1e-8, highest_rate=1e-6, set=planted.PAIRS, width_decades=0.1)
GAIN = GainSearch(
    lowest_rate=1e-8, highest_rate=1e-6, set=planted.PAIRS, gain_set=planted.HELD_OUT, max_trials=12, share=0.2
)

Rules = TypeVar("Rules", BoundarySearch, GainSearch)


def sweep(search: BoundarySearch | GainSearch, **grid: tuple[Any, ...]) -> SweepSpec:
    content = planted.sweep_spec(PLAN).model_dump()
    return SweepSpec.model_validate(content | {"grid": grid, "search": search.model_dump()})


def search_in(out: Path, spec: SweepSpec) -> Search:
    trials = {trial.trial_id: trial for trial in spec.expand()}
    if not (out / "untuned").exists():
        texts = planted.Texts(PLAN)
        rows = planted.untuned_rows(planted.UNTUNED_ID, texts.untuned_counts())
        results.write_table(out, "untuned", planted.UNTUNED_ID, rows)
    search = open_plan(spec, trials, out)
    assert isinstance(search, Search)
    return search


def kink(trial: TrialSpec) -> float | None:
    """Nothing is lost up to 5e-8, 1% at 6e-8, all is over from 5e-7; twice as far with more frozen."""
    rate = trial.tuning.learning_rate / (2 if "B0" in trial.tuning.freeze else 1)
    if rate >= 5e-7:
        return None
    return min(0.0, -0.01 * math.log10(rate / 5e-8) / math.log10(6e-8 / 5e-8))


def test_a_boundary_is_bracketed_and_the_search_ends_when_it_is_narrow(tmp_path: Path) -> None:
    spec, listener = sweep(BOUNDARY), Quiet()
    num = play(search_in(tmp_path, spec), tmp_path, PLAN, kink, listener)
    search = search_in(tmp_path, spec)
    assert num == len(search.finished) < BOUNDARY.max_trials and search.is_over
    rates = [one.trial.tuning.learning_rate for one in search.finished]
    assert {1e-8, 1e-7, 1e-6} <= set(rates)
    assert max(rate for rate in rates if rate < 6e-8) > 5e-8 and min(rate for rate in rates if rate > 6e-8) < 7.2e-8
    (verdict,) = search.proposer.verdict(search.finished)
    assert f"after {num} trials" in verdict and "wider" not in verdict
    assert ("stage", "the search places no more trials: no other trial would tell more") in listener.events


def test_an_interrupted_search_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    spec = sweep(varied(BOUNDARY, parallel=1))
    play(search_in(tmp_path / "whole", spec), tmp_path / "whole", PLAN, kink, Quiet())
    play(search_in(tmp_path / "parts", spec), tmp_path / "parts", PLAN, kink, Quiet(), stop_after=2)
    for _ in range(20):
        play(search_in(tmp_path / "parts", spec), tmp_path / "parts", PLAN, kink, Quiet(), stop_after=1)
    assert ids(tmp_path / "parts") == ids(tmp_path / "whole")


def test_each_setting_has_a_search_of_its_own_and_they_share_the_budget(tmp_path: Path) -> None:
    spec = sweep(BOUNDARY, **{"tuning.freeze": ("embeddings", "emb, B0")})
    assert len(spec.expand()) == 6
    play(search_in(tmp_path, spec), tmp_path, PLAN, kink, Quiet())
    search = search_in(tmp_path, spec)
    one, other = (float(line.split(": ")[1].split(" ")[0]) for line in search.proposer.verdict(search.finished))
    assert other / one == pytest.approx(2, rel=0.25)
    few = search_in(tmp_path / "few", sweep(varied(BOUNDARY, max_trials=7), **spec.grid))
    assert play(few, tmp_path / "few", PLAN, kink, Quiet()) == 7
    assert [count(tmp_path / "few", freeze) for freeze in spec.grid["tuning.freeze"]] == [4, 3]


def test_no_more_than_the_stated_number_is_in_flight(tmp_path: Path) -> None:
    searcher = search_in(tmp_path, sweep(varied(BOUNDARY, parallel=2))).queue(lambda trial: {}, Quiet()).searcher
    assert searcher is not None
    assert [searcher.suggest(name) for name in "abc"] == [{"trial": {}}, {"trial": {}}, None]
    searcher.on_trial_complete(trial_id="a", result=None, error=True)
    assert searcher.suggest("d") == {"trial": {}}, "a trial that failed is not waited for"


def test_a_search_whose_trials_all_fail_ends_with_its_budget(tmp_path: Path) -> None:
    rules = varied(BOUNDARY, max_trials=5)
    searcher = search_in(tmp_path, sweep(rules)).queue(lambda trial: {"id": trial.trial_id}, Quiet()).searcher
    assert searcher is not None
    suggested = []
    for name in "abcde":
        suggested.append(searcher.suggest(name))
        searcher.on_trial_complete(trial_id=name, error=True)
    assert len({str(one) for one in suggested}) == 5, "none is asked for twice"
    assert searcher.suggest("f") == "FINISHED" and searcher.is_over


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsgaii"])
def test_gain_under_a_constraint_spends_its_budget_on_different_trials(tmp_path: Path, sampler: str) -> None:
    spec = sweep(varied(GAIN, sampler=sampler), **{"tuning.freeze": ("embeddings", "emb, B0")})
    assert play(search_in(tmp_path, spec), tmp_path, PLAN, kink, Quiet()) == 12
    search = search_in(tmp_path, spec)
    assert search.is_over and len(set(ids(tmp_path))) == 12
    assert all(1e-8 <= one.trial.tuning.learning_rate <= 1e-6 for one in search.finished)
    assert "of 12 trials" in search.proposer.verdict(search.finished)[0]


def test_a_sampler_learns_where_everything_diverges(tmp_path: Path) -> None:
    """Half of the range diverges: chance would send half of the trials there."""
    spec = sweep(varied(GAIN, max_trials=30, parallel=1))
    play(
        search_in(tmp_path, spec),
        tmp_path,
        PLAN,
        lambda trial: None if trial.tuning.learning_rate > 1e-7 else 0.0,
        Quiet(),
    )
    search = search_in(tmp_path, spec)
    assert sum(one.diverged for one in search.finished) < 12


def test_the_same_results_give_the_same_proposal(tmp_path: Path) -> None:
    for rules in (GAIN, BOUNDARY):
        out = tmp_path / rules.kind
        play(search_in(out, sweep(rules)), out, PLAN, kink, Quiet(), stop_after=6)
        proposals = []
        for _ in range(2):
            search = search_in(out, sweep(rules))
            running = search.settings
            proposals.append(search.proposer.propose(tuple(reversed(search.finished)), running))
        assert proposals[0] == proposals[1] is not None


def test_margins_are_those_of_the_tables(tmp_path: Path) -> None:
    """By hand: PND of three languages' nine pairs, before and after, as `aggregates` and `scores` have them."""
    plan = replace(PLAN, improvement={6e-8: -0.05})
    spec = planted.write_planted(tmp_path, plan)
    (trial,) = spec.expand()
    scores = results.read_table(tmp_path, "scores", [trial.trial_id]).to_pandas()
    rows = scores[(scores["set"] == planted.PAIRS) & (scores["measure"] == "cosine")]
    mean = 1 - rows["pnd_tuned"].mean() / rows["pnd_untuned"].mean()
    margin = outcomes.margin(tmp_path, trial.trial_id, BOUNDARY)
    assert margin == pytest.approx(mean + 0.01) and mean == pytest.approx(-0.05, abs=0.005)
    even = outcomes.margin(tmp_path, trial.trial_id, varied(BOUNDARY, criterion="break-even"))
    sure = outcomes.margin(tmp_path, trial.trial_id, varied(BOUNDARY, criterion="tolerance"))
    assert even == pytest.approx(mean) and sure < margin
    degraded = ((rows["bh_p"] <= 0.05) & (rows["clustered_z"] > 0)).mean()
    pairs = outcomes.margin(tmp_path, trial.trial_id, varied(BOUNDARY, criterion="pairs", share=0.3))
    assert pairs == pytest.approx(0.3 - degraded)


@pytest.mark.parametrize(
    "change", [{"relation": "same-similar"}, {"criterion": "pairs", "relation": "same-similar"}, {"set": "elsewhere"}]
)
def test_a_relation_that_is_not_there_is_an_error(tmp_path: Path, change: dict[str, str]) -> None:
    (trial,) = planted.write_planted(tmp_path, PLAN).expand()
    with pytest.raises(ResultsError, match=r"got none in .*search.relation"):
        outcomes.margin(tmp_path, trial.trial_id, varied(BOUNDARY, **change))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search.set": planted.TUNED}, r"one of the labelled pairs \['names'\], got 'questions'"),
        ({"search.lowest_rate": 1e-6}, "lowest_rate < highest_rate"),
        ({"search.lowest_rate": 1.2345e-8}, r"three digits, got 1.2345e-08; round it to 1.23e-08"),
        ({"search.seeds": (1, 1)}, "seeds must differ"),
        ({"search.width_decades": 1e-5}, "greater than or equal to 0.01"),
        ({"grid.tuning.seed": (0, 1)}, r"chooses rates and seeds itself.*tuning.seed"),
        ({"points": ({"tuning.margin": 0.2},)}, "chooses rates and seeds itself.*points"),
        ({"search.criterion": "onset"}, "'level', 'tolerance', 'break-even' or 'pairs'"),
    ],
)
def test_what_a_search_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_changes(sweep(BOUNDARY), changes)


def test_a_gain_needs_a_set_of_triplets() -> None:
    with pytest.raises(ValueError, match="gain_set must be one of the triplet sets"):
        sweep(varied(GAIN, gain_set=planted.PAIRS))


def test_openings_cover_the_range_a_decade_at_most_apart() -> None:
    spec = sweep(varied(BOUNDARY, lowest_rate=1e-9, highest_rate=1e-5))
    assert [trial.tuning.learning_rate for trial in spec.expand()] == [1e-9, 1e-8, 1e-7, 1e-6, 1e-5]
    narrow = sweep(varied(BOUNDARY, lowest_rate=1e-8, highest_rate=4e-8))
    assert [trial.tuning.learning_rate for trial in narrow.expand()] == [1e-8, 2e-8, 4e-8]


def varied(search: Rules, **changes: Any) -> Rules:
    return with_changes(search, changes)


def ids(out: Path) -> list[str]:
    return sorted(results.finished_trials(out))


def count(out: Path, freeze: str) -> int:
    return results.read_table(out, "trials", columns=["freeze"])["freeze"].to_pylist().count(freeze)
