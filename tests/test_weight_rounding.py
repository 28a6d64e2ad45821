"""The 4-bit rounding of `benchmarks/check_weight_rounding.py`: by hand, and against the packaged E5's own weights."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adiabatic_ray.encoders.backbones import load_backbone
from adiabatic_ray.spec import PACKAGED_E5
from benchmarks.check_weight_rounding import drawn_within, is_in_blocks, rounded


def test_rounding_by_hand() -> None:
    """The largest weight is -4, so a step is 0.5 and the grid goes from -4 to 3.5."""
    weights = np.zeros((1, 32), dtype=np.float32)
    weights[0, :8] = [-4, 3.9, 3.7, 0.24, 0.26, -0.24, -0.26, 1]
    expected = np.zeros((1, 32), dtype=np.float32)
    expected[0, :8] = [-4, 3.5, 3.5, 0, 0.5, 0, -0.5, 1]
    assert np.array_equal(rounded(weights), expected)
    assert np.array_equal(rounded(-weights), -expected)  # the largest weight's sign is the grid's


def test_a_block_of_zeros_stays() -> None:
    zeros = np.zeros((2, 64), dtype=np.float32)
    assert np.array_equal(rounded(zeros), zeros)
    assert np.array_equal(drawn_within(zeros, np.random.default_rng(0)), zeros)


@given(st.integers(0, 2**31), st.floats(1e-3, 1e3))
def test_what_is_drawn_is_rounded_back_and_lies_within_a_step(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    stored = rounded((size * rng.standard_normal((4, 64))).astype(np.float32))
    assert np.array_equal(rounded(stored), stored)
    drawn = drawn_within(stored, rng)
    assert np.array_equal(rounded(drawn), stored)
    step_B1 = np.abs(stored).reshape(-1, 32).max(axis=1, keepdims=True) / 8
    moved_BW = np.abs(drawn - stored).reshape(-1, 32) / step_B1
    assert 0.2 < moved_BW.mean() < 0.3 and moved_BW.max() <= 1
    assert ((moved_BW > 0.5).mean(axis=1) < 0.2).all()


def test_the_packaged_e5_is_stored_so_and_what_is_drawn_is_stored_as_the_same_file() -> None:
    backbone = load_backbone(PACKAGED_E5)
    matrices = {name: value for name, value in backbone.weights.items() if is_in_blocks(name, value)}
    assert len(matrices) == 1 + 12 * 6
    rng = np.random.default_rng(0)
    for name, stored in matrices.items():
        stored = stored[:1000]  # of 250,037 words; each row has blocks of its own
        drawn = drawn_within(stored, rng)
        assert np.array_equal(rounded(stored), stored), name
        assert np.array_equal(rounded(drawn), stored), name
        assert 0.08 < np.linalg.norm(drawn - stored) / np.linalg.norm(stored) < 0.15, name
