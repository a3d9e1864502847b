"""Integration over a uniform grid, forward or backward, of fields that want a time for each molecule."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tito_fast.solvers.base import Solver, integrate, uniform_grid
from tito_fast.solvers.dormand_prince import AdaptiveResult, TimedField
from tito_fast.validation import check_at_least, check_shape


@dataclass(frozen=True, kw_only=True)
class FixedGrid:
    """A method of fixed order on a uniform grid, with the interface of :class:`DormandPrince`.

    Parameters
    ----------
    solver : Solver
        As :func:`tito_fast.solvers.solver_by_name` gives it.
    n_ode_steps : int
    """

    solver: Solver
    n_ode_steps: int

    def __post_init__(self) -> None:
        """Check ranges."""
        check_at_least("n_ode_steps", self.n_ode_steps, 1)

    def solve(
        self, field: TimedField, x_0: Tensor, *, batch_ptr: Tensor, start: float, end: float
    ) -> AdaptiveResult:
        """Return the solution at ``end`` (backward in time where that is less), uncentered.

        Parameters
        ----------
        field : TimedField
        x_0 : Tensor, shape (n_atoms, 3)
            State at ``start``.
        batch_ptr : Tensor, shape (n_molecules + 1,), int64
        start, end : float

        Returns
        -------
        AdaptiveResult
            With no rejected steps.
        """
        check_shape("x_0", x_0, ("n_atoms", 3))
        span = end - start
        n_molecules = batch_ptr.shape[0] - 1
        steps = torch.zeros(n_molecules, dtype=torch.int64, device=x_0.device)

        def along(x_t: Tensor, flow_time: float, evaluation: int) -> Tensor:
            del evaluation
            # Solvers know grids that increase only: here one of the share that is done.
            return span * field(x_t, x_t.new_full((n_molecules,), start + flow_time * span))

        with torch.no_grad():
            x_t = integrate(
                along,
                x_0,
                solver=self.solver,
                time_grid=uniform_grid(self.n_ode_steps),
                batch_ptr=batch_ptr,
                center=False,
            )
        return AdaptiveResult(
            x_t, self.n_ode_steps * self.solver.n_evaluations, steps + self.n_ode_steps, steps
        )
