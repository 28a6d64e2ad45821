"""Loading a results folder: what is complete, what belongs together, and clear words for what cannot be used."""

import json
import shutil

import pyarrow.parquet as pq
import pytest
from planted import PAIRS, UNTUNED_ID, Plan, sweep_spec, write_planted

from adiabatic_ray import results
from adiabatic_ray.results import ResultsError
from analysis.load import load_sweep

CURVE = {1e-8: 0.01, 1e-7: -0.02, 1e-6: None}


def test_completeness_lists_every_trial_once_in_the_order_of_the_sweep(tmp_path):
    write_planted(tmp_path, Plan(CURVE, seeds=(0, 1), change={(1e-8, 1): "FAILED", (1e-7, 0): "MISSING"}))
    sweep = load_sweep(tmp_path)
    first, second, third, fourth, fifth, sixth = sweep.trial_ids  # rates go slowest, seeds fastest
    assert sweep.completeness.done == (first, fourth)
    assert sweep.completeness.failed == (second,)
    assert sweep.completeness.missing == (third,)
    assert sweep.completeness.diverged == (fifth, sixth)
    assert not sweep.completeness.is_whole
    assert [sweep.status(i) for i in sweep.trial_ids[:3]] == ["COMPLETE", "FAILED", "MISSING"]
    assert list(sweep.trials["trial_id"]) == [first, fourth, fifth, sixth]
    assert set(sweep.scores["trial_id"]) == {first, fourth}
    assert list(sweep.curves["trial_id"]) == [first, fourth, fifth, sixth]


def test_a_failure_that_was_mended_since_is_no_failure(tmp_path):
    write_planted(tmp_path, Plan(CURVE))
    trial_id = load_sweep(tmp_path).trial_ids[0]
    results.write_json(tmp_path / "failures" / f"{trial_id}.json", {"trial_id": trial_id, "error": "lost node"})
    sweep = load_sweep(tmp_path)
    assert sweep.completeness.failed == () and sweep.completeness.is_whole


def test_trials_of_an_earlier_form_of_the_sweep_are_left_out(tmp_path):
    spec = write_planted(tmp_path, Plan(CURVE))
    ids = [trial.trial_id for trial in spec.expand()]
    fewer = sweep_spec(Plan({1e-8: 0.01, 1e-7: -0.02}))
    results.write_sweep(tmp_path, fewer.model_dump(mode="json"), ids[:2], {})
    sweep = load_sweep(tmp_path)
    assert sweep.trial_ids == tuple(ids[:2]) and list(sweep.trials["trial_id"]) == ids[:2]


@pytest.mark.parametrize("pinned", [False, True])
def test_rate_and_seed_of_unfinished_trials_are_known_from_the_sweep(tmp_path, pinned):
    write_planted(tmp_path, Plan(CURVE, seeds=(3,), change={(1e-7, 3): "MISSING"}, pinned=pinned))
    sweep = load_sweep(tmp_path)
    missing = sweep.completeness.missing[0]
    tuning = sweep.trial_specs[missing].tuning
    assert (tuning.learning_rate, tuning.seed) == (1e-7, 3)
    assert set(sweep.groups.values()) == {""}


def test_trials_that_a_search_added_are_known_from_their_rows(tmp_path):
    spec = write_planted(tmp_path, Plan(CURVE))
    fewer = sweep_spec(Plan({1e-8: 0.01}))
    ids = [trial.trial_id for trial in spec.expand()]
    results.write_sweep(tmp_path, fewer.model_dump(mode="json"), [*ids, "lr5e-08-embeddings-seed0-0123456789"], {})
    sweep = load_sweep(tmp_path)
    assert [spec.tuning.learning_rate for spec in sweep.trial_specs.values()] == [1e-8, 1e-7, 1e-6]
    assert sweep.completeness.missing == ("lr5e-08-embeddings-seed0-0123456789",)


def test_groups_are_named_by_the_settings_that_differ(tmp_path):
    axes = {"tuning.freeze": ("embeddings", "emb, B0a"), "tuning.keep": ("improved", "final")}
    write_planted(tmp_path, Plan({1e-8: 0.01}, seeds=(0, 1), axes=axes))
    sweep = load_sweep(tmp_path)
    assert list(dict.fromkeys(sweep.groups.values())) == [
        "freeze=embeddings, keep=improved",
        "freeze=embeddings, keep=final",
        "freeze=emb, B0a, keep=improved",
        "freeze=emb, B0a, keep=final",
    ]
    assert list(sweep.groups.values()).count("freeze=emb, B0a, keep=final") == 2, "seeds share a group"


