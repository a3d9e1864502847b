"""The CUDA kernel of ``noisy_ode_step``, run on the host."""

import pytest
import torch

from tests.ops.ode_step.noisy_cases import SIZES, composed, make_case, run
from tito_fast.ops import noisy_ode_step
from tito_fast.testing.tolerance import check_against_reference


@pytest.mark.parametrize("n_stages", [1, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{len(sizes)}x{sum(sizes)}")
def test_matches_reference_in_one_launch(host_cuda, sizes, dtype, n_stages):
    case = make_case(sizes, n_stages=n_stages, dtype=dtype)
    found = run(case, backend="native")
    assert host_cuda.take_log() == ["noisy_ode_step_fwd"] * bool(sizes)
    check_against_reference(found, composed(case), composed(case, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{len(sizes)}x{sum(sizes)}")
def test_uncentered_step_is_the_cpu_kernels_bitwise(host_cuda, monkeypatch, sizes, dtype):
    case = make_case(sizes, n_stages=3, dtype=dtype)
    found = run(case, backend="native", center=False)
    monkeypatch.undo()
    assert torch.equal(found, run(case, backend="native", center=False))
    expected = composed(case, is_centered=False, backend="native")
    assert torch.equal(found, expected)


def test_gradients_are_those_of_the_step_without_noise(host_cuda):
    case = make_case([5, 0, 65], n_stages=3)
    leaves = [each.requires_grad_() for each in (case.positions, case.velocities)]
    result = noisy_ode_step(*leaves, **case.step, backend="native")
    weight = torch.linspace(-1.0, 2.0, result.numel()).view_as(result)
    found = torch.autograd.grad((result * weight).sum(), leaves)
    expected = torch.autograd.grad((composed(case, backend="native") * weight).sum(), leaves)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_result_does_not_depend_on_the_order_of_threads_or_the_batch(host_cuda):
    case = make_case([37, 1, 600])
    found = []
    for seed in range(4):
        host_cuda.set_seed(seed)
        found.append(run(case, backend="native"))
    assert all(torch.equal(found[0], each) for each in found)
    for molecule, (start, end) in enumerate([(0, 37), (37, 38), (38, 638)]):
        alone = noisy_ode_step(
            case.positions[start:end],
            case.velocities[:, start:end],
            **case.step
            | {
                "keys": case.step["keys"][molecule : molecule + 1],
                "replicas": case.step["replicas"][molecule : molecule + 1],
                "batch_ptr": torch.tensor([0, end - start]),
            },
            backend="native",
        )
        assert torch.equal(found[0][start:end], alone)


def test_rows_outside_the_arrays_are_left_out(host_cuda):
    case = make_case([3, 5])
    step = case.step | {"batch_ptr": torch.tensor([-5, 4, 100])}
    found = torch.ops.tito_fast.noisy_ode_step(
        case.positions, case.velocities, *step.values(), True
    )
    assert found.isfinite().all()


def test_failed_launch_names_kernel_and_sizes(host_cuda):
    host_cuda.fail_next_launch("cudaErrorInvalidValue, invalid argument")
    with pytest.raises(
        RuntimeError, match=r"noisy_ode_step_fwd: .* 2 blocks of 192 .*n_atoms = 12"
    ):
        run(make_case([5, 7]), backend="native")
