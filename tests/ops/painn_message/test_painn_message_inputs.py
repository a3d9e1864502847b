"""What the message takes and refuses."""

from dataclasses import replace

import pytest
import torch

from tests.ops.painn_message.message_cases import make_case
from tito_fast.errors import BackendUnavailableError

BACKENDS = ["native", "reference"]


def view_of(tensor):
    """The same values in other memory: neither contiguous nor at the start of a vector."""
    if tensor.ndim == 0 or tensor.numel() == 0:
        return tensor
    fill = torch.nan if tensor.is_floating_point() else -7
    wide = torch.full((*tensor.shape[:-1], 2 * tensor.shape[-1] + 3), fill, dtype=tensor.dtype)
    view = wide[..., 3::2]
    view.copy_(tensor)
    return view


def test_noncontiguous_and_offset_views():
    case = make_case(5, 3, width=6)
    views = case.with_leaves({name: view_of(leaf) for name, leaf in case.leaves().items()})
    views = replace(views, graph=type(case.graph)(*map(view_of, case.graph)))
    assert not any(view.is_contiguous() for view in (views.vectors, *views.phi, *views.graph))
    for found, expected in zip(views.run(), case.run(), strict=True):
        assert torch.equal(found, expected)

    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves().items()}
    weights = [torch.randn(result.shape) for result in case.run()]
    found, expected = (
        torch.autograd.grad(case.with_leaves(leaves).run(), list(leaves.values()), each)
        for each in ([view_of(weight) for weight in weights], weights)
    )
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("backend", BACKENDS)
def test_expanded_and_missing_gradients(backend):
    case = make_case(5, 3, width=6)
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves().items()}
    results = case.with_leaves(leaves).run(backend)
    expected = torch.autograd.grad(
        results,
        list(leaves.values()),
        [torch.ones(8, 6), torch.zeros(8, 3, 6), torch.zeros(26, 6)],
        retain_graph=True,
    )
    found = torch.autograd.grad(
        results.scalars.sum(), list(leaves.values()), materialize_grads=True
    )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def with_graph(field, change):
    def apply(case):
        graph = case.graph._replace(**{field: change(getattr(case.graph, field).clone())})
        return {"graph": graph}

    return apply


def with_mlp(mlp, field, tensor):
    return lambda case: {mlp: getattr(case, mlp)._replace(**{field: tensor})}


def with_value(index, value):
    def change(tensor):
        tensor[index] = value
        return tensor

    return change


WRONG = {
    "dtype": (lambda _: {"scalars": torch.zeros(6, 6).half()}, TypeError, "scalars: expected dty"),
    "n_atoms": (
        lambda _: {"scalars": torch.zeros(4, 6)},
        ValueError,
        r"scalars: expected shape \(6, width\), got \(4, 6\)",
    ),
    "odd width": (
        lambda _: {"scalars": torch.zeros(6, 5)},
        ValueError,
        "scalars: expected an even width of 2 or more, got 5",
    ),
    "no width": (
        lambda _: {"scalars": torch.zeros(6, 0)},
        ValueError,
        "scalars: expected an even width of 2 or more, got 0",
    ),
    "vectors": (
        lambda _: {"vectors": torch.zeros(6, 6, 3)},
        ValueError,
        r"vectors: expected shape \(6, 3, 6\), got \(6, 6, 3\)",
    ),
    "edge_features": (
        lambda _: {"edge_features": torch.zeros(13, 6)},
        ValueError,
        r"edge_features: expected shape \(14, 6\), got \(13, 6\)",
    ),
    "edge dtype": (
        lambda _: {"edge_features": torch.zeros(14, 6).double()},
        TypeError,
        "edge_features: expected dtype float32, got float64",
    ),
    "pair_dist": (
        lambda _: {"pair_dist": torch.zeros(14)},
        ValueError,
        r"pair_dist: expected shape \(7,\), got \(14,\)",
    ),
    "vec_saturated": (
        lambda _: {"vec_saturated": torch.zeros(14, 1)},
        ValueError,
        r"vec_saturated: expected shape \(14, 3\), got \(14, 1\)",
    ),
    "length": (
        lambda _: {"distance_length": 0.0},
        ValueError,
        "distance_length: expected a value above zero, got 0",
    ),
    "phi": (
        with_mlp("phi", "first_weight", torch.zeros(6, 6)),
        ValueError,
        r"phi.first_weight: expected shape \(6, 12\), got \(6, 6\)",
    ),
    "phi bias": (
        with_mlp("phi", "last_bias", torch.zeros(6)),
        ValueError,
        r"phi.last_bias: expected shape \(30,\), got \(6,\)",
    ),
    "filter": (
        with_mlp("filter_", "second_scale", torch.zeros(5)),
        ValueError,
        r"filter_.second_scale: expected shape \(6,\), got \(5,\)",
    ),
    "filter dtype": (
        with_mlp("filter_", "second_bias", torch.zeros(6).double()),
        TypeError,
        "filter_.second_bias: expected dtype float32, got float64",
    ),
    "graph dtype": (
        with_graph("source", torch.Tensor.int),
        TypeError,
        "graph.source: expected dtype int64, got int32",
    ),
    "receiver": (
        with_graph("receiver", lambda tensor: tensor[1:]),
        ValueError,
        r"graph.receiver: expected shape \(14,\), got \(13,\)",
    ),
    "edge_pair": (
        with_graph("edge_pair", lambda tensor: tensor[1:]),
        ValueError,
        r"graph.edge_pair: expected shape \(14,\), got \(13,\)",
    ),
    "pair_edges": (
        with_graph("pair_edges", lambda tensor: tensor[:, :1]),
        ValueError,
        r"graph.pair_edges: expected shape \(n_pairs, 2\), got \(7, 1\)",
    ),
    "no starts": (
        with_graph("batch_ptr", lambda tensor: tensor[:0]),
        ValueError,
        "graph.batch_ptr: expected one start or more, got none",
    ),
    "backend": (lambda _: {"backend": "fast"}, ValueError, "backend: expected one of"),
}


