"""PND of the untuned packaged E5 on the whole XNLI test set: mean over 225 pairs, 2,788,900 comparisons each.

The figures to meet (cosine / distance): entailment-neutral 31.27 / 31.07%, entailment-contradiction 27.30 / 26.75%.
They are about three times those of the paper's Table 3 (10.8 / 10.5 and 10.0 / 9.6%): a denominator of 5,010 x 1,670
in the paper is the likely reading; relative improvements are not affected by it.

    ADIABATIC_DATA=... python benchmarks/check_untuned_xnli.py [--threads 2]        (about 15 minutes on two cores)
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from adiabatic_ray.backbones import load_backbone
from adiabatic_ray.data import load_pairs
from adiabatic_ray.encode import encode
from adiabatic_ray.evaluate import PreparedPairs, score_sets
from adiabatic_ray.metrics import pnd
from adiabatic_ray.sources import Xnli
from adiabatic_ray.spec import PACKAGED_E5

TOKEN_BUDGET = 4096


def main() -> None:
    """Encode both sides, count, and print four means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    pairs = load_pairs(Xnli(path="${ADIABATIC_DATA}/hub"))
    backbone = load_backbone(PACKAGED_E5)
    tower = backbone.build_tower()
    bank_PD = np.concatenate(
        [
            encode(tower, backbone.tokenize(pairs.passage_texts[language], backbone.spec.passage_prefix), TOKEN_BUDGET)
            for language in pairs.languages
        ]
    )
    queries = [text for language in pairs.languages for text in pairs.query_texts[language]]
    prepared = PreparedPairs(
        pairs.name,
        pairs.languages,
        pairs.labels,
        backbone.tokenize(queries, backbone.spec.query_prefix),
        bank_PD,
        pairs.query_of_pair,
        pairs.cluster_of_pair,
        pairs.label_of_pair,
    )
    (counts,) = score_sets(tower, [prepared], TOKEN_BUDGET)
    pnd_K = pnd(counts.errors_K, counts.comparisons_K)
    for relation in ("entailment-neutral", "entailment-contradiction"):
        for measure in ("cosine", "distance"):
            chosen = [place for place, key in enumerate(counts.keys) if key[:2] == (relation, measure)]
            english = [place for place in chosen if counts.keys[place][2:] == ("en", "en")]
            print(
                f"{relation:25s} {measure:9s} mean of {len(chosen)} pairs {100 * pnd_K[chosen].mean():.2f}%, "
                f"English-English {100 * pnd_K[english[0]]:.2f}%, {counts.comparisons_K[chosen[0]]:,} comparisons each"
            )


if __name__ == "__main__":
    main()
