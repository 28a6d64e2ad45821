"""Names of territories, languages and currencies in many languages (Unicode CLDR, from the package babel).

A small multilingual test that a package registry delivers: a name as the query in one language, as the passage in
another. "match" is the same thing, "mismatch" another one of its category. Each name is a mismatching passage
`num_mismatches` times, as often as every other, so that how often a passage is close to anything cancels out.

Clusters are independent of each other: the names of a category are divided by the seed into groups, a name is
mismatched with others of its group only, and the group is the cluster. So no name stands in two clusters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from adiabatic_ray.corpora.text_sets import Pair
from adiabatic_ray.sources import CldrNames

CLDR_LABELS = ("match", "mismatch")
PLACEHOLDERS = frozenset(("XA", "XB", "ZZ", "und", "zxx", "mul", "mis", "root", "XXX", "XTS"))
"""Codes for unknown, test and pseudo entries, which name nothing."""


def cldr_pairs(source: CldrNames) -> Iterator[Pair]:
    """Labelled pairs of bare names, in all languages of the source, group by group; each group is a cluster.

    A group has `num_mismatches` + 1 names, each mismatched with all the others. Where the names of a category can't be
    divided so, its groups are as many as that size allows and differ by at most one name: some are larger, none is
    smaller, no name is left out. In a larger group a name is mismatched with the `num_mismatches` that follow it, in a
    circle.

    Raises:
        ValueError: babel is not installed, does not know a language, or there are too few names.
    """
    draw = np.random.default_rng(source.seed)
    names = _names(source)
    if source.num_names is not None:
        if source.num_names > len(names):
            raise ValueError(
                f"{source.name}: num_names may be at most the {len(names)} that all languages have, got "
                f"{source.num_names}; lower it"
            )
        kept = sorted(draw.choice(len(names), size=source.num_names, replace=False))
        names = [names[number] for number in kept]
    for category in source.categories:
        members = [texts for of, texts in names if of == category]
        if members and len(members) <= source.num_mismatches:
            raise ValueError(
                f"{source.name}: a name needs {source.num_mismatches} others of its category, got "
                f"{len(members) - 1} in {category}; raise num_names, or lower num_mismatches"
            )
        num_groups = len(members) // (source.num_mismatches + 1)
        # At least 1: of a small sample, a category may have no name at all.
        for number, group in enumerate(np.array_split(draw.permutation(len(members)), max(num_groups, 1))):
            cluster = (category, number)
            for place, member in enumerate(group):
                yield Pair(members[member], members[member], "match", cluster)
                for step in range(1, source.num_mismatches + 1):
                    other = group[(place + step) % len(group)]
                    yield Pair(members[member], members[other], "mismatch", cluster)


def _names(source: CldrNames) -> list[tuple[str, tuple[str, ...]]]:
    """Category and names by language, of the codes that every language has a name for, and a name of its own."""
    try:
        from babel import Locale, UnknownLocaleError
    except ModuleNotFoundError:
        raise ValueError(
            f"{source.name}: names come from the package babel, which is not installed; "
            'run pip install "adiabatic_ray[demo]"'
        ) from None
    try:
        locales = [Locale.parse(language) for language in source.languages]
    except (UnknownLocaleError, ValueError) as error:
        raise ValueError(
            f"{source.name}: languages must be codes that CLDR knows, as 'en' or 'pt_BR', got {error}; "
            "correct `languages`"
        ) from None
    names: list[tuple[str, tuple[str, ...]]] = []
    for category in source.categories:
        tables = [getattr(locale, category) for locale in locales]
        found = {}
        for code in sorted(set(tables[0]).intersection(*tables[1:]) - PLACEHOLDERS):
            texts = tuple(str(table[code]) for table in tables)
            # Numbers stand for regions of the world; a name that is its own code is a missing one.
            if not code.isdigit() and all(text not in ("", code) for text in texts):
                found[code] = texts
        shared = [Counter(texts[place] for texts in found.values()) for place in range(len(locales))]
        names += [
            (category, texts)
            for texts in found.values()
            if all(count[text] == 1 for count, text in zip(shared, texts, strict=True))
        ]
    return names
