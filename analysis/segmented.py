"""Where a curve leaves its plateau: two straight lines that meet, fitted by least squares to many curves at once.

The model (Muggeo 2003, Statistics in Medicine 22:3055-3071) in x = log10 of the rate:

    y = a + b x + c max(0, x - knot),   c < 0: it bends down.

It counts as a knot only if b + c < 0, so that the curve goes down from there: what rises to a plateau bends down too.
The knot is searched on a grid between the second rate and the last, the rest is linear and exact for each knot, so the
fit can't stop at a local minimum as Muggeo's iteration can. A knot needs two rates to its left. With a single rate to
its right every knot between that rate and the one before fits alike: the place in that range is then given.

Legend: B curves, R rates, N knots.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

KNOTS_PER_INTERVAL = 16
"""Grid between two neighbouring rates; a tenth of a decade is resolved to 0.006."""
LEAST_RATES = 4
"""A line takes two rates, a knot and another slope one each."""
_ROUNDING_FRAC = 1e-9


@dataclass(frozen=True)
class Hinges:
    """Best fit of each curve."""

    knot_B: Floats
    """log10 of the rate; inf: the curve does not bend down, or does not go down from there."""
    gain_B: Floats
    """Fall of the sum of squares against a straight line; 0 without a knot."""
    line_slope_B: Floats
    """Slope of the straight line, per decade."""


def fit_hinges(log_rates_R: Floats, values_BR: Floats, place_B: Floats) -> Hinges:
    """Fit every curve.

    Args:
        log_rates_R: log10 of the rates, going up; 4 or more.
        values_BR: finite.
        place_B: 0 to 1, where in a range of knots that fit alike.

    Raises:
        ValueError: fewer than 4 rates, or a value that is not finite.
    """
    if len(log_rates_R) < LEAST_RATES or not np.isfinite(values_BR).all():
        raise ValueError(
            f"a segmented fit needs finite values at {LEAST_RATES} or more rates, got {len(log_rates_R)} rates"
        )
    centred_R = log_rates_R - log_rates_R.mean()
    level_B1 = values_BR.mean(axis=1, keepdims=True)
    rest_BR = values_BR - level_B1
    slope_B = rest_BR @ centred_R / (centred_R @ centred_R)
    rest_BR = rest_BR - slope_B[:, None] * centred_R
    line_rss_B = np.einsum("br,br->b", rest_BR, rest_BR)
    knots_N = _knots(log_rates_R)
    # The hinge without what the line explains of it: then one inner product gives its coefficient.
    hinge_NR = np.maximum(0, log_rates_R - knots_N[:, None])
    own_slope_N = hinge_NR @ centred_R / (centred_R @ centred_R)
    bare_NR = hinge_NR - hinge_NR.mean(axis=1, keepdims=True) - own_slope_N[:, None] * centred_R
    squares_N = np.einsum("nr,nr->n", bare_NR, bare_NR)
    product_BN = rest_BR @ bare_NR.T
    bend_BN = product_BN / squares_N
    gain_BN = product_BN * bend_BN
    gain_BN[bend_BN >= 0] = 0
    gain_B = gain_BN.max(axis=1)
    best_BN = (gain_BN >= gain_B[:, None] * (1 - _ROUNDING_FRAC)) & (gain_BN > 0)
    first_B, last_B = best_BN.argmax(axis=1), len(knots_N) - 1 - best_BN[:, ::-1].argmax(axis=1)
    knot_B = knots_N[first_B] + place_B * (knots_N[last_B] - knots_N[first_B])
    right_slope_B = slope_B + bend_BN[np.arange(len(values_BR)), first_B] * (1 - own_slope_N[first_B])
    is_more_than_rounding_B = gain_B > _ROUNDING_FRAC * (line_rss_B + (level_B1[:, 0] * _ROUNDING_FRAC) ** 2)
    has_knot_B = is_more_than_rounding_B & (right_slope_B < 0)
    return Hinges(np.where(has_knot_B, knot_B, np.inf), np.where(has_knot_B, gain_B, 0.0), slope_B)


def _knots(log_rates_R: Floats) -> Floats:
    steps = np.linspace(0, 1, KNOTS_PER_INTERVAL, endpoint=False)
    starts, widths = log_rates_R[1:-1], np.diff(log_rates_R)[1:]
    knots_N: Floats = (starts[:, None] + steps * widths[:, None]).ravel()
    return knots_N
