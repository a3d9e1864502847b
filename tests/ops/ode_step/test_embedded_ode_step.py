import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from tests.ops.ode_step.embedded_cases import (
    DORMAND_PRINCE,
    HEUN_EULER,
    SIZES,
    in_float64,
    make_case,
    run,
)
from tito_fast.errors import BackendUnavailableError
from tito_fast.ops import embedded_ode_step, ode_step
from tito_fast.testing.tolerance import check_against_reference

BACKENDS = ["native", "reference"]


def random_rotation():
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pair", [HEUN_EULER, DORMAND_PRINCE], ids=["heun", "dopri"])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{len(sizes)}x{sum(sizes)}")
def test_matches_reference(sizes, pair, dtype, center):
    case = make_case(sizes, pair=pair, dtype=dtype)
    native = run(case, center=center, backend="native")
    plain = run(case, center=center, backend="reference")
    exact = run(in_float64(case), center=center, backend="reference")
    assert native.error.dtype == native.positions.dtype == dtype
    for ours, theirs, reference64 in zip(native, plain, exact, strict=True):
        check_against_reference(ours, theirs, reference64)


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_detached(backend):
    case = make_case([3])
    case.positions.requires_grad_()
    case.velocities.requires_grad_()
    moved, error = run(case, backend=backend)
    assert not moved.requires_grad
    assert not error.requires_grad


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_positions_are_those_of_the_step_of_that_size_bitwise(dtype, center):
    case = make_case([5, 70, 0, 3], dtype=dtype)
    size = float(torch.tensor(0.3, dtype=dtype))
    found = run(case, center=center, step_sizes=torch.full((4,), size, dtype=dtype))
    expected = ode_step(
        case.positions,
        case.velocities,
        weights=case.step["weights"],
        step_size=size,
        batch_ptr=case.step["batch_ptr"],
        center=center,
    )
    assert torch.equal(found.positions, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("center", [True, False])
def test_error_of_a_linear_field_is_its_closed_form(backend, center):
    # dx/dt = -rate x by Heun and Euler: they differ by (rate h)^2 x / 2.
    sizes = [4, 1, 33]
    case = make_case(sizes, pair=HEUN_EULER, dtype=torch.float64)
    rates, steps = torch.tensor([1.0, 3.0, 0.5]).double(), torch.tensor([0.1, 0.2, 0.4]).double()
    batch_idx = torch.arange(3).repeat_interleave(torch.tensor(sizes))
    x = case.positions
    if center:
        means = torch.stack([each.mean(dim=0) for each in x.split(sizes)])
        x = x - means[batch_idx]
    share = (rates * steps)[batch_idx, None]
    first = -rates[batch_idx, None] * x
    velocities = torch.stack((first, first * (1.0 - share)))
    found = embedded_ode_step(
        x,
        velocities,
        **case.step | {"step_sizes": steps},
        center=center,
        backend=backend,
    )
    torch.testing.assert_close(found.positions, x * (1.0 - share + share**2 / 2))
    # The state shrinks, so that the larger one is that before the step.
    ratios = share**2 / 2 * x / (1e-3 + 1e-2 * x.abs())
    expected = torch.stack([each.square().mean().sqrt() for each in ratios.split(sizes)])
    torch.testing.assert_close(found.error, expected, rtol=1e-12, atol=1e-14)
    assert (found.error[1] == 0) == center


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_larger_state_scales_the_error(backend):
    positions = torch.tensor([[-1.0, 0.0, 4.0]])
    velocities = torch.tensor([[[2.0, 2.0, 2.0]], [[1.0, -3.0, 5.0]]])
    moved, error = embedded_ode_step(
        positions,
        velocities,
        weights=[1.0, 0.0],
        error_weights=[0.0, 1.0],
        step_sizes=torch.tensor([2.0]),
        absolute_tolerance=0.5,
        relative_tolerance=0.25,
        batch_ptr=torch.tensor([0, 1]),
        center=False,
        backend=backend,
    )
    assert torch.equal(moved, torch.tensor([[3.0, 4.0, 8.0]]))
    ratios = [2.0 / (0.5 + 0.25 * 3.0), 6.0 / (0.5 + 0.25 * 4.0), 10.0 / (0.5 + 0.25 * 8.0)]
    expected = math.sqrt(sum(ratio**2 for ratio in ratios) / 3)
    assert error.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_adaptive_steps_solve_a_linear_equation_to_the_tolerance(backend):
    sizes, tolerance = [4, 9, 1, 6], 1e-5
    case = make_case(sizes, dtype=torch.float64)
    batch_ptr = case.step["batch_ptr"]
    batch_idx = torch.arange(4).repeat_interleave(torch.tensor(sizes))
    rates = torch.tensor([1.0, 1.0, 1.0, 12.0]).double()
    start = case.positions
    x, times = start.clone(), torch.zeros(4).double()
    # The first is far too long for the last molecule.
    steps, n_accepted, n_rejected = torch.full((4,), 0.2).double(), torch.zeros(4), torch.zeros(4)
    for _ in range(10000):
        if (times == 1.0).all():
            break
        steps = torch.minimum(steps, 1.0 - times)
        rate, size = rates[batch_idx, None], steps[batch_idx, None]
        first = -rate * x
        stages = torch.stack((first, -rate * (x + size * first)))
        moved, error = embedded_ode_step(
            x,
            stages,
            weights=[0.5, 0.5],
            error_weights=[-0.5, 0.5],
            step_sizes=steps,
            absolute_tolerance=tolerance,
            relative_tolerance=0.0,
            batch_ptr=batch_ptr,
            center=False,
            backend=backend,
        )
        accepted = error <= 1.0
        n_rejected += ~accepted
        x = torch.where(accepted[batch_idx, None], moved, x)
        n_accepted += accepted & (times < 1.0)
        last = steps == 1.0 - times
        times = torch.where(accepted, torch.where(last, 1.0, times + steps), times)
        steps = steps * (0.9 * error.clamp(min=1e-10) ** -0.5).clamp(0.2, 5.0)
    assert (times == 1.0).all()
    exact = start * torch.exp(-rates)[batch_idx, None]
    assert (x - exact).abs().max() < tolerance
    assert n_accepted[3] > 1.5 * n_accepted[0] > 10
    assert n_rejected[3] > 0


def test_translation_and_rotation_do_not_change_the_error():
    case = make_case([5, 7], dtype=torch.float64)
    expected = run(case, relative_tolerance=0.0)
    rotation = random_rotation()
    case.positions = case.positions @ rotation.T + torch.tensor([4.0, -2.0, 1.0]).double()
    # A velocity that all atoms share is no error of centered positions.
    drift = torch.randn(7, 1, 3, generator=torch.Generator().manual_seed(1)).double()
    case.velocities = case.velocities @ rotation.T + drift
    found = run(case, relative_tolerance=0.0)
    torch.testing.assert_close(found.error, expected.error, rtol=1e-12, atol=0)
    torch.testing.assert_close(found.positions, expected.positions @ rotation.T, rtol=0, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_and_tiny(backend):
    for sizes in ([], [0, 0]):
        moved, error = run(make_case(sizes), backend=backend)
        assert moved.shape == (0, 3)
        assert torch.equal(error, torch.zeros(len(sizes)))
    moved, error = run(make_case([1]), backend=backend)
    assert torch.equal(moved, torch.zeros(1, 3))
    assert torch.equal(error, torch.zeros(1))
    moved, error = run(make_case([3, 0, 2]), backend=backend)
    assert moved.isfinite().all()
    assert (error[[0, 2]] > 0).all()
    assert error[1] == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_of_nothing_moves_nothing_and_has_no_error(backend):
    case = make_case([3, 4])
    case.step["step_sizes"][0] = 0.0
    moved, error = run(case, center=False, backend=backend)
    assert torch.equal(moved[:3], case.positions[:3])
    assert error[0] == 0 < error[1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_velocity_that_is_not_finite_shows_in_the_error_of_its_molecule(backend):
    case = make_case([3, 4])
    case.velocities[2, 1, 0] = torch.nan
    error = run(case, backend=backend).error
    assert error[0].isnan()
    assert error[1].isfinite()


@pytest.mark.parametrize("backend", BACKENDS)
def test_noncontiguous_and_offset_views(backend):
    case = make_case([3, 4])
    expected = run(case, backend=backend)
    wide = torch.full((8, 6), torch.nan)
    wide[1:, 1::2] = case.positions
    case.positions = wide[1:, 1::2]
    case.velocities = case.velocities.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    for name in ("step_sizes", "batch_ptr"):
        case.step[name] = torch.stack((case.step[name], case.step[name]), dim=1)[:, 0]
        assert not case.step[name].is_contiguous()
    assert not case.positions.is_contiguous()
    assert not case.velocities.is_contiguous()
    for ours, theirs in zip(run(case, backend=backend), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"weights": [1.0]}, ValueError, r"weights: expected one per stage .*\(7\), got 1"),
        ({"error_weights": [1.0]}, ValueError, r"error_weights: expected one per stage .*\(7\)"),
        ({"error_weights": [math.nan] * 7}, ValueError, "error_weights: expected finite numbers"),
        ({"step_sizes": torch.ones(3)}, ValueError, r"step_sizes: expected shape \(2,\), got"),
        ({"step_sizes": torch.ones(2).double()}, TypeError, "step_sizes: expected dtype float32"),
        ({"absolute_tolerance": 0.0}, ValueError, "absolute_tolerance: expected .* above zero"),
        ({"relative_tolerance": -0.1}, ValueError, "relative_tolerance: .* at least 0, got -0.1"),
        ({"relative_tolerance": math.inf}, ValueError, "relative_tolerance: .* got inf"),
        ({"batch_ptr": torch.tensor([0, 5, 6])}, ValueError, "batch_ptr: .* n_atoms = 7"),
        ({"batch_ptr": torch.tensor([0, 9, 7])}, ValueError, "batch_ptr: expected non-decreasing"),
    ],
)
def test_invalid_inputs(backend, change, error, match):
    with pytest.raises(error, match=match):
        run(make_case([3, 4]), **change, backend=backend)


