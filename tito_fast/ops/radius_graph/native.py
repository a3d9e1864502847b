"""C++ and CUDA kernels of ``radius_graph`` as ``torch.ops.tito_fast.radius_graph`` and its backward."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from tito_fast._extension import native_module
from tito_fast.ops.cuda_call import call_cuda, cuda_function, runs_on_cuda
from tito_fast.ops.library import dtype_suffix
from tito_fast.ops.native_call import NO_ADDRESS, dense
from tito_fast.ops.radius_graph.operator import GraphTensors, register_graph
from tito_fast.ops.radius_graph.reference import radius_graph_reference
from tito_fast.ops.radius_graph.status import check_status, good_status


def radius_graph_native(
    positions: Tensor,
    batch_ptr: Tensor,
    box: Tensor | None,
    cutoff: float,
    capacity: int | None,
) -> GraphTensors:
    """Call the registered op; arguments as in :func:`tito_fast.ops.radius_graph`, checked."""
    graph: GraphTensors = torch.ops.tito_fast.radius_graph(
        positions, batch_ptr, box, cutoff, capacity
    )
    return graph


def _forward(
    positions: Tensor,
    batch_ptr: Tensor,
    box: Tensor | None,
    cutoff: float,
    capacity: int | None,
) -> GraphTensors:
    positions, batch_ptr = dense(positions, batch_ptr)
    box = None if box is None else box.contiguous()
    if runs_on_cuda(positions):
        return _forward_cuda(positions, batch_ptr, box, cutoff, capacity)
    edge_ptr = torch.empty(positions.shape[0] + 1, dtype=torch.int64)
    search = getattr(native_module(), f"RadiusSearch_cpu_{dtype_suffix(positions.dtype)}")(
        *_inputs(positions, batch_ptr, box, cutoff),
        edge_ptr.data_ptr(),
        torch.get_num_threads(),
    )
    n_edges = search.n_edges
    if capacity is not None:
        check_status(0, n_edges, capacity)
    edges = _new_edges(positions, box, n_edges)
    edge_vec, edge_dist, edge_index, shifts = edges
    search.fill(*_addresses(edges, box), torch.get_num_threads())
    n_empty = 0 if capacity is None else capacity - n_edges
    if n_empty:
        edge_vec, edge_dist = pad(edge_vec, (0, 0, 0, n_empty)), pad(edge_dist, (0, n_empty))
        edge_index = pad(edge_index, (0, n_empty), value=-1)
        shifts = (
            _no_shifts(positions, n_edges + n_empty)
            if box is None
            else pad(shifts, (0, 0, 0, n_empty))
        )
    return edge_vec, edge_dist, edge_index, edge_ptr, shifts, good_status(edge_ptr, n_edges)


def _forward_cuda(
    positions: Tensor,
    batch_ptr: Tensor,
    box: Tensor | None,
    cutoff: float,
    capacity: int | None,
) -> GraphTensors:
    n_atoms, n_molecules = positions.shape[0], batch_ptr.shape[0] - 1
    is_double = positions.dtype == torch.float64
    n_bytes = cuda_function("radius_graph_workspace_cuda")(
        n_atoms, n_molecules, box is not None, is_double
    )
    workspace = positions.new_empty(n_bytes, dtype=torch.uint8)
    status = batch_ptr.new_empty(2)
    search = (
        *_inputs(positions, batch_ptr, box, cutoff),
        workspace.data_ptr(),
        status.data_ptr(),
    )
    suffix = dtype_suffix(positions.dtype)
    call_cuda(f"radius_graph_count_cuda_{suffix}", positions, *search)
    if capacity is None:
        # The one time that the host waits: how much memory the edges need.
        problems, capacity = status.tolist()
        if problems:
            # It finds the value that is wrong, and names it.
            radius_graph_reference(positions.cpu(), batch_ptr.cpu(), _on_cpu(box), cutoff)
        check_status(problems, capacity, capacity)
    edges = _new_edges(positions, box, capacity)
    edge_ptr = batch_ptr.new_empty(n_atoms + 1)
    call_cuda(
        f"radius_graph_fill_cuda_{suffix}",
        positions,
        *search,
        capacity,
        edge_ptr.data_ptr(),
        *_addresses(edges, box),
    )
    edge_vec, edge_dist, edge_index, shifts = edges
    return edge_vec, edge_dist, edge_index, edge_ptr, shifts, status


def _on_cpu(box: Tensor | None) -> Tensor | None:
    return None if box is None else box.cpu()


def _inputs(
    positions: Tensor, batch_ptr: Tensor, box: Tensor | None, cutoff: float
) -> tuple[int | float, ...]:
    return (
        positions.data_ptr(),
        batch_ptr.data_ptr(),
        NO_ADDRESS if box is None else box.data_ptr(),
        0 if box is None else box.numel() // 9,
        positions.shape[0],
        batch_ptr.shape[0] - 1,
        cutoff,
    )


def _no_shifts(positions: Tensor, n_edges: int) -> Tensor:
    return positions.new_zeros((1, 3), dtype=torch.int32).expand(n_edges, 3)


def _new_edges(
    positions: Tensor, box: Tensor | None, n_edges: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return memory for edge_vec, edge_dist, edge_index and shifts."""
    return (
        positions.new_empty((n_edges, 3)),
        positions.new_empty(n_edges),
        positions.new_empty((2, n_edges), dtype=torch.int64),
        _no_shifts(positions, n_edges)
        if box is None
        else positions.new_empty((n_edges, 3), dtype=torch.int32),
    )


def _addresses(
    edges: tuple[Tensor, Tensor, Tensor, Tensor], box: Tensor | None
) -> tuple[int, int, int, int]:
    edge_vec, edge_dist, edge_index, shifts = edges
    return (
        edge_index.data_ptr(),
        edge_vec.data_ptr(),
        edge_dist.data_ptr(),
        NO_ADDRESS if box is None else shifts.data_ptr(),
    )


def _backward(
    grad_vec: Tensor,
    grad_dist: Tensor,
    edge_vec: Tensor,
    edge_dist: Tensor,
    edge_index: Tensor,
    edge_ptr: Tensor,
    batch_ptr: Tensor,
) -> Tensor:
    tensors = dense(grad_vec, grad_dist, edge_vec, edge_dist, edge_index, edge_ptr, batch_ptr)
    n_atoms = edge_ptr.shape[0] - 1
    grad_positions = grad_vec.new_empty((n_atoms, 3))
    suffix = dtype_suffix(grad_vec.dtype)
    if runs_on_cuda(grad_vec):
        call_cuda(
            f"radius_graph_bwd_cuda_{suffix}",
            grad_vec,
            *[tensor.data_ptr() for tensor in tensors[:-1]],
            n_atoms,
            edge_index.shape[1],
            grad_positions.data_ptr(),
        )
        return grad_positions
    getattr(native_module(), f"radius_graph_bwd_cpu_{suffix}")(
        *[tensor.data_ptr() for tensor in tensors],
        n_atoms,
        batch_ptr.shape[0] - 1,
        grad_positions.data_ptr(),
        torch.get_num_threads(),
    )
    return grad_positions


register_graph("radius_graph", _forward, _backward, devices=("CPU", "CUDA"))
