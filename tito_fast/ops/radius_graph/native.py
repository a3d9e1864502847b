"""C++ kernels of ``radius_graph`` as ``torch.ops.tito_fast.radius_graph`` and its backward."""

import torch
from torch import Tensor

from tito_fast._extension import native_module
from tito_fast.ops.library import dtype_suffix
from tito_fast.ops.radius_graph.operator import GraphTensors, register_graph


def radius_graph_native(
    positions: Tensor, batch_ptr: Tensor, box: Tensor | None, cutoff: float
) -> GraphTensors:
    """Call the registered op; arguments as in :func:`tito_fast.ops.radius_graph`, checked."""
    graph: GraphTensors = torch.ops.tito_fast.radius_graph(positions, batch_ptr, box, cutoff)
    return graph


def _forward(
    positions: Tensor, batch_ptr: Tensor, box: Tensor | None, cutoff: float
) -> GraphTensors:
    positions, batch_ptr = positions.contiguous(), batch_ptr.contiguous()
    box = None if box is None else box.contiguous()
    n_atoms, n_threads = positions.shape[0], torch.get_num_threads()
    edge_ptr = torch.empty(n_atoms + 1, dtype=torch.int64)
    search = getattr(native_module(), f"RadiusSearch_cpu_{dtype_suffix(positions.dtype)}")(
        positions.data_ptr(),
        batch_ptr.data_ptr(),
        0 if box is None else box.data_ptr(),
        0 if box is None else box.numel() // 9,
        n_atoms,
        batch_ptr.shape[0] - 1,
        cutoff,
        edge_ptr.data_ptr(),
        n_threads,
    )
    n_edges = search.n_edges
    edge_index = torch.empty((2, n_edges), dtype=torch.int64)
    edge_vec = positions.new_empty((n_edges, 3))
    edge_dist = positions.new_empty(n_edges)
    shifts = (
        torch.zeros((1, 3), dtype=torch.int32).expand(n_edges, 3)
        if box is None
        else torch.empty((n_edges, 3), dtype=torch.int32)
    )
    search.fill(
        edge_index.data_ptr(),
        edge_vec.data_ptr(),
        edge_dist.data_ptr(),
        0 if box is None else shifts.data_ptr(),
        n_threads,
    )
    return edge_vec, edge_dist, edge_index, edge_ptr, shifts


def _backward(
    grad_vec: Tensor,
    grad_dist: Tensor,
    edge_vec: Tensor,
    edge_dist: Tensor,
    edge_index: Tensor,
    edge_ptr: Tensor,
    batch_ptr: Tensor,
) -> Tensor:
    tensors = [
        tensor.contiguous()
        for tensor in (grad_vec, grad_dist, edge_vec, edge_dist, edge_index, edge_ptr, batch_ptr)
    ]
    n_atoms = edge_ptr.shape[0] - 1
    grad_positions = grad_vec.new_empty((n_atoms, 3))
    name = f"radius_graph_bwd_cpu_{dtype_suffix(grad_vec.dtype)}"
    getattr(native_module(), name)(
        *[tensor.data_ptr() for tensor in tensors],
        n_atoms,
        batch_ptr.shape[0] - 1,
        grad_positions.data_ptr(),
        torch.get_num_threads(),
    )
    return grad_positions


register_graph("radius_graph", _forward, _backward, devices=("CPU",))
