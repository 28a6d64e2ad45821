"""Where the next trial goes: steps computed by hand, properties, edge cases, planted curves with a known crossing."""

import math
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adiabatic_ray.search.level_process import SQUASH, fit, squash
from adiabatic_ray.search.placement import Observation, Place, Setting, crossing, next_place, opening
from benchmarks.planted_boundaries import SEED_SD, Shape
from benchmarks.trials_needed import CURVES, adaptive, even_grid, planted_trial

SETTING = Setting(1e-8, 1e-6, 0.1, (0, 1, 2))
HOLDS, BROKEN = 0.05, -0.05
"""Margins more than ten seed deviations from the level: their signs are sure."""


def seen(*rows: tuple[float, float], seed: int = 0) -> list[Observation]:
    """Observations of (rate, margin); NaN diverged."""
    return [Observation(rate, seed, margin, math.isnan(margin)) for rate, margin in rows]


def searched(margin_of, setting: Setting = SETTING, most: int = 60) -> list[Observation]:
    """A search one trial at a time, until nothing is left to place."""
    observations: list[Observation] = []
    while len(observations) < most and (place := next_place(observations, [], setting)):
        margin = margin_of(place.rate, place.seed)
        observations.append(Observation(place.rate, place.seed, margin, math.isnan(margin)))
    return observations


# steps by hand


def test_the_opening_is_both_limits_and_middles_at_most_a_decade_apart():
    assert [place.rate for place in opening(SETTING)] == [1e-8, 1e-6, 1e-7]
    wider = [place.rate for place in opening(replace(SETTING, highest_rate=1e-4))]
    assert wider == [1e-8, 1e-4, 1e-6, 1e-7, 1e-5]
    assert {place.seed for place in opening(SETTING)} == {0}


def test_the_first_suggestions_are_the_opening():
    running: list[Place] = []
    for expected in opening(SETTING):
        place = next_place([], running, SETTING)
        assert place is not None and (place.rate, place.seed) == (expected.rate, expected.seed)
        running.append(place)


def test_bisection_halves_the_gap_between_holding_and_broken():
    """From -7 to -6: -6.5, -6.75, -6.625; then 0.125 decades are left, less than twice the width of 0.1: straddle."""
    observations = seen((1e-8, HOLDS), (3.16e-8, HOLDS), (1e-7, HOLDS), (1e-6, BROKEN))
    steps = []
    for margin in (BROKEN, HOLDS, HOLDS):
        place = next_place(observations, [], SETTING)
        assert place is not None and place.reason.startswith("bisection: between")
        steps.append(place.rate)
        observations += seen((place.rate, margin))
    assert steps == [3.16e-7, 1.78e-7, 2.37e-7]
    found = crossing(observations, SETTING)
    assert (found.low, found.high, found.phase) == (2.37e-7, 3.16e-7, "straddle")
    assert found.width_decades == pytest.approx(math.log10(3.16 / 2.37))


def test_a_wide_gap_below_the_boundary_is_looked_into_first():
    """1e-8 and 1e-7 both hold a decade apart: a dip could hide at their middle."""
    place = next_place(seen((1e-8, HOLDS), (1e-7, HOLDS), (1e-6, BROKEN)), [], SETTING)
    assert place is not None and (place.rate, place.seed) == (3.16e-8, 0)
    assert "dip" in place.reason


def test_an_unsure_sign_gets_the_next_seed():
    observations = seen((1e-8, HOLDS), (3.16e-8, HOLDS), (1e-7, HOLDS), (1e-6, BROKEN), (3.16e-7, 0.001))
    place = next_place(observations, [], SETTING)
    assert place is not None and (place.rate, place.seed) == (3.16e-7, 1)
    assert "not sure" in place.reason
    beside = next_place(observations, [place], SETTING)
    assert beside is not None and beside.rate != place.rate


def test_two_seeds_that_disagree_get_a_third():
    observations = seen((1e-8, HOLDS), (3.16e-8, HOLDS), (1e-7, HOLDS), (1e-6, BROKEN), (3.16e-7, 0.006))
    observations += seen((3.16e-7, -0.006), seed=1)
    place = next_place(observations, [], SETTING)
    assert place is not None and (place.rate, place.seed) == (3.16e-7, 2)


def test_squashing_keeps_sign_and_order_and_what_diverged_at_the_bound():
    margins = np.array([-math.inf, -0.3, -0.02, 0.0, 0.001, 0.5])
    assert squash(margins)[0] == -SQUASH
    assert (np.diff(squash(margins)) > 0).all()
    assert squash(np.array([0.001]))[0] == pytest.approx(0.001, rel=0.001)


