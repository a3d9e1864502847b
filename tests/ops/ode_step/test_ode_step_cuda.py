"""The CUDA kernels of ``ode_step``, run on the host."""

import pytest
import torch

from tito_fast.ops import center, ode_step
from tito_fast.testing.tolerance import check_against_reference

WEIGHTS = [0.5, -1.25, 2.0]
STEP_SIZE = 0.05
SIZES = [[1], [63], [64], [65], [129], [1000], [0, 5, 0, 1, 7, 0], []]


def make_case(sizes, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    n_atoms = sum(sizes)
    positions = 3.0 + torch.randn(n_atoms, 3, generator=generator)
    velocities = torch.randn(len(WEIGHTS), n_atoms, 3, generator=generator)
    batch_ptr = torch.tensor([0, *sizes]).cumsum(0)
    return positions.to(dtype), velocities.to(dtype), batch_ptr


def step(positions, velocities, batch_ptr, *, backend, is_centered=True):
    return ode_step(
        positions,
        velocities,
        weights=WEIGHTS,
        step_size=STEP_SIZE,
        batch_ptr=batch_ptr,
        center=is_centered,
        backend=backend,
    )


@pytest.mark.parametrize("is_centered", [True, False])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_forward_and_gradients_match_reference(host_cuda, sizes, is_centered):
    positions, velocities, batch_ptr = make_case(sizes)
    results = []
    for dtype, backend in (
        (torch.float32, "native"),
        (torch.float32, "reference"),
        (torch.float64, "reference"),
    ):
        leaves = [each.to(dtype).requires_grad_() for each in (positions, velocities)]
        moved = step(*leaves, batch_ptr, backend=backend, is_centered=is_centered)
        weight = torch.linspace(-1.0, 2.0, moved.numel()).view_as(moved).to(dtype)
        results.append([moved.detach(), *torch.autograd.grad((weight * moved).sum(), leaves)])
    for ours, plain, exact in zip(*results, strict=True):
        check_against_reference(ours, plain, exact)
    launched = ["ode_step_fwd", "ode_step_bwd"] if any(sizes) or len(sizes) else []
    assert host_cuda.take_log() == launched


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uncentered_step_is_the_cpu_kernels_bitwise(host_cuda, dtype, monkeypatch):
    case = make_case([37, 0, 200], dtype)
    found = step(*case, backend="native", is_centered=False)
    monkeypatch.undo()
    assert torch.equal(found, step(*case, backend="native", is_centered=False))


def test_result_does_not_depend_on_the_order_of_threads_or_the_batch(host_cuda):
    positions, velocities, batch_ptr = make_case([37, 1, 200])
    found = []
    for seed in range(4):
        host_cuda.set_seed(seed)
        found.append(step(positions, velocities, batch_ptr, backend="native"))
    assert all(torch.equal(found[0], each) for each in found)
    alone = step(positions[38:], velocities[:, 38:], torch.tensor([0, 200]), backend="native")
    assert torch.equal(found[0][38:], alone)


def test_centering_alone(host_cuda):
    positions, _, batch_ptr = make_case([5, 0, 70])
    found = center(positions, batch_ptr=batch_ptr, backend="native")
    torch.testing.assert_close(
        found, center(positions, batch_ptr=batch_ptr, backend="reference"), rtol=0, atol=1e-6
    )


def test_rows_outside_the_arrays_are_left_out(host_cuda):
    positions, velocities, _ = make_case([8])
    torch.ops.tito_fast.ode_step(
        positions, velocities, WEIGHTS, STEP_SIZE, torch.tensor([-5, 4, 100]), True
    )


def test_failed_launch_names_kernel_and_sizes(host_cuda):
    host_cuda.fail_next_launch("cudaErrorInvalidValue, invalid argument")
    with pytest.raises(RuntimeError, match=r"ode_step_fwd: .* 2 blocks of 192 .*n_atoms = 12.*inv"):
        step(*make_case([5, 7]), backend="native")
