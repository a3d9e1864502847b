from itertools import pairwise

import pytest
import torch

from tito_fast.errors import BackendUnavailableError
from tito_fast.ops import edge_geometry, message_graph
from tito_fast.testing.tolerance import check_against_reference

SIZES = [[1], [2], [17], [0, 5, 0, 1, 7, 0], [3, 12, 4]]


def make_graph(sizes, *, keep=1.0, seed=0):
    """Complete molecules, or a random share of the edges; the last atom then has none."""
    generator = torch.Generator().manual_seed(seed)
    batch_ptr = torch.tensor([0, *sizes]).cumsum(0)
    blocks = [torch.zeros(2, 0, dtype=torch.int64)]
    for start, size in zip(batch_ptr.tolist(), sizes, strict=False):
        is_edge = torch.rand(size, size, generator=generator) < keep
        if keep < 1.0:
            is_edge[-1:], is_edge[:, -1:] = False, False
        receiver, source = is_edge.fill_diagonal_(False).nonzero().T
        blocks.append(start + torch.stack([source, receiver]))
    return message_graph(torch.cat(blocks, dim=1), batch_ptr=batch_ptr, n_atoms=sum(sizes))


def draw(n_atoms, *, dtype=torch.float32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_atoms, 3, generator=generator, dtype=dtype)


def on(device, positions, graph):
    return positions.to(device), graph._make(tensor.to(device) for tensor in graph)


def gradient(positions, graph, *, backend):
    leaf = positions.clone().requires_grad_()
    result = edge_geometry(leaf, graph, backend=backend)
    total = leaf.sum() * 0.0
    for part in result:
        weight = torch.linspace(-1.0, 2.0, part.numel(), dtype=part.dtype, device=part.device)
        total = total + (part * weight.view_as(part)).sum()
    return torch.autograd.grad(total, leaf)[0]


