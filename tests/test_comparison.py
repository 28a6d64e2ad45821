"""One trial against another from the Parquet alone, and what is printed about two towers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from typer.testing import CliRunner

from adiabatic_ray import results
from adiabatic_ray.schemas import TABLES
from adiabatic_ray.statistics.counts import (
    MEASURES,
    Counts,
    counts_from_rows,
    influence_rows,
    no_ranks,
    tuned_counts,
    untuned_rows,
)
from adiabatic_ray.statistics.score_tables import aggregate_rows, ranking_rows, score_rows
from analysis.comparison import Comparison, Side, compare_trials
from analysis.comparison_tables import print_comparison
from analysis.curves import count_pairs
from analysis.load import read_whole
from jobs.cli import app
from tests.planted import PAIRS, UNTUNED_ID, Plan, Texts, write_planted

PLAN = Plan(
    {1e-8: 0.05, 1e-7: 0.2, 1e-6: None, 1e-5: -0.1}, seeds=(0, 1), change={(1e-5, 0): "FAILED", (1e-5, 1): "MISSING"}
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    out = tmp_path_factory.mktemp("planted")
    spec = write_planted(out, PLAN)
    return out, [trial.trial_id for trial in spec.expand()]


def printed(comparison: Comparison) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    print_comparison(comparison, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_counts_come_back_from_their_tables() -> None:
    texts = Texts(Plan({1e-7: 0.2}))
    untuned, tuned = texts.untuned_counts(), texts.tuned_counts(0.2)
    back = tuned_counts(counts_from_rows(untuned_rows("u", untuned)), influence_rows("t", untuned, tuned))
    for one, other in zip(tuned, back, strict=True):
        assert (one.set_name, one.kind, one.keys) == (other.set_name, other.kind, other.keys)
        for name in ("by_positive_KC", "by_negative_KC", "positives_KC", "negatives_KC"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_allclose(one.ranks_KSC, other.ranks_KSC, rtol=0, atol=1e-15)


def test_influences_of_other_sets_are_refused() -> None:
    texts = Texts(Plan({1e-7: 0.2}))
    untuned = texts.untuned_counts()
    rows = influence_rows("t", untuned, texts.tuned_counts(0.2))
    with pytest.raises(ValueError, match="statistics of the untuned counts"):
        tuned_counts(untuned, rows[1:])


def test_the_first_trial_stands_where_the_untuned_backbone_does(planted: tuple[Path, list[str]]) -> None:
    out, ids = planted
    compared = compare_trials(out, ids[0], ids[2])
    texts = Texts(PLAN)
    counts = ids[2], texts.tuned_counts(0.05), texts.tuned_counts(0.2)
    pd.testing.assert_frame_equal(compared.scores, pd.DataFrame(score_rows(*counts)), check_exact=True, check_like=True)
    pd.testing.assert_frame_equal(
        compared.aggregates, pd.DataFrame(aggregate_rows(*counts)), check_exact=True, check_like=True
    )
    assert len(compared.rankings) == len(ranking_rows(*counts))
    everything = compared.aggregates.query("axis == 'all' and measure == 'cosine'").iloc[0]
    assert everything["improvement"] == pytest.approx((0.2 - 0.05) / (1 - 0.05), abs=2e-3)  # from 95% to 80% of untuned
    backwards = compare_trials(out, ids[2], ids[0])
    np.testing.assert_array_equal(backwards.scores["errors_untuned"], compared.scores["errors_tuned"])
    np.testing.assert_array_equal(backwards.scores["clustered_z"], -compared.scores["clustered_z"])


def test_beginnings_of_ids_do_as_long_as_they_are_one_trials(planted: tuple[Path, list[str]]) -> None:
    out, ids = planted
    compared = compare_trials(out, ids[0][:-3], ids[2][:-3])
    assert (compared.before, compared.after) == (Side("A", ids[0]), Side("B", ids[2]))


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("lr1e-08-embeddings-seed0", "lr1e-08-embeddings-seed0", "two trials, got lr1e-08-embeddings-seed0-.* twice"),
        (
            "lr1e-08",
            "lr1e-07-embeddings-seed0",
            "got 'lr1e-08', with which lr1e-08-embeddings-seed0-.*, lr1e-08.* begin",
        ),
        ("lr1e-08-embedings-seed0", "lr1e-07", "got 'lr1e-08-embedings-seed0'; near: lr1e-08-embeddings-seed"),
        ("zzz", "lr1e-07", "got 'zzz'; there are lr1e-08-embeddings-seed0-"),
        ("lr1e-08-embeddings-seed0", "lr1e-06-embeddings-seed0", "which is DIVERGED; .* take a lower rate"),
        ("lr1e-05-embeddings-seed0", "lr1e-08-embeddings-seed0", "which is FAILED; run the sweep again"),
        ("lr1e-08-embeddings-seed0", "lr1e-05-embeddings-seed1", "which is MISSING; run the sweep again"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    planted: tuple[Path, list[str]], first: str, second: str, words: str
) -> None:
    with pytest.raises(results.ResultsError, match=words):
        compare_trials(planted[0], first, second)


def test_a_folder_without_results_is_refused(tmp_path: Path) -> None:
    with pytest.raises(results.ResultsError, match="a results folder must exist"):
        compare_trials(tmp_path / "none", "a", "b")
    with pytest.raises(results.ResultsError, match="holds trials or evaluated towers, got none"):
        compare_trials(tmp_path, "a", "b")


def evaluated(out: Path, tower_id: str, **changes: Any) -> str:
    """A row of `evaluations`, with the specification's parts replaced."""
    specification = {
        "backbone": {"name": "e5", "encoder_digest": "0"},
        "evaluation": {"sets": [{"name": "xnli", "digest": "1"}, {"name": "ours", "digest": "2"}], "token_budget": 512},
    }
    row = {
        "trial_id": tower_id,
        "tower": "somewhere/tuned",
        "tower_digest": "0",
        "num_changed": 1,
        "backbone": "e5",
        "encoder_digest": "0",
        "untuned_id": f"untuned-of-{tower_id}",
        "evaluate_s": 1.0,
        "finished_at": None,
        "spec_json": json.dumps(specification | changes),
        "provenance_json": "{}",
    }
    results.write_table(out, "evaluations", tower_id, [row])
    return tower_id


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"backbone": {"name": "l12", "encoder_digest": "9"}},
            "backbone encoder_digest '0' and '9'; backbone name 'e5' and 'l12'",
        ),
        (
            {"evaluation": {"sets": [{"name": "xnli", "digest": "3"}, {"name": "more"}], "token_budget": 64}},
            "token_budget 512 and 64; only A has the sets ours; only B has the sets more; other texts or settings in "
            "xnli",
        ),
        ({}, "the same backbone and sets, but scored on another device, with other threads, or by another release"),
    ],
)
def test_what_was_compared_with_something_else_says_with_what(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    ids = evaluated(tmp_path, "tower-a"), evaluated(tmp_path, "tower-b", **changes)
    with pytest.raises(results.ResultsError, match=f"{words}; score the tower of one on the sets of the other"):
        compare_trials(tmp_path, *ids)


def test_a_finished_trial_without_its_tables_is_named(tmp_path: Path) -> None:
    spec = write_planted(tmp_path, Plan({1e-8: 0.05, 1e-7: 0.2}))
    one, other = (trial.trial_id for trial in spec.expand())
    results.table_path(tmp_path, "influence", other).unlink()
    with pytest.raises(results.ResultsError, match=f"influence/{other}"):
        compare_trials(tmp_path, one, other)
    results.table_path(tmp_path, "untuned", UNTUNED_ID).unlink()
    with pytest.raises(results.ResultsError, match=f"untuned/{UNTUNED_ID}"):
        compare_trials(tmp_path, one, other)


def damage(path: Path) -> None:
    """The ends stay, so that it still opens as a Parquet file."""
    content = bytearray(path.read_bytes())
    content[8:400] = bytes(392)
    path.write_bytes(content)


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    table = pq.read_table(path)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def without_negatives(table: pa.Table) -> pa.Table:
    return table.drop_columns("by_negative")


def one_cluster_fewer(table: pa.Table) -> pa.Table:
    rows = [{**row, "by_positive": row["by_positive"][:-1]} for row in table.to_pylist()]
    return pa.Table.from_pylist(rows, schema=table.schema)


@pytest.mark.parametrize(
    ("file", "break_it", "words"),
    [
        ("influence/ID", lambda path: path.write_bytes(path.read_bytes()[:200]), ["without damage", "trials/ID"]),
        ("influence/ID", damage, ["without damage", "trials/ID"]),
        ("untuned/untuned-planted", damage, ["delete it", "/trials or", "/evaluations"]),
        ("influence/ID", lambda path: rewrite(path, without_negatives), ["got none of ['by_negative']"]),
        ("influence/ID", lambda path: rewrite(path, one_cluster_fewer), ["(18, 40)", "(18, 39)", "trials/ID"]),
        ("influence/ID", lambda path: rewrite(path, lambda rows: rows.slice(1)), ["statistics of the untuned counts"]),
        ("sweep.json", lambda path: path.write_text("[]"), ["must be a JSON object", "got []", "another --out"]),
        ("sweep.json", lambda path: edit_json(path, trial_ids=None), ["must have 'trial_ids', a list, got None"]),
        ("failures/x.json", lambda path: path.write_text('{"a":'), ["must be JSON", "delete it"]),
    ],
)  # fmt: skip
def test_a_damaged_folder_names_the_file_and_what_makes_it_anew(
    tmp_path: Path, file: str, break_it: Callable[[Path], Any], words: list[str]
) -> None:
    ids = [trial.trial_id for trial in write_planted(tmp_path, Plan({1e-8: 0.05, 1e-7: 0.2})).expand()]
    (tmp_path / "failures").mkdir()
    path = tmp_path / (file if file.endswith(".json") else f"{file.replace('ID', ids[1])}.parquet")
    break_it(path)
    done = CliRunner().invoke(app, ["compare", str(tmp_path), *ids])
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit), done.output
    for word in (str(path), *words):
        assert word.replace("ID", ids[1]) in done.output.replace("\n", " "), done.output


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_evaluated_tower_without_its_tables_is_evaluated_again(tmp_path: Path) -> None:
    tower = evaluated(tmp_path, "tower-a")
    row = results.table_path(tmp_path, "evaluations", tower)
    for table in ("scores", "influence"):
        with pytest.raises(results.ResultsError) as caught:
            read_whole(tmp_path, table, [tower])
        assert f"delete {row} and run the same `adiabatic evaluate` again" in str(caught.value)


