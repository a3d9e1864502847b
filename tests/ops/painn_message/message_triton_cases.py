"""Messages by Triton kernels on the device of the tests, compared on the CPU."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tests.ops.conftest import PRODUCT_BOUNDS
from tests.ops.painn_message.message_cases import Case, check_pooled, make_case
from tito_fast.ops import MessageGraph, message_graph

GROUPS = ("phi", "filter_", "inputs")


def on(case: Case, device: torch.device) -> Case:
    """Return ``case`` with tensors on ``device``."""
    moved = case.with_leaves({name: leaf.to(device) for name, leaf in case.leaves().items()})
    return replace(moved, graph=MessageGraph(*(tensor.to(device) for tensor in case.graph)))


def with_bf16_edges(case: Case) -> Case:
    return replace(case, edge_features=case.edge_features.bfloat16())


def results_of(case: Case, device: torch.device, precision: str = "ieee") -> list[Tensor]:
    """Return on the CPU the results that there are."""
    found = on(case, device).run("triton", precision=precision)
    assert (found.edges is not None) == case.has_edges
    return [result.cpu() for result in found if result is not None]


def weight_of(result: Tensor) -> Tensor:
    """Return fixed numbers of the shape of ``result``, exact in bf16."""
    index = torch.arange(result.numel()).view(result.shape)
    return (index * 5 % 13 - 5) / 8


def gradients_of(
    case: Case,
    device: torch.device,
    precision: str = "ieee",
    *,
    wanted: Sequence[str] = (),
    backend: str = "triton",
    weigh: Callable[[Tensor], Tensor] = weight_of,
) -> dict[str, Tensor]:
    """Return on the CPU the gradients of a weighting of all results in the wanted leaves; none means all."""
    leaves = {name: leaf.detach().clone() for name, leaf in on(case, device).leaves().items()}
    names = list(wanted or leaves)
    for name in names:
        leaves[name].requires_grad_()
    moved = on(case, device).with_leaves(leaves)
    results = [r for r in moved.run(backend, precision=precision) if r is not None]
    weights = [weigh(result.detach()).to(result) for result in results]
    found = torch.autograd.grad(results, [leaves[name] for name in names], weights)
    return {name: gradient.cpu() for name, gradient in zip(names, found, strict=True)}


def check_triton_forward(device: torch.device, *cases: Case) -> None:
    """Hold results of all cases to the reference."""
    found = [results_of(case, device) for case in cases]
    plain = [case.run("reference") for case in cases]
    exact = [case.to(torch.float64).run("reference") for case in cases]
    pooled = (
        [t for result in many for t in result if t is not None] for many in (found, plain, exact)
    )
    check_pooled(*pooled, name="results")


def members(gradients: dict[str, Tensor], group: str) -> list[Tensor]:
    """Return the gradients of an MLP, or those of all that is in none."""
    prefix = "" if group == "inputs" else group
    return [g for name, g in gradients.items() if name.rpartition(".")[0] == prefix]


def check_triton_gradients(device: torch.device, *cases: Case) -> None:
    """Hold gradients in every input and parameter to the reference's."""
    cpu = torch.device("cpu")
    found = [gradients_of(case, device) for case in cases]
    plain = [gradients_of(case, cpu, backend="reference") for case in cases]
    exact = [gradients_of(case.to(torch.float64), cpu, backend="reference") for case in cases]
    assert len(found[0]) == (24 if cases[0].vectors is None else 25)
    for group in GROUPS:
        pooled = (
            [g for gradients in many for g in members(gradients, group)]
            for many in (found, plain, exact)
        )
        check_pooled(*pooled, name=group)


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Return the root mean square of the error over that of the exact values."""
    error = (found.to(torch.float64) - exact).square().mean().sqrt()
    return float(error / exact.square().mean().sqrt())


def check_precision(
    found: Sequence[Tensor], exact: Sequence[Tensor], precision: str, *, rounds: bool
) -> None:
    """Hold tensors to the bound of ``precision``; if it rounds, some of it has to be seen."""
    for index, (ours, reference64) in enumerate(zip(found, exact, strict=True)):
        error = relative_error(ours, reference64)
        assert error <= PRODUCT_BOUNDS[precision], (index, error)
        assert not rounds or error > 1e-6, (index, error)


def ring_case(n_molecules_of_64: int, *sizes: int, width: int = 32, **options: object) -> Case:
    """Return molecules of 64 atoms with 128 edges each, to neighbors on a ring, then complete ones of ``sizes``.

    Atoms and edges of the former fill tiles of 64 rows.
    """
    case = make_case(*[64] * n_molecules_of_64, *sizes, width=width, **options)
    graph = case.graph
    apart = (graph.source - graph.receiver).abs()
    is_ring = graph.receiver < 64 * n_molecules_of_64
    keep = ~is_ring | (apart == 1) | (apart == 63)
    return subgraph(case, keep)


def subgraph(case: Case, keep: Tensor) -> Case:
    """Return ``case`` with the edges ``keep``, pairs renumbered."""
    old = case.graph
    edge_index = torch.stack([old.source, old.receiver])[:, keep]
    graph = message_graph(edge_index, batch_ptr=old.batch_ptr, n_atoms=old.n_atoms)
    return replace(
        case,
        edge_features=case.edge_features[keep],
        pair_dist=case.pair_dist[old.edge_pair[keep].unique()],
        vec_saturated=case.vec_saturated[keep],
        graph=graph,
    )


def molecules_of(case: Case) -> Iterator[tuple[slice, slice, slice, Case]]:
    """Yield atoms, edges and pairs of each molecule, and the molecule as a case of its own."""
    graph = case.graph
    for start, end in itertools.pairwise(graph.batch_ptr.tolist()):
        edges = slice(*graph.edge_ptr[[start, end]].tolist())
        edge_index = torch.stack([graph.source[edges], graph.receiver[edges]]) - start
        used = graph.edge_pair[edges].unique()
        first = int(used[0]) if used.numel() else 0
        pairs = slice(first, first + used.numel())
        alone = replace(
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
        yield slice(start, end), edges, pairs, alone