def test_a_backbone_is_named_without_its_conventions_unless_they_tell_groups_apart(tmp_path):
    plan = Plan({1e-8: 0.01})
    write_planted(tmp_path, plan)
    trial = sweep_spec(plan).trial
    models = [
        trial.backbone.model_copy(update={"name": "org/one", "query_prefix": "query: "}),
        trial.backbone.model_copy(update={"name": "org/two", "query_prefix": ""}),
    ]

    def groups(backbones):
        grid = {"backbone": tuple(backbone.model_dump() for backbone in backbones)}
        spec = sweep_spec(plan).model_copy(update={"grid": grid})
        trials = spec.expand()
        ids = [one.trial_id for one in trials]
        results.write_sweep(tmp_path, spec.model_dump(mode="json"), ids, {})
        rows = results.read_table(tmp_path, "trials").to_pylist()[:1]
        changes = {"trial_id": ids[0], "status": "DIVERGED", "spec_json": trials[0].model_dump_json()}
        results.write_table(tmp_path, "trials", ids[0], [rows[0] | changes])
        for table in ("curves", "drift"):
            results.write_table(tmp_path, table, ids[0], [])
        return list(load_sweep(tmp_path).groups.values())

    assert groups(models) == ["backbone=one", "backbone=two"]
    with_prefix = models[1].model_copy(update={"query_prefix": "ask: "})
    assert groups([*models, with_prefix]) == [
        "backbone=one, query_prefix=query: ",
        "backbone=two, query_prefix=",
        "backbone=two, query_prefix=ask: ",
    ]


def test_influence_and_untuned_counts_belong_to_the_trial(tmp_path):
    write_planted(tmp_path, Plan({1e-8: -0.2}, num_languages=2))
    sweep = load_sweep(tmp_path)
    influence, untuned = sweep.influence(sweep.trial_ids[0]), sweep.untuned[UNTUNED_ID]
    for rows in (influence, untuned):
        pairs = rows[rows["set"] == PAIRS]
        assert len(pairs) == 2 * 4  # measures x language pairs
        assert [a.sum() for a in pairs["by_positive"]] == [b.sum() for b in pairs["by_negative"]]
    assert sum(a.sum() for a in influence["by_positive"][influence["set"] == PAIRS]) > 0, "worse: more errors"


@pytest.mark.parametrize("break_it, words", [
    (lambda out: shutil.rmtree(out), "must exist"),
    (lambda out: (out / "sweep.json").unlink(), "holds sweep.json"),
    (lambda out: shutil.rmtree(out / "trials"), "at least one finished trial, got none of 3"),
    (lambda out: shutil.rmtree(out / "scores"), "has all its tables"),
    (lambda out: shutil.rmtree(out / "untuned"), "has all its tables"),
    (lambda out: _edit_json(out / "sweep.json", schema_version=99), "must have schema version 5 or 6, got 99"),
    (lambda out: _edit_json(out / "sweep.json", spec={"name": "x"}), "this release understands"),
    (lambda out: _relabel(next((out / "scores").glob("*.parquet"))), "must have schema version 5 or 6, got 99"),
    (lambda out: next((out / "scores").glob("*.parquet")).write_bytes(b"cut off"), "must be a Parquet file"),
])  # fmt: skip
def test_what_cannot_be_used_is_refused_in_words(tmp_path, break_it, words):
    out = tmp_path / "out"
    write_planted(out, Plan(CURVE))
    break_it(out)
    with pytest.raises(ResultsError, match=words) as caught:
        load_sweep(out)
    assert str(out) in str(caught.value)


def _edit_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _relabel(path):
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"schema_version": b"99"}), path)


AXES = {"tuning.weight_decay": (0.0, 1.0), "tuning.batch_size": (14, 28)}
"""Not in the order of the alphabet, and no part of what is readable in an id."""


def test_every_trial_has_its_own_settings_whatever_the_order_of_the_axes(tmp_path):
    write_planted(tmp_path, Plan({1e-8: 0.01, 1e-7: 0.01}, axes=AXES, change={(1e-7, 0): "MISSING"}))
    sweep = load_sweep(tmp_path)
    assert {trial_id: trial.trial_id for trial_id, trial in sweep.trial_specs.items()} == {
        i: i for i in sweep.trial_ids
    }


def test_settings_are_the_rows_where_the_sweeps_order_is_lost(tmp_path):
    """All ids read alike, so that only the rows tell that the expansion of a sorted grid has another order."""
    write_planted(tmp_path, Plan({1e-8: 0.01}, axes=AXES))
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))  # as earlier releases wrote it
    sweep = load_sweep(tmp_path)
    assert {trial_id: trial.trial_id for trial_id, trial in sweep.trial_specs.items()} == {
        i: i for i in sweep.trial_ids
    }
