"""What the tables of a sweep hold: every column with its type, unit and meaning, and the version of it all.

Unit and meaning stand beside a column's name in the schema of each file too. Numbers are float64 and never rounded.
"""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

SCHEMA_VERSION = 6
OLDEST_READABLE = 5
"""Tables since then are read: they lack columns that came later, which are NaN there."""
ADDED: dict[int, dict[str, tuple[str, ...]]] = {6: {"trials": ("queue_s", "load_s", "bank_s", "write_s")}}
"""Version -> table -> columns that it added, all of them numbers."""


class TrialStatus(StrEnum):
    """Terminal states; every one is a result, not an accident of logging."""

    COMPLETE = "COMPLETE"
    DIVERGED = "DIVERGED"
    """The loss or a weight became infinite or not a number: broken, and counted as such."""
    FAILED = "FAILED"
    """An infrastructure fault outlasted its retries: in `OUT/failures/<trial_id>.json`, run again next time."""


def _table(**columns: tuple[pa.DataType, str, str]) -> pa.Schema:
    """Schema from name -> (type, unit, meaning)."""
    fields = [
        pa.field(name, kind, metadata={"unit": unit, "meaning": meaning})
        for name, (kind, unit, meaning) in columns.items()
    ]
    return pa.schema(fields, metadata={"schema_version": str(SCHEMA_VERSION)})


_TEXT, _INT, _FLOAT, _BOOL, _TIME = pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.timestamp("ms", tz="UTC")
_COUNTS, _VALUES = pa.list_(pa.int32()), pa.list_(pa.float64())
_TRIAL = (_TEXT, "id", "readable part and hash of the canonical specification; of an evaluated tower: tower-hash")
_SET = (_TEXT, "name", "evaluation set, the `name` of its source")
_KIND = (_TEXT, "pairs | triplets", "labelled pairs in several languages, or queries with positives and negatives")
_RELATION = (
    _TEXT,
    "label-label",
    "positive label against negative label, e.g. entailment-neutral; triplets: positive-negative",
)
_MEASURE = (_TEXT, "cosine | distance", "how closeness is measured: cosine similarity or Euclidean distance")
_QUERY_LANGUAGE = (_TEXT, "ISO 639-1", "language of the query side; triplets: empty")
_PASSAGE_LANGUAGE = (_TEXT, "ISO 639-1", "language of the passage side; triplets: empty")
_UNTUNED_ID = (
    _TEXT,
    "id",
    "what the trial is compared with: untuned backbone, sets, device, threads, versions",
)

_INFLUENCE: dict[str, tuple[pa.DataType, str, str]] = {
    "set": _SET,
    "kind": _KIND,
    "relation": _RELATION,
    "measure": _MEASURE,
    "query_language": _QUERY_LANGUAGE,
    "passage_language": _PASSAGE_LANGUAGE,
}

_CHANGE: dict[str, tuple[pa.DataType, str, str]] = {
    "change_low": (_FLOAT, "frac", "95% interval of the change, paired and clustered"),
    "change_high": (_FLOAT, "frac", "its upper end"),
    "improvement": (_FLOAT, "frac", "relative change, equation 1, positive is better; NaN when untuned is 0"),
    "improvement_low": (
        _FLOAT,
        "frac",
        "its 95% interval (Fieller), which leaves out 0 exactly when clustered_p < .05",
    ),
    "improvement_high": (_FLOAT, "frac", "its upper end"),
    "clustered_z": (_FLOAT, "sd", "change / its standard error over clusters, positive: the number rose"),
    "clustered_p": (_FLOAT, "prob", "its two-sided p, unadjusted"),
    "reason": (_TEXT, "words", "why a test or an interval has no number, or is not to be trusted; else empty"),
}
_RANKS: dict[str, tuple[pa.DataType, str, str]] = {
    "reciprocal_rank": (_VALUES, "1", "triplets, per query: 1 / rank of the best positive; pairs: empty"),
    "average_precision": (_VALUES, "1", "triplets, per query: mean precision at its positives; pairs: empty"),
    "precision_at_1": (_VALUES, "1", "triplets, per query: 1 where a positive comes first; pairs: empty"),
}

