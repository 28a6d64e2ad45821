"""The demo's parts end to end, small: the packaged E5 tuned on real docstrings, scored on CLDR names, with a report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adiabatic_ray import results

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_demo_in_miniature(tmp_path: Path) -> None:
    """Rate 0 changes nothing, 3e-3 breaks the languages, and the boundary lies between the rates tried."""
    overrides = [
        "grid.tuning.learning_rate=[0, 1e-7, 3e-3]",
        "grid.tuning.seed=[0]",
        "trial.tuning.batches_per_epoch=3",
        "trial.source.num_tune=60",
        "trial.source.num_validation=20",
        "trial.evaluation.sets.0.num_evaluation=20",
        "trial.evaluation.sets.0.num_validation=0",
        "trial.evaluation.sets.1.num_evaluation=20",
        "trial.evaluation.sets.2.num_names=20",
        'trial.evaluation.sets.2.languages=["en","de","zh"]',
    ]
    arguments = [argument for override in overrides for argument in ("--set", override)]
    out = tmp_path / "out"
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-m", "jobs.run_sweep", "demo", "--out", str(out), *arguments],
        cwd=CHECKOUT,
        env=kept | {"COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    scores = results.read_table(out, "scores").to_pandas()
    trials = results.read_table(out, "trials").to_pandas().set_index("trial_id")
    scores["learning_rate"] = scores["trial_id"].map(trials["learning_rate"])
    names = scores[(scores["set"] == "cldr") & (scores["measure"] == "cosine")].groupby("learning_rate")
    untuned, tuned = names["errors_untuned"].sum(), names["errors_tuned"].sum()
    assert tuned[0.0] == untuned[0.0] and tuned[3e-3] > 2 * untuned[3e-3] + 20
    assert set(trials["status"]) == {"COMPLETE"} and set(trials["num_trainable"]) == {21_293_568}
    boundary = json.loads((out / "report" / "boundary.json").read_text())
    assert boundary and (out / "report" / "curves.png").stat().st_size > 10_000
    assert (out / "report" / "heatmap.png").stat().st_size > 10_000
    assert "Multilingual quality (cldr" in done.stdout and " -m mlflow ui " in done.stdout
