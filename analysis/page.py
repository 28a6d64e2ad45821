"""What a report says, before it is HTML or Markdown: sections of paragraphs, tables and pictures.

Both files are written from this one description, so neither can say what the other does not. Texts are plain: whatever
writes them escapes them, and a name with HTML in it stays a name. A table is also the report's heat map: its cells
carry a step of `shades`, and the number stays text that can be read aloud, searched, copied and printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from markupsafe import Markup

_LONGEST_NUMBER = 5
"""Characters of a number in a map."""
Tone = Literal["plain", "heading", "verdict", "warning", "note"]


@dataclass(frozen=True)
class Paragraph:
    """A few sentences."""

    text: str
    tone: Tone = "plain"
    """heading: what the next blocks are about. verdict: what the reader came for. warning: what to know before any
    number. note: small print."""


@dataclass(frozen=True)
class Bullets:
    """One sentence or more each."""

    texts: tuple[str, ...]
    num_leads: int = 0
    """How many of the first are what the reader came for."""


@dataclass(frozen=True)
class Code:
    """Commands, each on a line of its own."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One entry of a table."""

    text: str
    tip: str = ""
    """What hovering says."""
    shade: str = ""
    """Class of `shades` that colours it."""
    is_faint: bool = False
    """Not significant."""


@dataclass(frozen=True)
class Table:
    """Rows under titles; the first column names the row."""

    caption: str
    titles: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    alignment: str = ""
    """`<` or `>` for each column; none: the first to the left, the others to the right."""
    is_map: bool = False
    """Small square cells, as in a heat map."""
    row_breaks: frozenset[int] = frozenset()
    """Rows that begin a group, and have a line above."""
    column_breaks: frozenset[int] = frozenset()
    """The same of columns, to the left; 0 is the column of names."""

    @property
    def name_width(self) -> int:
        """Characters of the longest name of a row."""
        return max((len(row[0].text) for row in self.rows), default=0)

    @property
    def end_width(self) -> int:
        """Characters of the longest entry of the last column, where it is words and no number of a map; else 0."""
        longest = max((len(row[-1].text) for row in self.rows), default=0)
        return longest if longest > _LONGEST_NUMBER else 0

    @property
    def sides(self) -> str:
        """Alignment of every column."""
        return self.alignment or "<" + ">" * (len(self.titles) - 1)


@dataclass(frozen=True)
class Picture:
    """A chart, drawn by `charts`."""

    title: str
    svg: Markup
    legend: Markup
    instead: str
    """What stands in its place where no picture can: which table or file has its numbers."""


@dataclass(frozen=True)
class Beside:
    """Blocks next to one another where the page is wide enough."""

    blocks: tuple[Block, ...]
    is_maps: bool = False
    """Narrow blocks: three to a row."""


@dataclass(frozen=True)
class Fold:
    """Blocks that open on demand, and in print."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Scale:
    """Legend of the shades."""

    kind: Literal["diverging", "sequential"]
    text: str


Block: TypeAlias = Paragraph | Bullets | Code | Table | Picture | Beside | Fold | Scale


@dataclass(frozen=True)
class Section:
    """A part of the page with a place in its list of contents."""

    key: str
    """Unique in its part, letters and hyphens: its anchor."""
    title: str
    blocks: tuple[Block, ...]
    sources: tuple[str, ...] = ()
    """Where the numbers come from: tables with columns, and what computes them."""


@dataclass(frozen=True)
class Part:
    """Sections about one sweep, or about all of them."""

    title: str
    question: str
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Page:
    """The whole report."""

    title: str
    parts: tuple[Part, ...]


def by_group(parts: Sequence[tuple[str, Sequence[Block]]], num_open: int) -> list[Block]:
    """Blocks of each group of settings under its name: the first ones open, the others folded; one group needs no name.

    Args:
        parts: name and blocks of each group.
        num_open: how many stand open.
    """
    if len(parts) == 1:
        return list(parts[0][1])
    made: list[Block] = []
    for place, (name, blocks) in enumerate(parts):
        made += [Paragraph(name, "heading"), *blocks] if place < num_open else [Fold(name, tuple(blocks))]
    return made


def text_table(caption: str, titles: Sequence[str], rows: Sequence[Sequence[str | Cell]], alignment: str = "") -> Table:
    """A table whose entries are mostly plain text."""
    cells = (tuple(one if isinstance(one, Cell) else Cell(one) for one in row) for row in rows)
    return Table(caption, tuple(titles), tuple(cells), alignment)
