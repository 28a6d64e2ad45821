"""Steps and colours of the maps; the canvas of the charts; the order of languages."""

from __future__ import annotations

import math

import pytest

from adiabatic_ray.sources import XNLI_LANGUAGES
from analysis import report_languages
from analysis.charts import Chart, Mark, Series, draw
from analysis.language_order import breaks, in_order, in_words
from analysis.shades import contrast, css, diverging, diverging_steps, palette, sequential, sequential_steps


@pytest.mark.parametrize("percent, name", [
    (0.0, "z"), (0.0999, "z"), (-0.0999, "z"), (0.1, "p1"), (-0.1, "n1"), (-0.99, "n3"), (-1.0, "n4"), (1.5, "p4"),
    (-49.9, "n8"), (-5000.0, "n9"), (80.0, "p9"), (math.nan, ""),
])  # fmt: skip
def test_steps_of_the_diverging_scale(percent, name):
    assert diverging(percent) == name


@pytest.mark.parametrize("frac, name", [
    (0.0, "q0"), (1e-7, "q1"), (2.9e-7, "q1"), (0.1, "q13"), (0.5, "q14"), (math.nan, ""),
])  # fmt: skip
def test_steps_of_the_sequential_scale(frac, name):
    assert sequential(frac) == name


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_numbers_can_be_read_on_every_step(theme):
    colours = palette(theme)
    assert {name for name, _ in (*diverging_steps(), *sequential_steps())} == colours.keys()
    for name, (background, ink) in colours.items():
        assert contrast(background, ink) >= 4.5, name
        assert f"--{name}:{background};" in css(theme)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_better_and_worse_differ_for_the_colour_blind(theme):
    """Deuteranopes see (Vienot, 1999) red and green as one; blue against the rest is left."""
    colours = palette(theme)

    def yellow_blue(colour: str) -> float:
        red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
        return blue - (0.29 * red + 0.71 * green)

    for step in range(1, 10):
        assert yellow_blue(colours[f"p{step}"][0]) > yellow_blue(colours["z"][0]) > yellow_blue(colours[f"n{step}"][0])


def test_contrast_is_that_of_wcag():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_relatives_stand_together():
    ordered = in_order([*XNLI_LANGUAGES, "xx", "", "en"])
    assert " ".join(ordered) == "en de es fr bg ru el hi ur ar sw vi zh th tr xx"
    assert breaks(ordered) == {2, 4, 6, 7, 9, 10, 11, 12, 13, 14, 15}
    assert in_words(["en", "de", "tr"]) == "Germanic en de, Turkic tr"


@pytest.mark.parametrize("percent, text", [
    (0.0, "0"), (0.004, "0"), (-0.04, "-.04"), (0.09, ".09"), (0.12, "0.1"), (-1.26, "-1.3"), (-9.96, "-10"),
    (-123.4, "-123"),
])  # fmt: skip
def test_numbers_of_a_map_are_short(percent, text):
    assert report_languages._brief(percent) == text


def chart(values: list[float]) -> str:
    rates = [1e-8, 1e-7, 1e-6]
    marks = [Mark(rate, value, f"at {rate}") for rate, value in zip(rates, values, strict=True)]
    line = list(zip(rates, values, strict=True))
    return str(draw(Chart("label", rates, "y", [Series("a", "c0", marks, line)], is_percent=True)))


def test_points_lie_on_a_log_axis():
    drawn = chart([0.0, 1.0, 2.0])
    places = [float(part.split(",")[0]) for part in drawn.split('class="mark c0" d="M')[1:]]
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], abs=0.2)


def test_a_broken_rate_interrupts_the_line_and_has_no_mark():
    drawn = chart([0.0, math.nan, 2.0])
    assert drawn.count('class="mark') == 2
    line = drawn.split('class="line c0 solid" d="')[1].split('"')[0]
    assert line.count("M") == 2 and "L" not in line


def test_an_axis_bends_where_broken_rates_would_flatten_the_rest():
    assert ">-100<" in chart([1.0, 0.0, -150.0]) and ">+1<" in chart([1.0, 0.0, -150.0])
    assert ">+1<" in chart([1.0, 0.0, -2.0])
