"""Steps of 1e-8 that float32 loses and the precise ones keep, against torch's optimizers in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.tuning.optim import build_optimizer, set_rate

RATE = 1e-8
NUM_STEPS = 10_000
DISPLACEMENT_FRAC = 1e-6
"""Distance from the reference, relative to the way that the reference went."""
PRECISIONS = ("float32", "compensated", "float64")
KINDS: dict[str, dict[str, Any]] = {
    "AdamW": {"optimizer": "adamw"},
    "AdamW with decay": {"optimizer": "adamw", "weight_decay": 0.1},
    "Adamax": {"optimizer": "adamax"},
    "Adamax without momentum": {"optimizer": "adamax", "adam_betas": (0.0, 0.0)},
    "SGD": {"optimizer": "sgd"},
    "SGD with momentum": {"optimizer": "sgd", "momentum": 0.9},
}


def _weights() -> torch.Tensor:
    """As in E5: most weights around 0.05, gains around 1, a few of several units, zeros of both signs."""
    draw = torch.Generator().manual_seed(0)
    weights = torch.cat(
        [0.05 * torch.randn(120, generator=draw), 1 + 0.3 * torch.randn(40, generator=draw), torch.full((8,), 3.7)]
    )
    return torch.cat([weights, torch.tensor([0.0, -0.0])])


def _reference(spec: TuningSpec, weights: torch.nn.Parameter) -> torch.optim.Optimizer:
    if spec.optimizer == "adamw":
        return torch.optim.AdamW([weights], lr=RATE, betas=spec.adam_betas, weight_decay=spec.weight_decay)
    if spec.optimizer == "adamax":
        return torch.optim.Adamax([weights], lr=RATE, betas=spec.adam_betas)
    return torch.optim.SGD([weights], lr=RATE, momentum=spec.momentum)


def _follow(kind: str) -> dict[str, np.ndarray]:
    """The same float32 gradients under every precision; what each comes to, in float64, unrounded where it is kept."""
    specs = {name: TuningSpec(learning_rate=RATE, precision=name, **KINDS[kind]) for name in PRECISIONS}  # type: ignore[arg-type]
    weights = {name: torch.nn.Parameter(_weights()) for name in PRECISIONS}
    optimizers = {name: build_optimizer([weights[name]], specs[name]) for name in PRECISIONS}
    exact = torch.nn.Parameter(_weights().double())
    reference = _reference(specs["float32"], exact)
    draw = torch.Generator().manual_seed(1)
    drift = torch.randn(exact.shape, generator=draw)
    scale = 1e-3 if "Adam" in kind else 1.0  # SGD's step is the gradient itself
    for step in range(NUM_STEPS):
        gradient = scale * (torch.randn(exact.shape, generator=draw) + 0.5 * drift)
        for name, optimizer in optimizers.items():
            weights[name].grad = gradient.clone()
            set_rate(optimizer, RATE, step)
            optimizer.step()
        exact.grad = gradient.double()
        reference.step()
    sums = {name: one.detach().double() for name, one in weights.items()}
    for name in ("compensated", "float64"):
        sums[name] = sums[name] + optimizers[name].left_out(weights[name]).double()  # type: ignore[attr-defined]
    return {
        "start": _weights().double().numpy(),
        "reference": exact.detach().numpy(),
        "compensated float32": weights["compensated"].detach().numpy(),
        **{name: one.numpy() for name, one in sums.items()},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_precise_steps_follow_the_reference_where_float32_does_not(kind: str) -> None:
    found = _follow(kind)
    way = np.linalg.norm(found["reference"] - found["start"])
    apart = {name: np.linalg.norm(found[name] - found["reference"]) / way for name in PRECISIONS}
    assert way > 1e-6, "a way worth looking at"
    assert apart["compensated"] < DISPLACEMENT_FRAC
    assert apart["float64"] < 1e-8  # the reference's own 1 - 1e-9 is off by 1e-7 of the decay
    assert apart["float32"] > 0.1
    # What the encoder sees is the reference, rounded; where that lies at the middle of two numbers, its neighbour.
    alike = found["compensated float32"] == found["reference"].astype(np.float32)
    assert alike.mean() > 0.95