def test_the_process_agrees_with_the_normal_model_of_one_rate():
    """Three seeds at one rate, each pair of hyperparameters: mean and variance of a normal mean with a normal prior."""
    process = fit(np.full(3, -7.0), np.array([0.004, 0.006, 0.008]))
    noise_G, weight_G = process.noise_sds_G**2, process.weights_G
    mean_G = 0.018 / (3 + noise_G / SQUASH**2)
    variance_G = 1 / (1 / SQUASH**2 + 3 / noise_G)
    expected = float(weight_G @ mean_G)
    mean, sd = process.at(np.array([-7.0]))
    assert mean[0] == pytest.approx(expected)
    assert sd[0] ** 2 == pytest.approx(float(weight_G @ (variance_G + mean_G**2)) - expected**2)


def test_what_is_running_narrows_the_deviation_and_leaves_the_mean():
    process = fit(np.array([-8.0, -6.0]), np.array([SQUASH, -SQUASH]))
    asked = np.linspace(-8, -6, 9)
    mean, sd = process.at(asked)
    same, narrower = process.at(asked, np.array([-7.0]))
    assert same == pytest.approx(mean)
    assert (narrower <= sd + 1e-12).all() and narrower[4] < 0.5 * sd[4]


# properties

RATES = st.sampled_from([1e-9, 5e-9, 1e-8, 1.2345678e-8, 2e-8, 5e-8, 1e-7, 1.05e-7, 2e-7, 5e-7, 1e-6, 3e-6, 1e-4])
MARGINS = st.one_of(st.floats(-0.03, 0.03), st.sampled_from([0.0, -0.3, 0.5, math.nan]))
OBSERVATIONS = st.lists(
    st.builds(
        lambda rate, seed, margin: Observation(rate, seed, margin, math.isnan(margin)),
        RATES,
        st.integers(0, 3),
        MARGINS,
    ),
    max_size=14,
)
RUNNING = st.lists(st.builds(Place, RATES, st.integers(0, 3), st.just("under way")), max_size=8)
SETTINGS = st.builds(
    Setting,
    st.sampled_from([1e-8, 1.2345e-8]),
    st.sampled_from([1e-6, 1.5e-8, 9.8765e-7]),
    st.sampled_from([1e-5, 0.05, 0.3]),
    st.sampled_from([(0,), (0, 1, 2), (7, 3)]),
)


@settings(max_examples=80)
@given(OBSERVATIONS, RUNNING, SETTINGS)
def test_a_suggestion_is_within_the_limits_and_new(observations, running, setting):
    place = next_place(observations, running, setting)
    taken = {(one.rate, one.seed) for one in [*observations, *running]}
    if place is not None:
        assert setting.lowest_rate <= place.rate <= setting.highest_rate
        assert place.rate == float(f"{place.rate:.2e}")
        assert place.seed in setting.seeds and (place.rate, place.seed) not in taken
        assert place.reason
    else:
        assert crossing(observations, setting).is_narrow(setting)


@settings(max_examples=40)
@given(OBSERVATIONS, RUNNING, st.randoms(use_true_random=False))
def test_the_order_of_what_is_known_and_running_does_not_matter(observations, running, random):
    shuffled, others = random.sample(observations, len(observations)), random.sample(running, len(running))
    assert crossing(shuffled, SETTING) == crossing(observations, SETTING)
    assert next_place(shuffled, others, SETTING) == next_place(observations, running, SETTING)
    assert next_place(observations + observations, running, SETTING) == next_place(observations, running, SETTING)


