"""Groups of language pairs that a mean over 225 pairs is broken down by: same language or not, script, family.

Scripts: the likely subtags of Unicode CLDR, by ISO 15924 code (a test reads them from babel 2.18). XNLI's Chinese is in
simplified characters, Hans, which is also what CLDR gives for `zh`.

Families: the top level of Glottolog 5 (https://glottolog.org), by its names: Swahili is Atlantic-Congo, not the wider
and disputed Niger-Congo, and Thai is Tai-Kadai. Nine of XNLI's fifteen languages are Indo-European, from English to
Hindi: as one group they say little, and the six that are left make a group of one each. So Indo-European has a second
axis, its branches, at the level by which readers know them (Glottolog's nodes Germanic, Romance, Slavic, Greek and
Indo-Aryan). Languages of other families have no branch here, because it would be their family over again.

A language that is not listed is `OTHER` in script, family and branch. An error would stop the report of a user's own
set for a label that nothing else needs; leaving its pairs out would be silent. Read "other" as "not listed": its
members have nothing in common.

Shape suffixes: K statistics, one language pair each; G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OTHER = "other"
"""Script, family and branch of a language that is not listed."""


@dataclass(frozen=True)
class Language:
    """What a language is grouped by."""

    script: str
    """ISO 15924 code."""
    family: str
    """Top-level family of Glottolog."""
    branch: str = ""
    """Branch of Indo-European; empty for other families."""


LANGUAGES = {
    "ar": Language("Arab", "Afro-Asiatic"),
    "bg": Language("Cyrl", "Indo-European", "Slavic"),
    "de": Language("Latn", "Indo-European", "Germanic"),
    "el": Language("Grek", "Indo-European", "Greek"),
    "en": Language("Latn", "Indo-European", "Germanic"),
    "es": Language("Latn", "Indo-European", "Romance"),
    "fr": Language("Latn", "Indo-European", "Romance"),
    "hi": Language("Deva", "Indo-European", "Indo-Aryan"),
    "ru": Language("Cyrl", "Indo-European", "Slavic"),
    "sw": Language("Latn", "Atlantic-Congo"),
    "th": Language("Thai", "Tai-Kadai"),
    "tr": Language("Latn", "Turkic"),
    "ur": Language("Arab", "Indo-European", "Indo-Aryan"),
    "vi": Language("Latn", "Austroasiatic"),
    "zh": Language("Hans", "Sino-Tibetan"),
}
"""The languages of XNLI, by ISO 639-1 code. A code with a region or script ("zh-Hant") is another code."""

_UNLISTED = Language(OTHER, OTHER, OTHER)


@dataclass(frozen=True)
class PairGroups:
    """Groups of language pairs, over the pairs that `pair_groups` was given."""

    axis: tuple[str, ...]
    """What each group is about: `all`, `same language`, `query language`, `query script`, ... (G,)."""
    name: tuple[str, ...]
    """The group on its axis: `en`, `Cyrl`, `Turkic`, ...; `all`, `same`, `cross` (G,)."""
    member_GK: NDArray[np.bool_]
    """Which pairs belong to which group; every group has one or more."""

    @property
    def weights_GK(self) -> NDArray[np.float64]:
        """Equal weights over the members of each group, for `inference.weighted_means`: rows sum to 1."""
        weights_GK: NDArray[np.float64] = self.member_GK / self.member_GK.sum(axis=1, keepdims=True)
        return weights_GK


def language(code: str) -> Language:
    """Script, family and branch of a language; `OTHER` for one that is not listed.

    Args:
        code: as in the data, such as `en`.

    Raises:
        ValueError: an empty code, which is what rows of triplets have.
    """
    if not code:
        raise ValueError(
            "a language must have a code; got ''. Group the rows of pairs only, triplets have no language."
        )
    return LANGUAGES.get(code, _UNLISTED)


def pair_groups(query_languages: Sequence[str], passage_languages: Sequence[str]) -> PairGroups:
    """Every group that a mean over these language pairs is broken down by.

    In order: all pairs; same-language and cross-language pairs; by query language; by passage language; by script, by
    family, and by Indo-European branch of the query (the side that is tuned). Within an axis groups are in the
    alphabetical order of their names. The groups of one axis share no pair; they hold all of them, except for the
    branches, which hold the Indo-European pairs and those of languages that are not listed.

    Args:
        query_languages: query language of each pair (K,).
        passage_languages: passage language of each pair (K,).

    Returns:
        `PairGroups`, without empty groups: a set of same-language pairs has no group `cross`.

    Raises:
        ValueError: no pair, lengths that differ, or an empty language code.
    """
    if not query_languages or len(query_languages) != len(passage_languages):
        raise ValueError(
            f"language pairs need as many query as passage languages, and at least one; got {len(query_languages)} "
            f"and {len(passage_languages)}. Take both from the same rows."
        )
    traits = [language(code) for code in query_languages]
    for code in passage_languages:
        language(code)
    same = [
        "same" if query == passage else "cross"
        for query, passage in zip(query_languages, passage_languages, strict=True)
    ]
    axes: dict[str, Sequence[str]] = {
        "all": ["all"] * len(traits),
        "same language": same,
        "query language": query_languages,
        "passage language": passage_languages,
        "query script": [of.script for of in traits],
        "query family": [of.family for of in traits],
        "query branch": [of.branch for of in traits],
    }
    groups = [
        (axis, name, np.array([value == name for value in values]))
        for axis, values in axes.items()
        for name in sorted(set(values) - {""})
    ]
    names = [(axis, name) for axis, name, _ in groups]
    return PairGroups(
        axis=tuple(axis for axis, _ in names),
        name=tuple(name for _, name in names),
        member_GK=np.stack([member for _, _, member in groups]),
    )
