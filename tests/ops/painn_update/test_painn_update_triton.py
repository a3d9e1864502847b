import pytest
import torch

from tito_fast.errors import BackendUnavailableError
from tito_fast.ops import MlpParameters, painn_update

N_MLP = len(MlpParameters._fields)
# Atoms, features, draws, is U there: a single row is a matter of luck in both codes, so of it there are more.
CASES = [
    (1, 32, 8, True),
    (63, 32, 4, True),
    (63, 32, 4, False),
    (37, 64, 3, True),
    (35, 64, 3, False),
    (19, 128, 2, True),
]


@pytest.fixture
def draw(draw_parameters):
    """Draw scalars, vectors, then U if it is wanted, V and the mlp."""

    def draw_tensors(n, width, *, has_u=True, dtype=torch.float32, seed=0, device="cpu"):
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape, std=1.0):
            drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return (std * drawn).to(dtype)

        sizes = (2 * width, width, (3 if has_u else 2) * width)
        tensors = [
            normal(n, width),
            normal(n, 3, width, std=3**-0.5),
            *(normal(width, width, std=width**-0.5) for _ in range(2 if has_u else 1)),
            *draw_parameters(sizes, generator, dtype),
        ]
        return [each.to(device) for each in tensors]

    return draw_tensors


def run(tensors, backend="triton", precision="ieee"):
    """Return new scalars and vectors; scalars alone without U, which one tensor less tells."""
    scalars, vectors, *weights = tensors
    *of_vectors, v_weight = weights[:-N_MLP]
    new = painn_update(
        scalars,
        vectors,
        u_weight=of_vectors[0] if of_vectors else None,
        v_weight=v_weight,
        parameters=MlpParameters(*weights[-N_MLP:]),
        backend=backend,
        precision=precision,
    )
    return tuple(new) if of_vectors else (new.scalars,)


def results_and_gradients(tensors, precision="ieee"):
    leaves = [each.clone().requires_grad_() for each in tensors]
    results = run(leaves, precision=precision)
    total = sum(each.square().sum() for each in results)
    return [*results, *torch.autograd.grad(total, leaves)]


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize(("n", "width", "n_draws", "has_u"), CASES)
def test_results_and_gradients_match_reference(
    draw, check_draws, triton_device, n, width, n_draws, has_u, gradients
):
    draws = [draw(n, width, has_u=has_u, seed=seed) for seed in range(n_draws)]
    check_draws(run, draws, gradients=gradients, backend="triton", device=triton_device)


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp32"])
@pytest.mark.parametrize(
    ("n", "width", "has_u"), [(33, 32, False), (33, 64, True), (16, 128, True)]
)
def test_each_precision_is_within_its_bound(
    draw, check_product_precision, triton_device, n, width, has_u, precision
):
    check_product_precision(run, draw(n, width, has_u=has_u), precision, triton_device)


@pytest.mark.parametrize("has_u", [True, False])
def test_gradcheck(draw, triton_device, has_u):
    if triton_device.type != "cpu":
        pytest.skip("float64 runs interpreted only")
    tensors = draw(2, 32, has_u=has_u, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda *each: run(each), [each.requires_grad_() for each in tensors], fast_mode=True
    )


@pytest.mark.parametrize("reflects", [False, True])
def test_rotations_and_reflections_are_carried(draw, triton_device, reflects):
    scalars, vectors, *weights = draw(20, 32, device=triton_device)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))
    if (torch.linalg.det(rotation) < 0) != reflects:
        rotation = -rotation
    rotation = rotation.to(triton_device)

    def turned(rows):
        return torch.einsum("xy,nyf->nxf", rotation, rows)

    new_scalars, new_vectors = run([scalars, vectors, *weights])
    found_scalars, found_vectors = run([scalars, turned(vectors), *weights])
    torch.testing.assert_close(found_scalars, new_scalars, rtol=0, atol=2e-5)
    torch.testing.assert_close(found_vectors, turned(new_vectors), rtol=0, atol=2e-5)


def test_zero_vectors_have_a_zero_gradient(draw, triton_device):
    tensors = draw(5, 32, device=triton_device)
    tensors[1] = torch.zeros_like(tensors[1]).requires_grad_()
    new_scalars, new_vectors = run(tensors)
    assert torch.count_nonzero(new_vectors) == 0
    (gradient,) = torch.autograd.grad(new_scalars.sum(), tensors[1:2])
    assert torch.count_nonzero(gradient) == 0


@pytest.mark.parametrize("has_u", [True, False])
def test_without_atoms_gradients_of_weights_are_zero(draw, triton_device, has_u):
    tensors = draw(0, 32, has_u=has_u, device=triton_device)
    results = run(tensors)
    assert [each.shape for each in results] == [(0, 32), (0, 3, 32)][: len(results)]
    gradients = results_and_gradients(tensors)[len(results) :]
    assert [each.shape for each in gradients] == [each.shape for each in tensors]
    assert all(torch.count_nonzero(each) == 0 for each in gradients)


