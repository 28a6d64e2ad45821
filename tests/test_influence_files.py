"""Influence tables as matrices: whatever the order of rows on disk, and refused where rows do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from planted import HELD_OUT, PAIRS, RELATION, TUNED, Plan, write_planted

from adiabatic_ray import results
from analysis.curves import Criterion
from analysis.influence_files import InfluenceFiles

COSINE = Criterion(PAIRS, RELATION, "cosine")
PLAN = Plan({1e-8: 0.01, 1e-7: -0.1})


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, list[str]]:
    return tmp_path, [trial.trial_id for trial in write_planted(tmp_path, PLAN).expand()]


def rows_of(out: Path, trial_id: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(results.table_path(out, "influence", trial_id)).to_pylist()
    return rows


def pairs_of(rows: list[dict[str, object]]) -> list[tuple[str, str]]:
    own = [row for row in rows if row["set"] == PAIRS and row["measure"] == "cosine"]
    return [(str(row["query_language"]), str(row["passage_language"])) for row in own]


def test_counts_are_those_of_the_rows_in_any_order(folder):
    out, (trial_id, other) = folder
    rows = rows_of(out, trial_id)
    pairs = pairs_of(rows)
    by_pair = {(row["query_language"], row["passage_language"]): row for row in rows
               if row["set"] == PAIRS and row["measure"] == "cosine"}  # fmt: skip
    for shuffled in (rows, rows[::-1]):
        results.write_table(out, "influence", trial_id, shuffled)
        files = InfluenceFiles(out)
        files.read(other)  # rows of another table were looked up before
        for order in (pairs, pairs[::-1]):
            found = files.read(trial_id).of(COSINE, order, (PLAN.num_clusters, PLAN.num_clusters))
            for side, counts_KC in zip(("by_positive", "by_negative"), found, strict=True):
                expected = np.array([by_pair[pair][side] for pair in order])
                np.testing.assert_array_equal(counts_KC, expected)


def test_triplets_have_an_empty_side(folder):
    out, (trial_id, _) = folder
    for name in (TUNED, HELD_OUT):
        criterion = Criterion(name, "positive-negative", "cosine")
        by_positive, by_negative = InfluenceFiles(out).read(trial_id).of(criterion, [("", "")], (PLAN.num_clusters, 0))
        assert by_positive.shape == (1, PLAN.num_clusters) and by_negative.shape == (1, 0)


@pytest.mark.parametrize("damage", ["a pair lacks", "a row is short", "no such set"])
def test_rows_that_do_not_fit_are_refused(folder, damage):
    out, (trial_id, _) = folder
    rows = rows_of(out, trial_id)
    pairs = pairs_of(rows)
    place = next(place for place, row in enumerate(rows) if row["set"] == PAIRS and row["measure"] == "cosine")
    if damage == "a pair lacks":
        del rows[place]
    elif damage == "a row is short":
        rows[place] = rows[place] | {"by_positive": list(rows[place]["by_positive"])[:-1]}
    results.write_table(out, "influence", trial_id, rows)
    criterion = Criterion("other", RELATION, "cosine") if damage == "no such set" else COSINE
    with pytest.raises(results.ResultsError, match="must have influence rows for the language pairs"):
        InfluenceFiles(out).read(trial_id).of(criterion, pairs, (PLAN.num_clusters, PLAN.num_clusters))


def test_tables_of_a_sweep_are_read_without_a_copy(folder):
    out, (trial_id, _) = folder
    counts = InfluenceFiles(out).read(trial_id)
    found, _ = counts.of(COSINE, pairs_of(rows_of(out, trial_id)), (PLAN.num_clusters, PLAN.num_clusters))
    assert not found.flags.owndata
