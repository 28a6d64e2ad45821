"""Tables of boundaries from planted folders: columns, censoring, groups, languages, ratios, gains, bad input."""

import dataclasses
import io
import math

import numpy as np
import pytest
from planted import HELD_OUT, PAIRS, RELATION, TUNED, Plan, write_planted
from rich.console import Console

from adiabatic_ray import results
from analysis.boundary_print import print_boundaries
from analysis.boundary_tables import COLUMNS, NO_HARM, boundary_table, language_boundaries
from analysis.curves import Criterion
from analysis.gains import best_rates, floor, gain_floor
from analysis.influences import TRIPLETS, WHOLE, Part
from analysis.level import estimate_boundaries
from analysis.load import load_sweep
from analysis.ratios import boundary_ratios
from analysis.resample import gather
from analysis.rules import Rule

FALLING = {1e-8: 0.01, 3e-8: 0.02, 1e-7: 0.02, 3e-7: -0.04, 1e-6: -0.3}
COSINE = Criterion(PAIRS, RELATION, "cosine")


def planted(folder, plan, **options):
    write_planted(folder, plan)
    return gather(load_sweep(folder), **{"num_resamples": 200} | options)


def one(table, **keys):
    """The only row with these values."""
    chosen = table[(table[list(keys)] == list(keys.values())).all(axis=1)]
    assert len(chosen) == 1
    return chosen.iloc[0]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    """Three seeds, five rates."""
    return planted(tmp_path_factory.mktemp("falling"), Plan(FALLING, seeds=(0, 1, 2), seed_sd=0.003))


def test_one_row_for_each_criterion_of_each_set_and_measure(evidence):
    table = boundary_table(evidence)
    assert list(table.columns) == COLUMNS
    pairs, triplets = table[table["axis"] == "all"], table[table["axis"] == "triplets"]
    assert list(pairs["criterion"]) == 2 * ["onset", "break-even", "tolerance", "level", "pairs"]
    assert list(triplets["criterion"]) == 2 * ["break-even", "tolerance", "level"]
    assert set(triplets["set"]) == {HELD_OUT} and set(pairs["measure"]) == {"cosine", "distance"}
    cosine = pairs[pairs["measure"] == "cosine"].set_index("criterion")["estimate"]
    assert 1e-7 < cosine["tolerance"] < cosine["level"] < 3e-7 and cosine["break-even"] < cosine["level"]
    assert table["is_complete"].all() and set(pairs["covers"]) == {"texts and seeds", "seeds"}
    row = one(pairs, criterion="level", measure="cosine")
    assert (row["rate_before"], row["rate_after"]) == pytest.approx((1e-7, 3e-7))
    assert row["seed_low"] < row["estimate"] < row["seed_high"], "seeds disagree by .3%"


def test_the_level_is_that_of_the_main_sentence(evidence):
    table = boundary_table(evidence)
    for boundary in estimate_boundaries(evidence.sweep, evidence=evidence):
        row = one(table, criterion="level", set=boundary.set, measure=boundary.measure)
        for name in ("estimate", "low", "high", "censored", "low_censored", "high_censored", "num_rates"):
            assert row[name] == getattr(boundary, name)


def test_the_same_seed_gives_the_same_table(evidence):
    again, other = (gather(evidence.sweep, num_resamples=200, seed=seed) for seed in (0, 1))
    assert boundary_table(again).equals(boundary_table(evidence))
    assert not boundary_table(other)["low"].equals(boundary_table(evidence)["low"])


def test_what_does_not_change_has_no_boundary_in_this_range(evidence):
    row = one(boundary_table(evidence), criterion="level", set=HELD_OUT, measure="cosine")
    assert (row["censored"], row["estimate"]) == ("above", 1e-6)
    assert row["words"] == "no boundary in this range: above 1e-06"


