"""A page as Markdown: the same sections, sentences and tables; a picture's numbers are in the tables beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .markdown import table_lines
from .page import Beside, Block, Bullets, Code, Fold, Page, Paragraph, Picture, Scale, Section, Table

_SMALLEST_HEADING = 6


def render_markdown(page: Page, pictures: Sequence[str] = ()) -> str:
    """The whole file.

    Args:
        page: what to say.
        pictures: names of picture files beside it, shown at the end.
    """
    lines: list[str] = []
    for place, part in enumerate(page.parts):
        depth = 1 if len(page.parts) == 1 or place == 0 else 2
        lines += [f"{'#' * depth} {_escape(part.title)}", ""]
        if part.question:
            lines += [f"> {_escape(part.question)}", ""]
        for section in part.sections:
            lines += _section(section, depth + 1)
    lines += [f"![{name.partition('.')[0]}]({name})\n" for name in pictures]
    return "\n".join(lines)


def _section(section: Section, depth: int) -> list[str]:
    lines = [f"{'#' * depth} {_escape(section.title)}", ""]
    lines += _blocks(section.blocks, depth + 1)
    for source in section.sources:
        lines += [f"*Source: {_escape(source)}*", ""]
    return lines


def _blocks(blocks: Iterable[Block], depth: int) -> list[str]:
    lines: list[str] = []
    for block in blocks:
        match block:
            case Paragraph():
                before, after = {"heading": (f"{_marks(depth)} ", ""), "verdict": ("**", "**")}.get(
                    block.tone, ("", "")
                )
                lines += [f"{before}{_escape(block.text)}{after}", ""]
            case Bullets():
                lines += [*(f"- {_escape(text)}" for text in block.texts), ""]
            case Code():
                lines += _fenced(block.lines)
            case Table():
                lines += _table(block, depth)
            case Fold():
                lines += [f"{_marks(depth)} {_escape(block.title)}", "", *_blocks(block.blocks, depth + 1)]
            case Beside():
                lines += _blocks(block.blocks, depth)
            case Picture() | Scale():
                pass
    return lines


def _fenced(commands: Sequence[str]) -> list[str]:
    """Commands between fences that are longer than any in them."""
    longest = max((len(run) for command in commands for run in re.findall("`+", command)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, *(" ".join(command.splitlines()) for command in commands), fence, ""]


def _table(table: Table, depth: int) -> list[str]:
    rows = [[_escape(cell.text) for cell in row] for row in table.rows]
    return [
        f"{_marks(depth)} {_escape(table.caption)}",
        "",
        *table_lines([_escape(title) for title in table.titles], rows, table.sides),
        "",
    ]


def _marks(depth: int) -> str:
    return "#" * min(depth, _SMALLEST_HEADING)


def _escape(text: str) -> str:
    """Markdown shows HTML that it finds; a name with HTML in it stays a name."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
