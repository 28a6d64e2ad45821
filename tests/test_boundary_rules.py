"""The five criteria on curves made by hand, and what must hold for any curve."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares

from analysis.curves import Criterion
from analysis.resample import MeanCurve, resample_curve
from analysis.rules import Rule, cross, neighbours, of_each_seed, window
from analysis.segmented import fit_hinges

LOG_RATES = np.linspace(-8, -6, 11)
NO_KNOT = np.array([0.5])


def a_curve(means, *, sd=1e-4, log_rates=None, num_seeds=1, by_seed=None):
    """A curve with independent normal noise at each rate, and 400 replicates."""
    mean_R = np.array(means, dtype=float)
    log_R = LOG_RATES[: len(mean_R)] if log_rates is None else np.array(log_rates, dtype=float)
    noise_BR = sd * np.random.default_rng(0).standard_normal((400, len(mean_R)))
    seeds_R = np.full(len(mean_R), num_seeds)
    rest = 0, len(mean_R), 0, 0, 0, 9, 40, 0
    curve = MeanCurve("", Criterion("s", "r", "cosine"), 10**log_R, mean_R, mean_R + noise_BR, seeds_R, *rest)
    return dataclasses.replace(curve, by_seed=by_seed or {})


KINKED = 0.02 - 0.3 * np.maximum(0, LOG_RATES + 7.1)


def test_the_criteria_of_a_kinked_curve_are_found_in_their_order():
    curve = a_curve(KINKED)
    found = {rule: cross(rule, curve).estimate for rule in Rule if rule is not Rule.PAIRS}
    assert found[Rule.ONSET] == pytest.approx(-7.1, abs=0.013), "the grid of knots"
    # Straight between -7.2 (.02) and -7.0 (-.01): the chord, not the kink, is what can be seen there.
    assert found[Rule.BREAK_EVEN] == pytest.approx(-7.2 + 0.2 * 0.02 / 0.03)
    assert found[Rule.LEVEL] == pytest.approx(-7.0)
    # 1.96 standard errors of 0.01% on a slope of 15% a decade: 0.0013 decades.
    assert found[Rule.TOLERANCE] == pytest.approx(-7.0013, abs=0.0003)


def test_break_even_is_read_beyond_the_highest_point():
    curve = a_curve([-0.001, 0.001, -0.001, 0.03, 0.01, -0.01, -0.03], sd=1e-5)
    assert cross(Rule.BREAK_EVEN, curve).estimate == pytest.approx(-7.1)
    assert cross(Rule.LEVEL, curve).estimate == pytest.approx(LOG_RATES[5])
    never = cross(Rule.BREAK_EVEN, a_curve([-0.01, -0.002, -0.02], sd=1e-5))
    assert never.estimate == -np.inf and never.reason == "never above zero"


def test_tolerance_falls_with_the_noise_and_level_stays():
    quiet, noisy = (a_curve(KINKED, sd=sd) for sd in (1e-4, 5e-3))
    assert cross(Rule.TOLERANCE, noisy).estimate < cross(Rule.TOLERANCE, quiet).estimate - 0.04
    assert cross(Rule.LEVEL, noisy).estimate == cross(Rule.LEVEL, quiet).estimate


@pytest.mark.parametrize("means, estimate, words", [
    (np.full(11, 0.02), np.inf, "no bend downwards"),
    (0.01 - 0.1 * (LOG_RATES + 8), -np.inf, "falls from the lowest rate on"),
    ([0.02, 0.02, -0.1], np.nan, "takes 4 rates that did not diverge, got 3"),
    ([0.02, 0.02, 0.02, 0.02, -np.inf], (LOG_RATES[3] + LOG_RATES[4]) / 2, "the next rate diverged"),
    (0.02 + 0.1 * np.minimum(0, LOG_RATES + 7), np.inf, "no bend"),
])  # fmt: skip
def test_an_onset_is_not_claimed_where_there_is_none(means, estimate, words):
    noise = 2e-4 * np.random.default_rng(1).standard_normal(len(means))
    found = cross(Rule.ONSET, a_curve(np.array(means) + noise, sd=2e-4))
    assert found.estimate == pytest.approx(estimate, nan_ok=True) and words in found.reason


def test_noise_alone_makes_an_onset_in_about_one_curve_of_twenty():
    rng = np.random.default_rng(2)
    claimed = [
        np.isfinite(cross(Rule.ONSET, a_curve(0.02 + 1e-3 * rng.standard_normal(11), sd=1e-3)).estimate)
        for _ in range(100)
    ]
    assert sum(claimed) <= 11, "of 100 at 5%: more than 11 happen once in 230 times"


def test_the_window_of_the_onset_ends_with_the_second_rate_in_the_fall():
    assert window(np.array([0.0, 0.02, 0.01, -0.02, -0.2, -3, -9])) == 5
    assert window(np.array([0.0, 0.02, 0.01, -np.inf, -0.2])) == 3
    assert window(np.array([0.0, 0.02, 0.01])) == 3 and window(np.array([-np.inf, 0.1])) == 0


def test_segmented_agrees_with_a_general_optimizer():
    """scipy's least squares on the model itself, knot and all, from a start on either side; knots within our grid."""
    rng = np.random.default_rng(4)
    log_R = np.linspace(-8, -6.4, 17)
    for _ in range(5):
        values_R = 0.1 + 0.01 * log_R - 0.3 * np.maximum(0, log_R + 7.1) + 1e-3 * rng.standard_normal(17)

        def misfit(p, values_R=values_R):
            return p[0] + p[1] * log_R + p[2] * np.maximum(0, log_R - p[3]) - values_R

        fits = [least_squares(misfit, [0.1, 0, -0.1, start], x_scale=[0.1, 0.01, 0.1, 0.1]) for start in (-7.4, -6.9)]
        theirs = min(fits, key=lambda fit: fit.cost)
        ours = fit_hinges(log_R, values_R[None], NO_KNOT)
        assert ours.knot_B[0] == pytest.approx(theirs.x[3], abs=0.1 / 16)
        line = np.polyfit(log_R, values_R, 1)
        gain = ((np.polyval(line, log_R) - values_R) ** 2).sum() - 2 * theirs.cost
        assert ours.gain_B[0] == pytest.approx(gain, rel=1e-3) and ours.line_slope_B[0] == pytest.approx(line[0])


