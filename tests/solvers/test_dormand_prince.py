"""The adaptive solver: order, error control, direction, batches, limits."""

import itertools
import math

import pytest
import torch

from tito_fast.errors import NonFiniteError
from tito_fast.solvers import DormandPrince, integrate_adaptive

ONE_ATOM = torch.tensor([0, 1])
START = torch.tensor([[1.0, -0.5, 2.0]], dtype=torch.float64)


def growing(x_t, flow_time):
    """``dx/dt = x cos(5 t)`` with solution ``x_0 exp(sin(5 t) / 5)``."""
    return x_t * torch.cos(5 * flow_time).unsqueeze(1)


def solve(
    field=growing, x_0=START, batch_ptr=ONE_ATOM, center=False, start=0.0, end=1.0, **options
):
    return integrate_adaptive(
        field,
        x_0,
        batch_ptr=batch_ptr,
        solver=DormandPrince(**options),
        start=start,
        end=end,
        center=center,
    )


def tolerances(value):
    return {"relative_tolerance": value, "absolute_tolerance": value}


def error_of(result):
    return (result.x_t - START * math.exp(math.sin(5) / 5)).abs().max().item()


def test_the_error_of_a_step_is_of_sixth_order():
    # One step to the end, whatever its error: a loose tolerance takes it.
    def error(end):
        result = solve(end=end, first_step=end, **tolerances(10.0))
        assert result.n_steps.tolist() == [1]
        return (result.x_t - START * math.exp(math.sin(5 * end) / 5)).abs().max().item()

    assert math.log2(error(0.1) / error(0.05)) == pytest.approx(6, abs=0.3)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-5, 1e-8, 1e-11])
def test_the_error_follows_the_tolerance(tolerance):
    error = error_of(solve(**tolerances(tolerance)))
    assert tolerance * 1e-4 < error < 10 * tolerance


def test_the_number_of_steps_grows_with_the_fifth_root_of_the_tolerance():
    coarse, fine = (int(solve(**tolerances(10.0**-k)).n_steps) for k in (6, 11))
    assert fine / coarse == pytest.approx(10, rel=0.4)


def test_evaluations_are_those_of_trials_and_the_first_step():
    calls = []

    def counted(x_t, flow_time):
        calls.append(float(flow_time))
        return growing(x_t, flow_time)

    # Too long a first step is thrown away.
    for first_step, n_before in ((None, 2), (1.0, 1)):
        calls.clear()
        result = solve(counted, first_step=first_step, **tolerances(1e-8))
        n_trials = int(result.n_steps + result.n_rejected)
        assert result.n_evaluations == len(calls) == n_before + 6 * n_trials
        assert max(calls) == 1.0
    assert result.n_rejected > 0


def test_backward_in_time_returns_to_the_start():
    there = solve(**tolerances(1e-10)).x_t
    back = solve(x_0=there, start=1.0, end=0.0, **tolerances(1e-10))
    torch.testing.assert_close(back.x_t, START, rtol=1e-8, atol=1e-8)


def molecules():
    sizes = (3, 0, 1, 6)
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.randn(sum(sizes), 3, generator=generator, dtype=torch.float64)
    return x_0, torch.tensor([0, *torch.tensor(sizes).cumsum(0)]), sizes


def of_own_speed(rates):
    def field(x_t, flow_time):
        rate = rates[: len(x_t)].unsqueeze(1)
        return rate * torch.sin(x_t.roll(1, dims=1)) + 0.0 * flow_time.sum()

    return field


def test_a_batch_equals_a_loop_over_its_molecules():
    x_0, batch_ptr, sizes = molecules()
    rates = torch.tensor([1.0] * 3 + [30.0] + [8.0] * 6, dtype=torch.float64)
    together = solve(of_own_speed(rates), x_0, batch_ptr, center=True)
    assert len(set(together.n_steps.tolist())) > 2  # steps are each molecule's own
    for molecule, (first, last) in enumerate(itertools.pairwise(batch_ptr)):
        alone = solve(
            of_own_speed(rates[first:last]),
            x_0[first:last],
            torch.tensor([0, sizes[molecule]]),
            center=True,
        )
        torch.testing.assert_close(together.x_t[first:last], alone.x_t, rtol=1e-13, atol=1e-13)
        assert together.n_steps[molecule] == alone.n_steps[0]
        assert together.n_rejected[molecule] == alone.n_rejected[0]


def test_results_do_not_depend_on_how_often_the_host_looks():
    x_0, batch_ptr, _ = molecules()
    field = of_own_speed(torch.linspace(1, 20, len(x_0), dtype=torch.float64))
    once, seldom = (solve(field, x_0, batch_ptr, trials_per_read=n) for n in (1, 7))
    assert torch.equal(once.x_t, seldom.x_t)
    assert torch.equal(once.n_steps, seldom.n_steps)
    assert torch.equal(once.n_rejected, seldom.n_rejected)
    assert seldom.n_evaluations > once.n_evaluations


def test_centering_removes_each_molecules_mean():
    x_0, batch_ptr, _ = molecules()
    result = solve(lambda x_t, _: x_t + 1.0, x_0, batch_ptr, center=True)
    for part in result.x_t.tensor_split(batch_ptr[1:-1]):
        assert part.sum(0).abs().max() < 1e-13


def test_nothing_to_integrate_is_no_problem():
    no_molecules = solve(x_0=torch.zeros(0, 3), batch_ptr=torch.tensor([0]))
    assert no_molecules.x_t.shape == (0, 3)
    still = solve(start=1.0)
    assert torch.equal(still.x_t, START)
    assert still.n_steps.tolist() == [0]


def test_float32_stays_float32():
    result = solve(x_0=START.float(), **tolerances(1e-4))
    assert result.x_t.dtype == torch.float32
    assert error_of(result) < 1e-3


def test_too_few_evaluations_say_what_to_raise():
    with pytest.raises(ValueError, match=r"max_evaluations: .* within 20, got .*; raise"):
        solve(max_evaluations=20, **tolerances(1e-9))


def test_tolerances_that_no_step_meets_are_refused():
    def jumping(x_t, flow_time):
        return 1e6 * torch.ones_like(x_t) * (flow_time > 1 / 3)

    with pytest.raises(ValueError, match=r"expected tolerances .* got 1e-14 .* at time 0.33333"):
        solve(jumping, **tolerances(1e-14))


def test_velocities_that_are_not_finite_are_named():
    def breaking(x_t, flow_time):
        return x_t / (flow_time < 0.5).to(x_t.dtype).unsqueeze(1) * 0.1

    with pytest.raises(
        NonFiniteError, match="finite velocities, got others in molecule 0 at time 0"
    ):
        solve(breaking)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"relative_tolerance": -1.0}, "relative_tolerance: expected at least 0"),
        ({"absolute_tolerance": 0.0}, "absolute_tolerance: expected a value above zero"),
        ({"first_step": 0.0}, "first_step: expected a value above zero"),
        ({"max_evaluations": 0}, "max_evaluations: expected at least 1"),
        ({"trials_per_read": 0}, "trials_per_read: expected at least 1"),
        ({"end": math.inf}, "start, end: expected finite times"),
        ({"x_0": torch.zeros(1, 2)}, r"x_0: expected shape \(n_atoms, 3\)"),
        ({"field": lambda x_t, _: x_t[:, :2]}, "field: expected velocities of shape"),
    ],
)
def test_wrong_arguments_are_refused(options, match):
    with pytest.raises(ValueError, match=match):
        solve(**options)
