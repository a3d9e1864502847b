from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from tito_fast.ops import ode_step
from tito_fast.testing.tolerance import check_against_reference

SIZES = [[1], [63], [0, 5, 0, 1, 7, 0], [17] * 5]
WEIGHTS = [0.5, -1.25, 2.0, 0.125, 1.0, 3.0, -0.75, 0.3]


def make_case(sizes, device, *, n_stages=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    n_atoms = sum(sizes)
    positions = 3.0 + torch.randn(n_atoms, 3, generator=generator, dtype=dtype)
    velocities = torch.randn(n_stages, n_atoms, 3, generator=generator, dtype=dtype)
    return SimpleNamespace(
        positions=positions.to(device),
        velocities=velocities.to(device),
        step=SimpleNamespace(
            weights=WEIGHTS[:n_stages],
            step_size=0.05,
            batch_ptr=torch.tensor([0, *sizes]).cumsum(0).to(device),
        ),
    )


def run(case, **options):
    given = vars(case.step) | {"backend": "triton"} | options
    return ode_step(case.positions, case.velocities, **given)


def gradients(case, **options):
    leaves = case.positions.clone().requires_grad_(), case.velocities.clone().requires_grad_()
    given = vars(case.step) | {"backend": "triton"} | options
    result = ode_step(*leaves, **given)
    weight = torch.linspace(-1.0, 2.0, result.numel(), dtype=result.dtype).view_as(result)
    return torch.autograd.grad((result * weight.to(result.device)).sum(), leaves)


def in_float64(case):
    return SimpleNamespace(
        positions=case.positions.double(), velocities=case.velocities.double(), step=case.step
    )


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_stages", [1, 2, 3, 8])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_matches_reference(triton_device, sizes, n_stages, dtype, center):
    case = make_case(sizes, triton_device, n_stages=n_stages, dtype=dtype)
    check_against_reference(
        run(case, center=center),
        run(case, center=center, backend="reference"),
        run(in_float64(case), center=center, backend="reference"),
    )


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_stages", [1, 8])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gradients_match_reference(triton_device, sizes, n_stages, dtype, center):
    case = make_case(sizes, triton_device, n_stages=n_stages, dtype=dtype)
    ours = gradients(case, center=center)
    plain = gradients(case, center=center, backend="reference")
    exact = gradients(in_float64(case), center=center, backend="reference")
    for found, theirs, reference64 in zip(ours, plain, exact, strict=True):
        check_against_reference(found, theirs, reference64)


@pytest.mark.parametrize("center", [True, False])
def test_gradcheck_once_and_twice(triton_device, center):
    case = make_case([0, 2], triton_device, dtype=torch.float64)
    inputs = (case.positions.requires_grad_(), case.velocities.requires_grad_())

    def step(positions, velocities):
        return ode_step(positions, velocities, **vars(case.step), center=center, backend="triton")

    assert torch.autograd.gradcheck(step, inputs)
    assert torch.autograd.gradgradcheck(step, inputs)


def test_translation_is_removed_and_rotation_carried(triton_device):
    case = make_case([5, 7], triton_device, dtype=torch.float64)
    drawn = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    rotation = torch.linalg.qr(drawn)[0].to(triton_device)
    expected = run(case) @ rotation.T
    case.positions = case.positions @ rotation.T + torch.tensor([4.0, -2.0, 1.0]).to(rotation)
    case.velocities = case.velocities @ rotation.T
    torch.testing.assert_close(run(case), expected, rtol=0, atol=1e-14)
    assert run(case, center=False).mean(dim=0).abs().max() > 1.0


def test_empty_and_tiny(triton_device):
    for sizes in ([], [0, 0]):
        case = make_case(sizes, triton_device)
        assert run(case).shape == (0, 3)
        assert [tuple(grad.shape) for grad in gradients(case)] == [(0, 3), (2, 0, 3)]
    alone = run(make_case([1], triton_device))
    assert torch.equal(alone, torch.zeros_like(alone))
    assert run(make_case([3, 0, 2], triton_device)).isfinite().all()


def test_noncontiguous_and_offset_views(triton_device):
    case = make_case([3, 4], triton_device, n_stages=3)
    expected = run(case)
    wide = torch.full((8, 6), torch.nan, device=triton_device)
    wide[1:, 1::2] = case.positions
    stacked = case.velocities.permute(2, 1, 0).contiguous()
    padded = torch.stack((case.step.batch_ptr, case.step.batch_ptr), dim=1)
    views = SimpleNamespace(
        positions=wide[1:, 1::2],
        velocities=stacked.permute(2, 1, 0),
        step=SimpleNamespace(**(vars(case.step) | {"batch_ptr": padded[:, 0]})),
    )
    assert not views.positions.is_contiguous()
    assert not views.velocities.is_contiguous()
    assert torch.equal(run(views), expected)
    assert all(map(torch.equal, gradients(views), gradients(case)))


def test_inputs_are_untouched(triton_device):
    case = make_case([3, 4], triton_device)
    before = case.positions.clone(), case.velocities.clone()
    result = run(case)
    assert torch.equal(case.positions, before[0])
    assert torch.equal(case.velocities, before[1])
    assert result.data_ptr() != case.positions.data_ptr()


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"positions": torch.zeros(7, 2)}, ValueError, r"positions: expected shape \(n_atoms, 3\)"),
        ({"velocities": torch.zeros(9, 7, 3)}, ValueError, "velocities: expected 1 to 8 .* got 9"),
        ({"weights": [1.0]}, ValueError, r"weights: expected one per stage .*\(2\), got 1"),
        ({"step_size": float("inf")}, ValueError, "step_size: expected a finite number, got inf"),
        ({"batch_ptr": torch.tensor([0, 7]).int()}, TypeError, "batch_ptr: expected dtype int64"),
    ],
)
def test_invalid_inputs(triton_device, change, error, match):
    case = make_case([3, 4], triton_device)
    given = {"positions": case.positions, "velocities": case.velocities} | vars(case.step)
    given |= {
        name: value.to(triton_device) if isinstance(value, torch.Tensor) else value
        for name, value in change.items()
    }
    data = given.pop("positions"), given.pop("velocities")
    with pytest.raises(error, match=match):
        ode_step(*data, **given, backend="triton")


