"""The optimizer of a trial, and how it is told the rate of each step.

On a GPU a step is captured once and replayed (`device_work`), so what changes must lie in tensors on the device: a
step's number (`capturable`), and the rate of a trial with a schedule.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim import SGD, Adadelta, Adamax, AdamW, Optimizer

from adiabatic_ray.spec import TuningSpec
from adiabatic_ray.step_rules import is_import_path
from adiabatic_ray.tuning.own_code import import_callable
from adiabatic_ray.tuning.precise_steps import PreciseOptimizer


def build_optimizer(parameters: Iterable[torch.nn.Parameter], spec: TuningSpec) -> Optimizer:
    """What the specification asks for: torch's own in float32, `PreciseOptimizer` above, or a user's.

    AdamW (Loshchilov & Hutter 2019) multiplies a weight by 1 - rate * weight_decay. At rates near 5e-8 that factor is
    exactly 1 in float32 for every decay below 0.6, and a step can be smaller than the spacing of the numbers it is
    added to: see `step_resolution`. Adadelta (Zeiler 2012) keeps torch's rho of 0.9 and epsilon of 1e-6.

    Raises:
        ValueError: an import path that names nothing to call, or a call that raises or gives no optimizer.
    """
    parameters = list(parameters)
    if spec.precision != "float32":
        return PreciseOptimizer(parameters, spec)
    if is_import_path(spec.optimizer):
        return _own(parameters, spec)
    on_gpu = bool(parameters) and parameters[0].device.type == "cuda"
    rate: Any = spec.learning_rate
    if on_gpu and spec.schedule != "constant":
        rate = torch.tensor(rate, device=parameters[0].device)
    if spec.optimizer == "adamw":
        return AdamW(
            parameters,
            lr=rate,
            betas=spec.adam_betas,
            eps=spec.adam_epsilon,
            weight_decay=spec.weight_decay,
            fused=True,
            capturable=on_gpu,
        )
    if spec.optimizer == "adamax":
        return Adamax(parameters, lr=rate, betas=spec.adam_betas, eps=spec.adam_epsilon, capturable=on_gpu)
    if spec.optimizer == "adadelta":
        return Adadelta(parameters, lr=rate, capturable=on_gpu)
    return SGD(parameters, lr=rate, momentum=spec.momentum, fused=on_gpu)


def set_rate(optimizer: Optimizer, learning_rate: float, num_steps: int) -> None:
    """Say what the next step's rate is; nothing is read back from a device.

    Args:
        optimizer: of `build_optimizer`.
        learning_rate: of the step.
        num_steps: taken before it.
    """
    if isinstance(optimizer, PreciseOptimizer):
        optimizer.get_ready(learning_rate, num_steps)
        return
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(learning_rate)
        else:
            group["lr"] = learning_rate


def check_optimizer(spec: TuningSpec) -> None:
    """Take a step with a user's own optimizer, on two weights.

    Raises:
        ValueError: as `build_optimizer`, or a step raises, or keeps anything but tensors, each with its parameter: the
            trial could not go on after an interruption then.
    """
    if not is_import_path(spec.optimizer):
        return
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = build_optimizer([parameter], spec)
    before = [{key: group[key] for key in group if key != "params"} for group in optimizer.param_groups]
    try:
        parameter.grad = torch.ones(2)
        optimizer.step()
    except Exception as error:
        raise ValueError(
            f"tuning.optimizer must take a step from gradients alone, got {spec.optimizer!r}, which raised "
            f"{type(error).__name__}: {error}; mend it"
        ) from error
    after = [{key: group[key] for key in group if key != "params"} for group in optimizer.param_groups]
    others = sorted(key for key, value in optimizer.state[parameter].items() if not isinstance(value, torch.Tensor))
    if others or after != before:
        raise ValueError(
            "tuning.optimizer must keep its state as tensors of its parameters, or a trial can't be saved, got "
            f"{spec.optimizer!r}, which keeps {others or 'some in its groups'} otherwise; use another optimizer"
        )


def _own(parameters: list[torch.nn.Parameter], spec: TuningSpec) -> Optimizer:
    build = import_callable(spec.optimizer, "tuning.optimizer")
    try:
        optimizer = build(parameters, lr=spec.learning_rate)
    except Exception as error:
        raise ValueError(
            f"tuning.optimizer must take a list of parameters and lr, got {spec.optimizer!r}, which raised "
            f"{type(error).__name__}: {error}; mend it"
        ) from error
    if not isinstance(optimizer, Optimizer):
        raise ValueError(
            f"tuning.optimizer must give a torch.optim.Optimizer, got {type(optimizer).__name__} from "
            f"{spec.optimizer!r}; mend it"
        )
    return optimizer
