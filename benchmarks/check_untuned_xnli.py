"""PND of the untuned packaged E5 on the whole XNLI test set: mean over 225 pairs, 2,788,900 comparisons each.

Two lines a statistic. With XLM-R's normaliser (NMT's clean-up and NFKC), as this project builds the tokenizer. Without
any: transformers 5 leaves it out when an `XLMRobertaTokenizer` is built from a list of pieces, and full-width commas or
Thai vowels then become unknown tokens. Published figures for this encoder may have been made either way.

The paper's Table 3 prints about a third (10.8 / 10.5 and 10.0 / 9.6%): a denominator of 5,010 x 1,670 is the likely
reading; relative improvements are not affected by it.

    ADIABATIC_DATA=... python benchmarks/check_untuned_xnli.py [--threads 2]        (about 15 minutes on two cores)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch

from adiabatic_ray.backbones import Backbone, TokenizedTexts, Tower, load_backbone
from adiabatic_ray.data import load_pairs
from adiabatic_ray.encode import encode
from adiabatic_ray.metrics import count_errors, pair_scores
from adiabatic_ray.sources import Xnli
from adiabatic_ray.spec import PACKAGED_E5
from adiabatic_ray.text_sets import PairSet

TOKEN_BUDGET = 512
Embeddings = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""By language: queries [U, D] and passages [N, D]."""


def main() -> None:
    """Encode both sides, count, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    pairs = load_pairs(Xnli(path="${ADIABATIC_DATA}/hub"))
    backbone = load_backbone(PACKAGED_E5)
    tower = backbone.build_tower()
    plain = replace(backbone, tokenizer_json=json.dumps(json.loads(backbone.tokenizer_json) | {"normalizer": None}))
    normalised, unnormalised = {}, {}
    for language in pairs.languages:
        both = [
            encode_both(tower, backbone, plain, texts, prefix)
            for texts, prefix in (
                (pairs.query_texts[language], backbone.spec.query_prefix),
                (pairs.passage_texts[language], backbone.spec.passage_prefix),
            )
        ]
        normalised[language], unnormalised[language] = zip(*both, strict=True)
        print(f"encoded {language}", flush=True)
    for title, embeddings in (("with NMT + NFKC", normalised), ("without normaliser", unnormalised)):
        print(title)
        for statistic, pnd_LL in counted(pairs, embeddings):
            english = pairs.languages.index("en")
            print(
                f"  {statistic:35s} mean of {pnd_LL.size} pairs {100 * pnd_LL.mean():.2f}%, "
                f"English-English {100 * pnd_LL[english, english]:.2f}%"
            )


def encode_both(
    tower: Tower, backbone: Backbone, plain: Backbone, texts: list[str], prefix: str
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings under both tokenizers; texts with the same token ids are encoded once."""
    usual, other = backbone.tokenize(texts, prefix), plain.tokenize(texts, prefix)
    embeddings = encode(tower, usual, TOKEN_BUDGET)
    differing = [row for row in range(len(texts)) if not np.array_equal(ids(usual, row), ids(other, row))]
    changed = embeddings.copy()
    if differing:
        changed[differing] = encode(tower, other.select(np.array(differing)), TOKEN_BUDGET)
    return embeddings, changed


def ids(tokens: TokenizedTexts, row: int) -> np.ndarray:
    """Token ids of one text."""
    return tokens.ids[tokens.offsets[row] : tokens.offsets[row + 1]]


def counted(pairs: PairSet, embeddings: Embeddings) -> Iterator[tuple[str, np.ndarray]]:
    """PND [query language, passage language] of each relation and measure."""
    labels_N = np.asarray(pairs.label_of_pair)
    scores = {
        (query, passage): pair_scores(embeddings[query][0][pairs.query_of_pair], embeddings[passage][1])
        for query in pairs.languages
        for passage in pairs.languages
    }
    for label in range(1, len(pairs.labels)):
        for place, measure in enumerate(("cosine", "distance")):
            shares = []
            for both in scores.values():
                positives_M, negatives_N = both[place][labels_N == 0], both[place][labels_N == label]
                shares.append(count_errors(positives_M, negatives_N)[0].mean() / len(negatives_N))
            pnd_LL = np.array(shares).reshape(len(pairs.languages), -1)
            yield f"{pairs.labels[0]}-{pairs.labels[label]}, {measure}", pnd_LL


if __name__ == "__main__":
    main()
