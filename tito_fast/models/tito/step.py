"""What a backend that takes whole rollout steps needs to know of one."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from tito_fast.solvers.base import Solver, StageProgram
from tito_fast.types import VectorStart


@dataclass(frozen=True, kw_only=True)
class StepNoise:
    """Counters of the noise of one rollout step.

    Parameters
    ----------
    keys, replicas : Tensor, shape (n_molecules,), int64
    rollout_step : int
    """

    keys: Tensor
    replicas: Tensor
    rollout_step: int


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """How a rollout step is integrated.

    Parameters
    ----------
    time_grid : tuple of float
    solver : Solver
        One that is a `StageProgram`.
    vector_start : "randn" | "randn_fixed" | "zeros" | "condition"
    base_std : float
    center : bool
    """

    time_grid: tuple[float, ...]
    solver: Solver
    vector_start: VectorStart
    base_std: float
    center: bool

    @property
    def program(self) -> StageProgram:
        """The solver as data."""
        if self.solver.program is None:
            raise ValueError("solver: expected one that is a program of stages, got another")
        return self.solver.program

    def evaluation_times(self) -> list[float]:
        """Return the flow time of every evaluation, in order."""
        return [
            start + share * (end - start)
            for start, end in pairwise(self.time_grid)
            for share in self.program.shares
        ]
