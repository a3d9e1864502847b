"""Densities of flows: exact where they are known, in the mean-free subspace, molecule by molecule."""

import math

import numpy as np
import pytest
import torch

from tests.flows.flow_cases import (
    N_ATOMS,
    PTR,
    SIZES,
    gaussian_field,
    normal_log_density,
    pair_field,
    positions,
    projection,
)
from tito_fast.analysis.reweighting import effective_sample_size, log_weights
from tito_fast.flows import (
    ExactDivergence,
    HutchinsonDivergence,
    base_samples,
    log_base_density,
    log_density_in_nm,
    log_likelihood,
    sample_with_log_density,
)
from tito_fast.solvers import DormandPrince, FixedGrid, solver_by_name

# Of torch itself, when the first forward derivative is taken.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

TIGHT = DormandPrince(relative_tolerance=1e-7, absolute_tolerance=1e-7)
LOOSE = DormandPrince(relative_tolerance=1e-4, absolute_tolerance=1e-4)
RK4 = FixedGrid(solver=solver_by_name("rk4"), n_ode_steps=24)


@pytest.mark.parametrize("solver", [TIGHT, RK4], ids=["adaptive", "grid"])
def test_a_gaussian_has_its_exact_density(solver):
    std = torch.tensor([0.5, 1.3, 2.0], dtype=torch.float64)
    x_1 = positions()
    found = log_likelihood(
        gaussian_field(1.5, std, PTR), x_1, batch_ptr=PTR, base_std=1.5, solver=solver
    )
    for value, part in zip(found.log_density.tolist(), x_1.split(SIZES), strict=True):
        centered = part - part.mean(0) if len(part) else part
        expected = normal_log_density(centered, std).item() if len(part) else 0.0
        assert value == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("solver", [TIGHT, RK4], ids=["adaptive", "grid"])
def test_a_linear_flow_changes_the_density_by_its_trace(solver):
    n_atoms, base_std = 4, 0.8
    generator = torch.Generator().manual_seed(1)
    rate = 0.4 * torch.randn(12, 12, generator=generator, dtype=torch.float64)
    x_1, batch_ptr = positions(n_atoms=n_atoms), torch.tensor([0, n_atoms])
    found = log_likelihood(
        lambda x, _: (rate @ x.flatten()).view(-1, 3),
        x_1,
        batch_ptr=batch_ptr,
        base_std=base_std,
        solver=solver,
    )
    p = projection(n_atoms)
    inside = p @ rate @ p
    x_0 = torch.linalg.matrix_exp(-inside) @ p @ x_1.flatten()
    std = torch.full((3,), base_std, dtype=torch.float64)
    expected = normal_log_density(x_0.view(-1, 3), std) - torch.trace(inside)
    assert found.log_density.item() == pytest.approx(expected.item(), abs=1e-5)
    torch.testing.assert_close(found.x_0, x_0.view(-1, 3), rtol=1e-5, atol=1e-5)


def test_the_base_density_integrates_to_one_on_its_subspace():
    # Two atoms: x = (u, −u), and the subspace is measured along √2 u, which has three dimensions.
    axis = torch.linspace(-6, 6, 61, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis, axis)
    x = torch.stack([points, -points], dim=1).reshape(-1, 3) / math.sqrt(2)
    batch_ptr = 2 * torch.arange(len(points) + 1)
    density = log_base_density(x, batch_ptr=batch_ptr, base_std=0.9).exp()
    assert density.sum().item() * 0.2**3 == pytest.approx(1.0, abs=1e-6)


def test_samples_have_the_density_that_their_likelihood_says():
    field = pair_field(PTR)
    x_0 = base_samples(PTR, base_std=0.7, seed=3, dtype=torch.float64)
    there = sample_with_log_density(field, x_0, batch_ptr=PTR, base_std=0.7, solver=TIGHT)
    back = log_likelihood(field, there.x_1, batch_ptr=PTR, base_std=0.7, solver=TIGHT)
    torch.testing.assert_close(there.log_density, back.log_density, rtol=0, atol=1e-5)
    torch.testing.assert_close(back.x_0, x_0, rtol=0, atol=1e-5)
    assert there.log_density.std() > 1  # it is no constant
    torch.testing.assert_close(
        there.log_density, there.log_base_density - there.divergence_integral
    )
    torch.testing.assert_close(
        there.log_base_density, log_base_density(x_0, batch_ptr=PTR, base_std=0.7)
    )


