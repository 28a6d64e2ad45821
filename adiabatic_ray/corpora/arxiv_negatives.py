"""The paper's 21 negatives for each arXiv paper (Appendix B.2): which papers are candidates, and which are nearest.

Levels are numbered as in Appendix B.1: level 1 is the most similar paper and the hardest, level 20 the least similar of
the 20 nearest, level 21 a random paper and the easiest. What the paper says, and what is chosen where it is silent:

- "all arxiv categories with a maximum size of 10K papers", papers with "at least one of the categories". Chosen: a size
  counts the records of the file that name the category; 10,000 is still small.
- "Sort its categories by size, from smaller to larger". Chosen: the large ones too; equal sizes by name.
- "the closest match is the longest consecutive list of matched categories, starting from the first one". Chosen: the
  list is the paper's own, and a category is matched when the other paper has it at all. (Another reading: both sorted
  lists begin alike. It leaves out papers with the same categories and a smaller one besides.) Where nobody else has the
  first category the longest list is the empty one, which all papers match; such papers are counted.
- "20 closest by Jensen-Shannon distance between the paragraphs". Chosen: between the abstracts, as distributions of
  words: lower case, maximal runs of letters and digits, none left out. No smoothing, since the distance needs none.
  Logarithms to base 2: the distance, a square root, lies in [0, 1]. Equal distances by id.
- "If there were less than 20 papers, fill to 20 by the last one": the farthest of them is repeated.
- "Add randomly selected paper as 21st", "not coinciding with Id of the above paper". Chosen: uniform over the other
  papers of small categories, by a hash of seed and id; it may be one of the 20.

The result depends on records, seed and size limit alone: papers are numbered by id, and a distance is a sum of whole
numbers, the same in any order. A paper is compared with its candidates only, about 0.8 us each at 100 different words;
they share its smallest category, so they are at most as many as the size limit, and the work is linear in the papers.
Tasks share one copy of the words, about 1 kB a paper, and hold one block of candidates at a time. 29,261 papers with
801 candidates each took 29 s on one core, reading them included, and 0.44 GB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from adiabatic_ray.sources import ARXIV_LEVELS

NUM_NEAREST = ARXIV_LEVELS - 1
MAX_CATEGORY_SIZE = 10_000
"""Papers; the paper's 10K of Appendix B.1."""
ENTRIES_PER_SHARD = 100_000_000
"""Words of candidates that a shard looks at: about a second."""
QUERIES_PER_BATCH, CANDIDATES_PER_BLOCK = 64, 512
"""How many distances are held at once, and how many candidates' words: a block stays in a processor's cache."""
UNIT = 2.0**-50
"""Terms of a distance are rounded to whole multiples of this. They add up to at most 2, and multiples of it up to 8 are
exact in float64: so is their sum, in any order, and two papers at equal distances are equal to the last bit."""
DECIMALS = 12
"""Of a squared distance: more than its rounding error (500 common words x UNIT), so equal texts are at distance 0."""

# Shape legend: P papers of the subset in the order of their ids; E (paper, word) entries, those of a paper adjacent;
# V different words; G groups of papers with the same candidates; M candidates of all groups together; N papers of a
# shard; Q papers of a batch; C candidates of one group; L = 21 levels.


@dataclass(frozen=True)
class Workload:
    """All that choosing negatives needs, as numbers: a paper is its row in the order of the ids."""

    starts: np.ndarray
    """int64 [P + 1]: where the entries of a paper start."""
    words_E: np.ndarray
    """int32: number of the word; any numbering does."""
    counts_E: np.ndarray
    """int32: how often the abstract has it."""
    num_words: int
    """V."""
    group_P: np.ndarray
    """int32: the paper's group, which has the candidates."""
    group_starts: np.ndarray
    """int64 [G + 1]: where the candidates of a group start."""
    candidates_M: np.ndarray
    """int32: papers, ascending within a group, each group's own papers among them."""
    random_P: np.ndarray
    """int32: the paper of level 21."""
    order_P: np.ndarray
    """int32: papers so that those of a group are adjacent; shards are ranges of it."""

    def candidates(self, group: int) -> np.ndarray:
        """Papers [C] with the closest match of a group, ascending."""
        return self.candidates_M[self.group_starts[group] : self.group_starts[group + 1]]


