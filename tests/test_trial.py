"""A trial from specification to rows on disk, in this process: what it leaves of how far the tower went."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adiabatic_ray import results
from adiabatic_ray.encoders.towers import tuned_tower
from adiabatic_ray.evaluation import evaluate
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.evaluation.prepare import Loader, prepare
from adiabatic_ray.on_ray.tracking_measures import final_measures
from adiabatic_ray.schemas import TrialStatus
from adiabatic_ray.spec import TrialSpec
from adiabatic_ray.statistics.counts import Counts
from adiabatic_ray.trial import Report, TrialContext, run_trial
from adiabatic_ray.tuning.news import Tuned
from adiabatic_ray.tuning.tune import tune
from tests.small_sweep import LANGUAGES, small_sweep

RATES = (0.0, 1e-4, 1e-2, 1e38)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[float, tuple[str, TrialStatus]]]:
    """Results folder; id and state of each rate's trial."""
    out, loader = tmp_path_factory.mktemp("out"), Loader()
    trials = [loader.pin(trial) for trial in small_sweep(tmp_path_factory.mktemp("inputs"), RATES).expand()]
    inputs = loader.load(trials[0])
    backbone, budget = inputs.backbone, inputs.token_budget
    banks = [encode(backbone.build_tower(), backbone.tokenize(one, "passage: "), budget) for one in inputs.bank_texts()]
    kit = prepare(inputs, banks)

    def tuned(trial: TrialSpec, report: Report) -> Tuned:
        return tune(backbone, trial.tuning, kit.tuning, kit.validation, budget, report)

    def score(changed: dict[str, np.ndarray]) -> list[Counts]:
        return evaluate.score_sets(tuned_tower(backbone, changed), kit.evaluation, budget)

    context = TrialContext("small", out, "untuned", score({}), 2.5, {})
    statuses = {
        trial.tuning.learning_rate: (trial.trial_id, run_trial(trial, context, tuned, score, lambda report: None))
        for trial in trials
    }
    return out, statuses


def _table(ran: tuple[Path, dict[float, tuple[str, TrialStatus]]], table: str, rate: float) -> pd.DataFrame:
    out, statuses = ran
    return results.read_table(out, table, [statuses[rate][0]]).to_pandas()


def test_cosines_fall_with_the_rate_and_are_one_at_zero(
    ran: tuple[Path, dict[float, tuple[str, TrialStatus]]],
) -> None:
    still, slow, fast = (_table(ran, "cosines", rate) for rate in RATES[:3])
    assert list(still["set"]) == ["mine", "pairs", "pairs", "pairs"]
    assert list(still["query_language"]) == ["", *LANGUAGES]
    assert list(still["num_texts"]) == [32, 20, 20, 20], "of 40 queries, and of 20 unique ones a language"
    assert (still[["mean_cosine", "min_cosine"]] == 1).all(axis=None)
    assert (fast["mean_cosine"] < slow["mean_cosine"]).all() and (slow["mean_cosine"] < 1).all()
    assert (fast["min_cosine"] < fast["mean_cosine"]).all() and (fast["min_cosine"] > -1).all()


def test_drift_has_every_trainable_tensor_with_its_block(
    ran: tuple[Path, dict[float, tuple[str, TrialStatus]]],
) -> None:
    still, fast = _table(ran, "drift", 0.0), _table(ran, "drift", 1e-2)
    assert list(fast["block"]) == ["0"] * 16 + ["1"] * 16, "16 tensors a block; the embedding block is frozen"
    assert (still[["l2_change", "l2_relative", "moved_frac"]] == 0).all(axis=None)
    assert (still["largest_tuned"] == still["largest_untuned"]).all()
    assert (fast["l2_relative"] == fast["l2_change"] / fast["l2_untuned"]).all() and (fast["l2_relative"] > 0).any()
    assert (fast["largest_tuned"] != fast["largest_untuned"]).any()


def test_a_trial_that_diverged_has_drift_and_no_cosines(
    ran: tuple[Path, dict[float, tuple[str, TrialStatus]]],
) -> None:
    out, statuses = ran
    trial_id, status = statuses[1e38]
    assert status is TrialStatus.DIVERGED and len(_table(ran, "drift", 1e38)) == 32
    assert not results.table_path(out, "cosines", trial_id).exists()


def test_its_measures_are_those_of_its_tables(ran: tuple[Path, dict[float, tuple[str, TrialStatus]]]) -> None:
    out, statuses = ran
    measures, drift = final_measures(out, statuses[1e-2][0]), _table(ran, "drift", 1e-2)
    assert measures["drift/l2_change"] == pytest.approx(np.linalg.norm(drift["l2_change"]))
    first = drift[drift["block"] == "0"]
    assert measures["drift_by_block/00"] == pytest.approx(
        np.linalg.norm(first["l2_change"]) / np.linalg.norm(first["l2_untuned"])
    )
    still = final_measures(out, statuses[0.0][0])
    assert still["drift/max_change"] == 0 and still["cosine/pairs_lowest_language"] == 1


def test_a_trial_says_where_its_time_went(ran: tuple[Path, dict[float, tuple[str, TrialStatus]]]) -> None:
    rows = {rate: _table(ran, "trials", rate).iloc[0] for rate in RATES}
    for rate, row in rows.items():
        assert row["bank_s"] == 2.5 and row["queue_s"] >= 0 and row["load_s"] == 0 and row["tune_s"] > 0
        assert row["write_s"] > 0 and (row["evaluate_s"] > 0) == (rate < 1e38), "what diverged is not scored"
        spent = row[["queue_s", "load_s", "tune_s", "evaluate_s", "write_s"]].sum()
        passed = (row["finished_at"] - row["started_at"]).total_seconds()
        assert spent <= passed + 0.005, "parts of one stretch of time, which is kept in milliseconds"
