from itertools import pairwise

import pytest
import torch

from tito_fast.errors import BackendUnavailableError
from tito_fast.ops import MlpParameters, mlp, time_embed

FEATURES = [1, 8, 24, 63, 64, 128]
# Draws of a case: the largest error of one is a matter of luck in both codes. In float32 a single row
# is left to the last test, which wants the bits of a batch: torch has another sum for it.
N_DRAWS = {torch.float32: 32, torch.float64: 2}
# At least: few features are close to each other now and then, and a norm makes their rounding large.
N_HIDDEN = 24
# Atoms of each molecule.
CASES = [
    *((sizes, torch.float64) for sizes in ((), (0, 0), (1,), (63,), (0, 5, 0, 1, 123, 0))),
    *((sizes, torch.float32) for sizes in ((), (0, 0), (63,), (0, 5, 0, 1, 123, 0))),
]


@pytest.fixture
def draw(draw_parameters):
    """Draw scalars, encodings, then the mlp."""

    def draw_tensors(
        sizes, n_features, *, n_encodings=None, dtype=torch.float32, n_hidden=None, seed=0
    ):
        generator = torch.Generator().manual_seed(seed)
        n_encodings = 2 * n_features if n_encodings is None else n_encodings
        mlp_sizes = (n_features + n_encodings, n_hidden or n_features, n_hidden or n_features)
        return [
            torch.randn(n, width, generator=generator, dtype=torch.float64).to(dtype)
            for n, width in ((sum(sizes), n_features), (len(sizes), n_encodings))
        ] + [*draw_parameters(mlp_sizes, generator, dtype)]

    return draw_tensors


def starts(sizes):
    return torch.tensor([0, *sizes]).cumsum(0)


def on(sizes):
    """Return the op on molecules of these sizes."""

    def run(tensors, backend="native"):
        scalars, encodings, *parameters = tensors
        result = time_embed(
            scalars,
            encodings,
            starts(sizes),
            parameters=MlpParameters(*parameters),
            backend=backend,
        )
        return (result,)

    return run


@pytest.mark.parametrize(("sizes", "dtype"), CASES, ids=str)
@pytest.mark.parametrize("n_features", FEATURES)
def test_matches_reference(draw, check_draws, n_features, sizes, dtype):
    draws = [
        draw(sizes, n_features, dtype=dtype, n_hidden=max(n_features, N_HIDDEN), seed=seed)
        for seed in range(N_DRAWS[dtype])
    ]
    check_draws(on(sizes), draws, gradients=False)


@pytest.mark.parametrize(("sizes", "dtype"), CASES, ids=str)
@pytest.mark.parametrize("n_features", FEATURES)
def test_gradients_match_reference(draw, check_draws, n_features, sizes, dtype):
    draws = [
        draw(sizes, n_features, dtype=dtype, n_hidden=max(n_features, N_HIDDEN), seed=seed)
        for seed in range(N_DRAWS[dtype])
    ]
    check_draws(on(sizes), draws, gradients=True)


@pytest.mark.parametrize("n_encodings", [1, 9, 27])
def test_encodings_of_any_width(draw, check_draws, n_encodings):
    sizes = (4, 7)
    tensors = draw(sizes, 9, n_encodings=n_encodings, dtype=torch.float64)
    check_draws(on(sizes), [tensors], gradients=True)