class Negatives(NamedTuple):
    """Negatives of the papers of a shard."""

    papers_N: np.ndarray
    """int32: rows of the papers."""
    negatives_NL: np.ndarray
    """int32: rows of their negatives; column 0 is level 1, the most similar, column 20 is level 21, the random one."""
    distances_NL: np.ndarray
    """float64, in [0, 1]: Jensen-Shannon distances to base 2."""


class Matches(NamedTuple):
    """Which papers are closest by categories."""

    group_P: np.ndarray
    """int32: the paper's group."""
    matched_G: list[tuple[str, ...]]
    """What the group's papers have in common with all of the group's candidates; empty: nothing."""
    candidates_G: list[np.ndarray]
    """int32, ascending: all papers that have these categories, the group's own ones among them."""


def closest_matches(categories_P: Sequence[Sequence[str]]) -> Matches:
    """Papers with the closest match by categories, for each paper (Appendix B.2, step 3.2).

    Args:
        categories_P: each paper's categories, smallest first.

    Returns:
        Groups of papers with the same closest match: the longest beginning of a paper's categories that another paper
        has as well. Groups are numbered as their first papers come.
    """
    having: dict[str, list[int]] = {}
    for paper, categories in enumerate(categories_P):
        for category in categories:
            having.setdefault(category, []).append(paper)
    papers_with = {category: np.array(papers, np.int32) for category, papers in having.items()}
    candidates: dict[tuple[str, ...], np.ndarray] = {(): np.arange(len(categories_P), dtype=np.int32)}
    number_of: dict[tuple[str, ...], int] = {}
    group_P = np.empty(len(categories_P), np.int32)
    for paper, categories in enumerate(categories_P):
        matched: tuple[str, ...] = ()
        for category in categories:
            longer = (*matched, category)
            if longer not in candidates:
                so_far = candidates[matched]
                candidates[longer] = so_far[np.isin(so_far, papers_with[category], assume_unique=True)]
            if len(candidates[longer]) < 2:
                break
            matched = longer
        group_P[paper] = number_of.setdefault(matched, len(number_of))
    return Matches(group_P, list(number_of), [candidates[matched] for matched in number_of])


def random_papers(ids: Sequence[str], seed: int) -> np.ndarray:
    """Another paper for each paper, int32 [P]: uniform, by nothing but the seed and the ids, which are ascending."""
    num_papers = len(ids)
    chosen = np.empty(num_papers, np.int32)
    for paper, identifier in enumerate(ids):
        drawn = int.from_bytes(hashlib.sha256(f"negative/{seed}/{identifier}".encode()).digest())
        chosen[paper] = (paper + 1 + drawn % (num_papers - 1)) % num_papers
    return chosen


