"""Triton kernels of ``radius_graph`` as ``torch.ops.tito_fast.radius_graph_triton`` and its backward."""

import torch
from torch import Tensor

from tito_fast.ops.native_call import dense
from tito_fast.ops.radius_graph.operator import GraphTensors, register_graph
from tito_fast.ops.radius_graph.reference import check_positions
from tito_fast.ops.radius_graph.status import good_status
from tito_fast.ops.radius_graph.triton_kernel import (
    SEARCH,
    radius_graph_bwd_kernel,
    radius_graph_count_kernel,
    radius_graph_fill_kernel,
)
from tito_fast.ops.triton_launch import choose_launch


def radius_graph_triton(positions: Tensor, batch_ptr: Tensor, cutoff: float) -> GraphTensors:
    """Call the registered op; arguments as in :func:`tito_fast.ops.radius_graph`, checked; no box."""
    graph: GraphTensors = torch.ops.tito_fast.radius_graph_triton(
        positions, batch_ptr, None, cutoff, None
    )
    return graph


def _forward(
    positions: Tensor, batch_ptr: Tensor, box: Tensor | None, cutoff: float, capacity: int | None
) -> GraphTensors:
    for name, value in (("box", box), ("capacity", capacity)):
        if value is not None:
            raise ValueError(
                f"{name}: expected none, got one; use torch.ops.tito_fast.radius_graph"
            )
    positions, batch_ptr = dense(positions, batch_ptr)
    n_atoms, n_molecules = positions.shape[0], batch_ptr.shape[0] - 1
    edge_ptr = batch_ptr.new_zeros(n_atoms + 1)
    numbers = (n_molecules, n_molecules.bit_length(), cutoff)
    options = choose_launch(SEARCH, positions.device, 3, "ieee").options
    if n_atoms and n_molecules:
        counts = torch.empty_like(edge_ptr[1:])
        radius_graph_count_kernel[n_atoms,](positions, batch_ptr, counts, *numbers, **options)
        edge_ptr[1:] = counts.cumsum(0)
    # The one time that the host waits: how much memory the edges need, and whether positions are numbers.
    is_finite = positions.isfinite().all().to(torch.int64)
    n_edges, has_numbers = torch.stack((edge_ptr[-1], is_finite)).tolist()
    if not has_numbers:
        check_positions(positions)
    edge_index = edge_ptr.new_empty((2, n_edges))
    edge_vec = positions.new_empty((n_edges, 3))
    edge_dist = positions.new_empty(n_edges)
    if n_edges:
        radius_graph_fill_kernel[n_atoms,](
            positions,
            batch_ptr,
            edge_ptr,
            edge_index[0],
            edge_index[1],
            edge_vec,
            edge_dist,
            *numbers,
            **options,
        )
    shifts = positions.new_zeros((1, 3), dtype=torch.int32).expand(n_edges, 3)
    return edge_vec, edge_dist, edge_index, edge_ptr, shifts, good_status(edge_ptr, n_edges)


def _backward(
    grad_vec: Tensor,
    grad_dist: Tensor,
    edge_vec: Tensor,
    edge_dist: Tensor,
    edge_index: Tensor,
    edge_ptr: Tensor,
    batch_ptr: Tensor,  # noqa: ARG001, the schema's argument
) -> Tensor:
    n_atoms = edge_ptr.shape[0] - 1
    grad_positions = grad_vec.new_empty((n_atoms, 3))
    if n_atoms:
        inputs = dense(grad_vec, grad_dist, edge_vec, edge_dist, edge_index[0], edge_ptr)
        radius_graph_bwd_kernel[n_atoms,](
            *inputs,
            grad_positions,
            n_atoms.bit_length(),
            **choose_launch(SEARCH, grad_vec.device, 3, "ieee").options,
        )
    return grad_positions


register_graph("radius_graph_triton", _forward, _backward, devices=("CPU", "CUDA"))
