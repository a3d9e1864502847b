"""Forward Euler: the published sampler of TITO."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tito_fast.solvers.base import Advance, Stage, StageProgram, StepResult, VelocityField


@dataclass(frozen=True)
class Euler:
    """``x += h v(x, t)``."""

    order: ClassVar[int] = 1
    program: ClassVar[StageProgram] = StageProgram((0.0,), (1.0,))
    n_evaluations: ClassVar[int] = 1

    def step(self, field: VelocityField, x_t: Tensor, stage: Stage, advance: Advance) -> StepResult:
        """Return the state one step later."""
        velocity = field(x_t, stage.flow_time, stage.evaluation)
        return StepResult(
            advance(x_t, [velocity], weights=[1.0], step_size=stage.step_size), velocity
        )
