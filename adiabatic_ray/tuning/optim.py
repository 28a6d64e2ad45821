"""Optimizers of the tuning loop."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from adiabatic_ray.spec import TuningSpec


def build_optimizer(parameters: Iterable[torch.nn.Parameter], spec: TuningSpec) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) as torch has it: decay multiplies a weight by 1 - rate * weight_decay.

    At rates near 5e-8 that factor is exactly 1 in float32 for every decay below 0.6, and a step can be smaller than
    the spacing of the numbers it is added to: see `drift`.
    """
    parameters = list(parameters)
    on_gpu = bool(parameters) and parameters[0].device.type == "cuda"
    return torch.optim.AdamW(
        parameters,
        lr=spec.learning_rate,
        betas=spec.adam_betas,
        eps=spec.adam_epsilon,
        weight_decay=spec.weight_decay,
        fused=True,
        capturable=on_gpu,  # a step that is replayed as a graph counts itself on the device
    )
