"""Both ends of `arxiv_negatives`: arXiv's metadata as numbers to work on, and the negatives as a Parquet file.

The metadata is read twice, one record at a time: arXiv's own file has millions of records, and only at its end is it
known how large a category is. Kept are the words of the papers of small categories. Papers are numbered by id, so that
nothing after this file depends on the order of the records.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adiabatic_ray.corpora.arxiv_negatives import (
    MAX_CATEGORY_SIZE,
    Matches,
    Negatives,
    Workload,
    closest_matches,
    random_papers,
)
from adiabatic_ray.corpora.record_files import Record, checked_text, read_records
from adiabatic_ray.storage import replacing

RECIPE_VERSION = 1
"""Of the choices that `arxiv_negatives` names: another version finds other negatives for the same records."""
WORD = re.compile(r"[^\W_]+")
"""A maximal run of letters and digits."""


class Paper(NamedTuple):
    """A record of a small category."""

    identifier: str
    categories: tuple[str, ...]
    """Smallest first."""
    abstract_digest: str
    words: np.ndarray
    """int32: numbers of the different words."""
    counts: np.ndarray
    """int32: how often each comes."""


@dataclass(frozen=True)
class Corpus:
    """The papers to find negatives for and among, and what was left out."""

    ids: tuple[str, ...]
    work: Workload
    seed: int
    max_category_size: int
    num_records: int
    num_large_only: int
    """Records left out: none of their categories is small."""
    num_wordless: int
    """Records of a small category left out: no word in the abstract."""
    num_unmatched: int
    """Papers whose smallest category no other paper has: their candidates are all papers."""
    digest: str
    """SHA-256 of what the negatives depend on: sizes of categories; ids, categories and abstracts of the papers."""


def read_corpus(path: Path, max_category_size: int = MAX_CATEGORY_SIZE, seed: int = 0) -> Corpus:
    """Papers of arXiv's metadata that belong to a small category (Appendix B.2, steps 1 and 2).

    Args:
        path: JSON lines or Parquet with `id`, `categories` (a list, or one text with spaces, as arXiv has it) and
            `abstract`; other keys are not looked at.
        max_category_size: most papers of a small category.
        seed: of the random paper.

    Raises:
        ValueError: the file cannot be read, a record lacks a key or repeats an id, no category is small, or fewer than
            two papers are left.
    """
    sizes = _category_sizes(path)
    num_records = sizes.pop("")
    small = {category for category, size in sizes.items() if size <= max_category_size}
    if num_records and not small:
        smallest = min(sizes, key=lambda category: (sizes[category], category))
        raise ValueError(
            f"{path}: some category must have at most {max_category_size:,} papers, got {smallest} with "
            f"{sizes[smallest]:,} as the smallest one; raise the largest category size"
        )
    vocabulary: dict[str, int] = {}
    selected = sorted(_selected(path, sizes, small, vocabulary), key=lambda paper: paper.identifier)
    papers = [paper for paper in selected if len(paper.words)]
    if len(papers) < 2:
        raise ValueError(
            f"{path}: a negative is another paper, so two papers of small categories with an abstract are needed, got "
            f"{len(papers)} in {num_records:,} records; give a file with more papers, or raise the largest category "
            f"size of {max_category_size:,}"
        )
    ids = tuple(paper.identifier for paper in papers)
    matches = closest_matches([paper.categories for paper in papers])
    return Corpus(
        ids=ids,
        work=_workload(papers, len(vocabulary), matches, random_papers(ids, seed)),
        seed=seed,
        max_category_size=max_category_size,
        num_records=num_records,
        num_large_only=num_records - len(selected),
        num_wordless=len(selected) - len(papers),
        num_unmatched=sum(not matches.matched_G[group] for group in matches.group_P),
        digest=_digest(sizes, papers),
    )


def _category_sizes(path: Path) -> dict[str, int]:
    """Records that name a category, for each category; under the empty name the number of all records."""
    sizes: Counter[str] = Counter({"": 0})
    seen: set[str] = set()
    for record in read_records(path):
        identifier = record.text("id")
        if identifier in seen:
            raise ValueError(
                f"{record.place}: each 'id' may stand once, got {identifier!r} again; remove one of the two records"
            )
        seen.add(identifier)
        sizes.update(("", *_categories(record)))
    return dict(sizes)


def _categories(record: Record) -> set[str]:
    value = record.value("categories")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{record.place}: 'categories' must be a list of texts, got {value!r:.80}; write it so")
    if not (categories := set(" ".join(texts).split())):
        raise ValueError(
            f"{record.place}: a paper must have a category, got {value!r:.80}; add it or remove the record"
        )
    return categories


def _selected(path: Path, sizes: Mapping[str, int], small: set[str], vocabulary: dict[str, int]) -> Iterator[Paper]:
    """Papers with a small category in the order of the file; adds their words to the vocabulary."""
    for record in read_records(path):
        categories = _categories(record)
        if categories.isdisjoint(small):
            continue
        if "abstract" not in record.content:
            raise ValueError(
                f"{record.place}: a paper needs 'abstract', got the keys {sorted(record.content)}; add it (empty, if "
                "there is none: the paper is left out then)"
            )
        abstract = record.content["abstract"]
        if abstract is None or (isinstance(abstract, str) and not abstract.strip()):
            abstract = ""
        else:
            checked_text(abstract, record.place, "abstract")
        counts = Counter(WORD.findall(abstract.lower()))
        yield Paper(
            record.text("id"),
            tuple(sorted(categories, key=lambda category: (sizes[category], category))),
            hashlib.sha256(abstract.encode()).hexdigest(),
            np.array([vocabulary.setdefault(word, len(vocabulary)) for word in counts], np.int32),
            np.array(list(counts.values()), np.int32),
        )


def _workload(papers: Sequence[Paper], num_words: int, matches: Matches, random_P: np.ndarray) -> Workload:
    lengths_P = [len(paper.words) for paper in papers]
    return Workload(
        starts=np.cumsum([0, *lengths_P]),
        words_E=np.concatenate([paper.words for paper in papers]),
        counts_E=np.concatenate([paper.counts for paper in papers]),
        num_words=num_words,
        group_P=matches.group_P,
        group_starts=np.cumsum([0, *map(len, matches.candidates_G)]),
        candidates_M=np.concatenate(matches.candidates_G),
        random_P=random_P,
        order_P=np.argsort(matches.group_P, kind="stable").astype(np.int32),
    )


def _digest(sizes: Mapping[str, int], papers: Sequence[Paper]) -> str:
    digest = hashlib.sha256(json.dumps(sorted(sizes.items())).encode())
    for paper in papers:
        digest.update(json.dumps([paper.identifier, paper.categories, paper.abstract_digest]).encode())
    return digest.hexdigest()


def by_paper(corpus: Corpus, shards: Sequence[Negatives]) -> Negatives:
    """The negatives of all papers in the order of the ids, from those of all shards in any order."""
    papers_P = np.concatenate([shard.papers_N for shard in shards])
    order_P = np.argsort(papers_P)
    assert np.array_equal(papers_P[order_P], np.arange(len(corpus.ids))), "each paper belongs to one shard"
    negatives_PL = np.concatenate([shard.negatives_NL for shard in shards])
    distances_PL = np.concatenate([shard.distances_NL for shard in shards])
    return Negatives(papers_P[order_P], negatives_PL[order_P], distances_PL[order_P])


def write_negatives(path: Path, corpus: Corpus, negatives: Negatives, with_distances: bool = False) -> None:
    """Write one row a paper, whole or not at all; equal input gives equal bytes.

    Args:
        path: the Parquet file; an existing one is replaced.
        corpus: for the ids, and for what the file says about its origin.
        negatives: of all papers in the order of the ids, as from `by_paper`.
        with_distances: add the column `distances`.

    Raises:
        OSError: the folder cannot be written to, or the disk is full.
    """
    ids, listed = corpus.ids, pa.list_(pa.string())
    columns = {
        "id": (pa.array(ids, pa.string()), "id", "arXiv id of the paper, in ascending order"),
        "negatives": (
            pa.array([[ids[other] for other in others_L] for others_L in negatives.negatives_NL], listed),
            "ids",
            "21 papers: first level 1, the most similar and hardest one, last level 21, a random one",
        ),
    }
    if with_distances:
        distances = pa.array(list(negatives.distances_NL), pa.list_(pa.float64()))
        columns["distances"] = (distances, "1", "Jensen-Shannon distance to each negative, base 2")
    fields = [
        pa.field(name, values.type, metadata={"unit": unit, "meaning": meaning})
        for name, (values, unit, meaning) in columns.items()
    ]
    origin = {
        "recipe_version": RECIPE_VERSION,
        "seed": corpus.seed,
        "max_category_size": corpus.max_category_size,
        "input_digest": corpus.digest,
        "num_records": corpus.num_records,
        "num_papers": len(corpus.ids),
    }
    schema = pa.schema(fields, metadata={name: str(value) for name, value in origin.items()})
    with replacing(path) as temporary:
        table = pa.Table.from_arrays([values for values, _, _ in columns.values()], schema=schema)
        pq.write_table(table, temporary, compression="zstd")
