"""Solvers of ordinary differential equations, one method a file."""

from typing import Final, Literal

from tito_fast.solvers.ab2 import AdamsBashforth2
from tito_fast.solvers.base import Solver, VelocityField, integrate, uniform_grid
from tito_fast.solvers.dormand_prince import (
    AdaptiveResult,
    DormandPrince,
    TimedField,
    integrate_adaptive,
)
from tito_fast.solvers.euler import Euler
from tito_fast.solvers.fixed_grid import FixedGrid
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
"""Every solver by its name on the command line."""


def solver_by_name(name: str) -> Solver:
    """Return the solver called ``name``; raise ``ValueError`` with the names there are."""
    check_choice("solver", name, SOLVERS)
    return SOLVERS[name]


__all__ = [
    "SOLVERS",
    "AdaptiveResult",
    "DormandPrince",
    "FixedGrid",
    "Solver",
    "SolverName",
    "TimedField",
    "VelocityField",
    "integrate",
    "integrate_adaptive",
    "solver_by_name",
    "uniform_grid",
]
