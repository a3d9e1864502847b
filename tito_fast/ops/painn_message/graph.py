"""The edges of a batch as the message reads them."""

from typing import NamedTuple

import torch
from torch import Tensor

from tito_fast.validation import check_dtype, check_shape


class MessageGraph(NamedTuple):
    """Directed edges sorted by receiver, with the unordered pairs of atoms that they join.

    Parameters
    ----------
    source, receiver : (n_edges,) int64
    edge_ptr : (n_atoms + 1,) int64
        CSR starts by receiver.
    edge_pair : (n_edges,) int64
        Pair of each edge.
    pair_edges : (n_pairs, 2) int64
        Edges of each pair; the second is -1 where only one direction is an edge.
    batch_ptr : (n_molecules + 1,) int64
    source_ptr : (n_atoms + 1,) int64
        CSR starts by source.
    source_edges : (n_edges,) int64
        Edges sorted by source, then by receiver.
    """

    source: Tensor
    receiver: Tensor
    edge_ptr: Tensor
    edge_pair: Tensor
    pair_edges: Tensor
    batch_ptr: Tensor
    source_ptr: Tensor
    source_edges: Tensor

    @property
    def n_atoms(self) -> int:
        """Atoms of the batch."""
        return self.edge_ptr.shape[0] - 1

    @property
    def n_pairs(self) -> int:
        """Unordered pairs of atoms."""
        return self.pair_edges.shape[0]


def message_graph(edge_index: Tensor, *, batch_ptr: Tensor, n_atoms: int) -> MessageGraph:
    """Return the graph of ``edge_index`` (2, n_edges): row 0 source, row 1 receiver, sorted by receiver.

    Parameters
    ----------
    edge_index
        (2, n_edges) int64, within molecules; at most one edge from an atom to another.
    batch_ptr
        (n_molecules + 1,) int64, CSR starts of the molecules.
    n_atoms
        Atoms of the batch.

    Raises
    ------
    ValueError
        Receivers that are not sorted, or an edge that occurs twice.
    """
    check_shape("edge_index", edge_index, (2, "n_edges"))
    check_dtype("edge_index", edge_index, torch.int64)
    source, receiver = edge_index.contiguous().unbind(0)
    if bool((receiver.diff() < 0).any()):
        raise ValueError("edge_index: expected edges sorted by receiver, got others; sort them")
    device = edge_index.device
    edge_ptr, source_ptr = _starts(receiver, n_atoms), _starts(source, n_atoms)
    low, high = torch.minimum(source, receiver), torch.maximum(source, receiver)
    pairs, edge_pair, counts = torch.unique(
        low * max(n_atoms, 1) + high, return_inverse=True, return_counts=True
    )
    order = torch.argsort(edge_pair, stable=True)
    starts = counts.cumsum(0) - counts
    pair_edges = torch.full((pairs.shape[0], 2), -1, dtype=torch.int64, device=device)
    pair_edges[:, 0] = order[starts]
    has_two = counts > 1
    pair_edges[has_two, 1] = order[starts[has_two] + 1]
    first, second = pair_edges[has_two].unbind(1)
    if bool((counts > 2).any()) or bool((receiver[first] == receiver[second]).any()):
        raise ValueError("edge_index: expected each edge once, got one that occurs twice")
    return MessageGraph(
        source,
        receiver,
        edge_ptr,
        edge_pair,
        pair_edges,
        batch_ptr,
        source_ptr,
        torch.argsort(source, stable=True),
    )


def _starts(atom: Tensor, n_atoms: int) -> Tensor:
    """Return where the edges of each atom start among edges sorted by ``atom``."""
    starts = torch.zeros(n_atoms + 1, dtype=torch.int64, device=atom.device)
    starts[1:] = torch.bincount(atom, minlength=n_atoms).cumsum(0)
    return starts
