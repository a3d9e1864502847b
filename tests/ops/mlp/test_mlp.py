import pytest
import torch

from tito_fast.errors import BackendUnavailableError
from tito_fast.ops import MlpParameters, mlp

FEATURES = [1, 8, 24, 63, 64, 128]
# Draws of a case: the largest error of one is a matter of luck in both codes. In float32 a single row
# is left to the last test, which wants the bits of a batch: torch has another sum for it.
N_DRAWS = {torch.float32: 32, torch.float64: 2}
# At least: few features are close to each other now and then, and a norm makes their rounding large.
N_HIDDEN = 24
CASES = [
    *((n, torch.float64) for n in (0, 1, 63, 129)),
    *((n, torch.float32) for n in (0, 63, 129)),
]


@pytest.fixture
def draw(draw_parameters):
    def draw_tensors(n, sizes, *, dtype=torch.float32, seed=0):
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(n, sizes[0], generator=generator, dtype=torch.float64).to(dtype)
        return [inputs, *draw_parameters(sizes, generator, dtype)]

    return draw_tensors


def run(tensors, backend="native"):
    return (mlp(tensors[0], MlpParameters(*tensors[1:]), backend=backend),)


def sizes_of(n_features):
    return (2 * n_features, max(n_features, N_HIDDEN), n_features + 2)


@pytest.mark.parametrize(("n", "dtype"), CASES)
@pytest.mark.parametrize("n_features", FEATURES)
def test_matches_reference(draw, check_draws, n_features, n, dtype):
    sizes = sizes_of(n_features)
    draws = [draw(n, sizes, dtype=dtype, seed=seed) for seed in range(N_DRAWS[dtype])]
    check_draws(run, draws, gradients=False)


@pytest.mark.parametrize(("n", "dtype"), CASES)
@pytest.mark.parametrize("n_features", FEATURES)
def test_gradients_match_reference(draw, check_draws, n_features, n, dtype):
    sizes = sizes_of(n_features)
    draws = [draw(n, sizes, dtype=dtype, seed=seed) for seed in range(N_DRAWS[dtype])]
    check_draws(run, draws, gradients=True)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 70, 1), (130, 2, 5), (7, 33, 200)])
def test_inputs_hidden_and_outputs_may_differ(draw, check_draws, sizes):
    check_draws(run, [draw(50, sizes, dtype=torch.float64)], gradients=False)


def test_one_hidden_feature_is_normed_away(draw):
    tensors = [each.requires_grad_() for each in draw(5, (2, 1, 3))]
    (result,) = run(tensors)
    gradients = dict(
        zip(
            ["inputs", *MlpParameters._fields],
            torch.autograd.grad(result.sum(), tensors),
            strict=True,
        )
    )
    before_a_norm = ["inputs", "first_weight", "first_bias", "first_scale", "first_shift"]
    for name in [*before_a_norm, "second_weight", "second_bias", "second_scale"]:
        assert torch.count_nonzero(gradients[name]) == 0, name
    for name in ("second_shift", "last_weight", "last_bias"):
        assert torch.count_nonzero(gradients[name]) > 0, name