def test_languages_are_ranked_by_where_they_break(evidence):
    table = language_boundaries(evidence)
    cosine = table[table["measure"] == "cosine"]
    assert [list(part["rank"]) for _, part in cosine.groupby("axis")] == [
        list(range(1, 10)), [1, 2, 3], [1, 2, 3]
    ]  # fmt: skip
    for _, part in cosine.groupby("axis"):
        assert part["estimate"].is_monotonic_increasing
        assert (part["low"] <= part["estimate"]).all() and (part["estimate"] <= part["high"]).all()
    assert set(cosine.loc[cosine["axis"] == "language pair", "num_language_pairs"]) == {1}
    assert "ar/bg" in set(cosine["member"]) and set(cosine["num_clusters"]) == {40}


def test_the_influence_of_a_mean_over_a_language_is_that_of_its_pairs_weighted_by_errors(evidence):
    trial = next(iter(evidence.influences.values()))
    pairs, keys = trial.pairs[COSINE], evidence.pair_keys(COSINE)
    rows = evidence.sweep.untuned["untuned-planted"]
    rows = rows[(rows["set"] == PAIRS) & (rows["measure"] == "cosine")]
    errors_K = np.array([counts.sum() for counts in rows["by_positive"]])
    for part, own_K in (
        (WHOLE, np.ones(9, bool)),
        (Part("query language", "bg"), np.array([query == "bg" for query, _ in keys])),
        (Part("passage language", "de"), np.array([passage == "de" for _, passage in keys])),
    ):
        weights_K = np.where(own_K, errors_K, 0) / errors_K[own_K].sum()
        assert trial.parts[COSINE, part].improvement == pytest.approx(weights_K @ pairs.improvement_K)
        assert trial.parts[COSINE, part].num_language_pairs == own_K.sum()


def test_draws_of_a_pair_spread_as_its_clustered_standard_error(evidence):
    trial_id = evidence.sweep.completeness.done[-1]
    scores = evidence.sweep.scores
    own = scores[(scores["trial_id"] == trial_id) & (scores["set"] == PAIRS) & (scores["measure"] == "cosine")]
    pairs = evidence.influences[trial_id].pairs[COSINE]
    assert pairs.improvement_K == pytest.approx(own["improvement"].to_numpy())
    # A 95% interval reaches 1.96 standard errors; 400 draws know a spread to 3.5%. Fieller's interval is the wider the
    # less is known of the untuned PND, and 40 clusters are few.
    half = (own["improvement_high"] - own["improvement_low"]).to_numpy() / (2 * 1.96)
    ratio_K = pairs.noise_PK.std(axis=0) / half
    assert (ratio_K > 0.65).all() and (ratio_K < 1.1).all() and 0.8 < ratio_K.mean() < 1.05


def test_triplets_improve_as_their_scores_say(evidence):
    scores = evidence.sweep.scores
    for row in scores[scores["kind"] == "triplets"].to_dict("records"):
        key = Criterion(row["set"], row["relation"], row["measure"]), TRIPLETS
        assert evidence.influences[row["trial_id"]].parts[key].improvement == pytest.approx(row["improvement"])


def test_groups_that_differ_in_nothing_have_a_ratio_of_one(tmp_path):
    axes = {"tuning.freeze": ("embeddings", "emb, B0")}
    evidence = planted(tmp_path, Plan(FALLING, seeds=(0, 1, 2), axes=axes, seed_sd=0.003))
    row = one(boundary_ratios(evidence), set=PAIRS, measure="cosine")
    assert (row["group"], row["reference"]) == ("freeze=emb, B0", "freeze=embeddings")
    assert row["low"] < 1 < row["high"] and not row["is_different"] and row["ratio"] == pytest.approx(1, abs=0.1)
    table = boundary_table(evidence)
    estimates = [
        one(table, criterion="level", set=PAIRS, measure="cosine", group=g)["estimate"] for g in evidence.groups
    ]
    assert row["ratio"] == pytest.approx(estimates[1] / estimates[0])
    outside = one(boundary_ratios(evidence), set=HELD_OUT, measure="cosine")
    assert math.isnan(outside["ratio"]) and outside["words"].startswith("unknown") and not outside["is_different"]
    with pytest.raises(ValueError, match="a ratio needs a group"):
        boundary_ratios(evidence, reference="freeze=nothing")