# 6 atoms, 14 edges, 7 pairs.
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("wrong", WRONG)
def test_invalid_inputs(wrong, backend):
    change, error, match = WRONG[wrong]
    case = make_case(2, 0, 4, width=6)
    with pytest.raises(error, match=match):
        case.run(**({"backend": backend} | change(case)))


BAD_GRAPHS = {
    "batch_ptr": ("batch_ptr", with_value(1, 7), "batch_ptr: expected non-decreasing starts"),
    "edge_ptr": ("edge_ptr", with_value(-1, 15), "edge_ptr from 0 to n_edges = 14"),
    "falling": ("edge_ptr", with_value(1, 3), "edge_ptr that never falls"),
    "source": ("source", with_value(0, 2), "sources in the molecule of their receiver, got 2"),
    "negative": ("source", with_value(13, -1), "sources in the molecule .* got -1 for atom 5"),
    "pair": ("edge_pair", with_value(3, 7), "pairs in 0 .. n_pairs - 1, got 7"),
    "other pair": ("edge_pair", with_value(3, 6), "pair_edges that name the edges of each pair"),
    "stray edge": ("pair_edges", with_value((1, 1), 99), "pair_edges that name the edges"),
    "edge twice": ("pair_edges", with_value((1, 1), 2), "pair_edges that name the edges"),
    "no edge": ("pair_edges", with_value((1, 0), -1), "pair_edges that name the edges"),
}


@pytest.mark.parametrize("wrong", BAD_GRAPHS)
def test_a_graph_that_is_none_is_refused(wrong):
    field, change, match = BAD_GRAPHS[wrong]
    case = make_case(2, 0, 4, width=6)
    with pytest.raises(ValueError, match=match):
        replace(case, **with_graph(field, change)(case)).run("native")


def test_pairs_that_are_not_sorted_by_molecule_are_refused():
    case = make_case(2, 0, 4, width=6)
    order = torch.tensor([6, 1, 2, 3, 4, 5, 0])
    graph = case.graph._replace(
        edge_pair=order[case.graph.edge_pair], pair_edges=case.graph.pair_edges[order]
    )
    with pytest.raises(ValueError, match="graph: expected pairs sorted by molecule"):
        replace(case, graph=graph).run("native")


@pytest.mark.usefixtures("triton_device")
def test_a_width_without_a_triton_kernel_is_refused():
    with pytest.raises(BackendUnavailableError, match="expected 32, 64, 128 features, got 6"):
        make_case(2, width=6).run("triton")


def test_inputs_are_untouched_and_results_are_new():
    case = make_case(5, 3, width=6)
    before = {name: leaf.clone() for name, leaf in case.leaves().items()}
    for result in case.run():
        result.zero_()
    assert all(torch.equal(leaf, before[name]) for name, leaf in case.leaves().items())
