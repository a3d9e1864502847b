"""The message against its definition, forward and backward, and its properties."""

import itertools
from dataclasses import replace

import pytest
import torch
from e3nn import o3
from e3nn.util.test import assert_equivariant

from tests.ops.painn_message.message_cases import (
    TENSORS,
    check_forward,
    check_gradients,
    make_case,
    random_mlp,
)
from tito_fast.ops import message_graph
from tito_fast.testing.tolerance import check_against_reference

BACKENDS = ["native", "reference"]
MIXED = (0, 1, 2, 5, 18, 0, 3, 1)
# In float64 the reference rounds phases of k π d / length, the more the larger k is.
WIDTHS = [
    *((torch.float32, width) for width in (2, 6, 8, 24, 32, 64, 96, 128)),
    *((torch.float64, width) for width in (2, 6, 8, 24, 32)),
]
# The gradient of a norm over two features is zero up to rounding: gradcheck covers it.
WIDTHS_WITH_GRADIENT = [(dtype, width) for dtype, width in WIDTHS if width > 2]
OPTIONS = [
    {"has_vectors": has_vectors, "has_edges": has_edges, "adds_edges": adds_edges}
    for has_vectors, (has_edges, adds_edges) in itertools.product(
        (True, False), ((True, True), (True, False), (False, True))
    )
]


def option_name(options):
    return "-".join(name for name, is_on in options.items() if is_on) or "none"


def dtype_and_width(value):
    return str(value).removeprefix("torch.")


def make_cases(n_cases, *sizes, **options):
    return [make_case(*sizes, seed=seed, **options) for seed in range(n_cases)]


@pytest.mark.parametrize("options", OPTIONS, ids=option_name)
@pytest.mark.parametrize(("dtype", "width"), WIDTHS, ids=dtype_and_width)
def test_matches_reference(dtype, width, options):
    check_forward(*make_cases(4, *MIXED, width=width, dtype=dtype, **options))


@pytest.mark.parametrize("options", OPTIONS, ids=option_name)
@pytest.mark.parametrize(("dtype", "width"), WIDTHS_WITH_GRADIENT, ids=dtype_and_width)
def test_gradients_match_reference(dtype, width, options):
    check_gradients(*make_cases(4, *MIXED, width=width, dtype=dtype, **options))


# Edges that end before, at and after the end of a tile of 48.
@pytest.mark.parametrize("sizes", [(2,), (3,), (7,), (7, 3), (16, 3), (7, 3, 2), (63,)], ids=str)
def test_sizes_match_reference(sizes):
    cases = make_cases(4 if len(sizes) > 1 or sizes[0] > 3 else 12, *sizes)
    check_forward(*cases)
    check_gradients(*cases)


@pytest.mark.parametrize("sizes", [(7, 3), (16, 3), (63,)], ids=str)
def test_sizes_match_reference_in_float64(sizes):
    cases = make_cases(4, *sizes, width=8, dtype=torch.float64)
    check_forward(*cases)
    check_gradients(*cases)


def test_width_256_matches_reference():
    cases = make_cases(2, 4, 1, 3, width=256)
    check_forward(*cases)
    check_gradients(*cases)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["cutoff", "one-way"])
@pytest.mark.parametrize("options", OPTIONS[::3], ids=option_name)
def test_graphs_with_missing_edges_match_reference(options, kind, dtype):
    cases = make_cases(4, 3, 18, 1, 0, 7, 2, kind=kind, dtype=dtype, **options)
    for case in cases:
        counts = case.graph.edge_ptr.diff()
        assert counts[-1] == 0
        assert counts.max() > 3
        assert bool((case.graph.pair_edges[:, 1] < 0).any()) == (kind == "one-way")
    check_forward(*cases)
    check_gradients(*cases)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("width", [2, 6])
@pytest.mark.parametrize("options", OPTIONS, ids=option_name)
def test_gradcheck(options, width, backend):
    case = make_case(0, 3, 1, 2, width=width, dtype=torch.float64, **options)
    names = list(case.leaves())

    def results(*leaves):
        found = case.with_leaves(dict(zip(names, leaves, strict=True))).run(backend)
        return tuple(result for result in found if result is not None)

    leaves = [leaf.requires_grad_() for leaf in case.leaves().values()]
    assert torch.autograd.gradcheck(results, leaves, fast_mode=True)


