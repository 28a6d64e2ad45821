"""Freeze plans: which parameter tensors of a query tower a trial does not train.

A plan is a list of elements in the notation of Table 1 and section 3.3 of the paper, or of glob patterns over parameter
names. The notation is mapped to each layout's own names, so that `B0a` means the attention of the first block in BERT,
XLM-R, DistilBERT and T5 encoders alike. What matches nothing is an error: a plan that silently freezes less than was
asked for would answer another question.

| element | tensors |
|---|---|
| `emb.base` | token, position and type embeddings |
| `emb`, `embeddings` | the whole embedding block, with its LayerNorm |
| `B0a` | attention of block 0: query, key, value, output dense, LayerNorm |
| `B0a,i` | with the intermediate dense layer as well |
| `B0a,i,od` | with the feed-forward output dense layer as well |
| `B0`, `B0-5` | whole blocks |
| `output.dense.weight` | in every block the feed-forward output weight (never `attention.output.dense`) |
| `*.LayerNorm.*` | glob over parameter names |

In T5 the table of relative positions lies in the attention of block 0 and belongs to `B0a`, not to `emb`.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from adiabatic_ray.statistics.blocks import in_embeddings

_PARTS = ("a", "i", "od")
_BLOCK_ELEMENT = re.compile(r"B(\d+)(?:-(\d+))?((?:a|i|od)(?:,(?:a|i|od))*)?")
_NUMBERED = re.compile(r"(?:(?<=\.)|^)(\d+)\.")
_NOTATION = ("emb", "emb.base", "embeddings", "output.dense.weight")


@dataclass(frozen=True)
class _Layout:
    """Where a layout keeps the parts of a block: beginnings of parameter names after `<block prefix><number>.`."""

    attention: tuple[str, ...]
    intermediate: tuple[str, ...]
    output_dense: tuple[str, ...]

    def beginnings(self, part: str) -> tuple[str, ...]:
        return {"a": self.attention, "i": self.intermediate, "od": self.output_dense}[part]


_LAYOUTS = {
    "encoder.layer.": _Layout(("attention.",), ("intermediate.",), ("output.dense.",)),  # BERT, RoBERTa, XLM-R, MPNet
    "transformer.layer.": _Layout(("attention.", "sa_layer_norm."), ("ffn.lin1.",), ("ffn.lin2.",)),  # DistilBERT
    "encoder.block.": _Layout(("layer.0.",), ("layer.1.DenseReluDense.wi",), ("layer.1.DenseReluDense.wo.",)),  # T5
}


def parse_plan(text: str) -> tuple[str, ...]:
    """Elements of a freeze plan written as text.

    Args:
        text: elements with commas between them; the commas inside `B0a,i,od` belong to the element.

    Returns:
        The elements in order, e.g. `"emb, B0a,i,od"` -> `("emb", "B0a,i,od")`; empty text -> `()`.

    Raises:
        ValueError: an empty element, or a part (`a`, `i`, `od`) that follows no block's part.
    """
    if not text.strip():
        return ()
    elements: list[str] = []
    for token in (token.strip() for token in text.split(",")):
        if not token:
            raise ValueError(f"a freeze plan's elements must not be empty, got {text!r}; remove the extra comma")
        if token not in _PARTS:
            elements.append(token)
            continue
        block = _BLOCK_ELEMENT.fullmatch(elements[-1]) if elements else None
        if block is None or block.group(3) is None:
            raise ValueError(
                f"a part ({', '.join(_PARTS)}) must follow a block's part, got {token!r} alone in {text!r}; "
                f"write e.g. B0{token}, or B0a,i,od"
            )
        elements[-1] += f",{token}"
    return tuple(elements)


def frozen_names(plan: Sequence[str], parameter_names: Sequence[str], num_blocks: int) -> frozenset[str]:
    """Names of the tensors that a plan freezes.

    Args:
        plan: elements, see the file head and `parse_plan`.
        parameter_names: the encoder's names, as `named_parameters()` gives them.
        num_blocks: transformer blocks of the encoder (`config.num_hidden_layers`).

    Returns:
        A subset of `parameter_names`. It may be all of them: whether that is allowed is the caller's choice.

    Raises:
        ValueError: elements that match nothing, blocks out of range, or an encoder whose blocks cannot be found though
            the plan names some. All problems in one message, each with near misses.
    """
    frozen: set[str] = set()
    problems = []
    for element in plan:
        try:
            frozen.update(_matches(element, parameter_names, num_blocks))
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise ValueError("; ".join(problems))
    return frozenset(frozen)


def trainable_names(plan: Sequence[str], parameter_names: Sequence[str], num_blocks: int) -> tuple[str, ...]:
    """Names of the tensors that a plan leaves to train, in the encoder's order; arguments as in `frozen_names`."""
    frozen = frozen_names(plan, parameter_names, num_blocks)
    return tuple(name for name in parameter_names if name not in frozen)


