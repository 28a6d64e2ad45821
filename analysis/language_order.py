"""The order of languages in maps and tables: relatives stand together, so that a family that breaks is seen as a block.

Indo-European first, branch by branch from English outwards (Germanic, Romance, Slavic, Greek, Indo-Aryan), for nine of
XNLI's fifteen languages are of it; then the other families by name, and languages that are not listed last. Within a
branch English comes first, then the alphabet.
"""

from __future__ import annotations

from collections.abc import Iterable

from adiabatic_ray.statistics.language_groups import OTHER, language

_BRANCHES = ("Germanic", "Romance", "Slavic", "Greek", "Indo-Aryan")


def in_order(codes: Iterable[str]) -> list[str]:
    """Languages once each, relatives together.

    Args:
        codes: as in the data; empty ones, of triplets, are left out.
    """
    return sorted({code for code in codes if code}, key=_place)


def relatives(code: str) -> str:
    """What a language stands beside: the branch of Indo-European, or the family."""
    found = language(code)
    return found.branch or found.family


def breaks(ordered: list[str]) -> frozenset[int]:
    """Places at which another branch or family begins, the first left out."""
    return frozenset(
        place for place in range(1, len(ordered)) if relatives(ordered[place]) != relatives(ordered[place - 1])
    )


def in_words(ordered: list[str]) -> str:
    """The order with its families, for a caption: `Germanic en de, Romance es fr, ...`."""
    groups: dict[str, list[str]] = {}
    for code in ordered:
        groups.setdefault(relatives(code), []).append(code)
    return ", ".join(" ".join([name, *codes]) for name, codes in groups.items())


def _place(code: str) -> tuple[int, int, str, bool, str]:
    found = language(code)
    if found.branch in _BRANCHES:
        return 0, _BRANCHES.index(found.branch), "", code != "en", code
    return 2 if found.family == OTHER else 1, 0, found.family, False, code
