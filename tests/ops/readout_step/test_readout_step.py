from itertools import pairwise

import pytest
import torch
from e3nn import o3
from e3nn.util.test import assert_equivariant

from tito_fast.errors import BackendUnavailableError
from tito_fast.models.tito.layers import Readout
from tito_fast.ops import MlpParameters, center, ode_step, readout_step

FEATURES = [1, 8, 24, 63, 64, 128]
# Draws of a case: the largest error of one is a matter of luck in both codes. In float32 a single row
# is left to the last test, which wants the bits of a batch: torch has another sum for it.
N_DRAWS = {torch.float32: 32, torch.float64: 2}
# At least: few features are close to each other now and then, and a norm makes their rounding large.
N_HIDDEN = 24
# Atoms of each molecule; one alone would stay at the origin.
CASES = [
    *((sizes, torch.float64) for sizes in ((), (0, 0), (2,), (63,), (0, 5, 0, 1, 123, 0))),
    *((sizes, torch.float32) for sizes in ((), (0, 0), (63,), (0, 5, 0, 1, 123, 0))),
]
STEP_SIZE = 0.25


@pytest.fixture
def draw(draw_parameters):
    """Draw scalars, vectors, positions, V, then the mlp."""

    def draw_tensors(sizes, n_features, *, dtype=torch.float32, n_hidden=None, seed=0):
        generator = torch.Generator().manual_seed(seed)
        n = sum(sizes)
        shapes = [(n, n_features), (n, 3, n_features), (n, 3), (1, n_features)]
        tensors = [
            torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
            for shape in shapes
        ]
        mlp_sizes = (n_features, n_hidden or n_features, 1)
        return [*tensors, *draw_parameters(mlp_sizes, generator, dtype)]

    return draw_tensors


def starts(sizes):
    return torch.tensor([0, *sizes]).cumsum(0)


def on(sizes):
    """Return the op on molecules of these sizes."""

    def run(tensors, backend="native"):
        scalars, vectors, positions, v_weight, *parameters = tensors
        return readout_step(
            scalars,
            vectors,
            positions,
            v_weight=v_weight,
            parameters=MlpParameters(*parameters),
            batch_ptr=starts(sizes),
            step_size=STEP_SIZE,
            backend=backend,
        )

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


