"""XNLI on a device: encoding premises under several token budgets, and counting the errors of all language pairs.

Scores are float64 on the device too, but summed in another order than `metrics.pair_scores` sums: where two scores
differ in their last bits only, a comparison may fall the other way. How many counts do is measured.

Legend: L languages, U unique premises a language, N pairs, D embedding size, R relations, M measures.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts, Tower
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.evaluation.evaluate import PreparedPairs, score_sets
from adiabatic_ray.tuning.packed_tower import LONGEST_ROW, PackedTower
from adiabatic_ray.tuning.tune import trainable_names
from benchmarks.gpu_material import PairTokens
from benchmarks.gpu_steps import with_precision
from benchmarks.timings import interleaved, timed
from benchmarks.tuning_steps import SPEC

MEASURES = ("cosine", "distance")


class PairCounter:
    """Counts the errors of a tower on labelled pairs, on the device that holds the passages."""

    def __init__(self, pairs: PairTokens, passages_PD: np.ndarray, device: str) -> None:
        """Put the passage side in place.

        Args:
            pairs: labels and queries of the pairs.
            passages_PD: their passages' embeddings, language after language.
            device: where.
        """
        self.num_languages, num_pairs = len(pairs.languages), len(pairs.query_of_pair_N)
        self._device = torch.device(device)
        self._passages_LND = torch.from_numpy(passages_PD).to(device).view(self.num_languages, num_pairs, -1)
        self._query_of_pair_N = torch.from_numpy(pairs.query_of_pair_N).to(device)
        self._of_label = [
            torch.from_numpy(np.flatnonzero(pairs.label_of_pair_N == label)).to(device)
            for label in range(len(pairs.labels))
        ]
        self.relations = [f"{pairs.labels[0]}-{label}" for label in pairs.labels[1:]]
        self.comparisons_R = np.array([len(self._of_label[0]) * len(one) for one in self._of_label[1:]])

    def errors(self, queries_PD: np.ndarray) -> np.ndarray:
        """Errors [R, M, L, L], int64; query language first.

        Args:
            queries_PD: embeddings of the premises, language after language.
        """
        queries_LUD = torch.from_numpy(queries_PD).to(self._device).view(self.num_languages, -1, queries_PD.shape[1])
        counted = []
        with torch.inference_mode():
            for queries_UD in queries_LUD:
                queries_ND = queries_UD[self._query_of_pair_N].double()
                counted += [self._count(queries_ND, passages_ND.double()) for passages_ND in self._passages_LND]
            errors_LLRM = torch.stack(counted).view(self.num_languages, self.num_languages, len(self.relations), -1)
        errors_RMLL: np.ndarray = errors_LLRM.permute(2, 3, 0, 1).cpu().numpy()
        return errors_RMLL

    def _count(self, queries_ND: torch.Tensor, passages_ND: torch.Tensor) -> torch.Tensor:
        """Errors [R, M] of one language pair."""
        products, lengths = (queries_ND * passages_ND).sum(1), queries_ND.square().sum(1) * passages_ND.square().sum(1)
        scores_MN = torch.stack([products / lengths.sqrt(), -(queries_ND - passages_ND).square().sum(1).sqrt()])
        positives_MP = scores_MN[:, self._of_label[0]].contiguous()
        counted = []
        for rows in self._of_label[1:]:
            negatives_MN = scores_MN[:, rows].sort(dim=1).values
            # As `metrics.count_errors`: negatives that are not strictly farther than the positive.
            farther_MP = torch.searchsorted(negatives_MN, positives_MP, right=False)
            counted.append(len(rows) * positives_MP.shape[1] - farther_MP.sum(1))
        return torch.stack(counted)


def measure_encoding(
    backbone: Backbone, texts: TokenizedTexts, budgets: Sequence[int], packs: Sequence[int], rounds: int, device: str
) -> dict[str, Any]:
    """Texts a second: one tower by token budget, one in TF32 with the middle budget, and packs."""
    tower, (names, _) = backbone.build_tower(device=device), trainable_names(backbone, SPEC.freeze)

    def one_tower(budget: int, precision: str = "highest") -> float:
        with_precision(precision)
        seconds = timed(lambda: encode(tower, texts, budget), device)
        with_precision("highest")
        return seconds

    def all_of(packed: PackedTower) -> float:
        return timed(lambda: packed.embed_all(texts, packed.num_slots * LONGEST_ROW), device)

    kinds = {f"budget {budget}": (1, partial(one_tower, budget)) for budget in budgets}
    kinds["TF32"] = 1, partial(one_tower, budgets[len(budgets) // 2], "high")
    for size in packs:
        kinds[f"pack of {size}"] = size, partial(all_of, PackedTower(backbone, size, names, device))
    seconds = interleaved({name: work for name, (_, work) in kinds.items()}, rounds, 1)
    num_tokens, operations = int(texts.offsets[-1]), 2 * sum(backbone.weights[name].size for name in names)
    return {
        "texts": len(texts),
        "tokens": num_tokens,
        "encoding": [
            {
                "kind": name,
                "texts/s of a tower": len(texts) / seconds[name],
                "texts/s of all towers": size * len(texts) / seconds[name],
                "TFLOP/s": size * operations * num_tokens / seconds[name] / 1e12,
            }
            for name, (size, _) in kinds.items()
        ],
    }


def measure_counting(
    backbone: Backbone, pairs: PairTokens, passages_PD: np.ndarray, budgets: Sequence[int], device: str
) -> dict[str, Any]:
    """Errors of the untuned tower: what TF32, another layout, and counting on the device change of them; seconds."""
    tower, counter = backbone.build_tower(device=device), PairCounter(pairs, passages_PD, device)
    budget = budgets[len(budgets) // 2]
    queries_PD = encode(tower, pairs.queries, budget)
    errors_RMLL = counter.errors(queries_PD)
    with_precision("high")
    in_tf32_RMLL = counter.errors(encode(tower, pairs.queries, budget))
    with_precision("highest")
    in_small_batches_RMLL = counter.errors(encode(tower, pairs.queries, budgets[0]))
    by_numpy_RMLL, numpy_s = _by_numpy(tower, pairs, passages_PD, budget)
    pnd_RM = (errors_RMLL / counter.comparisons_R[:, None, None, None]).mean(axis=(2, 3))
    return {
        "counts": errors_RMLL.size,
        "counts that TF32 changes": int((in_tf32_RMLL != errors_RMLL).sum()),
        "largest change of a count by TF32": int(np.abs(in_tf32_RMLL - errors_RMLL).max()),
        "counts that the smallest budget changes": int((in_small_batches_RMLL != errors_RMLL).sum()),
        "largest change of a count by the smallest budget": int(np.abs(in_small_batches_RMLL - errors_RMLL).max()),
        "counts in which device and numpy differ": int((by_numpy_RMLL != errors_RMLL).sum()),
        "counting on the device, s": timed(lambda: counter.errors(queries_PD), device),
        "encoding and counting with numpy, s": numpy_s,
        "untuned PND": [
            {"relation": relation, **dict(zip(MEASURES, pnd_M.tolist(), strict=True))}
            for relation, pnd_M in zip(counter.relations, pnd_RM, strict=True)
        ],
    }


def _by_numpy(tower: Tower, pairs: PairTokens, passages_PD: np.ndarray, budget: int) -> tuple[np.ndarray, float]:
    """Errors [R, M, L, L] as a sweep counts them, and the seconds that it took with encoding."""
    languages = tuple(str(one) for one in pairs.languages)
    prepared = PreparedPairs(
        "xnli",
        languages,
        tuple(str(one) for one in pairs.labels),
        pairs.queries,
        passages_PD,
        pairs.query_of_pair_N,
        pairs.cluster_of_pair_N,
        pairs.label_of_pair_N,
    )
    started = time.perf_counter()
    (counts,) = score_sets(tower, [prepared], budget)
    seconds = time.perf_counter() - started
    # Keys run over query language, passage language, measure, relation.
    shape = (len(languages), len(languages), len(MEASURES), len(pairs.labels) - 1)
    errors_RMLL: np.ndarray = counts.errors_K.reshape(shape).transpose(3, 2, 0, 1)
    return errors_RMLL, seconds