def test_vectors_that_nobody_reads_stay_as_they_are(draw, triton_device):
    scalars, vectors, v_weight, *parameters = draw(3, 32, has_u=False, device=triton_device)
    new = painn_update(
        scalars,
        vectors,
        u_weight=None,
        v_weight=v_weight,
        parameters=MlpParameters(*parameters),
        backend="triton",
    )
    assert new.vectors is vectors


@pytest.mark.parametrize("has_u", [True, False])
def test_noncontiguous_and_offset_views(draw, triton_device, has_u):
    tensors = draw(10, 32, has_u=has_u, device=triton_device)
    views = []
    for each in tensors:
        store = torch.full((*each.shape, 2), torch.nan, device=triton_device)
        store[..., 1] = each
        views.append(store[..., 1])
    assert not any(view.is_contiguous() for view in views)
    assert all(map(torch.equal, results_and_gradients(views), results_and_gradients(tensors)))


@pytest.mark.parametrize(
    ("width", "dtype", "precision", "error", "match"),
    [
        (24, torch.float32, "ieee", BackendUnavailableError, "32, 64, 128 features, got 24"),
        (32, torch.float32, "half", ValueError, "precision: expected one of ieee"),
        (32, torch.float64, "bf16", BackendUnavailableError, "float64"),
    ],
)
def test_invalid_inputs(draw, triton_device, width, dtype, precision, error, match):
    tensors = draw(4, width, dtype=dtype, device=triton_device)
    with pytest.raises(error, match=match):
        run(tensors, precision=precision)


def test_another_number_of_hidden_features_is_refused(draw, draw_parameters, triton_device):
    tensors = draw(4, 32)[:-N_MLP]
    wide = draw_parameters((64, 64, 96), torch.Generator().manual_seed(0), torch.float32)
    with pytest.raises(BackendUnavailableError, match=r"as many hidden features .* got 64 and 32"):
        run([each.to(triton_device) for each in (*tensors, *wide)])


def test_other_backends_have_one_precision(draw):
    for backend in ("native", "reference"):
        with pytest.raises(BackendUnavailableError, match="precision: expected ieee with backend"):
            run(draw(2, 32), backend, "tf32")


def test_deterministic(draw, triton_device):
    # More rows than one split of the sums over rows.
    tensors = draw(260, 32, device=triton_device)
    once, again = (results_and_gradients(tensors, "tf32") for _ in range(2))
    assert all(map(torch.equal, once, again))


def test_gradients_that_nobody_wants_are_left_out(draw, triton_device):
    tensors = draw(30, 32, device=triton_device)
    every = [each.clone().requires_grad_() for each in tensors]
    all_gradients = torch.autograd.grad(sum(each.sum() for each in run(every)), every)
    for wanted in ([0], [1], [2, 13], [5]):
        some = [each.clone().requires_grad_(index in wanted) for index, each in enumerate(tensors)]
        total = sum(each.sum() for each in run(some))
        found = torch.autograd.grad(total, [some[index] for index in wanted])
        for index, gradient in zip(wanted, found, strict=True):
            assert torch.equal(gradient, all_gradients[index])


def test_second_derivative_is_refused(draw, triton_device):
    tensors = [each.requires_grad_() for each in draw(3, 32, device=triton_device)]
    (gradient,) = torch.autograd.grad(run(tensors)[0].sum(), tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="painn_update: expected to be differentiated once"):
        gradient.sum().backward()


@pytest.mark.parametrize("has_u", [True, False])
def test_opcheck(draw, triton_device, has_u):
    drawn = draw(3, 32, has_u=has_u, device=triton_device)
    run(drawn)
    scalars, vectors, *weights = (each.clone().requires_grad_() for each in drawn)
    torch.library.opcheck(
        torch.ops.tito_fast.painn_update_triton.default, (scalars, vectors, weights, "ieee")
    )
    scalars, vectors, *weights = drawn
    grads = torch.ones_like(scalars), torch.ones_like(vectors) if has_u else vectors.new_empty(0)
    for wants in ([True, False], [False, True]) if has_u else ([True, True],):
        torch.library.opcheck(
            torch.ops.tito_fast.painn_update_triton_backward.default,
            (*grads, scalars, vectors, weights, "ieee", wants),
        )


@pytest.mark.parametrize(("has_u", "precision"), [(True, "ieee"), (False, "bf16")])
def test_batch_equals_loop(draw, triton_device, cuts, precision, has_u):
    scalars, vectors, *weights = draw(sum(cuts), 32, has_u=has_u, device=triton_device)

    def values(rows):
        inputs = [each[rows].clone().requires_grad_() for each in (scalars, vectors)]
        results = run([*inputs, *weights], precision=precision)
        total = sum(each.square().sum() for each in results)
        return [*results, *torch.autograd.grad(total, inputs)]

    together = values(slice(None))
    start = 0
    for n in cuts:
        rows = slice(start, start + n)
        for ours, theirs in zip(values(rows), together, strict=True):
            assert torch.equal(ours, theirs[rows])
        start += n
    assert start == scalars.shape[0]
