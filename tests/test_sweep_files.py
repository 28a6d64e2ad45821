"""Every shipped sweep at both sizes, expanded without network or data: what it asks, how many trials, what is frozen.

Numbers of trials are counted by hand in the paper's tables and in the questions; freeze plans meet a BERT of 12 blocks.
"""

from __future__ import annotations

import ast
import itertools
import re
import socket
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel
from typer.testing import CliRunner

from adiabatic_ray.changes import with_changes
from adiabatic_ray.encoders.freezing import frozen_names, parse_plan
from adiabatic_ray.paper import A100_HOURS_PER_TRIAL, PAPER_TRIAL, paper_sweep
from adiabatic_ray.search_spec import BoundarySearch, GainSearch
from adiabatic_ray.small import small_sweep
from adiabatic_ray.sources import CldrNames, DocstringTriplets, HotpotQa, PairFile, SquadSentences, TripletFile, Xnli
from adiabatic_ray.spec import (
    E5,
    L12,
    MINILM,
    PACKAGED_E5,
    ClusterSpec,
    EvaluationSpec,
    SweepSpec,
    TrialSpec,
    TuningSpec,
)
from jobs.cli import app
from jobs.sweep_files import Scale, cost_of, load_sweep, shipped_sweeps

NUM_TRIALS = {
    "batch_size_fixed_batches": 5,  # Table 9
    "batch_size_fixed_batches_l12": 5,  # Table 11
    "batch_size_fixed_samples": 5,  # Table 8
    "batch_size_fixed_samples_l12": 5,  # Table 10
    "adaptive_boundary": 40,  # at most
    "demo": 7 * 2,
    "frozen_layers": 9,  # Table 1
    "frozen_families": 7 * 4,
    "frozen_halves": 3 * 5,
    "frozen_layers_l12": 9,  # Table 4
    "idle_epochs": 3,  # Table 16
    "learning_rate": 20,  # Figure 2
    "learning_rate_both_towers": 20,  # Figure 11
    "learning_rate_e5e": 20,  # Figure 11
    "learning_rate_l12": 20,  # Figure 11
    "learning_rate_output_dense_frozen": 20,  # Figure 3
    "margin": 10,  # Figure 12
    "margin_l12": 10,  # Figure 13
    "narrow_domains": 3,  # Table 5
    "optimizers": 3 * 2 + 2 * 2,  # Table 20, and Adadelta and SGD of its text
    "rate_and_steps": 4 * 4,
    "scaling_linear": 5,  # Table 6
    "scaling_square_root": 5,  # Table 7
    "schedules_and_decay": (20 + 1) * 2,  # Tables 17 and 18, and what they are compared with
    "sgd_rates": 20,  # Figure 14
    "squad_rates": 6,
    "tuning_language": 15 * 2,
    "update_precision": 3 * 7,
    "weight_decay": 4,  # Table 13
    "weight_decay_large_batch": 8,  # Table 12
}
NAMES = sorted(shipped_sweeps())
BY_PACKAGES = {"demo", "squad_rates"}
"""Made for two cores, and not from the paper."""
SECTIONS = ("Question", "Hypothesis", "Trials", "Cost", "Deciding rule")

with torch.device("meta"):
    BERT_12_NAMES = [
        name
        for name, _ in BertModel(
            BertConfig(vocab_size=8, hidden_size=12, num_hidden_layers=12, intermediate_size=8),
            add_pooling_layer=False,
        ).named_parameters()
    ]


