"""A Gaussian process over log10 of the rate: how sure is it, at each rate, on which side of the level the curve lies?

Small and exact: a Matern-3/2 kernel (a curve with kinks, not an analytic one), Cholesky factors in numpy; equations of
Rasmussen and Williams 2006, chapters 2 and 5. Length scale and seed noise are not chosen but weighed: every pair on a
fixed grid counts by its marginal likelihood. With few trials several length scales explain the results alike, and the
best one alone would be too sure of itself.

The process sees margins squashed to within `SQUASH` of the level. How far below the level a broken trial lies says
nothing about where the level was crossed, and a cliff to -30% would ruin the length scale.

Shape suffixes: N observations, R distinct rates asked for, G pairs of hyperparameters, B draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SQUASH = 0.04
"""Margin where squashing sets in, a fraction: ten times the usual spread of seeds, four times the level of 1%."""
SEED_SD = 0.004
"""Usual standard deviation of a margin over seeds, a fraction, as in benchmarks/planted_boundaries.py: the middle of
the prior of the noise."""
NOISE_FACTOR = 1.5
"""Standard deviation of that prior, as a factor: replicates soon outweigh it, while one trial far below the level is no
noise. A wider prior took a narrow dip, seen once, for a seed of -5%."""
LENGTH_SCALES = np.array([0.05, 0.1, 0.2, 0.4, 0.8, 1.6])
"""Decades. From a cliff to a curve that bends once in the whole range."""
NOISE_SDS = SEED_SD * 2.0 ** np.arange(-2, 3)
LEAST_WEIGHT = 0.005
"""Pairs of hyperparameters that count for less are left out."""
JITTER = 1e-6
"""Of the curve's variance, added to that of a draw at each rate, so that rates side by side can be factored."""


def squash(margin_N: Floats) -> Floats:
    """Margins, bent to stay within `SQUASH` of the level; sign and order are kept. -inf becomes -SQUASH."""
    squashed: Floats = SQUASH * np.tanh(margin_N / SQUASH)
    return squashed


@dataclass(frozen=True)
class LevelProcess:
    """What the observations say of the squashed curve; make it with `fit`."""

    log_rates_N: Floats
    values_N: Floats
    length_scales_G: Floats
    noise_sds_G: Floats
    weights_G: Floats

    def at(self, log_rates_R: Floats, expected_R: Floats | None = None) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the curve, without seed noise, over all hyperparameters.

        Args:
            log_rates_R: log10 of the rates asked for.
            expected_R: log10 of rates whose results are still to come. Each counts as a result at the posterior mean
                ("kriging believer", Ginsbourger et al. 2010), which leaves the mean as it is and narrows the deviation.

        Returns:
            Mean and standard deviation (R,), in units of the squashed margin.
        """
        known = self.log_rates_N if expected_R is None else np.concatenate([self.log_rates_N, expected_R])
        num_known, num_results = len(known), len(self.log_rates_N)
        mean = np.zeros(len(log_rates_R))
        square = np.zeros(len(log_rates_R))
        for length_scale, noise_sd, weight in zip(self.length_scales_G, self.noise_sds_G, self.weights_G, strict=True):
            one_mean = np.zeros(len(log_rates_R))
            variance = np.full(len(log_rates_R), SQUASH**2)
            if num_known:
                across = kernel(known, log_rates_R, length_scale)
                own = kernel(known, known, length_scale) + noise_sd**2 * np.eye(num_known)
                one_mean = across[:num_results].T @ np.linalg.solve(own[:num_results, :num_results], self.values_N)
                half = np.linalg.solve(np.linalg.cholesky(own), across)
                variance = np.maximum(variance - (half**2).sum(axis=0), 0.0)
            mean += weight * one_mean
            square += weight * (variance + one_mean**2)
        return mean, np.sqrt(np.maximum(square - mean**2, 0.0))

    def draws(self, log_rates_R: Floats, num_draws: int) -> Floats:
        """Curves from the posterior, (B, R), the same on every call; each pair of hyperparameters draws by its weight.

        Args:
            log_rates_R: log10 of the rates asked for, distinct.
            num_draws: curves wanted.
        """
        normals_BR = np.random.default_rng(0).standard_normal((num_draws, len(log_rates_R)))
        ends_G = np.rint(np.cumsum(self.weights_G) * num_draws).astype(int)
        parts = []
        start = 0
        for length_scale, noise_sd, end in zip(self.length_scales_G, self.noise_sds_G, ends_G, strict=True):
            across = kernel(self.log_rates_N, log_rates_R, length_scale)
            own = kernel(self.log_rates_N, self.log_rates_N, length_scale) + noise_sd**2 * np.eye(len(self.log_rates_N))
            gain = np.linalg.solve(own, across)
            covariance = kernel(log_rates_R, log_rates_R, length_scale) - across.T @ gain
            factor = np.linalg.cholesky(covariance + JITTER * SQUASH**2 * np.eye(len(log_rates_R)))
            parts.append(gain.T @ self.values_N + normals_BR[start:end] @ factor.T)
            start = end
        return np.concatenate(parts)


def fit(log_rates_N: Floats, values_N: Floats) -> LevelProcess:
    """Weigh the hyperparameters by marginal likelihood and the prior of the noise.

    Args:
        log_rates_N: log10 of the rates; replicates repeat theirs.
        values_N: squashed margins.
    """
    length_scales_G = np.repeat(LENGTH_SCALES, len(NOISE_SDS))
    noise_sds_G = np.tile(NOISE_SDS, len(LENGTH_SCALES))
    own_GNN = np.stack([kernel(log_rates_N, log_rates_N, one) for one in LENGTH_SCALES]).repeat(len(NOISE_SDS), axis=0)
    own_GNN = own_GNN + noise_sds_G[:, None, None] ** 2 * np.eye(len(values_N))
    factor_GNN = np.linalg.cholesky(own_GNN)
    whitened_GN = np.linalg.solve(factor_GNN, np.broadcast_to(values_N[:, None], (len(own_GNN), len(values_N), 1)))[
        ..., 0
    ]
    log_weight_G = (
        -0.5 * (whitened_GN**2).sum(axis=1)
        - np.log(np.diagonal(factor_GNN, axis1=1, axis2=2)).sum(axis=1)
        - 0.5 * (np.log(noise_sds_G / SEED_SD) / np.log(NOISE_FACTOR)) ** 2
    )
    weight_G = np.exp(log_weight_G - log_weight_G.max())
    keep = weight_G >= LEAST_WEIGHT * weight_G.sum()
    return LevelProcess(
        log_rates_N,
        values_N,
        length_scales_G[keep],
        noise_sds_G[keep],
        weight_G[keep] / weight_G[keep].sum(),
    )


def kernel(left_N: Floats, right_R: Floats, length_scale: float) -> Floats:
    """Matern-3/2 covariance (N, R) of the squashed curve, whose standard deviation is its bound, `SQUASH`."""
    distance = np.sqrt(3) * np.abs(left_N[:, None] - right_R[None]) / length_scale
    covariance: Floats = SQUASH**2 * (1 + distance) * np.exp(-distance)
    return covariance