def triplets(errors: list[int], ranks: list[float]) -> Counts:
    """A set of queries with one positive and two negatives each, by both measures alike."""
    by_query = np.array([errors] * 2, dtype=np.int32)
    ones = np.ones_like(by_query)
    keys = tuple(("positive-negative", measure, "", "") for measure in MEASURES)
    return Counts("ours", "triplets", keys, by_query, by_query[:, :0], ones, 2 * ones, np.array([[ranks] * 3] * 2))


def test_the_table_of_a_triplet_set_by_hand() -> None:
    before, after = triplets([0, 1, 2, 1], [1, 0.5, 1 / 3, 0.5]), triplets([0, 0, 2, 1], [1, 1, 1 / 3, 0.5])
    rows = (
        score_rows("t", [before], [after]),
        aggregate_rows("t", [before], [after]),
        ranking_rows("t", [before], [after]),
    )
    frames = [
        pd.DataFrame(row, columns=TABLES[t].names)
        for t, row in zip(("scores", "aggregates", "rankings"), rows, strict=True)
    ]
    lines = printed(Comparison(Side("untuned", "e5"), Side("tuned", "some/folder"), *frames))
    assert lines[:2] == ["untuned  e5", "tuned    some/folder"]
    assert lines[3].rstrip() == "ours: 4 queries, 8 comparisons"
    # PND is 4/8, then 3/8; the mean reciprocal rank 7/12, then 17/24.
    (pnd,) = (line for line in lines if "cosine" in line)
    assert pnd.split()[:5] == ["cosine", "PND", "50.00", "37.50", "+25.0"]
    mrr = lines[lines.index(pnd) + 1].split()
    assert mrr[:4] == ["MRR", "58.33", "70.83", "+21.4"]
    assert pnd.split()[-1] == mrr[-1], "the same query changed: the same p"
    assert "fewer than 6 clusters changed: 8 of 8 rows" in " ".join(" ".join(lines).split())


