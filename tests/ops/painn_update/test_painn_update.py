import pytest
import torch
from e3nn import o3
from e3nn.util.test import assert_equivariant

from tito_fast.models.tito.layers import Update
from tito_fast.ops import MlpParameters, painn_update

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
    """Draw scalars, vectors, then U if it is wanted, V and the mlp."""

    def draw_tensors(
        n, n_features, *, has_vectors=True, dtype=torch.float32, n_hidden=None, seed=0
    ):
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape, std=1.0):
            drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return (std * drawn).to(dtype)

        square = (n_features, n_features)
        weights = [normal(*square, std=n_features**-0.5) for _ in range(2 if has_vectors else 1)]
        sizes = (2 * n_features, n_hidden or n_features, (3 if has_vectors else 2) * n_features)
        return [
            normal(n, n_features),
            normal(n, 3, n_features, std=3**-0.5),
            *weights,
            *draw_parameters(sizes, generator, dtype),
        ]

    return draw_tensors


def run(tensors, backend="native"):
    """Return new scalars and vectors; scalars alone without U, which one tensor less tells."""
    scalars, vectors, *weights = tensors
    n_mlp = len(MlpParameters._fields)
    *of_vectors, v_weight = weights[:-n_mlp]
    new = painn_update(
        scalars,
        vectors,
        u_weight=of_vectors[0] if of_vectors else None,
        v_weight=v_weight,
        parameters=MlpParameters(*weights[-n_mlp:]),
        backend=backend,
    )
    return tuple(new) if of_vectors else (new.scalars,)


@pytest.mark.parametrize("has_vectors", [True, False])
@pytest.mark.parametrize(("n", "dtype"), CASES)
@pytest.mark.parametrize("n_features", FEATURES)
def test_matches_reference(draw, check_draws, n_features, n, has_vectors, dtype):
    draws = [
        draw(
            n,
            n_features,
            has_vectors=has_vectors,
            dtype=dtype,
            n_hidden=max(n_features, N_HIDDEN),
            seed=seed,
        )
        for seed in range(N_DRAWS[dtype])
    ]
    check_draws(run, draws, gradients=False)


