"""The Pareto front of gain and price: dominance by hand, properties, and what the table says of planted trials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from planted import HELD_OUT, PAIRS, TUNED, Plan, write_planted

from analysis.aggregates import aggregates
from analysis.harm import harm_by_trial
from analysis.load import load_sweep
from analysis.pareto import COLUMNS, non_dominated, pareto_front
from analysis.resample import Evidence, gather

FALLING = {0.0: 0.0, 1e-8: 0.01, 1e-7: 0.02, 3e-7: -0.04, 1e-6: -0.3}
NUMBERS = st.integers(-3, 3).map(float)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    out = tmp_path_factory.mktemp("pareto")
    write_planted(out, Plan(FALLING, seeds=(0, 1), change={(1e-6, 1): "DIVERGED", (1e-8, 1): "FAILED"}))
    return gather(load_sweep(out), num_resamples=100, has_pairs=False)


def test_dominance_by_hand():
    gain_T = np.array([3.0, 2.0, 2.0, 1.0, 3.0, 0.0])
    change_T = np.array([0.0, 1.0, 0.5, 2.0, 0.0, 2.0])
    # 2 gains as much as 1 and keeps less; 5 keeps as much as 3 and gains less; 0 and 4 are equal, so neither is beaten.
    assert non_dominated(gain_T, change_T).tolist() == [True, True, False, True, True, False]


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12))
def test_the_front_is_what_no_other_point_dominates(points: list[tuple[float, float]]):
    def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
        return one[0] >= other[0] and one[1] >= other[1] and one != other

    gain_T, change_T = np.array(points).T
    expected = [not any(dominates(other, one) for other in points) for one in points]
    assert non_dominated(gain_T, change_T).tolist() == expected
    assert any(expected), "a finite set has a point that none dominates"


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12), st.randoms())
def test_the_front_does_not_depend_on_order_or_scale(points, random):
    order = list(range(len(points)))
    random.shuffle(order)
    gain_T, change_T = np.array(points).T
    front_T = non_dominated(gain_T, change_T)
    assert (non_dominated(10 * gain_T[order] + 1, change_T[order] / 7) == front_T[order]).all()


def test_every_scored_trial_is_a_point_of_every_measure(evidence):
    table = pareto_front(evidence)
    assert list(table.columns) == COLUMNS
    done = [i for i in evidence.sweep.completeness.done if evidence.sweep.trial_specs[i].tuning.learning_rate > 0]
    assert list(table["measure"].unique()) == ["cosine", "distance"] and set(table["set"]) == {PAIRS}
    for _, part in table.groupby("measure"):
        assert list(part["trial_id"]) == done, "neither the diverged nor the failed trial nor the control"
    assert set(table["tuned_set"]) == {TUNED}


def test_numbers_and_intervals_are_those_of_the_tables(evidence):
    scores, means = evidence.sweep.scores, aggregates(evidence.sweep)
    for row in pareto_front(evidence).to_dict("records"):
        own = scores[(scores["trial_id"] == row["trial_id"]) & (scores["measure"] == row["measure"])]
        of_gain = own[own["set"] == TUNED].iloc[0]
        of_mean = means[(means["trial_id"] == row["trial_id"]) & (means["measure"] == row["measure"])]
        of_mean = of_mean[(of_mean["axis"] == "all") & (of_mean["set"] == PAIRS)].iloc[0]
        for name, source in (("gain", of_gain), ("change", of_mean)):
            for end in ("", "_low", "_high"):
                assert row[f"{name}{end}"] == pytest.approx(source[f"improvement{end}"], abs=1e-12, nan_ok=True)


def test_the_constraint_is_that_nothing_is_degraded(evidence):
    table = pareto_front(evidence)
    trials = evidence.trials
    for row in table.to_dict("records"):
        degraded = trials.loc[row["trial_id"], f"degraded/{row['set']}/{row['relation']}/{row['measure']}"]
        assert row["num_degraded"] == degraded
        gain, p = (trials.loc[row["trial_id"], f"{what}/{HELD_OUT}/{row['measure']}"] for what in ("gain", "p"))
        assert row["nothing_degraded"] == (degraded == 0 and not (gain < 0 and p <= 0.05))
    assert table["nothing_degraded"].nunique() == 2, "both kinds are planted"


def test_a_diverged_trial_is_worse_and_degrades_no_pair(evidence):
    harm = harm_by_trial(evidence, "cosine")
    diverged = harm.loc[list(evidence.sweep.completeness.diverged)]
    assert diverged["is_worse"].all() and (diverged["num_degraded"] == 0).all()


def test_without_pairs_there_is_no_point(tmp_path: Path):
    write_planted(tmp_path, Plan(FALLING, has_pairs=False))
    assert pareto_front(gather(load_sweep(tmp_path), num_resamples=100, has_pairs=False)).empty