@pytest.fixture(autouse=True)
def _without_network_and_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise AssertionError("expanding a sweep must not reach for the network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    for name in ("ADIABATIC_DATA", "ARXIV_METADATA", "ARXIV_NEGATIVES"):
        monkeypatch.delenv(name, raising=False)


def docstring_of(name: str) -> str:
    text = ast.get_docstring(ast.parse(shipped_sweeps()[name].read_text(encoding="utf-8")))
    assert text is not None
    return text


def values_at(name: str, path: str, scale: Scale = Scale.FULL) -> list[object]:
    """What the trials of a sweep have at `tuning.x`, without repetitions."""
    return list(dict.fromkeys(getattr(t.tuning, path) for t in load_sweep(name, [], scale).expand()))


def test_the_table_of_this_file_is_complete() -> None:
    assert sorted(NUM_TRIALS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_has_the_trials_that_it_says(name: str) -> None:
    spec, text = load_sweep(name, []), docstring_of(name)
    assert len({trial.trial_id for trial in spec.expand()}) == len(spec.expand())
    assert spec.most_trials == NUM_TRIALS[name]
    assert spec.name == name.replace("_", "-")
    places = [text.index(f"\n{section}:") for section in SECTIONS]
    assert places == sorted(places)
    assert re.search(rf"\nTrials: (at most )?{NUM_TRIALS[name]}\b", text)


@pytest.mark.parametrize("name", sorted(set(NAMES) - BY_PACKAGES))
def test_a_sweep_of_the_papers_size_says_what_the_papers_hours_give(name: str) -> None:
    assert cost_of(shipped_sweeps()[name]) == f"about {NUM_TRIALS[name] * A100_HOURS_PER_TRIAL:.0f} A100-hours"


def test_no_sweep_is_part_of_another() -> None:
    ids_of = {name: {trial.trial_id for trial in load_sweep(name, []).expand()} for name in NAMES}
    for first, second in itertools.permutations(NAMES, 2):
        assert not ids_of[first] <= ids_of[second], (first, second)


@pytest.mark.parametrize("name", NAMES)
def test_every_freeze_plan_matches_a_bert_of_12_blocks(name: str) -> None:
    for trial in load_sweep(name, []).expand():
        frozen = frozen_names(parse_plan(trial.tuning.freeze), BERT_12_NAMES, 12)
        assert len(frozen) < len(BERT_12_NAMES)


def test_families_are_the_weight_matrices_of_a_block() -> None:
    """Six matrices a block, each in all 12 blocks, and none twice."""
    plans = values_at("frozen_families", "freeze")
    embeddings = frozen_names(("embeddings",), BERT_12_NAMES, 12)
    families = [frozen_names(parse_plan(str(plan)), BERT_12_NAMES, 12) - embeddings for plan in plans]
    assert [len(family) for family in families] == [0, *[12] * 6]
    matrices = {name for name in BERT_12_NAMES if re.search(r"layer\.\d+\..*(?<!LayerNorm)\.weight$", name)}
    assert set().union(*families) == matrices


def test_halves_are_alignfreezes() -> None:
    front, back = (frozen_names((f"B{half}",), BERT_12_NAMES, 12) for half in ("0-5", "6-11"))
    assert len(front) == len(back) == 6 * 16 and not front & back
    assert values_at("frozen_halves", "freeze") == ["embeddings", "embeddings, B0-5", "embeddings, B6-11"]


@pytest.mark.parametrize("name", ["batch_size_fixed_samples", "batch_size_fixed_samples_l12", "scaling_linear"])
def test_samples_an_epoch_are_fixed(name: str) -> None:
    tunings = [trial.tuning for trial in load_sweep(name, []).expand()]
    assert [tuning.batch_size for tuning in tunings] == [7, 14, 28, 56, 112]
    assert {tuning.batch_size * tuning.batches_per_epoch for tuning in tunings} == {14_000}


def test_rates_scale_with_the_batch() -> None:
    """Linear exactly; square root as the paper rounds it, to three digits."""
    linear, root = values_at("scaling_linear", "learning_rate"), values_at("scaling_square_root", "learning_rate")
    assert linear == [5e-8 * size / 14 for size in (7, 14, 28, 56, 112)]
    assert root == [float(f"{5e-8 * (size / 14) ** 0.5:.3g}") for size in (7, 14, 28, 56, 112)]


def test_the_default_trial_is_the_papers_regime() -> None:
    tuning = PAPER_TRIAL.tuning
    assert (tuning.learning_rate, tuning.freeze, tuning.batch_size, tuning.margin) == (5e-8, "embeddings", 14, 0.1)
    assert (tuning.batches_per_epoch, tuning.idle_epochs, tuning.max_epochs) == (1000, 10, None)
    assert PAPER_TRIAL.trial_id in {trial.trial_id for trial in load_sweep("learning_rate", []).expand()}


def test_narrow_domains_are_evaluated_without_themselves() -> None:
    for trial, domain in zip(load_sweep("narrow_domains", []).expand(), ("math", "physics", "cs"), strict=True):
        assert trial.source.kind == "arxiv" and trial.source.categories == (domain,)
        excluded = [one.excluded_categories for one in trial.evaluation.sets if one.kind == "arxiv"]
        assert excluded == [(domain,), (domain,)]


def test_a_fixed_budget_never_stops_early() -> None:
    trials = load_sweep("rate_and_steps", []).expand()
    assert {(trial.tuning.idle_epochs, trial.tuning.keep) for trial in trials} == {(None, "final")}
    products = [round(t.tuning.learning_rate * 1e9 * (t.tuning.max_epochs or 0)) for t in trials]
    assert [products.count(product) for product in sorted(set(products))] == [1, 2, 3, 4, 3, 2, 1]


def test_schedules_have_the_rows_of_table_17() -> None:
    """Rows a batch size, counted in the table; a schedule that falls to 0 knows its length."""
    tunings = [trial.tuning for trial in load_sweep("schedules_and_decay", []).expand()]
    sizes = [tuning.batch_size for tuning in tunings if tuning.learning_rate == 5e-8]
    assert [sizes.count(size) for size in (14, 100, 64, 32, 16, 8)] == [1, 2, 7, 3, 3, 5]
    assert all((t.schedule_steps == 34_856) == (t.schedule in ("linear", "quadratic")) for t in tunings)


# small --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_small_sweep_asks_the_same_with_less(name: str) -> None:
    full, small = load_sweep(name, []), load_sweep(name, [], Scale.SMALL)
    assert (small.question, small.name) == (full.question, f"{full.name}-small")
    assert list(small.grid) == list(full.grid) and bool(small.points) == bool(full.points)
    trials, whole = small.expand(), full.expand()
    assert 2 <= len(trials) <= min(9, len(whole))
    assert small.most_trials < full.most_trials or len(whole) <= 5
    for trial in trials:
        tuning = trial.tuning
        assert tuning.max_epochs is not None and tuning.max_epochs * tuning.batches_per_epoch <= 160
        assert trial.backbone in (PACKAGED_E5, MINILM) or trial.backbone.name == PACKAGED_E5.name
        for source in (trial.source, *trial.evaluation.sets):
            is_local = source.path is not None and source.path.startswith("${ADIABATIC_DATA}/")
            assert is_local or source.kind in ("docstrings", "cldr")


def test_a_small_search_is_among_higher_rates_and_sets_by_their_new_names() -> None:
    """Rates times 200, at most 12 trials, 2 at a time; MS MARCO's place is taken by SQuAD."""
    small = load_sweep("adaptive_boundary", [], Scale.SMALL).search
    assert isinstance(small, BoundarySearch)
    assert (small.lowest_rate, small.highest_rate, small.set) == (2e-6, 2e-4, "xnli")
    assert (small.max_trials, small.parallel, small.width_decades) == (12, 2, 0.1)
    gain = GainSearch(lowest_rate=1e-8, highest_rate=1e-6, set="xnli", gain_set="msmarco")
    full = paper_sweep("gain", "Which rate gains most?", search=gain)
    scaled = small_sweep(full).search
    assert isinstance(scaled, GainSearch) and scaled.gain_set == "squad-for-msmarco"


def test_small_questions_still_differ() -> None:
    ids_of = {name: {trial.trial_id for trial in load_sweep(name, [], Scale.SMALL).expand()} for name in NAMES}
    for first, second in itertools.combinations(NAMES, 2):
        assert ids_of[first] != ids_of[second], (first, second)


def test_the_small_learning_rate_sweep_by_hand() -> None:
    """Of 20 rates the numbers 1, 6, 11, 15 and 20, times 200; 1,000 batches / 50; 10 idle epochs / 5."""
    spec = load_sweep("learning_rate", [], Scale.SMALL)
    assert spec.grid == {"tuning.learning_rate": (2e-6, 1.2e-5, 2.2e-5, 3e-5, 4e-5)}
    tuning = spec.trial.tuning
    assert (tuning.batches_per_epoch, tuning.idle_epochs, tuning.max_epochs) == (20, 2, 3)
    assert spec.trial.backbone == PACKAGED_E5 and spec.cluster.tuner_gpus == 0
    squad = SquadSentences(
        name="squad-for-msmarco",
        path="${ADIABATIC_DATA}/hub",
        splits=("validation",),
        num_tune=300,
        num_validation=20,
        num_evaluation=60,
    )
    assert spec.trial.source == spec.trial.evaluation.sets[0] == squad
    assert spec.trial.evaluation.sets[3] == Xnli(path="${ADIABATIC_DATA}/hub", num_premises=100)


def test_rates_stay_where_precision_is_varied() -> None:
    spec = load_sweep("update_precision", [], Scale.SMALL)
    assert spec.grid["tuning.precision"] == ("float32", "compensated", "float64")
    assert spec.grid["tuning.learning_rate"] == (5e-9, 4e-8, 1e-7)
    assert spec.trial.tuning.max_epochs == 4 and spec.trial.tuning.keep == "final"


def test_a_small_sweep_is_encoded_in_the_precision_that_was_asked_for() -> None:
    """A GPU's TF32 aside, which two cores do not have."""
    asked = {"float32": "float32", "bf16": "bf16", "tf32": "float32"}
    full = load_sweep("learning_rate", [])
    for precision, expected in asked.items():
        small = small_sweep(with_changes(full, {"trial.evaluation.precision": precision}))
        assert small.trial.evaluation.precision == expected


def test_a_schedule_is_as_much_shorter_as_the_tuning() -> None:
    """34,856 steps / 50 / 5 is 139.4."""
    lengths = {trial.tuning.schedule_steps for trial in load_sweep("schedules_and_decay", [], Scale.SMALL).expand()}
    assert lengths <= {None, 139} and 139 in lengths


def test_stand_ins_keep_a_backbones_conventions() -> None:
    l12 = load_sweep("frozen_layers_l12", [], Scale.SMALL).trial.backbone
    assert l12 == L12.model_copy(update={key: getattr(PACKAGED_E5, key) for key in ("name", "source", "revision")})
    assert load_sweep("learning_rate_e5e", [], Scale.SMALL).trial.backbone == MINILM


def test_tuned_on_xnli_a_small_sweep_is_checked_on_other_texts() -> None:
    spec = load_sweep("tuning_language", [], Scale.SMALL)
    trial = spec.trial
    assert spec.grid["source.language"] == ("en", "hi", "zh")
    assert trial.source.kind == "xnli_triplets" and trial.source.split == "test"
    assert [source.kind for source in trial.evaluation.sets] == ["squad", "arxiv", "arxiv", "cldr"]


def own_sweep(**tuning: object) -> SweepSpec:
    ours = TripletFile(name="ours", path="ours.jsonl", num_validation=50, num_evaluation=5000, digest="0" * 64)
    sets = (
        ours,
        HotpotQa(level="easy", num_evaluation=40),
        DocstringTriplets(libraries=("numpy",), num_evaluation=20, digest="1" * 64),
        CldrNames(num_names=50),
        PairFile(name="pairs", path="pairs.jsonl", languages=("en",), positive_label="same"),
    )
    return SweepSpec(
        name="own",
        question="How far?",
        trial=TrialSpec(
            backbone=with_changes(E5, {"source": "folder", "name": "ours"}),
            source=ours,
            tuning=TuningSpec.model_validate(tuning),
            evaluation=EvaluationSpec(sets=sets),
        ),
        grid={"tuning.learning_rate": (0.0, 1e-8, 1e-7)},
        cluster=ClusterSpec(tuner_gpus=1),
    )


def test_a_users_sweep_is_cut_in_the_same_way() -> None:
    spec = small_sweep(own_sweep())
    assert spec.grid == {"tuning.learning_rate": (0.0, 2e-6, 2e-5)}
    trial = spec.trial
    assert trial.backbone.name == "ours" and trial.source.path == "ours.jsonl"
    triplets, hotpot, docstrings, names, pairs = trial.evaluation.sets
    assert (trial.source.num_tune, trial.source.num_validation, trial.source.num_evaluation) == (900, 50, 200)
    assert trial.source.digest is None, "other texts than those that were pinned"
    assert triplets.kind == "triplet_file" and triplets.num_tune is None, "what is not tuned on is not read"
    assert hotpot.path == "${ADIABATIC_DATA}/hotpotqa_dev500.parquet"
    assert docstrings == own_sweep().trial.evaluation.sets[2], "small enough already: the digest holds"
    assert names == own_sweep().trial.evaluation.sets[3] and pairs == own_sweep().trial.evaluation.sets[4]


def test_short_epochs_stay_as_they_are() -> None:
    spec = small_sweep(own_sweep(batches_per_epoch=9, max_epochs=40, learning_rate=1e-5))
    assert spec.trial.tuning == own_sweep(batches_per_epoch=9, max_epochs=40, learning_rate=1e-5).trial.tuning
    assert spec.grid["tuning.learning_rate"] == (0.0, 1e-8, 1e-7)


def test_an_axis_of_a_source_that_is_replaced_is_refused() -> None:
    spec = paper_sweep("negatives", "How many?", grid={"source.min_negatives": (1, 65)})
    with pytest.raises(ValueError, match=r"'source.min_negatives': no 'min_negatives' in SquadSentences"):
        small_sweep(spec)


# commands -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", list(Scale))
def test_the_list_of_sweeps_fits_a_terminal_of_80_columns(scale: Scale) -> None:
    output = CliRunner().invoke(app, ["sweeps", "--scale", scale], env={"COLUMNS": "80"}).output
    assert all(len(line) <= 80 for line in output.splitlines())
    total = 0
    for name in NAMES:
        spec = load_sweep(name, [], scale)
        ((num_trials, question),) = re.findall(rf"^{name} +(\d+) trials  .+\n((?:    .+\n)+)", output, re.MULTILINE)
        assert int(num_trials) == spec.most_trials and " ".join(question.split()) == spec.question
        total += int(num_trials)
    assert f"{total} trials in all" in output
    assert ("about 44 A100-hours\n" in output) == (scale is Scale.FULL) and "minutes on 2 cores\n" in output


def test_a_cost_that_is_not_stated(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text('"""Question: why?"""\n')
    (tmp_path / "bare.py").write_text("def sweep(): ...\n")
    assert [cost_of(tmp_path / name) for name in ("own.py", "bare.py")] == ["not stated", "not stated"]
