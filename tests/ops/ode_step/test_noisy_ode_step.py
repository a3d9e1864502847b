from itertools import pairwise

import pytest
import torch

from tests.ops.ode_step.noisy_cases import SIZES, composed, make_case, normals_of, run
from tito_fast.errors import BackendUnavailableError
from tito_fast.ops import noisy_ode_step, ode_step
from tito_fast.testing.tolerance import check_against_reference

BACKENDS = ["native", "reference"]


def part(case, start, end, molecule):
    """The case of one molecule."""
    rows = slice(molecule, molecule + 1)
    one = make_case([end - start])
    one.positions = case.positions[start:end]
    one.velocities = case.velocities[:, start:end]
    one.step = case.step | {
        "keys": case.step["keys"][rows],
        "replicas": case.step["replicas"][rows],
        "batch_ptr": torch.tensor([0, end - start]),
    }
    return one


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_stages", [1, 2, 8])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{len(sizes)}x{sum(sizes)}")
def test_matches_reference(sizes, n_stages, dtype, center):
    case = make_case(sizes, n_stages=n_stages, dtype=dtype)
    # The normals are float32 on every backend; the reference's differ by an ulp of that.
    exact = composed(case, is_centered=center, dtype=torch.float64)
    plain = composed(case, is_centered=center)
    check_against_reference(run(case, center=center, backend="native"), plain, exact)
    of_reference = composed(case, is_centered=center, normals="reference")
    assert torch.equal(run(case, center=center, backend="reference"), of_reference)
    assert (plain - of_reference).abs().max() < 1e-6 if plain.numel() else True


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uncentered_native_step_is_the_composition_of_native_ops_bitwise(dtype):
    case = make_case([37, 0, 1000], n_stages=3, dtype=dtype)
    expected = composed(case, is_centered=False, backend="native")
    assert torch.equal(run(case, center=False, backend="native"), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("center", [True, False])
def test_gradients_are_those_of_the_step_without_noise(backend, center):
    case = make_case([0, 5, 1, 63], n_stages=3)
    gradients = []
    for function, names in (
        (noisy_ode_step, tuple(case.step)),
        (ode_step, ("weights", "step_size", "batch_ptr")),
    ):
        leaves = [each.clone().requires_grad_() for each in (case.positions, case.velocities)]
        step = {name: case.step[name] for name in names}
        result = function(*leaves, **step, center=center, backend=backend)
        weight = torch.linspace(-1.0, 2.0, result.numel()).view_as(result)
        gradients.append(torch.autograd.grad((result * weight).sum(), leaves))
    for ours, expected in zip(*gradients, strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("center", [True, False])
def test_gradcheck_once_and_twice(center, backend):
    case = make_case([0, 3, 1, 2], dtype=torch.float64)
    inputs = (case.positions.requires_grad_(), case.velocities.requires_grad_())

    def step(positions, velocities):
        return noisy_ode_step(positions, velocities, **case.step, center=center, backend=backend)

    assert torch.autograd.gradcheck(step, inputs)
    assert torch.autograd.gradgradcheck(step, inputs)


def test_translation_is_removed_and_the_noise_does_not_turn_with_the_rest():
    case = make_case([5, 7], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    noise = run(case) - run(case, noise_scale=0.0)
    without = run(case, noise_scale=0.0)
    case.positions = case.positions @ rotation.T + torch.tensor([4.0, -2.0, 1.0]).double()
    case.velocities = case.velocities @ rotation.T
    torch.testing.assert_close(run(case), without @ rotation.T + noise, rtol=0, atol=1e-13)


@pytest.mark.parametrize("backend", BACKENDS)
def test_noise_is_scaled_and_without_it_there_is_the_step_alone(backend):
    case = make_case([5, 70], dtype=torch.float64)
    still = run(case, noise_scale=0.0, center=False, backend=backend)
    names = ("weights", "step_size", "batch_ptr")
    plain = ode_step(
        case.positions,
        case.velocities,
        **{name: case.step[name] for name in names},
        center=False,
        backend=backend,
    )
    assert torch.equal(still, plain)
    noise = run(case, noise_scale=-2.5, center=False, backend=backend) - still
    expected = -2.5 * normals_of(case, backend).double()
    torch.testing.assert_close(noise, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_number_of_the_noise_matters(backend):
    case = make_case([40])
    base = run(case, backend=backend)
    for change in (
        {"keys": case.step["keys"] ^ 1},
        {"keys": case.step["keys"] ^ 2**40},
        {"replicas": case.step["replicas"] ^ 1},
        {"rollout_step": 1},
        {"stream_evaluation": 1},
    ):
        assert not (run(case, **change, backend=backend) == base).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_and_tiny(backend):
    assert run(make_case([]), backend=backend).shape == (0, 3)
    assert run(make_case([0, 0]), backend=backend).shape == (0, 3)
    assert torch.equal(run(make_case([1]), backend=backend), torch.zeros(1, 3))
    assert run(make_case([3, 0, 2]), backend=backend).isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_noncontiguous_and_offset_views(backend):
    case = make_case([3, 4], n_stages=3)
    expected = run(case, backend=backend)
    wide = torch.full((8, 6), torch.nan)
    wide[1:, 1::2] = case.positions
    case.positions = wide[1:, 1::2]
    case.velocities = case.velocities.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    for name in ("keys", "replicas", "batch_ptr"):
        case.step[name] = torch.stack((case.step[name], case.step[name]), dim=1)[:, 0]
        assert not case.step[name].is_contiguous()
    assert not case.positions.is_contiguous()
    assert not case.velocities.is_contiguous()
    assert torch.equal(run(case, backend=backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"weights": [1.0]}, ValueError, r"weights: expected one per stage .*\(2\), got 1"),
        ({"step_size": float("inf")}, ValueError, "step_size: expected a finite number, got inf"),
        ({"noise_scale": float("nan")}, ValueError, "noise_scale: expected a finite number"),
        ({"keys": torch.ones(3).long()}, ValueError, r"keys: expected shape \(2,\), got \(3,\)"),
        ({"keys": torch.ones(2)}, TypeError, "keys: expected dtype int64, got float32"),
        ({"replicas": torch.ones(1).long()}, ValueError, r"replicas: expected shape \(2,\)"),
        ({"replicas": torch.tensor([0, -1])}, ValueError, r"replicas: .* 2\*\*32 - 1, got -1"),
        ({"replicas": torch.tensor([0, 2**32])}, ValueError, "replicas: .* got 4294967296"),
        ({"rollout_step": -1}, ValueError, r"rollout_step: expected 0 to 2\*\*32 - 1, got -1"),
        ({"stream_evaluation": 2**32}, ValueError, "stream_evaluation: expected 0 to .*, got"),
        ({"batch_ptr": torch.tensor([0, 5, 6])}, ValueError, "batch_ptr: .* n_atoms = 7"),
        ({"batch_ptr": torch.tensor([0, 9, 7])}, ValueError, "batch_ptr: expected non-decreasing"),
    ],
)
def test_invalid_inputs(backend, change, error, match):
    with pytest.raises(error, match=match):
        run(make_case([3, 4]), **change, backend=backend)


def test_there_is_no_triton_kernel():
    with pytest.raises(BackendUnavailableError, match="noisy_ode_step has no Triton kernel"):
        run(make_case([3]), backend="triton")


def test_deterministic_with_any_number_of_threads(restore_threads):
    case = make_case([1, 63, 129] * 100, n_stages=4)
    torch.set_num_threads(1)
    alone = run(case, backend="native")
    assert torch.equal(run(case, backend="native"), alone)
    torch.set_num_threads(2)
    assert torch.equal(run(case, backend="native"), alone)


@pytest.mark.parametrize("center", [True, False])
def test_opcheck(center):
    case = make_case([3, 0, 4])
    torch.library.opcheck(
        torch.ops.tito_fast.noisy_ode_step.default,
        (
            case.positions.requires_grad_(),
            case.velocities.requires_grad_(),
            *case.step.values(),
            center,
        ),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_equals_loop(backend):
    case = make_case([5, 1, 0, 63, 2], n_stages=3)
    together = run(case, backend=backend)
    for molecule, (start, end) in enumerate(pairwise(case.step["batch_ptr"].tolist())):
        one = part(case, start, end, molecule)
        assert torch.equal(run(one, backend=backend), together[start:end])


@pytest.mark.gpu
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{len(sizes)}x{sum(sizes)}")
def test_cuda_matches_reference(sizes):
    case = make_case(sizes, n_stages=3)
    exact, plain = composed(case, dtype=torch.float64), composed(case)
    uncentered = run(case, center=False, backend="native")
    case.positions, case.velocities = case.positions.cuda(), case.velocities.cuda()
    for name in ("keys", "replicas", "batch_ptr"):
        case.step[name] = case.step[name].cuda()
    check_against_reference(run(case, backend="native").cpu(), plain, exact)
    assert torch.equal(run(case, center=False, backend="native").cpu(), uncentered)
