"""Public function of the op ``radius_graph``."""

from typing import NamedTuple

import torch
from torch import Tensor

from tito_fast.ops.radius_graph import native
from tito_fast.ops.radius_graph.reference import radius_graph_reference
from tito_fast.ops.radius_graph.status import check_status
from tito_fast.ops.resolve import resolve_backend
from tito_fast.types import Backend
from tito_fast.validation import (
    check_at_least,
    check_batch_ptr,
    check_dtype,
    check_floating,
    check_positive,
    check_same_device,
    check_shape,
)


class RadiusGraph(NamedTuple):
    """Edges of a batch of molecules, sorted by receiver, then source, then shift.

    Attributes
    ----------
    edge_index
        (2, n_edges) int64; row 0 the source j, row 1 the receiver i.
    edge_ptr
        (n_atoms + 1,) int64, CSR starts by receiver.
    edge_vec
        (n_edges, 3), ``positions[source] + shift @ box - positions[receiver]``.
    edge_dist
        (n_edges,), the length of ``edge_vec``.
    shifts
        (n_edges, 3) int32, lattice vectors added to the source. Without a box it is zero, one row
        expanded: it takes no memory and must not be written to.
    status
        (2,) int64: problems that the device found, as bits, and the number of edges it found. `check`
        reads it.

    With a capacity, n_edges above is the capacity; rows from ``edge_ptr[-1]`` on fill up: indices −1,
    the rest 0.
    """

    edge_index: Tensor
    edge_ptr: Tensor
    edge_vec: Tensor
    edge_dist: Tensor
    shifts: Tensor
    status: Tensor

    def check(self) -> None:
        """Raise what the device found, once the host may wait for it.

        Raises
        ------
        CapacityError
            There are more edges than the capacity; the graph is empty, and the message says how many.
        ValueError
            ``batch_ptr``, positions or box are wrong; the graph is empty.
        """
        problems, n_edges = self.status.tolist()
        check_status(problems, n_edges, self.edge_index.shape[1])


