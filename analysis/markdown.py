"""Tables in Markdown, for what is written to be read on a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table_lines(titles: Sequence[str], rows: Iterable[Sequence[str]], alignment: str) -> list[str]:
    """Lines of a table.

    Args:
        titles: of the columns.
        rows: texts, as many as there are titles.
        alignment: `<` or `>` for each column: to the left or to the right.
    """
    marks = [{"<": ":--", ">": "--:"}[side] for side in alignment]
    return [_row(titles), _row(marks), *(_row(row) for row in rows)]


def _row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |"