def test_gradcheck(draw):
    sizes = (2, 0, 1)
    tensors = [each.requires_grad_() for each in draw(sizes, 3, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *each: on(sizes)(each), tensors)


def test_is_the_mlp_of_both_and_knows_its_molecule(draw):
    sizes = (3, 2)
    scalars, encodings, *parameters = draw(sizes, 6, dtype=torch.float64)
    joined = torch.cat([scalars, encodings[[0, 0, 0, 1, 1]]], dim=1)
    together = on(sizes)([scalars, encodings, *parameters])[0]
    expected = mlp(joined, MlpParameters(*parameters), backend="native")
    torch.testing.assert_close(together, expected, rtol=0, atol=1e-13)
    order = torch.tensor([2, 0, 1, 4, 3])
    permuted = on(sizes)([scalars[order], encodings, *parameters])[0]
    assert torch.equal(permuted, together[order])
    swapped = on(sizes)([scalars, encodings.flip(0), *parameters])[0]
    assert (swapped - together).abs().min() > 0


@pytest.mark.parametrize("sizes", [(), (0, 0)])
def test_without_atoms_gradients_are_zero(draw, sizes):
    tensors = [each.requires_grad_() for each in draw(sizes, 3)]
    (result,) = on(sizes)(tensors)
    assert result.shape == (0, 3)
    gradients = torch.autograd.grad(result.sum(), tensors)
    assert all(torch.count_nonzero(each) == 0 for each in gradients)


def test_noncontiguous_and_offset_views(draw):
    sizes = (4, 6)
    tensors = draw(sizes, 9)
    views = []
    for each in tensors:
        store = torch.full((*each.shape, 2), torch.nan)
        store[..., 1] = each
        views.append(store[..., 1])
    assert not any(view.is_contiguous() for view in views)
    wide = torch.stack((starts(sizes), starts(sizes)), dim=1)
    scalars, encodings, *parameters = views
    found = time_embed(
        scalars, encodings, wide[:, 0], parameters=MlpParameters(*parameters), backend="native"
    )
    assert torch.equal(found, on(sizes)(tensors)[0])


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(
    ("name", "value", "error", "match"),
    [
        ("scalars", torch.zeros(4), ValueError, r"scalars: expected shape \(n_atoms, n_features\)"),
        ("scalars", torch.zeros(4, 3).half(), TypeError, "scalars: expected dtype float32"),
        ("scalars", torch.zeros(4, 0), ValueError, "n_features: expected at least 1, got 0"),
        ("encodings", torch.zeros(3, 6), ValueError, r"encodings: .* \(2, n_encodings\)"),
        ("encodings", torch.zeros(2, 6).double(), TypeError, "encodings: expected dtype float32"),
        ("encodings", torch.zeros(2, 0), ValueError, "n_encodings: expected at least 1, got 0"),
        ("encodings", torch.zeros(2, 5), ValueError, r"first_weight: .* \(n_hidden, 8\)"),
        ("batch_ptr", torch.tensor([0, 1, 3]), ValueError, "batch_ptr: .* n_atoms = 4, got 0 to 3"),
        ("batch_ptr", torch.tensor([0, 5, 4]), ValueError, "batch_ptr: expected non-decreasing"),
        ("batch_ptr", torch.tensor([0, 1, 4]).int(), TypeError, "batch_ptr: expected dtype int64"),
        ("batch_ptr", torch.tensor([[0, 4]]), ValueError, "batch_ptr: expected shape"),
        ("batch_ptr", torch.empty(0).long(), ValueError, "batch_ptr: expected shape"),
    ],
)
def test_invalid_inputs(draw, backend, name, value, error, match):
    scalars, encodings, *parameters = draw((1, 3), 3)
    given = {"scalars": scalars, "encodings": encodings, "batch_ptr": starts((1, 3))}
    given |= {name: value}
    with pytest.raises(error, match=match):
        time_embed(*given.values(), parameters=MlpParameters(*parameters), backend=backend)


def test_other_backends_refuse_a_precision(draw):
    scalars, encodings, *parameters = draw((2,), 3)
    given = scalars, encodings, starts((2,))
    for backend in ("native", "reference"):
        with pytest.raises(BackendUnavailableError, match=r"precision: expected ieee .*, got bf16"):
            time_embed(
                *given, parameters=MlpParameters(*parameters), backend=backend, precision="bf16"
            )


def test_deterministic_with_any_number_of_threads(draw, restore_threads):
    sizes = (1, 63, 129, 7) * 25
    tensors = [each.requires_grad_() for each in draw(sizes, 17)]

    def values():
        (result,) = on(sizes)(tensors)
        return [result, *torch.autograd.grad(result.square().sum(), tensors)]

    torch.set_num_threads(1)
    one = values()
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        assert all(map(torch.equal, values(), one))


def test_gradients_that_nobody_wants_are_left_out(draw):
    sizes = (20, 10)
    tensors = draw(sizes, 8)
    every = [each.clone().requires_grad_() for each in tensors]
    all_gradients = torch.autograd.grad(on(sizes)(every)[0].sum(), every)
    for wanted in ([0], [1], [2, 11], [5]):
        some = [each.clone().requires_grad_(index in wanted) for index, each in enumerate(tensors)]
        found = torch.autograd.grad(on(sizes)(some)[0].sum(), [some[index] for index in wanted])
        for index, gradient in zip(wanted, found, strict=True):
            assert torch.equal(gradient, all_gradients[index])


def test_second_derivative_is_refused(draw):
    tensors = [each.requires_grad_() for each in draw((3,), 4, dtype=torch.float64)]
    result = on((3,))(tensors)[0].sum()
    (gradient,) = torch.autograd.grad(result, tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="time_embed: expected to be differentiated once"):
        gradient.sum().backward()


def test_opcheck(draw):
    sizes = (2, 0, 1)
    drawn = draw(sizes, 4)
    scalars, encodings, *parameters = (each.requires_grad_() for each in drawn)
    batch_ptr = starts(sizes)
    torch.library.opcheck(
        torch.ops.tito_fast.time_embed.default, (scalars, encodings, batch_ptr, parameters)
    )
    scalars, encodings, *parameters = (each.detach() for each in drawn)
    for wants in ([True, True], [True, False], [False, True]):
        torch.library.opcheck(
            torch.ops.tito_fast.time_embed_backward.default,
            (torch.ones(3, 4), scalars, encodings, batch_ptr, parameters, wants),
        )


def test_batch_equals_loop(draw):
    sizes = (5, 1, 0, 63, 2, 60)
    scalars, encodings, *parameters = draw(sizes, 24)

    def values(sizes, *inputs):
        inputs = [each.clone().requires_grad_() for each in inputs]
        (result,) = on(sizes)([*inputs, *parameters])
        return [result, *torch.autograd.grad(result.square().sum(), inputs)]

    together = values(sizes, scalars, encodings)
    for molecule, (start, end) in enumerate(pairwise(starts(sizes).tolist())):
        atoms, one = slice(start, end), slice(molecule, molecule + 1)
        alone = values((end - start,), scalars[atoms], encodings[one])
        for ours, theirs, rows in zip(alone, together, (atoms, atoms, one), strict=True):
            assert torch.equal(ours, theirs[rows])
