"""Adams–Bashforth of second order: two orders for one evaluation per step."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tito_fast.solvers.base import Advance, Stage, StageProgram, StepResult, VelocityField


@dataclass(frozen=True)
class AdamsBashforth2:
    """``x += h ((1 + r/2) v_n − r/2 v_{n−1})`` with r the ratio of this step to the one before.

    The first step is Euler's: one local error of second order leaves the global order at two.
    """

    order: ClassVar[int] = 2
    program: ClassVar[StageProgram] = StageProgram((0.0,), (1.0,), is_multistep=True)
    n_evaluations: ClassVar[int] = 1

    def step(self, field: VelocityField, x_t: Tensor, stage: Stage, advance: Advance) -> StepResult:
        """Return the state one step later."""
        h = stage.step_size
        velocity = field(x_t, stage.flow_time, stage.evaluation)
        if stage.previous_velocity is None:
            return StepResult(advance(x_t, [velocity], weights=[1.0], step_size=h), velocity)
        half_ratio = 0.5 * h / stage.previous_step_size
        x_new = advance(
            x_t,
            [velocity, stage.previous_velocity],
            weights=[1.0 + half_ratio, -half_ratio],
            step_size=h,
        )
        return StepResult(x_new, velocity)
