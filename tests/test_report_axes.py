"""Axes of percentages: labels never touch, order is kept, 0 stays labelled however far the rest lies."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.axes import Axis, spaced
from analysis.interval import Interval
from analysis.range_chart import Range, draw_ranges

VALUES = st.lists(st.floats(-2000, 2000), min_size=1, max_size=8)


@given(VALUES)
def test_labels_keep_their_distance_and_zero_is_one_of_them(values):
    axis = Axis(values, (276.0, 12.0))
    places = [axis.place(label) for label in axis.labels(17.0)]
    assert all(first - second >= 17.0 for first, second in itertools.pairwise(places))
    assert 0.0 in axis.labels(17.0)
    assert all(12.0 <= axis.place(value) <= 276.0 for value in values)


@given(VALUES, st.floats(-2000, 2000), st.floats(-2000, 2000))
def test_a_higher_value_lies_no_lower(values, one, other):
    axis = Axis(values, (0.0, 100.0))
    assert (axis.place(one) <= axis.place(other)) == (one <= other) or axis.place(one) == axis.place(other)


def test_an_axis_is_straight_until_something_lies_beyond_25_percent():
    straight, bent = Axis([-20.0], (0.0, 100.0)), Axis([-30.0], (0.0, 100.0))
    assert not straight.is_bent and bent.is_bent
    assert straight.place(-10.0) == pytest.approx((straight.place(-20.0) + straight.place(0.0)) / 2)
    assert bent.place(-10.0) < (bent.place(-20.0) + bent.place(0.0)) / 2, "small values get more room"


def test_what_comes_first_is_kept():
    assert spaced([0.0, 5.0, 1.0, 12.0, 6.0], float, 5.0) == [0.0, 5.0, 12.0]


def test_a_boundary_without_an_interval_is_a_dot_and_short_labels_save_room():
    known = Interval(1e-7, float("nan"), float("nan"), "none", "none", "none")
    drawn = [draw_ranges([Range(label, "tip", known, [1e-8, 1e-6])], "chart") for label in ("sw", "a long label")]
    assert all(one.count("<title>tip</title>") == 1 and "interval" not in one for one in drawn)
    heights = [float(one.split('viewBox="0 0 480 ')[1].split('"')[0]) for one in drawn]
    assert heights[0] < heights[1]
