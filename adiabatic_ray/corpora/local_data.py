"""Local files: arXiv metadata as triplets, and a user's own triplets and labelled pairs.

Nothing is guessed: a key, a language or a text that is missing is an error with file and line.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adiabatic_ray.corpora.record_files import Record, checked_text, count_records, local_path, read_records
from adiabatic_ray.corpora.sentences import split_sentences
from adiabatic_ray.corpora.text_sets import PARTS, Pair, Part, Sample, part_range
from adiabatic_ray.sources import ARXIV_LEVELS, ArxivTriplets, MsMarco, PairFile, TripletFile

SIDES = (("pos", "positives"), ("neg", "negatives"))
"""Keys of a record's positives and negatives: the hub's, and the long ones."""


class Paper(NamedTuple):
    """A paper's place in the sampling order, its id and its two texts; an empty one: there is no such text."""

    rank: int
    identifier: str
    query: str
    passage: str
    is_chosen: bool
    """Whether the source's categories let it be a query."""


def triplet_file_samples(source: TripletFile, part: Part) -> Iterator[Sample]:
    """A user's own triplets, in file order; one positive and one negative for tuning, as for MS MARCO.

    Raises:
        ValueError: the file is missing, malformed, or shorter than the parts together.
    """
    return line_samples(source, part, local_path(source))


def line_samples(source: MsMarco | TripletFile, part: Part, path: Path, min_negatives: int = 1) -> Iterator[Sample]:
    """Samples from records with `query`, `pos` or `positives`, `neg` or `negatives` (lists, or one text).

    First positive and first negative for tuning and validation, all of them for evaluation (paper, Appendix A). Records
    with fewer than `min_negatives` are left out of the part that they are in. An `id` is optional, and unique within a
    part where it is given. So is `cluster`, what records have in common; it matters to evaluation alone, and samples
    for tuning come without it. The file is read twice, to count its records and to parse those of the part; nothing
    else is kept.

    Raises:
        ValueError: the file is malformed or shorter than the parts together; a missing key, an empty list or text; an
            id that comes twice; only some records of the part with a cluster; no record with `min_negatives`.
    """
    chosen = part_range(source, part, count_records(path))
    most = None if part == "evaluation" else 1
    place_of_id: dict[str, str] = {}
    most_negatives = 0
    has_cluster: bool | None = None
    for record in read_records(path, chosen.start, chosen.stop):
        _check_id(record, place_of_id)
        cluster = _cluster(record, has_cluster)
        has_cluster = cluster is not None
        sides = [_listed(record, *keys) for keys in SIDES]
        num_negatives = len(sides[1])
        most_negatives = max(most_negatives, num_negatives)
        if num_negatives >= min_negatives:
            positives, negatives = (
                _checked(record, keys, side[:most]) for keys, side in zip(SIDES, sides, strict=True)
            )
            yield Sample(record.text("query"), positives, negatives, cluster if part == "evaluation" else None)
    if most_negatives < min_negatives:
        raise ValueError(
            f"{source.place}: min_negatives may be at most the {most_negatives} that a sample for {part} has, got "
            f"{min_negatives}; lower it"
        )


def _listed(record: Record, *keys: str) -> list[object]:
    value = record.value(*keys)
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts:
        key = " or ".join(keys)
        raise ValueError(f"{record.place}: {key!r} must be a list of texts, got {value!r:.80}; fill it")
    return texts


def _checked(record: Record, keys: Sequence[str], texts: Sequence[object]) -> list[str]:
    return [checked_text(text, record.place, " or ".join(keys)) for text in texts]


def _check_id(record: Record, place_of_id: dict[str, str]) -> None:
    """Refuse an id that another record has: a file put together twice counts every comparison twice."""
    identifier = record.content.get("id")
    if identifier is None:
        return
    if not isinstance(identifier, str | int) or isinstance(identifier, bool):
        raise ValueError(f"{record.place}: 'id' must be a text or an integer, got {identifier!r:.80}; change it")
    other = place_of_id.setdefault(str(identifier), record.place)
    if other != record.place:
        raise ValueError(
            f"{record.place}: each 'id' may stand once, got {identifier!r}, which is also that of {other}; remove one "
            "of the records, or give it an id of its own"
        )


def _cluster(record: Record, has_cluster: bool | None) -> str | int | None:
    """What a record says it has in common with others.

    Args:
        record: any record of a user's file.
        has_cluster: whether the record before has a cluster; None: it is the first one.
    """
    cluster = record.content.get("cluster")
    if not isinstance(cluster, str | int | None) or isinstance(cluster, bool):  # True would be the cluster 1
        raise ValueError(f"{record.place}: 'cluster' must be a text or an integer, got {cluster!r:.80}; change it")
    if has_cluster not in (None, cluster is not None):
        said = "a" if has_cluster else "no"
        raise ValueError(
            f"{record.place}: all records name a cluster or none does; the ones before have {said} 'cluster', this "
            f"one has {cluster!r}; add it everywhere or remove it"
        )
    return cluster


