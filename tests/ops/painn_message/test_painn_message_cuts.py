"""However a batch is cut into waves, items and threads, the message is the same."""

import itertools
from dataclasses import replace

import pytest
import torch

from tests.ops.painn_message.message_cases import check_forward, check_gradients, make_case
from tito_fast.ops import message_graph

# Of csrc/painn_message/painn_message_cpu.cpp.
WAVE_EDGES = 8192
MOST_ITEMS = 32


@pytest.mark.parametrize("sizes", [(18,) * 12, (63,), (2, 40, 1, 1, 30, 5)], ids=str)
def test_any_number_of_threads_gives_the_same_bits(sizes, restore_threads):
    case = make_case(*sizes, width=16)
    torch.set_num_threads(1)
    expected, gradients = case.run(), case.gradients()
    for n_threads in (2, 3):
        torch.set_num_threads(n_threads)
        assert all(map(torch.equal, case.run(), expected))
        found = case.gradients()
        assert all(torch.equal(found[name], gradients[name]) for name in found)


def molecules_of(case):
    """The molecules of a batch as cases of their own."""
    graph = case.graph
    for start, end in itertools.pairwise(graph.batch_ptr.tolist()):
        edges = slice(*graph.edge_ptr[[start, end]].tolist())
        edge_index = torch.stack([graph.source[edges], graph.receiver[edges]]) - start
        pairs = graph.edge_pair[edges].unique()
        yield replace(
            case,
            scalars=case.scalars[start:end],
            vectors=None if case.vectors is None else case.vectors[start:end],
            edge_features=case.edge_features[edges],
            pair_dist=case.pair_dist[pairs],
            vec_saturated=case.vec_saturated[edges],
            graph=message_graph(
                edge_index, batch_ptr=torch.tensor([0, end - start]), n_atoms=end - start
            ),
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [6, 64])
@pytest.mark.parametrize("kind", ["complete", "cutoff", "one-way"])
@pytest.mark.parametrize("has_vectors", [True, False])
def test_batch_equals_loop(has_vectors, kind, width, dtype):
    case = make_case(5, 0, 18, 1, 2, 24, 7, kind=kind, width=width, dtype=dtype)
    case = case if has_vectors else replace(case, vectors=None)
    together = case.run()
    parts = zip(*(molecule.run() for molecule in molecules_of(case)), strict=True)
    for found, expected in zip(parts, together, strict=True):
        assert torch.equal(torch.cat(found), expected)


def test_waves_match_reference():
    # Waves end within the batch, before and after molecules without edges and large ones.
    sizes = (*(18,) * 20, 0, 1, 60, *(30,) * 6, 0, 95, 2, *(7,) * 30)
    cases = [make_case(*sizes, width=16, seed=seed, has_vectors=seed > 0) for seed in range(2)]
    assert cases[0].graph.source.shape[0] > 2 * WAVE_EDGES
    check_forward(cases[0])
    check_forward(cases[1])
    check_gradients(cases[0])
    check_gradients(cases[1])


def test_a_molecule_larger_than_a_wave_matches_reference():
    case = make_case(3, 131, 2, width=8)
    assert case.graph.source.shape[0] > 2 * WAVE_EDGES
    check_forward(case)
    check_gradients(case)


def test_a_molecule_with_few_neighbors_in_each_item_matches_reference():
    # 300 atoms with a tenth of their edges: items of many receivers, some of them without edges.
    case = make_case(300, 5, width=8, kind="sparse")
    assert case.graph.source.shape[0] > 256 * MOST_ITEMS
    assert (case.graph.edge_ptr.diff() == 0).sum() > 1
    check_forward(case)
    check_gradients(case)


@pytest.mark.parametrize("has_vectors", [True, False])
@pytest.mark.parametrize("has_edges", [True, False])
def test_autograd_keeps_inputs_and_the_sum_of_crosses_alone(has_edges, has_vectors):
    case = make_case(
        63, 40, width=64, has_edges=has_edges, has_vectors=has_vectors, adds_edges=has_edges
    )
    leaves = {name: leaf.requires_grad_() for name, leaf in case.leaves().items()}
    given = {tensor.data_ptr() for tensor in (*leaves.values(), *case.graph)}
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        results = case.run()
    assert any(result.requires_grad for result in results if result is not None)
    new = [tensor for tensor in kept if tensor.data_ptr() not in given]
    assert sum(tensor.numel() for tensor in new) == (103 * 3 * 64 if has_vectors else 0)
    # Weights, graph and geometry are of all layers or of all edges; a layer adds what follows.
    of_layer = [leaves[name] for name in ("scalars", "vectors", "edge_features") if name in leaves]
    of_layer = [t for t in kept if t.data_ptr() in {own.data_ptr() for own in of_layer}] + new
    n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in of_layer)
    assert n_bytes <= 300 * case.graph.source.shape[0]


# Under every instruction set: tests/ops/test_every_instruction_set.py asks for this one by name.
@pytest.mark.parametrize(
    ("width", "dtype"),
    [
        *((width, torch.float32) for width in (6, 24, 40, 64)),
        (6, torch.float64),
        (24, torch.float64),
    ],
    ids=str,
)
def test_any_width_matches_reference(width, dtype):
    for options in ({}, {"has_vectors": False}, {"has_edges": False, "kind": "one-way"}):
        case = {"width": width, "dtype": dtype} | options
        cases = [make_case(0, 1, 2, 5, 18, 3, seed=seed, **case) for seed in range(4)]
        check_forward(*cases)
        check_gradients(*cases)