def test_texts_that_are_shared_cancel_in_a_ratio(tmp_path):
    """One seed and the same texts in both groups: the texts' noise is the same, and the ratio is sure."""
    axes = {"tuning.freeze": ("embeddings", "emb, B0")}
    evidence = planted(tmp_path, Plan(FALLING, axes=axes))
    row = one(boundary_ratios(evidence), set=PAIRS, measure="cosine")
    assert (row["ratio"], row["low"], row["high"]) == pytest.approx((1, 1, 1))
    level = one(boundary_table(evidence), criterion="level", set=PAIRS, measure="cosine", group="freeze=embeddings")
    assert level["high"] / level["low"] > 1.05


def test_boundaries_in_gaps_below_diverged_rates_have_no_sure_ratio(tmp_path):
    plan = Plan({1e-8: 0.02, 1e-7: 0.02, 1e-6: None}, axes={"tuning.freeze": ("embeddings", "emb, B0")})
    row = one(boundary_ratios(planted(tmp_path, plan)), set=PAIRS, measure="cosine")
    assert row["ratio"] == pytest.approx(1) and row["low"] < 0.2 and row["high"] > 5


def test_the_gain_begins_where_its_lower_limit_leaves_zero(evidence):
    row = one(gain_floor(evidence), measure="cosine")
    assert (row["set"], row["censored"], row["estimate"]) == (TUNED, "below", 1e-8)
    assert row["words"] == "a gain is shown at the lowest rate tried, 1e-08"
    curve = evidence.curve("", Criterion(TUNED, "positive-negative", "cosine"), TRIPLETS)
    mean_R = np.array([-0.02, 0.0, 0.02, 0.06, -0.5])
    noise_BR = 0.01 * np.random.default_rng(0).standard_normal((2000, 5))
    climbing = dataclasses.replace(curve, mean_R=mean_R, replicates_BR=mean_R + noise_BR)
    # The lower limit is .02 - .0196 at 1e-7 and -.0196 at 3e-8.
    assert 10 ** floor(climbing).estimate == pytest.approx(1e-7, rel=0.06)
    none = dataclasses.replace(climbing, mean_R=0 * mean_R, replicates_BR=noise_BR)
    assert floor(none).estimate == math.inf and "no gain is shown" in floor(none).reason


def test_the_best_rate_is_one_at_which_nothing_is_degraded(evidence):
    row = one(best_rates(evidence), measure="cosine")
    assert row["best_rate"] in (1e-8, 3e-8, 1e-7) and row["gain"] == pytest.approx(0.5)
    assert row["gain_low"] <= row["gain"] <= row["gain_high"]


def test_where_every_rate_degrades_there_is_no_best_rate(tmp_path):
    row = one(best_rates(planted(tmp_path, Plan({1e-7: -0.3, 1e-6: -0.4}))), measure="cosine")
    assert math.isnan(row["best_rate"]) and row["num_degraded_there"] == 9 and row["words"].startswith("none of the")


def test_pairs_have_no_interval_with_one_seed(tmp_path):
    row = one(boundary_table(planted(tmp_path, Plan(FALLING))), criterion="pairs", measure="cosine")
    assert math.isnan(row["low"]) and row["covers"] == "nothing" and "one seed a rate" in row["words"]
    assert 1e-7 < row["estimate"] < 1e-6, "nine of nine at -30%"


