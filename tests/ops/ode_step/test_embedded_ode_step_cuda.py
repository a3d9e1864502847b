"""The CUDA kernel of ``embedded_ode_step``, run on the host."""

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
from tito_fast.testing.tolerance import check_against_reference


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pair", [HEUN_EULER, DORMAND_PRINCE], ids=["heun", "dopri"])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{len(sizes)}x{sum(sizes)}")
def test_matches_reference_in_one_launch(host_cuda, sizes, pair, dtype, center):
    case = make_case(sizes, pair=pair, dtype=dtype)
    found = run(case, center=center, backend="native")
    assert host_cuda.take_log() == ["embedded_ode_step_fwd"] * bool(sizes)
    plain = run(case, center=center, backend="reference")
    exact = run(in_float64(case), center=center, backend="reference")
    for ours, theirs, reference64 in zip(found, plain, exact, strict=True):
        check_against_reference(ours, theirs, reference64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{len(sizes)}x{sum(sizes)}")
def test_uncentered_positions_are_the_cpu_kernels_bitwise(host_cuda, monkeypatch, sizes, dtype):
    case = make_case(sizes, dtype=dtype)
    found = run(case, backend="native", center=False)
    monkeypatch.undo()
    expected = run(case, backend="native", center=False)
    assert torch.equal(found.positions, expected.positions)
    # Another order of summation, in double.
    epsilon = torch.finfo(dtype).eps
    torch.testing.assert_close(found.error, expected.error, rtol=4 * epsilon, atol=0)


def test_result_does_not_depend_on_the_order_of_threads_or_the_batch(host_cuda):
    case = make_case([37, 1, 600])
    found = []
    for seed in range(4):
        host_cuda.set_seed(seed)
        found.append(run(case, backend="native"))
    for each in found:
        assert torch.equal(each.positions, found[0].positions)
        assert torch.equal(each.error, found[0].error)
    for molecule, (start, end) in enumerate([(0, 37), (37, 38), (38, 638)]):
        step = case.step | {
            "step_sizes": case.step["step_sizes"][molecule : molecule + 1],
            "batch_ptr": torch.tensor([0, end - start]),
        }
        one = SimpleNamespace(
            positions=case.positions[start:end],
            velocities=case.velocities[:, start:end],
            step=step,
        )
        alone = run(one, backend="native")
        assert torch.equal(alone.positions, found[0].positions[start:end])
        assert torch.equal(alone.error, found[0].error[molecule : molecule + 1])


def test_empty_molecules_and_steps_of_nothing_have_no_error(host_cuda):
    case = make_case([0, 3, 0, 70, 0])
    case.step["step_sizes"][1] = 0.0
    moved, error = run(case, center=False, backend="native")
    assert torch.equal(error == 0, torch.tensor([True, True, True, False, True]))
    assert torch.equal(moved[:3], case.positions[:3])


def test_a_velocity_that_is_not_finite_shows_in_the_error_of_its_molecule(host_cuda):
    case = make_case([3, 4])
    case.velocities[2, 1, 0] = torch.nan
    error = run(case, backend="native").error
    assert error[0].isnan()
    assert error[1].isfinite()


def test_rows_outside_the_arrays_are_left_out(host_cuda):
    case = make_case([3, 5])
    step = case.step | {"batch_ptr": torch.tensor([-5, 4, 100])}
    moved, error = torch.ops.tito_fast.embedded_ode_step(
        case.positions, case.velocities, *step.values(), True
    )
    assert moved.isfinite().all()
    assert error.isfinite().all()


def test_failed_launch_names_kernel_and_sizes(host_cuda):
    host_cuda.fail_next_launch("cudaErrorInvalidValue, invalid argument")
    with pytest.raises(RuntimeError, match=r"embedded_ode_step_fwd: .* 2 blocks .*n_stages = 7"):
        run(make_case([5, 7]), backend="native")