def test_a_measure_of_0_on_either_side_says_what_that_leaves() -> None:
    """PND from 4/8 to 0, P@1 (here of all rank measures) from 0 to 0."""
    counted = triplets([0, 1, 2, 1], [0] * 4), triplets([0] * 4, [0] * 4)
    made = (rows("t", *([one] for one in counted)) for rows in (score_rows, ranking_rows))
    scores, rankings = (pd.DataFrame(rows) for rows in made)
    empty = pd.DataFrame(columns=TABLES["aggregates"].names)
    flat = " ".join(" ".join(printed(Comparison(Side("A", "a"), Side("B", "b"), scores, empty, rankings))).split())
    assert "no improvement, A's value is 0: 6 of 8 rows; no interval, B's value is 0: 2 of 8 rows" in flat
    assert set(rankings.query("statistic == 'precision_at_1'")["reason"]) == {"nothing changed; untuned value is 0"}


def pairs(errors: dict[tuple[str, str], list[int]]) -> Counts:
    """Errors by cluster of language pairs; every cluster has one positive and one negative."""
    by_positive = np.array(list(errors.values()), dtype=np.int32)
    ones = np.ones_like(by_positive)
    keys = tuple(("same-other", "cosine", *languages) for languages in errors)
    return Counts(PAIRS, "pairs", keys, by_positive, by_positive[:, ::-1].copy(), ones, ones, no_ranks(len(keys)))


