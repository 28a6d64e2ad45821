"""The paper's printed tables: read from the files in `paper/`, checked, and put into this project's words.

What the paper calls improvement is `improvement` in the `scores` table (equation 1). Its language pairs "significantly
improved (worsened)" are `improved_z` (`degraded_z`) of `curves`: two-proportion z-test, pooled, |z| > 1.96, unadjusted
(Appendix I). The files hold percent as printed; here they are fractions, as everywhere. A `?` in a file is what the
paper does not say or its text does not show.

A row's settings are dotted paths inside a trial, as in a sweep's grid, and three words of the paper's own:
`samples_per_epoch`, `momentum`, `set`. Settings that a table does not mention are those of `REGIME`.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any

from pydantic import Field, ValidationError

from adiabatic_ray.changes import explain
from adiabatic_ray.sources import Frozen
from adiabatic_ray.spec import E5

REGIME: dict[str, Any] = {
    "backbone.name": E5.name,
    "source.kind": "msmarco",
    "tuning.freeze": "emb",
    "tuning.towers": "query",
    "tuning.learning_rate": 5e-8,
    "tuning.batch_size": 14,
    "tuning.margin": 0.1,
    "tuning.batches_per_epoch": 1000,
    "tuning.idle_epochs": 10,
    "tuning.max_epochs": None,
    "tuning.keep": "improved",
    "tuning.weight_decay": 0.0,
    "tuning.optimizer": "AdamW",
    "tuning.precision": "float32",
    "tuning.schedule": "none",
    "momentum": "yes",
}
"""The default tuning: section 2.3 and Appendix E; frozen embedding block from section 3.1 on. Where the paper is
silent (seed, dropout) nothing stands here, but for the precision of a step, which is torch's. No weight decay: Appendix
M.2 compares with "without weight decay"."""
UNKNOWN = "?"
NUM_LANGUAGE_PAIRS = 225
SHARES = ("pnd", "reciprocal_rank", "average_precision", "precision_at_1")
"""Statistics whose improvement is printed."""
STATISTICS = (*SHARES, "pairs", "pnd_untuned", "most_changed", "second_most_changed")


@dataclass(frozen=True)
class Quantity:
    """What a column holds. Written `set/statistic/measure`, for labelled pairs `set/relation/statistic/measure`."""

    set: str
    relation: str
    statistic: str
    """One of `STATISTICS`: improvement of one of `SHARES`; `pairs`: language pairs improved and worsened;
    `pnd_untuned`; or the name of a layer."""
    measure: str


@dataclass(frozen=True)
class PairChange:
    """Language pairs whose PND is significantly lower, and higher, than before."""

    improved: int
    worsened: int


Value = float | PairChange | str
"""Fraction, counts, or the name of a layer."""


@dataclass(frozen=True)
class PaperRow:
    """One encoder of a table."""

    settings: dict[str, Any]
    values: dict[Quantity, Value | None]
    """None: the text that the table was read from does not show it with certainty."""


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper."""

    number: int
    title: str
    section: str
    printed: tuple[str, ...]
    """Settings that the table prints in each row."""
    compared_with: dict[str, Any] | None
    """Settings of the tuned encoder that improvement is against; None: the untuned one."""
    untuned: bool
    """Whether the encoders are untuned: then nothing is known of a row but its backbone."""
    rows: tuple[PaperRow, ...]

    @property
    def names_layers(self) -> bool:
        """Whether it names layers and measures no encoder (Tables 14 and 15)."""
        return any(quantity.set == "layers" for row in self.rows for quantity in row.values)


Cell = int | float | str | list[str]


class _File(Frozen):
    title: str
    section: str = Field(pattern=r"^(section|Appendix) ")
    untuned: bool = False
    columns: tuple[str, ...]
    rows: tuple[Annotated[tuple[Cell, ...], Field(min_length=2)], ...]
    all_rows: dict[str, Cell] = Field({})
    compared_with: dict[str, Cell] | None = None


def table_numbers() -> tuple[int, ...]:
    """Numbers of the tables that are here: all of the paper's but 19, which defines the schedules."""
    names = (file.name for file in resources.files(__package__).joinpath("paper").iterdir())
    return tuple(sorted(int(found[1]) for name in names if (found := re.fullmatch(r"table_(\d+)\.toml", name))))


