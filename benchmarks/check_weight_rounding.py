"""How far does PND move when weights are perturbed as much as 4-bit storage does?

The packaged E5 is stored in blocks of 32 weights: a float16 scale, and four bits a weight (`packaged_e5`). Its package
calls that Q4_0, llama.cpp's format, and its data agrees: in each of the 3,663,996 blocks some weight has nibble 0, half
of the scales are negative, so the scale is the weight of largest size, with its sign, divided by -8 (not |w| / 7, which
would leave nibble 0 unused). Two measurements on XNLI:

minilm       float32 weights as published, against the same weights rounded to these blocks.
packaged-e5  the stored weights, against encoders drawn uniformly from those that the storage rounds to the same file,
             one for each seed. What the original encoder scores is not known from this; how much the storage leaves
             open is.

Both sides of a comparison are encoded with the same weights: this is about the level of PND, not about tuning.
The matrices that the package stores in blocks are perturbed, for both encoders alike: word embeddings, attention,
feed-forward. Positions, types, biases and LayerNorms are float32 there.

    ADIABATIC_DATA=... python benchmarks/check_weight_rounding.py --backbone minilm --premises 500
    (one core, with --languages en de ru zh sw: 3 minutes; packaged-e5, three seeds: 8)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adiabatic_ray.corpora.data import load_pairs
from adiabatic_ray.corpora.text_sets import PairSet
from adiabatic_ray.encoders.backbones import Backbone, load_backbone
from adiabatic_ray.sources import XNLI_LANGUAGES, Xnli
from benchmarks.check_untuned_xnli import BACKBONES, XNLI_PATH, counted, encode_pairs

BLOCK_WEIGHTS = 32
EDGE = 0.4999
"""Largest deviate in steps: at exactly half a step, float32 rounding would decide to which side a weight goes."""


def main() -> None:
    """Encode with each set of weights, count, and print levels and changes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=BACKBONES, default="packaged-e5")
    parser.add_argument("--languages", nargs="+", default=list(XNLI_LANGUAGES), metavar="en")
    parser.add_argument("--premises", type=int, help="the first so many; default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the packaged E5's deviates")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pairs = load_pairs(Xnli(path=XNLI_PATH, languages=arguments.languages, num_premises=arguments.premises))
    backbone = load_backbone(BACKBONES[arguments.backbone])
    before = pnd_of(pairs, backbone)
    show("as loaded", before, before)
    if arguments.backbone == "minilm":
        show("rounded", before, pnd_of(pairs, with_matrices(backbone, rounded)))
        return
    for seed in arguments.seeds:
        rng = np.random.default_rng(seed)
        drawn = pnd_of(pairs, with_matrices(backbone, partial(drawn_within, rng=rng)))
        show(f"seed {seed}", before, drawn)


def rounded(weights: np.ndarray) -> np.ndarray:
    """Weights as 4-bit blocks would store them: each the nearest of 16 multiples of its block's scale.

    Args:
        weights: float32, its last axis a multiple of 32.

    Returns:
        float32, same shape: (nibble - 8) * scale, with the scale in float16 and nibble = floor(weight / scale + 8.5)
        from 0 to 15, by the scale before it is rounded to float16 (llama.cpp's Q4_0).
    """
    scales_B1, units_BW = _in_steps(weights)
    nibbles_BW = np.clip(np.floor(units_BW + 8.5), 0, 15)
    stored_B1 = scales_B1.astype(np.float16).astype(np.float32)
    return ((nibbles_BW - 8) * stored_B1).astype(np.float32).reshape(weights.shape)


def drawn_within(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weights drawn uniformly from those that `rounded` turns into the given ones.

    The weight that sets its block's scale is kept. The others move by up to half a step, with two exceptions: at
    nibble 0 not away from zero, where they would set the scale, and at nibble 15 up to a whole step away from zero,
    since the grid ends there and larger weights are cut to it.

    Args:
        weights: float32, on the grid of 4-bit blocks.
        rng: of the deviates.
    """
    scales_B1, units_BW = _in_steps(weights)
    deviates_BW = rng.uniform(-EDGE, EDGE, units_BW.shape).astype(np.float32)
    lowest, highest = units_BW == -8, units_BW == 7
    deviates_BW[lowest] = np.abs(deviates_BW[lowest])
    deviates_BW[highest] = rng.uniform(-EDGE, 2 * EDGE, int(highest.sum()))
    np.put_along_axis(deviates_BW, np.argmax(lowest, axis=1)[:, None], 0, axis=1)
    drawn: np.ndarray = ((units_BW + deviates_BW) * scales_B1).astype(np.float32).reshape(weights.shape)
    return drawn


def _in_steps(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales [blocks, 1] and weights in units of them [blocks, 32]; the largest weight of a block is -8."""
    assert weights.dtype == np.float32 and weights.shape[-1] % BLOCK_WEIGHTS == 0, (weights.dtype, weights.shape)
    blocks_BW = weights.reshape(-1, BLOCK_WEIGHTS)
    largest_B1 = np.take_along_axis(blocks_BW, np.abs(blocks_BW).argmax(axis=1)[:, None], axis=1)
    scales_B1 = largest_B1 / np.float32(-8)
    return scales_B1, blocks_BW / np.where(scales_B1 == 0, 1, scales_B1)


def with_matrices(backbone: Backbone, change: Callable[[np.ndarray], np.ndarray]) -> Backbone:
    """A backbone with the matrices changed that the packaged E5 stores in blocks."""
    weights = {name: change(value) if is_in_blocks(name, value) else value for name, value in backbone.weights.items()}
    return replace(backbone, weights=weights)


def is_in_blocks(name: str, weights: np.ndarray) -> bool:
    """Whether the package stores such a tensor of a BertModel in blocks."""
    return weights.ndim == 2 and "position_embeddings" not in name and "token_type_embeddings" not in name


def pnd_of(pairs: PairSet, backbone: Backbone) -> dict[str, np.ndarray]:
    """PND [query language, passage language] by relation and measure."""
    (embeddings,) = encode_pairs(pairs, backbone.build_tower(), [backbone])
    return dict(counted(pairs, embeddings))


def show(title: str, before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> None:
    """Level and change of the mean over language pairs, in points and by equation 1, and the range of the changes."""
    print(title)
    for statistic, before_LL in before.items():
        after_LL = after[statistic]
        change_LL = 100 * (after_LL - before_LL)
        improvement = 100 * (1 - after_LL.mean() / before_LL.mean())
        print(
            f"  {statistic:35s} mean of {after_LL.size} pairs {100 * after_LL.mean():.3f}%, "
            f"change {change_LL.mean():+.3f} points (improvement {improvement:+.2f}%), "
            f"pairs {change_LL.min():+.2f} to {change_LL.max():+.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
