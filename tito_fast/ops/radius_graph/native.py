"""C++ kernels of ``radius_graph`` as ``torch.ops.tito_fast.radius_graph`` and its backward.

The op returns edge_vec, edge_dist, edge_index, edge_ptr, shifts: what has a gradient comes first.
The backward, an op of its own, maps gradients of ``edge_vec`` and ``edge_dist`` to one of
``positions``: with g_e = grad_vec_e + grad_dist_e vec_e / dist_e, it adds g_e to the source and
takes it from the receiver. Its own derivative is plain PyTorch, so there is one of any order.
"""

from typing import Any

import torch
from torch import Tensor

from tito_fast._extension import native_module
from tito_fast.ops.library import define, dtype_suffix, implement, implement_fake

_Graph = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]

define(
    "radius_graph(Tensor positions, Tensor batch_ptr, Tensor? box, float cutoff) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)
define(
    "radius_graph_backward(Tensor grad_vec, Tensor grad_dist, Tensor edge_vec, Tensor edge_dist, "
    "Tensor edge_index, Tensor edge_ptr, Tensor batch_ptr) -> Tensor"
)


def radius_graph_native(
    positions: Tensor, batch_ptr: Tensor, box: Tensor | None, cutoff: float
) -> _Graph:
    """Call the registered op; arguments as in :func:`tito_fast.ops.radius_graph`, checked."""
    graph: _Graph = torch.ops.tito_fast.radius_graph(positions, batch_ptr, box, cutoff)
    return graph


def _forward(positions: Tensor, batch_ptr: Tensor, box: Tensor | None, cutoff: float) -> _Graph:
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


implement("radius_graph", _forward, "CPU")
implement("radius_graph_backward", _backward, "CPU")


def _fake_radius_graph(
    positions: Tensor,
    batch_ptr: Tensor,  # noqa: ARG001, the schema's argument
    box: Tensor | None,
    cutoff: float,  # noqa: ARG001
) -> _Graph:
    n_edges = torch.library.get_ctx().new_dynamic_size()
    shifts = (
        positions.new_empty((1, 3), dtype=torch.int32).expand(n_edges, 3)
        if box is None
        else positions.new_empty((n_edges, 3), dtype=torch.int32)
    )
    return (
        positions.new_empty((n_edges, 3)),
        positions.new_empty(n_edges),
        positions.new_empty((2, n_edges), dtype=torch.int64),
        positions.new_empty(positions.shape[0] + 1, dtype=torch.int64),
        shifts,
    )


implement_fake("radius_graph", _fake_radius_graph)


def _fake_radius_graph_backward(
    grad_vec: Tensor,
    grad_dist: Tensor,  # noqa: ARG001
    edge_vec: Tensor,  # noqa: ARG001
    edge_dist: Tensor,  # noqa: ARG001
    edge_index: Tensor,  # noqa: ARG001
    edge_ptr: Tensor,
    batch_ptr: Tensor,  # noqa: ARG001
) -> Tensor:
    return grad_vec.new_empty((edge_ptr.shape[0] - 1, 3))


implement_fake("radius_graph_backward", _fake_radius_graph_backward)


class _RadiusGraph(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        positions: Tensor,
        batch_ptr: Tensor,
        box: Tensor | None,
        cutoff: float,
    ) -> _Graph:
        with torch._C._AutoDispatchBelowAutograd():
            graph = radius_graph_native(positions, batch_ptr, box, cutoff)
        edge_vec, edge_dist, edge_index, edge_ptr, shifts = graph
        ctx.mark_non_differentiable(edge_index, edge_ptr, shifts)
        ctx.save_for_backward(edge_vec, edge_dist, edge_index, edge_ptr, batch_ptr)
        return graph

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_vec: Tensor,
        grad_dist: Tensor,
        *_: Tensor,
    ) -> tuple[Tensor, None, None, None]:
        grad_positions: Tensor = torch.ops.tito_fast.radius_graph_backward(
            grad_vec, grad_dist, *ctx.saved_tensors
        )
        return grad_positions, None, None, None


class _RadiusGraphBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        *tensors: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(*tensors)
        with torch._C._AutoDispatchBelowAutograd():
            grad_positions: Tensor = torch.ops.tito_fast.radius_graph_backward(*tensors)
        return grad_positions

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[Tensor | None, ...]:
        _, grad_dist, edge_vec, edge_dist, edge_index, _, _ = ctx.saved_tensors
        # Of g_e, then through g_e = grad_vec + grad_dist vec / dist, without its pole at 0.
        grad_edge = grad.index_select(0, edge_index[0]) - grad.index_select(0, edge_index[1])
        is_zero = edge_dist == 0
        inverse = torch.where(is_zero, 1.0, edge_dist).reciprocal().masked_fill(is_zero, 0.0)
        along = (grad_edge * edge_vec).sum(dim=1) * inverse
        return (
            grad_edge,
            along,
            grad_edge * (grad_dist * inverse)[:, None],
            -along * grad_dist * inverse,
            None,
            None,
            None,
        )


def _autograd_forward(
    positions: Tensor, batch_ptr: Tensor, box: Tensor | None, cutoff: float
) -> _Graph:
    if not (torch.is_grad_enabled() and positions.requires_grad):
        with torch._C._AutoDispatchBelowAutograd():
            return radius_graph_native(positions, batch_ptr, box, cutoff)
    graph: _Graph = _RadiusGraph.apply(  # type: ignore[no-untyped-call]
        positions, batch_ptr, box, cutoff
    )
    return graph


def _autograd_backward(*tensors: Tensor) -> Tensor:
    grad_positions: Tensor = _RadiusGraphBackward.apply(*tensors)  # type: ignore[no-untyped-call]
    return grad_positions


implement("radius_graph", _autograd_forward, "Autograd")
implement("radius_graph_backward", _autograd_backward, "Autograd")