def test_segmented_refuses_what_it_cannot_fit():
    with pytest.raises(ValueError, match="4 or more rates, got 3"):
        fit_hinges(np.arange(3.0), np.zeros((1, 3)), NO_KNOT)
    with pytest.raises(ValueError, match="finite values"):
        fit_hinges(np.arange(4.0), np.array([[0, 0, 0, -np.inf]]), NO_KNOT)


@given(st.floats(0.1, 10), st.floats(-0.5, 0.5), st.floats(-1, 1))
def test_a_knot_does_not_depend_on_the_units(scale, slope, shift):
    curve = KINKED + 1e-3 * np.sin(9 * LOG_RATES)
    first = fit_hinges(LOG_RATES, curve[None], NO_KNOT)
    moved = fit_hinges(LOG_RATES + shift, scale * (curve[None] + 0.3), NO_KNOT)
    assert moved.knot_B == pytest.approx(first.knot_B + shift)
    assert moved.gain_B == pytest.approx(scale**2 * first.gain_B)


@given(st.permutations(range(12)), st.sampled_from([rule for rule in Rule if rule is not Rule.PAIRS]))
def test_the_order_of_trials_does_not_matter(order, rule):
    rng = np.random.default_rng(5)
    rates_T = np.repeat(10.0 ** np.arange(-10, -4), 2)
    improvement_T = np.repeat([0.02, 0.02, 0.02, 0.01, -0.05, -0.2], 2) + 0.003 * rng.standard_normal(12)
    influence_TC = 1e-3 * rng.standard_normal((12, 30))

    def found(chosen):
        options = {"num_resamples": 100, "seed": 0}
        resampled = resample_curve(rates_T[chosen], improvement_T[chosen], influence_TC[chosen], **options)
        return cross(rule, MeanCurve("", Criterion("s", "r", "cosine"), *resampled, 0, 12, 0, 0, 0, 9, 30, 0))

    plain, shuffled = found(list(range(12))), found(list(order))
    assert shuffled.estimate == pytest.approx(plain.estimate)
    assert shuffled.replicates_B == pytest.approx(plain.replicates_B)


@given(st.floats(1e-3, 1e3), st.sampled_from([rule for rule in Rule if rule is not Rule.PAIRS]))
def test_rates_in_other_units_move_every_boundary_alike(factor, rule):
    curve = a_curve(KINKED, sd=1e-3)
    moved = dataclasses.replace(curve, rates_R=curve.rates_R * factor)
    assert cross(rule, moved).estimate == pytest.approx(cross(rule, curve).estimate + np.log10(factor))


@given(st.lists(st.floats(-0.05, 0.05), min_size=4, max_size=11), st.floats(0, 0.02))
def test_a_higher_curve_never_breaks_earlier(means, lift):
    low, high = a_curve(means), a_curve(np.array(means) + lift)
    for rule in (Rule.LEVEL, Rule.TOLERANCE):
        assert cross(rule, high).estimate >= cross(rule, low).estimate - 1e-9
    assert cross(Rule.TOLERANCE, low).estimate <= cross(Rule.LEVEL, low).estimate + 1e-9


def test_each_seed_has_a_crossing_of_its_own():
    rates = 10.0 ** np.array([-8, -7, -6])
    seeds = {0: (rates, np.array([0.01, 0.01, -0.03])), 1: (rates, np.array([0.01, -0.03, -0.03]))}
    curve = a_curve([0.01, -0.01, -0.03], log_rates=[-8, -7, -6], num_seeds=2, by_seed=seeds)
    assert of_each_seed(Rule.LEVEL, curve) == pytest.approx({0: -6.5, 1: -7.5})
    assert of_each_seed(Rule.BREAK_EVEN, curve) == pytest.approx({0: -6.75, 1: -7.75})
    assert of_each_seed(Rule.TOLERANCE, curve) == {}


def test_neighbours_are_the_rates_on_either_side():
    rates = np.array([1e-8, 1e-7, 1e-6])
    assert neighbours(-7.5, rates) == (1e-8, 1e-7) and neighbours(-6.0, rates) == (1e-7, 1e-6)
    assert np.isnan(neighbours(np.inf, rates)).all()
