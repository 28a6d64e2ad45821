"""Encoding with a token budget against `SentenceTransformer.encode` at its default batch size.

Same weights, same texts (English XNLI premises with prefix), same threads, interleaved. Both sort by length; the budget
keeps the work of a batch even and pads less where lengths are long.

    ADIABATIC_DATA=... python benchmarks/bench_encoding.py [--texts 600] [--rounds 3] [--threads 2]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adiabatic_ray.corpora.data import load_pairs
from adiabatic_ray.encoders.backbones import load_backbone
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.sources import Xnli
from adiabatic_ray.spec import PACKAGED_E5
from benchmarks.sentence_encoders import sentence_encoder
from benchmarks.timings import interleaved, timed

TOKEN_BUDGETS = (512, 4096)
"""The default, and one that would suit a GPU."""
PEER = "SentenceTransformer.encode"


def main() -> None:
    """Time all and print medians, ratios and the largest difference of a number of an embedding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    pairs = load_pairs(Xnli(path="${ADIABATIC_DATA}/hub", languages=("en", "ur", "zh")))
    texts = [text for language in pairs.languages for text in pairs.query_texts[language]]
    texts = [texts[row] for row in np.random.default_rng(0).permutation(len(texts))[: arguments.texts]]
    backbone = load_backbone(PACKAGED_E5)
    tower, prefix = backbone.build_tower(), backbone.spec.query_prefix

    peer = sentence_encoder(backbone, tower, "cpu")

    def ours(token_budget: int) -> np.ndarray:
        return encode(tower, backbone.tokenize(texts, prefix), token_budget)

    def theirs() -> np.ndarray:
        found: np.ndarray = peer.encode([prefix + text for text in texts], show_progress_bar=False)
        return found

    ways: dict[str, Callable[[], np.ndarray]] = {
        f"token budget {budget}": partial(ours, budget) for budget in TOKEN_BUDGETS
    }
    ways[PEER] = theirs
    found = {name: work() for name, work in ways.items()}
    medians = interleaved({name: partial(timed, work, "cpu") for name, work in ways.items()}, arguments.rounds, 0)
    print(
        f"{len(texts)} texts, {arguments.threads} threads, {arguments.rounds} interleaved rounds, tokenisation included"
    )
    for name, median_s in medians.items():
        ratio, difference = medians[PEER] / median_s, np.abs(found[name] - found[PEER]).max()
        print(f"{name:27s} {median_s:7.2f} s (median), ratio {ratio:.2f}, differs by {difference:.1e} at most")


if __name__ == "__main__":
    main()