@pytest.mark.parametrize("wanted", [["scalars"], ["pair_dist"], ["phi.last_bias"], list(TENSORS)])
def test_gradients_that_are_wanted_do_not_depend_on_the_others(wanted):
    case = make_case(5, 2, width=8)
    every = case.gradients()
    leaves = case.leaves()
    for name in wanted:
        leaves[name] = leaves[name].clone().requires_grad_()
    results = case.with_leaves(leaves).run()
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(result.shape, generator=generator) for result in results]
    found = torch.autograd.grad(results, [leaves[name] for name in wanted], weights)
    for name, gradient in zip(wanted, found, strict=True):
        assert torch.equal(gradient, every[name])


def placed(case, positions):
    """The case with distances and vectors of ``positions``."""
    graph = case.graph
    vec = positions[graph.source] - positions[graph.receiver]
    dist = vec.norm(dim=1)
    return replace(
        case,
        pair_dist=dist[graph.pair_edges[:, 0]],
        vec_saturated=vec / (1 + dist).unsqueeze(1),
    )


def invariant_case(backend, **options):
    case = make_case(7, 4, width=8, dtype=torch.float64, **options)
    positions = torch.randn(11, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return case, positions, placed(case, positions).run(backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rotation_is_carried_and_translation_changes_nothing(backend):
    case, positions, before = invariant_case(backend)
    rotation = o3.angles_to_matrix(*torch.tensor([0.3, 1.1, -2.0], dtype=torch.float64))
    moved = positions @ rotation.T + torch.tensor([3.0, -1.0, 2.0], dtype=torch.float64)
    turned = replace(case, vectors=torch.einsum("xy,nyf->nxf", rotation, case.vectors))
    after = placed(turned, moved).run(backend)
    torch.testing.assert_close(after.scalars, before.scalars, rtol=0, atol=1e-12)
    torch.testing.assert_close(after.edges, before.edges, rtol=0, atol=1e-12)
    expected = torch.einsum("xy,nyf->nxf", rotation, before.vectors)
    torch.testing.assert_close(after.vectors, expected, rtol=0, atol=1e-12)
    assert (after.vectors - before.vectors).abs().max() > 0.1


@pytest.mark.parametrize("backend", BACKENDS)
def test_permuting_atoms_permutes_the_results(backend):
    case, positions, before = invariant_case(backend)
    order = torch.cat([torch.randperm(7), 7 + torch.randperm(4)])
    place = order.argsort()
    edge_index = place[torch.stack([case.graph.source, case.graph.receiver])]
    edge_order = (edge_index[1] * 11 + edge_index[0]).argsort()
    permuted = replace(
        case,
        scalars=case.scalars[order],
        vectors=case.vectors[order],
        edge_features=case.edge_features[edge_order],
        graph=message_graph(edge_index[:, edge_order], batch_ptr=case.graph.batch_ptr, n_atoms=11),
    )
    after = placed(permuted, positions[order]).run(backend)
    torch.testing.assert_close(after.scalars, before.scalars[order], rtol=0, atol=1e-12)
    torch.testing.assert_close(after.vectors, before.vectors[order], rtol=0, atol=1e-12)
    torch.testing.assert_close(after.edges, before.edges[edge_order], rtol=0, atol=1e-12)


def without_cross_block(mlp, width):
    weight, bias = mlp.last_weight.clone(), mlp.last_bias.clone()
    weight[4 * width :], bias[4 * width :] = 0, 0
    return mlp._replace(last_weight=weight, last_bias=bias)


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_the_cross_block_tells_mirror_images_apart(backend):
    case, positions, before = invariant_case(backend)
    mirrored = placed(replace(case, vectors=-case.vectors), -positions).run(backend)
    assert (mirrored.vectors + before.vectors).abs().max() > 0.1
    plain = replace(case, phi=without_cross_block(case.phi, 8))
    before = placed(plain, positions).run(backend)
    mirrored = placed(replace(plain, vectors=-case.vectors), -positions).run(backend)
    torch.testing.assert_close(mirrored.vectors, -before.vectors, rtol=0, atol=1e-12)
    torch.testing.assert_close(mirrored.scalars, before.scalars, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_vectors_are_equivariant(backend):
    case, positions, _ = invariant_case(backend)

    def vectors_of(positions, vectors):
        vectors = vectors.view(11, 8, 3).swapaxes(1, 2).contiguous()
        moved = placed(replace(case, vectors=vectors), positions.view(11, 3)).run(backend)
        return moved.vectors.swapaxes(1, 2).reshape(1, -1)

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        # Without parity: the cross product tells mirror images apart on purpose.
        assert_equivariant(
            vectors_of,
            args_in=[positions.view(1, -1), case.vectors.swapaxes(1, 2).reshape(1, -1)],
            irreps_in=[o3.Irreps("11x1o"), o3.Irreps("88x1o")],
            irreps_out=o3.Irreps("88x1o"),
            do_parity=False,
            do_translation=False,
            tolerance=1e-10,
        )
    finally:
        torch.set_default_dtype(default)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sizes", [(), (0, 0), (1,), (1, 0, 1)], ids=str)
def test_without_edges_sums_are_zero_and_so_are_gradients(sizes, backend):
    case = make_case(*sizes, width=6)
    result = case.run(backend)
    assert torch.equal(result.scalars, torch.zeros(sum(sizes), 6))
    assert torch.equal(result.vectors, torch.zeros(sum(sizes), 3, 6))
    assert result.edges.shape == (0, 6)
    for name, gradient in case.gradients(backend).items():
        assert torch.equal(gradient, torch.zeros_like(case.leaves()[name])), name


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["complete", "cutoff", "one-way"])
def test_atoms_without_edges_and_empty_molecules_between_others(kind, backend):
    case = make_case(5, 0, 1, 6, 0, kind=kind, width=6)
    result = case.run(backend)
    alone = case.graph.edge_ptr.diff() == 0
    assert alone.any()
    assert torch.equal(result.scalars[alone], torch.zeros(int(alone.sum()), 6))
    assert torch.equal(result.vectors[alone], torch.zeros(int(alone.sum()), 3, 6))
    assert all(gradient.isfinite().all() for gradient in case.gradients(backend).values())


def test_two_atoms_by_hand():
    # Filters and phi that give their last bias alone: a constant message.
    generator = torch.Generator().manual_seed(0)
    phi, filter_ = (random_mlp(n, 2, 10, generator=generator) for n in (4, 2))
    blocks = torch.arange(1.0, 11.0)
    phi = phi._replace(last_weight=torch.zeros(10, 2), last_bias=blocks)
    filter_ = filter_._replace(last_weight=torch.zeros(10, 2), last_bias=torch.full((10,), 0.5))
    case = make_case(2, width=2, has_edges=True)
    found = replace(case, phi=phi, filter_=filter_).run()
    gate, direction, ds, de, cross = (blocks / 2).split(2)
    assert torch.equal(found.scalars, ds.expand(2, 2))
    torch.testing.assert_close(found.edges, case.edge_features + de)
    u, v = case.vec_saturated, case.vectors
    for i, j in ((0, 1), (1, 0)):
        expected = gate * v[j] + direction * u[i, :, None]
        expected = expected + cross * torch.linalg.cross(u[i, :, None].expand(3, 2), v[i], dim=0)
        torch.testing.assert_close(found.vectors[i], expected)


def test_deterministic():
    case = make_case(18, 18, 7, kind="cutoff", width=24)
    assert all(map(torch.equal, case.run(), case.run()))
    first, second = case.gradients(), case.gradients()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("options", OPTIONS, ids=option_name)
def test_opcheck(options):
    case = make_case(3, 0, 2, width=4, kind="complete", dtype=torch.float64, **options)
    arguments = (
        *(getattr(case, name) for name in TENSORS),
        *(list(case.graph), list(case.phi), list(case.filter_)),
        *(case.distance_length, case.has_edges, case.adds_edges),
    )
    *results, cross_sum = torch.ops.tito_fast.painn_message(*arguments)
    for leaf in case.leaves().values():
        leaf.requires_grad_()
    torch.library.opcheck(torch.ops.tito_fast.painn_message.default, arguments)
    grads = [torch.ones_like(result) for result in results]
    with torch.no_grad():
        for wants_geometry in (True, False):
            torch.library.opcheck(
                torch.ops.tito_fast.painn_message_backward.default,
                (*grads, cross_sum, *(no_grad(each) for each in arguments), wants_geometry),
            )


def no_grad(argument):
    if isinstance(argument, list):
        return [tensor.detach() for tensor in argument]
    return argument.detach() if isinstance(argument, torch.Tensor) else argument


@pytest.mark.gpu
def test_cuda_resolves_to_the_reference():
    case = make_case(5, 3, width=6)
    moved = case.with_leaves({name: leaf.cuda() for name, leaf in case.leaves().items()})
    moved = replace(moved, graph=type(case.graph)(*(each.cuda() for each in case.graph)))
    expected = case.to(torch.float64).run("reference")
    for found, plain, exact in zip(moved.run("auto"), case.run("reference"), expected, strict=True):
        check_against_reference(found, plain, exact)