def test_an_incomplete_sweep_says_so_before_any_number(tmp_path):
    evidence = planted(tmp_path, Plan(FALLING, change={(3e-7, 0): "FAILED", (1e-8, 0): "MISSING"}))
    table = boundary_table(evidence)
    assert not table["is_complete"].any() and (table["num_absent"] == 2).all()
    assert table["words"].str.startswith("INCOMPLETE, 2 failed or missing: ").all()
    assert gain_floor(evidence)["words"].str.startswith("INCOMPLETE").all()
    assert best_rates(evidence)["words"].str.startswith("INCOMPLETE").all()


@pytest.mark.parametrize("plan, estimates", [
    (Plan({1e-8: 0.02, 1e-7: -0.04}), {"level": "none", "onset": None}),
    (Plan({1e-5: None, 1e-4: None}), {"level": "below", "break-even": "below", "tolerance": "below", "onset": None}),
    (Plan({1e-7: 0.02}), {"level": "above", "onset": None}),
], ids=["two rates", "all diverged", "one rate"])  # fmt: skip
def test_whatever_can_be_said_is_said(tmp_path, plan, estimates):
    evidence = planted(tmp_path, plan)
    table = boundary_table(evidence)
    for criterion, mark in estimates.items():
        row = one(table, criterion=criterion, set=PAIRS, measure="cosine")
        assert math.isnan(row["estimate"]) if mark is None else row["censored"] == mark
        assert "no boundary: an onset takes 4 rates" in row["words"] if mark is None else row["words"]
    assert len(language_boundaries(evidence)) == 2 * 15
    assert len(gain_floor(evidence)) == 2 and isinstance(best_rates(evidence), type(table))
    print_boundaries(evidence, Console(width=80, quiet=True))


def test_towers_that_did_not_move_have_no_boundary(tmp_path):
    plan = Plan({1e-8: 0.0, 1e-7: 0.0}, change={(1e-8, 0): "UNTUNED", (1e-7, 0): "UNMOVED"})
    table = boundary_table(planted(tmp_path, plan))
    assert table["estimate"].isna().all() and (table["reason"] == NO_HARM).all()


def test_a_sweep_without_pairs_has_boundaries_of_its_english_sets(tmp_path):
    table = boundary_table(planted(tmp_path, Plan(FALLING, has_pairs=False)))
    assert set(table["set"]) == {HELD_OUT} and len(table) == 6


@pytest.mark.parametrize("options", [{"delta": -0.1}, {"delta": math.nan}, {"share": 1.0}])
def test_options_out_of_range_are_refused(evidence, options):
    with pytest.raises(ValueError, match="must be fractions"):
        boundary_table(evidence, **options)


@pytest.mark.parametrize("rule, axes", [("pairs", ("query language",)), ("level", ("family",)), ("median", ())])
def test_an_unknown_criterion_or_axis_is_refused(evidence, rule, axes):
    with pytest.raises(ValueError):
        language_boundaries(evidence, rule, axes=axes)


def test_only_the_columns_that_are_needed_are_read(evidence, monkeypatch):
    asked = []
    read = results.read_table

    def listen(out, table, file_ids=None, columns=None):
        asked.append((table, columns))
        return read(out, table, file_ids, columns)

    monkeypatch.setattr(results, "read_table", listen)
    gather(evidence.sweep, num_resamples=100)
    assert len(asked) == 15 and {table for table, _ in asked} == {"influence"}
    assert all("reciprocal_rank" not in columns for _, columns in asked)


def test_the_terminal_shows_every_boundary_once(evidence):
    console = Console(width=80, record=True, file=io.StringIO())
    print_boundaries(evidence, console)
    text = console.export_text()
    assert text.count("Boundaries: ") == 4 and text.count("tolerance") == 4 + 1
    assert "Gain begins (questions, cosine): a gain is shown" in text and "Best rate (cosine): " in text
    assert max(map(len, text.splitlines())) <= 80 and "Against" not in text


def test_every_rule_has_words(evidence):
    assert {str(rule) for rule in Rule} == set(boundary_table(evidence)["criterion"])
