"""Integration over a grid with the interface of the adaptive solver."""

import pytest
import torch

from tito_fast.solvers import SOLVERS, FixedGrid, integrate, uniform_grid

PTR = torch.tensor([0, 2, 3])
START = torch.tensor([[1.0, -0.5, 2.0], [0.3, 0.1, 0.2], [0.5, 0.6, -0.7]], dtype=torch.float64)


def field(x_t, flow_time):
    assert flow_time.shape == (2,)
    return torch.sin(x_t) * torch.cos(3 * flow_time[0])


@pytest.mark.parametrize("name", SOLVERS)
def test_forward_it_is_the_solver_over_a_uniform_grid(name):
    found = FixedGrid(solver=SOLVERS[name], n_ode_steps=5).solve(
        field, START, batch_ptr=PTR, start=0.0, end=1.0
    )
    expected = integrate(
        lambda x_t, time, _: field(x_t, torch.full((2,), time, dtype=torch.float64)),
        START,
        solver=SOLVERS[name],
        time_grid=uniform_grid(5),
        batch_ptr=PTR,
        center=False,
    )
    assert torch.equal(found.x_t, expected)
    assert found.n_evaluations == 5 * SOLVERS[name].n_evaluations
    assert (found.n_steps.tolist(), found.n_rejected.tolist()) == ([5, 5], [0, 0])


@pytest.mark.parametrize("name", ["rk4", "ab2"])
def test_backward_it_returns_to_the_start(name):
    grid = FixedGrid(solver=SOLVERS[name], n_ode_steps=400)
    there = grid.solve(field, START, batch_ptr=PTR, start=0.2, end=0.5).x_t
    assert (there - START).abs().max() > 0.1
    back = grid.solve(field, there, batch_ptr=PTR, start=0.5, end=0.2).x_t
    torch.testing.assert_close(back, START, rtol=1e-5, atol=1e-5)


def test_wrong_arguments_are_refused():
    grid = FixedGrid(solver=SOLVERS["euler"], n_ode_steps=1)
    with pytest.raises(ValueError, match=r"x_0: expected shape \(n_atoms, 3\)"):
        grid.solve(field, START[:, :2], batch_ptr=PTR, start=0.0, end=1.0)
