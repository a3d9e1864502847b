"""Heun's method: the explicit trapezoidal rule."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tito_fast.solvers.base import Advance, Stage, StageProgram, StepResult, VelocityField


@dataclass(frozen=True)
class Heun:
    """``x += h/2 (v_1 + v_2)`` with ``v_2`` taken at the Euler step."""

    order: ClassVar[int] = 2
    program: ClassVar[StageProgram] = StageProgram((0.0, 1.0), (0.5, 0.5))
    n_evaluations: ClassVar[int] = 2

    def step(self, field: VelocityField, x_t: Tensor, stage: Stage, advance: Advance) -> StepResult:
        """Return the state one step later."""
        t, h, count = stage.flow_time, stage.step_size, stage.evaluation
        first = field(x_t, t, count)
        end = advance(x_t, [first], weights=[1.0], step_size=h)
        second = field(end, t + h, count + 1)
        return StepResult(advance(x_t, [first, second], weights=[0.5, 0.5], step_size=h), first)
