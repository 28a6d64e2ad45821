"""Local files: arXiv metadata as triplets, and a user's own triplets and labelled pairs.

Nothing is guessed: a key, a language or a text that is missing is an error with file and line.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adiabatic_ray.record_files import Record, checked_text, count_records, local_path, read_records
from adiabatic_ray.sentences import split_sentences
from adiabatic_ray.sources import ArxivTriplets, MsMarco, PairFile, TripletFile
from adiabatic_ray.text_sets import PARTS, Pair, Part, Sample, part_range


class Paper(NamedTuple):
    """The two texts of a paper, and its place in the sampling order."""

    rank: int
    query: str
    passage: str


def triplet_file_samples(source: TripletFile, part: Part) -> Iterator[Sample]:
    """A user's own triplets, in file order; one positive and one negative for tuning, as for MS MARCO.

    Raises:
        ValueError: the file is missing, malformed, or shorter than the parts together.
    """
    return line_samples(source, part, local_path(source))


def line_samples(source: MsMarco | TripletFile, part: Part, path: Path) -> Iterator[Sample]:
    """Samples from records with `query`, `pos` or `positives`, `neg` or `negatives` (lists, or one text).

    First positive and first negative for tuning and validation, all of them for evaluation (paper, Appendix A). The
    file is read twice, to count its records and to parse those of the part; nothing else is kept.

    Raises:
        ValueError: the file is malformed or shorter than the parts together; a missing key, an empty list or text.
    """
    chosen = part_range(source, part, count_records(path))
    most = None if part == "evaluation" else 1
    for record in read_records(path, chosen.start, chosen.stop):
        sides = []
        for keys in (("pos", "positives"), ("neg", "negatives")):
            value, key = record.value(*keys), " or ".join(keys)
            texts = [value] if isinstance(value, str) else value
            if not isinstance(texts, list) or not texts:
                raise ValueError(f"{record.place}: {key!r} must be a list of texts, got {value!r:.80}; fill it")
            sides.append([checked_text(text, record.place, key) for text in texts[:most]])
        yield Sample(record.text("query"), *sides)


def arxiv_samples(source: ArxivTriplets, part: Part) -> Iterator[Sample]:
    """One triplet a paper: title -> abstract, or first sentence -> rest of the abstract (paper, Appendix B).

    The negative is the passage of another paper of the same part, drawn uniformly by `negative_seed` (the easiest of
    the paper's 21 levels). Papers are ordered by a hash of seed and id: `num_papers` and the parts are random samples
    that do not depend on the order of the file. Line breaks and runs of white space become single spaces. Left out are
    papers without a title or an abstract, for `first` those with an abstract of one sentence, and repeated ids.

    Raises:
        ValueError: the file is missing or malformed, or has fewer usable papers than asked for.
    """
    usable = _papers(source)
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
    papers = papers[chosen.start : chosen.stop]
    if len(papers) < 2:
        raise ValueError(
            f"{source.name}: a negative is another paper, so a part needs 2, got one for {part}; raise its size"
        )
    draw = np.random.default_rng([source.negative_seed, PARTS.index(part)])
    steps = draw.integers(1, len(papers), size=len(papers))
    for place, paper in enumerate(papers):
        other = papers[(place + int(steps[place])) % len(papers)]
        yield Sample(paper.query, [paper.passage], [other.passage])


def _papers(source: ArxivTriplets) -> Iterator[Paper]:
    seen: set[int] = set()
    for record in read_records(local_path(source)):
        identifier = str(record.value("id"))
        rank = int.from_bytes(hashlib.sha256(f"{source.negative_seed}/{identifier}".encode()).digest()[:8])
        title, abstract = (_normalised(record, key) for key in ("title", "abstract"))
        if source.flavour == "title":
            query, passage = title, abstract
        else:
            query, *rest = split_sentences(abstract) or [""]
            passage = " ".join(rest)
        if query and passage and rank not in seen:
            seen.add(rank)
            yield Paper(rank, query, passage)


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
            label never occurs, or only some records name a cluster.
    """
    pairs: list[Pair] = []
    for number, record in enumerate(read_records(local_path(source))):
        label = record.text("label")
        queries, passages = (_texts(record, key, source.languages) for key in ("query", "passage"))
        cluster = record.content.get("cluster")
        if not isinstance(cluster, str | int | None):
            raise ValueError(f"{record.place}: 'cluster' must be a text or an integer, got {cluster!r:.80}; change it")
        if number and (cluster is None) != (has_no_cluster := isinstance(pairs[0].cluster, tuple)):
            said = "no" if has_no_cluster else "a"
            raise ValueError(
                f"{record.place}: all records name a cluster or none does; the first one has {said} 'cluster', this "
                f"one has {cluster!r}; add it everywhere or remove it"
            )
        pairs.append(Pair(queries, passages, label, queries if cluster is None else cluster))
    others = sorted({pair.label for pair in pairs} - {source.positive_label})
    return (source.positive_label, *others), pairs


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
