"""What ``torch.ops.tito_fast.radius_graph`` and ``radius_graph_triton`` share: schema, fakes, derivatives.

The op returns edge_vec, edge_dist, edge_index, edge_ptr, shifts, status: what has a gradient comes first.
The backward, an op of its own, maps gradients of ``edge_vec`` and ``edge_dist`` to one of
``positions``: with g_e = grad_vec_e + grad_dist_e vec_e / dist_e, it adds g_e to the source and
takes it from the receiver. Its own derivative is plain PyTorch, so there is one of any order.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tito_fast.ops.library import define, implement, implement_fake

GraphTensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]
_Forward = Callable[[Tensor, Tensor, Tensor | None, float, int | None], GraphTensors]
_Backward = Callable[..., Tensor]


def register_graph(
    name: str, forward: _Forward, backward: _Backward, *, devices: tuple[str, ...]
) -> None:
    """Register ``torch.ops.tito_fast.<name>`` and ``<name>_backward``.

    Parameters
    ----------
    name
        Of the op.
    forward
        Maps positions, batch_ptr, box, cutoff and capacity to the graph's tensors.
    backward
        Maps the gradients of edge_vec and edge_dist and what the forward gave (edge_vec, edge_dist, edge_index,
        edge_ptr), with batch_ptr, to the gradient of positions.
    devices
        ``CPU``, ``CUDA``.
    """
    define(
        f"{name}(Tensor positions, Tensor batch_ptr, Tensor? box, float cutoff, SymInt? capacity) "
        "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
    )
    define(
        f"{name}_backward(Tensor grad_vec, Tensor grad_dist, Tensor edge_vec, Tensor edge_dist, "
        "Tensor edge_index, Tensor edge_ptr, Tensor batch_ptr) -> Tensor"
    )
    for device in devices:
        implement(name, forward, device)
        implement(f"{name}_backward", backward, device)
    implement_fake(name, _fake_forward)
    implement_fake(f"{name}_backward", _fake_backward)
    implement(name, partial(_autograd_forward, name), "Autograd")
    implement(f"{name}_backward", partial(_autograd_backward, name), "Autograd")


def _forward_of(name: str) -> _Forward:
    op: _Forward = getattr(torch.ops.tito_fast, name)
    return op


def _backward_of(name: str) -> _Backward:
    op: _Backward = getattr(torch.ops.tito_fast, f"{name}_backward")
    return op


def _fake_forward(
    positions: Tensor,
    batch_ptr: Tensor,  # noqa: ARG001, the schema's argument
    box: Tensor | None,
    cutoff: float,  # noqa: ARG001
    capacity: int | None,
) -> GraphTensors:
    n_edges = torch.library.get_ctx().new_dynamic_size() if capacity is None else capacity
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
        positions.new_empty(2, dtype=torch.int64),
    )


def _fake_backward(
    grad_vec: Tensor,
    grad_dist: Tensor,  # noqa: ARG001
    edge_vec: Tensor,  # noqa: ARG001
    edge_dist: Tensor,  # noqa: ARG001
    edge_index: Tensor,  # noqa: ARG001
    edge_ptr: Tensor,
    batch_ptr: Tensor,  # noqa: ARG001
) -> Tensor:
    return grad_vec.new_empty((edge_ptr.shape[0] - 1, 3))


class _Forwards(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401, torch gives it no type
        name: str,
        positions: Tensor,
        batch_ptr: Tensor,
        box: Tensor | None,
        cutoff: float,
        capacity: int | None,
    ) -> GraphTensors:
        with torch._C._AutoDispatchBelowAutograd():
            graph = _forward_of(name)(positions, batch_ptr, box, cutoff, capacity)
        edge_vec, edge_dist, edge_index, edge_ptr, shifts, status = graph
        ctx.mark_non_differentiable(edge_index, edge_ptr, shifts, status)
        ctx.save_for_backward(edge_vec, edge_dist, edge_index, edge_ptr, batch_ptr)
        ctx.name = name
        return graph

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_vec: Tensor,
        grad_dist: Tensor,
        *_: Tensor,
    ) -> tuple[Tensor | None, ...]:
        grad = _backward_of(ctx.name)(grad_vec, grad_dist, *ctx.saved_tensors)
        return None, grad, None, None, None, None


class _Backwards(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        name: str,
        *tensors: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(*tensors)
        with torch._C._AutoDispatchBelowAutograd():
            return _backward_of(name)(*tensors)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[Tensor | None, ...]:
        _, grad_dist, edge_vec, edge_dist, edge_index, _, _ = ctx.saved_tensors
        # Of g_e, then through g_e = grad_vec + grad_dist vec / dist, without its pole at 0.
        # Rows that fill up to a capacity have indices of −1; their difference is zero with any atom.
        source, receiver = edge_index.clamp_min(0)
        grad_edge = grad.index_select(0, source) - grad.index_select(0, receiver)
        is_zero = edge_dist == 0
        inverse = torch.where(is_zero, 1.0, edge_dist).reciprocal().masked_fill(is_zero, 0.0)
        along = (grad_edge * edge_vec).sum(dim=1) * inverse
        return (
            None,
            grad_edge,
            along,
            grad_edge * (grad_dist * inverse)[:, None],
            -along * grad_dist * inverse,
            None,
            None,
            None,
        )


def _autograd_forward(
    name: str,
    positions: Tensor,
    batch_ptr: Tensor,
    box: Tensor | None,
    cutoff: float,
    capacity: int | None,
) -> GraphTensors:
    if not (torch.is_grad_enabled() and positions.requires_grad):
        with torch._C._AutoDispatchBelowAutograd():
            return _forward_of(name)(positions, batch_ptr, box, cutoff, capacity)
    graph: GraphTensors = _Forwards.apply(  # type: ignore[no-untyped-call]
        name, positions, batch_ptr, box, cutoff, capacity
    )
    return graph


def _autograd_backward(name: str, *tensors: Tensor) -> Tensor:
    grad_positions: Tensor = _Backwards.apply(name, *tensors)  # type: ignore[no-untyped-call]
    return grad_positions
