"""Signals, what they predict and boundaries in other coordinates, from planted folders whose answers are known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from adiabatic_ray import results
from adiabatic_ray.results import ResultsError
from analysis.boundary_tables import NO_HARM
from analysis.coordinate_plot import plot_coordinates, short_names
from analysis.coordinates import coordinate_table, spread_table
from analysis.curves import Criterion
from analysis.level import estimate_boundaries
from analysis.load import Sweep, load_sweep
from analysis.predictor import left_out_table, predictor_table
from analysis.resample import Evidence, gather
from analysis.signals import SIGNALS, TURNED_PAIRS, signal_table
from jobs.cli import app
from tests.planted import MOVED, PAIRS, RELATION, UNMOVED, Plan, write_planted

FALLING = {1e-8: 0.01, 3e-8: 0.0, 1e-7: -0.04, 3e-7: -0.3}
FASTER = {10 * rate: improvement for rate, improvement in FALLING.items()}
"""The same curve, one decade higher."""
COSINE = Criterion(PAIRS, RELATION, "cosine")
LAYERS = {rate: {"encoder.layer.3.output.dense.weight": (1.0, 1.5, rate)} for rate in (*FALLING, *FASTER)}
BLOCKS = {
    "encoder.layer.3.output.dense.weight": (1.0, 1.5, 0.3),
    "encoder.layer.7.output.dense.weight": (1.0, 1.5, 0.1),
    "embeddings.word_embeddings.weight": (1.0, 1.5, 0.4),
}


def planted(out: Path, plan: Plan, turned_per_rate: float | None = None, margin: float = 0.1) -> Sweep:
    """A folder in which multilingual queries turn by so many times the rate; folders of one margin share trials."""
    write_planted(out, replace(plan, axes={"tuning.margin": (margin,)}))
    for trial_id, spec in load_sweep(out).trial_specs.items():
        path = results.table_path(out, "cosines", trial_id)
        if turned_per_rate and path.is_file():
            rows = results.read_table(out, "cosines", [trial_id]).to_pylist()
            mean = 1 - turned_per_rate * spec.tuning.learning_rate
            results.write_table(out, "cosines", trial_id, [{**row, "mean_cosine": mean} for row in rows])
    return load_sweep(out)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Sweep]:
    """Two folders whose boundaries lie one decade apart in rate, and at the same value in turned queries."""
    slow = planted(tmp_path_factory.mktemp("slow"), Plan(FALLING, layers=LAYERS), 1e5)
    return [slow, planted(tmp_path_factory.mktemp("fast"), Plan(FASTER, layers=LAYERS), 1e4, margin=0.2)]


def evidence_of(sweeps: list[Sweep], num_resamples: int = 200) -> list[Evidence]:
    return [gather(sweep, num_resamples=num_resamples, has_pairs=False) for sweep in sweeps]


def rows_about(table: pd.DataFrame, **keys: object) -> pd.DataFrame:
    keys = {"set": PAIRS, "relation": RELATION, "measure": "cosine"} | keys
    return table[(table[list(keys)] == list(keys.values())).all(axis=1)]


# signals ------------------------------------------------------------------------------------------------------------


def test_signals_of_a_trial_by_hand(tmp_path: Path) -> None:
    """1,000 steps; three tensors of norm 2 and 50 weights, a quarter of which moved; three languages that turned."""
    sweep = planted(tmp_path, Plan({1e-6: 0.1}, layers={1e-6: BLOCKS}))
    trial_id = sweep.trial_ids[0]
    own = {"trial_id": trial_id, "validation_errors": 10, "num_validation": 100, "improved": True, "elapsed_s": 0.0}
    losses = ((math.nan, 0.05), (0.04, 0.04), (0.01, 0.02))
    curve = [
        {**own, "epoch": epoch, "num_steps": 500 * epoch, "train_loss": train, "validation_loss": validation}
        | {"finished_at": sweep.curves["finished_at"].iloc[0]}
        for epoch, (train, validation) in enumerate(losses)
    ]
    results.write_table(tmp_path, "curves", trial_id, curve)
    trial = sweep.trials.iloc[0].to_dict() | {"kept_epoch": 2}
    results.write_table(tmp_path, "trials", trial_id, [trial])
    (row,) = signal_table([load_sweep(tmp_path)]).to_dict("records")
    expected = {
        "num_steps": 2000,
        "learning_rate": 1e-6,
        "rate_steps": 2e-3,
        "rate_root_steps": 1e-6 * math.sqrt(2000),
        "l2_change": 2 * math.hypot(0.3, 0.1, 0.4),
        "l2_relative": math.hypot(0.3, 0.1, 0.4) / math.sqrt(3),
        "l2_relative_most": 0.3,
        "l2_relative_last": 0.1,
        "max_change": 0.4,
        "movable_frac": 0.5,
        "moved_frac": 0.25,
        "train_loss_fall": 0.75,
        "validation_gain": 0.6,
        "turned_tuned": 0.01,
        f"turned/{PAIRS}": 0.02,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)
    score = sweep.scores[(sweep.scores["set"] == PAIRS) & (sweep.scores["measure"] == "cosine")]
    harm = 1 - score["pnd_tuned"].mean() / score["pnd_untuned"].mean()
    assert row[COSINE.column("improvement")] == pytest.approx(harm) and row["folder"] == tmp_path.name


def test_every_signal_has_its_column(two: list[Sweep]) -> None:
    table = signal_table(two)
    assert {signal.column(COSINE) for signal in SIGNALS} <= set(table.columns)
    assert len(table) == len(FALLING) + len(FASTER) and table["trial_id"].is_unique


def test_the_target_is_that_of_the_aggregates(two: list[Sweep]) -> None:
    rows = results.read_table(two[0].out, "aggregates", list(two[0].trial_ids)).to_pandas()
    whole = rows[(rows["axis"] == "all") & (rows["measure"] == "cosine")].set_index("trial_id")["improvement"]
    target = signal_table(two[:1]).set_index("trial_id")[COSINE.column("improvement")]
    assert target.to_dict() == pytest.approx(whole.to_dict())


def test_a_trial_in_two_folders_counts_once(two: list[Sweep]) -> None:
    assert len(signal_table([two[0], two[0]])) == len(FALLING)


def test_a_diverged_trial_is_broken_and_has_no_cosines(tmp_path: Path) -> None:
    sweep = planted(tmp_path, Plan({**FALLING, 1e-6: None}))
    last = signal_table([sweep]).iloc[-1]
    assert last["status"] == "DIVERGED" and last[COSINE.column("improvement")] == -math.inf
    assert math.isnan(last[f"turned/{PAIRS}"]) and last["rate_steps"] == pytest.approx(1e-3)


def test_no_sweep_is_refused() -> None:
    with pytest.raises(ValueError, match="finished sweeps, got none; give at least one"):
        signal_table([])


# predictions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["group", "folder"])
def test_a_rate_is_wrong_by_the_decade_and_turned_queries_are_right(two: list[Sweep], unit: str) -> None:
    table = left_out_table(two)
    by_rate = rows_about(table, signal="learning_rate", unit=unit)
    assert list(by_rate["log10_error"]) == pytest.approx([1, -1])
    boundary = estimate_boundaries(two[0], num_resamples=100)[0].estimate
    assert by_rate["boundary"].iloc[0] == pytest.approx(boundary)
    assert by_rate["predicted"].iloc[0] == pytest.approx(10 * boundary)
    turned = rows_about(table, signal=TURNED_PAIRS, unit=unit)
    assert list(turned["log10_error"]) == pytest.approx([0, 0], abs=1e-9) and set(turned["reason"]) == {""}
    assert turned["threshold"].iloc[0] == pytest.approx(1e5 * boundary)
    assert list(turned["num_right"]) == list(turned["num_called"]) == [4, 4]


def test_calls_by_a_rate_that_is_a_decade_off(two: list[Sweep]) -> None:
    """Of slow rates, 1e-8 and 3e-8 hold; by the fast boundary, above 3e-7, all four do. The other way none does."""
    row = rows_about(predictor_table(two), signal="learning_rate").iloc[0]
    assert (row["folder/num_called"], row["folder/right_frac"]) == (8, pytest.approx((2 + 2) / 8))
    assert (row["num_trials"], row["num_groups"], row["holds_frac"]) == (8, 2, pytest.approx(0.5))
    assert (row["folder/rms_log10_error"], row["folder/worst_log10_error"]) == pytest.approx((1, 1))
    assert math.isnan(row["low"]), "two groups"


def test_order_by_a_signal_that_follows_harm_is_perfect(two: list[Sweep]) -> None:
    table = predictor_table(two)
    rho = table[table["measure"] == "cosine"].set_index("signal")["spearman"]
    assert rho[TURNED_PAIRS] == pytest.approx(-1) and rho["learning_rate"] > rho[TURNED_PAIRS]
    assert math.isnan(rho["moved_frac"]) and "train_loss_fall" not in rho.index, "constant, and one epoch"


def test_one_folder_has_nothing_else_to_calibrate_on(two: list[Sweep]) -> None:
    row = rows_about(predictor_table(two[:1]), signal="learning_rate").iloc[0]
    assert row["group/reason"] == row["folder/reason"] == "1 x nothing else to calibrate on"
    assert row["group/num_boundaries"] == 0 and math.isnan(row["group/right_frac"])


def test_what_holds_everywhere_predicts_nothing_and_is_judged(tmp_path: Path, two: list[Sweep]) -> None:
    holding = planted(tmp_path, Plan(dict.fromkeys(FALLING, 0.01)), 1e5, margin=0.3)
    table = rows_about(left_out_table([two[0], holding]), signal=TURNED_PAIRS, unit="group").set_index("folder")
    assert table.loc[two[0].out.name, "reason"] == "what calibrates is above the level at every value of the signal"
    held = table.loc[tmp_path.name]
    assert held["reason"] == "its own boundary lies above the rates tried" and math.isnan(held["boundary"])
    assert (held["num_called"], held["num_right"]) == (4, 2), "by the other folder two of its rates are too high"


def test_diverged_trials_are_neither_fitted_nor_called(tmp_path: Path, two: list[Sweep]) -> None:
    """The boundary is the middle of the gap below a diverged rate, in log rate."""
    broken = planted(tmp_path, Plan({1e-8: 0.01, 1e-7: None}), margin=0.3)
    row = rows_about(left_out_table([two[0], broken]), signal="learning_rate", unit="group").iloc[1]
    assert row["boundary"] == pytest.approx(10**-7.5) and row["num_called"] == 1


def test_a_folder_without_cosines_has_other_signals(tmp_path: Path) -> None:
    sweep = planted(tmp_path, Plan(FALLING))
    for trial_id in sweep.trial_ids:
        results.table_path(tmp_path, "cosines", trial_id).unlink()
    table = predictor_table([sweep])
    assert not {TURNED_PAIRS, "turned_tuned"} & set(table["signal"]) and "l2_change" in set(table["signal"])


def test_an_unmoved_tower_is_called_held(tmp_path: Path, two: list[Sweep]) -> None:
    """Its displacement is 0, which has no logarithm, and lies below any limit."""
    still = planted(tmp_path, Plan({1e-8: 0.0, 3e-8: 0.0}, layers={1e-8: UNMOVED, 3e-8: UNMOVED}), margin=0.3)
    row = rows_about(left_out_table([two[0], still]), signal="l2_change", unit="group").iloc[1]
    assert (row["num_called"], row["num_right"]) == (2, 2)
    assert row["reason"] == "fewer than 2 rates at which anything moved"


def test_nothing_to_predict_is_refused(tmp_path: Path, two: list[Sweep]) -> None:
    english = planted(tmp_path, Plan(FALLING, has_pairs=False))
    with pytest.raises(ResultsError, match=r"a pair set in which .* got none in .*; add learning rates, or a pair set"):
        predictor_table([english])
    with pytest.raises(ValueError, match="level must be a finite fraction, got nan"):
        left_out_table(two, level=math.nan)


# coordinates --------------------------------------------------------------------------------------------------------


def test_boundaries_a_decade_apart_agree_in_turned_queries(two: list[Sweep]) -> None:
    """Of two numbers one apart the standard deviation is 1 / sqrt 2."""
    spread = rows_about(spread_table(evidence_of(two))).set_index("coordinate")
    assert spread.loc["learning_rate", ["sd_decades", "range_decades", "slope"]].to_list() == pytest.approx(
        [math.sqrt(0.5), 1, 1]
    )
    assert spread.loc["l2_change", "range_rate_decades"] == pytest.approx(1), "planted as the rate"
    turned = spread.loc["turned_pairs"]
    assert (turned["sd_decades"], turned["range_decades"], turned["closer_frac"]) == pytest.approx((0, 0, 1), abs=1e-9)
    assert turned["noise_rate_decades"] == pytest.approx(0, abs=1e-9), "the same texts move both alike"
    assert (turned["num_groups"], turned["num_other"], turned["reason"]) == (2, 0, "")


def test_a_boundary_in_a_coordinate_is_where_the_coordinate_is_at_the_boundary_rate(two: list[Sweep]) -> None:
    table = rows_about(coordinate_table(evidence_of(two)))
    boundary = estimate_boundaries(two[0], num_resamples=200)[0]
    slow = table[table["folder"] == two[0].out.name].set_index("coordinate")
    assert slow.loc["learning_rate", ["estimate", "low", "high"]].to_list() == pytest.approx(
        [boundary.estimate, boundary.low, boundary.high]
    )
    assert slow.loc["rate_steps", "estimate"] == pytest.approx(1000 * boundary.estimate)
    assert slow.loc["turned_pairs", "estimate"] == pytest.approx(1e5 * boundary.estimate)
    assert slow.loc["turned_pairs", ["lowest", "highest"]].to_list() == pytest.approx([1e-3, 3e-2])


def test_decades_of_a_coordinate_are_divided_by_its_slope(tmp_path: Path) -> None:
    """Displacement as the square of the rate: twice the decades, the same in decades of the rate."""
    squares = {rate: {"dense.weight": (1.0, 1.5, 1e6 * rate**2)} for rate in (*FALLING, *FASTER)}
    folders = (("a", FALLING, 0.1), ("b", FASTER, 0.2))
    sweeps = [planted(tmp_path / name, Plan(rates, layers=squares), 1e4, margin) for name, rates, margin in folders]
    moved = rows_about(spread_table(evidence_of(sweeps))).set_index("coordinate").loc["l2_change"]
    assert (moved["slope"], moved["range_decades"], moved["range_rate_decades"]) == pytest.approx((2, 2, 1))


def test_one_group_has_boundaries_and_no_spread(two: list[Sweep]) -> None:
    spread = rows_about(spread_table(evidence_of(two[:1])))
    assert set(spread["reason"]) == {"a spread takes 2 groups with a boundary within their points, got 1"}
    assert spread["sd_decades"].isna().all() and set(spread["num_other"]) == {0}


def test_groups_without_a_boundary_are_marked_and_not_compared(tmp_path: Path, two: list[Sweep]) -> None:
    holding = planted(tmp_path / "holding", Plan(dict.fromkeys(FALLING, 0.01)), margin=0.3)
    still = planted(tmp_path / "still", Plan({1e-8: 0.0}, change={(1e-8, 0): "UNMOVED"}), margin=0.4)
    evidences = evidence_of([*two, holding, still])
    table = rows_about(coordinate_table(evidences), coordinate="learning_rate").set_index("folder")
    assert (table.loc["holding", "censored"], table.loc["holding", "estimate"]) == ("above", pytest.approx(3e-7))
    assert table.loc["still", "reason"] == NO_HARM and math.isnan(table.loc["still", "estimate"])
    row = rows_about(spread_table(evidences)).iloc[0]
    assert (row["num_groups"], row["num_other"]) == (2, 2)


def test_a_diverged_rate_ends_a_curve_where_it_has_no_coordinate(tmp_path: Path) -> None:
    """By rate the boundary is the middle of the gap; queries of a diverged tower are not encoded."""
    diverged = {1e-7: {"dense.weight": (1.0, math.nan, math.nan)}}
    sweep = planted(tmp_path, Plan({1e-8: 0.01, 1e-7: None}, layers={1e-8: MOVED} | diverged), 1e5)
    table = rows_about(coordinate_table(evidence_of([sweep]))).set_index("coordinate")
    assert table.loc["learning_rate", "estimate"] == pytest.approx(10**-7.5)
    assert list(table.loc[["l2_change", "turned_pairs"], "censored"]) == ["above", "above"]


def test_evidence_of_other_replicates_is_refused(two: list[Sweep]) -> None:
    mixed = [
        gather(sweep, num_resamples=number, has_pairs=False) for sweep, number in zip(two, (100, 200), strict=True)
    ]
    with pytest.raises(ValueError, match=r"replicate by replicate, got .*\[\(100, 0\), \(200, 0\)\]; gather all"):
        spread_table(mixed)
    with pytest.raises(ValueError, match="got none; give at least one results folder"):
        coordinate_table([])


# chart and command --------------------------------------------------------------------------------------------------


def test_short_names_leave_out_what_most_groups_share() -> None:
    groups = [("a", f"freeze={plan}, batch_size={size}") for plan, size in (("emb, B0", 14), ("emb", 14), ("emb", 42))]
    assert short_names([*groups, ("b", "")]) == ["a: freeze=emb, B0", "a", "a: batch_size=42", "b"]


def test_the_chart_is_of_the_first_criterion(tmp_path: Path, two: list[Sweep]) -> None:
    assert plot_coordinates(evidence_of(two), tmp_path / "chart.png") == COSINE
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def run(*arguments: str | Path, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["predict", *map(str, arguments)], env={"COLUMNS": "80"})
    assert done.exit_code == code, done.output
    return done.output


def test_the_command_prints_both_tables_and_writes_all(tmp_path: Path, two: list[Sweep]) -> None:
    text = run(two[0].out, two[1].out, "--csv", tmp_path / "csv")
    assert all(len(line) <= 80 for line in text.splitlines() if "csv" not in line)
    flat = " ".join(text.split())
    assert "learning rate" in flat and "2 groups: closest in 1 - cosine, multilingual queries, sd 0.00 decades" in flat
    assert "8 trials in 2 groups, 50% hold" in flat and "distance" not in flat.replace("distance that", "")
    written = {path.name for path in (tmp_path / "csv").iterdir()}
    assert written == {f"{name}.csv" for name in ("signals", "predictor", "left_out", "coordinates", "spread")} | {
        "coordinates.png"
    }
    table = pd.read_csv(tmp_path / "csv" / "spread.csv")
    assert np.isfinite(table["sd_decades"]).all() and set(table["measure"]) == {"cosine", "distance"}


def test_the_command_on_one_folder_says_what_lacks(two: list[Sweep]) -> None:
    flat = " ".join(run(two[0].out).split())
    assert "group left out: 1 x nothing else to calibrate on" in flat
    assert "No spread: a spread takes 2 groups with a boundary within their points, got 1." in flat


def test_the_command_refuses_what_is_no_sweep(tmp_path: Path) -> None:
    assert "a results folder must exist" in run(tmp_path / "nothing", code=2)