def count_parameters(shapes: Mapping[str, Sequence[int]], frozen: Collection[str]) -> tuple[int, int]:
    """Number of trainable and of frozen weights.

    Args:
        shapes: shape of every tensor of the encoder, by name.
        frozen: names of the frozen ones.

    Returns:
        (num_trainable, num_frozen); together all weights of the encoder.
    """
    num_frozen = sum(math.prod(shape) for name, shape in shapes.items() if name in frozen)
    return sum(math.prod(shape) for shape in shapes.values()) - num_frozen, num_frozen


def find_block_prefix(parameter_names: Iterable[str], num_blocks: int | None = None) -> str:
    """What stands before a block's number in parameter names, e.g. `encoder.layer.`.

    It is the shortest beginning that is followed by the numbers 0, 1, ... without a gap, so lists inside a block
    (`encoder.block.3.layer.0.`) are not mistaken for blocks.

    Args:
        parameter_names: the encoder's names.
        num_blocks: how many numbers there must be, where it is known.

    Raises:
        ValueError: no such beginning, as in encoders that share one block's weights between all depths (ALBERT).
    """
    numbers: dict[str, set[int]] = {}
    names = list(parameter_names)
    for name in names:
        for match in _NUMBERED.finditer(name):
            numbers.setdefault(name[: match.start()], set()).add(int(match.group(1)))
    found = [
        prefix
        for prefix, seen in numbers.items()
        if seen == set(range(len(seen))) and num_blocks in (None, len(seen)) and not _NUMBERED.search(prefix)
    ]
    if not found:
        expected = "numbered blocks" if num_blocks is None else f"{num_blocks} numbered blocks"
        got = {prefix: len(seen) for prefix, seen in numbers.items()}
        raise ValueError(
            f"an encoder's parameter names must show {expected} to freeze by block, got {got}; "
            f"use globs over parameter names instead, e.g. {names[:1]}"
        )
    return min(found, key=lambda prefix: (prefix.count("."), prefix))


def _matches(element: str, names: Sequence[str], num_blocks: int) -> list[str]:
    """Names that one element stands for; at least one."""
    block = _BLOCK_ELEMENT.fullmatch(element)
    if element in ("emb", "embeddings"):
        hits = [name for name in names if in_embeddings(name)]
    elif element == "emb.base":
        hits = [name for name in names if in_embeddings(name) and not _is_embedding_norm(name)]
    elif element == "output.dense.weight":
        beginnings = _part_beginnings(find_block_prefix(names, num_blocks), range(num_blocks), ("od",))
        hits = [name for name in names if name.startswith(beginnings) and name.endswith(".weight")]
    elif block is not None:
        beginnings = _block_beginnings(element, block, names, num_blocks)
        hits = [name for name in names if name.startswith(beginnings)]
    else:
        hits = [name for name in names if fnmatchcase(name, element)]
    if not hits:
        raise ValueError(
            f"a freeze plan's elements must each match a parameter, got {element!r}, which matches none; "
            f"{_near_misses(element, names, num_blocks)}"
        )
    return hits


def _is_embedding_norm(name: str) -> bool:
    return name.startswith(("embeddings.LayerNorm.", "embeddings.norm."))


def _block_beginnings(element: str, block: re.Match[str], names: Sequence[str], num_blocks: int) -> tuple[str, ...]:
    first, last = int(block.group(1)), int(block.group(2) or block.group(1))
    if not first <= last < num_blocks:
        raise ValueError(
            f"blocks must be a number or a rising range within B0 to B{num_blocks - 1}, got {element!r}; "
            f"{_near_misses(element, names, num_blocks)}"
        )
    prefix = find_block_prefix(names, num_blocks)
    if block.group(3) is None:
        return tuple(f"{prefix}{number}." for number in range(first, last + 1))
    return _part_beginnings(prefix, range(first, last + 1), block.group(3).split(","))


def _part_beginnings(prefix: str, numbers: Iterable[int], parts: Sequence[str]) -> tuple[str, ...]:
    layout = _LAYOUTS.get(prefix)
    if layout is None:
        raise ValueError(
            f"parts of a block (a, i, od, output.dense.weight) are known for blocks named {sorted(_LAYOUTS)}, "
            f"got {prefix!r}; use globs over parameter names instead, e.g. '{prefix}0.*'"
        )
    return tuple(
        f"{prefix}{number}.{beginning}" for number in numbers for part in parts for beginning in layout.beginnings(part)
    )


def _near_misses(element: str, names: Sequence[str], num_blocks: int) -> str:
    """Elements and names that look like a wrong one: the notation, this encoder's names, and globs on their parts."""
    blocks = [f"B{number}{parts}" for number in range(num_blocks) for parts in ("", "a", "a,i", "a,i,od")]
    words = sorted({part for name in names for part in name.split(".") if not part.isdigit()})
    candidates = [*_NOTATION, *blocks, *(f"*.{word}.*" for word in words), *names]
    near = difflib.get_close_matches(element, candidates, n=5, cutoff=0.5)
    return f"near misses: {', '.join(near)}" if near else f"nothing is near it; names look like {', '.join(names[:3])}"
