"""The classical Runge–Kutta method of fourth order."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tito_fast.solvers.base import Advance, Stage, StageProgram, StepResult, VelocityField


@dataclass(frozen=True)
class RungeKutta4:
    """``x += h/6 (v_1 + 2 v_2 + 2 v_3 + v_4)``."""

    order: ClassVar[int] = 4
    program: ClassVar[StageProgram] = StageProgram(
        (0.0, 0.5, 0.5, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)
    )
    n_evaluations: ClassVar[int] = 4

    def step(self, field: VelocityField, x_t: Tensor, stage: Stage, advance: Advance) -> StepResult:
        """Return the state one step later."""
        t, h, count = stage.flow_time, stage.step_size, stage.evaluation
        stages = [field(x_t, t, count)]
        for index, share in ((1, 0.5), (2, 0.5), (3, 1.0)):
            x_stage = advance(x_t, [stages[-1]], weights=[share], step_size=h)
            stages.append(field(x_stage, t + share * h, count + index))
        x_new = advance(x_t, stages, weights=[1 / 6, 1 / 3, 1 / 3, 1 / 6], step_size=h)
        return StepResult(x_new, stages[0])
