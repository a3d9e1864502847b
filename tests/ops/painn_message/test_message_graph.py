"""The graph of a message: what it says about edges and pairs."""

import pytest
import torch

from tests.ops.painn_message.message_cases import edges_of
from tito_fast.ops import complete_graph, message_graph

SIZES = [(), (0,), (1,), (2,), (5, 0, 1, 18, 2), (0, 63, 0)]


@pytest.mark.parametrize("kind", ["complete", "cutoff", "one-way"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_edges_are_those_given_and_pairs_join_them(sizes, kind):
    edge_index, batch_ptr = edges_of(sizes, kind)
    graph = message_graph(edge_index, batch_ptr=batch_ptr, n_atoms=sum(sizes))
    assert torch.equal(torch.stack([graph.source, graph.receiver]), edge_index)
    assert graph.n_atoms == sum(sizes)
    assert graph.edge_ptr.tolist() == [
        int((edge_index[1] < atom).sum()) for atom in range(graph.n_atoms + 1)
    ]

    edges = list(zip(*edge_index.tolist(), strict=True))
    assert len(edges) == len(set(edges))
    of_pair = [{frozenset(edges[e]) for e in row if e >= 0} for row in graph.pair_edges.tolist()]
    assert all(len(atoms) == 1 for atoms in of_pair)
    pairs = [next(iter(atoms)) for atoms in of_pair]
    assert set(pairs) == {frozenset(edge) for edge in edges}
    assert len(pairs) == len(set(pairs)) == graph.n_pairs
    assert [pairs[p] for p in graph.edge_pair.tolist()] == [frozenset(edge) for edge in edges]

    named = [e for row in graph.pair_edges.tolist() for e in row if e >= 0]
    assert sorted(named) == list(range(len(edges)))
    assert all(first >= 0 for first, _ in graph.pair_edges.tolist())
    assert all(second == -1 or second > first for first, second in graph.pair_edges.tolist())

    by_source = [edge_index[0, e].item() for e in graph.source_edges.tolist()]
    assert by_source == sorted(edge_index[0].tolist())
    assert sorted(graph.source_edges.tolist()) == list(range(len(edges)))
    for atom in range(graph.n_atoms):
        mine = graph.source_edges[graph.source_ptr[atom] : graph.source_ptr[atom + 1]]
        assert (edge_index[0, mine] == atom).all()
        assert (edge_index[1, mine].diff() > 0).all()


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_the_complete_graph_needs_no_edges_to_be_given(sizes):
    edge_index, batch_ptr = edges_of(sizes, "complete")
    graph = complete_graph(batch_ptr, sizes=sizes)
    given = message_graph(edge_index, batch_ptr=batch_ptr, n_atoms=sum(sizes))
    for name, here, there in zip(graph._fields, graph, given, strict=True):
        assert torch.equal(here, there), name


def test_the_complete_graph_wants_a_size_for_every_molecule():
    with pytest.raises(ValueError, match=r"batch_ptr: expected shape \(3,\)"):
        complete_graph(torch.tensor([0, 2]), sizes=(1, 1))


def test_pairs_are_sorted_by_molecule():
    edge_index, batch_ptr = edges_of((4, 1, 3, 5), "one-way")
    graph = message_graph(edge_index, batch_ptr=batch_ptr, n_atoms=13)
    first_edges = graph.pair_edges[:, 0]
    molecules = torch.searchsorted(batch_ptr, graph.receiver[first_edges], right=True)
    assert (molecules.diff() >= 0).all()
    assert len(molecules.unique()) == 3


def test_by_hand():
    edge_index = torch.tensor([[1, 2, 0, 1], [0, 0, 2, 2]])
    graph = message_graph(edge_index, batch_ptr=torch.tensor([0, 3, 3]), n_atoms=3)
    assert graph.edge_ptr.tolist() == [0, 2, 2, 4]
    assert graph.edge_pair.tolist() == [0, 1, 1, 2]
    assert graph.pair_edges.tolist() == [[0, -1], [1, 2], [3, -1]]
    assert graph.n_pairs == 3


@pytest.mark.parametrize(
    ("edge_index", "error", "match"),
    [
        (torch.tensor([[0, 1], [1, 0]]), ValueError, "edge_index: expected edges sorted by rec"),
        (torch.tensor([[1, 1], [0, 0]]), ValueError, "edge_index: expected each edge once"),
        (torch.tensor([[1, 1, 0], [0, 0, 1]]), ValueError, "edge_index: expected each edge once"),
        (torch.zeros(3, 2).long(), ValueError, r"edge_index: expected shape \(2, n_edges\)"),
        (torch.zeros(2, 2), TypeError, "edge_index: expected dtype int64, got float32"),
    ],
)
def test_invalid_edges(edge_index, error, match):
    with pytest.raises(error, match=match):
        message_graph(edge_index, batch_ptr=torch.tensor([0, 2]), n_atoms=2)