def test_the_density_does_not_change_with_rotation_or_translation():
    field, x_1 = pair_field(PTR), 0.5 * positions()
    solver = FixedGrid(solver=solver_by_name("rk4"), n_ode_steps=4)
    before = log_likelihood(field, x_1, batch_ptr=PTR, solver=solver).log_density
    turn, _ = torch.linalg.qr(positions(seed=7, n_atoms=3))
    moved = log_likelihood(field, x_1 @ turn + 3.0, batch_ptr=PTR, solver=solver).log_density
    torch.testing.assert_close(moved, before, rtol=0, atol=1e-10)
    # Not a constant of the molecules: another structure has another density.
    other = log_likelihood(field, 0.6 * x_1, batch_ptr=PTR, solver=solver).log_density
    assert (other - before).abs().max() > 0.1


def test_a_batch_equals_a_loop_over_its_molecules():
    x_1 = 0.5 * positions()
    together = log_likelihood(pair_field(PTR), x_1, batch_ptr=PTR, solver=LOOSE)
    for molecule, part in enumerate(x_1.split(SIZES)):
        batch_ptr = torch.tensor([0, len(part)])
        alone = log_likelihood(pair_field(batch_ptr), part, batch_ptr=batch_ptr, solver=LOOSE)
        torch.testing.assert_close(
            together.log_density[molecule], alone.log_density[0], rtol=1e-11, atol=1e-11
        )
        assert together.n_rejected[molecule] == alone.n_rejected[0]


def test_tolerances_bound_the_error_of_the_density():
    x_1 = 0.5 * positions()
    exact, loose = (
        log_likelihood(pair_field(PTR), x_1, batch_ptr=PTR, solver=solver).log_density
        for solver in (TIGHT, LOOSE)
    )
    assert 1e-8 < (loose - exact).abs().max() < 1e-2


def test_forward_mode_gives_the_same_density():
    x_1, solver = 0.5 * positions(), FixedGrid(solver=solver_by_name("heun"), n_ode_steps=2)
    reverse, forward = (
        log_likelihood(
            pair_field(PTR), x_1, batch_ptr=PTR, solver=solver, method=ExactDivergence(mode=mode)
        ).log_density
        for mode in ("reverse", "forward")
    )
    torch.testing.assert_close(forward, reverse, rtol=1e-10, atol=1e-10)


def test_hutchinsons_densities_scatter_about_the_exact_one():
    solver = FixedGrid(solver=solver_by_name("heun"), n_ode_steps=3)
    x_1 = 0.5 * positions()

    def density(method=None):
        return log_likelihood(
            pair_field(PTR), x_1, batch_ptr=PTR, solver=solver, method=method
        ).log_density

    exact = density()
    found = torch.stack([density(HutchinsonDivergence(seed=seed)) for seed in range(40)])
    standard_error = found.std(0) / 40**0.5
    assert ((found.mean(0) - exact).abs() <= 4 * standard_error + 1e-10).all()
    assert standard_error[0] > 1e-3


def test_a_flow_that_is_its_target_has_as_many_effective_samples_as_samples():
    n_samples, std = 100, torch.tensor([0.5, 1.3, 2.0], dtype=torch.float64)
    batch_ptr = 3 * torch.arange(n_samples + 1)
    drawn = sample_with_log_density(
        gaussian_field(1.5, std, batch_ptr),
        base_samples(batch_ptr, base_std=1.5, seed=0, dtype=torch.float64),
        batch_ptr=batch_ptr,
        base_std=1.5,
        solver=LOOSE,
    )
    squares = (drawn.x_1 / std).square().view(n_samples, -1).sum(1)
    energies = 0.5 * squares.numpy() + 42.0
    weights = log_weights(drawn.log_density.numpy(), energies)
    assert effective_sample_size(weights) == pytest.approx(n_samples, rel=1e-5)
    assert np.ptp(drawn.log_density.numpy()) > 5
    # Another target: fewer.
    other = log_weights(drawn.log_density.numpy(), 1.5 * energies)
    assert effective_sample_size(other) < 0.9 * n_samples


