"""Solvers of flows and samplers of diffusion models, one method a file."""

from typing import Final, Literal, get_args

from tito_fast.solvers.ab2 import AdamsBashforth2
from tito_fast.solvers.base import Solver, VelocityField, integrate, uniform_grid
from tito_fast.solvers.ddpm import ddpm_sample
from tito_fast.solvers.diffusion_base import DiffusionSchedule, NoiseField
from tito_fast.solvers.dpm_solver import dpm_solver_sample
from tito_fast.solvers.euler import Euler
from tito_fast.solvers.heun import Heun
from tito_fast.solvers.midpoint import Midpoint
from tito_fast.solvers.rk4 import RungeKutta4
from tito_fast.validation import check_choice

SolverName = Literal["euler", "midpoint", "heun", "rk4", "ab2"]

SOLVERS: Final[dict[str, Solver]] = {
    "euler": Euler(),
    "midpoint": Midpoint(),
    "heun": Heun(),
    "rk4": RungeKutta4(),
    "ab2": AdamsBashforth2(),
}
"""Every solver of flows by its name on the command line."""

DiffusionSolverName = Literal["ddpm", "dpm-solver++"]
DIFFUSION_SOLVERS: Final[tuple[DiffusionSolverName, ...]] = get_args(DiffusionSolverName)
"""Every sampler of noise-predicting models by its name on the command line."""


def solver_by_name(name: str) -> Solver:
    """Return the solver called ``name``; raise ``ValueError`` with the names there are."""
    check_choice("solver", name, SOLVERS)
    return SOLVERS[name]


__all__ = [
    "DIFFUSION_SOLVERS",
    "SOLVERS",
    "DiffusionSchedule",
    "DiffusionSolverName",
    "NoiseField",
    "Solver",
    "SolverName",
    "VelocityField",
    "ddpm_sample",
    "dpm_solver_sample",
    "integrate",
    "solver_by_name",
    "uniform_grid",
]
