"""Contracts of `statistics.language_groups`: the table against CLDR, the groups by hand and as partitions."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from babel.core import get_global
from hypothesis import given
from hypothesis import strategies as st

from adiabatic_ray.statistics.inference import weighted_means
from adiabatic_ray.statistics.language_groups import LANGUAGES, OTHER, PairGroups, language, pair_groups

XNLI = ["ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh"]


def _sizes(groups: PairGroups, axis: str) -> dict[str, int]:
    members = groups.member_GK.sum(axis=1)
    return {
        name: int(members[place])
        for place, (of, name) in enumerate(zip(groups.axis, groups.name, strict=True))
        if of == axis
    }


def test_the_table_lists_the_languages_of_xnli() -> None:
    assert list(LANGUAGES) == XNLI
    assert language("hi") == LANGUAGES["hi"]


def test_scripts_are_those_of_cldr() -> None:
    likely = get_global("likely_subtags")
    assert {code: of.script for code, of in LANGUAGES.items()} == {code: likely[code].split("_")[1] for code in XNLI}


def test_branches_are_of_indo_european_and_of_it_alone() -> None:
    for code, of in LANGUAGES.items():
        assert bool(of.branch) == (of.family == "Indo-European"), code


def test_groups_of_the_225_pairs_by_hand() -> None:
    queries, passages = zip(*product(XNLI, XNLI), strict=True)
    groups = pair_groups(queries, passages)
    assert _sizes(groups, "all") == {"all": 225}
    assert _sizes(groups, "same language") == {"cross": 210, "same": 15}
    assert _sizes(groups, "query language") == _sizes(groups, "passage language") == dict.fromkeys(XNLI, 15)
    scripts = {"Arab": 2, "Cyrl": 2, "Deva": 1, "Grek": 1, "Hans": 1, "Latn": 7, "Thai": 1}
    assert _sizes(groups, "query script") == {name: 15 * num for name, num in scripts.items()}
    families = [
        "Afro-Asiatic",
        "Atlantic-Congo",
        "Austroasiatic",
        "Indo-European",
        "Sino-Tibetan",
        "Tai-Kadai",
        "Turkic",
    ]
    assert _sizes(groups, "query family") == dict.fromkeys(families, 15) | {"Indo-European": 9 * 15}
    branches = {"Germanic": 2, "Greek": 1, "Indo-Aryan": 2, "Romance": 2, "Slavic": 2}
    assert _sizes(groups, "query branch") == {name: 15 * num for name, num in branches.items()}
    assert groups.member_GK.shape == (1 + 2 + 15 + 15 + 7 + 7 + 5, 225)


def test_groups_of_three_pairs_by_hand() -> None:
    groups = pair_groups(["en", "en", "zh"], ["en", "de", "en"])
    rows = dict(zip(zip(groups.axis, groups.name, strict=True), groups.member_GK.tolist(), strict=True))
    assert rows == {
        ("all", "all"): [True, True, True],
        ("same language", "cross"): [False, True, True],
        ("same language", "same"): [True, False, False],
        ("query language", "en"): [True, True, False],
        ("query language", "zh"): [False, False, True],
        ("passage language", "de"): [False, True, False],
        ("passage language", "en"): [True, False, True],
        ("query script", "Hans"): [False, False, True],
        ("query script", "Latn"): [True, True, False],
        ("query family", "Indo-European"): [True, True, False],
        ("query family", "Sino-Tibetan"): [False, False, True],
        ("query branch", "Germanic"): [True, True, False],
    }


@given(st.lists(st.tuples(st.sampled_from([*XNLI, "nl", "pt"]), st.sampled_from(XNLI)), min_size=1, max_size=20))
def test_every_axis_but_branches_is_a_partition(pairs: list[tuple[str, str]]) -> None:
    groups = pair_groups([query for query, _ in pairs], [passage for _, passage in pairs])
    assert groups.member_GK.any(axis=1).all()
    for axis in dict.fromkeys(groups.axis):
        times = groups.member_GK[[of == axis for of in groups.axis]].sum(axis=0)
        assert (times <= 1).all() if axis == "query branch" else (times == 1).all()


def test_a_language_that_is_not_listed_is_other() -> None:
    groups = pair_groups(["nl", "zh-Hant", "de"], ["nl", "de", "de"])
    for axis in ("query script", "query family", "query branch"):
        assert _sizes(groups, axis)[OTHER] == 2
    assert _sizes(groups, "query language") == {"de": 1, "nl": 1, "zh-Hant": 1}


def test_weights_are_those_of_means() -> None:
    groups = pair_groups(["en", "en", "zh"], ["en", "de", "en"])
    means, _ = weighted_means(groups.weights_GK, np.array([0.1, 0.3, 0.8]), np.zeros((3, 2)))
    of = dict(zip(zip(groups.axis, groups.name, strict=True), means, strict=True))
    assert of["all", "all"] == pytest.approx(0.4)
    assert of["query language", "en"] == pytest.approx(0.2)
    assert of["same language", "cross"] == pytest.approx(0.55)


def test_pair_groups_refuse_what_are_no_pairs() -> None:
    for queries, passages in (([], []), (["en"], []), (["en"], ["de", "en"])):
        with pytest.raises(ValueError, match="as many query as passage languages"):
            pair_groups(queries, passages)
    for queries, passages in (([""], ["en"]), (["en"], [""])):
        with pytest.raises(ValueError, match="a language must have a code"):
            pair_groups(queries, passages)
