"""PND of an untuned packaged backbone on the whole XNLI test set: mean over 225 pairs, 2,788,900 comparisons each.

The packaged E5 is read two ways. With XLM-R's normaliser (NMT's clean-up and NFKC), as this project builds the
tokenizer. Without any: transformers 5 leaves it out when an `XLMRobertaTokenizer` is built from a list of pieces, and
full-width commas or Thai vowels then become unknown tokens. Published figures for this encoder may have been made
either way. MiniLM, English only, has one tokenizer file and is read as it says.

What the figures say about the paper's Table 3 is in docs/evaluation.md.

    ADIABATIC_DATA=... python benchmarks/check_untuned_xnli.py --backbone packaged-e5        (15 minutes on two cores)
    ADIABATIC_DATA=... python benchmarks/check_untuned_xnli.py --backbone minilm             (12 minutes)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from adiabatic_ray.corpora.data import load_pairs
from adiabatic_ray.corpora.text_sets import PairSet
from adiabatic_ray.encoders.backbones import Backbone, TokenizedTexts, Tower, load_backbone
from adiabatic_ray.evaluation.encode import encode
from adiabatic_ray.sources import Xnli
from adiabatic_ray.spec import MINILM, PACKAGED_E5
from adiabatic_ray.statistics.metrics import count_errors, pair_scores

XNLI_PATH = "${ADIABATIC_DATA}/hub"
TOKEN_BUDGET = 512
BACKBONES = {"packaged-e5": PACKAGED_E5, "minilm": MINILM}
Embeddings = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""By language: queries [U, D] and passages [N, D]."""


def main() -> None:
    """Encode both sides, count, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", choices=BACKBONES, default="packaged-e5")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pairs = load_pairs(Xnli(path=XNLI_PATH))
    backbone = load_backbone(BACKBONES[arguments.backbone])
    readings = {"tokenizer as here": backbone}
    if arguments.backbone == "packaged-e5":
        tokenizer = json.loads(backbone.tokenizer_json) | {"normalizer": None}
        readings["without normaliser"] = replace(backbone, tokenizer_json=json.dumps(tokenizer))
    embeddings = encode_pairs(pairs, backbone.build_tower(), list(readings.values()))
    for title, of_reading in zip(readings, embeddings, strict=True):
        print(title)
        for statistic, pnd_LL in counted(pairs, of_reading):
            english = pairs.languages.index("en")
            print(
                f"  {statistic:35s} mean of {pnd_LL.size} pairs {100 * pnd_LL.mean():.2f}%, "
                f"English-English {100 * pnd_LL[english, english]:.2f}%"
            )


def encode_pairs(pairs: PairSet, tower: Tower, readings: Sequence[Backbone]) -> list[Embeddings]:
    """Embeddings of both sides, for each reading: one encoder whose tokenizers differ.

    Args:
        pairs: the texts.
        tower: of the encoder that all readings share.
        readings: give token ids and prefixes; where a later one gives the ids of the first, nothing is encoded again.
    """
    embeddings: list[dict[str, tuple[np.ndarray, np.ndarray]]] = [{} for _ in readings]
    for language in pairs.languages:
        queries, passages = (
            _encode_side(tower, [one.tokenize(texts, prefix) for one in readings])
            for texts, prefix in (
                (pairs.query_texts[language], readings[0].spec.query_prefix),
                (pairs.passage_texts[language], readings[0].spec.passage_prefix),
            )
        )
        for of_reading, *both in zip(embeddings, queries, passages, strict=True):
            of_reading[language] = (both[0], both[1])
        print(f"encoded {language}", flush=True)
    return list(embeddings)


def _encode_side(tower: Tower, tokens: Sequence[TokenizedTexts]) -> list[np.ndarray]:
    first = encode(tower, tokens[0], TOKEN_BUDGET)
    embeddings = [first]
    for other in tokens[1:]:
        changed = first.copy()
        rows = [row for row in range(len(other)) if not np.array_equal(_ids(tokens[0], row), _ids(other, row))]
        if rows:
            changed[rows] = encode(tower, other.select(np.array(rows)), TOKEN_BUDGET)
        embeddings.append(changed)
    return embeddings


def _ids(tokens: TokenizedTexts, row: int) -> np.ndarray:
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
