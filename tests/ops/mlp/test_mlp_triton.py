import pytest
import torch

from tito_fast.errors import BackendUnavailableError
from tito_fast.ops import MlpParameters, mlp

# n_in, n_hidden, n_out: each width, a last linear in whole blocks and one that is cut off.
SIZES = [(64, 32, 96), (32, 32, 1), (64, 64, 20)]
N_DRAWS = 4


@pytest.fixture
def draw(draw_parameters):
    def draw_tensors(n, sizes, *, dtype=torch.float32, seed=0, device="cpu"):
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(n, sizes[0], generator=generator, dtype=torch.float64).to(dtype)
        return [each.to(device) for each in (inputs, *draw_parameters(sizes, generator, dtype))]

    return draw_tensors


def run(tensors, backend="triton", precision="ieee"):
    return (mlp(tensors[0], MlpParameters(*tensors[1:]), backend=backend, precision=precision),)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("sizes", [*SIZES, (128, 128, 2)])
def test_results_and_gradients_match_reference(draw, check_draws, triton_device, sizes, gradients):
    n_draws = 2 if sizes[1] == 128 else N_DRAWS
    draws = [draw(37 if sizes[1] == 128 else 67, sizes, seed=seed) for seed in range(n_draws)]
    check_draws(run, draws, gradients=gradients, backend="triton", device=triton_device)


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp32"])
@pytest.mark.parametrize("sizes", [*SIZES, (128, 128, 2)])
def test_each_precision_is_within_its_bound(
    draw, check_product_precision, triton_device, sizes, precision
):
    check_product_precision(run, draw(33, sizes), precision, triton_device)


@pytest.mark.parametrize("sizes", [(32, 32, 32), (32, 32, 3)])
def test_gradcheck(draw, triton_device, sizes):
    if triton_device.type != "cpu":
        pytest.skip("float64 runs interpreted only")
    tensors = draw(2, sizes, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda *each: run(each), [each.requires_grad_() for each in tensors], fast_mode=True
    )


def test_features_may_be_permuted(draw, triton_device):
    inputs, *rest = draw(20, (64, 32, 5), device=triton_device)
    parameters = MlpParameters(*rest)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1)).to(triton_device)
    permuted = parameters._replace(first_weight=parameters.first_weight[:, order])
    (expected,) = run([inputs, *parameters])
    torch.testing.assert_close(run([inputs[:, order], *permuted])[0], expected, rtol=0, atol=1e-5)


def test_without_rows_gradients_of_weights_are_zero(draw, triton_device):
    tensors = [each.requires_grad_() for each in draw(0, (32, 32, 2), device=triton_device)]
    (result,) = run(tensors)
    assert result.shape == (0, 2)
    inputs, *weights = torch.autograd.grad(result.sum(), tensors)
    assert inputs.shape == (0, 32)
    assert all(torch.count_nonzero(each) == 0 for each in weights)


def test_noncontiguous_and_offset_views(draw, triton_device):
    tensors = draw(10, (32, 32, 5), device=triton_device)
    views = []
    for each in tensors:
        store = torch.full((*each.shape, 2), torch.nan, device=triton_device)
        store[..., 1] = each
        views.append(store[..., 1])
    assert not any(view.is_contiguous() for view in views)
    assert torch.equal(run(views)[0], run(tensors)[0])


@pytest.mark.parametrize(
    ("sizes", "dtype", "precision", "error", "match"),
    [
        ((24, 24, 1), torch.float32, "ieee", BackendUnavailableError, "32, 64, 128 features, got"),
        ((40, 32, 1), torch.float32, "ieee", BackendUnavailableError, "multiple of 32 inputs"),
        ((32, 32, 1), torch.float32, "half", ValueError, "precision: expected one of ieee"),
        ((32, 32, 1), torch.float64, "bf16", BackendUnavailableError, "float64"),
    ],
)
def test_invalid_inputs(draw, triton_device, sizes, dtype, precision, error, match):
    tensors = draw(4, sizes, dtype=dtype, device=triton_device)
    with pytest.raises(error, match=match):
        run(tensors, precision=precision)


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_deterministic(draw, triton_device, precision):
    tensors = [each.requires_grad_() for each in draw(300, (32, 32, 9), device=triton_device)]

    def values():
        (result,) = run(tensors, precision=precision)
        return [result, *torch.autograd.grad(result.square().sum(), tensors)]

    assert all(map(torch.equal, values(), values()))


def test_gradients_that_nobody_wants_are_left_out(draw, triton_device):
    tensors = draw(30, (32, 32, 5), device=triton_device)
    every = [each.clone().requires_grad_() for each in tensors]
    all_gradients = torch.autograd.grad(run(every)[0].sum(), every)
    for wanted in ([0], [1, 10], [5]):
        some = [each.clone().requires_grad_(index in wanted) for index, each in enumerate(tensors)]
        found = torch.autograd.grad(run(some)[0].sum(), [some[index] for index in wanted])
        for index, gradient in zip(wanted, found, strict=True):
            assert torch.equal(gradient, all_gradients[index])


def test_second_derivative_is_refused(draw, triton_device):
    tensors = [each.requires_grad_() for each in draw(3, (32, 32, 2), device=triton_device)]
    (gradient,) = torch.autograd.grad(run(tensors)[0].sum(), tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="mlp: expected to be differentiated once"):
        gradient.sum().backward()


def test_opcheck(draw, triton_device):
    tensors = draw(3, (32, 32, 2), device=triton_device)
    run(tensors)
    inputs, *parameters = (each.requires_grad_() for each in tensors)
    torch.library.opcheck(torch.ops.tito_fast.mlp_triton.default, (inputs, parameters, "ieee"))
    plain = [each.detach() for each in parameters]
    grad = torch.ones(3, 2, device=triton_device)
    for wants in ([True, True], [True, False], [False, True]):
        torch.library.opcheck(
            torch.ops.tito_fast.mlp_triton_backward.default,
            (grad, inputs.detach(), plain, "ieee", wants),
        )


@pytest.mark.parametrize("precision", ["ieee", "bf16"])
def test_batch_equals_loop(draw, triton_device, cuts, precision):
    inputs, *parameters = draw(sum(cuts), (64, 32, 32), device=triton_device)

    def values(rows):
        rows = rows.clone().requires_grad_()
        (result,) = run([rows, *parameters], precision=precision)
        return result, *torch.autograd.grad(result.square().sum(), [rows])

    together = values(inputs)
    start = 0
    for n in cuts:
        for ours, theirs in zip(values(inputs[start : start + n]), together, strict=True):
            assert torch.equal(ours, theirs[start : start + n])
        start += n
    assert start == inputs.shape[0]