def test_base_samples_are_mean_free_and_follow_from_seed_and_number():
    x_0 = base_samples(PTR, base_std=2.0, seed=1)
    for part in x_0.split(SIZES):
        torch.testing.assert_close(part.sum(0), torch.zeros(3), rtol=0, atol=1e-5)
    last = base_samples(PTR[3:] - 3, base_std=2.0, seed=1, first_molecule=3)
    assert torch.equal(x_0[3:], last)
    assert not torch.equal(x_0, base_samples(PTR, base_std=2.0, seed=2))
    many = base_samples(5 * torch.arange(2001), base_std=2.0, seed=4)
    n_dimensions = 2000 * 12
    assert many.square().sum().item() / n_dimensions == pytest.approx(4.0, rel=0.05)


def test_the_density_per_nm_is_that_of_the_scaled_normal_density():
    unit_nm = 0.03
    x_1 = positions(n_atoms=5)
    batch_ptr = torch.tensor([0, 5])
    density = log_base_density(x_1, batch_ptr=batch_ptr, base_std=1.2)
    in_nm = log_density_in_nm(density, batch_ptr=batch_ptr, length_unit_nm=unit_nm)
    scaled = log_base_density(unit_nm * x_1, batch_ptr=batch_ptr, base_std=1.2 * unit_nm)
    torch.testing.assert_close(in_nm, scaled)


def test_float32_fields_are_called_in_float32():
    seen = set()
    exact = pair_field(PTR)

    def field(x_t, flow_time):
        seen.update({x_t.dtype, flow_time.dtype})
        return exact(x_t, flow_time)

    x_1 = 0.5 * positions(dtype=torch.float32)
    found = log_likelihood(field, x_1, batch_ptr=PTR, solver=LOOSE)
    assert seen == {torch.float32}
    assert found.x_0.dtype == torch.float32
    assert found.log_density.dtype == torch.float64
    expected = log_likelihood(exact, x_1.double(), batch_ptr=PTR, solver=LOOSE).log_density
    torch.testing.assert_close(found.log_density, expected, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"x_1": torch.zeros(N_ATOMS, 2)}, r"x_1: expected shape \(n_atoms, 3\)"),
        ({"base_std": 0.0}, "base_std: expected a value above zero"),
        ({"batch_ptr": torch.tensor([0, 3])}, "batch_ptr: expected non-decreasing starts"),
        ({"solver": DormandPrince(max_evaluations=8)}, "max_evaluations: expected"),
        ({"method": ExactDivergence(mode="forward"), "field": None}, "mode: expected .* forward"),
    ],
)
def test_wrong_arguments_are_refused(change, match):
    class Vanishing(torch.autograd.Function):
        @staticmethod
        def forward(_, x_t):
            return x_t.sin()

        @staticmethod
        def backward(_, grad):
            return grad

    options = {"x_1": positions(), "batch_ptr": PTR, "solver": LOOSE} | change
    field = pair_field(PTR)
    if "field" in options:
        options.pop("field")

        def field(x, _):
            return Vanishing.apply(x)

    x_1 = options.pop("x_1")
    with pytest.raises(ValueError, match=match):
        log_likelihood(field, x_1, **options)


@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda: log_base_density(positions(), batch_ptr=PTR, base_std=-1.0), "base_std: expected"),
        (lambda: base_samples(PTR, seed=-1), r"seed: expected 0 to 2\*\*63"),
        (lambda: base_samples(PTR, seed=0, first_molecule=-1), "first_molecule: expected at least"),
        (lambda: base_samples(PTR, seed=0, base_std=0.0), "base_std: expected"),
        (
            lambda: log_density_in_nm(torch.zeros(2), batch_ptr=PTR, length_unit_nm=1.0),
            r"log_density: expected shape \(4,\)",
        ),
        (
            lambda: log_density_in_nm(torch.zeros(4), batch_ptr=PTR, length_unit_nm=0.0),
            "length_unit_nm: expected",
        ),
        (lambda: FixedGrid(solver=solver_by_name("rk4"), n_ode_steps=0), "n_ode_steps: expected"),
    ],
)
def test_wrong_values_are_refused(function, match):
    with pytest.raises(ValueError, match=match):
        function()


def test_integers_are_refused():
    with pytest.raises(TypeError, match="x_1: expected dtype float32 or float64"):
        log_likelihood(
            pair_field(PTR), torch.zeros(N_ATOMS, 3, dtype=torch.int64), batch_ptr=PTR, solver=LOOSE
        )
