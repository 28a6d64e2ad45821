"""Ray's share of the passage bank: tasks that encode its shards, from the backbone in the object store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray

from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts
from adiabatic_ray.evaluation import bank, bank_copies
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.events import StageListener
from adiabatic_ray.on_ray.devices import device_for, use_threads
from adiabatic_ray.on_ray.room import waits
from adiabatic_ray.spec import ClusterSpec
from adiabatic_ray.storage import Location, node_folder


@ray.remote(max_retries=3)
def _encode_shard(backbone: Backbone, texts: TokenizedTexts, budget: int, threads: float, device: str) -> np.ndarray:
    use_threads(threads)
    return encode(backbone.build_tower(device=device), texts, budget)


def ensure_banks(
    root: Location,
    needed: Sequence[tuple[bank.BankKey, list[str]]],
    backbone: Backbone,
    backbone_ref: Any,
    cluster: ClusterSpec,
    listener: StageListener,
) -> list[np.ndarray]:
    """Banks of passage lists: opened when they are there, else encoded by sharded Ray tasks, all at once.

    Args:
        root: folder of all banks; only this process writes to it. Banks in an object store are built in, and copied
            to, this machine's cache.
        needed: key and passages of each bank.
        backbone: for its tokenizer.
        backbone_ref: the same in the object store.
        cluster: CPUs and GPUs of one task are those of a tuner.
        listener: hears of passages, counted; not at all when every bank is there.

    Returns:
        Memory maps [P, D] in the order of `needed`.

    Raises:
        ValueError: a bank's folder holds something else, embeddings are not finite, or no task ended within
            `cluster.wait_s`.
        OSError: a bank cannot be read or written.
    """
    folder = node_folder(root)
    missing = {key: texts for key, texts in needed if bank_copies.open_or_fetch(root, key) is None}
    remote = _encode_shard.options(num_cpus=cluster.tuner_cpus, num_gpus=cluster.tuner_gpus)
    device = device_for(cluster.tuner_gpus)
    num_texts, num_done = sum(key.num_texts for key in missing), 0
    pending: dict[Any, tuple[bank.BankKey, int]] = {}
    for key, texts in missing.items():
        finished = bank.finished_shards(folder, key)
        for number, (start, stop) in enumerate(key.shards()):
            if number in finished:
                num_done += stop - start
                continue
            tokens = backbone.tokenize(texts[start:stop], key.prefix)
            task = remote.remote(backbone_ref, tokens, key.token_budget, cluster.tuner_cpus, device)
            pending[task] = key, number
    if missing:
        listener.counted("passages", num_done, num_texts)
    while pending:
        ready = _next_ready(list(pending), cluster, listener)
        key, number = pending.pop(ready)
        bank.store_shard(folder, key, number, ray.get(ready))
        start, stop = key.shards()[number]
        num_done += stop - start
        listener.counted("passages", num_done, num_texts)
    for key in missing:
        bank.assemble(folder, key)
    for key, _ in needed:
        bank_copies.publish(root, key)
    return [_opened(folder, key) for key, _ in needed]


def _next_ready(tasks: list[Any], cluster: ClusterSpec, listener: StageListener) -> Any:
    """One that has ended."""
    for seconds in waits(cluster.wait_s):
        ended, _ = ray.wait(tasks, num_returns=1, timeout=seconds)
        if ended:
            return ended[0]
        listener.stage(f"{len(tasks)} shards of passages are being encoded or wait for room")
    raise ValueError(
        f"passages must find room to be encoded within cluster.wait_s, got {len(tasks)} tasks of "
        f"{cluster.tuner_cpus:g} CPUs and {cluster.tuner_gpus:g} GPUs of which none ended in {cluster.wait_s:g} s; add "
        "a node, lower cluster.tuner_cpus or cluster.tuner_gpus, or raise cluster.wait_s"
    )


def _opened(folder: Path, key: bank.BankKey) -> np.ndarray:
    embeddings_PD = bank.open_bank(folder, key)
    assert embeddings_PD is not None, "a bank that was just there is gone"
    return embeddings_PD
