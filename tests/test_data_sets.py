"""Building, splitting and fingerprinting text sets, by hand-computed examples and properties."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adiabatic_ray.corpora import text_sets
from adiabatic_ray.corpora.text_sets import PARTS, Pair, Sample, build_pairs, build_triplets, part_range
from adiabatic_ray.sources import TripletFile

SAMPLES = [Sample("q0", ["p", "shared"], ["n"]), Sample("q1", ["shared"], ["n", "m"])]
PAIRS = [
    Pair(("hello", "hallo"), ("hi", "na"), "yes", "a"),
    Pair(("hello", "hallo"), ("bye", "ade"), "no", "a"),
    Pair(("day", "tag"), ("hi", "na"), "no", "b"),
]


def source(tune: int | None, validation: int, evaluation: int | None) -> TripletFile:
    return TripletFile(name="mine", num_tune=tune, num_validation=validation, num_evaluation=evaluation)


def test_triplets_are_compressed_in_order_of_first_use():
    built = build_triplets("t", SAMPLES)
    assert built.queries == ["q0", "q1"]
    assert built.passages == ["p", "shared", "n", "m"]
    assert built.positive_rows.tolist() == [0, 1, 1] and built.positive_offsets.tolist() == [0, 2, 3]
    assert built.negative_rows.tolist() == [2, 2, 3] and built.negative_offsets.tolist() == [0, 1, 3]
    assert built.positive_rows.dtype == built.negative_offsets.dtype == np.int64


TEXTS = st.text(alphabet="abc ", min_size=1, max_size=3)


@given(st.lists(st.builds(Sample, TEXTS, st.lists(TEXTS, min_size=1), st.lists(TEXTS, min_size=1)), max_size=6))
def test_every_sample_is_found_again(samples):
    built = build_triplets("t", samples)
    assert len(set(built.passages)) == len(built.passages)
    for number, sample in enumerate(samples):
        rows = built.positive_rows[built.positive_offsets[number] : built.positive_offsets[number + 1]]
        assert [built.passages[row] for row in rows] == sample.positives
        rows = built.negative_rows[built.negative_offsets[number] : built.negative_offsets[number + 1]]
        assert [built.passages[row] for row in rows] == sample.negatives


def test_pairs_are_aligned_over_languages():
    built = build_pairs("p", ("en", "de"), ("yes", "no"), PAIRS)
    assert built.query_texts == {"en": ["hello", "day"], "de": ["hallo", "tag"]}
    assert built.passage_texts == {"en": ["hi", "bye", "hi"], "de": ["na", "ade", "na"]}
    assert built.query_of_pair.tolist() == [0, 0, 1]
    assert built.cluster_of_pair.tolist() == [0, 0, 1]
    assert built.label_of_pair.tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("languages", "labels", "pairs", "said"),
    [
        (("en", "de"), ("yes", "no"), PAIRS[:1], "without pairs ['no']"),
        (("en", "de"), ("yes", "no", "never"), PAIRS, "without pairs ['never']"),
        (("en", "de"), ("no",), PAIRS[1:], "at least two labels"),
        (("en", "en"), ("yes", "no"), PAIRS, "named once"),
    ],
)
def test_pair_sets_that_cannot_be_scored_are_refused(languages, labels, pairs, said):
    with pytest.raises(ValueError) as caught:
        build_pairs("p", languages, labels, pairs)
    assert said in str(caught.value)


def test_digest_speaks_of_content_only():
    one = build_triplets("one name", SAMPLES)
    assert one.digest == build_triplets("another", list(SAMPLES)).digest
    assert len(one.digest) == 64
    changed = [
        [SAMPLES[1], SAMPLES[0]],
        [Sample("q0", ["p", "shared"], ["n"]), Sample("q1", ["shared"], ["m", "n"])],
        [Sample("q0", ["p", "n"], ["shared"]), Sample("q1", ["shared"], ["n", "m"])],
        [Sample("q0q1", ["p", "shared"], ["n"])],
    ]
    assert len({one.digest, *(build_triplets("t", samples).digest for samples in changed)}) == 5


def test_clusters_are_numbered_as_they_come():
    """A query without one is a cluster of its own, whatever the others call theirs."""
    names = ["b", None, "a", "b", None, 0, 1, (None, 1)]
    built = build_triplets("t", [Sample(f"q{n}", ["p"], ["n"], name) for n, name in enumerate(names)])
    assert built.cluster_of_query.tolist() == [0, 1, 2, 0, 3, 4, 5, 6]
    assert built.cluster_of_query.dtype == np.int64 and built.shares_clusters
    assert build_triplets("t", SAMPLES).cluster_of_query.tolist() == [0, 1]


def test_more_comparisons_than_32_bits_count_are_refused(monkeypatch):
    """One cluster holds 2 of 3 positives and both negatives: 2 x 2 and 2 x 3 comparisons. A query of 2 x 3."""
    pairs = [Pair((f"q{n}",), (f"p{n}",), "ab"[n > 2], n == 0) for n in range(5)]
    sample = Sample("q", ["a", "b"], ["c", "d", "e"])
    for most in (6, 3):
        monkeypatch.setattr(text_sets, "MOST_COMPARISONS", most)
        refuse = pytest.raises(ValueError, match=r"at most 3 comparisons.*split it") if most == 3 else nullcontext()
        for build in (partial(build_pairs, "p", ["en"], ["a", "b"], pairs), partial(build_triplets, "t", [sample])):
            with refuse:
                build()


def test_digest_covers_clusters_only_where_queries_share_one():
    """Ids of trials hold it: the literal is that of the release before there were clusters."""
    alone = build_triplets("t", SAMPLES)
    assert alone.digest == "9ab7915a0de2765d384dc94940d5e101ecf225eef0b60ea73ef585c49e10b711"
    named = [sample._replace(cluster=name) for sample, name in zip(SAMPLES, "xy", strict=True)]
    assert build_triplets("t", named).digest == alone.digest and not alone.shares_clusters
    three = [*SAMPLES, SAMPLES[0]]
    clustered = {
        build_triplets("t", [sample._replace(cluster=name) for sample, name in zip(three, names, strict=True)]).digest
        for names in ("aaa", "aab", "aba", "abb", "abc", "zzx")
    }
    assert len(clustered) == 5  # the last one is the second under other names


def test_digest_keeps_texts_apart():
    """The same characters, divided otherwise, are other texts."""
    moved = [build_triplets("t", [Sample(*texts)]).digest for texts in (("ab", ["c"], ["d"]), ("a", ["bc"], ["d"]))]
    assert moved[0] != moved[1]


def test_digest_of_pairs_sees_languages_labels_clusters_and_texts():
    one = build_pairs("p", ("en", "de"), ("yes", "no"), PAIRS).digest
    assert one == build_pairs("other name", ("en", "de"), ("yes", "no"), PAIRS).digest
    other = {
        build_pairs("p", ("en", "fr"), ("yes", "no"), PAIRS).digest,
        build_pairs("p", ("en", "de"), ("no", "yes"), PAIRS).digest,
        build_pairs("p", ("en", "de"), ("yes", "no"), [p._replace(cluster="same") for p in PAIRS]).digest,
        build_pairs("p", ("en", "de"), ("yes", "no"), [*PAIRS[:2], PAIRS[2]._replace(passages=("hi", "ne"))]).digest,
    }
    assert len(other - {one}) == 4


@pytest.mark.parametrize(
    ("sizes", "tune", "validation", "evaluation"),
    [
        ((3, 2, 4), range(3), range(3, 5), range(6, 10)),  # one in the gap is used by no part
        ((None, 2, 4), range(4), range(4, 6), range(6, 10)),
        ((3, 2, None), range(3), range(3, 5), range(5, 10)),
    ],
)
def test_parts_by_hand(sizes, tune, validation, evaluation):
    found = [part_range(source(*sizes), part, 10) for part in PARTS]
    assert found == [tune, validation, evaluation]


def test_a_source_without_sizes_is_for_evaluation():
    assert part_range(source(None, 0, None), "evaluation", 10) == range(10)
    with pytest.raises(ValueError, match=r"num_tune=None.*set num_tune, or num_evaluation=0"):
        part_range(source(None, 0, None), "tune", 10)
    assert part_range(source(None, 0, 0), "tune", 10) == range(10)


@pytest.mark.parametrize("sizes", [(None, 0, None), (3, 2, 4)])
def test_nothing_to_divide(sizes):
    with pytest.raises(ValueError, match="at least one of the samples, got none that can be used"):
        part_range(source(*sizes), "evaluation", 0)


SIZE = st.integers(0, 12)


@given(st.none() | st.integers(1, 12), SIZE, st.none() | SIZE, SIZE)
def test_parts_never_overlap(tune, validation, evaluation, total):
    seen: list[int] = []
    for part in PARTS:
        try:
            seen += part_range(source(tune, validation, evaluation), part, total)
        except ValueError:
            continue
    assert len(seen) == len(set(seen)) and all(0 <= number < total for number in seen)


def test_a_file_that_is_too_short_is_refused_with_the_numbers():
    with pytest.raises(ValueError) as caught:
        part_range(source(7, 2, 4), "tune", 10)
    assert str(caught.value) == (
        "mine: the parts may not overlap, so num_tune + num_validation + num_evaluation may be at most the 10 samples "
        "there are; got num_tune=7, num_validation=2, num_evaluation=4, that is 13; lower them by 3"
    )


@pytest.mark.parametrize(
    ("sizes", "part"), [((3, 0, 4), "validation"), ((3, 0, 0), "evaluation"), ((5, 5, None), "evaluation")]
)
def test_an_empty_part_is_refused(sizes, part):
    with pytest.raises(ValueError, match=f"got none for {part}.*raise num_{part}"):
        part_range(source(*sizes), part, 10)