@settings(max_examples=80)
@given(OBSERVATIONS, SETTINGS)
def test_an_interval_ends_at_rates_that_were_tried_or_outside_the_limits(observations, setting):
    found = crossing(observations, setting)
    ends = {one.rate for one in observations if setting.lowest_rate <= one.rate <= setting.highest_rate} | {0, math.inf}
    assert {found.low, found.high} <= ends
    assert found.low <= found.estimate <= found.high
    assert found.width_decades >= 0


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from(sorted(CURVES)))
def test_a_search_goes_on_from_what_is_known(repeat, shape):
    """Stopped after any number of trials and asked again, it suggests what it would have suggested."""
    rng = np.random.default_rng(repeat)
    noise = {}

    def margin_of(rate: float, seed: int) -> float:
        key = (rate, seed)
        noise.setdefault(key, planted_trial(CURVES[shape], rate, seed, rng).margin)
        return noise[key]

    whole = searched(margin_of, most=12)
    begun = whole[: len(whole) // 2]
    place = next_place(begun[::-1], [], SETTING)
    assert place is not None and (place.rate, place.seed) == (whole[len(begun)].rate, whole[len(begun)].seed)


# edges


def test_nothing_known():
    found = crossing([], SETTING)
    assert (found.low, found.high, found.phase) == (0, math.inf, "bracket")
    assert found.estimate == pytest.approx(1e-7) and math.isinf(found.width_decades) and not found.is_narrow(SETTING)


def test_nothing_below_the_level_ends_above_with_no_wide_gap_left():
    observations = searched(lambda rate, seed: HOLDS)
    found = crossing(observations, SETTING)
    assert (found.estimate, found.low, found.high) == (math.inf, math.inf, math.inf)
    assert found.width_decades == 0 and found.is_narrow(SETTING)
    gaps = np.diff(np.log10(sorted({one.rate for one in observations})))
    assert gaps.max() < 0.26 and len(observations) == 9  # two decades in halves, quarters, eighths


def test_the_highest_rate_gets_seeds_until_it_is_sure():
    rates = [1e-8, 1.78e-8, 3.16e-8, 5.62e-8, 1e-7, 1.78e-7, 3.16e-7, 5.62e-7]
    observations = [*seen(*((rate, HOLDS) for rate in rates)), *seen((1e-6, 0.002))]
    place = next_place(observations, [], SETTING)
    assert place is not None and (place.rate, place.seed) == (1e-6, 1)
    assert crossing(observations, SETTING).high == math.inf
    observations += seen((1e-6, 0.02), seed=1) + seen((1e-6, 0.025), seed=2)
    assert crossing(observations, SETTING).low == math.inf
    assert next_place(observations, [], SETTING) is None


def test_all_below_the_level_ends_below():
    observations = searched(lambda rate, seed: BROKEN)
    found = crossing(observations, SETTING)
    assert (found.estimate, found.low, found.high, found.width_decades) == (0, 0, 0, 0)
    assert found.is_narrow(SETTING) and [one.rate for one in observations] == [1e-8]


def test_only_diverged_is_all_below():
    found = crossing(seen((1e-8, math.nan), (1e-7, math.nan)), SETTING)
    assert (found.estimate, found.high) == (0, 0)
    above = crossing(seen((1e-7, math.nan)), SETTING)
    assert (above.low, above.high, above.phase) == (0, 1e-7, "bracket")


def test_a_rate_where_one_seed_diverged_is_broken():
    observations = seen((1e-8, HOLDS), (1e-7, HOLDS), (1.2e-7, math.nan), (1e-6, math.nan))
    observations += seen((1.2e-7, HOLDS), (1e-7, HOLDS), seed=1)
    found = crossing(observations, SETTING)
    assert (found.low, found.high) == (1e-7, 1.2e-7)
    assert found.estimate == pytest.approx(math.sqrt(1e-7 * 1.2e-7))


def test_the_first_fall_counts_where_the_curve_comes_back():
    rows = [(1e-8, HOLDS), (3e-8, HOLDS), (6e-8, HOLDS), (7e-8, BROKEN), (2e-7, HOLDS), (5e-7, HOLDS), (1e-6, HOLDS)]
    found = crossing(seen(*rows), SETTING)
    assert (found.low, found.high) == (6e-8, 7e-8) and found.is_narrow(SETTING)


def test_a_trial_that_is_run_again_is_no_further_seed():
    once = seen((1e-8, HOLDS), (1e-7, 0.003), (1e-6, BROKEN))
    assert crossing(once * 5, SETTING) == crossing(once, SETTING)
    same_mean = seen((1e-8, HOLDS), (1e-7, 0.002), (1e-7, 0.004), (1e-6, BROKEN))
    assert crossing(same_mean, SETTING) == crossing(once, SETTING)


def test_rates_outside_the_limits_count_and_map_to_the_marks():
    below = crossing(seen((1e-9, HOLDS), (1e-8, BROKEN), (1e-6, BROKEN)), SETTING)
    assert (below.estimate, below.low, below.high) == (0, 0, 0)
    above = crossing(seen((1e-8, HOLDS), (1e-7, HOLDS), (1e-6, HOLDS), (1e-5, BROKEN)), SETTING)
    assert (above.estimate, above.low, above.high) == (math.inf, math.inf, math.inf)


def test_one_seed_only_goes_on_with_rates_side_by_side():
    setting = replace(SETTING, seeds=(4,))
    rng = np.random.default_rng(0)
    observations = searched(lambda rate, seed: planted_trial(CURVES["smooth"], rate, seed, rng).margin, setting, 80)
    assert crossing(observations, setting).is_narrow(setting)
    assert len({one.rate for one in observations}) == len(observations)


def test_a_width_below_the_three_digits_ends_when_every_rate_has_every_seed():
    setting = Setting(1e-7, 1.05e-7, 1e-6, (0, 1))
    observations = searched(lambda rate, seed: HOLDS if rate < 1.025e-7 else BROKEN, setting)
    assert not crossing(observations, setting).is_narrow(setting)
    assert next_place(observations, [], setting) is None
    assert {1.02e-7, 1.03e-7} <= {one.rate for one in observations}


def test_a_huge_number_running_differ_and_end():
    setting = Setting(1e-8, 1.3e-8, 0.1, (0, 1))
    running: list[Place] = []
    while (place := next_place([], running, setting)) is not None:
        running.append(place)
    assert len(set(running)) == len(running) == 2 * 31  # 1.00e-8, 1.01e-8 ... 1.30e-8, two seeds each


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Observation(0.0, 0, 0.1, False), "above 0"),
        (lambda: Observation(1e-7, 0, math.nan, False), "diverged=True"),
        (lambda: Setting(1e-6, 1e-8, 0.1, (0,)), "wider apart"),
        (lambda: Setting(1.001e-7, 1.004e-7, 0.1, (0,)), "wider apart"),
        (lambda: Setting(1e-8, 1e-6, 0.0, (0,)), "width"),
        (lambda: Setting(1e-8, 1e-6, 0.1, ()), "seeds"),
        (lambda: Setting(1e-8, 1e-6, 0.1, (1, 1)), "seeds"),
    ],
)
def test_what_makes_no_sense_is_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# planted curves


