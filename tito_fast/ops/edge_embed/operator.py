"""What ``torch.ops.tito_fast.edge_embed`` and ``edge_embed_triton`` share: schema, fakes, derivatives.

The lookup is linear in the table and its gradient linear in the features' gradient, so each is the
other's backward.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tito_fast.ops.library import define, implement, implement_fake

_Forward = Callable[[Tensor, Tensor], Tensor]
_Backward = Callable[[Tensor, Tensor, int], Tensor]


def register_embed(
    name: str, forward: _Forward, backward: _Backward, devices: Sequence[str]
) -> None:
    """Register ``torch.ops.tito_fast.<name>`` and ``<name>_backward``.

    Parameters
    ----------
    name
        Of the op.
    forward
        Maps edge_type (n_edges,) and table (n_types, n_features) to features (n_edges, n_features).
    backward
        Maps the gradient of the features, edge_type and n_types to that of the table.
    devices
        Dispatch keys, ``CPU`` or ``CUDA``.
    """
    define(f"{name}(Tensor edge_type, Tensor table) -> Tensor")
    define(f"{name}_backward(Tensor grad, Tensor edge_type, int n_types) -> Tensor")
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


def _fake_forward(edge_type: Tensor, table: Tensor) -> Tensor:
    return table.new_empty((edge_type.shape[0], table.shape[1]))


def _fake_backward(
    grad: Tensor,
    edge_type: Tensor,  # noqa: ARG001, the schema's argument
    n_types: int,
) -> Tensor:
    return grad.new_empty((n_types, grad.shape[1]))


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401, torch gives it no type
        name: str,
        edge_type: Tensor,
        table: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(edge_type)
        ctx.name, ctx.n_types = name, table.shape[0]
        with torch._C._AutoDispatchBelowAutograd():
            return _forward_of(name)(edge_type, table)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[None, None, Tensor]:
        (edge_type,) = ctx.saved_tensors
        return None, None, _backward_of(ctx.name)(grad, edge_type, ctx.n_types)


class _EmbedBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        name: str,
        grad: Tensor,
        edge_type: Tensor,
        n_types: int,
    ) -> Tensor:
        ctx.save_for_backward(edge_type)
        ctx.name = name
        with torch._C._AutoDispatchBelowAutograd():
            return _backward_of(name)(grad, edge_type, n_types)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_table: Tensor,
    ) -> tuple[None, Tensor, None, None]:
        (edge_type,) = ctx.saved_tensors
        return None, _forward_of(ctx.name)(edge_type, grad_table), None, None


def _autograd_forward(name: str, edge_type: Tensor, table: Tensor) -> Tensor:
    if not (torch.is_grad_enabled() and table.requires_grad):
        with torch._C._AutoDispatchBelowAutograd():
            return _forward_of(name)(edge_type, table)
    result: Tensor = _Embed.apply(name, edge_type, table)  # type: ignore[no-untyped-call]
    return result


def _autograd_backward(name: str, grad: Tensor, edge_type: Tensor, n_types: int) -> Tensor:
    if not (torch.is_grad_enabled() and grad.requires_grad):
        with torch._C._AutoDispatchBelowAutograd():
            return _backward_of(name)(grad, edge_type, n_types)
    result: Tensor = _EmbedBackward.apply(  # type: ignore[no-untyped-call]
        name, grad, edge_type, n_types
    )
    return result
