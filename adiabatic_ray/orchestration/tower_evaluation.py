"""Scores one tower against its base, without a sweep around it.

Banks, evaluation pool and shards are those of a sweep, and so are the tables: the tower of a trial, scored here, gives
the rows of its trial bit for bit. An evaluation is named by content (the changed tensors, the backbone and the sets),
and its row in `evaluations` is written last: asked again, it is answered from disk.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import ray
from ray.exceptions import RayTaskError

from adiabatic_ray import provenance, results
from adiabatic_ray.encoders.backbones import digest_of_weights
from adiabatic_ray.encoders.tower_files import passage_part
from adiabatic_ray.encoders.tower_sources import GivenTower, read_tower
from adiabatic_ray.evaluation.prepare import EvaluationInputs, Loader, prepare_sets
from adiabatic_ray.events import StageListener
from adiabatic_ray.on_ray.cluster import check_resources
from adiabatic_ray.on_ray.evaluators import place_evaluators, share_sets, with_passages
from adiabatic_ray.orchestration.orchestrator import open_banks, untuned_counts, untuned_id_of
from adiabatic_ray.spec import ClusterSpec, UntunedSpec
from adiabatic_ray.statistics.counts import Counts
from adiabatic_ray.storage import Location
from adiabatic_ray.trial import write_scores


@dataclass(frozen=True)
class TowerEvaluation:
    """A tower, its base and the texts, loaded, checked and named; nothing is scored yet."""

    untuned: UntunedSpec
    """With digests filled in."""
    inputs: EvaluationInputs
    tower: GivenTower
    tower_digest: str
    """`digest_of_weights` of the changed tensors."""

    @property
    def tower_id(self) -> str:
        """Stands in `trial_id` of the tables, e.g. `tower-1f3a9c04d2e85b76`."""
        content = f"{self.tower_digest} {self.untuned.untuned_id}"
        return f"tower-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

    def is_finished(self, out: Location) -> bool:
        """Whether the results folder has the answer already."""
        return results.table_path(out, "evaluations", self.tower_id).is_file()


def plan_evaluation(tower: str, untuned: UntunedSpec, listener: StageListener) -> TowerEvaluation:
    """Load base, texts and tower. Ray is not needed.

    Args:
        tower: see `tower_sources.read_tower`.
        untuned: the base that the tower was tuned from, and the sets to score it on.
        listener: hears of progress.

    Raises:
        ValueError: something cannot be loaded, or the tower is none of this base; nothing was started then.
    """
    listener.stage("reading backbone and texts")
    loader = Loader()
    pinned = loader.pin_untuned(untuned)
    inputs = loader.load_untuned(pinned)
    listener.stage("reading the tower")
    given = read_tower(tower, inputs.backbone, [text for texts in inputs.query_texts() for text in texts])
    return TowerEvaluation(pinned, inputs, given, digest_of_weights(given.changed))


def run_evaluation(
    evaluation: TowerEvaluation, cluster: ClusterSpec, out: Location, banks: Location, listener: StageListener
) -> None:
    """Score the tower, and its base if the folder has no counts of it, and write every table.

    Ray must be initialised: locally, or connected to a cluster.

    Args:
        evaluation: of `plan_evaluation`.
        cluster: as for a sweep: the evaluation pool, and with `tuner_cpus` and `tuner_gpus` what encodes passages.
        out: results folder; that of a sweep with the same sets shares the counts of the base, and lets
            `adiabatic compare` set the tower beside the trials.
        banks: folder of passage banks.
        listener: hears of progress.

    Raises:
        ValueError: a pool that does not fit the cluster or finds no room, embeddings that are not finite.
        OSError: the results folder cannot be written; what was written is whole.
    """
    check_resources(cluster, listener)
    inputs, untuned_id = evaluation.inputs, untuned_id_of(evaluation.untuned, cluster)
    backbone_ref = ray.put(inputs.backbone)
    prepared = prepare_sets(inputs, open_banks(inputs, backbone_ref, banks, cluster, listener))
    sets = share_sets(backbone_ref, prepared, inputs)
    if passage_part(evaluation.tower.changed):
        sets = with_passages(sets, inputs)

    def progress(done: int, total: int) -> None:
        listener.counted("shards", done, total)

    def score(what: str, changed: Mapping[str, np.ndarray]) -> list[Counts]:
        listener.stage(f"scoring {what}")
        return pool.score(changed, sets, progress)

    listener.stage("placing the evaluation pool")
    pool = place_evaluators(cluster, listener)
    try:
        untuned = untuned_counts(untuned_id, lambda: score("the untuned backbone", {}), out)
        started = time.monotonic()
        tuned = score("the tower", evaluation.tower.changed)
        evaluate_s = time.monotonic() - started
    except RayTaskError as error:
        if isinstance(error.cause, ValueError):
            raise error.cause from None  # for the user: without the traceback of the evaluator's process
        raise
    finally:
        pool.close()
    write_scores(out, evaluation.tower_id, untuned, tuned)
    results.write_table(out, "evaluations", evaluation.tower_id, [_row(evaluation, untuned_id, evaluate_s)])


def _row(evaluation: TowerEvaluation, untuned_id: str, evaluate_s: float) -> dict[str, object]:
    return {
        "trial_id": evaluation.tower_id,
        "tower": evaluation.tower.name,
        "tower_digest": evaluation.tower_digest,
        "num_changed": len(evaluation.tower.changed),
        "backbone": evaluation.untuned.backbone.name,
        "encoder_digest": evaluation.untuned.backbone.encoder_digest,
        "untuned_id": untuned_id,
        "evaluate_s": evaluate_s,
        "finished_at": datetime.now(UTC),
        "spec_json": evaluation.untuned.model_dump_json(),
        "provenance_json": json.dumps(provenance.collect(), sort_keys=True),
    }
