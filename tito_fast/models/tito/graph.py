"""Edges of a batch of molecules, and their geometry."""

from typing import NamedTuple

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.tito.layers import Edges
from tito_fast.ops import complete_graph


class EdgeList(NamedTuple):
    """Directed edges sorted by receiver, then source; within molecules, without self loops."""

    source: Tensor  # (n_edges,) int64
    receiver: Tensor  # (n_edges,) int64
    edge_type: Tensor  # (n_edges,) int64: 0, or the RDKit code of the bond


def complete_edges(batch: MoleculeBatch) -> EdgeList:
    """Return all ordered pairs of different atoms of a molecule, typed by bond (the largest code wins)."""
    graph = complete_graph(batch.batch_ptr, sizes=batch.sizes)
    return typed_edges(batch, graph.source, graph.receiver)


def typed_edges(batch: MoleculeBatch, source: Tensor, receiver: Tensor) -> EdgeList:
    """Return the edges of the complete graph with the types of their bonds."""
    return EdgeList(source, receiver, _edge_types(batch, source, receiver))


def cutoff_edges(edges: EdgeList, *positions: Tensor, scaled_cutoff: float) -> EdgeList:
    """Return those of the complete ``edges`` that are bonds or shorter than the cutoff in any ``positions``.

    The released model unites the graphs of the current state and of the interpolant with the bonds; the
    comparison is strict.
    """
    source, receiver, edge_type = edges
    keep = edge_type > 0
    for frame in positions:
        dist = torch.linalg.vector_norm(frame[source] - frame[receiver], dim=-1)
        keep |= dist < scaled_cutoff
    return EdgeList(source[keep], receiver[keep], edge_type[keep])


def edge_geometry(positions: Tensor, edges: EdgeList) -> Edges:
    """Return lengths and saturated vectors ``r / (1 + d)`` with ``r = positions[source] − positions[receiver]``."""
    vec = positions[edges.source] - positions[edges.receiver]
    dist = torch.linalg.vector_norm(vec, dim=-1)
    return Edges(edges.source, edges.receiver, dist, vec / (1 + dist).unsqueeze(-1))


def _edge_types(batch: MoleculeBatch, source: Tensor, receiver: Tensor) -> Tensor:
    types = torch.zeros_like(source)
    if batch.bond_type.numel() == 0:
        return types
    # Keys are sorted as the edges are, so a bond finds its edge by bisection.
    keys = receiver * batch.n_atoms + source
    bond_keys = batch.bond_index[1] * batch.n_atoms + batch.bond_index[0]
    place = torch.searchsorted(keys, bond_keys)
    return types.scatter_reduce(0, place, batch.bond_type, reduce="amax")