def test_gradcheck(draw):
    sizes = (3, 0, 2)
    tensors = [each.requires_grad_() for each in draw(sizes, 3, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *each: tuple(on(sizes)(each)), tensors)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_is_the_readout_of_the_model_and_an_euler_step(draw, backend):
    sizes = (5, 2)
    torch.manual_seed(0)
    readout = Readout(12, 1).double()
    scalars, vectors, positions, *_ = draw(sizes, 12, dtype=torch.float64)
    parameters = MlpParameters(*readout.mlp.parameters())
    gate_only = parameters._replace(
        last_weight=parameters.last_weight[1:], last_bias=parameters.last_bias[1:]
    )
    found = on(sizes)([scalars, vectors, positions, readout.v.weight, *gate_only], backend)
    _, equivariant = readout(scalars, vectors)
    batch_ptr = starts(sizes)
    velocity = center(positions + equivariant.squeeze(-1), batch_ptr=batch_ptr)
    torch.testing.assert_close(found.velocity, velocity, rtol=0, atol=1e-13)
    stepped = ode_step(
        positions,
        found.velocity.unsqueeze(0),
        weights=[1.0],
        step_size=STEP_SIZE,
        batch_ptr=batch_ptr,
    )
    torch.testing.assert_close(found.positions, stepped, rtol=0, atol=1e-15)


def test_rotations_are_carried_and_translations_removed(draw):
    sizes, n_features = (4,), 5
    scalars, _, _, *weights = draw(sizes, n_features, dtype=torch.float64)

    def step(vectors, positions):
        # e3nn has components last, and calls them y, z, x: any fixed order serves here.
        features = vectors.view(4, n_features, 3).transpose(1, 2)
        return tuple(on(sizes)([scalars, features, positions, *weights]))

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    generator = torch.Generator().manual_seed(3)
    arguments = [torch.randn(4, dim, generator=generator) for dim in (3 * n_features, 3)]
    try:
        assert_equivariant(
            step,
            args_in=arguments,
            irreps_in=[o3.Irreps(f"{n_features}x1o"), o3.Irreps("1o")],
            irreps_out=[o3.Irreps("1o"), o3.Irreps("1o")],
            do_translation=False,
            tolerance=1e-12,
        )
    finally:
        torch.set_default_dtype(default)
    moved = step(arguments[0], arguments[1] + torch.tensor([3.0, -1.0, 2.0]).double())
    for ours, theirs in zip(moved, step(*arguments), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


@pytest.mark.parametrize("sizes", [(), (0, 0)])
def test_without_atoms_gradients_are_zero(draw, sizes):
    tensors = [each.requires_grad_() for each in draw(sizes, 3)]
    found = on(sizes)(tensors)
    assert (found.velocity.shape, found.positions.shape) == ((0, 3), (0, 3))
    gradients = torch.autograd.grad(found.velocity.sum() + found.positions.sum(), tensors)
    assert all(torch.count_nonzero(each) == 0 for each in gradients)


def test_an_atom_alone_stays_at_the_origin(draw):
    found = on((1,))(draw((1,), 5))
    assert torch.equal(found.velocity, torch.zeros(1, 3))
    assert torch.equal(found.positions, torch.zeros(1, 3))


def test_noncontiguous_and_offset_views(draw):
    sizes = (4, 6)
    tensors = draw(sizes, 9)
    views = []
    for each in tensors:
        store = torch.full((*each.shape, 2), torch.nan)
        store[..., 1] = each
        views.append(store[..., 1])
    # A tensor of one element is contiguous wherever it lies.
    assert not any(view.is_contiguous() for view in views if view.numel() > 1)
    assert all(map(torch.equal, on(sizes)(views), on(sizes)(tensors)))


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(
    ("name", "value", "error", "match"),
    [
        ("scalars", torch.zeros(4), ValueError, r"scalars: expected shape \(n_atoms, n_features\)"),
        ("scalars", torch.zeros(4, 3).half(), TypeError, "scalars: expected dtype float32"),
        ("scalars", torch.zeros(4, 0), ValueError, "n_features: expected at least 1, got 0"),
        ("vectors", torch.zeros(4, 3), ValueError, r"vectors: expected shape \(4, 3, 3\)"),
        ("vectors", torch.zeros(4, 3, 3).double(), TypeError, "vectors: expected dtype float32"),
        ("positions", torch.zeros(3, 3), ValueError, r"positions: expected shape \(4, 3\)"),
        ("v_weight", torch.zeros(3), ValueError, r"v_weight: expected shape \(1, 3\)"),
        ("v_weight", torch.zeros(1, 3, device="meta"), ValueError, "v_weight: expected device cpu"),
        ("step_size", float("nan"), ValueError, "step_size: expected a finite number, got nan"),
        ("batch_ptr", torch.tensor([0, 1, 3]), ValueError, "batch_ptr: .* n_atoms = 4, got 0 to 3"),
        ("batch_ptr", torch.tensor([0, 5, 4]), ValueError, "batch_ptr: expected non-decreasing"),
        ("batch_ptr", torch.tensor([0, 4]).int(), TypeError, "batch_ptr: expected dtype int64"),
        ("batch_ptr", torch.tensor([[0, 4]]), ValueError, "batch_ptr: expected shape"),
    ],
)
def test_invalid_inputs(draw, backend, name, value, error, match):
    scalars, vectors, positions, v_weight, *parameters = draw((1, 3), 3)
    given = {
        "scalars": scalars,
        "vectors": vectors,
        "positions": positions,
        "v_weight": v_weight,
        "parameters": MlpParameters(*parameters),
        "batch_ptr": starts((1, 3)),
        "step_size": 0.1,
    } | {name: value}
    data = [given.pop(each) for each in ("scalars", "vectors", "positions")]
    with pytest.raises(error, match=match):
        readout_step(*data, **given, backend=backend)


def test_two_outputs_are_refused(draw, draw_parameters):
    scalars, vectors, positions, v_weight, *_ = draw((2,), 3)
    both = draw_parameters((3, 3, 2), torch.Generator(), torch.float32)
    with pytest.raises(ValueError, match=r"last_weight: expected shape \(1, 3\), got \(2, 3\)"):
        on((2,))([scalars, vectors, positions, v_weight, *both])


def test_other_backends_refuse_a_precision(draw):
    scalars, vectors, positions, v_weight, *parameters = draw((2,), 3)
    for backend in ("native", "reference"):
        with pytest.raises(BackendUnavailableError, match=r"precision: expected ieee .*, got bf16"):
            readout_step(
                scalars,
                vectors,
                positions,
                v_weight=v_weight,
                parameters=MlpParameters(*parameters),
                batch_ptr=starts((2,)),
                step_size=STEP_SIZE,
                backend=backend,
                precision="bf16",
            )


def test_deterministic_with_any_number_of_threads(draw, restore_threads):
    sizes = (1, 63, 129, 7) * 40
    tensors = [each.requires_grad_() for each in draw(sizes, 17)]

    def values():
        found = on(sizes)(tensors)
        total = found.velocity.square().sum() + found.positions.square().sum()
        return [*found, *torch.autograd.grad(total, tensors)]

    torch.set_num_threads(1)
    one = values()
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        assert all(map(torch.equal, values(), one))


def test_gradients_that_nobody_wants_are_left_out(draw):
    sizes = (20, 10)
    tensors = draw(sizes, 8)
    weight = torch.linspace(-1.0, 2.0, 90).view(30, 3)

    def total(each):
        found = on(sizes)(each)
        return ((found.velocity + found.positions) * weight).sum()

    every = [each.clone().requires_grad_() for each in tensors]
    all_gradients = torch.autograd.grad(total(every), every)
    for wanted in ([0], [1], [2], [3, 13], [5]):
        some = [each.clone().requires_grad_(index in wanted) for index, each in enumerate(tensors)]
        found = torch.autograd.grad(total(some), [some[index] for index in wanted])
        for index, gradient in zip(wanted, found, strict=True):
            assert torch.equal(gradient, all_gradients[index])


def test_second_derivative_is_refused(draw):
    tensors = [each.requires_grad_() for each in draw((3,), 4, dtype=torch.float64)]
    result = on((3,))(tensors).velocity.square().sum()
    (gradient,) = torch.autograd.grad(result, tensors[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="readout_step: expected to be differentiated once"):
        gradient.sum().backward()


def test_opcheck(draw):
    sizes = (2, 0, 3)
    drawn = draw(sizes, 4)
    scalars, vectors, positions, *weights = (each.requires_grad_() for each in drawn)
    batch_ptr = starts(sizes)
    torch.library.opcheck(
        torch.ops.tito_fast.readout_step.default,
        (scalars, vectors, positions, weights, batch_ptr, STEP_SIZE),
    )
    scalars, vectors, positions, *weights = (each.detach() for each in drawn)
    for wants in ([True, True], [True, False], [False, True]):
        torch.library.opcheck(
            torch.ops.tito_fast.readout_step_backward.default,
            (positions, -positions, scalars, vectors, weights, batch_ptr, STEP_SIZE, wants),
        )


def test_batch_equals_loop(draw):
    sizes = (5, 1, 0, 63, 2, 60)
    *inputs, v_weight = draw(sizes, 24)[:4]
    parameters = draw(sizes, 24)[4:]

    def values(sizes, rows):
        leaves = [each[rows].clone().requires_grad_() for each in inputs]
        found = on(sizes)([*leaves, v_weight, *parameters])
        total = found.velocity.square().sum() + found.positions.square().sum()
        return [*found, *torch.autograd.grad(total, leaves)]

    together = values(sizes, slice(None))
    for start, end in pairwise(starts(sizes).tolist()):
        rows = slice(start, end)
        for ours, theirs in zip(values((end - start,), rows), together, strict=True):
            assert torch.equal(ours, theirs[rows])
