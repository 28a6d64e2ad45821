"""Records of arXiv papers, by hand and generated, and the negatives found for them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from adiabatic_ray.corpora.arxiv_negatives import Negatives, choose_all
from adiabatic_ray.corpora.arxiv_papers import Corpus, by_paper, read_corpus
from tests.record_rows import write_lines

Record = dict[str, Any]


def paper(identifier: str, categories: str, abstract: str | None) -> Record:
    return {"id": identifier, "title": f"Title {identifier}", "categories": categories, "abstract": abstract}


HAND = [
    # Category sizes: rare 2, mid 3, wide 5, lone 1, big 6.
    paper("1", "rare wide big", "a b"),
    paper("2", "rare mid big", "a, c!"),
    paper("3", "mid wide", "A B a b"),
    paper("4", "mid wide big", "d"),
    paper("5", "wide big", "a"),
    paper("6", "wide big", "b a"),
    paper("7", "lone big", "a-b"),
]


def hand_corpus(folder: Path) -> Corpus:
    """`HAND`, read from a file that is written into the folder."""
    return read_corpus(write_lines(folder / "papers.jsonl", HAND))


def generated(number: int, seed: int = 0) -> list[Record]:
    """Records with a few categories and words each, some of them with the same words."""
    draw = random.Random(seed)
    return [
        paper(
            f"{draw.randrange(10**6):06d}.{place}",
            " ".join(draw.sample(["a.A", "a.B", "a.C", "b", "c.D", "c.E"], draw.randint(1, 4))),
            " ".join(draw.choices(["the", "of", "a", "in", "boson", "quark", "map", "ring"], k=draw.randint(1, 12))),
        )
        for place in range(number)
    ]


def negatives_of(corpus: Corpus) -> Negatives:
    return by_paper(corpus, choose_all(corpus.work, lambda done, total: None))


def by_id(corpus: Corpus) -> dict[str, tuple[list[str], list[float]]]:
    """Id -> its 21 negatives, their distances."""
    negatives = negatives_of(corpus)
    return {
        identifier: ([corpus.ids[other] for other in others], list(map(float, distances)))
        for identifier, others, distances in zip(
            corpus.ids, negatives.negatives_NL, negatives.distances_NL, strict=True
        )
    }
