"""Builds the paper's 21 negatives for each arXiv paper: `adiabatic data arxiv-negatives METADATA --out FILE`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from adiabatic_ray.corpora.arxiv_negatives import MAX_CATEGORY_SIZE, Negatives, Workload, choose_all
from adiabatic_ray.corpora.arxiv_papers import Corpus, by_paper, read_corpus, write_negatives
from adiabatic_ray.storage import on_disk

from .environment import plain_console, prepare_environment
from .errors import user_errors

SHOWN_LEVELS = (1, 2, 5, 10, 15, 20, 21)
LOG_EVERY_S = 15.0
"""Least time between two lines of progress where the output is no terminal."""


@user_errors
def arxiv_negatives(
    metadata: Annotated[
        Path,
        typer.Argument(metavar="METADATA", help="arXiv metadata, JSON lines or Parquet: id, categories, abstract."),
    ],
    target: Annotated[
        str, typer.Option("--out", metavar="FILE.parquet", help="File to write; replaced if it is there.")
    ],
    seed: Annotated[int, typer.Option(min=0, help="Seed of level 21, the random paper.")] = 0,
    max_category_size: Annotated[
        int, typer.Option(min=1, help="Only papers with a category of at most so many; the paper's 10K.")
    ] = MAX_CATEGORY_SIZE,
    distances: Annotated[bool, typer.Option("--distances", help="Write the distance to each negative too.")] = False,
    use_ray: Annotated[
        bool, typer.Option("--ray/--no-ray", help="Spread over Ray, or work in this process: the same file.")
    ] = True,
) -> None:
    """Find 21 negatives for each arXiv paper, from the most similar to a random one (the paper's Appendix B.2).

    Read them with `ArxivTriplets(path=METADATA, negatives=FILE, level=...)`.
    """
    out = on_disk(target)
    check_out(out, metadata)
    prepare_environment()
    console = plain_console()
    _say(console, f"reading {metadata} ...")
    corpus = read_corpus(metadata, max_category_size, seed)
    negatives = by_paper(corpus, _choose(console, corpus.work, use_ray))
    write_negatives(out, corpus, negatives, distances)
    print_summary(console, corpus, negatives)
    _say(console, f"written to {out}")


def check_out(out: Path, metadata: Path) -> None:
    """Find out before the work whether its result can be written.

    Raises:
        ValueError: the name does not end in .parquet, is that of a folder, or that of the metadata.
        OSError: the folder cannot be made or written to.
    """
    if out.suffix != ".parquet" or out.is_dir():
        what = "a folder" if out.is_dir() else repr(out.name)
        raise ValueError(f"--out must be a file whose name ends in .parquet, got {what}; name it so")
    if out.exists() and metadata.exists() and out.samefile(metadata):
        raise ValueError(f"--out must be another file than the metadata, got {out} for both; give another path")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out.parent):
        pass


def _choose(console: Console, work: Workload, use_ray: bool) -> list[Negatives]:
    with Progress(console=console, disable=not console.is_terminal) as bars:
        bar = bars.add_task("papers", total=len(work.order_P))
        last_line_s = time.monotonic()

        def progress(done: int, total: int) -> None:
            nonlocal last_line_s
            bars.update(bar, completed=done)
            if not console.is_terminal and time.monotonic() - last_line_s > LOG_EVERY_S:
                last_line_s = time.monotonic()
                _say(console, f"{time.strftime('%H:%M:%S')} papers: {done:,} of {total:,}")

        if not use_ray:
            return choose_all(work, progress)
        from adiabatic_ray.on_ray.cluster import start_ray
        from adiabatic_ray.on_ray.negative_tasks import choose_on_cluster

        start_ray()
        return choose_on_cluster(work, progress)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_summary(console: Console, corpus: Corpus, negatives: Negatives) -> None:
    """What was left out, how often 20 papers were found, and how far away they are."""
    ranked_PL = np.sort(negatives.negatives_NL[:, :-1])
    num_full = int((np.diff(ranked_PL) > 0).all(axis=1).sum())
    num_papers = len(corpus.ids)
    for line in (
        f"{num_papers:,} papers of {corpus.num_records:,} records; left out: {corpus.num_large_only:,} with categories "
        f"of more than {corpus.max_category_size:,} only, {corpus.num_wordless:,} without a word in the abstract",
        f"levels 1 to 20 are different papers for {num_full:,} ({num_full / num_papers:.1%}; in the paper 84.2%); the "
        "others have fewer candidates, and the last one is repeated",
        f"{corpus.num_unmatched:,} papers have a smallest category of their own: all papers are their candidates",
    ):
        _say(console, line)
    table = Table("level", "5%", "median", "95%", title="Jensen-Shannon distance")
    for level in SHOWN_LEVELS:
        low, middle, high = np.quantile(negatives.distances_NL[:, level - 1], [0.05, 0.5, 0.95])
        table.add_row(str(level), f"{low:.3f}", f"{middle:.3f}", f"{high:.3f}")
    console.print(table)
