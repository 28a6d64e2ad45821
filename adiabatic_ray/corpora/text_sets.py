"""The two shapes of data that everything else works with, how they are built, split and fingerprinted.

A `TripletSet` is queries with positive and negative passages in compressed rows: texts once, comparisons as numbers.
A `PairSet` is labelled pairs whose texts exist in several languages. Loaders yield plain `Sample` and `Pair` records;
this file alone knows the layout. A digest covers texts and structure, never names or places, so that the same content
from another folder is the same data.

Shapes: Q queries, P passages, U unique queries, N pairs, C clusters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from adiabatic_ray.sources import Triplets

Part = Literal["tune", "validation", "evaluation"]
PARTS: tuple[Part, ...] = ("tune", "validation", "evaluation")
TEXTS_PER_HASH_UPDATE = 65_536
"""Texts encoded at once for a digest: bounds the extra memory to some tens of MB."""
MOST_COMPARISONS = 2**31 - 1
"""Of one query, or of one cluster of labelled pairs: errors are counted and stored by these, in 32 bits."""


class Sample(NamedTuple):
    """A query with at least one positive and one negative passage. Queries of one cluster are not independent."""

    query: str
    positives: Sequence[str]
    negatives: Sequence[str]
    cluster: Hashable = None
    """What queries have in common, such as a paragraph; None: nothing but, in evaluation, the same text."""


class Pair(NamedTuple):
    """A labelled pair; texts in the order of the set's languages. Pairs of one cluster are not independent."""

    queries: tuple[str, ...]
    passages: tuple[str, ...]
    label: str
    cluster: Hashable


