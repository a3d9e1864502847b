"""The message by Triton kernels against its definition, and its properties; gradients have a file of their own."""

from dataclasses import replace

import pytest
import torch

from tests.ops.painn_message.message_cases import TENSORS, make_case
from tests.ops.painn_message.message_triton_cases import (
    check_precision,
    check_triton_forward,
    molecules_of,
    on,
    results_of,
    ring_case,
    with_bf16_edges,
)
from tests.ops.painn_message.test_painn_message import OPTIONS, option_name
from tests.ops.painn_message.test_painn_message_inputs import view_of
from tito_fast.errors import BackendUnavailableError
from tito_fast.ops.painn_message.graph import complete_graph
from tito_fast.ops.painn_message.triton_pack import pack_weights
from tito_fast.types import PRODUCT_PRECISIONS

MIXED = (0, 1, 2, 5, 18, 0, 3, 1)
WIDTHS = (32, 64, 128)


@pytest.mark.parametrize("options", OPTIONS, ids=option_name)
@pytest.mark.parametrize("width", WIDTHS)
def test_matches_reference(triton_device, width, options):
    sizes = MIXED if width < 64 else (0, 1, 9, 3, 1)
    cases = [make_case(*sizes, width=width, seed=seed, **options) for seed in range(2)]
    check_triton_forward(triton_device, *cases)


@pytest.mark.parametrize("options", OPTIONS, ids=option_name)
@pytest.mark.parametrize("kind", ["complete", "one-way"])
def test_matches_reference_in_float64(triton_device, kind, options):
    if triton_device.type != "cpu":
        pytest.skip("float64 runs interpreted only")
    case = make_case(*MIXED, width=32, kind=kind, dtype=torch.float64, **options)
    expected = [result for result in case.run("reference") if result is not None]
    for found, exact in zip(results_of(case, triton_device), expected, strict=True):
        torch.testing.assert_close(found, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["cutoff", "sparse", "one-way"])
@pytest.mark.parametrize("options", OPTIONS[::2], ids=option_name)
def test_graphs_with_missing_edges_match_reference(triton_device, options, kind):
    cases = [make_case(3, 18, 1, 0, 7, 2, width=32, kind=kind, seed=n, **options) for n in range(2)]
    assert all(case.graph.edge_ptr.diff()[-1] == 0 for case in cases)
    check_triton_forward(triton_device, *cases)


# Sources that end before, at and after the end of a chunk; atoms that do so of a tile.
@pytest.mark.parametrize("sizes", [(2,), (4, 5, 6), (17,), (15, 1, 16, 1)], ids=str)
def test_sizes_match_reference(triton_device, sizes):
    n_cases = 12 if sum(sizes) < 4 else 2
    check_triton_forward(
        triton_device, *(make_case(*sizes, width=32, seed=seed) for seed in range(n_cases))
    )


def test_a_graph_by_arithmetic_gives_the_same(triton_device):
    case = make_case(0, 1, 2, 5, 18, width=32)
    graph = complete_graph(case.graph.batch_ptr, sizes=(0, 1, 2, 5, 18))
    found = results_of(replace(case, graph=graph), triton_device)
    assert all(map(torch.equal, found, results_of(case, triton_device)))


