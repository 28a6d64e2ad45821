"""What moved, by hand: tensors of a few weights whose norms and largest weights are known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from adiabatic_ray.schemas import TABLES
from adiabatic_ray.statistics.blocks import block_of
from adiabatic_ray.statistics.drift import (
    by_block,
    by_tower,
    combined,
    drift_rows,
    largest_changed,
    relative_change,
)

DENSE, BIAS, NORM = (f"encoder.layer.{part}" for part in ("0.output.dense.weight", "0.output.dense.bias", "1.norm"))


def _rows(tuned: dict[str, list[float]], untuned: dict[str, list[float]]) -> list[dict[str, Any]]:
    arrays = ({name: np.array(values, dtype=np.float32) for name, values in side.items()} for side in (untuned, tuned))
    return drift_rows(*arrays, learning_rate=0.25)


UNTUNED = {DENSE: [3.0, -4.0, 0.0, 0.0], BIAS: [0.5, -1.0], NORM: [2.0**24, 1.0]}
TUNED = {DENSE: [3.0, -4.5, 0.0, 1.2], BIAS: [0.5, -1.0], NORM: [2.0**24, 0.75]}


def test_a_tensors_numbers() -> None:
    """Changes -1/2 and 1.2 are 1.3 long, beside a norm of 5; the largest weight is -4, then -4.5."""
    dense, bias, norm = _rows(TUNED, UNTUNED)
    assert ["trial_id", *dense] == TABLES["drift"].names
    assert (dense["tensor"], dense["block"], dense["num_weights"]) == (DENSE, "0", 4)
    assert (dense["movable_frac"], dense["moved_frac"], dense["max_change"]) == (1.0, 0.5, pytest.approx(1.2))
    assert (dense["l2_change"], dense["l2_untuned"]) == (pytest.approx(1.3), 5.0)
    assert dense["l2_relative"] == pytest.approx(0.26)
    assert (dense["largest_untuned"], dense["largest_tuned"]) == (4.0, 4.5), "largest in magnitude"
    assert (bias["l2_relative"], bias["moved_frac"], bias["largest_tuned"]) == (0.0, 0.0, 1.0)
    # At 2^24 neighbours are 2 apart (1 below a power of two): a step of 1/4 is lost.
    assert norm["movable_frac"] == 0.5


def test_the_papers_changes() -> None:
    dense, bias, norm = _rows(TUNED, UNTUNED)
    assert (largest_changed(dense), relative_change(dense)) == (4.5, pytest.approx(0.5 / 8.5))
    assert (largest_changed(bias), relative_change(bias)) == (0.0, 0.0)
    assert norm["moved_frac"] == 0.5 and largest_changed(norm) == 0.0, "not its largest weight"
    (shrunk,) = _rows({BIAS: [0.0, 0.75]}, {BIAS: [0.0, -1.0]})
    assert (largest_changed(shrunk), relative_change(shrunk)) == (0.75, pytest.approx(-0.25 / 1.75))


def test_a_tensor_of_zeros_has_no_relative_displacement_once_it_moved() -> None:
    stayed, moved = _rows({DENSE: [0.0, 0.0], BIAS: [0.0, 0.5]}, {DENSE: [0.0, 0.0], BIAS: [0.0, 0.0]})
    assert (stayed["l2_relative"], relative_change(stayed)) == (0.0, 0.0)
    assert math.isnan(moved["l2_relative"]) and (largest_changed(moved), relative_change(moved)) == (0.5, 1.0)


def test_a_tensor_that_diverged_has_no_number_where_there_is_none() -> None:
    infinite, none = _rows({DENSE: [math.inf, 1.0], BIAS: [math.nan, 1.0]}, {DENSE: [1.0, 1.0], BIAS: [1.0, 1.0]})
    assert (infinite["largest_tuned"], infinite["l2_relative"]) == (math.inf, math.inf)
    assert math.isnan(relative_change(infinite)) and math.isnan(largest_changed(none))
    both = combined([infinite, none])
    assert not any(math.isfinite(both[name]) for name in ("l2_change", "l2_relative", "largest_tuned"))


def test_a_block_is_as_one_tensor() -> None:
    """Norms 5 and sqrt(1.25); of 6 weights 2 moved, all can; the bias's largest weight is not the block's."""
    rows = _rows(TUNED, UNTUNED)
    blocks = by_block(rows)
    assert list(blocks) == ["0", "1"]
    block = blocks["0"]
    assert (block["num_tensors"], block["num_weights"], block["movable_frac"]) == (2, 6, 1.0)
    assert (block["moved_frac"], block["max_change"]) == (pytest.approx(2 / 6), pytest.approx(1.2))
    assert (block["l2_change"], block["l2_untuned"]) == (pytest.approx(1.3), pytest.approx(math.sqrt(26.25)))
    assert block["l2_relative"] == pytest.approx(1.3 / math.sqrt(26.25)) and block["l2_lost"] is None
    assert (block["largest_untuned"], block["largest_tuned"]) == (4.0, 4.5)
    assert (block["largest_changed"], block["relative_change"]) == (4.5, pytest.approx(0.5 / 8.5))
    lost = drift_rows(*[{DENSE: np.ones(2, np.float32), BIAS: np.ones(2, np.float32)}] * 2, 0.1, {DENSE: 3, BIAS: 4})
    assert combined(lost)["l2_lost"] == 5
    # Shares are weighted by size: 1 of 2 weights of the last tensor moved, 2 of 6 of the others.
    assert by_tower(rows)[""]["moved_frac"] == pytest.approx(3 / 8)


def test_the_largest_changed_weight_of_a_block_may_be_smaller_than_its_largest() -> None:
    block = combined(_rows({DENSE: [9.0], BIAS: [2.0]}, {DENSE: [9.0], BIAS: [1.0]}))
    assert (block["largest_tuned"], block["largest_changed"], block["relative_change"]) == (9.0, 2.0, 0.0)


def test_a_tuned_passage_tower_stands_by_itself() -> None:
    names = ("encoder.layer.1.x", "passage_tower.encoder.layer.1.x", "passage_tower.embeddings.LayerNorm.bias")
    tuned = {names[0]: [1.0, 3.0], names[1]: [1.0, 4.0], names[2]: [5.0, 2.0]}
    rows = _rows(tuned, {name: [1.0, 1.0] for name in names})
    assert [row["block"] for row in rows] == ["1", "passage_tower.1", "passage_tower.embeddings"]
    assert {block: one["l2_change"] for block, one in by_block(rows).items()} == pytest.approx(
        {"1": 2.0, "passage_tower.1": 3.0, "passage_tower.embeddings": math.sqrt(17)}
    )
    towers = by_tower(rows)
    assert {tower: one["l2_change"] for tower, one in towers.items()} == pytest.approx(
        {"": 2.0, "passage_tower": math.sqrt(26)}
    )
    assert towers["passage_tower"]["num_tensors"] == 2


@pytest.mark.parametrize(
    ("tensor", "block"),
    [
        ("embeddings.word_embeddings.weight", "embeddings"),
        ("embeddings.LayerNorm.weight", "embeddings"),
        ("encoder.layer.11.attention.self.query.weight", "11"),
        ("transformer.layer.5.ffn.lin1.weight", "5"),
        ("layers.21.mlp.Wi.weight", "21"),
        ("shared.weight", "embeddings"),
        ("encoder.block.3.layer.1.DenseReluDense.wo.weight", "3"),
        ("encoder.final_layer_norm.weight", "other"),
        ("encoder.albert_layer_groups.0.albert_layers.0.ffn.weight", "0"),
        ("encoder.relative_attention_bias.weight", "other"),
        ("passage_tower.encoder.layer.0.output.dense.bias", "passage_tower.0"),
        ("passage_tower.pooler.dense.weight", "passage_tower.other"),
        ("gains", "other"),
        ("", "other"),
    ],
)
def test_blocks_are_read_from_names(tensor: str, block: str) -> None:
    assert block_of(tensor) == block
