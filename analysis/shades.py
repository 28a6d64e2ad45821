"""Colours of heat maps: a stepped scale that is the same in every report, for light and for dark pages.

Steps, not a gradient, and fixed, not fitted to the data: losses of broken rates are a thousand times the gains of safe
ones, and a linear scale that shows both shows neither. With edges at 1, 2 and 5 in every decade a step is the same
relative difference everywhere, the edge at -1% is the usual level of the boundary, and maps of two rates, relations,
sweeps or reports can be laid side by side. The number stands in the cell, so nothing is lost to the steps.

Diverging: blue is better, orange is worse; the two differ in brightness too, and red-green blindness spares this axis.
Step 0 is nearly the page's own colour, light or dark. Sequential (shares, distances): from the page's colour to purple.
Ink is black or white, whichever has the higher contrast (WCAG 2.2); a test holds it above 4.5.
"""

from __future__ import annotations

import bisect
import math

EDGES_PERCENT = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
"""Of the diverging scale, on either side of 0."""
SEQUENTIAL_EDGES = tuple(float(f"{digit}e{decade}") for decade in range(-7, 1) for digit in (1, 3))[:-1]
"""Of the sequential scale: fractions from 1e-7 to 1, two a decade."""

Colour = tuple[float, float, float]
_LIGHT = {"zero": "#f7f6f3", "better": ("#cfe3f1", "#0b4f86"), "worse": ("#fbe0c8", "#8f3a00")}
_DARK = {"zero": "#1f2328", "better": ("#22384a", "#6cbcf5"), "worse": ("#443021", "#ff9d57")}
_PURPLE = {"light": ("#f1ecf6", "#4b2a7b"), "dark": ("#2a2633", "#c3a6f2")}


def diverging(percent: float) -> str:
    """Class of an improvement in percent: `n9` ... `n1`, `z`, `p1` ... `p9`; empty where there is none."""
    if math.isnan(percent):
        return ""
    step = bisect.bisect_right(EDGES_PERCENT, abs(percent))
    return "z" if step == 0 else f"{'p' if percent > 0 else 'n'}{step}"


def sequential(frac: float) -> str:
    """Class of a share or relative distance: `q0` (nothing) up to `q15`; empty where there is none."""
    if math.isnan(frac):
        return ""
    return f"q{bisect.bisect_right(SEQUENTIAL_EDGES, frac)}"


def diverging_steps() -> list[tuple[str, str]]:
    """(class, label) from worst to best, for the legend."""
    edges = [f"{edge:g}" for edge in EDGES_PERCENT]
    last = len(edges)
    worse = [(f"n{step}", f"-{edges[step - 1]}") for step in range(last, 0, -1)]
    return [*worse, ("z", "0"), *((f"p{step}", f"+{edges[step - 1]}") for step in range(1, last + 1))]


def sequential_steps() -> list[tuple[str, str]]:
    """(class, label) from nothing up, for the legend."""
    return [
        ("q0", "0"),
        *(
            (f"q{step}", f"{edge:.0e}".replace("e-0", "e-").replace("e+00", ""))
            for step, edge in enumerate(SEQUENTIAL_EDGES, start=1)
        ),
    ]


def palette(theme: str) -> dict[str, tuple[str, str]]:
    """Class -> (background, ink), as hexadecimal colours.

    Args:
        theme: light or dark.
    """
    ends = _LIGHT if theme == "light" else _DARK
    colours = {"z": str(ends["zero"])}
    for letter, side in (("p", "better"), ("n", "worse")):
        pale, full = ends[side]
        for step in range(1, len(EDGES_PERCENT) + 1):
            colours[f"{letter}{step}"] = _between(pale, full, (step - 1) / (len(EDGES_PERCENT) - 1))
    pale, full = _PURPLE[theme]
    for step in range(len(SEQUENTIAL_EDGES) + 1):
        colours[f"q{step}"] = _between(pale, full, step / len(SEQUENTIAL_EDGES))
    return {name: (colour, _ink(colour)) for name, colour in colours.items()}


def css(theme: str) -> str:
    """Custom properties of every class, for a rule of the page."""
    return "".join(f"--{name}:{colour};--{name}i:{ink};" for name, (colour, ink) in palette(theme).items())


def class_rules() -> str:
    """One rule a class: background `--b` and ink `--i`, which the style sheet mixes for pale numbers."""
    return "\n".join(f".{name}{{--b:var(--{name});--i:var(--{name}i)}}" for name in palette("light"))


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    high, low = sorted((_luminance(_rgb(one)), _luminance(_rgb(other))), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _ink(colour: str) -> str:
    return max(("#000000", "#ffffff"), key=lambda ink: contrast(colour, ink))


def _between(one: str, other: str, share: float) -> str:
    mixed = (first + share * (second - first) for first, second in zip(_rgb(one), _rgb(other), strict=True))
    return "#" + "".join(f"{round(255 * part):02x}" for part in mixed)


def _rgb(colour: str) -> Colour:
    red, green, blue = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    return red, green, blue


def _luminance(colour: Colour) -> float:
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