TABLES: dict[str, pa.Schema] = {
    "trials": _table(
        trial_id=_TRIAL,
        sweep=(_TEXT, "name", "sweep that ran the trial first"),
        status=(_TEXT, "COMPLETE | DIVERGED", "terminal state"),
        learning_rate=(_FLOAT, "1", "learning rate, where the schedule begins"),
        optimizer=(_TEXT, "name", "adamw, adamax, adadelta, sgd, or import path of a user's own"),
        schedule=(_TEXT, "name", "constant, linear, quadratic, E0.95, E0.98, or import path of a user's own"),
        precision=(_TEXT, "name", "what steps are added in: float32, compensated, float64"),
        freeze=(_TEXT, "plan", "freeze plan as given"),
        seed=(_INT, "1", "seed of the data order"),
        batch_size=(_INT, "triplets", "triplets a step"),
        margin=(_FLOAT, "embedding units", "margin of the triplet loss"),
        weight_decay=(_FLOAT, "1", "decoupled weight decay"),
        backbone=(_TEXT, "name", "backbone's hub id, folder or package"),
        encoder_digest=(_TEXT, "SHA-256", "digest of the backbone's tensors, configuration and tokenizer"),
        untuned_id=_UNTUNED_ID,
        num_trainable=(_INT, "weights", "weights that the trial may change"),
        num_frozen=(_INT, "weights", "weights that the freeze plan holds"),
        num_epochs=(_INT, "epochs", "epochs that were run"),
        num_steps=(_INT, "steps", "optimizer steps that were run"),
        kept_epoch=(_INT, "epoch", "epoch whose state was evaluated; 0: the untuned state, no epoch improved"),
        stopped_by=(_TEXT, "idle | max_epochs | diverged", "what ended the tuning"),
        queue_s=(_FLOAT, "s", "wall time of waiting for a tuner and for a slot in its pack"),
        load_s=(
            _FLOAT,
            "s",
            "wall time until the tuner had backbone and texts; hardly any after a group's first trial",
        ),
        bank_s=(_FLOAT, "s", "wall time of opening or encoding the banks, once for all trials of a group"),
        tune_s=(_FLOAT, "s", "wall time of tuning, validation included, from joining a pack on"),
        evaluate_s=(_FLOAT, "s", "wall time of evaluation, waiting for the pool included"),
        write_s=(_FLOAT, "s", "wall time of writing the tower and every table but this one"),
        peak_memory_bytes=(
            _INT,
            "bytes",
            "largest resident memory, up to the end of the trial, of the process that tuned it",
        ),
        started_at=(_TIME, "UTC", "start of the trial"),
        finished_at=(_TIME, "UTC", "end of the trial"),
        spec_json=(_TEXT, "JSON", "the whole trial specification"),
        provenance_json=(_TEXT, "JSON", "commit, versions, argv, host"),
    ),
    "evaluations": _table(
        trial_id=_TRIAL,
        tower=(_TEXT, "name", "the tower as it was given: folder or hub id"),
        tower_digest=(_TEXT, "SHA-256", "digest of its tensors that differ from the backbone's"),
        num_changed=(_INT, "tensors", "how many those are"),
        backbone=(_TEXT, "name", "backbone's hub id, folder or package"),
        encoder_digest=(_TEXT, "SHA-256", "digest of the backbone's tensors"),
        untuned_id=_UNTUNED_ID,
        evaluate_s=(_FLOAT, "s", "wall time of scoring the tower"),
        finished_at=(_TIME, "UTC", "end of the evaluation"),
        spec_json=(_TEXT, "JSON", "backbone and evaluation of the specification"),
        provenance_json=(_TEXT, "JSON", "commit, versions, argv, host"),
    ),
    "curves": _table(
        trial_id=_TRIAL,
        epoch=(_INT, "epoch", "0 is the untuned tower, before any step"),
        num_steps=(_INT, "steps", "optimizer steps so far"),
        train_loss=(_FLOAT, "embedding units", "mean triplet loss over the epoch's steps; NaN at epoch 0"),
        validation_loss=(_FLOAT, "embedding units", "mean triplet loss over the validation triplets"),
        validation_errors=(_INT, "triplets", "validation triplets whose positive is not strictly closer (distance)"),
        num_validation=(_INT, "triplets", "validation triplets"),
        improved=(_BOOL, "bool", "loss and errors both below those of the last improved state"),
        elapsed_s=(_FLOAT, "s", "wall time since tuning started"),
        finished_at=(_TIME, "UTC", "end of the epoch; MLflow's time stamp for its metrics"),
    ),
    "scores": _table(
        trial_id=_TRIAL,
        **_INFLUENCE,
        num_comparisons=(_INT, "comparisons", "positive-negative comparisons"),
        num_clusters=(_INT, "clusters", "what counts as independent: premises, groups of names, paragraphs, queries"),
        num_changed=(
            _INT,
            "clusters",
            "those with more or fewer errors than untuned, in all: swapped ones cancel; below 6 the tests are too sure",
        ),
        errors_untuned=(_INT, "comparisons", "positive not strictly closer than negative, untuned tower (ties count)"),
        errors_tuned=(_INT, "comparisons", "the same for the tuned tower"),
        pnd_untuned=(_FLOAT, "frac", "errors_untuned / num_comparisons"),
        pnd_tuned=(_FLOAT, "frac", "errors_tuned / num_comparisons"),
        query_pnd_untuned=(_FLOAT, "frac", "triplets: mean over queries of the query's own PND; pairs: NaN"),
        query_pnd_tuned=(_FLOAT, "frac", "the same for the tuned tower"),
        paper_z=(_FLOAT, "sd", "pooled two-proportion z of the paper, positive: more errors"),
        paper_p=(_FLOAT, "prob", "its two-sided p"),
        mcnemar_p=(_FLOAT, "prob", "exact McNemar test; NaN unless every query has one triplet and is its own cluster"),
        clustered_se=(_FLOAT, "frac", "standard error of pnd_tuned - pnd_untuned, paired and clustered"),
        **_CHANGE,
        bh_p=(_FLOAT, "prob", "clustered_p by Benjamini-Hochberg over the set's pairs of one relation and measure"),
        by_p=(_FLOAT, "prob", "the same by Benjamini-Yekutieli, valid under any dependence"),
        maxt_p=(_FLOAT, "prob", "the same by max-T: bounds the chance of a single false find"),
        band_low=(_FLOAT, "frac", "95% band of the change that holds for all pairs of the family together"),
        band_high=(_FLOAT, "frac", "its upper end"),
        preserved_p=(
            _FLOAT,
            "prob",
            "one-sided, H0: PND rose by 1% of its untuned value or more; <= .025: preserved; "
            "0 where no cluster changed, NaN where untuned is 0",
        ),
    ),
    "aggregates": _table(
        trial_id=_TRIAL,
        set=_SET,
        relation=_RELATION,
        measure=_MEASURE,
        axis=(_TEXT, "words", "what the group is about: all, same language, query language, query script, ..."),
        group=(_TEXT, "name", "the group: all, same, cross, en, Cyrl, Turkic, ..."),
        num_pairs=(_INT, "language pairs", "members of the group"),
        pnd_untuned=(_FLOAT, "frac", "mean PND over the group's pairs, untuned"),
        pnd_tuned=(_FLOAT, "frac", "the same for the tuned tower"),
        change=(_FLOAT, "frac", "pnd_tuned - pnd_untuned"),
        **_CHANGE,
    ),
    "rankings": _table(
        trial_id=_TRIAL,
        set=_SET,
        measure=_MEASURE,
        statistic=(
            _TEXT,
            "name",
            "reciprocal_rank (mean: MRR), average_precision (MAP), precision_at_1 (P@1), query_pnd",
        ),
        num_queries=(_INT, "queries", "queries of the triplet set; `scores` has the number of clusters"),
        untuned=(_FLOAT, "frac", "mean over queries, untuned tower"),
        tuned=(_FLOAT, "frac", "the same for the tuned tower"),
        change=(_FLOAT, "frac", "tuned - untuned"),
        **_CHANGE,
    ),
    # Tuned minus untuned, so that a trial that changes little compresses to little.
    "influence": _table(
        trial_id=_TRIAL,
        **_INFLUENCE,
        by_positive=(
            _COUNTS,
            "comparisons",
            "per cluster: tuned minus untuned errors of its positives; triplets: per query",
        ),
        by_negative=(_COUNTS, "comparisons", "per cluster: the same of its negatives; triplets: empty"),
        **_RANKS,
    ),
    "untuned": _table(
        untuned_id=_UNTUNED_ID,
        **_INFLUENCE,
        by_positive=(_COUNTS, "comparisons", "per cluster: errors of its positives; triplets: per query"),
        by_negative=(_COUNTS, "comparisons", "per cluster: errors of its negatives; triplets: empty"),
        positives=(_COUNTS, "texts", "per cluster: number of positives; triplets: per query"),
        negatives=(_COUNTS, "texts", "per cluster: number of negatives; triplets: per query, all compared with all"),
        cluster_of_query=(
            _COUNTS,
            "cluster",
            "triplets: number of each query's cluster, from 0; empty where each query is its own, and for pairs",
        ),
        **_RANKS,
    ),
    "cosines": _table(
        trial_id=_TRIAL,
        set=_SET,
        query_language=_QUERY_LANGUAGE,
        num_texts=(
            _INT,
            "texts",
            "sampled queries: at most 32, evenly spaced over the set's, of pairs over the language's unique ones",
        ),
        mean_cosine=(
            _FLOAT,
            "1",
            "mean cosine between a query's untuned and tuned embedding; exactly 1 where the tower did not change; "
            "rounding of a lower evaluation.precision is in it",
        ),
        min_cosine=(_FLOAT, "1", "the lowest of them"),
    ),
    "untuned_queries": _table(
        untuned_id=_UNTUNED_ID,
        set=_SET,
        query_language=_QUERY_LANGUAGE,
        query=(_INT, "1", "number of a sampled query in its set, from 0; pairs: among the language's unique queries"),
        embedding=(pa.list_(pa.float32()), "embedding units", "under the untuned tower, pooled and not normalised"),
    ),
    "drift": _table(
        trial_id=_TRIAL,
        tensor=(
            _TEXT,
            "name",
            "parameter tensor that the trial may train; `passage_tower.` stands before those of a passage tower",
        ),
        block=(_TEXT, "name", "embeddings, number of the block from 0, or other"),
        num_weights=(_INT, "weights", "its size"),
        movable_frac=(_FLOAT, "frac", "weights that a full step of the trial's rate can move in float32"),
        moved_frac=(_FLOAT, "frac", "weights whose value differs from the untuned one"),
        max_change=(_FLOAT, "weight", "largest absolute change of a weight"),
        l2_change=(_FLOAT, "weight", "Euclidean norm of the change"),
        l2_relative=(_FLOAT, "frac", "l2_change / l2_untuned; of zeros: 0 where they stayed, else NaN"),
        l2_lost=(
            _FLOAT,
            "weight",
            "Euclidean norm of the sum of all steps minus the change: what rounding to float32 leaves out; "
            "null where precision is float32, which forgets it",
        ),
        l2_untuned=(_FLOAT, "weight", "Euclidean norm of the untuned tensor"),
        largest_untuned=(
            _FLOAT,
            "weight",
            "largest magnitude of a weight of the untuned tensor (W_o of the paper's Table 15)",
        ),
        largest_tuned=(_FLOAT, "weight", "the same of the tuned one (W_t); of the paper's Table 14 where it differs"),
    ),
}
