"""Graphs of a given capacity: ``native`` and ``reference`` on a CPU."""

import pytest
import torch

from tito_fast.errors import CapacityError
from tito_fast.ops import radius_graph

TRICLINIC = torch.tensor([[4.5, 0.0, 0.0], [1.5, 4.0, 0.0], [-1.0, 1.25, 5.0]])
BOXES = pytest.mark.parametrize("box", [None, TRICLINIC], ids=["open", "triclinic"])
BACKENDS = pytest.mark.parametrize("backend", ["native", "reference"])


def search(capacity, *, backend, box=None, dtype=torch.float32, positions=None):
    generator = torch.Generator().manual_seed(3)
    if positions is None:
        positions = 1.5 * torch.randn(24, 3, generator=generator).to(dtype)
    return radius_graph(
        positions,
        cutoff=2.0,
        batch_ptr=torch.tensor([0, 7, 7, 8, 24]),
        box=None if box is None else box.to(dtype),
        capacity=capacity,
        backend=backend,
    )


@BACKENDS
@BOXES
def test_edges_come_first_and_the_rest_is_filled_up(box, backend):
    exact = search(None, backend=backend, box=box)
    n_edges = exact.edge_dist.shape[0]
    for n_empty in (0, 1, 70):
        graph = search(n_edges + n_empty, backend=backend, box=box)
        graph.check()
        assert graph.edge_index.is_contiguous()
        assert graph.status.tolist() == [0, n_edges]
        assert torch.equal(graph.edge_ptr, exact.edge_ptr)
        for name, empty in (("edge_vec", 0), ("edge_dist", 0), ("shifts", 0)):
            found = getattr(graph, name)
            assert torch.equal(found[:n_edges], getattr(exact, name))
            assert (found[n_edges:] == empty).all()
            assert found.shape[0] == n_edges + n_empty
        assert torch.equal(graph.edge_index[:, :n_edges], exact.edge_index)
        assert (graph.edge_index[:, n_edges:] == -1).all()


@BACKENDS
@BOXES
def test_too_small_a_capacity_says_what_is_needed(box, backend):
    n_edges = search(None, backend=backend, box=box).edge_dist.shape[0]
    message = f"found {n_edges} edges, capacity is {n_edges - 1}; pass capacity={n_edges} or more"
    with pytest.raises(CapacityError, match=message):
        search(n_edges - 1, backend=backend, box=box)
    with pytest.raises(ValueError, match="capacity: expected at least 0, got -1"):
        search(-1, backend=backend, box=box)


@BACKENDS
@BOXES
def test_rows_that_fill_up_have_no_part_in_gradients(box, backend):
    gradients = []
    for capacity in (None, 500):
        graph_positions = 1.5 * torch.randn(24, 3, generator=torch.Generator().manual_seed(3))
        positions = graph_positions.double().requires_grad_()
        graph = search(capacity, backend=backend, box=box, dtype=torch.float64, positions=positions)
        n_edges = graph.status[1]
        weight = torch.linspace(0.5, 2.0, int(n_edges), dtype=torch.float64)
        scale = torch.cat((weight, torch.full((graph.edge_dist.shape[0] - len(weight),), 1e6)))
        total = (scale * (graph.edge_dist + graph.edge_vec[:, 0] ** 2)).sum()
        (first,) = torch.autograd.grad(total, positions, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), positions)
        gradients.append((first.detach(), second))
    for plain, filled in zip(*gradients, strict=True):
        torch.testing.assert_close(filled, plain, rtol=1e-12, atol=1e-12)
