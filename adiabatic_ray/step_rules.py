"""How a gradient becomes a step: the optimizers, schedules and precisions of a trial, and what goes together.

Names are what a sweep file says, so that a grid reads `{"tuning.optimizer": ("adamw", "sgd")}`. A user's own optimizer
or schedule is named by import path, `package.module:callable`. That is trusted code: it is imported and called wherever
a trial is checked or tuned, must be importable there, and a trial's identity holds its path and not its content.

Own optimizer: called with a list of parameters and `lr=` the rate, gives a `torch.optim.Optimizer`.
Own schedule: called with the step t (0 is the first one), gives the factor by which the rate is multiplied, 0 or more.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from adiabatic_ray.sources import Frozen

Precision = Literal["float32", "compensated", "float64"]
"""What a step is added in. `compensated`: float32 weights, and a second tensor for the part of the steps that rounding
loses (Kahan 1965). `float64`: weights and optimizer state; the encoder runs on their float32 roundings."""

OPTIMIZERS = ("adamw", "adamax", "adadelta", "sgd")
"""Those of the paper's Table 20 and Figure 14."""
SCHEDULES = ("constant", "linear", "quadratic", "E0.95", "E0.98")
"""No schedule, and the four of the paper's Table 19, there L, Q, E0.95, E0.98."""
SCHEDULES_WITH_END = ("linear", "quadratic")
"""Those that need to know T, the total number of steps."""
PRECISE_OPTIMIZERS = ("adamw", "adamax", "sgd")
"""Those that have steps of more than float32."""
OPTIMIZERS_WITH_BETAS = ("adamw", "adamax")

_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def is_import_path(name: str) -> bool:
    """Whether a name is a user's own code, `package.module:callable`."""
    return _IMPORT_PATH.fullmatch(name) is not None


def _optimizer(name: str) -> str:
    return _known(name, OPTIMIZERS)


def _schedule(name: str) -> str:
    return _known(name, SCHEDULES)


def _known(name: str, choices: tuple[str, ...]) -> str:
    if name not in choices and not is_import_path(name):
        raise ValueError(f"choose from {', '.join(choices)}, or give your own as package.module:callable, got {name!r}")
    return name


OptimizerName = Annotated[str, AfterValidator(_optimizer)]
ScheduleName = Annotated[str, AfterValidator(_schedule)]


class StepRules(Frozen):
    """The part of a trial's tuning that says how weights follow gradients. Defaults are the paper's regime."""

    learning_rate: float = Field(5e-8, ge=0, allow_inf_nan=False, description="step scale; 0 is the control")
    optimizer: OptimizerName = Field(
        "adamw", description="adamw, adamax, adadelta, sgd (paper, Table 20 and Figure 14), or your own by import path"
    )
    adam_betas: tuple[float, float] = Field(
        (0.9, 0.999),
        description="of adamw and adamax, each in [0, 1). Torch's defaults, which the paper keeps; its Adamax without "
        "momentum has (0, 0), Table 20",
    )
    adam_epsilon: float = Field(1e-8, gt=0, allow_inf_nan=False, description="of adamw and adamax; torch's default")
    momentum: float = Field(0.0, ge=0, lt=1, description="of sgd; the paper's Figure 14 has none")
    weight_decay: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="of adamw: decoupled; the paper's default has none"
    )
    precision: Precision = Field("float32", description="what steps are added in: float32, compensated, float64")
    schedule: ScheduleName = Field(
        "constant", description="of the rate: constant, linear, quadratic, E0.95, E0.98 (Table 19), or your own"
    )
    schedule_steps: int | None = Field(
        None, ge=1, description="T of linear and quadratic, in steps; none: max_epochs * batches_per_epoch"
    )

    def step_problems(self) -> list[str]:
        """What is out of range or does not go together, one text each: the rule, what was got, the fix."""
        problems = []
        if not all(0 <= beta < 1 for beta in self.adam_betas):
            problems.append(f"adam_betas must lie in [0, 1), got {self.adam_betas}; torch's are (0.9, 0.999)")
        if self.precision != "float32" and self.optimizer not in PRECISE_OPTIMIZERS:
            problems.append(
                f"precision {self.precision!r} is there for {', '.join(PRECISE_OPTIMIZERS)}, got optimizer "
                f"{self.optimizer!r}; set precision to 'float32' or choose one of those"
            )
        owners = {
            "adam_betas": OPTIMIZERS_WITH_BETAS,
            "adam_epsilon": OPTIMIZERS_WITH_BETAS,
            "momentum": ("sgd",),
            "weight_decay": ("adamw",),
        }
        for name, owner in owners.items():
            value = getattr(self, name)
            if self.optimizer not in owner and value != StepRules.model_fields[name].default:
                problems.append(
                    f"{name} is of {' and '.join(owner)}, got {value} with optimizer {self.optimizer!r}, which would "
                    "ignore it; leave it out"
                )
        return problems


def schedule_problems(schedule: str, schedule_steps: int | None, max_epochs: int | None) -> list[str]:
    """What is wrong with a schedule's length, one text each."""
    needs_end = schedule in SCHEDULES_WITH_END
    if needs_end and schedule_steps is None and max_epochs is None:
        return [
            f"schedule {schedule!r} falls to 0 after its last step and must know it, got neither schedule_steps nor "
            "max_epochs; set one of them"
        ]
    if not needs_end and schedule_steps is not None:
        return [f"schedule_steps is of {' and '.join(SCHEDULES_WITH_END)}, got schedule {schedule!r}; leave it out"]
    return []
