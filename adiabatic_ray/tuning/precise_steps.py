"""Steps that float32 would lose: AdamW, Adamax and SGD on weights that hold more than float32.

A float32 weight of 1 has neighbours 6e-8 and 1.2e-7 away: a step below half of that is rounded off. Two ways out:

- compensated: float32 weights, and for each a float32 number with what they leave out of the sum of all steps (Kahan
  1965). It goes into the next step, until it is large enough to move the weight.
- float64: weights and the optimizer's state, rounded to float32 for the encoder.

Decay is a part of the step, so it is kept like the rest of it.

Moving averages are written a += (1 - beta) * (x - a): rounded to float32, beta itself would be wrong by up to 3e-8,
which of 1 - beta = 0.001 is 3e-5, with every step in the same direction. What changes from step to step lies in
tensors on the device, which a captured step reads again each time it is replayed: see `device_work`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from adiabatic_ray.step_rules import StepRules

Tensors = tuple[Tensor, ...] | list[Tensor]
_PORTION = 2**15
"""Weights that a CPU works on at a time: all that belongs to them fits its cache, and no memory is asked for anew."""


class PreciseOptimizer(torch.optim.Optimizer):
    """A rule of steps, on weights that keep what float32 would lose. `get_ready` comes before every step."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], spec: StepRules) -> None:
        """Begin at the weights that the parameters hold.

        Args:
            parameters: float32, all on one device.
            spec: with a precision above float32, and an optimizer that has one.
        """
        super().__init__(parameters, {})
        self._spec, self._is_compensated = spec, spec.precision == "compensated"
        self._dtype = torch.float32 if self._is_compensated else torch.float64
        self._parameters: list[Tensor] = self.param_groups[0]["params"]
        device = self._parameters[0].device
        for parameter in self._parameters:
            assert parameter.is_contiguous(), "portions of weights must be views"
            state = self.state[parameter]
            if self._is_compensated:
                state["compensation"] = torch.zeros_like(parameter)
            else:
                state["master"] = parameter.detach().to(torch.float64, copy=True)
            for name in _state_names(spec):
                state[name] = torch.zeros_like(parameter, dtype=self._dtype)
        self._numbers = {
            name: torch.zeros((), dtype=self._dtype, device=device) for name in _numbers(spec, spec.learning_rate, 0)
        }

    def get_ready(self, learning_rate: float, num_steps: int) -> None:
        """Set what the next step needs to know, as numbers on the device; never a part of what is captured.

        Args:
            learning_rate: of the step.
            num_steps: taken before it.
        """
        for name, value in _numbers(self._spec, learning_rate, num_steps).items():
            self._numbers[name].fill_(value)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Follow the parameters' gradients."""
        assert closure is None
        for portion in self._portions():
            weights, gradients = portion["weights"], [one.to(self._dtype) for one in portion["gradient"]]
            steps = _STEPS[self._spec.optimizer](self._spec, gradients, portion, self._numbers)
            masters = weights if self._is_compensated else portion["master"]
            if self._spec.weight_decay:
                torch._foreach_add_(steps, torch._foreach_mul(masters, self._numbers["minus_decay"]))
            if self._is_compensated:
                _add_compensated(weights, portion["compensation"], steps)
            else:
                torch._foreach_add_(masters, steps)
                torch._foreach_copy_(weights, masters)

    def left_out(self, parameter: Tensor) -> Tensor:
        """Sum of all steps minus what of it the float32 weights show, in the parameter's shape."""
        state = self.state[parameter]
        if self._is_compensated:
            return state["compensation"]  # type: ignore[no-any-return]
        return state["master"] - parameter.detach()  # type: ignore[no-any-return]

    def _portions(self) -> Iterator[dict[str, list[Tensor]]]:
        """Weights, gradients and states, by name and in one order: on a GPU all at once, on a CPU a cacheful each."""
        whole: list[dict[str, Tensor]] = []
        for parameter in self._parameters:
            assert parameter.grad is not None, "a step needs every gradient"
            whole.append({"weights": parameter.detach(), "gradient": parameter.grad, **self.state[parameter]})
        if whole[0]["weights"].device.type == "cuda":
            yield {name: [one[name] for one in whole] for name in whole[0]}
            return
        for one in whole:
            parts = {name: tensor.reshape(-1).split(_PORTION) for name, tensor in one.items()}  # type: ignore[no-untyped-call]
            for number in range(len(parts["weights"])):
                yield {name: [pieces[number]] for name, pieces in parts.items()}


