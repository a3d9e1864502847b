"""C++ kernels of ``edge_embed`` as ``torch.ops.tito_fast.edge_embed`` and its backward.

The lookup is linear in the table and its gradient linear in the features' gradient, so each is the
other's backward.
"""

from typing import Any

import torch
from torch import Tensor

from tito_fast._extension import native_module
from tito_fast.ops.library import define, dtype_suffix, implement, implement_fake

define("edge_embed(Tensor edge_type, Tensor table) -> Tensor")
define("edge_embed_backward(Tensor grad, Tensor edge_type, int n_types) -> Tensor")


def edge_embed_native(edge_type: Tensor, table: Tensor) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.edge_embed`, checked."""
    result: Tensor = torch.ops.tito_fast.edge_embed(edge_type, table)
    return result


def edge_embed_backward_native(grad: Tensor, edge_type: Tensor, n_types: int) -> Tensor:
    """Sum the rows of ``grad`` (n_edges, n_features) by type: (n_types, n_features)."""
    result: Tensor = torch.ops.tito_fast.edge_embed_backward(grad, edge_type, n_types)
    return result


def _forward(edge_type: Tensor, table: Tensor) -> Tensor:
    edge_type, table = edge_type.contiguous(), table.contiguous()
    n_types, n_features = table.shape
    features = table.new_empty((edge_type.shape[0], n_features))
    getattr(native_module(), f"edge_embed_fwd_cpu_{dtype_suffix(table.dtype)}")(
        edge_type.data_ptr(),
        table.data_ptr(),
        features.data_ptr(),
        edge_type.shape[0],
        n_types,
        n_features,
        torch.get_num_threads(),
    )
    return features


def _backward(grad: Tensor, edge_type: Tensor, n_types: int) -> Tensor:
    grad, edge_type = grad.contiguous(), edge_type.contiguous()
    n_edges, n_features = grad.shape
    grad_table = grad.new_empty((n_types, n_features))
    getattr(native_module(), f"edge_embed_bwd_cpu_{dtype_suffix(grad.dtype)}")(
        edge_type.data_ptr(),
        grad.data_ptr(),
        grad_table.data_ptr(),
        n_edges,
        n_types,
        n_features,
        torch.get_num_threads(),
    )
    return grad_table


implement("edge_embed", _forward, "CPU")
implement("edge_embed_backward", _backward, "CPU")


def _fake_edge_embed(edge_type: Tensor, table: Tensor) -> Tensor:
    return table.new_empty((edge_type.shape[0], table.shape[1]))


implement_fake("edge_embed", _fake_edge_embed)


def _fake_edge_embed_backward(
    grad: Tensor,
    edge_type: Tensor,  # noqa: ARG001, the schema's argument
    n_types: int,
) -> Tensor:
    return grad.new_empty((n_types, grad.shape[1]))


implement_fake("edge_embed_backward", _fake_edge_embed_backward)


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        edge_type: Tensor,
        table: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(edge_type)
        ctx.n_types = table.shape[0]
        with torch._C._AutoDispatchBelowAutograd():
            return edge_embed_native(edge_type, table)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[None, Tensor]:
        (edge_type,) = ctx.saved_tensors
        return None, edge_embed_backward_native(grad, edge_type, ctx.n_types)


class _EmbedBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
        edge_type: Tensor,
        n_types: int,
    ) -> Tensor:
        ctx.save_for_backward(edge_type)
        with torch._C._AutoDispatchBelowAutograd():
            return edge_embed_backward_native(grad, edge_type, n_types)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_table: Tensor,
    ) -> tuple[Tensor, None, None]:
        (edge_type,) = ctx.saved_tensors
        return edge_embed_native(edge_type, grad_table), None, None


def _autograd_forward(edge_type: Tensor, table: Tensor) -> Tensor:
    if not (torch.is_grad_enabled() and table.requires_grad):
        with torch._C._AutoDispatchBelowAutograd():
            return edge_embed_native(edge_type, table)
    result: Tensor = _Embed.apply(edge_type, table)  # type: ignore[no-untyped-call]
    return result


def _autograd_backward(grad: Tensor, edge_type: Tensor, n_types: int) -> Tensor:
    if not (torch.is_grad_enabled() and grad.requires_grad):
        with torch._C._AutoDispatchBelowAutograd():
            return edge_embed_backward_native(grad, edge_type, n_types)
    result: Tensor = _EmbedBackward.apply(grad, edge_type, n_types)  # type: ignore[no-untyped-call]
    return result


implement("edge_embed", _autograd_forward, "Autograd")
implement("edge_embed_backward", _autograd_backward, "Autograd")