def test_rows_outside_the_arrays_are_left_out(triton_device):
    case = make_case([3, 4], triton_device)
    if triton_device.type == "cpu":
        case.step.batch_ptr = torch.tensor([0, 5, 3, 7])
        with pytest.raises(ValueError, match="batch_ptr: expected non-decreasing"):
            run(case)
    step = case.step
    outside = torch.tensor([0, 3, 9], device=triton_device)
    run(case, batch_ptr=torch.tensor([0, 3, 7], device=triton_device))
    result = torch.ops.tito_fast.ode_step_triton(
        case.positions, case.velocities, step.weights, step.step_size, outside, True
    )
    expected = run(case, batch_ptr=torch.tensor([0, 3, 7], device=triton_device))
    assert torch.equal(result, expected)


def test_deterministic(triton_device):
    case = make_case([1, 63, 5], triton_device, n_stages=4)
    assert torch.equal(run(case), run(case))
    assert all(map(torch.equal, gradients(case), gradients(case)))


@pytest.mark.parametrize("center", [True, False])
def test_opcheck(triton_device, center):
    case = make_case([0, 3, 1, 2], triton_device)
    run(case)
    step, ops = case.step, torch.ops.tito_fast
    arguments = (step.weights, step.step_size, step.batch_ptr, center)
    leaves = case.positions.requires_grad_(), case.velocities.requires_grad_()
    torch.library.opcheck(ops.ode_step_triton.default, (*leaves, *arguments))
    grad = case.positions.detach().clone().requires_grad_()
    torch.library.opcheck(ops.ode_step_triton_backward.default, (grad, *arguments))


def test_batch_equals_loop(triton_device):
    case = make_case([5, 1, 0, 63, 2], triton_device, n_stages=3)
    together, grads = run(case), gradients(case)
    weight = torch.linspace(-1.0, 2.0, together.numel()).view_as(together).to(triton_device)
    for start, end in pairwise(case.step.batch_ptr.tolist()):
        one = SimpleNamespace(
            positions=case.positions[start:end].clone().requires_grad_(),
            velocities=case.velocities[:, start:end].clone().requires_grad_(),
            step=SimpleNamespace(
                **(
                    vars(case.step)
                    | {"batch_ptr": torch.tensor([0, end - start], device=triton_device)}
                )
            ),
        )
        result = run(one)
        assert torch.equal(result, together[start:end])
        leaves = one.positions, one.velocities
        found = torch.autograd.grad((result * weight[start:end]).sum(), leaves)
        assert torch.equal(found[0], grads[0][start:end])
        assert torch.equal(found[1], grads[1][:, start:end])
