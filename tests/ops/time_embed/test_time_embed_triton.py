from itertools import pairwise

import pytest
import torch

from tito_fast.errors import BackendUnavailableError
from tito_fast.ops import MlpParameters, mlp, time_embed

# Atoms of each molecule, features, encodings of a molecule, outputs.
CASES = [
    ((0, 5, 0, 1, 61, 0), 32, 3, 32),
    ((63,), 32, 1, 3),
    ((40, 3), 64, 2, 64),
]
WIDE = ((9, 1, 7), 128, 1, 128)


@pytest.fixture
def draw(draw_parameters):
    """Draw scalars, encodings, then the mlp."""

    def draw_tensors(case, *, dtype=torch.float32, seed=0, device="cpu"):
        sizes, n_features, n_encodings, n_out = case
        generator = torch.Generator().manual_seed(seed)
        inputs = [
            torch.randn(n, width, generator=generator, dtype=torch.float64).to(dtype)
            for n, width in ((sum(sizes), n_features), (len(sizes), n_encodings * n_features))
        ]
        mlp_sizes = ((1 + n_encodings) * n_features, n_features, n_out)
        return [
            each.to(device) for each in (*inputs, *draw_parameters(mlp_sizes, generator, dtype))
        ]

    return draw_tensors


def starts(sizes):
    return torch.tensor([0, *sizes]).cumsum(0)


def on(sizes):
    """Return the op on molecules of these sizes."""

    def run(tensors, backend="triton", precision="ieee"):
        scalars, encodings, *parameters = tensors
        result = time_embed(
            scalars,
            encodings,
            starts(sizes).to(scalars.device),
            parameters=MlpParameters(*parameters),
            backend=backend,
            precision=precision,
        )
        return (result,)

    return run


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


@pytest.mark.parametrize("n_out", [32, 3])
def test_gradcheck(draw, triton_device, n_out):
    if triton_device.type != "cpu":
        pytest.skip("float64 runs interpreted only")
    sizes = (2, 0, 1)
    tensors = draw((sizes, 32, 2, n_out), dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda *each: on(sizes)(each), [each.requires_grad_() for each in tensors], fast_mode=True
    )


def test_is_the_mlp_of_both_and_knows_its_molecule(draw, triton_device):
    sizes = (3, 2)
    scalars, encodings, *parameters = draw((sizes, 32, 2, 5), device=triton_device)
    joined = torch.cat([scalars, encodings[[0, 0, 0, 1, 1]]], dim=1)
    (together,) = on(sizes)([scalars, encodings, *parameters])
    expected = mlp(joined, MlpParameters(*parameters), backend="triton")
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-5)
    order = torch.tensor([2, 0, 1, 4, 3], device=triton_device)
    assert torch.equal(on(sizes)([scalars[order], encodings, *parameters])[0], together[order])
    (swapped,) = on(sizes)([scalars, encodings.flip(0), *parameters])
    assert (swapped - together).abs().amax(1).min() > 0


@pytest.mark.parametrize("sizes", [(), (0, 0)], ids=str)
def test_without_atoms_gradients_are_zero(draw, triton_device, sizes):
    tensors = [each.requires_grad_() for each in draw((sizes, 32, 1, 3), device=triton_device)]
    (result,) = on(sizes)(tensors)
    assert result.shape == (0, 3)
    gradients = torch.autograd.grad(result.sum(), tensors)
    assert [each.shape for each in gradients] == [each.shape for each in tensors]
    assert all(torch.count_nonzero(each) == 0 for each in gradients)


def test_noncontiguous_and_offset_views(draw, triton_device):
    sizes = (4, 6)
    tensors = draw((sizes, 32, 1, 5), device=triton_device)
    views = []
    for each in tensors:
        store = torch.full((*each.shape, 2), torch.nan, device=triton_device)
        store[..., 1] = each
        views.append(store[..., 1])
    assert not any(view.is_contiguous() for view in views)
    wide = torch.stack((starts(sizes), starts(sizes)), dim=1).to(triton_device)
    scalars, encodings, *parameters = (view.requires_grad_() for view in views)
    found = time_embed(
        scalars, encodings, wide[:, 0], parameters=MlpParameters(*parameters), backend="triton"
    )
    leaves = [each.requires_grad_() for each in tensors]
    (expected,) = on(sizes)(leaves)
    assert torch.equal(found, expected)
    grads = torch.autograd.grad(found.square().sum(), [scalars, encodings, *parameters])
    assert all(map(torch.equal, grads, torch.autograd.grad(expected.square().sum(), leaves)))