def arxiv_samples(source: ArxivTriplets, part: Part) -> Iterator[Sample]:
    """One triplet a paper: title -> abstract, or first sentence -> rest of the abstract (paper, Appendix B).

    Papers are ordered by a hash of seed and id: `num_papers` and the parts are random samples that do not depend on the
    order of the file. Line breaks and runs of white space become single spaces. Left out are papers without a title or
    an abstract, for `first` those with an abstract of one sentence, those that `categories` and `excluded_categories`
    leave out, and repetitions of a paper.

    Without a file of negatives the negative is the passage of another paper of the same part, drawn uniformly by
    `negative_seed` (the easiest of the paper's 21 levels); parts then share no text. With one it is the passage of the
    id that the file lists at `level` (Appendix B.1), whatever that paper's categories and part: a sample is a paper
    with its list. Papers without a list, or whose negative has no passage, are left out.

    Raises:
        ValueError: a file is missing or malformed, an id comes twice, a listed id is not in the metadata, or there are
            fewer usable papers than asked for.
    """
    if source.negatives is not None:
        yield from _listed_samples(source, part)
        return
    papers = _part(source, part, (paper for paper in _papers(source) if paper.is_chosen and paper.query))
    if len(papers) < 2:
        raise ValueError(
            f"{source.name}: a negative is another paper, so a part needs 2, got one for {part}; raise its size"
        )
    draw = np.random.default_rng([source.negative_seed, PARTS.index(part)])
    steps = draw.integers(1, len(papers), size=len(papers))
    for place, paper in enumerate(papers):
        other = papers[(place + int(steps[place])) % len(papers)]
        yield Sample(paper.query, [paper.passage], [other.passage])


def _listed_samples(source: ArxivTriplets, part: Part) -> Iterator[Sample]:
    """The metadata is read twice, so that only the texts of the part and of its negatives are kept."""
    negative_of = _listed_negatives(source)
    listed = negative_of.keys() | set(negative_of.values())
    has_passage: dict[str, bool] = {}
    queries = []
    for paper in _papers(source, listed):
        has_passage[paper.identifier] = bool(paper.passage)
        if paper.is_chosen and paper.query and paper.identifier in negative_of:
            queries.append(paper._replace(query="", passage=""))
    for paper in queries:
        negative = negative_of[paper.identifier]
        if negative not in has_passage:
            raise ValueError(
                f"{source.name}: listed negatives must be papers of the metadata, got {negative!r} for "
                f"{paper.identifier!r}, which {source.path} does not have; build the negatives from this file"
            )
    usable = (paper for paper in queries if has_passage[negative_of[paper.identifier]])
    chosen = [paper.identifier for paper in _part(source, part, usable)]
    needed = {*chosen, *(negative_of[identifier] for identifier in chosen)}
    texts = {paper.identifier: (paper.query, paper.passage) for paper in _papers(source, needed)}
    for identifier in chosen:
        query, passage = texts[identifier]
        yield Sample(query, [passage], [texts[negative_of[identifier]][1]])


def _listed_negatives(source: ArxivTriplets) -> dict[str, str]:
    """Id of each paper -> id of its negative at the source's level."""
    negative_of: dict[str, str] = {}
    place_of_id: dict[str, str] = {}
    for record in read_records(local_path(source, "negatives")):
        identifier, listed = record.text("id"), record.value("negatives")
        _check_id(record, place_of_id)
        if not isinstance(listed, list) or len(listed) != ARXIV_LEVELS:
            raise ValueError(
                f"{record.place}: 'negatives' must list {ARXIV_LEVELS} ids, got {listed!r:.80}; make the file with "
                "`adiabatic data arxiv-negatives`"
            )
        negative_of[identifier] = negative = checked_text(listed[source.level - 1], record.place, "negatives")
        if negative == identifier:
            raise ValueError(
                f"{record.place}: a negative must be another paper, got {identifier!r} at level {source.level}; make "
                "the file with `adiabatic data arxiv-negatives`"
            )
    return negative_of


def _part(source: ArxivTriplets, part: Part, usable: Iterable[Paper]) -> list[Paper]:
    """The papers of one part, out of a sample of `num_papers`, in the sampling order."""
    if source.num_papers is None:
        papers = sorted(usable)
    else:
        papers = heapq.nsmallest(source.num_papers, usable)
        if len(papers) < source.num_papers:
            raise ValueError(
                f"{source.name}: num_papers may be at most the {len(papers)} usable papers there are, got "
                f"{source.num_papers}; lower it"
            )
    chosen = part_range(source, part, len(papers), "papers")
    return papers[chosen.start : chosen.stop]


