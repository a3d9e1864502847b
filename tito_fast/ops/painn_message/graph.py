"""The edges of a batch as the message reads them."""

from collections.abc import Sequence
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


def complete_graph(batch_ptr: Tensor, *, sizes: Sequence[int]) -> MessageGraph:
    """Return the graph of all ordered pairs of different atoms of each molecule, by arithmetic alone.

    Parameters
    ----------
    batch_ptr
        (n_molecules + 1,) int64, CSR starts of the molecules.
    sizes
        Atoms of each molecule, as the host knows them.

    Returns
    -------
    MessageGraph
        On the device of ``batch_ptr``; what `message_graph` says of the same edges.

    Raises
    ------
    ValueError
        If there are not as many sizes as molecules.

    Notes
    -----
    Nothing is read back from the device.

    Examples
    --------
    >>> import torch
    >>> graph = complete_graph(torch.tensor([0, 1, 3]), sizes=(1, 2))
    >>> graph.source.tolist(), graph.receiver.tolist(), graph.edge_ptr.tolist()
    ([2, 1], [1, 2], [0, 0, 1, 2])
    """
    check_shape("batch_ptr", batch_ptr, (len(sizes) + 1,))
    check_dtype("batch_ptr", batch_ptr, torch.int64)
    n_atoms, n_edges = sum(sizes), sum(size * (size - 1) for size in sizes)
    device = batch_ptr.device
    size = batch_ptr.diff()
    of_atom = torch.repeat_interleave(size, size, output_size=n_atoms)
    edge_ptr = torch.zeros(n_atoms + 1, dtype=torch.int64, device=device)
    edge_ptr[1:] = (of_atom - 1).cumsum(0)
    first_edge = edge_ptr[batch_ptr[:-1]]
    pair_starts = torch.zeros(len(sizes) + 1, dtype=torch.int64, device=device)
    pair_starts[1:] = (size * (size - 1) // 2).cumsum(0)
    molecule = torch.repeat_interleave(
        torch.arange(len(sizes), device=device), size * (size - 1), output_size=n_edges
    )
    edge = torch.arange(n_edges, device=device)
    n, start, base = size[molecule], batch_ptr[molecule], first_edge[molecule]
    # Row i of a molecule has n - 1 slots; slot k is atom k before the diagonal and k + 1 from it on.
    row = (edge - base) // (n - 1).clamp_min(1)
    slot = (edge - base) - row * (n - 1)
    other = slot + (slot >= row)
    low, high = torch.minimum(row, other), torch.maximum(row, other)
    edge_pair = pair_starts[molecule] + low * (2 * n - low - 1) // 2 + high - low - 1
    pair_edges = torch.empty((n_edges // 2, 2), dtype=torch.int64, device=device)
    # The edge to the lower atom comes first.
    pair_edges.view(-1)[2 * edge_pair + (row > other)] = edge
    return MessageGraph(
        source=start + other,
        receiver=start + row,
        edge_ptr=edge_ptr,
        edge_pair=edge_pair,
        pair_edges=pair_edges,
        batch_ptr=batch_ptr,
        source_ptr=edge_ptr,
        # Read as (source, receiver), a row and its slot name the edge the other way round.
        source_edges=base + other * (n - 1) + row - (row > other).to(torch.int64),
    )


def _starts(atom: Tensor, n_atoms: int) -> Tensor:
    """Return where the edges of each atom start among edges sorted by ``atom``."""
    starts = torch.zeros(n_atoms + 1, dtype=torch.int64, device=atom.device)
    starts[1:] = torch.bincount(atom, minlength=n_atoms).cumsum(0)
    return starts