@pytest.mark.parametrize(
    ("case", "dtype", "precision", "error", "match"),
    [
        (((4,), 24, 1, 1), torch.float32, "ieee", BackendUnavailableError, "32, 64, 128 features"),
        (((4,), 32, 1, 1), torch.float32, "half", ValueError, "precision: expected one of ieee"),
        (((4,), 32, 1, 1), torch.float64, "bf16", BackendUnavailableError, "float64"),
    ],
)
def test_invalid_inputs(draw, triton_device, case, dtype, precision, error, match):
    tensors = draw(case, dtype=dtype, device=triton_device)
    with pytest.raises(error, match=match):
        on(case[0])(tensors, precision=precision)


def test_other_widths_are_refused(draw, draw_parameters, triton_device):
    scalars, encodings, *_ = draw(((4,), 32, 1, 1), device=triton_device)
    for sizes, given, match in (
        ((64, 64, 1), encodings, "expected as many features as hidden ones, 64, got 32"),
        ((41, 32, 1), encodings[:, :9], "a multiple of 32 inputs of the mlp, got 41"),
    ):
        parameters = draw_parameters(sizes, torch.Generator(), torch.float32)
        weights = [each.to(triton_device) for each in parameters]
        with pytest.raises(BackendUnavailableError, match=match):
            on((4,))([scalars, given, *weights])


def test_molecules_that_do_not_hold_the_atoms_are_refused(draw, triton_device):
    if triton_device.type != "cpu":
        pytest.skip("content is checked on CPU tensors only")
    with pytest.raises(ValueError, match=r"batch_ptr: .* n_atoms = 4, got 0 to 3"):
        on((3,))(draw(((4,), 32, 1, 1)))


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_deterministic(draw, triton_device, precision):
    sizes = (1, 130, 0, 70)
    tensors = [each.requires_grad_() for each in draw((sizes, 32, 1, 9), device=triton_device)]

    def values():
        (result,) = on(sizes)(tensors, precision=precision)
        return [result, *torch.autograd.grad(result.square().sum(), tensors)]

    assert all(map(torch.equal, values(), values()))


def test_gradients_that_nobody_wants_are_left_out(draw, triton_device):
    sizes = (20, 10)
    tensors = draw((sizes, 32, 2, 5), device=triton_device)
    every = [each.clone().requires_grad_() for each in tensors]
    all_gradients = torch.autograd.grad(on(sizes)(every)[0].sum(), every)
    for wanted in ([0], [1], [2, 11], [5]):
        some = [each.clone().requires_grad_(index in wanted) for index, each in enumerate(tensors)]
        found = torch.autograd.grad(on(sizes)(some)[0].sum(), [some[index] for index in wanted])
        for index, gradient in zip(wanted, found, strict=True):
            assert torch.equal(gradient, all_gradients[index])


def test_second_derivative_is_refused(draw, triton_device):
    tensors = [each.requires_grad_() for each in draw(((3,), 32, 1, 2), device=triton_device)]
    (gradient,) = torch.autograd.grad(on((3,))(tensors)[0].sum(), tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="time_embed: expected to be differentiated once"):
        gradient.sum().backward()


def test_opcheck(draw, triton_device):
    sizes = (2, 0, 1)
    tensors = draw((sizes, 32, 1, 2), device=triton_device)
    batch_ptr = starts(sizes).to(triton_device)
    on(sizes)(tensors)
    scalars, encodings, *parameters = (each.clone().requires_grad_() for each in tensors)
    torch.library.opcheck(
        torch.ops.tito_fast.time_embed_triton.default,
        (scalars, encodings, parameters, batch_ptr, "ieee"),
    )
    grad = torch.ones(3, 2, device=triton_device)
    for wants in ([True, True], [True, False], [False, True]):
        torch.library.opcheck(
            torch.ops.tito_fast.time_embed_triton_backward.default,
            (grad, *tensors[:2], tensors[2:], batch_ptr, "ieee", wants),
        )


@pytest.mark.parametrize("precision", ["ieee", "bf16"])
def test_batch_equals_loop(draw, triton_device, cuts, precision):
    sizes = cuts
    scalars, encodings, *parameters = draw((sizes, 32, 2, 32), device=triton_device)

    def values(sizes, *inputs):
        inputs = [each.clone().requires_grad_() for each in inputs]
        (result,) = on(sizes)([*inputs, *parameters], precision=precision)
        return [result, *torch.autograd.grad(result.square().sum(), inputs)]

    together = values(sizes, scalars, encodings)
    for molecule, (start, end) in enumerate(pairwise(starts(sizes).tolist())):
        atoms, one = slice(start, end), slice(molecule, molecule + 1)
        *alone, of_encodings = values((end - start,), scalars[atoms], encodings[one])
        for ours, theirs in zip(alone, together[:2], strict=True):
            assert torch.equal(ours, theirs[atoms])
        # The interpreter rounds the product for a molecule by its place in a tile of molecules.
        rounding = 0.0 if triton_device.type == "cuda" else 1e-6 * float(together[2].abs().max())
        torch.testing.assert_close(of_encodings, together[2][one], rtol=0, atol=rounding)