def test_there_is_no_triton_kernel():
    with pytest.raises(BackendUnavailableError, match="embedded_ode_step has no Triton kernel"):
        run(make_case([3]), backend="triton")


def test_deterministic_with_any_number_of_threads(restore_threads):
    case = make_case([1, 63, 129] * 100)
    torch.set_num_threads(1)
    alone = run(case, backend="native")
    torch.set_num_threads(2)
    for ours, theirs in zip(run(case, backend="native"), alone, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("center", [True, False])
def test_opcheck(center):
    case = make_case([3, 0, 4])
    torch.library.opcheck(
        torch.ops.tito_fast.embedded_ode_step.default,
        (case.positions, case.velocities, *case.step.values(), center),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_equals_loop(backend):
    case = make_case([5, 1, 0, 63, 2])
    together = run(case, backend=backend)
    for molecule, (start, end) in enumerate(pairwise(case.step["batch_ptr"].tolist())):
        one = SimpleNamespace(
            positions=case.positions[start:end],
            velocities=case.velocities[:, start:end],
            step=case.step
            | {
                "step_sizes": case.step["step_sizes"][molecule : molecule + 1],
                "batch_ptr": torch.tensor([0, end - start]),
            },
        )
        alone = run(one, backend=backend)
        assert torch.equal(alone.positions, together.positions[start:end])
        assert torch.equal(alone.error, together.error[molecule : molecule + 1])


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{len(sizes)}x{sum(sizes)}")
def test_cuda_matches_reference(sizes, dtype):
    case = make_case(sizes, dtype=dtype)
    plain, exact = run(case, backend="reference"), run(in_float64(case), backend="reference")
    uncentered = run(case, center=False, backend="native")
    case.positions, case.velocities = case.positions.cuda(), case.velocities.cuda()
    for name in ("step_sizes", "batch_ptr"):
        case.step[name] = case.step[name].cuda()
    found = run(case, backend="native")
    for ours, theirs, reference64 in zip(found, plain, exact, strict=True):
        check_against_reference(ours.cpu(), theirs, reference64)
    on_device = run(case, center=False, backend="native")
    assert torch.equal(on_device.positions.cpu(), uncentered.positions)
