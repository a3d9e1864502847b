"""What a solver is, and the loop that drives one over a time grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from tito_fast.ops import ode_step
from tito_fast.validation import check_at_least, check_shape


class VelocityField(Protocol):
    """The right-hand side of ``dx/dt = v(x, t)``."""

    def __call__(self, x_t: Tensor, flow_time: float, evaluation: int) -> Tensor:
        """Return the velocity (n_atoms, 3); ``evaluation`` counts the calls of one integration."""
        ...


class Stage(NamedTuple):
    """What a step starts from."""

    flow_time: float
    step_size: float
    evaluation: int  # number of the first evaluation of this step
    previous_velocity: Tensor | None  # at the start of the step before, for multistep methods
    previous_step_size: float


class StepResult(NamedTuple):
    """What a step returns."""

    x_t: Tensor  # (n_atoms, 3)
    velocity: Tensor  # at the start of the step


@dataclass(frozen=True)
class Advance:
    """The fused state update ``x + h Σ w_k v_k``, centered per molecule if asked."""

    batch_ptr: Tensor
    center: bool

    def __call__(
        self,
        x_t: Tensor,
        velocities: Sequence[Tensor],
        *,
        weights: Sequence[float],
        step_size: float,
    ) -> Tensor:
        """Return the new state, (n_atoms, 3)."""
        return ode_step(
            x_t,
            torch.stack(list(velocities)),
            weights=weights,
            step_size=step_size,
            batch_ptr=self.batch_ptr,
            center=self.center,
        )


class StageProgram(NamedTuple):
    """A method as data, for kernels that take whole steps.

    Stage ``s`` is taken at ``x + h shares[s] v_{s−1}`` and the time ``t + h shares[s]``; the step is
    ``h Σ_s weights[s] v_s``. A multistep method has one stage and is Adams–Bashforth of order 2.
    """

    shares: tuple[float, ...]
    weights: tuple[float, ...]
    is_multistep: bool = False


class Solver(Protocol):
    """A method of fixed order for one step."""

    @property
    def program(self) -> StageProgram | None:
        """The method as data; None if it is none of that kind."""
        ...

    @property
    def order(self) -> int:
        """Order of the global error."""
        ...

    @property
    def n_evaluations(self) -> int:
        """Evaluations of the velocity per step."""
        ...

    def step(self, field: VelocityField, x_t: Tensor, stage: Stage, advance: Advance) -> StepResult:
        """Return the state one step later."""
        ...


def uniform_grid(n_ode_steps: int) -> tuple[float, ...]:
    """Return ``0, 1/n, …, 1``.

    Examples
    --------
    >>> uniform_grid(4)
    (0.0, 0.25, 0.5, 0.75, 1.0)
    """
    check_at_least("n_ode_steps", n_ode_steps, 1)
    return tuple(index / n_ode_steps for index in range(n_ode_steps + 1))


def integrate(
    field: VelocityField,
    x_0: Tensor,
    *,
    solver: Solver,
    time_grid: Sequence[float],
    batch_ptr: Tensor,
    center: bool = True,
) -> Tensor:
    """Return the solution at the end of ``time_grid``.

    Parameters
    ----------
    field : VelocityField
    x_0 : Tensor, shape (n_atoms, 3)
        State at ``time_grid[0]``.
    solver : Solver
    time_grid : sequence of float
        Strictly increasing; one step from each to the next.
    batch_ptr : Tensor, shape (n_molecules + 1,), int64
    center : bool
        Center each molecule after every step.

    Returns
    -------
    Tensor, shape (n_atoms, 3)

    Raises
    ------
    ValueError
        If the grid has fewer than two times or does not increase.

    Notes
    -----
    No host synchronization: times and weights are host numbers.
    """
    check_shape("x_0", x_0, ("n_atoms", 3))
    check_time_grid(time_grid)
    advance = Advance(batch_ptr, center)
    x_t, previous, previous_size, evaluation = x_0, None, 0.0, 0
    for start, end in pairwise(time_grid):
        stage = Stage(start, end - start, evaluation, previous, previous_size)
        x_t, previous = solver.step(field, x_t, stage, advance)
        previous_size = end - start
        evaluation += solver.n_evaluations
    return x_t


def check_time_grid(time_grid: Sequence[float]) -> None:
    """Raise ``ValueError`` unless there are two times or more and they increase."""
    if len(time_grid) < 2 or any(end <= start for start, end in pairwise(time_grid)):
        raise ValueError(f"time_grid: expected two or more increasing times, got {list(time_grid)}")