def test_intervals_of_searches_cover_and_estimates_are_near():
    """15 searches of three shapes each: 95% are promised; fewer than 39 of 45 would be chance in 1 of 100 cases."""
    covered = []
    for shape in ("kink", "smooth", "step"):
        searches = [adaptive(CURVES[shape], repeat, 0.15, parallel=1) for repeat in range(15)]
        assert all(math.isfinite(one.trials) for one in searches)
        truth = 10 ** CURVES[shape].level
        covered += [one.crossing.low <= truth <= one.crossing.high for one in searches]
        errors = [math.log10(one.crossing.estimate / truth) for one in searches]
        assert math.sqrt(np.mean(np.square(errors))) < 0.15 / 2
    assert sum(covered) >= 39


def test_noise_that_grows_with_the_fall_does_no_harm():
    def margin_of(rate: float, seed: int) -> float:
        margin = float(CURVES["kink"].curve(np.array([math.log10(rate)]))[0]) + 0.01
        return margin + (SEED_SD + 0.2 * max(0.0, -margin)) * float(rng.standard_normal())

    for repeat in range(5):
        rng = np.random.default_rng([repeat, 9])
        found = crossing(searched(margin_of), SETTING)
        assert found.low <= 1e-7 <= found.high and found.is_narrow(SETTING)


@pytest.mark.parametrize("shape", ["kink", "step"])
def test_half_the_trials_of_an_even_grid(shape):
    """An even grid with twice the trials of the search is not enough, in most repeats, whatever its number of seeds."""
    trials = [adaptive(CURVES[shape], repeat, 0.05, parallel=1).trials for repeat in range(7)]
    for num_seeds in (1, 2, 3):
        size = int(2 * np.median(trials)) // num_seeds
        grids = [even_grid(CURVES[shape], repeat, 0.05, size=size, num_seeds=num_seeds) for repeat in range(7)]
        assert sum(math.isfinite(one.trials) for one in grids) < 4


def test_a_curve_that_never_falls_is_found_to_hold():
    for repeat in range(3):
        found = adaptive(CURVES["none"], repeat, 0.1, parallel=4)
        assert found.crossing.low == math.inf and math.isfinite(found.trials)


def test_a_dip_of_half_a_decade_is_found_where_both_limits_hold():
    dip = Shape(lambda x: np.where((x > -7.2) & (x < -6.7), -0.05, 0.02), math.nan, math.nan, -7.2)
    for repeat in range(3):
        found = adaptive(dip, repeat, 0.1, parallel=1).crossing
        assert found.low <= 10**-7.2 <= found.high


def test_a_suggestion_takes_less_than_50_ms_with_60_observations():
    rng = np.random.default_rng(0)
    rates = np.geomspace(1e-8, 1e-6, 20)
    known = [planted_trial(CURVES["smooth"], float(rate), seed, rng) for rate in rates for seed in (0, 1, 2)]
    setting = replace(SETTING, width_decades=0.01)
    seconds = []
    for _ in range(5):
        start = time.process_time()  # of this process: others on the machine do not count
        assert next_place(known, [], setting) is not None
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.05