@pytest.mark.parametrize("has_vectors", [True, False])
@pytest.mark.parametrize(("n", "dtype"), CASES)
@pytest.mark.parametrize("n_features", FEATURES)
def test_gradients_match_reference(draw, check_draws, n_features, n, has_vectors, dtype):
    draws = [
        draw(
            n,
            n_features,
            has_vectors=has_vectors,
            dtype=dtype,
            n_hidden=max(n_features, N_HIDDEN),
            seed=seed,
        )
        for seed in range(N_DRAWS[dtype])
    ]
    check_draws(run, draws, gradients=True)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_is_the_update_of_the_model(backend):
    torch.manual_seed(0)
    update = Update(12).double()
    generator = torch.Generator().manual_seed(1)
    scalars = torch.randn(7, 12, generator=generator, dtype=torch.float64)
    vectors = torch.randn(7, 3, 12, generator=generator, dtype=torch.float64)
    new = run(
        [scalars, vectors, update.u.weight, update.v.weight, *update.mlp.parameters()], backend
    )
    for ours, theirs in zip(new, update(scalars, vectors), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("has_vectors", [True, False])
def test_gradcheck(draw, has_vectors):
    drawn = draw(2, 3, has_vectors=has_vectors, dtype=torch.float64)
    tensors = [each.requires_grad_() for each in drawn]
    assert torch.autograd.gradcheck(lambda *each: run(each), tensors)


def test_zero_vectors_have_a_zero_gradient(draw):
    scalars, vectors, u_weight, *rest = draw(5, 9, dtype=torch.float64)
    tensors = [scalars, torch.zeros_like(vectors).requires_grad_(), u_weight, *rest]
    new_scalars, new_vectors = run(tensors)
    assert torch.count_nonzero(new_vectors) == 0
    (gradient,) = torch.autograd.grad(new_scalars.sum(), tensors[1:2])
    assert torch.count_nonzero(gradient) == 0


def test_rotations_and_reflections_are_carried(draw):
    n, n_features = 4, 5
    _, _, *weights = draw(n, n_features, dtype=torch.float64)

    def update(scalars, vectors):
        # e3nn has components last, and calls them y, z, x: any fixed order serves here.
        features = vectors.view(n, n_features, 3).transpose(1, 2)
        new_scalars, new_vectors = run([scalars, features, *weights])
        return new_scalars, new_vectors.transpose(1, 2).reshape(n, -1)

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    generator = torch.Generator().manual_seed(3)
    irreps = [o3.Irreps(f"{n_features}x0e"), o3.Irreps(f"{n_features}x1o")]
    try:
        assert_equivariant(
            update,
            args_in=[torch.randn(n, irrep.dim, generator=generator) for irrep in irreps],
            irreps_in=irreps,
            irreps_out=irreps,
            do_translation=False,
            tolerance=1e-12,
        )
    finally:
        torch.set_default_dtype(default)


def test_without_atoms_gradients_of_weights_are_zero(draw):
    tensors = [each.requires_grad_() for each in draw(0, 3)]
    scalars, vectors = run(tensors)
    assert (scalars.shape, vectors.shape) == ((0, 3), (0, 3, 3))
    gradients = torch.autograd.grad(scalars.sum() + vectors.sum(), tensors)
    assert all(torch.count_nonzero(each) == 0 for each in gradients)


def test_vectors_that_nobody_reads_stay_as_they_are(draw):
    scalars, vectors, v_weight, *parameters = draw(3, 4, has_vectors=False)
    new = painn_update(
        scalars,
        vectors,
        u_weight=None,
        v_weight=v_weight,
        parameters=MlpParameters(*parameters),
        backend="native",
    )
    assert new.vectors is vectors


def test_noncontiguous_and_offset_views(draw):
    tensors = draw(10, 9)
    views = []
    for each in tensors:
        store = torch.full((*each.shape, 2), torch.nan)
        store[..., 1] = each
        views.append(store[..., 1])
    assert not any(view.is_contiguous() for view in views)
    assert all(map(torch.equal, run(views), run(tensors)))


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(
    ("name", "value", "error", "match"),
    [
        ("scalars", torch.zeros(4), ValueError, r"scalars: expected shape \(n, n_features\)"),
        ("scalars", torch.zeros(4, 3).half(), TypeError, "scalars: expected dtype float32"),
        ("scalars", torch.zeros(4, 0), ValueError, "n_features: expected at least 1, got 0"),
        ("vectors", torch.zeros(4, 3), ValueError, r"vectors: expected shape \(4, 3, 3\)"),
        ("vectors", torch.zeros(5, 3, 3), ValueError, r"vectors: .* got \(5, 3, 3\)"),
        ("vectors", torch.zeros(4, 3, 3).double(), TypeError, "vectors: expected dtype float32"),
        ("u_weight", torch.zeros(3, 2), ValueError, r"u_weight: expected shape \(3, 3\)"),
        ("v_weight", torch.zeros(1, 3), ValueError, r"v_weight: expected shape \(3, 3\)"),
        ("v_weight", torch.zeros(3, 3, device="meta"), ValueError, "v_weight: expected device cpu"),
        ("u_weight", None, ValueError, r"last_weight: expected shape \(6, 3\), got \(9, 3\)"),
    ],
)
def test_invalid_inputs(draw, backend, name, value, error, match):
    scalars, vectors, u_weight, v_weight, *parameters = draw(4, 3)
    given = {
        "scalars": scalars,
        "vectors": vectors,
        "u_weight": u_weight,
        "v_weight": v_weight,
        "parameters": MlpParameters(*parameters),
    } | {name: value}
    data = given.pop("scalars"), given.pop("vectors")
    with pytest.raises(error, match=match):
        painn_update(*data, **given, backend=backend)


@pytest.mark.parametrize("has_vectors", [True, False])
def test_deterministic_with_any_number_of_threads(draw, restore_threads, has_vectors):
    tensors = [each.requires_grad_() for each in draw(4000, 17, has_vectors=has_vectors)]

    def values():
        results = run(tensors)
        total = sum(result.square().sum() for result in results)
        return [*results, *torch.autograd.grad(total, tensors)]

    torch.set_num_threads(1)
    one = values()
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        assert all(map(torch.equal, values(), one))


def test_gradients_that_nobody_wants_are_left_out(draw):
    tensors = draw(30, 8)
    every = [each.clone().requires_grad_() for each in tensors]
    all_gradients = torch.autograd.grad(sum(each.sum() for each in run(every)), every)
    for wanted in ([0], [1], [2, 13], [5]):
        some = [each.clone().requires_grad_(index in wanted) for index, each in enumerate(tensors)]
        total = sum(each.sum() for each in run(some))
        found = torch.autograd.grad(total, [some[index] for index in wanted])
        for index, gradient in zip(wanted, found, strict=True):
            assert torch.equal(gradient, all_gradients[index])


def test_second_derivative_is_refused(draw):
    tensors = [each.requires_grad_() for each in draw(3, 4, dtype=torch.float64)]
    (gradient,) = torch.autograd.grad(run(tensors)[0].sum(), tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="painn_update: expected to be differentiated once"):
        gradient.sum().backward()


@pytest.mark.parametrize("has_vectors", [True, False])
def test_opcheck(draw, has_vectors):
    drawn = draw(3, 4, has_vectors=has_vectors)
    scalars, vectors, *weights = (each.requires_grad_() for each in drawn)
    torch.library.opcheck(torch.ops.tito_fast.painn_update.default, (scalars, vectors, weights))
    scalars, vectors, *weights = (each.detach() for each in drawn)
    grad_vectors = torch.ones_like(vectors) if has_vectors else torch.empty(0)
    for wants in ([True, True], [True, False], [False, True]):
        torch.library.opcheck(
            torch.ops.tito_fast.painn_update_backward.default,
            (torch.ones_like(scalars), grad_vectors, scalars, vectors, weights, wants),
        )


@pytest.mark.parametrize("has_vectors", [True, False])
def test_batch_equals_loop(draw, has_vectors):
    scalars, vectors, *weights = draw(131, 24, has_vectors=has_vectors)

    def values(rows):
        inputs = [each[rows].clone().requires_grad_() for each in (scalars, vectors)]
        results = run([*inputs, *weights])
        total = sum(result.square().sum() for result in results)
        return [*results, *torch.autograd.grad(total, inputs)]

    together = values(slice(None))
    start = 0
    for n in (1, 0, 5, 48, 63, 14):
        rows = slice(start, start + n)
        assert all(
            torch.equal(ours, theirs[rows])
            for ours, theirs in zip(values(rows), together, strict=True)
        )
        start += n
    assert start == scalars.shape[0]
