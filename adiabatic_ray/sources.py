"""Where texts come from: one typed description per kind of triplet set and labelled-pair set.

A source names its data by hub repository and revision, and optionally a local copy in the hub's layout (`path`); the
loading code in `data` is the same for both. `digest` is filled when a sweep is pinned: from then on the source is
identified by its content, and a changed copy is refused. pydantic only: part of the specification.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

XNLI_LANGUAGES = ("ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")
"""The 15 languages of XNLI, in the order of the paper's Appendix F."""
ARXIV_LEVELS = 21
"""Negatives of a paper in arxiv-negatives (Appendix B.1): 20 from the closest down, and last a random other paper."""
ArxivCategory = Annotated[str, Field(pattern=r"^[a-z][a-z-]*(\.[A-Za-z-]+)?$")]
"""An archive (`math`: every category that begins with `math.`, and `math` itself) or one category (`math.CO`)."""


class Frozen(BaseModel):
    """Base of all configuration: immutable, unknown keys refused, defaults checked like given values."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Source(Frozen):
    """What every source has: a kind, a name for tables and a digest of its content."""

    kind: str
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name in tables and plots")
    path: str | None = Field(
        None, description="local copy; for hub sources the folder that holds owner/name/...; ${VARIABLES} are expanded"
    )
    digest: str | None = Field(None, description="SHA-256 of the loaded texts; checked when given, else filled in")

    @property
    def place(self) -> str:
        """For messages: the name, and the path where there is one."""
        return self.name if self.path is None else f"{self.name} ({self.path})"

    @model_serializer(mode="wrap")
    def _always_with_kind(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The kind is a default, yet without it a dump that leaves defaults out could not tell two sources apart."""
        return {"kind": self.kind, **handler(self)}


class Triplets(Source):
    """Sizes of the three parts of a triplet source. None: everything that the other parts leave."""

    num_tune: int | None = Field(None, ge=1, description="samples to tune on, from the front")
    num_validation: int = Field(0, ge=0, description="samples to validate on, after the tuning part")
    num_evaluation: int | None = Field(None, ge=0, description="samples to evaluate on, from the end")


class MsMarco(Triplets):
    """MS MARCO triplets; the split of the paper's Appendix A (487,983 / 4,200 / 7,000 samples)."""

    kind: Literal["msmarco"] = "msmarco"
    name: str = "msmarco"
    repository: str = "sentence-transformers/embedding-training-data"
    file: str = "msmarco-triplets.jsonl.gz"
    revision: str | None = None
    num_tune: int | None = Field(487_983, ge=1)
    num_validation: int = Field(4_200, ge=0)
    num_evaluation: int | None = Field(7_000, ge=0)
    min_negatives: int = Field(
        1,
        ge=1,
        description="leaves out samples with fewer; 65 gives the paper's 'MSMARCO 65 negatives' (Appendix A, Table 2). "
        "The parts are cut before, so that this never moves a sample from one part into another",
    )


class SquadSentences(Triplets):
    """SQuAD questions; sentences of the paragraph with an answer against the others (Appendix C).

    Sizes count paragraphs, not questions: whole paragraphs are held out, and they are the clusters of the tests. The
    order of paragraphs is a permutation by `split_seed`.
    """

    kind: Literal["squad"] = "squad"
    name: str = "squad"
    repository: str = "rajpurkar/squad_v2"
    config: str = "squad_v2"
    splits: tuple[str, ...] = ("train", "validation")
    revision: str | None = None
    min_sentences: int = Field(2, ge=2, description="5 gives the paper's SQUAD min 5")
    split_seed: int = 0


class HotpotQa(Triplets):
    """HotpotQA questions; the passages with the supporting facts against the others (Appendix D).

    By hub id, or from `path`: the folder that holds `hotpotqa/hotpot_qa/...` as the hub does, or one file of records
    with question, level, texts and is_positive. The order of questions is a permutation by `split_seed`.
    """

    kind: Literal["hotpotqa"] = "hotpotqa"
    name: str = "hotpotqa"
    repository: str = "hotpotqa/hotpot_qa"
    config: str = "distractor"
    splits: tuple[str, ...] = ("train", "validation")
    revision: str | None = None
    level: Literal["easy", "medium", "hard"] | None = Field(None, description="only questions of this level; none: all")
    min_passages: int = Field(10, ge=2, description="leaves out questions with fewer (Appendix D: 10)")
    split_seed: int = 0