def read_table(number: int) -> PaperTable:
    """Read a table of the paper.

    Args:
        number: as the paper counts.

    Raises:
        ValueError: a number that no file has, or a file that breaks the form that this module's head describes.
    """
    known = table_numbers()
    if number not in known:
        raise ValueError(
            f"a table must be one of the paper's with numbers of encoders, got {number}; there are "
            f"{', '.join(map(str, known))}"
        )
    text = resources.files(__package__).joinpath("paper", f"table_{number:02}.toml").read_text(encoding="utf-8")
    return parse_table(number, text)


def parse_table(number: int, text: str) -> PaperTable:
    """A table from the content of its file; errors as of `read_table`."""
    try:
        file = _File.model_validate(tomllib.loads(text))
        merged: dict[str, PaperRow] = {}
        for cells in file.rows:
            row = _row(file, cells)
            key = str(row.settings)
            if (other := merged.get(key)) is None:
                merged[key] = row
            elif "set" in file.columns and not other.values.keys() & row.values.keys():
                merged[key] = PaperRow(row.settings, other.values | row.values)  # one encoder, a row for each set
            else:
                raise ValueError(f"rows must differ in their settings, got {row.settings} twice")
    except (tomllib.TOMLDecodeError, ValidationError, ValueError) as error:
        problem = explain(error) if isinstance(error, ValidationError) else error
        raise ValueError(f"Table {number}'s file must be as paper_tables.py says, got: {problem}") from None
    return PaperTable(
        number=number,
        title=file.title,
        section=file.section,
        printed=tuple(name for name in file.columns if _is_setting(name)),
        compared_with=None if file.compared_with is None else _settings(file.compared_with),
        untuned=file.untuned,
        rows=tuple(merged.values()),
    )


def _row(file: _File, cells: tuple[Cell, ...]) -> PaperRow:
    if len(cells) != len(file.columns):
        raise ValueError(f"a row has a cell for each of {len(file.columns)} columns, got {len(cells)}: {cells}")
    row = dict(zip(file.columns, cells, strict=True))
    named = {name: value for name, value in row.items() if _is_setting(name)}
    settings = named if file.untuned else _settings(file.all_rows | named)
    beginning = f"{row['set']}/" if "set" in row else ""
    values = {}
    for name, cell in row.items():
        if not _is_setting(name) and name != "set":
            quantity = _quantity(beginning + name)
            values[quantity] = _value(quantity, cell)
    return PaperRow(settings, values)


def _is_setting(column: str) -> bool:
    return "/" not in column and column != "set"


def _settings(changes: dict[str, Cell]) -> dict[str, Any]:
    """`REGIME` with what a table says instead; what it leaves open is left out."""
    return {path: value for path, value in (REGIME | changes).items() if value != UNKNOWN}


def _quantity(name: str) -> Quantity:
    match name.split("/"):
        case [group, relation, statistic, measure]:
            quantity = Quantity(group, relation, statistic, measure)
        case [group, statistic, measure]:
            quantity = Quantity(group, "", statistic, measure)
        case ["layers", statistic]:
            quantity = Quantity("layers", "", statistic, "")
        case _:
            raise ValueError(f"a column is a setting or set/statistic/measure, got {name!r}")
    if quantity.statistic not in STATISTICS or quantity.measure not in ("cosine", "distance", ""):
        raise ValueError(f"a column has one of the statistics {STATISTICS} by cosine or distance, got {name!r}")
    return quantity


def _value(quantity: Quantity, cell: Cell) -> Value | None:
    if cell == UNKNOWN:
        return None
    if quantity.set == "layers" and isinstance(cell, str):
        return cell
    if quantity.statistic == "pairs" and isinstance(cell, str) and (found := re.fullmatch(r"(\d+)/(\d+)", cell)):
        change = PairChange(int(found[1]), int(found[2]))
        if change.improved + change.worsened > NUM_LANGUAGE_PAIRS:
            raise ValueError(f"there are {NUM_LANGUAGE_PAIRS} language pairs, got {cell} improved/worsened")
        return change
    if quantity.statistic in (*SHARES, "pnd_untuned") and isinstance(cell, (int, float)) and cell <= 100:
        return cell / 100
    raise ValueError(f"a value is percent up to 100, improved/worsened, or a layer, got {cell!r} for {quantity}")
