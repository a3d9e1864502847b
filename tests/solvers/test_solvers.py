"""Solvers: order of convergence, counts of evaluations, arguments."""

import math

import pytest
import torch

from tito_fast.solvers import SOLVERS, integrate, solver_by_name, uniform_grid

ONE_ATOM = torch.tensor([0, 1])


class Counting:
    """A field that counts its calls: ``dx/dt = x cos(t)`` with solution ``x_0 exp(sin t)``."""

    def __init__(self):
        self.calls = []

    def __call__(self, x_t, flow_time, evaluation):
        self.calls.append((flow_time, evaluation))
        return x_t * math.cos(flow_time)


def error_of(solver, time_grid):
    x_0 = torch.tensor([[1.0, -0.5, 2.0]], dtype=torch.float64)
    end = integrate(
        Counting(), x_0, solver=solver, time_grid=time_grid, batch_ptr=ONE_ATOM, center=False
    )
    return (end - x_0 * math.exp(math.sin(time_grid[-1]))).abs().max().item()


@pytest.mark.parametrize("name", SOLVERS)
def test_halving_the_step_divides_the_error_by_two_to_the_order(name):
    solver = solver_by_name(name)
    coarse, fine = (error_of(solver, uniform_grid(n)) for n in (160, 320))
    assert math.log2(coarse / fine) == pytest.approx(solver.order, abs=0.25)


@pytest.mark.parametrize("name", SOLVERS)
def test_a_grid_of_uneven_steps_keeps_the_order(name):
    solver = solver_by_name(name)
    grids = [tuple((i / n) ** 1.5 for i in range(n + 1)) for n in (160, 320)]
    coarse, fine = (error_of(solver, grid) for grid in grids)
    assert math.log2(coarse / fine) == pytest.approx(solver.order, abs=0.35)


@pytest.mark.parametrize("name", SOLVERS)
def test_evaluations_are_counted_and_numbered_without_gaps(name):
    solver, field = solver_by_name(name), Counting()
    integrate(field, torch.ones(1, 3), solver=solver, time_grid=uniform_grid(5), batch_ptr=ONE_ATOM)
    assert [evaluation for _, evaluation in field.calls] == list(range(5 * solver.n_evaluations))
    assert max(time for time, _ in field.calls) <= 1.0


def test_euler_never_evaluates_the_end():
    field = Counting()
    integrate(
        field,
        torch.ones(1, 3),
        solver=SOLVERS["euler"],
        time_grid=uniform_grid(4),
        batch_ptr=ONE_ATOM,
    )
    assert [time for time, _ in field.calls] == [0.0, 0.25, 0.5, 0.75]


def test_centering_removes_each_molecules_mean():
    x_0 = torch.randn(5, 3, dtype=torch.float64)
    end = integrate(
        lambda x_t, *_: x_t + 1.0,
        x_0,
        solver=SOLVERS["heun"],
        time_grid=uniform_grid(3),
        batch_ptr=torch.tensor([0, 2, 5]),
    )
    for part in (end[:2], end[2:]):
        assert part.mean(0).abs().max() < 1e-14


def test_bad_arguments_are_refused():
    field, x_0 = Counting(), torch.ones(1, 3)
    with pytest.raises(ValueError, match="solver: expected one of euler, midpoint, heun, rk4, ab2"):
        solver_by_name("dopri5")
    with pytest.raises(ValueError, match="n_ode_steps: expected at least 1, got 0"):
        uniform_grid(0)
    for grid in ((0.0,), (0.0, 0.5, 0.5), (1.0, 0.0)):
        with pytest.raises(ValueError, match="time_grid: expected two or more increasing times"):
            integrate(field, x_0, solver=SOLVERS["euler"], time_grid=grid, batch_ptr=ONE_ATOM)
    with pytest.raises(ValueError, match="x_0: expected shape"):
        integrate(
            field, torch.ones(3), solver=SOLVERS["euler"], time_grid=(0.0, 1.0), batch_ptr=ONE_ATOM
        )
