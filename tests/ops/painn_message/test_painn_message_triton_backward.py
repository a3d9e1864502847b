"""Gradients of the message by Triton kernels against the definition's, and their properties."""

from dataclasses import replace

import pytest
import torch

from tests.ops.painn_message.message_cases import TENSORS, make_case
from tests.ops.painn_message.message_triton_cases import (
    check_precision,
    check_triton_gradients,
    gradients_of,
    molecules_of,
    on,
    ring_case,
    with_bf16_edges,
)
from tests.ops.painn_message.test_painn_message import OPTIONS, no_grad, option_name
from tests.ops.painn_message.test_painn_message_inputs import view_of

MIXED = (0, 1, 2, 5, 9, 0, 3, 1)
CPU = torch.device("cpu")


@pytest.fixture
def set_window(triton_device, monkeypatch):
    """Return a function that sets how many edges are a window at 32 features."""

    def set_edges(n_edges):
        from tito_fast.ops.painn_message import triton_backward  # noqa: PLC0415  Triton is optional

        monkeypatch.setattr(triton_backward, "_WINDOW_ELEMENTS", 32 * n_edges)

    return set_edges


@pytest.mark.parametrize(
    ("width", "options"),
    [
        (width, options)
        for width in (32, 64, 128)
        for options in (OPTIONS if width < 64 else OPTIONS[::5])
    ],
    ids=lambda value: str(value) if isinstance(value, int) else option_name(value),
)
def test_gradients_match_reference(triton_device, width, options):
    sizes = MIXED if width < 64 else (0, 1, 8, 3, 1)
    n_cases = 2 if width == 32 else 1
    cases = [make_case(*sizes, width=width, seed=seed, **options) for seed in range(n_cases)]
    check_triton_gradients(triton_device, *cases)


@pytest.mark.parametrize(
    ("options", "kind"),
    [(OPTIONS[0], "complete"), *((options, "one-way") for options in OPTIONS)],
    ids=lambda value: value if isinstance(value, str) else option_name(value),
)
def test_gradients_match_reference_in_float64(triton_device, options, kind):
    if triton_device.type != "cpu":
        pytest.skip("float64 runs interpreted only")
    case = make_case(*MIXED, width=32, kind=kind, dtype=torch.float64, **options)
    found = gradients_of(case, triton_device)
    for name, exact in gradients_of(case, CPU, backend="reference").items():
        scale = float(exact.abs().max()) or 1.0
        torch.testing.assert_close(found[name], exact, rtol=0, atol=1e-12 * scale, msg=name)


@pytest.mark.parametrize("kind", ["cutoff", "one-way"])
@pytest.mark.parametrize("options", OPTIONS[1::3], ids=option_name)
def test_gradients_of_graphs_with_missing_edges_match_reference(triton_device, options, kind):
    case = make_case(3, 10, 1, 0, 5, 2, width=32, kind=kind, **options)
    check_triton_gradients(triton_device, case)


# One edge pair; edges that end before, at and after the end of a tile of 64.
@pytest.mark.parametrize("sizes", [(2,), (8, 3), (8, 3, 2)], ids=str)
def test_sizes_match_reference(triton_device, sizes):
    n_cases = 8 if sum(sizes) < 4 else 2
    check_triton_gradients(
        triton_device, *(make_case(*sizes, width=32, seed=seed) for seed in range(n_cases))
    )


@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp32"])
@pytest.mark.parametrize("width", [32, 64, 128])
def test_each_precision_is_within_its_bound(triton_device, width, precision):
    case = make_case(2, 7, 1, width=width)
    exact = gradients_of(case.to(torch.float64), CPU, backend="reference")
    found = gradients_of(case, triton_device, precision)
    check_precision(list(found.values()), list(exact.values()), precision, rounds=False)
    assert (found["scalars"].double() - exact["scalars"]).abs().max() > 1e-6


@pytest.mark.parametrize("precision", ["ieee", "bf16"])
def test_gradients_with_bf16_edges(triton_device, precision):
    case = with_bf16_edges(make_case(1, 2, 9, width=32))
    wide = replace(case, edge_features=case.edge_features.float())
    found = gradients_of(case, triton_device, precision)
    expected = gradients_of(wide, triton_device, precision)
    edges, exact = found.pop("edge_features"), expected.pop("edge_features")
    assert edges.dtype == torch.bfloat16
    scale = float(exact.abs().max())
    # Half a step of bf16's 8 bits.
    torch.testing.assert_close(edges.float(), exact, rtol=2**-8, atol=1e-5 * scale)
    if triton_device.type == "cpu":
        assert torch.equal(edges, exact.bfloat16())
    for name, gradient in found.items():
        atol = 1e-5 * float(expected[name].abs().max())
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=atol, msg=name)


# Windows that end at the end of a tile, and within the edges of a source.
@pytest.mark.parametrize(("n_edges", "has_vectors"), [(64, True), (64, False), (15, True)])
def test_windows_match_reference_and_leave_gradients_of_rows_as_they_are(
    triton_device, set_window, n_edges, has_vectors
):
    case = make_case(9, 0, 1, 6, width=32, has_vectors=has_vectors)
    whole = gradients_of(case, triton_device)
    set_window(n_edges)
    assert case.graph.source.shape[0] > n_edges
    check_triton_gradients(triton_device, case)
    # In the interpreter a row's rounding depends on its place in a tile.
    if n_edges == 64 or triton_device.type == "cuda":
        parts = gradients_of(case, triton_device)
        assert all(torch.equal(parts[name], whole[name]) for name in TENSORS if name in whole)