def test_the_tables_of_a_pair_set_by_hand() -> None:
    before = pairs({("de", "de"): [0, 0, 0, 0], ("de", "en"): [2, 1, 2, 1], ("en", "de"): [1, 1, 1, 1]})
    after = pairs({("de", "de"): [0, 0, 0, 0], ("de", "en"): [1, 0, 1, 1], ("en", "de"): [1, 1, 1, 1]})
    made = score_rows("t", [before], [after]), aggregate_rows("t", [before], [after])
    frames = [pd.DataFrame(rows) for rows in made]
    rankings = pd.DataFrame(columns=TABLES["rankings"].names)
    text = printed(Comparison(Side("A", "a"), Side("B", "b"), *frames, rankings))
    assert "names: 3 language pairs, 4 clusters" in text[3]
    lines = [line.split() for line in text]
    # Nothing changed in two pairs: one has no error at all, and no improvement; the other is shown to be preserved.
    flat = " ".join(" ".join(text).split())  # a narrow table's caption goes over two lines
    assert "no improvement, A's value is 0: 1 of 3 tests of a language pair; p is too small, fewer" in flat
    assert "fewer than 6 clusters changed: 3 of 5 rows" in flat, "of those printed: by script and family there are more"
    assert "preserved" in flat and "2 of 2" in flat and "B against A" in flat and "none where A is 0" in flat
    assert [line[2:6] for line in lines if line[:2] == ["all", "pairs"]] == [["3", "20.83", "14.58", "+30.0"]]
    assert [line[2:4] for line in lines if line[:2] == ["same", "language"]] == [["1", "0.00"]]
    assert [line[1:5] for line in lines if line[:1] == ["cross-language"]] == [["2", "31.25", "21.88", "+30.0"]]
    assert [line[3:7] for line in lines if line[:3] == ["query", "in", "en"]] == [["1", "25.00", "25.00", "+0.00"]]


def test_an_identical_tower_is_preserved_wherever_that_can_be_tested() -> None:
    """Untuned PND 5/16, errors in half of the clusters: how uncertain that is makes no doubt about no change at all."""
    same = pairs({("de", "en"): [3, 0, 0, 2], ("en", "de"): [0, 0, 0, 0]})
    scores = pd.DataFrame(score_rows("t", [same], [same]))
    assert scores["preserved_p"].tolist()[0] == 0 and scores["preserved_p"].isna().tolist() == [False, True]
    counted = count_pairs(scores)
    assert (counted.preserved, counted.testable) == (1, 1)


def test_texts_in_brackets_are_printed_as_they_are() -> None:
    """To Rich `[/x]` closes a style that is not open, and `[bold]` disappears."""
    keys = (("[/x]-[bold]yes", "cosine", "de", "en"),)
    before, after = (
        replace(pairs({("de", "en"): errors}), set_name="[same]", keys=keys) for errors in ([2, 1, 2, 1], [1, 1, 2, 1])
    )
    frames = [pd.DataFrame(rows("t", [before], [after])) for rows in (score_rows, aggregate_rows)]
    rankings = pd.DataFrame(columns=TABLES["rankings"].names)
    text = "\n".join(printed(Comparison(Side("A", "a[/y]"), Side("B", ":cat:"), *frames, rankings)))
    for words in ("[same]: 1 language pairs", "[/x]-[bold]yes  cosine", "[same], [/x]-[bold]yes, cosine", "A  a[/y]"):
        assert words in text, text


def test_nothing_is_wider_than_a_terminal_of_80_columns(planted: tuple[Path, list[str]]) -> None:
    out, ids = planted
    lines = printed(compare_trials(out, ids[0], ids[2]))
    assert max(map(len, lines)) <= 80 and not any("…" in line for line in lines)
    assert sum("query in" in line for line in lines) == PLAN.num_languages * len(MEASURES)


def test_the_command_prints_the_comparison(planted: tuple[Path, list[str]]) -> None:
    out, ids = planted
    done = CliRunner().invoke(app, ["compare", str(out), ids[0], ids[2]], env={"COLUMNS": "80"})
    assert done.exit_code == 0 and f"A  {ids[0]}" in done.output and "all pairs" in done.output
    refused = CliRunner().invoke(app, ["compare", str(out), ids[0], "nothing"], env={"COLUMNS": "80"})
    assert refused.exit_code == 2 and "Traceback" not in refused.output and "got 'nothing'" in refused.output
