from itertools import pairwise

import pytest
import torch

from tito_fast.errors import BackendUnavailableError
from tito_fast.ops import MlpParameters, readout_step

# Atoms of each molecule, features; one atom alone would stay at the origin.
CASES = [((0, 5, 0, 1, 61, 0), 32), ((63,), 32), ((40, 3), 64)]
WIDE = ((9, 2, 7), 128)
STEP_SIZE = 0.25


@pytest.fixture
def draw(draw_parameters):
    """Draw scalars, vectors, positions, V, then the mlp."""

    def draw_tensors(case, *, dtype=torch.float32, seed=0, device="cpu"):
        sizes, n_features = case
        generator = torch.Generator().manual_seed(seed)
        n = sum(sizes)
        tensors = [
            torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
            for shape in ((n, n_features), (n, 3, n_features), (n, 3), (1, n_features))
        ]
        parameters = draw_parameters((n_features, n_features, 1), generator, dtype)
        return [each.to(device) for each in (*tensors, *parameters)]

    return draw_tensors


def starts(sizes):
    return torch.tensor([0, *sizes]).cumsum(0)


def on(sizes, *, step_size=STEP_SIZE, batch_ptr=None):
    """Return the op on molecules of these sizes."""

    def run(tensors, backend="triton", precision="ieee"):
        scalars, vectors, positions, v_weight, *parameters = tensors
        given = starts(sizes) if batch_ptr is None else batch_ptr
        return readout_step(
            scalars,
            vectors,
            positions,
            v_weight=v_weight,
            parameters=MlpParameters(*parameters),
            batch_ptr=given.to(scalars.device),
            step_size=step_size,
            backend=backend,
            precision=precision,
        )

    return run


def total(found):
    """Return a sum in which each element has another weight."""
    weight = torch.linspace(-1.0, 2.0, found.velocity.numel()).view(-1, 3).to(found.velocity)
    return (found.velocity * weight).sum() + (found.positions * weight.flip(0)).sum()


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("case", [*CASES, WIDE], ids=str)
def test_results_and_gradients_match_reference(draw, check_draws, triton_device, case, gradients):
    draws = [draw(case, seed=seed) for seed in range(2 if case == WIDE else 4)]
    check_draws(on(case[0]), draws, gradients=gradients, backend="triton", device=triton_device)


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp32"])
@pytest.mark.parametrize("case", [CASES[0], WIDE], ids=str)
def test_each_precision_is_within_its_bound(
    draw, check_product_precision, triton_device, case, precision
):
    check_product_precision(on(case[0]), draw(case), precision, triton_device)


def test_gradcheck(draw, triton_device):
    if triton_device.type != "cpu":
        pytest.skip("float64 runs interpreted only")
    sizes = (3, 0, 2)
    tensors = draw((sizes, 32), dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda *each: tuple(on(sizes)(each)),
        [each.requires_grad_() for each in tensors],
        fast_mode=True,
    )


def test_rotations_are_carried_and_translations_removed(draw, triton_device):
    sizes = (5, 3)
    scalars, vectors, positions, *weights = draw((sizes, 32), device=triton_device)
    drawn = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    rotation = torch.linalg.qr(drawn)[0].float().to(triton_device)
    shift = torch.tensor([3.0, -1.0, 2.0], device=triton_device)
    turned = torch.einsum("xy,nyf->nxf", rotation, vectors)
    found = on(sizes)([scalars, turned, positions @ rotation.T + shift, *weights])
    expected = on(sizes)([scalars, vectors, positions, *weights])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs @ rotation.T, rtol=0, atol=2e-6)
        assert ours[:5].mean(0).abs().max() < 1e-6
        assert ours.abs().max() > 0.1


def test_molecules_longer_than_a_tile_are_centered(draw, triton_device):
    sizes = (70, 1, 33)
    found = on(sizes)(draw((sizes, 32), device=triton_device))
    for each in found:
        for start, end in pairwise(starts(sizes).tolist()):
            assert each[start:end].double().mean(0).abs().max() < 1e-7


@pytest.mark.parametrize("sizes", [(), (0, 0)], ids=str)
def test_without_atoms_gradients_are_zero(draw, triton_device, sizes):
    tensors = [each.requires_grad_() for each in draw((sizes, 32), device=triton_device)]
    found = on(sizes)(tensors)
    assert (found.velocity.shape, found.positions.shape) == ((0, 3), (0, 3))
    gradients = torch.autograd.grad(found.velocity.sum() + found.positions.sum(), tensors)
    assert [each.shape for each in gradients] == [each.shape for each in tensors]
    assert all(torch.count_nonzero(each) == 0 for each in gradients)


def test_an_atom_alone_stays_at_the_origin(draw, triton_device):
    for each in on((1,))(draw(((1,), 32), device=triton_device)):
        assert torch.equal(each, torch.zeros_like(each))


