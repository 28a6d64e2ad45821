"""Means over language pairs of every trial, read from disk once a sweep."""

from __future__ import annotations

import pandas as pd

from .load import Sweep, read_whole

LANGUAGE_AXES = ("query language", "passage language")
AXES = ("all", *LANGUAGE_AXES)
_COLUMNS = (
    *("trial_id", "set", "relation", "measure", "axis", "group"),
    *("improvement", "improvement_low", "improvement_high", "clustered_p"),
)


def aggregates(sweep: Sweep) -> pd.DataFrame:
    """Rows of the `aggregates` table about all language pairs, or those of one query or passage language.

    Args:
        sweep: a loaded sweep.

    Returns:
        Columns of the table: keys, `improvement` with its interval, `clustered_p`.

    Raises:
        ResultsError: a finished trial whose file is missing, or is of another schema version.
    """
    if "aggregates" not in sweep.computed:
        rows = read_whole(sweep.out, "aggregates", list(sweep.completeness.done), _COLUMNS)
        sweep.computed["aggregates"] = rows[rows["axis"].isin(AXES)]
    found: pd.DataFrame = sweep.computed["aggregates"]
    return found
