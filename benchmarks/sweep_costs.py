"""What each sweep file costs at its full size, extrapolated by tokens from one trial that was measured.

A step's time goes with the tokens of its queries, a score's with those of the evaluation's, a bank's with those of its
passages. Seconds a token come from a finished trial (give it an epoch of the full 1,000 batches); tokens a text from
samples of the local texts; numbers of texts from the paper. Trials that stop by themselves are taken to tune for
`--epochs` epochs: the paper does not say how many they took, and its 10 idle epochs come on top of at least one.

    ADIABATIC_DATA=... python benchmarks/sweep_costs.py OUT [--epochs 20]

OUT is the folder of a sweep with one trial.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# A script's own folder is on the path, its checkout is not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from adiabatic_ray.corpora.data import PairSet, load_pairs, load_triplets
from adiabatic_ray.encoders.backbones import Backbone, load_backbone
from adiabatic_ray.evaluation.prepare import Loader
from adiabatic_ray.paper import A100_HOURS_PER_TRIAL
from adiabatic_ray.sources import ArxivTriplets, EvaluationSource, MsMarco, Xnli, XnliTriplets
from adiabatic_ray.spec import PACKAGED_E5, TrialSpec
from analysis.load import load_sweep
from jobs import sweep_files

NUM_ARXIV_PAPERS = 253_140
"""Of the paper's small categories (Appendix B)."""
NUM_PREMISES, NUM_PAIRS = 1_670, 3 * 1_670
SAMPLED = 1_000
"""Texts of a kind that are tokenised."""


@dataclass(frozen=True)
class Texts:
    """Tokens of a source: means of a text, and passages that come with a query."""

    query_tokens: float
    passage_tokens: float
    passages_per_query: float


@dataclass(frozen=True)
class Rates:
    """Seconds a token, of one trial on one machine."""

    tuned_s: float
    scored_s: float


def main() -> None:
    """Print a Markdown table, one row a sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    rates = measured(options.out)
    texts = sampled(load_backbone(PACKAGED_E5), Path(os.environ["ADIABATIC_DATA"]))
    print("| sweep | trials | banks, h | tuning, h | scoring, h | all, h | the paper's A100-hours |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in sorted(sweep_files.shipped_sweeps()):
        trials = sweep_files.load_sweep(name, []).expand()
        if any(one.backbone.source == "package" for one in trials):
            continue  # small by itself
        tokens = np.sum([trial_tokens(one, texts, options.epochs) for one in trials], axis=0)
        hours = [bank_tokens(trials, texts) * rates.scored_s, tokens[0] * rates.tuned_s, tokens[1] * rates.scored_s]
        cells = " | ".join(f"{one / 3600:,.0f}" for one in (*hours, sum(hours)))
        print(f"| {name} | {len(trials)} | {cells} | {len(trials) * A100_HOURS_PER_TRIAL:.0f} |")


def measured(out: Path) -> Rates:
    """Seconds a token from the sweep's only trial; says what they rest on."""
    sweep = load_sweep(out)
    (row,) = sweep.trials.to_dict("records")
    (trial,) = sweep.trial_specs.values()
    inputs = Loader().load(trial)
    prefix, tuning = inputs.backbone.spec.query_prefix, trial.tuning
    per_step = tuning.batch_size * mean_tokens(inputs.backbone, inputs.tuning.queries, prefix)
    scored = sum(sum(inputs.backbone.tokenize(queries, prefix).lengths().tolist()) for queries in inputs.query_texts())
    found = Rates(row["tune_s"] / (row["num_steps"] * per_step), row["evaluate_s"] / scored)
    print(
        f"{row['num_steps']:,} steps of {per_step:.0f} query tokens in {row['tune_s']:,.0f} s, validation included: "
        f"{row['tune_s'] / row['num_steps']:.3f} s a step, {1e3 * found.tuned_s:.2f} ms a token.\n"
        f"{scored:,} query tokens scored in {row['evaluate_s']:,.0f} s: {1e3 * found.scored_s:.2f} ms a token.\n"
    )
    return found


