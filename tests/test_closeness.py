"""Contracts of `evaluation.closeness`: torch on a device says what numpy says, and refuses what numpy refuses."""

from __future__ import annotations

import numpy as np
import pytest

from adiabatic_ray.evaluation import closeness
from adiabatic_ray.evaluation.closeness import Closeness, OnDevice, OnHost
from adiabatic_ray.statistics import metrics

DRAW = np.random.default_rng(0)
PASSAGES_PD = DRAW.normal(size=(40, 48)).astype(np.float32)
QUERIES_QD = DRAW.normal(size=(9, 48)).astype(np.float32)
QUERY_OF_N, PASSAGE_OF_N = DRAW.integers(0, 9, 200), DRAW.integers(0, 40, 200)


@pytest.fixture(params=["held", "sent"])
def on_device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Closeness:
    """Both ways to have the bank; three parts, so that their seams are crossed."""
    monkeypatch.setattr(closeness, "_ROWS_AT_ONCE", 77)
    return OnDevice(PASSAGES_PD, "cpu", holds_bank=request.param == "held")


def test_a_device_measures_what_numpy_measures(on_device: Closeness) -> None:
    ours = on_device.scores(QUERIES_QD, QUERY_OF_N, PASSAGE_OF_N)
    theirs = metrics.pair_scores(QUERIES_QD[QUERY_OF_N], PASSAGES_PD[PASSAGE_OF_N])
    host = OnHost(PASSAGES_PD).scores(QUERIES_QD, QUERY_OF_N, PASSAGE_OF_N)
    for one, other, third in zip(ours, theirs, host, strict=True):
        assert one.dtype == np.float64 and one.shape == (200,)
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)
        assert np.array_equal(third, other)


def test_a_pair_scores_the_same_whatever_is_scored_beside_it(on_device: Closeness) -> None:
    """Ties are errors: equal pairs must tie exactly, wherever they stand."""
    whole = on_device.scores(QUERIES_QD, QUERY_OF_N, PASSAGE_OF_N)
    order_N = DRAW.permutation(200)
    shuffled = on_device.scores(QUERIES_QD, QUERY_OF_N[order_N], PASSAGE_OF_N[order_N])
    for one, other in zip(whole, shuffled, strict=True):
        assert np.array_equal(one[order_N], other)


def test_a_query_that_is_its_passage_has_cosine_one_and_distance_zero(on_device: Closeness) -> None:
    rows = np.arange(40)
    cosine_N, distance_N = on_device.scores(PASSAGES_PD, rows, rows)
    np.testing.assert_allclose(cosine_N, 1, rtol=1e-15)
    assert (distance_N == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_an_embedding_without_direction_is_refused(on_device: Closeness, value: float) -> None:
    broken = QUERIES_QD.copy()
    broken[3] = value
    with pytest.raises(ValueError, match=r"query row \d+ has squared norm"):
        on_device.scores(broken, QUERY_OF_N, PASSAGE_OF_N)