def test_noncontiguous_and_offset_views(draw, triton_device):
    sizes = (4, 6)
    tensors = draw((sizes, 32), device=triton_device)
    views = []
    for each in tensors:
        store = torch.full((*each.shape, 2), torch.nan, device=triton_device)
        store[..., 1] = each
        views.append(store[..., 1].requires_grad_())
    # A tensor of one element is contiguous wherever it lies.
    assert not any(view.is_contiguous() for view in views if view.numel() > 1)
    wide = torch.stack((starts(sizes), starts(sizes)), dim=1)
    leaves = [each.requires_grad_() for each in tensors]
    found, expected = on(sizes, batch_ptr=wide[:, 0])(views), on(sizes)(leaves)
    assert all(map(torch.equal, found, expected))
    grads = torch.autograd.grad(total(found), views)
    assert all(map(torch.equal, grads, torch.autograd.grad(total(expected), leaves)))


@pytest.mark.parametrize(
    ("n_features", "dtype", "precision", "error", "match"),
    [
        (24, torch.float32, "ieee", BackendUnavailableError, "32, 64, 128 features, got 24"),
        (32, torch.float32, "half", ValueError, "precision: expected one of ieee"),
        (32, torch.float64, "bf16", BackendUnavailableError, "float64"),
    ],
)
def test_invalid_inputs(draw, triton_device, n_features, dtype, precision, error, match):
    tensors = draw(((4,), n_features), dtype=dtype, device=triton_device)
    with pytest.raises(error, match=match):
        on((4,))(tensors, precision=precision)


def test_other_widths_are_refused(draw, draw_parameters, triton_device):
    scalars, vectors, positions, v_weight, *_ = draw(((4,), 64), device=triton_device)
    parameters = draw_parameters((64, 32, 1), torch.Generator(), torch.float32)
    weights = [each.to(triton_device) for each in parameters]
    with pytest.raises(
        BackendUnavailableError, match="as many features as hidden ones, 32, got 64"
    ):
        on((4,))([scalars, vectors, positions, v_weight, *weights])


@pytest.mark.parametrize(
    ("batch_ptr", "match"),
    [
        ([0, 3], "batch_ptr: .* n_atoms = 4, got 0 to 3"),
        ([0, 5, 4], "batch_ptr: expected non-decreasing"),
        ([0], "batch_ptr: "),
    ],
)
def test_molecules_that_do_not_hold_the_atoms_are_refused(draw, triton_device, batch_ptr, match):
    if triton_device.type != "cpu" and len(batch_ptr) > 1:
        pytest.skip("content is checked on CPU tensors only")
    with pytest.raises(ValueError, match=match):
        on((), batch_ptr=torch.tensor(batch_ptr))(draw(((4,), 32), device=triton_device))


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_deterministic(draw, triton_device, precision):
    sizes = (1, 130, 0, 70)
    tensors = [each.requires_grad_() for each in draw((sizes, 32), device=triton_device)]

    def values():
        found = on(sizes)(tensors, precision=precision)
        return [*found, *torch.autograd.grad(total(found), tensors)]

    assert all(map(torch.equal, values(), values()))


def test_gradients_that_nobody_wants_are_left_out(draw, triton_device):
    sizes = (20, 10)
    tensors = draw((sizes, 32), device=triton_device)
    every = [each.clone().requires_grad_() for each in tensors]
    all_gradients = torch.autograd.grad(total(on(sizes)(every)), every)
    for wanted in ([0], [1], [2], [3, 13], [5]):
        some = [each.clone().requires_grad_(index in wanted) for index, each in enumerate(tensors)]
        found = torch.autograd.grad(total(on(sizes)(some)), [some[index] for index in wanted])
        for index, gradient in zip(wanted, found, strict=True):
            assert torch.equal(gradient, all_gradients[index])


def test_second_derivative_is_refused(draw, triton_device):
    tensors = [each.requires_grad_() for each in draw(((3,), 32), device=triton_device)]
    result = on((3,))(tensors).velocity.square().sum()
    (gradient,) = torch.autograd.grad(result, tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="readout_step: expected to be differentiated once"):
        gradient.sum().backward()


def test_opcheck(draw, triton_device):
    sizes = (2, 0, 3)
    tensors = draw((sizes, 32), device=triton_device)
    others = starts(sizes).to(triton_device), STEP_SIZE, "ieee"
    on(sizes)(tensors)
    leaves = [each.clone().requires_grad_() for each in tensors]
    torch.library.opcheck(
        torch.ops.tito_fast.readout_step_triton.default, (*leaves[:3], leaves[3:], *others)
    )
    positions = tensors[2]
    for wants in ([True, True], [True, False], [False, True]):
        torch.library.opcheck(
            torch.ops.tito_fast.readout_step_triton_backward.default,
            (positions, -positions, *tensors[:3], tensors[3:], *others, wants),
        )


@pytest.mark.parametrize("precision", ["ieee", "bf16"])
def test_batch_equals_loop(draw, triton_device, cuts, precision):
    *inputs, v_weight = draw((cuts, 32), device=triton_device)[:4]
    parameters = draw((cuts, 32), device=triton_device)[4:]

    def values(sizes, rows):
        leaves = [each[rows].clone().requires_grad_() for each in inputs]
        found = on(sizes)([*leaves, v_weight, *parameters], precision=precision)
        sum_of_squares = found.velocity.square().sum() + found.positions.square().sum()
        return [*found, *torch.autograd.grad(sum_of_squares, leaves)]

    together = values(cuts, slice(None))
    for start, end in pairwise(starts(cuts).tolist()):
        rows = slice(start, end)
        for ours, theirs in zip(values((end - start,), rows), together, strict=True):
            assert torch.equal(ours, theirs[rows])