@pytest.mark.parametrize("backend", ["triton", "native"])
@pytest.mark.parametrize("options", OPTIONS, ids=option_name)
def test_the_atoms_own_features_are_added(triton_device, options, backend):
    if backend == "native":
        triton_device = torch.device("cpu")
    case = on(make_case(2, 0, 5, width=32, **options), triton_device)
    inputs = [x.requires_grad_() for x in (case.scalars, case.vectors) if x is not None]
    alone, added = case.run(backend), case.run(backend, adds_atoms=True)
    expected = [case.scalars + alone.scalars]
    expected += [alone.vectors if case.vectors is None else case.vectors + alone.vectors]
    found = [added.scalars, added.vectors]
    weights = [torch.sin(torch.arange(x.numel(), device=x.device)).view_as(x) for x in found]
    gradients = [
        torch.autograd.grad(each, inputs, weights, retain_graph=True) for each in (found, expected)
    ]
    for one, other in zip((*found, *gradients[0]), (*expected, *gradients[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_packed_weights_change_no_bit(triton_device):
    cases = [on(make_case(2, 5, width=32, seed=seed), triton_device) for seed in range(2)]
    for precision in PRODUCT_PRECISIONS:
        packed = pack_weights([(case.phi, case.filter_) for case in cases], precision)
        for case, own in zip(cases, packed, strict=True):
            found = case.run("triton", precision=precision, packed=own)
            for one, other in zip(found, case.run("triton", precision=precision), strict=True):
                assert torch.equal(one, other)


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp32"])
@pytest.mark.parametrize("width", WIDTHS)
def test_each_precision_is_within_its_bound(triton_device, width, precision):
    case = make_case(2, 7, 1, width=width)
    exact = case.to(torch.float64).run("reference")
    check_precision(results_of(case, triton_device, precision), exact, precision, rounds=True)


@pytest.mark.parametrize("adds_edges", [True, False])
@pytest.mark.parametrize("precision", ["ieee", "bf16"])
def test_bf16_edges_are_read_and_rounded_to_nearest(triton_device, precision, adds_edges):
    case = with_bf16_edges(make_case(1, 2, 18, width=32, adds_edges=adds_edges))
    scalars, vectors, edges = results_of(case, triton_device, precision)
    wide = replace(case, edge_features=case.edge_features.float())
    expected = results_of(wide, triton_device, precision)
    assert edges.dtype == torch.bfloat16
    torch.testing.assert_close(scalars, expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(vectors, expected[1], rtol=0, atol=1e-5)
    # Half a step of bf16's 8 bits.
    torch.testing.assert_close(edges.float(), expected[2], rtol=2**-8, atol=1e-5)
    if triton_device.type == "cpu":
        assert torch.equal(edges, expected[2].bfloat16())


@pytest.mark.parametrize("sizes", [(), (0, 0), (1,), (1, 0, 1)], ids=str)
def test_without_edges_sums_are_zero(triton_device, sizes):
    scalars, vectors, edges = results_of(make_case(*sizes, width=32), triton_device)
    assert torch.equal(scalars, torch.zeros(sum(sizes), 32))
    assert torch.equal(vectors, torch.zeros(sum(sizes), 3, 32))
    assert edges.shape == (0, 32)


@pytest.mark.parametrize("kind", ["complete", "cutoff"])
@pytest.mark.parametrize("has_vectors", [True, False])
def test_sums_of_atoms_without_edges_are_zero(triton_device, has_vectors, kind):
    case = make_case(20, 0, 1, 6, 0, 1, kind=kind, width=32, has_vectors=has_vectors)
    scalars, vectors, _ = results_of(case, triton_device)
    alone = case.graph.edge_ptr.diff() == 0
    assert alone.sum() > 1
    assert torch.equal(scalars[alone], torch.zeros(int(alone.sum()), 32))
    assert torch.equal(vectors[alone], torch.zeros(int(alone.sum()), 3, 32))
    assert (scalars[~alone] != 0).all()


def test_rotation_is_carried(triton_device):
    case = make_case(7, 4, width=32)
    scalars, vectors, edges = results_of(case, triton_device)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1))).Q
    rotation *= torch.linalg.det(rotation)
    turned = replace(
        case,
        vectors=torch.einsum("xy,nyf->nxf", rotation, case.vectors),
        vec_saturated=case.vec_saturated @ rotation.T,
    )
    found = results_of(turned, triton_device)
    expected = torch.einsum("xy,nyf->nxf", rotation, vectors)
    torch.testing.assert_close(found[0], scalars, rtol=0, atol=1e-5)
    torch.testing.assert_close(found[1], expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(found[2], edges, rtol=0, atol=1e-5)
    assert (found[1] - vectors).abs().max() > 0.1


def test_noncontiguous_and_offset_views(triton_device):
    case = on(make_case(5, 3, width=32), triton_device)
    views = case.with_leaves({k: view_of(v.cpu()) for k, v in case.leaves().items()})
    views = replace(views, graph=type(case.graph)(*(view_of(each.cpu()) for each in case.graph)))
    assert not any(view.is_contiguous() for view in (views.vectors, *views.phi, *views.graph))
    assert all(map(torch.equal, results_of(views, triton_device), results_of(case, triton_device)))


@pytest.mark.parametrize(
    ("width", "dtype", "precision", "error", "match"),
    [
        (24, torch.float32, "ieee", BackendUnavailableError, "32, 64, 128 features, got 24"),
        (32, torch.float32, "half", ValueError, "precision: expected one of ieee"),
        (32, torch.float64, "bf16", BackendUnavailableError, "float64"),
    ],
)
def test_invalid_inputs(triton_device, width, dtype, precision, error, match):
    with pytest.raises(error, match=match):
        results_of(make_case(2, width=width, dtype=dtype), triton_device, precision)


def test_edges_of_other_types_are_refused(triton_device):
    case = make_case(2, width=32)
    with pytest.raises(TypeError, match="edge_features: expected dtype float32, got float16"):
        results_of(replace(case, edge_features=case.edge_features.half()), triton_device)
    with pytest.raises(TypeError, match="edge_features: expected dtype float32, got bfloat16"):
        with_bf16_edges(case).run("native")


@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_deterministic(triton_device, precision):
    case = make_case(18, 7, kind="cutoff", width=32)
    first, second = (results_of(case, triton_device, precision) for _ in range(2))
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("n_programs", [1, 3, 1000])
def test_any_number_of_programs_gives_the_same_bits(triton_device, monkeypatch, n_programs):
    from tito_fast.ops.painn_message import triton_op  # noqa: PLC0415  Triton is optional

    case = make_case(18, 1, 20, width=32)
    expected = results_of(case, triton_device)
    monkeypatch.setattr(triton_op, "_most_programs", lambda _: n_programs)
    assert all(map(torch.equal, results_of(case, triton_device), expected))


@pytest.mark.parametrize("precision", ["ieee", "bf16"])
@pytest.mark.parametrize(("has_vectors", "width"), [(True, 32), (False, 32), (True, 64)])
def test_batch_equals_loop(triton_device, has_vectors, width, precision):
    # In the interpreter a row's rounding depends on its place in a tile: there, molecules begin where tiles do.
    if triton_device.type == "cuda":
        case = make_case(5, 0, 18, 1, 2, 24, 7, width=width, has_vectors=has_vectors)
    else:
        case = ring_case(1, 0, 16, 3, width=width, has_vectors=has_vectors)
    together = results_of(case, triton_device, precision)
    for atoms, edges, _, alone in molecules_of(case):
        found = results_of(alone, triton_device, precision)
        for ours, theirs, rows in zip(found, together, (atoms, atoms, edges), strict=True):
            assert torch.equal(ours, theirs[rows])


def test_inputs_are_untouched_and_results_are_new(triton_device):
    case = on(make_case(5, 3, width=32), triton_device)
    before = {name: leaf.clone() for name, leaf in case.leaves().items()}
    for result in case.run("triton"):
        result.zero_()
    assert all(torch.equal(leaf, before[name]) for name, leaf in case.leaves().items())


@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[5]], ids=option_name)
def test_opcheck(triton_device, options):
    case = on(make_case(3, 0, 2, width=32, **options), triton_device)
    case.run("triton")
    for leaf in case.leaves().values():
        leaf.requires_grad_()
    arguments = (
        *(getattr(case, name) for name in TENSORS),
        *(list(case.graph), list(case.phi), list(case.filter_)),
        *(case.distance_length, case.has_edges, case.adds_edges, "ieee"),
    )
    torch.library.opcheck(torch.ops.tito_fast.painn_message_triton.default, arguments)
