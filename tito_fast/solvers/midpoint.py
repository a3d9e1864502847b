"""The explicit midpoint rule."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tito_fast.solvers.base import Advance, Stage, StageProgram, StepResult, VelocityField


@dataclass(frozen=True)
class Midpoint:
    """``x += h v(x + h/2 v(x, t), t + h/2)``."""

    order: ClassVar[int] = 2
    program: ClassVar[StageProgram] = StageProgram((0.0, 0.5), (0.0, 1.0))
    n_evaluations: ClassVar[int] = 2

    def step(self, field: VelocityField, x_t: Tensor, stage: Stage, advance: Advance) -> StepResult:
        """Return the state one step later."""
        t, h, count = stage.flow_time, stage.step_size, stage.evaluation
        first = field(x_t, t, count)
        middle = advance(x_t, [first], weights=[0.5], step_size=h)
        second = field(middle, t + 0.5 * h, count + 1)
        return StepResult(advance(x_t, [second], weights=[1.0], step_size=h), first)