class ArxivTriplets(Triplets):
    """arXiv papers: title -> abstract, or first sentence -> rest of the abstract, against another paper (Appendix B).

    `path` is a JSONL file of arXiv metadata (id, title, abstract, categories) or a Parquet file with those columns.
    `num_papers` is a seeded sample of the papers with both parts not empty.

    Without `negatives` the negative is the easiest of the paper's 21 levels: a random other paper, drawn by
    `negative_seed`. With it, the other paper is looked up at `level`.

    The narrow sets of Appendix K: `categories=("math",)` (or physics, cs) to tune on, and the same tuple as
    `excluded_categories` of the sets to evaluate on, as in Table 5. A paper belongs to a category that any entry of its
    list of categories names.
    """

    kind: Literal["arxiv"] = "arxiv"
    name: str = "arxiv"
    flavour: Literal["title", "first"] = "title"
    num_papers: int | None = Field(None, ge=2)
    negative_seed: int = 0
    negatives: str | None = Field(
        None, description="file with `id` and `negatives`, 21 ids from the closest to the random one; ${VARIABLES} too"
    )
    level: int = Field(
        ARXIV_LEVELS, ge=1, le=ARXIV_LEVELS, description="which id of `negatives`: 1 is hardest, 21 the random paper"
    )
    categories: tuple[ArxivCategory, ...] = Field((), description="only papers in any of these; none given: all")
    excluded_categories: tuple[ArxivCategory, ...] = Field((), description="no papers in any of these")

    @model_validator(mode="after")
    def _level_needs_a_file(self) -> Self:
        if self.level != ARXIV_LEVELS and self.negatives is None:
            raise ValueError(
                f"{self.name}: levels 1 to {ARXIV_LEVELS - 1} are listed in a file, got level={self.level} and no "
                "`negatives`; set it to the output of `adiabatic data arxiv-negatives`, or leave `level` out"
            )
        return self


class DocstringTriplets(Triplets):
    """First sentence of a docstring -> the rest of it, against another docstring of the same file.

    Read from the source files of installed libraries without importing them. A second source with other libraries is
    English but different, as ARXIV is in the paper.
    """

    kind: Literal["docstrings"] = "docstrings"
    name: str = "docstrings"
    libraries: tuple[str, ...] = Field(min_length=1, description="import names of installed libraries")
    negative_seed: int = 0


class TripletFile(Triplets):
    """A user's own triplets: JSONL (also .gz) or Parquet with query, positives (or pos), negatives (or neg).

    `cluster`, when given, names what several queries share (a document); without it rows with the same query share one.
    """

    kind: Literal["triplet_file"] = "triplet_file"


class Xnli(Source):
    """XNLI: premise in one language, hypothesis in another; every entailment against every other pair (Appendix F)."""

    kind: Literal["xnli"] = "xnli"
    name: str = "xnli"
    repository: str = "facebook/xnli"
    config: str = "all_languages"
    split: str = "test"
    revision: str | None = None
    languages: tuple[str, ...] = Field(XNLI_LANGUAGES, min_length=1)
    num_premises: int | None = Field(None, ge=2, description="only the first so many premises, for small runs")


class XnliTriplets(Triplets):
    """XNLI in one language as triplets: a premise, what it entails, what it does not; to tune on any of 15 languages.

    Sizes count premises, in file order. Another split than the one evaluated on: the same premises come in every
    language.
    """

    kind: Literal["xnli_triplets"] = "xnli_triplets"
    name: str = "xnli-triplets"
    repository: str = "facebook/xnli"
    config: str = "all_languages"
    split: str = "validation"
    revision: str | None = None
    language: Literal["ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh"] = "en"
    negative_seed: int = 0


class CldrNames(Source):
    """CLDR names of territories, languages and currencies as labelled pairs: the same thing, or another one."""

    kind: Literal["cldr"] = "cldr"
    name: str = "cldr"
    languages: tuple[str, ...] = Field(XNLI_LANGUAGES, min_length=1)
    categories: tuple[Literal["territories", "languages", "currencies"], ...] = ("territories", "languages")
    num_names: int | None = Field(None, ge=2, description="seeded sample of the names; none: all of them")
    num_mismatches: int = Field(1, ge=1, description="mismatching passages for each name, of the same category")
    seed: int = 0


class PairFile(Source):
    """A user's own labelled pairs: JSONL or Parquet with `query` and `passage` (text by language) and `label`.

    `cluster`, when given, names what several rows share (a premise); without it rows with the same query share one.
    """

    kind: Literal["pair_file"] = "pair_file"
    languages: tuple[str, ...] = Field(min_length=1)
    positive_label: str
    negative_labels: tuple[str, ...] | None = Field(
        None, description="the other labels; any else is an error. None: whatever the file has"
    )


TripletSource = Annotated[
    MsMarco | SquadSentences | HotpotQa | ArxivTriplets | DocstringTriplets | XnliTriplets | TripletFile,
    Field(discriminator="kind"),
]
PairSource = Annotated[Xnli | CldrNames | PairFile, Field(discriminator="kind")]
EvaluationSource = Annotated[
    MsMarco
    | SquadSentences
    | HotpotQa
    | ArxivTriplets
    | DocstringTriplets
    | XnliTriplets
    | TripletFile
    | Xnli
    | CldrNames
    | PairFile,
    Field(discriminator="kind"),
]
