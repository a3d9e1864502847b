from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from tito_fast.ops import ode_step
from tito_fast.ops.ode_step.reference import ode_step_reference
from tito_fast.testing.tolerance import check_against_reference

SIZES = [[1], [63], [129], [1, 63, 129], [0, 5, 0, 1, 7, 0], [17] * 40]
WEIGHTS = [0.5, -1.25, 2.0, 0.125, 1.0, 3.0, -0.75, 0.3]


def make_case(sizes, *, n_stages=2, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    n_atoms = sum(sizes)
    return SimpleNamespace(
        positions=3.0 + torch.randn(n_atoms, 3, generator=generator, dtype=dtype),
        velocities=torch.randn(n_stages, n_atoms, 3, generator=generator, dtype=dtype),
        step=SimpleNamespace(
            weights=WEIGHTS[:n_stages],
            step_size=0.05,
            batch_ptr=torch.tensor([0, *sizes]).cumsum(0),
        ),
    )


def run(case, **options):
    return ode_step(case.positions, case.velocities, **(vars(case.step) | options))


def gradients(case, **options):
    positions = case.positions.clone().requires_grad_()
    velocities = case.velocities.clone().requires_grad_()
    result = ode_step(positions, velocities, **(vars(case.step) | options))
    weight = torch.linspace(-1.0, 2.0, result.numel(), dtype=result.dtype).view_as(result)
    return torch.autograd.grad((result * weight).sum(), (positions, velocities))


def in_float64(case):
    return SimpleNamespace(
        positions=case.positions.double(), velocities=case.velocities.double(), step=case.step
    )


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_stages", [1, 2, 3, 8])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_matches_reference(sizes, n_stages, dtype, center):
    case = make_case(sizes, n_stages=n_stages, dtype=dtype)
    check_against_reference(
        run(case, center=center, backend="native"),
        run(case, center=center, backend="reference"),
        run(in_float64(case), center=center, backend="reference"),
    )


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gradients_match_reference(sizes, dtype, center):
    case = make_case(sizes, n_stages=3, dtype=dtype)
    native = gradients(case, center=center, backend="native")
    plain = gradients(case, center=center, backend="reference")
    exact = gradients(in_float64(case), center=center, backend="reference")
    for ours, theirs, reference64 in zip(native, plain, exact, strict=True):
        check_against_reference(ours, theirs, reference64)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("center", [True, False])
def test_gradcheck_once_and_twice(center, backend):
    case = make_case([0, 3, 1, 2], n_stages=2, dtype=torch.float64)
    inputs = (case.positions.requires_grad_(), case.velocities.requires_grad_())

    def step(positions, velocities):
        return ode_step(positions, velocities, **vars(case.step), center=center, backend=backend)

    assert torch.autograd.gradcheck(step, inputs)
    assert torch.autograd.gradgradcheck(step, inputs)


def test_translation_is_removed_and_rotation_carried():
    case = make_case([5, 7], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    shift = torch.tensor([4.0, -2.0, 1.0]).double()
    expected, without = run(case) @ rotation.T, run(case, center=False) @ rotation.T
    case.positions = case.positions @ rotation.T + shift
    case.velocities = case.velocities @ rotation.T
    torch.testing.assert_close(run(case), expected, rtol=0, atol=1e-14)
    moved = run(case, center=False)
    torch.testing.assert_close(moved, without + shift, rtol=0, atol=1e-14)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_empty_and_tiny(backend):
    assert run(make_case([]), backend=backend).shape == (0, 3)
    assert run(make_case([0, 0]), backend=backend).shape == (0, 3)
    alone = run(make_case([1]), backend=backend)
    assert torch.equal(alone, torch.zeros(1, 3))
    between = run(make_case([3, 0, 2]), backend=backend)
    assert between.isfinite().all()


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_noncontiguous_and_offset_views(backend):
    case = make_case([3, 4], n_stages=3)
    expected = run(case, backend=backend)
    wide = torch.full((8, 6), torch.nan)
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
    assert torch.equal(run(views, backend=backend), expected)


def test_inputs_are_untouched():
    case = make_case([3, 4])
    before = case.positions.clone(), case.velocities.clone()
    result = run(case)
    assert torch.equal(case.positions, before[0])
    assert torch.equal(case.velocities, before[1])
    assert result.data_ptr() != case.positions.data_ptr()


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"positions": torch.zeros(7, 2)}, ValueError, r"positions: expected shape \(n_atoms, 3\)"),
        ({"positions": torch.zeros(7, 3).half()}, TypeError, "positions: expected dtype float32"),
        ({"velocities": torch.zeros(2, 6, 3)}, ValueError, r"velocities: .* got \(2, 6, 3\)"),
        ({"velocities": torch.zeros(2, 7, 3).double()}, TypeError, "velocities: expected dtype"),
        ({"velocities": torch.zeros(9, 7, 3)}, ValueError, "velocities: expected 1 to 8 .* got 9"),
        ({"velocities": torch.zeros(0, 7, 3)}, ValueError, "velocities: expected 1 to 8 .* got 0"),
        ({"weights": [1.0]}, ValueError, r"weights: expected one per stage .*\(2\), got 1"),
        ({"weights": [1.0, float("nan")]}, ValueError, "weights: expected finite"),
        ({"step_size": float("inf")}, ValueError, "step_size: expected a finite number, got inf"),
        (
            {"batch_ptr": torch.tensor([0, 3, 6])},
            ValueError,
            "batch_ptr: .* n_atoms = 7, got 0 to 6",
        ),
        ({"batch_ptr": torch.tensor([1, 7])}, ValueError, "batch_ptr: .* got 1 to 7"),
        (
            {"batch_ptr": torch.tensor([0, 5, 3, 7])},
            ValueError,
            "batch_ptr: expected non-decreasing",
        ),
        ({"batch_ptr": torch.tensor([0, 9, 7])}, ValueError, "batch_ptr: expected non-decreasing"),
        ({"batch_ptr": torch.tensor([0, 7]).int()}, TypeError, "batch_ptr: expected dtype int64"),
        ({"batch_ptr": torch.tensor([[0, 7]])}, ValueError, r"batch_ptr: expected shape"),
        ({"batch_ptr": torch.empty(0).long()}, ValueError, r"batch_ptr: expected shape"),
    ],
)
def test_invalid_inputs(backend, change, error, match):
    case = make_case([3, 4])
    given = {"positions": case.positions, "velocities": case.velocities} | vars(case.step)
    given |= change
    data = given.pop("positions"), given.pop("velocities")
    with pytest.raises(error, match=match):
        ode_step(*data, **given, backend=backend)


