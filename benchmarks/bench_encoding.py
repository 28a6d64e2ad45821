"""Encoding with a token budget against `SentenceTransformer.encode` at its default batch size.

Same weights, same texts (English XNLI premises with prefix), same threads, interleaved. Both sort by length; the budget
keeps the work of a batch even and pads less where lengths are long.

    ADIABATIC_DATA=... python benchmarks/bench_encoding.py [--texts 600] [--rounds 3] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer
from transformers import PreTrainedTokenizerFast

from adiabatic_ray.backbones import load_backbone
from adiabatic_ray.data import load_pairs
from adiabatic_ray.encode import encode
from adiabatic_ray.sources import Xnli
from adiabatic_ray.spec import PACKAGED_E5


def main() -> None:
    """Time both and print medians, their ratio and the largest difference of an embedding."""
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

    with tempfile.TemporaryDirectory() as folder:
        tower.model.save_pretrained(folder)
        (Path(folder) / "tokenizer.json").write_text(backbone.tokenizer_json, encoding="utf-8")
        PreTrainedTokenizerFast(
            tokenizer_file=str(Path(folder) / "tokenizer.json"), pad_token="<pad>", unk_token="<unk>"
        ).save_pretrained(folder)
        transformer = Transformer(folder, max_seq_length=backbone.spec.max_length)
        peer = SentenceTransformer(modules=[transformer, Pooling(transformer.get_embedding_dimension())], device="cpu")

        def ours() -> np.ndarray:
            return encode(tower, backbone.tokenize(texts, prefix), 4096)

        def theirs() -> np.ndarray:
            found: np.ndarray = peer.encode([prefix + text for text in texts], show_progress_bar=False)
            return found

        times: dict[str, list[float]] = {"ours": [], "theirs": []}
        found = {}
        ours(), theirs()
        for _ in range(arguments.rounds):
            for name, work in (("ours", ours), ("theirs", theirs)):
                started = time.perf_counter()
                found[name] = work()
                times[name].append(time.perf_counter() - started)
    ours_s, theirs_s = (statistics.median(times[name]) for name in ("ours", "theirs"))
    print(
        f"{len(texts)} texts, {arguments.threads} threads, {arguments.rounds} interleaved rounds, tokenisation included"
    )
    print(f"token budget 4096:          {ours_s:7.2f} s (median)")
    print(f"SentenceTransformer.encode: {theirs_s:7.2f} s (median)")
    print(
        f"ratio: {theirs_s / ours_s:.2f}; "
        f"largest difference of a number: {np.abs(found['ours'] - found['theirs']).max():.1e}"
    )


if __name__ == "__main__":
    main()