@pytest.mark.parametrize("keep", [1.0, 0.4], ids=["complete", "part"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_matches_reference(triton_device, sizes, keep):
    positions, graph = on(triton_device, draw(sum(sizes)), make_graph(sizes, keep=keep))
    found = edge_geometry(positions, graph, backend="triton")
    plain = edge_geometry(positions, graph, backend="reference")
    exact = edge_geometry(positions.double(), graph, backend="reference")
    for ours, theirs, reference64 in zip(found, plain, exact, strict=True):
        check_against_reference(ours, theirs, reference64)


@pytest.mark.parametrize("keep", [1.0, 0.4], ids=["complete", "part"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_gradients_match_reference(triton_device, sizes, keep):
    positions, graph = on(triton_device, draw(sum(sizes)), make_graph(sizes, keep=keep))
    check_against_reference(
        gradient(positions, graph, backend="triton"),
        gradient(positions, graph, backend="reference"),
        gradient(positions.double(), graph, backend="reference"),
    )


@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_gradcheck(triton_device, backend):
    positions, graph = on(
        triton_device, draw(6, dtype=torch.float64), make_graph([0, 4, 1, 1], keep=0.9)
    )
    assert torch.autograd.gradcheck(
        lambda leaf: tuple(edge_geometry(leaf, graph, backend=backend)), positions.requires_grad_()
    )


def test_a_second_derivative_is_refused(triton_device):
    positions, graph = on(triton_device, draw(3), make_graph([3]))
    leaf = positions.requires_grad_()
    dist = edge_geometry(leaf, graph, backend="triton").pair_dist
    (first,) = torch.autograd.grad(dist.square().sum(), leaf, create_graph=True)
    with pytest.raises(RuntimeError, match="edge_geometry: expected to be differentiated once"):
        first.sum().backward()


def test_the_gradient_of_a_distance_of_zero_is_zero(triton_device):
    positions, graph = on(triton_device, torch.zeros(3, 3), make_graph([3]))
    leaf = positions.requires_grad_()
    dist, vec = edge_geometry(leaf, graph, backend="triton")
    assert not vec.any()
    (grad,) = torch.autograd.grad(dist.sum(), leaf)
    assert torch.equal(grad, torch.zeros_like(grad))
    assert gradient(positions.detach(), graph, backend="triton").isfinite().all()


def test_values_that_are_not_numbers_are_seen(triton_device):
    positions, graph = on(triton_device, draw(3), make_graph([3]))
    positions[0] = torch.nan
    result = edge_geometry(positions, graph, backend="triton")
    assert result.pair_dist.isnan().sum() == 2
    assert result.vec_saturated.isnan().all(dim=1).sum() == 4


def test_rotation_reflection_and_translation(triton_device):
    positions, graph = on(triton_device, draw(7), make_graph([7]))
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(3)))
    turn = turn.to(triton_device)
    found = edge_geometry(positions, graph, backend="triton")
    for matrix in (turn, -turn):
        moved = edge_geometry(positions @ matrix.T + 1.0, graph, backend="triton")
        torch.testing.assert_close(moved.pair_dist, found.pair_dist, rtol=1e-5, atol=1e-5)
        turned = found.vec_saturated @ matrix.T
        torch.testing.assert_close(moved.vec_saturated, turned, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sizes", [[], [0, 0], [1], [1, 1]], ids=str)
def test_empty_and_tiny(triton_device, sizes):
    positions, graph = on(triton_device, draw(sum(sizes)), make_graph(sizes))
    result = edge_geometry(positions, graph, backend="triton")
    assert [tuple(part.shape) for part in result] == [(0,), (0, 3)]
    assert not gradient(positions, graph, backend="triton").any()


def test_noncontiguous_and_offset_views(triton_device):
    positions, graph = on(triton_device, draw(5), make_graph([2, 3]))
    wide = torch.full((6, 6), torch.nan, device=triton_device)
    wide[1:, 1::2] = positions
    views = graph._make(torch.stack((tensor, tensor), dim=-1)[..., 0] for tensor in graph)
    assert not any(tensor.is_contiguous() for tensor in (wide[1:, 1::2], *views))
    found = edge_geometry(wide[1:, 1::2], views, backend="triton")
    expected = edge_geometry(positions, graph, backend="triton")
    assert all(map(torch.equal, found, expected))
    assert torch.equal(
        gradient(wide[1:, 1::2], views, backend="triton"),
        gradient(positions, graph, backend="triton"),
    )


@pytest.mark.parametrize("backend", ["triton", "reference"])
@pytest.mark.parametrize(
    ("positions", "change", "error", "match"),
    [
        (torch.zeros(4, 3), {}, ValueError, r"positions: expected shape \(3, 3\), got \(4, 3\)"),
        (torch.zeros(3, 3).half(), {}, TypeError, "positions: expected dtype float32 or float64"),
        (
            torch.zeros(3, 3),
            {"source": torch.zeros(5).long()},
            ValueError,
            r"graph.receiver: expected shape \(5,\), got \(6,\)",
        ),
        (
            torch.zeros(3, 3),
            {"edge_pair": torch.zeros(6).int()},
            TypeError,
            "graph.edge_pair: expected dtype int64, got int32",
        ),
        (
            torch.zeros(3, 3),
            {"source_ptr": torch.zeros(9).long()},
            ValueError,
            r"graph.source_ptr: expected shape \(4,\), got \(9,\)",
        ),
        (
            torch.zeros(0, 3),
            {"edge_ptr": torch.zeros(0).long(), "source_ptr": torch.zeros(0).long()},
            ValueError,
            "graph.edge_ptr: expected one start or more, got none",
        ),
    ],
)
def test_invalid_inputs(triton_device, positions, change, error, match, backend):
    positions, graph = on(triton_device, positions, make_graph([3])._replace(**change))
    with pytest.raises(error, match=match):
        edge_geometry(positions, graph, backend=backend)


def test_there_is_no_native_kernel():
    with pytest.raises(BackendUnavailableError, match="edge_geometry has no native kernel for cpu"):
        edge_geometry(draw(3), make_graph([3]), backend="native")
    found = edge_geometry(draw(3), make_graph([3]))
    assert all(map(torch.equal, found, edge_geometry(draw(3), make_graph([3]), backend="eager")))


def test_deterministic(triton_device):
    positions, graph = on(triton_device, draw(9), make_graph([5, 4], keep=0.7))
    for function in (edge_geometry, lambda *given, backend: [gradient(*given, backend=backend)]):
        first, second = (function(positions, graph, backend="triton") for _ in range(2))
        assert all(map(torch.equal, first, second))


def test_opcheck(triton_device):
    positions, graph = on(triton_device, draw(5), make_graph([0, 3, 2]))
    tensors = [
        graph.source,
        graph.receiver,
        graph.edge_ptr,
        graph.edge_pair,
        graph.pair_edges,
        graph.source_ptr,
        graph.source_edges,
    ]
    grads = edge_geometry(positions, graph, backend="triton")
    ops = torch.ops.tito_fast
    torch.library.opcheck(
        ops.edge_geometry_triton.default, (positions.clone().requires_grad_(), *tensors)
    )
    torch.library.opcheck(ops.edge_geometry_triton_backward.default, (*grads, positions, *tensors))


def test_batch_equals_loop(triton_device):
    sizes = [5, 1, 0, 9, 2]
    positions, graph = on(triton_device, draw(sum(sizes)), make_graph(sizes))
    together = edge_geometry(positions, graph, backend="triton")
    leaf = positions.clone().requires_grad_()
    result = edge_geometry(leaf, graph, backend="triton")
    (grad,) = torch.autograd.grad(result.pair_dist.sum() + result.vec_saturated[:, 0].sum(), leaf)
    edges, pairs = 0, 0
    for start, end in pairwise(graph.batch_ptr.tolist()):
        one, alone = on(triton_device, draw(sum(sizes))[start:end], make_graph([end - start]))
        leaf = one.clone().requires_grad_()
        found = edge_geometry(leaf, alone, backend="triton")
        n_edges, n_pairs = alone.source.shape[0], alone.n_pairs
        assert torch.equal(found.vec_saturated, together.vec_saturated[edges : edges + n_edges])
        assert torch.equal(found.pair_dist, together.pair_dist[pairs : pairs + n_pairs])
        total = found.pair_dist.sum() + found.vec_saturated[:, 0].sum() + 0.0 * leaf.sum()
        assert torch.equal(torch.autograd.grad(total, leaf)[0], grad[start:end])
        edges, pairs = edges + n_edges, pairs + n_pairs
