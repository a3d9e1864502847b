"""``torch.ops.tito_fast.edge_geometry_triton`` and its backward."""

from typing import Any

import torch
from torch import Tensor

from tito_fast.ops.edge_geometry.triton_kernel import (
    BACKWARD,
    FORWARD,
    edge_geometry_bwd_kernel,
    edge_geometry_fwd_kernel,
)
from tito_fast.ops.library import define, implement, implement_fake
from tito_fast.ops.native_call import dense, differentiable_once, needs_gradient
from tito_fast.ops.painn_message import MessageGraph
from tito_fast.ops.triton_launch import choose_launch

_Pair = tuple[Tensor, Tensor]

_GRAPH = (
    "Tensor source, Tensor receiver, Tensor edge_ptr, Tensor edge_pair, Tensor pair_edges, "
    "Tensor source_ptr, Tensor source_edges"
)

define(f"edge_geometry_triton(Tensor positions, {_GRAPH}) -> (Tensor, Tensor)")
define(
    "edge_geometry_triton_backward(Tensor grad_dist, Tensor grad_vec, Tensor positions, "
    f"{_GRAPH}) -> Tensor"
)


def edge_geometry_triton(positions: Tensor, graph: MessageGraph) -> _Pair:
    """Call the registered op; arguments as in :func:`tito_fast.ops.edge_geometry`, checked."""
    pair: _Pair = torch.ops.tito_fast.edge_geometry_triton(
        positions,
        graph.source,
        graph.receiver,
        graph.edge_ptr,
        graph.edge_pair,
        graph.pair_edges,
        graph.source_ptr,
        graph.source_edges,
    )
    return pair


def _forward(
    positions: Tensor,
    source: Tensor,
    receiver: Tensor,
    edge_ptr: Tensor,  # noqa: ARG001, the backward's
    edge_pair: Tensor,
    pair_edges: Tensor,
    source_ptr: Tensor,  # noqa: ARG001
    source_edges: Tensor,  # noqa: ARG001
) -> _Pair:
    n_edges = source.shape[0]
    pair_dist = positions.new_empty(pair_edges.shape[0])
    vec_saturated = positions.new_empty((n_edges, 3))
    if n_edges:
        launch = choose_launch(FORWARD, positions.device, 3, "ieee")
        inputs = dense(positions, source, receiver, edge_pair, pair_edges)
        grid = (-(-n_edges // launch.tile["TILE"]),)
        edge_geometry_fwd_kernel[grid](*inputs, pair_dist, vec_saturated, n_edges, **launch.options)
    return pair_dist, vec_saturated


def _backward(
    grad_dist: Tensor,
    grad_vec: Tensor,
    positions: Tensor,
    source: Tensor,
    receiver: Tensor,
    edge_ptr: Tensor,
    edge_pair: Tensor,
    pair_edges: Tensor,
    source_ptr: Tensor,
    source_edges: Tensor,
) -> Tensor:
    n_atoms = positions.shape[0]
    grad_positions = positions.new_empty((n_atoms, 3))
    if n_atoms:
        launch = choose_launch(BACKWARD, positions.device, 3, "ieee")
        inputs = dense(
            positions,
            source,
            receiver,
            edge_ptr,
            edge_pair,
            pair_edges,
            source_ptr,
            source_edges,
            grad_dist,
            grad_vec,
        )
        edge_geometry_bwd_kernel[n_atoms,](*inputs, grad_positions, **launch.options)
    return grad_positions


for _device in ("CPU", "CUDA"):
    implement("edge_geometry_triton", _forward, _device)
    implement("edge_geometry_triton_backward", _backward, _device)


def _fake_forward(positions: Tensor, *graph: Tensor) -> _Pair:
    return positions.new_empty(graph[4].shape[0]), positions.new_empty((graph[0].shape[0], 3))


def _fake_backward(
    grad_dist: Tensor,  # noqa: ARG001, the schema's argument
    grad_vec: Tensor,  # noqa: ARG001
    positions: Tensor,
    *graph: Tensor,  # noqa: ARG001
) -> Tensor:
    return positions.new_empty(positions.shape)


implement_fake("edge_geometry_triton", _fake_forward)
implement_fake("edge_geometry_triton_backward", _fake_backward)


class _Geometry(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401, torch gives it no type
        *tensors: Tensor,
    ) -> _Pair:
        ctx.save_for_backward(*tensors)
        return _below(*tensors)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_dist: Tensor,
        grad_vec: Tensor,
    ) -> tuple[Tensor | None, ...]:
        tensors = ctx.saved_tensors
        grad = torch.ops.tito_fast.edge_geometry_triton_backward(grad_dist, grad_vec, *tensors)
        return grad, *[None] * (len(tensors) - 1)


def _below(*tensors: Tensor) -> _Pair:
    with torch._C._AutoDispatchBelowAutograd():
        pair: _Pair = torch.ops.tito_fast.edge_geometry_triton(*tensors)
    return pair


def _autograd_forward(*tensors: Tensor) -> _Pair:
    if not needs_gradient(tensors[0]):
        return _below(*tensors)
    pair: _Pair = _Geometry.apply(*tensors)  # type: ignore[no-untyped-call]
    return pair


def _autograd_backward(*tensors: Tensor) -> Tensor:
    with torch._C._AutoDispatchBelowAutograd():
        grad = torch.ops.tito_fast.edge_geometry_triton_backward(*tensors)
    (result,) = differentiable_once("edge_geometry", tensors[:3], [grad])
    return result


implement("edge_geometry_triton", _autograd_forward, "Autograd")
implement("edge_geometry_triton_backward", _autograd_backward, "Autograd")