def test_unknown_backends_are_refused():
    with pytest.raises(ValueError, match="backend: expected one of auto"):
        run(make_case([3]), backend="cpu")


def test_deterministic_with_any_number_of_threads(restore_threads):
    case = make_case([1, 63, 129] * 300, n_stages=4)
    torch.set_num_threads(1)
    one, one_grads = run(case), gradients(case)
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        assert torch.equal(run(case), one)
        assert all(map(torch.equal, gradients(case), one_grads))


@pytest.mark.parametrize("center", [True, False])
def test_opcheck(center):
    case = make_case([0, 3, 1, 2], n_stages=2)
    step = case.step
    torch.library.opcheck(
        torch.ops.tito_fast.ode_step.default,
        (
            case.positions.requires_grad_(),
            case.velocities.requires_grad_(),
            step.weights,
            step.step_size,
            step.batch_ptr,
            center,
        ),
    )
    torch.library.opcheck(
        torch.ops.tito_fast.ode_step_backward.default,
        (
            case.positions.detach().requires_grad_(),
            step.weights,
            step.step_size,
            step.batch_ptr,
            center,
        ),
    )


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_batch_equals_loop(backend):
    sizes = [5, 1, 0, 63, 2]
    case = make_case(sizes, n_stages=3)
    together = run(case, backend=backend)
    starts = case.step.batch_ptr.tolist()
    for start, end in pairwise(starts):
        one = SimpleNamespace(
            positions=case.positions[start:end],
            velocities=case.velocities[:, start:end],
            step=SimpleNamespace(
                **(vars(case.step) | {"batch_ptr": torch.tensor([0, end - start])})
            ),
        )
        assert torch.equal(run(one, backend=backend), together[start:end])


def test_reference_is_the_formula():
    positions = torch.tensor([[1.0, 0.0, 0.0], [3.0, 0.0, 0.0], [7.0, 7.0, 7.0]])
    velocities = torch.tensor([[[0.0, 2.0, 0.0], [0.0, 4.0, 0.0], [9.0, 9.0, 9.0]]])
    batch_ptr = torch.tensor([0, 2, 3])
    moved = ode_step_reference(positions, velocities, [1.0], 0.5, batch_ptr, True)
    expected = torch.tensor([[-1.0, -0.5, 0.0], [1.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    assert torch.equal(moved, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_cuda_matches_reference(sizes, dtype):
    case = make_case(sizes, n_stages=3, dtype=dtype)
    exact = run(in_float64(case), backend="reference")
    exact_grads = gradients(in_float64(case), backend="reference")
    case.positions, case.velocities = case.positions.cuda(), case.velocities.cuda()
    case.step.batch_ptr = case.step.batch_ptr.cuda()
    check_against_reference(run(case, backend="native"), run(case, backend="reference"), exact)
    assert torch.equal(run(case, backend="native"), run(case, backend="native"))
    positions = case.positions.clone().requires_grad_()
    velocities = case.velocities.clone().requires_grad_()
    result = ode_step(positions, velocities, **vars(case.step), backend="native")
    weight = torch.linspace(-1.0, 2.0, result.numel(), dtype=dtype).view_as(result).cuda()
    grads = torch.autograd.grad((result * weight).sum(), (positions, velocities))
    for ours, reference64 in zip(grads, exact_grads, strict=True):
        check_against_reference(ours, reference64.to(ours), reference64)