def test_gradcheck(triton_device):
    if triton_device.type != "cpu":
        pytest.skip("float64 runs interpreted only")
    case = make_case(0, 2, 1, width=32, dtype=torch.float64)
    names = list(case.leaves())

    def results(*leaves):
        found = case.with_leaves(dict(zip(names, leaves, strict=True))).run("triton")
        return tuple(result for result in found if result is not None)

    leaves = [leaf.requires_grad_() for leaf in case.leaves().values()]
    assert torch.autograd.gradcheck(results, leaves, fast_mode=True)


@pytest.mark.parametrize("sizes", [(), (0, 0), (1,), (1, 0, 1)], ids=str)
def test_without_edges_gradients_are_zero(triton_device, sizes):
    case = make_case(*sizes, width=32)
    for name, gradient in gradients_of(case, triton_device).items():
        assert torch.equal(gradient, torch.zeros_like(case.leaves()[name])), name


@pytest.mark.parametrize(
    "wanted", [["scalars"], ["pair_dist"], ["vec_saturated"], ["edge_features"], ["phi.last_bias"]]
)
def test_gradients_that_are_wanted_do_not_depend_on_the_others(triton_device, wanted):
    case = make_case(5, 2, width=32)
    every = gradients_of(case, triton_device)
    for name, gradient in gradients_of(case, triton_device, wanted=wanted).items():
        assert torch.equal(gradient, every[name])


def test_without_geometry_gradients_are_the_same(triton_device):
    case = make_case(5, 2, width=32)
    every = gradients_of(case, triton_device)
    names = [name for name in every if name not in ("pair_dist", "vec_saturated")]
    found = gradients_of(case, triton_device, wanted=names)
    assert all(torch.equal(found[name], every[name]) for name in names)


def test_gradients_of_results_that_nobody_used_are_zero(triton_device):
    case = on(make_case(5, 3, width=32), triton_device)
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves().items()}
    results = case.with_leaves(leaves).run("triton")
    weights = [torch.ones_like(results[0]), *map(torch.zeros_like, results[1:])]
    expected = torch.autograd.grad(results, list(leaves.values()), weights, retain_graph=True)
    found = torch.autograd.grad(
        results.scalars.sum(), list(leaves.values()), materialize_grads=True
    )
    assert all(map(torch.equal, found, expected))


def test_noncontiguous_and_offset_views(triton_device):
    case = make_case(5, 3, width=32)
    views = case.with_leaves({name: view_of(leaf) for name, leaf in case.leaves().items()})
    views = on(replace(views, graph=type(case.graph)(*map(view_of, case.graph))), triton_device)
    case = on(case, triton_device)
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves().items()}
    strided = {name: leaf.requires_grad_() for name, leaf in views.leaves().items()}
    weights = [torch.randn(result.shape) for result in case.run("triton")]
    found, expected = (
        torch.autograd.grad(
            each.with_leaves(of_each).run("triton"),
            list(of_each.values()),
            [weight.to(triton_device) for weight in of_results],
        )
        for each, of_each, of_results in (
            (views, strided, [view_of(weight) for weight in weights]),
            (case, leaves, weights),
        )
    )
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("precision", ["ieee", "bf16"])
def test_deterministic(triton_device, precision):
    case = make_case(9, 7, kind="cutoff", width=32)
    first, second = (gradients_of(case, triton_device, precision) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("has_vectors", "precision"), [(True, "ieee"), (True, "bf16"), (False, "ieee")]
)
def test_batch_equals_loop(triton_device, has_vectors, precision):
    # In the interpreter a row's rounding depends on its place in a tile: there, molecules begin where tiles do.
    if triton_device.type == "cuda":
        case = make_case(5, 0, 18, 1, 2, 24, 7, width=32, has_vectors=has_vectors)
    else:
        case = ring_case(1, 3, width=32, has_vectors=has_vectors)

    def gradients(each):
        # Of half the sum of squares.
        found = gradients_of(
            each, triton_device, precision, wanted=names, weigh=torch.Tensor.contiguous
        )
        return [found[name] for name in names]

    names = [name for name in TENSORS if has_vectors or name != "vectors"]
    together = gradients(case)
    for atoms, edges, pairs, alone in molecules_of(case):
        rows = {"edge_features": edges, "vec_saturated": edges, "pair_dist": pairs}
        for name, ours, theirs in zip(names, gradients(alone), together, strict=True):
            assert torch.equal(ours, theirs[rows.get(name, atoms)]), name


def test_second_derivative_is_refused(triton_device):
    case = on(make_case(2, width=32), triton_device)
    case.scalars.requires_grad_()
    result = case.run("triton").scalars.square().sum()
    (gradient,) = torch.autograd.grad(result, [case.scalars], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("wants_geometry", [True, False])
@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[5]], ids=option_name)
def test_opcheck(triton_device, options, wants_geometry):
    case = on(make_case(3, 0, 2, width=32, **options), triton_device)
    case.run("triton")
    arguments = (
        *(getattr(case, name) for name in TENSORS),
        *(list(case.graph), list(case.phi), list(case.filter_)),
        *(case.distance_length, case.has_edges, case.adds_edges),
    )
    *results, cross_sum = torch.ops.tito_fast.painn_message_triton(*arguments, "ieee")
    grads = [torch.ones_like(result) for result in results]
    torch.library.opcheck(
        torch.ops.tito_fast.painn_message_triton_backward.default,
        (*grads, cross_sum, *(no_grad(each) for each in arguments), wants_geometry, "ieee"),
    )
