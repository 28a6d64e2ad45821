"""Untuned backbones on the real XNLI test set, against figures that were made elsewhere and a count from scratch.

English against English, all 1,670 premises: 2,788,900 comparisons a statistic.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adiabatic_ray.corpora.data import load_pairs
from adiabatic_ray.corpora.text_sets import Pair, PairSet, build_pairs
from adiabatic_ray.encoders.backbones import load_backbone
from adiabatic_ray.encoders.packages import encoder_folder
from adiabatic_ray.sources import Xnli
from adiabatic_ray.spec import MINILM, PACKAGED_E5, BackboneSpec
from benchmarks.check_untuned_xnli import counted, encode_pairs
from tests.tiny import save_tiny_bert, tiny_spec

NEUTRAL, CONTRADICTION = "entailment-neutral, cosine", "entailment-contradiction, cosine"


def english(real_data: Path, num_premises: int | None = None) -> PairSet:
    return load_pairs(Xnli(path=str(real_data / "hub"), languages=("en",), num_premises=num_premises))


def english_pnd(pairs: PairSet, spec: BackboneSpec) -> dict[str, float]:
    backbone = load_backbone(spec)
    (embeddings,) = encode_pairs(pairs, backbone.build_tower(), [backbone])
    return {statistic: float(pnd_LL.item()) for statistic, pnd_LL in counted(pairs, embeddings)}


def test_a_second_tokenizer_gives_what_it_would_give_alone(tmp_path: Path) -> None:
    usual = load_backbone(tiny_spec(save_tiny_bert(tmp_path)))
    lower = json.loads(usual.tokenizer_json) | {"normalizer": {"type": "Lowercase"}}
    other = replace(usual, tokenizer_json=json.dumps(lower))
    rows = [
        Pair(("one", "Eins"), ("A stone.", "ein stein"), label, cluster=0)
        for label in ("entailment", "neutral", "contradiction")
    ]
    pairs = build_pairs("tiny", ("en", "de"), ("entailment", "neutral", "contradiction"), rows)
    both = encode_pairs(pairs, usual.build_tower(), [usual, other])
    for reading, embeddings in zip((usual, other), both, strict=True):
        (alone,) = encode_pairs(pairs, usual.build_tower(), [reading])
        for language in pairs.languages:
            for got, expected in zip(embeddings[language], alone[language], strict=True):
                np.testing.assert_allclose(got, expected, atol=1e-6)
    assert np.array_equal(both[0]["en"][0], both[1]["en"][0])
    assert not np.allclose(both[0]["en"][1], both[1]["en"][1], atol=0.01)


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "neutral", "contradiction"),
    [
        pytest.param(PACKAGED_E5, 0.1832, 0.1144, id="packaged-e5"),
        pytest.param(MINILM, 0.2921, 0.2736, id="minilm"),
    ],
)
def test_english_on_the_whole_test_set(
    real_data: Path, spec: BackboneSpec, neutral: float, contradiction: float
) -> None:
    pnd = english_pnd(english(real_data), spec)
    assert pnd[NEUTRAL] == pytest.approx(neutral, abs=0.0002)
    assert pnd[CONTRADICTION] == pytest.approx(contradiction, abs=0.0002)


@pytest.mark.realdata
def test_minilm_counts_as_sentence_transformers_and_a_comparison_matrix_do(real_data: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="the extra [bench] is not installed")
    pairs = english(real_data, num_premises=120)
    model = library.SentenceTransformer(str(encoder_folder(MINILM.name, MINILM.revision)), device="cpu")
    premises_UD, hypotheses_ND = model.encode(pairs.query_texts["en"]), model.encode(pairs.passage_texts["en"])
    cosine_N = np.array([premises_UD[row] for row in pairs.query_of_pair], dtype=np.float64)
    cosine_N = (cosine_N * hypotheses_ND).sum(axis=1)
    ours = english_pnd(pairs, MINILM)
    for label, statistic in ((1, NEUTRAL), (2, CONTRADICTION)):
        wrong_MN = cosine_N[pairs.label_of_pair == 0][:, None] <= cosine_N[pairs.label_of_pair == label]
        assert wrong_MN.shape == (120, 120)
        assert ours[statistic] == pytest.approx(wrong_MN.mean(), abs=1.5 / wrong_MN.size)  # one pair may be a near tie
