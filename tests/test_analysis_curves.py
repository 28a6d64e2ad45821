"""Tables by trial and by learning rate, against numbers worked out by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from planted import HELD_OUT, PAIRS, RELATION, TUNED, Plan, write_planted

from adiabatic_ray.statistics.significance import pair_influence_KC
from analysis.curves import Criterion, criteria, curve_table, other_triplet_sets, rate_table
from analysis.influences import pooled_improvement
from analysis.load import load_sweep
from analysis.resample import resample_curve

COSINE = Criterion(PAIRS, RELATION, "cosine")


@pytest.fixture
def small(tmp_path):
    """One trial, two languages: four language pairs by cosine and by distance."""
    write_planted(tmp_path, Plan({1e-8: 0.05}, num_languages=2))
    return load_sweep(tmp_path)


def with_scores(sweep, **columns):
    """The sweep with the cosine scores of its four language pairs replaced."""
    scores = sweep.scores.copy()
    chosen = (scores["set"] == PAIRS) & (scores["measure"] == "cosine")
    for name, values in columns.items():
        scores.loc[chosen, name] = values
    return dataclasses.replace(sweep, scores=scores)


def test_language_pairs_are_counted_by_benjamini_hochberg_and_by_the_papers_z(small):
    table = curve_table(
        with_scores(
            small,
            bh_p=[0.0533, 0.04, 0.9, 0.0533],
            clustered_z=[2.2, -2.6, 0.1, 2.1],
            paper_z=[1.97, -1.95, -4.0, 1.96],
        )
    )
    row = table.iloc[0]
    assert (row[COSINE.column("improved")], row[COSINE.column("degraded")]) == (1, 0)
    assert (row[COSINE.column("improved_z")], row[COSINE.column("degraded_z")]) == (1, 1), "|z| must exceed 1.96"


def test_preserved_pairs_are_those_whose_loss_was_shown_to_be_small(small):
    row = curve_table(with_scores(small, preserved_p=[0.01, 0.02, 0.0251, np.nan])).iloc[0]
    assert row[COSINE.column("preserved")] == 0, "adjusted: .0251, all three"


def test_a_pair_that_could_not_be_tested_is_not_found(small):
    table = curve_table(with_scores(small, bh_p=[np.nan, 0.003, 1.0, 1.0], clustered_z=[np.nan, 3.3, 0, 0]))
    row = table.iloc[0]
    assert (row[COSINE.column("improved")], row[COSINE.column("degraded")]) == (0, 1)


def test_improvement_weights_errors_alike_and_the_plain_mean_leaves_out_what_is_undefined(small):
    # 100 + 50 + 10 + 0 errors before, 90 + 60 + 5 + 1 after: 160 -> 156. By pair: +10%, -20%, +50%, undefined.
    before, after = np.array([100, 50, 10, 0]), np.array([90, 60, 5, 1])
    own = [0.1, -0.2, 0.5, np.nan]
    counts = {"errors_untuned": before, "pnd_untuned": before / 1600, "pnd_tuned": after / 1600, "improvement": own}
    row = curve_table(with_scores(small, **counts)).iloc[0]
    assert row[COSINE.column("improvement")] == pytest.approx(4 / 160)
    assert row[COSINE.column("mean")] == pytest.approx(0.4 / 3)
    assert row[COSINE.column("pairs")] == 3


def test_gains_on_the_tuned_set_and_on_the_others(small):
    row = curve_table(small).iloc[0]
    # The generator halves every error of the tuned set and changes nothing in the other.
    assert row["gain_tuned/cosine"] == pytest.approx(0.5) and row["gain_tuned/distance"] == pytest.approx(0.5)
    assert row[f"gain/{HELD_OUT}/cosine"] == 0
    assert row["p_tuned/cosine"] < 0.05 < row[f"p/{HELD_OUT}/cosine"]
    assert row["tuned_set"] == TUNED and other_triplet_sets(small) == [HELD_OUT]
    assert f"gain/{TUNED}/cosine" not in row


def test_every_trial_has_a_row_whatever_became_of_it(tmp_path):
    write_planted(
        tmp_path,
        Plan({0.0: 0.0, 1e-8: 0.02, 1e-7: None}, seeds=(0, 1), change={(0.0, 1): "FAILED", (1e-8, 1): "MISSING"}),
    )
    table = curve_table(load_sweep(tmp_path))
    assert list(table["status"]) == ["COMPLETE", "FAILED", "COMPLETE", "MISSING", "DIVERGED", "DIVERGED"]
    assert list(table["learning_rate"]) == [0, 0, 1e-8, 1e-8, 1e-7, 1e-7]
    assert list(table["seed"]) == [0, 1, 0, 1, 0, 1]
    assert list(table[COSINE.column("improvement")].notna()) == [True, False, True, False, False, False]
    assert table[COSINE.column("improvement")].iloc[0] == 0 and table["gain_tuned/cosine"].iloc[0] == 0
    assert not table["kept_untuned"].any(), "the control has rate 0; it keeps nothing back"


def test_rates_are_means_over_seeds(tmp_path):
    plan = Plan(
        {1e-7: -0.02, 1e-8: 0.02, 1e-6: None},
        seeds=(0, 1, 2),
        seed_sd=0.01,
        change={(1e-7, 2): "DIVERGED", (1e-8, 0): "FAILED", (1e-8, 1): "UNTUNED"},
    )
    write_planted(tmp_path, plan)
    sweep = load_sweep(tmp_path)
    trials, rates = (
        curve_table(sweep).set_index(["learning_rate", "seed"]),
        rate_table(sweep).set_index("learning_rate"),
    )
    assert list(rates.index) == [1e-8, 1e-7, 1e-6]
    assert list(rates["num_seeds"]) == [2, 2, 0] and list(rates["num_diverged"]) == [0, 1, 3]
    assert list(rates["status"]) == ["1 FAILED; 1 kept untuned", "1 DIVERGED", "DIVERGED"]
    column = COSINE.column("improvement")
    first, second = trials.loc[(1e-7, 0), column], trials.loc[(1e-7, 1), column]
    assert first != second
    assert rates.loc[1e-7, column] == pytest.approx((first + second) / 2)
    assert trials.loc[(1e-8, 1), "kept_untuned"] and trials.loc[(1e-8, 1), column] == 0
    assert np.isnan(rates.loc[1e-6, column])
    assert not [name for name in rates if name.startswith(("p/", "p_tuned/"))], "a mean of p-values means nothing"


def test_rates_keep_groups_apart(tmp_path):
    plan = Plan({1e-8: 0.01, 1e-7: 0.02}, axes={"tuning.freeze": ("embeddings", "emb, B0")})
    write_planted(tmp_path, plan)
    rates = rate_table(load_sweep(tmp_path))
    assert list(zip(rates["group"], rates["learning_rate"], strict=True)) == [
        ("freeze=embeddings", 1e-8),
        ("freeze=embeddings", 1e-7),
        ("freeze=emb, B0", 1e-8),
        ("freeze=emb, B0", 1e-7),
    ]


def test_criteria_come_in_the_order_of_the_sets_and_need_untuned_errors(small):
    assert criteria(small) == [COSINE, Criterion(PAIRS, RELATION, "distance")]
    (untuned_id, rows), *_ = small.untuned.items()
    rows = rows.copy()
    is_distance = rows["measure"] == "distance"
    rows["by_positive"] = [0 * a if drop else a for a, drop in zip(rows["by_positive"], is_distance, strict=True)]
    assert criteria(dataclasses.replace(small, untuned={untuned_id: rows})) == [COSINE]


def test_influence_is_the_derivative_by_a_clusters_weight():
    # Weighted errors: sum over language pairs of w_i w_j [negative j at least as close as positive i].
    rng = np.random.default_rng(3)
    num_clusters, num_pairs = 7, 2
    before, after = rng.random((2, num_pairs, num_clusters, num_clusters)) < np.array([0.3, 0.4])[:, None, None, None]

    def improvement(weights_C):
        weighted = [np.einsum("kij,i,j->", wrong, weights_C, weights_C) for wrong in (before, after)]
        return 1 - weighted[1] / weighted[0]

    by_positive, by_negative = ([wrong.sum(axis=axis).astype(np.int64) for wrong in (before, after)] for axis in (2, 1))
    ones = np.ones(num_clusters, dtype=np.int64)
    got = pooled_improvement(
        by_positive[1] - by_positive[0], by_negative[1] - by_negative[0], by_positive[0], by_negative[0], ones, ones
    )
    step = 1e-6
    slopes = [
        (improvement(1 + step * unit) - improvement(1 - step * unit)) / (2 * step) for unit in np.eye(num_clusters)
    ]
    assert got.improvement == pytest.approx(improvement(np.ones(num_clusters)))
    assert got.influence_C == pytest.approx(slopes, abs=1e-8)
    assert abs(got.influence_C.sum()) < 1e-12 and np.abs(got.influence_C).max() > 0.01
    assert got.num_language_pairs == num_pairs


def test_improvement_without_untuned_errors_is_refused():
    zeros, ones = np.zeros((1, 3), dtype=np.int64), np.ones(3, dtype=np.int64)
    assert not pair_influence_KC(zeros, zeros, ones, ones).any()
    with pytest.raises(ValueError, match="needs untuned errors"):
        pooled_improvement(zeros, zeros, zeros, zeros, ones, ones)


def test_seed_means_spread_like_a_t_distribution_around_the_mean():
    # Two seeds 0.00 and 0.02: mean .01, s / sqrt(2) = .01; the 90th percentile of t with 2 degrees of freedom is 1.886.
    rates, means, replicates, seeds = resample_curve(
        np.array([1.0, 1.0, 2.0]), np.array([0.0, 0.02, 0.5]), np.zeros((3, 4)), num_resamples=40_000, seed=0
    )
    assert list(rates) == [1.0, 2.0] and list(seeds) == [2, 1] and means == pytest.approx([0.01, 0.5])
    assert np.quantile(replicates[:, 0], 0.9) == pytest.approx(0.01 + 0.01 * 1.886, abs=0.001)
    assert np.quantile(replicates[:, 0], 0.5) == pytest.approx(0.01, abs=0.0005)
    assert (replicates[:, 1] == 0.5).all(), "one seed, no premise moved: nothing to redraw"


def test_premises_are_redrawn_once_for_all_trials():
    # Two rates with equal influences and one seed each: their replicates move together, with variance sum(psi^2).
    influence_C = np.array([0.03, -0.01, -0.02, 0.0])
    _, _, replicates, _ = resample_curve(
        np.array([1.0, 2.0]), np.array([0.1, 0.2]), np.stack([influence_C] * 2), num_resamples=40_000, seed=0
    )
    assert replicates[:, 1] - replicates[:, 0] == pytest.approx(0.1)
    assert replicates[:, 0].std() == pytest.approx(np.sqrt((influence_C**2).sum()), rel=0.02)


def test_a_rate_is_broken_in_a_replicate_as_often_as_a_diverged_seed_is_drawn():
    rates = np.full(3, 1.0)
    _, means, replicates, _ = resample_curve(
        rates, np.array([0.02, 0.02, -np.inf]), np.zeros((3, 4)), num_resamples=40_000, seed=0
    )
    assert means[0] == -np.inf
    assert np.isneginf(replicates).mean() == pytest.approx(1 - (2 / 3) ** 3, abs=0.01)
    assert (replicates[np.isfinite(replicates)] == 0.02).all()


def test_csv_of_the_table_reads_back(small, tmp_path):
    table = curve_table(small)
    table.to_csv(tmp_path / "curves.csv", index=False)
    back = pd.read_csv(tmp_path / "curves.csv")
    assert list(back.columns) == list(table.columns)
    assert back[COSINE.column("improvement")].iloc[0] == table[COSINE.column("improvement")].iloc[0], "not rounded"