@dataclass(frozen=True, eq=False)
class TripletSet:
    """Queries and the rows of their positive and negative passages.

    Positives of query q are `passages[row]` for `row` in `positive_rows[positive_offsets[q]:positive_offsets[q + 1]]`;
    negatives likewise. Rows and offsets are int64; offsets have Q + 1 entries. `cluster_of_query` [Q], int64, numbers
    the clusters 0..C-1 in the order of their first query.
    """

    name: str
    queries: list[str]
    passages: list[str]
    positive_rows: np.ndarray
    positive_offsets: np.ndarray
    negative_rows: np.ndarray
    negative_offsets: np.ndarray
    cluster_of_query: np.ndarray

    @property
    def shares_clusters(self) -> bool:
        """Whether any two queries are of one cluster."""
        return len(np.unique(self.cluster_of_query)) < len(self.queries)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over texts and structure, in hex; over clusters too where queries share one."""
        numbers = [self.positive_rows, self.positive_offsets, self.negative_rows, self.negative_offsets]
        if self.shares_clusters:
            numbers.append(self.cluster_of_query)
        return _digest((self.queries, self.passages), numbers)


@dataclass(frozen=True, eq=False)
class PairSet:
    """Labelled pairs in several languages, all aligned: text u (or n) says the same in every language.

    `labels[0]` is the positive label, the others are negative. `query_texts` holds U unique queries a language,
    `passage_texts` N passages, one for each pair. The int64 arrays [N] give a pair's query (0..U-1), cluster (0..C-1,
    dense) and label.
    """

    name: str
    languages: tuple[str, ...]
    labels: tuple[str, ...]
    query_texts: dict[str, list[str]]
    passage_texts: dict[str, list[str]]
    query_of_pair: np.ndarray
    cluster_of_pair: np.ndarray
    label_of_pair: np.ndarray

    @cached_property
    def digest(self) -> str:
        """SHA-256 over languages, labels, texts and structure, in hex."""
        texts = [list(self.languages), list(self.labels)]
        for language in self.languages:
            texts += [self.query_texts[language], self.passage_texts[language]]
        return _digest(texts, (self.query_of_pair, self.cluster_of_pair, self.label_of_pair))


def build_triplets(name: str, samples: Iterable[Sample]) -> TripletSet:
    """Compress samples; passages are kept once, in order of first use; clusters are numbered as they come."""
    queries: list[str] = []
    row_of: dict[str, int] = {}
    positive_rows: list[int] = []
    negative_rows: list[int] = []
    positive_offsets, negative_offsets = [0], [0]
    cluster_ids: dict[tuple[Hashable, ...], int] = {}
    cluster_of: list[int] = []
    for query, positives, negatives, cluster in samples:
        assert positives and negatives, f"loaders yield samples with both sides, got {query!r}"
        queries.append(query)
        positive_rows += [row_of.setdefault(text, len(row_of)) for text in positives]
        negative_rows += [row_of.setdefault(text, len(row_of)) for text in negatives]
        positive_offsets.append(len(positive_rows))
        negative_offsets.append(len(negative_rows))
        key = (None, len(cluster_of)) if cluster is None else (cluster,)  # of another length: no cluster's own name
        cluster_of.append(cluster_ids.setdefault(key, len(cluster_ids)))
    numbers = (positive_rows, positive_offsets, negative_rows, negative_offsets, cluster_of)
    built = TripletSet(name, queries, list(row_of), *(np.array(one, dtype=np.int64) for one in numbers))
    _check_comparisons(name, np.diff(built.positive_offsets) * np.diff(built.negative_offsets), "query")
    return built


def build_pairs(
    name: str, languages: Sequence[str], labels: Sequence[str], pairs: Iterable[Pair], place: str | None = None
) -> PairSet:
    """Align pairs; queries that read the same in every language are kept once, clusters are numbered as they come.

    Args:
        name: for tables.
        languages: of the texts in each pair, in this order.
        labels: the positive one first.
        pairs: every label must occur.
        place: for messages: where the pairs come from, when the name does not say it.

    Raises:
        ValueError: a language named twice, no pair at all, fewer than two labels, a label without pairs, or a cluster
            with more comparisons than can be counted.
    """
    place = place or name
    if len(set(languages)) < len(languages):
        raise ValueError(f"{place}: each language may be named once, got {list(languages)}; remove the repeated one")
    query_ids: dict[tuple[str, ...], int] = {}
    cluster_ids: dict[Hashable, int] = {}
    passages: list[tuple[str, ...]] = []
    query_of, cluster_of, label_of = [], [], []
    for pair in pairs:
        query_of.append(query_ids.setdefault(pair.queries, len(query_ids)))
        cluster_of.append(cluster_ids.setdefault(pair.cluster, len(cluster_ids)))
        label_of.append(labels.index(pair.label))
        passages.append(pair.passages)
    if not passages:
        raise ValueError(f"{place}: a set of labelled pairs needs pairs, got none; name a file that has some")
    missing = [label for number, label in enumerate(labels) if number not in label_of]
    if missing or len(labels) < 2:
        raise ValueError(
            f"{place}: positive pairs are compared with negative ones, so every label needs a pair and there must be "
            f"at least two labels; got labels {list(labels)}, without pairs {missing}; add pairs of the other class"
        )
    built = PairSet(
        name,
        tuple(languages),
        tuple(labels),
        {language: [texts[place] for texts in query_ids] for place, language in enumerate(languages)},
        {language: [texts[place] for texts in passages] for place, language in enumerate(languages)},
        np.array(query_of, dtype=np.int64),
        np.array(cluster_of, dtype=np.int64),
        np.array(label_of, dtype=np.int64),
    )
    sizes_LC = [
        np.bincount(built.cluster_of_pair[built.label_of_pair == label], minlength=len(cluster_ids))
        for label in range(len(labels))
    ]
    for negatives_C in sizes_LC[1:]:  # a cluster's texts of one label meet all texts of the other
        for own_C, others_C in ((sizes_LC[0], negatives_C), (negatives_C, sizes_LC[0])):
            _check_comparisons(place, own_C * others_C.sum(), "cluster")
    return built


def _check_comparisons(place: str, comparisons: np.ndarray, of_what: str) -> None:
    most = int(comparisons.max(initial=0))
    if most > MOST_COMPARISONS:
        raise ValueError(
            f"{place}: a {of_what} may make at most {MOST_COMPARISONS:,} comparisons, which are counted in 32 bits; "
            f"got {most:,} in one; split it, or evaluate on a part of the set"
        )


def part_range(source: Triplets, part: Part, total: int, unit: str = "samples") -> range:
    """Which of `total` ordered units belong to a part: tuning from the front, then validation, evaluation at the end.

    A size of None takes what the others leave. With neither `num_tune` nor `num_evaluation` given the source is for
    evaluation only, on everything.

    Args:
        source: gives the three sizes.
        part: which of the three.
        total: units there are.
        unit: what is counted, for messages.

    Raises:
        ValueError: there is no unit at all, the parts would overlap, or the part asked for would be empty or is not
            determined.
    """
    place = source.place
    if total == 0:
        raise ValueError(
            f"{place}: a source needs at least one of the {unit}, got none that can be used; name a file that "
            "has some, or ask for a wider selection of them"
        )
    tune, validation, evaluation = source.num_tune, source.num_validation, source.num_evaluation
    rest = total - (tune or 0) - validation - (evaluation or 0)
    sizes = f"num_tune={tune}, num_validation={validation}, num_evaluation={evaluation}"
    if rest < 0:
        raise ValueError(
            f"{place}: the parts may not overlap, so num_tune + num_validation + num_evaluation may be at most "
            f"the {total} {unit} there are; got {sizes}, that is {total - rest}; lower them by {-rest}"
        )
    if tune is None and evaluation is None:
        if part != "evaluation":
            raise ValueError(
                f"{place}: to tune on a source the {unit} to tune on must be told from those to evaluate on; got "
                f"{sizes} of {total} {unit}; set num_tune, or num_evaluation=0 to tune on everything"
            )
        tune, evaluation = 0, rest
    elif tune is None:
        tune = rest
    elif evaluation is None:
        evaluation = rest
    assert evaluation is not None
    chosen = {
        "tune": range(tune),
        "validation": range(tune, tune + validation),
        "evaluation": range(total - evaluation, total),
    }[part]
    if not chosen:
        raise ValueError(
            f"{place}: a part that is used needs at least one of the {unit}; got none for {part} with {sizes} of "
            f"{total} {unit}; raise num_{part} or lower the others"
        )
    return chosen


def _digest(texts: Iterable[Sequence[str]], numbers: Iterable[np.ndarray]) -> str:
    """Lengths go in before the bytes, so that no two different contents give the same stream."""
    state = hashlib.sha256()
    for one in texts:
        state.update(len(one).to_bytes(8, "little"))
        for start in range(0, len(one), TEXTS_PER_HASH_UPDATE):
            encoded = [text.encode() for text in one[start : start + TEXTS_PER_HASH_UPDATE]]
            state.update(np.array([len(text) for text in encoded], dtype="<i8").tobytes())
            state.update(b"".join(encoded))
    for array in numbers:
        state.update(len(array).to_bytes(8, "little"))
        state.update(array.astype("<i8").tobytes())
    return state.hexdigest()