def shards(work: Workload, entries_per_shard: int = ENTRIES_PER_SHARD) -> list[tuple[int, int]]:
    """Ranges of `order_P` that cost about the same; the negatives do not depend on where they are cut."""
    lengths_P = np.diff(work.starts)
    entries_G = [int(lengths_P[work.candidates(group)].sum()) for group in range(len(work.group_starts) - 1)]
    overhead = 10_000  # a paper costs as much as so many entries before the first one is looked at
    spent_P = np.cumsum(np.array(entries_G)[work.group_P[work.order_P]] + overhead)
    cuts = np.flatnonzero(np.diff(spent_P // entries_per_shard)) + 1
    return list(pairwise([0, *map(int, cuts), len(spent_P)]))


def choose_negatives(work: Workload, start: int, stop: int) -> Negatives:
    """The 21 negatives of the papers `order_P[start:stop]` (Appendix B.2, steps 3.3 and 3.4).

    Returns:
        Papers in the order of `order_P`, their negatives and the distances to them.
    """
    papers_N = work.order_P[start:stop]
    negatives_NL = np.empty((len(papers_N), ARXIV_LEVELS), np.int32)
    squares_NL = np.empty((len(papers_N), ARXIV_LEVELS))
    compare = Comparison(work)
    for first, last in _batches(work.group_P[papers_N]):
        papers_Q = papers_N[first:last]
        candidates_C = work.candidates(int(work.group_P[papers_Q[0]]))
        squares_QC = compare.squared_distances(papers_Q, candidates_C)
        for place, paper in enumerate(papers_Q):
            row, itself, other = first + place, np.searchsorted(candidates_C, paper), work.random_P[paper : paper + 1]
            others, squares = np.delete(candidates_C, itself), np.delete(squares_QC[place], itself)
            nearest = _nearest(squares)
            negatives_NL[row] = [*others[nearest], *other]
            squares_NL[row, :NUM_NEAREST] = squares[nearest]
            squares_NL[row, NUM_NEAREST:] = compare.squared_distances(papers_Q[place : place + 1], other)
    return Negatives(papers_N, negatives_NL, np.sqrt(squares_NL))


def choose_all(work: Workload, progress: Callable[[int, int], None]) -> list[Negatives]:
    """The negatives of all papers in this process: one part for each of `shards(work)`.

    Args:
        work: the papers.
        progress: called with (papers done so far, all papers).
    """
    parts = []
    for start, stop in shards(work):
        parts.append(choose_negatives(work, start, stop))
        progress(stop, len(work.order_P))
    return parts


def _batches(groups_N: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of at most QUERIES_PER_BATCH papers of one group."""
    bounds = [0, *map(int, np.flatnonzero(np.diff(groups_N)) + 1), len(groups_N)]
    for first, last in pairwise(bounds):
        for begin in range(first, last, QUERIES_PER_BATCH):
            yield begin, min(begin + QUERIES_PER_BATCH, last)


def _nearest(squares: np.ndarray) -> np.ndarray:
    """Places of the 20 smallest, ascending, the first one first among equals; of fewer, the last one repeated."""
    places = np.arange(len(squares))
    if len(squares) > NUM_NEAREST:
        places = np.flatnonzero(squares <= np.partition(squares, NUM_NEAREST - 1)[NUM_NEAREST - 1])
    places = places[np.argsort(squares[places], kind="stable")][:NUM_NEAREST]
    return np.pad(places, (0, NUM_NEAREST - len(places)), mode="edge")


class Comparison:
    """Squared Jensen-Shannon distances of a few papers to many; holds no more than the words of one block of papers."""

    def __init__(self, work: Workload) -> None:
        self._work = work
        self._frequencies_V = np.zeros(work.num_words)
        self._information_V = np.zeros(work.num_words)

    def squared_distances(self, papers_Q: np.ndarray, candidates_C: np.ndarray) -> np.ndarray:
        """Jensen-Shannon divergences to base 2, float64 [Q, C], in [0, 1] and rounded to 12 decimals.

        With p and q the frequencies of a word in two texts and h(x) = x log2 x, the divergence (Lin 1991, doi
        10.1109/18.61115, section IV, weights 1/2) is the sum over all words of h(p)/2 + h(q)/2 - h((p + q)/2). A word
        that one text alone has adds p/2, and frequencies add up to 1. So the divergence is 1 - s/2, where s is the sum
        of h(p + q) - h(p) - h(q) over the words that both texts have.
        """
        own_Q = [self._entries(papers_Q[place : place + 1]) for place in range(len(papers_Q))]
        shared_QC = np.empty((len(papers_Q), len(candidates_C)))
        for start in range(0, len(candidates_C), CANDIDATES_PER_BLOCK):
            stop = min(start + CANDIDATES_PER_BLOCK, len(candidates_C))
            block = self._entries(candidates_C[start:stop])
            information = block.frequencies * np.log2(block.frequencies)
            for place, own in enumerate(own_Q):
                self._frequencies_V[own.words] = own.frequencies
                self._information_V[own.words] = own.frequencies * np.log2(own.frequencies)
                own_frequencies = self._frequencies_V.take(block.words)
                both = np.flatnonzero(own_frequencies > 0)
                sums = own_frequencies[both] + block.frequencies[both]
                terms = sums * np.log2(sums) - information[both] - self._information_V.take(block.words[both])
                shared_QC[place, start:stop] = np.bincount(block.rows[both], np.rint(terms / UNIT), stop - start)
                self._frequencies_V[own.words] = 0
        return np.clip(np.round(1 - shared_QC * (UNIT / 2), DECIMALS), 0, 1)

    def _entries(self, papers: np.ndarray) -> _Entries:
        starts = self._work.starts[papers]
        lengths = self._work.starts[papers + 1] - starts
        rows = np.repeat(np.arange(len(papers)), lengths)
        entries = np.arange(len(rows)) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
        counts = self._work.counts_E[entries]
        frequencies = counts / np.bincount(rows, counts)[rows]
        return _Entries(rows, self._work.words_E[entries].astype(np.intp), frequencies)


class _Entries(NamedTuple):
    """The words of some papers."""

    rows: np.ndarray
    """Place of the paper among these papers."""
    words: np.ndarray
    frequencies: np.ndarray
    """Share of the paper's words that are this one."""
