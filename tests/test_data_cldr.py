"""CLDR names as labelled pairs."""

from __future__ import annotations

import builtins
from collections import Counter, defaultdict

import numpy as np
import pytest

from adiabatic_ray.corpora.data import load_pairs
from adiabatic_ray.sources import XNLI_LANGUAGES, CldrNames

pytest.importorskip("babel", reason="the extra [demo] is not installed")


def test_all_names_in_fifteen_languages():
    texts = load_pairs(CldrNames(num_mismatches=2))
    num_names = len(texts.query_texts["en"])
    assert texts.languages == XNLI_LANGUAGES and texts.labels == ("match", "mismatch")
    assert num_names > 600
    assert len(texts.label_of_pair) == 3 * num_names
    names = dict(zip(texts.query_texts["en"], texts.query_texts["fr"], strict=True))
    assert names["Germany"] == "Allemagne" and names["Swahili"] == "swahili"
    for unwanted in ("world", "Unknown Region", "Pseudo-Bidi", "Unknown language", "Africa"):
        assert unwanted not in names
    sizes = np.bincount(texts.cluster_of_pair) // 3  # names in a group: 3, or 4 where 3 does not divide the category
    assert set(sizes.tolist()) <= {3, 4} and sizes.sum() == num_names
    assert (sizes == 4).sum() <= 2 * 2


@pytest.mark.parametrize("num_mismatches", [1, 3])
def test_matches_and_mismatches(num_mismatches):
    source = CldrNames(languages=("en", "ru"), num_names=60, num_mismatches=num_mismatches, seed=3)
    texts = load_pairs(source)
    matching, mismatching = Counter(), Counter()
    groups_of = defaultdict(set)
    for pair, (query, label) in enumerate(zip(texts.query_of_pair, texts.label_of_pair, strict=True)):
        asked = tuple(texts.query_texts[language][query] for language in texts.languages)
        given = tuple(texts.passage_texts[language][pair] for language in texts.languages)
        assert (asked == given) == (label == 0)
        groups_of[given].add(texts.cluster_of_pair[pair])
        groups_of[asked].add(texts.cluster_of_pair[pair])
        (mismatching if label else matching)[given] += 1
    assert len(matching) == 60 and set(matching.values()) == {1}
    assert {len(groups) for groups in groups_of.values()} == {1}, "no name stands in two clusters"
    assert mismatching == Counter({names: num_mismatches for names in matching})  # no passage is favoured


@pytest.mark.parametrize(("num_names", "sizes"), [(6, [3, 3]), (7, [4, 3]), (8, [4, 4]), (3, [3])])
def test_what_does_not_fill_a_group_makes_others_larger(num_names, sizes):
    source = CldrNames(languages=("en",), categories=("territories",), num_names=num_names, num_mismatches=2)
    texts = load_pairs(source)
    assert np.bincount(texts.cluster_of_pair).tolist() == [3 * size for size in sizes]


def test_a_category_of_which_no_name_was_drawn():
    source = CldrNames(languages=("en",), categories=("territories", "currencies"), num_names=2)
    seeds = range(40)
    sizes = []
    for seed in seeds:
        try:
            sizes.append(len(load_pairs(source.model_copy(update={"seed": seed})).label_of_pair))
        except ValueError as error:  # one name of either
            assert "a name needs 1 others of its category, got 0" in str(error)
    assert sizes and set(sizes) == {4}


def test_mismatches_stay_in_their_category():
    both = load_pairs(CldrNames(languages=("en",), num_names=80))
    names = {
        category: set(load_pairs(CldrNames(languages=("en",), categories=(category,))).query_texts["en"])
        for category in ("territories", "languages")
    }
    seen = set()
    for pair, query in enumerate(both.query_of_pair):
        asked, given = both.query_texts["en"][query], both.passage_texts["en"][pair]
        within = {category for category, known in names.items() if {asked, given} <= known}
        assert within, (asked, given)  # some islands and their language share a name
        seen |= within
    assert seen == {"territories", "languages"}


def test_the_seed_draws_names_and_mismatches():
    digests = {load_pairs(CldrNames(languages=("en",), num_names=40, seed=seed)).digest for seed in (0, 1, 0)}
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"languages": ("en", "xx")}, "languages must be codes that CLDR knows"),
        ({"languages": ("en", "e n!")}, "languages must be codes that CLDR knows"),
        ({"languages": ("en", "en")}, "each language may be named once"),
        ({"num_names": 5000}, "num_names may be at most the"),
        ({"num_names": 4, "num_mismatches": 9}, "a name needs 9 others of its category"),
    ],
)
def test_complaints(changes, said):
    with pytest.raises(ValueError) as caught:
        load_pairs(CldrNames(**changes))
    assert said in str(caught.value)


def test_babel_is_not_installed(monkeypatch):
    real_import = builtins.__import__

    def without_babel(name, *arguments, **keywords):
        if name.partition(".")[0] == "babel":
            raise ModuleNotFoundError("No module named 'babel'", name="babel")
        return real_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_babel)
    with pytest.raises(ValueError, match=r'run pip install "adiabatic_ray\[demo\]"'):
        load_pairs(CldrNames())