def _papers(source: ArxivTriplets, only: Collection[str] | None = None) -> Iterator[Paper]:
    """Every paper once (or those with the given ids), with both texts or with none where one is missing."""
    texts_of_rank: dict[int, int] = {}
    for record in read_records(local_path(source)):
        identifier = str(record.value("id"))
        if only is not None and identifier not in only:
            continue
        rank = int.from_bytes(hashlib.sha256(f"{source.negative_seed}/{identifier}".encode()).digest()[:8])
        title, abstract = (_normalised(record, key) for key in ("title", "abstract"))
        texts = hash((title, abstract))
        if rank in texts_of_rank:
            if texts_of_rank[rank] != texts:
                raise ValueError(
                    f"{record.place}: an id names one paper, got {identifier!r} again with another title or abstract; "
                    "remove one of the two records"
                )
            continue
        texts_of_rank[rank] = texts
        yield Paper(rank, identifier, *_query_and_passage(source, title, abstract), _in_categories(source, record))


def _query_and_passage(source: ArxivTriplets, title: str, abstract: str) -> tuple[str, str]:
    """Both texts, or only the passage where the query is missing, or none."""
    if source.flavour == "title":
        return (title, abstract) if abstract else ("", "")
    first, *rest = split_sentences(abstract) or [""]
    return (first, " ".join(rest)) if rest else ("", "")


def _in_categories(source: ArxivTriplets, record: Record) -> bool:
    """Whether a paper may be a query: any of its categories is asked for, and none of them is left out (Appendix K)."""
    if not source.categories and not source.excluded_categories:
        return True
    value = record.value("categories")
    categories = value.split() if isinstance(value, str) else value
    if not isinstance(categories, list) or not all(isinstance(one, str) for one in categories):
        raise ValueError(f"{record.place}: 'categories' must be a list of texts, got {value!r:.80}; write it so")

    def any_of(names: Sequence[str]) -> bool:
        return any(one == name or one.startswith(f"{name}.") for one in categories for name in names)

    return (not source.categories or any_of(source.categories)) and not any_of(source.excluded_categories)


def _normalised(record: Record, key: str) -> str:
    """Text with single spaces; empty when there is none, since such papers are left out."""
    if key not in record.content:
        raise ValueError(f"{record.place}: a paper needs {key!r}, got the keys {sorted(record.content)}; add it")
    value = record.content[key]
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return checked_text(text, record.place, key) if text else ""


def pair_file_pairs(source: PairFile) -> tuple[tuple[str, ...], list[Pair]]:
    """A user's own labelled pairs, and the labels: the positive one, then the others in alphabetical order.

    Raises:
        ValueError: the file is missing or malformed, a language or text is missing, a label is no text, the positive
            label never occurs, an `id` (which may be left out) comes twice, or only some records name a cluster.
    """
    pairs: list[Pair] = []
    place_of_id: dict[str, str] = {}
    has_cluster: bool | None = None
    for record in read_records(local_path(source)):
        _check_id(record, place_of_id)
        label = record.text("label")
        queries, passages = (_texts(record, key, source.languages) for key in ("query", "passage"))
        cluster = _cluster(record, has_cluster)
        has_cluster = cluster is not None
        pairs.append(Pair(queries, passages, label, queries if cluster is None else cluster))
    _check_labels(source, {pair.label for pair in pairs})
    others = sorted({pair.label for pair in pairs} - {source.positive_label})
    return (source.positive_label, *others), pairs


def _check_labels(source: PairFile, labels: set[str]) -> None:
    """A misspelt label would become a class of its own, and turn matches into mismatches."""
    spelt: dict[str, str] = {}
    for label in sorted(labels | {source.positive_label}):
        other = spelt.setdefault(label.strip().casefold(), label)
        if other != label:
            raise ValueError(
                f"{source.place}: labels must be spelt alike, got {other!r} and {label!r}; correct the file"
            )
    if source.negative_labels is not None and (unknown := labels - {source.positive_label, *source.negative_labels}):
        raise ValueError(
            f"{source.place}: labels must be {source.positive_label!r} or one of {source.negative_labels}, got "
            f"{sorted(unknown)}; correct the file, or add them to negative_labels"
        )


def _texts(record: Record, key: str, languages: Sequence[str]) -> tuple[str, ...]:
    by_language = record.value(key)
    if not isinstance(by_language, dict):
        raise ValueError(
            f'{record.place}: {key!r} must give a text by language, as in {{"en": "..."}}, got {by_language!r:.80}'
            "; write it so"
        )
    missing = [language for language in languages if by_language.get(language) is None]
    if missing:
        raise ValueError(
            f"{record.place}: {key!r} must have every language of the source, got {sorted(by_language)} without "
            f"{missing}; add the text, or take the language from `languages`"
        )
    return tuple(checked_text(by_language[language], record.place, f"{key}.{language}") for language in languages)
