"""Section of the report: what could move in a tuned tower, what did, and how far each block went."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .charts import Chart, Mark, Series, draw, legend
from .material import Material
from .page import Beside, Block, Cell, Paragraph, Picture, Scale, Section, Table, by_group, text_table
from .shades import sequential
from .terminal import percent
from .wording import format_rate

_OPEN_GROUPS = 2
_READING = (
    "Movable: weights that one full step of the trial's rate changes in float32; the others stand still whatever the "
    "gradient. Moved: weights whose value differs from the untuned one. Distance: Euclidean norm of the change over "
    "the norm of the untuned weights. Lost: what rounding left out of the steps, over the distance, where the "
    "precision keeps it. Means over seeds; diverged trials are left out."
)


def drift_section(material: Material) -> Section | None:
    """Shares against the rate and distances by block, group by group; None without a tuned state."""
    rows = _rows(material)
    if rows.empty:
        return None
    blocks: list[Block] = [
        Paragraph(_READING, "note"),
        Scale("sequential", "distance, as a share of the untuned norm; edges of the steps"),
    ]
    groups = [group for group in material.groups if (rows["settings"] == group).any()]
    parts = [(group, rows[rows["settings"] == group]) for group in groups]
    inside: list[tuple[str, list[Block]]] = [
        (group, [Beside((_shares(part), _distances(part))), _summary(part)]) for group, part in parts
    ]
    blocks += by_group(inside, _OPEN_GROUPS)
    sources = (
        "Table drift (num_weights, movable_frac, moved_frac, l2_change, l2_lost, l2_untuned), a row a trainable "
        f"tensor. In Python: pandas.read_parquet({str(material.sweep.out / 'drift')!r}).",
    )
    return Section("drift", "Drift and step resolution", tuple(blocks), sources)


def totals(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Rows of `drift` summed up.

    Args:
        rows: of `drift`.
        keys: columns to keep apart.

    Returns:
        Index `keys`; columns `movable`, `moved` (shares of weights), `distance` (of the untuned norm), `lost` (of the
        distance; NaN where not kept) and `max_change`.
    """
    rows = rows.assign(
        movable=rows["movable_frac"] * rows["num_weights"],
        moved=rows["moved_frac"] * rows["num_weights"],
        change_squared=rows["l2_change"] ** 2,
        lost_squared=rows["l2_lost"].astype(float) ** 2,
        untuned_squared=rows["l2_untuned"] ** 2,
    )
    summed = rows.groupby(keys, sort=False).agg(
        num_weights=("num_weights", "sum"),
        movable=("movable", "sum"),
        moved=("moved", "sum"),
        change=("change_squared", "sum"),
        lost=("lost_squared", lambda values: values.sum(min_count=1)),
        untuned=("untuned_squared", "sum"),
        max_change=("max_change", "max"),
    )
    distance = (summed["change"] / summed["untuned"].where(summed["untuned"] > 0)) ** 0.5
    lost = (summed["lost"] / summed["change"].where(summed["change"] > 0)) ** 0.5
    return pd.DataFrame(
        {
            "movable": summed["movable"] / summed["num_weights"],
            "moved": summed["moved"] / summed["num_weights"],
            "distance": distance,
            "lost": lost,
            "max_change": summed["max_change"],
        }
    )


def _rows(material: Material) -> pd.DataFrame:
    """Rows of `drift` of scored trials with a rate above 0, with `rate` and `settings`."""
    sweep = material.sweep
    rates = {trial_id: spec.tuning.learning_rate for trial_id, spec in sweep.trial_specs.items()}
    rows = sweep.drift[sweep.drift["trial_id"].isin(sweep.completeness.done)]
    rows = rows.assign(rate=rows["trial_id"].map(rates), settings=rows["trial_id"].map(sweep.groups))
    return rows[rows["rate"] > 0]


def _shares(rows: pd.DataFrame) -> Picture:
    means = totals(rows, ["rate", "trial_id"]).groupby("rate").mean().sort_index()
    series = []
    for what, colour, shape, style in (("movable", "c5", "square", "dashed"), ("moved", "mean", "circle", "solid")):
        points = [(float(str(rate)), 100 * float(share)) for rate, share in means[what].items()]
        marks = [Mark(x, y, f"{format_rate(x, 3)}: {y:.3g}% of the trained weights {what}") for x, y in points]
        series.append(Series(what, colour, marks, points, (), shape, style))  # type: ignore[arg-type]
    chart = Chart(
        label="Share of the trained weights that could move and that moved, against the learning rate",
        x_ticks=[float(rate) for rate in means.index],
        y_label="trained weights, %",
        series=series,
        y_range=(-3.0, 106.0),
    )
    title = "Weights that a step can move, and that moved"
    return Picture(title, draw(chart), legend(chart, has_open=False), "The table has the numbers.")


def _distances(rows: pd.DataFrame) -> Table:
    """Blocks down, rates across."""
    by_block = totals(rows, ["block", "rate", "trial_id"]).groupby(["block", "rate"])["distance"].mean()
    parts = sorted(rows["block"].unique(), key=lambda part: (part.isdigit(), int(part) if part.isdigit() else 0, part))
    rates = sorted(rows["rate"].unique())
    lines = []
    for part in parts:
        name = f"block {part}" if part.isdigit() else part
        values = [float(by_block.get((part, rate), np.nan)) for rate in rates]
        cells = [
            Cell(_short(value), f"{name}, {format_rate(rate, 3)}: {value:.3g} of its untuned norm", sequential(value))
            for value, rate in zip(values, rates, strict=True)
        ]
        lines.append((Cell(name), *cells))
    titles = ("", *(format_rate(rate, 3) for rate in rates))
    return Table("Distance that each block went, share of its untuned norm", titles, tuple(lines), is_map=True)


def _summary(rows: pd.DataFrame) -> Table:
    by_rate = totals(rows, ["rate", "trial_id"]).groupby("rate").mean().sort_index()
    of_tensor = rows.assign(relative=rows["l2_change"] / rows["l2_untuned"].where(rows["l2_untuned"] > 0))
    farthest = of_tensor.groupby(["rate", "tensor"])["relative"].mean().unstack("tensor")
    lines = []
    for rate, row in by_rate.iterrows():
        of_rate = farthest[farthest.index == rate].iloc[0].dropna()
        most = of_rate.idxmax() if len(of_rate) and of_rate.max() > 0 else "-"
        lost = "-" if np.isnan(row["lost"]) else percent(float(row["lost"])).lstrip("+")
        lines.append(
            [
                format_rate(float(str(rate)), 3),
                f"{100 * row['movable']:.3g}",
                f"{100 * row['moved']:.3g}",
                f"{row['distance']:.3g}",
                lost,
                f"{row['max_change']:.3g}",
                str(most),
            ]
        )
    titles = ("rate", "movable %", "moved %", "distance", "lost %", "largest change", "tensor that went farthest")
    return text_table("All trained weights, and the tensor that went farthest for its norm", titles, lines, ">>>>>><")


def _short(value: float) -> str:
    if np.isnan(value):
        return "-"
    return "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-")