def radius_graph(
    positions: Tensor,
    *,
    cutoff: float,
    batch_ptr: Tensor,
    box: Tensor | None = None,
    capacity: int | None = None,
    backend: Backend = "auto",
) -> RadiusGraph:
    """Find all pairs of atoms of one molecule that are closer than a cutoff.

    An edge is every (receiver i, source j, shift) with ``edge_dist < cutoff``, strictly, except an
    atom with itself unshifted. ``edge_vec = (positions[j] - positions[i]) + offset`` with
    ``offset = (shift_0 * box[0] + shift_1 * box[1]) + shift_2 * box[2]`` and
    ``edge_dist = sqrt((x * x + y * y) + z * z)``; every operation is rounded by itself to the dtype
    of ``positions``, to which ``cutoff`` is rounded, too. That defines the edges to the last bit.

    Parameters
    ----------
    positions
        (n_atoms, 3) float32 or float64, any length unit. In a box they need not be wrapped.
    cutoff
        In the unit of ``positions``. It may exceed half the box: a pair then has an edge for each
        image in reach, and an atom has edges to images of itself.
    batch_ptr
        (n_molecules + 1,) int64, CSR starts of the molecules.
    box
        (3, 3) or (n_molecules, 3, 3), dtype of ``positions``; rows are lattice vectors, of any
        angles. Periodic along all three. None: open.
    capacity
        Room for edges; the result has this many rows whatever is found. None: as many as there are.
    backend
        ``auto``, ``native``, ``triton`` (without box and capacity), ``reference`` or ``eager`` (the same
        as ``reference``).

    Returns
    -------
    RadiusGraph
        Both directions of every pair; no cap on the number of neighbors.

    Raises
    ------
    ValueError
        A shape, ``cutoff`` or ``batch_ptr`` is wrong; positions or box are not finite; the box is
        singular (its volume at most 1e-6 of the product of its vectors' lengths) or requires a
        gradient; positions are more than 2**20 boxes from the origin; images cannot be counted.
    TypeError
        A dtype is wrong.
    CapacityError
        There are more edges than ``capacity``. Native on CUDA tensors does not wait to find out: the graph
        is then empty, and `RadiusGraph.check` raises this and the errors of values above.
    BackendUnavailableError
        The named backend cannot run here.

    Notes
    -----
    Backends agree bitwise, and native does so on every instruction set and number of threads.
    Native tests all pairs of small molecules and uses cells for large ones; edges and scratch are
    all the memory it takes. Triton and the reference test all pairs of a molecule, the latter in chunks.
    Differentiable in ``positions`` through ``edge_vec`` and ``edge_dist``, any number of times, not
    in ``box``; the derivative of ``edge_dist`` is taken as 0 where it is 0. Deterministic forward
    and backward on the CPU: sums run in the order of the edges, native and Triton ones in double. On CUDA the
    backward of the reference follows PyTorch's rules of determinism. Without a capacity, native on CUDA
    reads the number of edges on the host once, Triton ``batch_ptr`` as well; the reference waits for the
    device more often. With a capacity, native on CUDA neither waits nor allocates by what it finds: at most
    three launches, CUDA graphs yes.

    Examples
    --------
    >>> import torch
    >>> from tito_fast.ops import radius_graph
    >>> positions = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    >>> batch_ptr = torch.tensor([0, 3])
    >>> radius_graph(positions, cutoff=5.0, batch_ptr=batch_ptr).edge_index
    tensor([[1, 0],
            [0, 1]])
    >>> graph = radius_graph(positions, cutoff=5.0, batch_ptr=batch_ptr, box=10.0 * torch.eye(3))
    >>> graph.edge_index
    tensor([[1, 2, 0, 2, 0, 1],
            [0, 0, 1, 1, 2, 2]])
    >>> graph.edge_dist
    tensor([3., 1., 3., 4., 1., 4.])
    """
    _check(positions, cutoff, batch_ptr, box, capacity)
    is_plain = box is None and capacity is None
    limit = "" if is_plain else "radius_graph's Triton kernel takes neither box nor capacity"
    implementation = resolve_backend("radius_graph", backend, positions.device, triton_limit=limit)
    if implementation == "native":
        edge_vec, edge_dist, edge_index, edge_ptr, shifts, status = native.radius_graph_native(
            positions, batch_ptr, box, cutoff, capacity
        )
        return RadiusGraph(edge_index, edge_ptr, edge_vec, edge_dist, shifts, status)
    check_batch_ptr(batch_ptr, positions.shape[0])
    if implementation == "triton":
        from tito_fast.ops.radius_graph import triton_op  # noqa: PLC0415  optional

        edge_vec, edge_dist, edge_index, edge_ptr, shifts, status = triton_op.radius_graph_triton(
            positions, batch_ptr, cutoff
        )
        return RadiusGraph(edge_index, edge_ptr, edge_vec, edge_dist, shifts, status)
    return RadiusGraph(*radius_graph_reference(positions, batch_ptr, box, cutoff, capacity))


def _check(
    positions: Tensor, cutoff: float, batch_ptr: Tensor, box: Tensor | None, capacity: int | None
) -> None:
    check_floating("positions", positions)
    check_shape("positions", positions, ("n_atoms", 3))
    check_positive("cutoff", cutoff)
    if capacity is not None:
        check_at_least("capacity", capacity, 0)
    check_dtype("batch_ptr", batch_ptr, torch.int64)
    check_same_device("batch_ptr", batch_ptr, "positions", positions)
    if batch_ptr.ndim != 1 or batch_ptr.numel() == 0:
        raise ValueError(
            f"batch_ptr: expected shape (n_molecules + 1,), got {tuple(batch_ptr.shape)}"
        )
    if box is None:
        return
    check_dtype("box", box, positions.dtype)
    check_same_device("box", box, "positions", positions)
    n_molecules = batch_ptr.shape[0] - 1
    if tuple(box.shape) not in {(3, 3), (n_molecules, 3, 3)}:
        raise ValueError(
            f"box: expected shape (3, 3) or ({n_molecules}, 3, 3), got {tuple(box.shape)}"
        )
    if box.requires_grad:
        raise ValueError("box: expected no gradient, got requires_grad=True; pass box.detach()")