@pytest.mark.parametrize("sizes", [(3, 4, 2), (2, 9, 5)])
def test_gradcheck(draw, sizes):
    tensors = [each.requires_grad_() for each in draw(3, sizes, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *each: run(each), tensors)


def test_features_may_be_permuted(draw):
    tensors = draw(20, (6, 8, 5), dtype=torch.float64)
    inputs, parameters = tensors[0], MlpParameters(*tensors[1:])
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    permuted = parameters._replace(first_weight=parameters.first_weight[:, order])
    torch.testing.assert_close(
        mlp(inputs[:, order], permuted, backend="native"),
        mlp(inputs, parameters, backend="native"),
        rtol=0,
        atol=1e-13,
    )


def test_without_rows_gradients_of_weights_are_zero(draw):
    tensors = [each.requires_grad_() for each in draw(0, (3, 4, 2))]
    (result,) = run(tensors)
    assert result.shape == (0, 2)
    inputs, *weights = torch.autograd.grad(result.sum(), tensors)
    assert inputs.shape == (0, 3)
    assert all(torch.count_nonzero(each) == 0 for each in weights)


def test_noncontiguous_and_offset_views(draw):
    tensors = draw(10, (6, 8, 5))
    expected = run(tensors)[0]
    wide = torch.full((11, 12), torch.nan)
    wide[1:, ::2] = tensors[0]
    views = [wide[1:, ::2]]
    for each in tensors[1:]:
        store = torch.full((*each.shape, 2), torch.nan)
        store[..., 1] = each
        views.append(store[..., 1])
    assert not any(view.is_contiguous() for view in views)
    assert torch.equal(run(views)[0], expected)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(
    ("name", "value", "error", "match"),
    [
        ("inputs", torch.zeros(4), ValueError, r"inputs: expected shape \(n, n_in\), got \(4,\)"),
        ("inputs", torch.zeros(4, 3).half(), TypeError, "inputs: expected dtype float32"),
        ("inputs", torch.zeros(4, 2), ValueError, r"first_weight: .* \(n_hidden, 2\)"),
        ("inputs", torch.zeros(4, 3).double(), TypeError, "first_weight: expected dtype float64"),
        ("first_bias", torch.zeros(4), ValueError, r"parameters.first_bias: .* \(5,\), got"),
        ("second_weight", torch.zeros(5, 4), ValueError, r"second_weight: .* \(5, 5\)"),
        ("second_shift", torch.zeros(5, 1), ValueError, r"second_shift: .* got \(5, 1\)"),
        ("last_weight", torch.zeros(2, 4), ValueError, r"last_weight: .* \(n_out, 5\)"),
        ("last_weight", torch.zeros(0, 5), ValueError, r"last_bias: .* \(0,\)"),
        ("last_bias", torch.zeros(3), ValueError, r"last_bias: .* \(2,\), got \(3,\)"),
        ("last_bias", torch.zeros(2).double(), TypeError, "last_bias: expected dtype float32"),
        ("first_scale", torch.zeros(5, device="meta"), ValueError, "first_scale: expected device"),
    ],
)
def test_invalid_inputs(draw, backend, name, value, error, match):
    tensors = draw(4, (3, 5, 2))
    inputs, parameters = tensors[0], MlpParameters(*tensors[1:])
    if name == "inputs":
        inputs = value
    else:
        parameters = parameters._replace(**{name: value})
    with pytest.raises(error, match=match):
        mlp(inputs, parameters, backend=backend)


def test_no_width_may_be_zero(draw):
    with pytest.raises(ValueError, match="first_weight: n_in: expected at least 1, got 0"):
        run(draw(4, (1, 2, 2))[:1] and [torch.zeros(4, 0), *_with_no_inputs(draw)])


def _with_no_inputs(draw):
    parameters = MlpParameters(*draw(4, (1, 2, 2))[1:])
    return parameters._replace(first_weight=torch.zeros(2, 0))


def test_backends_without_a_kernel_say_so(draw):
    tensors = draw(1, (1, 2, 1))
    with pytest.raises(BackendUnavailableError, match=r"precision: expected ieee .*, got bf16"):
        mlp(tensors[0], MlpParameters(*tensors[1:]), backend="native", precision="bf16")


def test_deterministic_with_any_number_of_threads(draw, restore_threads):
    tensors = [each.requires_grad_() for each in draw(5000, (24, 17, 9))]

    def values():
        (result,) = run(tensors)
        return [result, *torch.autograd.grad(result.square().sum(), tensors)]

    torch.set_num_threads(1)
    one = values()
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        assert all(map(torch.equal, values(), one))


def test_gradients_that_nobody_wants_are_left_out(draw):
    tensors = draw(30, (6, 8, 5))
    every = [each.clone().requires_grad_() for each in tensors]
    all_gradients = torch.autograd.grad(run(every)[0].sum(), every)
    for wanted in ([0], [1, 10], [5]):
        some = [each.clone().requires_grad_(index in wanted) for index, each in enumerate(tensors)]
        found = torch.autograd.grad(run(some)[0].sum(), [some[index] for index in wanted])
        for index, gradient in zip(wanted, found, strict=True):
            assert torch.equal(gradient, all_gradients[index])


def test_second_derivative_is_refused(draw):
    tensors = [each.requires_grad_() for each in draw(3, (3, 4, 2), dtype=torch.float64)]
    (gradient,) = torch.autograd.grad(run(tensors)[0].sum(), tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="mlp: expected to be differentiated once"):
        gradient.sum().backward()


def test_opcheck(draw):
    inputs, *parameters = (each.requires_grad_() for each in draw(3, (3, 4, 2)))
    torch.library.opcheck(torch.ops.tito_fast.mlp.default, (inputs, parameters))
    plain = [each.detach() for each in parameters]
    for wants in ([True, True], [True, False], [False, True]):
        torch.library.opcheck(
            torch.ops.tito_fast.mlp_backward.default,
            (torch.ones(3, 2), inputs.detach(), plain, wants),
        )


def test_batch_equals_loop(draw):
    inputs, *parameters = draw(131, (24, 17, 9))

    def values(rows):
        rows = rows.clone().requires_grad_()
        (result,) = run([rows, *parameters])
        return result, *torch.autograd.grad(result.square().sum(), [rows])

    together = values(inputs)
    start = 0
    for n in (1, 0, 5, 48, 63, 14):
        for ours, theirs in zip(values(inputs[start : start + n]), together, strict=True):
            assert torch.equal(ours, theirs[start : start + n])
        start += n
    assert start == inputs.shape[0]
