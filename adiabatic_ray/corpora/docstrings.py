"""Docstrings of installed libraries as triplets: English, full of jargon, and on every machine.

In the manner of the paper's arXiv-first: the first sentence asks, the rest of the docstring answers, the rest of
another docstring of the same file is the negative: it is about the same things, so that few are told apart by topic
alone. Libraries are found and read as text, never imported: that would
take seconds and run code.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from adiabatic_ray.corpora.sentences import split_sentences
from adiabatic_ray.corpora.text_sets import PARTS, Part, Sample, part_range
from adiabatic_ray.sources import DocstringTriplets

MAX_PASSAGE_CHARACTERS = 240
"""The rest of a docstring is cut here, at a space: about 60 tokens, a paragraph of prose or the first parameters."""
MIN_QUERY_WORDS, MAX_QUERY_WORDS = 3, 14
"""Shorter ones say nothing; longer ones (a tenth of them) lengthen every query of their batch."""
MIN_PASSAGE_WORDS = 8
SKIPPED_FOLDERS = frozenset(
    ("tests", "test", "testing", "_testing", "_examples", "externals", "_vendor", "array_api_compat", "array_api_extra")
)
"""Tests, and code of other libraries that is shipped along: it would turn up in several libraries."""
RULE = re.compile(r"^\s*[-=~^*\"]{3,}\s*$", re.MULTILINE)
"""The line under a section's title."""


class Docstring(NamedTuple):
    """First sentence and rest of a docstring, white space normalised."""

    library: str
    path: str
    """Of the source file."""
    first: str
    rest: str


def docstring_samples(source: DocstringTriplets, part: Part) -> Iterator[Sample]:
    """One triplet a docstring; the parts are a permutation by `negative_seed`, cut.

    The negative is another docstring of the same file and the same part, drawn by `negative_seed`; of the library where
    the part holds only one of this file, of any library where it holds only one of this library.

    Raises:
        ValueError: a library is not installed or has no Python source, or there are too few docstrings.
    """
    if len(set(source.libraries)) < len(source.libraries):
        raise ValueError(f"{source.name}: each library is named once, got {source.libraries}; remove the repeated one")
    everything = _distinct(one for library in source.libraries for one in library_docstrings(library))
    chosen = part_range(source, part, len(everything), "docstrings")
    order = np.random.default_rng(source.negative_seed).permutation(len(everything))[chosen.start : chosen.stop]
    docstrings = [everything[number] for number in order]
    if len(docstrings) < 2:
        raise ValueError(
            f"{source.name}: a negative is another docstring, so a part needs 2, got one for {part}; raise its size"
        )
    members: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, one in enumerate(docstrings):
        for neighbourhood in _neighbourhoods(one):
            members[neighbourhood].append(place)
    draw = np.random.default_rng([source.negative_seed, PARTS.index(part)])
    for place, one in enumerate(docstrings):
        others = next(members[near] for near in _neighbourhoods(one) if len(members[near]) > 1)
        step = int(draw.integers(1, len(others)))
        negative = docstrings[others[(others.index(place) + step) % len(others)]]
        yield Sample(one.first, [one.rest], [negative.rest])


def _neighbourhoods(docstring: Docstring) -> tuple[tuple[str, ...], ...]:
    """From near to far: its file, its library, everything."""
    return (docstring.library, docstring.path), (docstring.library,), ()


@lru_cache(maxsize=32)
def library_docstrings(library: str) -> tuple[Docstring, ...]:
    """Docstrings of a library's public functions, classes and methods, in the order of file names and lines.

    Public: no name on the way from the module to the object starts with an underscore; the module's own name may, since
    libraries keep public functions in such files. Of docstrings with the same first sentence, or the same rest, the
    first one counts. Files that this Python cannot parse (templates, other versions) have none.

    Args:
        library: import name of an installed library, without dots. Read once in a process.

    Raises:
        ValueError: it is not installed, has no Python source, or the name has a dot.
    """
    texts = ((path, text) for path in _source_files(library) for text in _public_docstrings(path))
    found = (Docstring(library, str(path), *first_and_rest(text)) for path, text in texts)
    return tuple(_distinct(one for one in found if _is_usable(one)))


def first_and_rest(docstring: str) -> tuple[str, str]:
    """First sentence, which ends with its paragraph at the latest, and the rest, cut to `MAX_PASSAGE_CHARACTERS`."""
    paragraph, _, below = docstring.strip().partition("\n\n")
    first, *more = split_sentences(" ".join(paragraph.split())) or [""]
    rest = " ".join([*more, *RULE.sub(" ", below).split()])
    if len(rest) > MAX_PASSAGE_CHARACTERS:
        rest = rest[: MAX_PASSAGE_CHARACTERS + 1].rpartition(" ")[0]
    return first, rest


def _is_usable(docstring: Docstring) -> bool:
    """A sentence that opens with a letter, so no directive, and enough text to find it by."""
    num_words = len(docstring.first.split())
    if not MIN_QUERY_WORDS <= num_words <= MAX_QUERY_WORDS or not docstring.first[0].isalpha():
        return False
    return len(docstring.rest.split()) >= MIN_PASSAGE_WORDS


def _distinct(docstrings: Iterable[Docstring]) -> list[Docstring]:
    """Without those whose first sentence or rest was there before: one query must not have two answers."""
    found: list[Docstring] = []
    firsts: set[str] = set()
    rests: set[str] = set()
    for one in docstrings:
        if one.first not in firsts and one.rest not in rests:
            found.append(one)
            firsts.add(one.first)
            rests.add(one.rest)
    return found


def _source_files(library: str) -> list[Path]:
    if "." in library:
        raise ValueError(
            f"libraries are named as they are imported, without dots, got {library!r}: finding a part of a library "
            f"would import it; name {library.partition('.')[0]!r}"
        )
    spec = importlib.util.find_spec(library)
    if spec is None:
        raise ValueError(f"a library must be installed for its docstrings to be read, got {library!r}; install it")
    if spec.submodule_search_locations:
        roots = [Path(location) for location in spec.submodule_search_locations]
        files = [path for root in roots for path in sorted(root.rglob("*.py")) if _is_wanted(path.relative_to(root))]
    else:
        files = [Path(spec.origin)] if spec.origin and spec.origin.endswith(".py") else []
    if not files:
        raise ValueError(f"a library needs Python source to be read, got {library!r} without any; name another library")
    return files


def _is_wanted(path: Path) -> bool:
    return SKIPPED_FOLDERS.isdisjoint(path.parts[:-1]) and not path.name.startswith(("test_", "conftest"))


def _public_docstrings(path: Path) -> Iterator[str]:
    source = path.read_bytes()
    if b'"""' not in source and b"'''" not in source:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd escapes in other people's files
            module = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    yield from _docstrings_below(module)


def _docstrings_below(parent: ast.Module | ast.ClassDef) -> Iterator[str]:
    for node in parent.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            if text := ast.get_docstring(node):
                yield text
            if isinstance(node, ast.ClassDef):
                yield from _docstrings_below(node)