def sampled(backbone: Backbone, data: Path) -> dict[str, Texts]:
    """Tokens of the sources' texts, from local copies."""
    hub, papers = str(data / "hub"), str(data / "arxiv_30k.parquet")
    sources: dict[str, MsMarco | Xnli | ArxivTriplets] = {
        "msmarco": MsMarco(path=hub, num_tune=None, num_validation=0, num_evaluation=2 * SAMPLED),
        "xnli": Xnli(path=hub, num_premises=200),
    }
    for flavour in ("title", "first"):
        sources[flavour] = ArxivTriplets(name=flavour, path=papers, flavour=flavour, num_papers=SAMPLED)
    found = {}
    for name, source in sources.items():
        texts = load_pairs(source) if isinstance(source, Xnli) else load_triplets(source, "evaluation")
        if isinstance(texts, PairSet):
            queries, passages = (
                [text for language in texts.languages for text in side[language]]
                for side in (texts.query_texts, texts.passage_texts)
            )
        else:
            queries, passages = texts.queries, texts.passages
        found[name] = Texts(
            mean_tokens(backbone, queries, backbone.spec.query_prefix),
            mean_tokens(backbone, passages, backbone.spec.passage_prefix),
            len(passages) / len(queries),
        )
    return found


def mean_tokens(backbone: Backbone, texts: Sequence[str], prefix: str) -> float:
    """Mean tokens of a text, from an evenly spaced sample."""
    places = np.unique(np.linspace(0, len(texts) - 1, min(SAMPLED, len(texts))).astype(int))
    return float(backbone.tokenize([texts[place] for place in places], prefix).lengths().mean())


def trial_tokens(trial: TrialSpec, texts: dict[str, Texts], epochs: int) -> tuple[float, float]:
    """Tokens that a trial tunes on, and that its evaluation encodes."""
    tuning, own = trial.tuning, texts[kind_of(trial.source)]
    is_both = tuning.towers == "both"
    num_samples = (tuning.max_epochs or epochs) * tuning.batches_per_epoch * tuning.batch_size
    tuned = num_samples * (own.query_tokens + (2 * own.passage_tokens if is_both else 0))
    scored = sum(num_queries(one) * texts[kind_of(one)].query_tokens for one in trial.evaluation.sets)
    passages = sum(num_passages(one, texts) * texts[kind_of(one)].passage_tokens for one in trial.evaluation.sets)
    return tuned, scored + (passages if is_both else 0)


def bank_tokens(trials: Sequence[TrialSpec], texts: dict[str, Texts]) -> float:
    """Passage tokens of all banks: once for each backbone and list of texts."""
    sets = {(one.backbone, source) for one in trials for source in one.evaluation.sets}
    tokens = sum(num_passages(source, texts) * texts[kind_of(source)].passage_tokens for _, source in sets)
    for _, source in {(one.backbone, one.source) for one in trials if one.tuning.towers == "query"}:
        num_samples = (source.num_tune or NUM_ARXIV_PAPERS) + source.num_validation
        tokens += 2 * num_samples * texts[kind_of(source)].passage_tokens
    return tokens


def kind_of(source: EvaluationSource) -> str:
    """Whose texts a source's are like."""
    if isinstance(source, ArxivTriplets):
        return source.flavour
    return "xnli" if isinstance(source, Xnli | XnliTriplets) else "msmarco"


def num_queries(source: EvaluationSource) -> int:
    """Queries that an evaluation set has at the paper's size."""
    if isinstance(source, Xnli):
        return NUM_PREMISES * len(source.languages)
    if isinstance(source, ArxivTriplets):
        return source.num_evaluation or NUM_ARXIV_PAPERS
    return getattr(source, "num_evaluation", None) or NUM_PREMISES


def num_passages(source: EvaluationSource, texts: dict[str, Texts]) -> float:
    """Passages that an evaluation set has at the paper's size; of an arXiv paper one, its own."""
    if isinstance(source, Xnli):
        return NUM_PAIRS * len(source.languages)
    return num_queries(source) * (1 if isinstance(source, ArxivTriplets) else texts[kind_of(source)].passages_per_query)


if __name__ == "__main__":
    main()
