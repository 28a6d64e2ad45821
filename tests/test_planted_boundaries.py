"""A small, fixed version of benchmarks/planted_boundaries.py: docs/boundary.md has the large one and its lessons."""

import math

import pytest

from benchmarks.planted_boundaries import SHAPES, Outcome, study, table

REPEATS = 25


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[str, str], Outcome]:
    """25 repeats of every shape: the texts and seeds are fixed, so the numbers are the same every time."""
    return {(one.shape, one.rule): one for one in study(num_repeats=REPEATS, num_clusters=100)}


# About twice the errors of 200 repeats; a 95% interval covers fewer than 20 of 25 once in 800 times.
@pytest.mark.parametrize("shape, rule, bias, rmse, coverage", [
    ("kink", "onset", 0.02, 0.035, 0.8),
    ("kink", "break-even", 0.02, 0.025, 0.68),  # 87% of 200: the curve is a chord where the plateau ends
    ("kink", "level", 0.01, 0.017, 0.8),
    ("smooth", "break-even", 0.02, 0.055, 0.8),
    ("smooth", "level", 0.02, 0.045, 0.8),
    ("non-monotone", "onset", 0.015, 0.035, 0.8),
    ("non-monotone", "break-even", 0.01, 0.02, 0.8),
    ("non-monotone", "level", 0.01, 0.02, 0.8),
])  # fmt: skip
def test_planted_boundaries_are_found_and_covered(outcomes, shape, rule, bias, rmse, coverage):
    one = outcomes[shape, rule]
    assert one.found == 1 and abs(one.bias) < bias and one.rmse < rmse and one.coverage >= coverage
    assert one.width < 0.35, "an interval that covers everything would pass otherwise"


@pytest.mark.parametrize("shape", ["kink", "smooth", "non-monotone"])
def test_tolerance_keeps_its_promise(outcomes, shape):
    """At most the true level in 97.5% of repeats: 22 of 25 or fewer happen once in 40 times; texts are fixed."""
    assert outcomes[shape, "tolerance"].coverage >= 23 / 25


@pytest.mark.parametrize("rule", ["onset", "break-even", "tolerance", "level"])
def test_no_boundary_is_claimed_where_there_is_none(outcomes, rule):
    assert outcomes["none", rule].found <= 0.12


def test_a_step_between_rates_lies_between_the_rates_named(outcomes):
    """The interval does not know of it, and says so: what does is the pair of rates on either side."""
    for rule in ("break-even", "level"):
        assert outcomes["step", rule].bracketed == 1 and outcomes["step", rule].rmse < 0.15


def test_neither_fit_reads_the_level_better_than_the_curve_itself(outcomes):
    """Why the level is the first crossing: no gain from a monotone or a segmented fit in any shape."""
    for shape in SHAPES:
        plain = outcomes[shape, "level"].rmse
        for fit in ("isotonic", "segmented"):
            other = outcomes[shape, f"level, {fit}"].rmse
            assert math.isnan(other) or plain < 1.35 * other


def test_the_table_has_a_line_for_each(outcomes):
    assert len(table(list(outcomes.values())).splitlines()) == 2 + 5 * 6