def _state_names(spec: StepRules) -> tuple[str, ...]:
    """What an optimizer remembers of each tensor, by torch's names."""
    if spec.optimizer == "sgd":
        return ("momentum_buffer",) if spec.momentum else ()
    return ("exp_avg", "exp_inf" if spec.optimizer == "adamax" else "exp_avg_sq")


def _add_compensated(weights: Tensors, compensations: Tensors, steps: Tensors) -> None:
    """Add steps to the sum of weights and compensations; the steps are overwritten. Fast2Sum (Dekker 1971)."""
    torch._foreach_add_(compensations, steps)
    torch._foreach_copy_(steps, weights)
    torch._foreach_add_(weights, compensations)
    torch._foreach_sub_(steps, weights)  # minus what arrived
    torch._foreach_add_(compensations, steps)


def _numbers(spec: StepRules, learning_rate: float, num_steps: int) -> dict[str, float]:
    """What depends on the step, computed in float64: bias corrections of Kingma & Ba (2015), the rate, the decay."""
    beta_1, beta_2 = spec.adam_betas if spec.optimizer != "sgd" else (0.0, 0.0)
    return {
        "minus_rate": -learning_rate / (1 - beta_1 ** (num_steps + 1)),
        "root_correction": math.sqrt(1 - beta_2 ** (num_steps + 1)),
        "minus_decay": -learning_rate * spec.weight_decay,
    }


def _adamw(spec: StepRules, gradients: Tensors, states: Mapping[str, Tensors], numbers: Mapping[str, Tensor]) -> Any:
    """Loshchilov & Hutter (2019), without the decay."""
    beta_1, beta_2 = spec.adam_betas
    torch._foreach_lerp_(states["exp_avg"], gradients, 1 - beta_1)
    torch._foreach_lerp_(states["exp_avg_sq"], torch._foreach_mul(gradients, gradients), 1 - beta_2)
    roots = torch._foreach_sqrt(states["exp_avg_sq"])
    torch._foreach_div_(roots, numbers["root_correction"])
    torch._foreach_add_(roots, spec.adam_epsilon)
    steps = torch._foreach_div(states["exp_avg"], roots)
    torch._foreach_mul_(steps, numbers["minus_rate"])
    return steps


def _adamax(spec: StepRules, gradients: Tensors, states: Mapping[str, Tensors], numbers: Mapping[str, Tensor]) -> Any:
    """Kingma & Ba (2015), section 7.1, with torch's epsilon."""
    beta_1, beta_2 = spec.adam_betas
    torch._foreach_lerp_(states["exp_avg"], gradients, 1 - beta_1)
    largest = states["exp_inf"]
    torch._foreach_sub_(largest, torch._foreach_mul(largest, 1 - beta_2))
    sizes = torch._foreach_abs(gradients)
    torch._foreach_add_(sizes, spec.adam_epsilon)
    torch._foreach_maximum_(largest, sizes)
    steps = torch._foreach_div(states["exp_avg"], largest)
    torch._foreach_mul_(steps, numbers["minus_rate"])
    return steps


def _sgd(spec: StepRules, gradients: Tensors, states: Mapping[str, Tensors], numbers: Mapping[str, Tensor]) -> Any:
    """As torch has it: momentum without dampening."""
    if spec.momentum:
        velocities = states["momentum_buffer"]
        torch._foreach_sub_(velocities, torch._foreach_mul(velocities, 1 - spec.momentum))
        torch._foreach_add_(velocities, gradients)
        gradients = velocities
    return torch._foreach_mul(gradients, numbers["minus_rate"])


_STEPS = {"adamw": _adamw, "adamax": _adamax, "sgd": _sgd}
