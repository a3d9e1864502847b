"""C++ kernel of ``readout_step`` as ``torch.ops.tito_fast.readout_step`` and its backward.

``weights`` are V and the ten tensors of the mlp. ``wants`` says whether the gradients of scalars and
vectors and those of the weights are wanted; what is not wanted comes back empty.
"""

from typing import Any

import torch
from torch import Tensor

from tito_fast.ops.library import define, implement, implement_fake
from tito_fast.ops.native_call import (
    NO_ADDRESS,
    addresses,
    cpu_kernel,
    dense,
    differentiable_once,
    empty_gradients,
    needs_gradient,
)

define(
    "readout_step(Tensor scalars, Tensor vectors, Tensor positions, Tensor[] weights, "
    "Tensor batch_ptr, float step_size) -> (Tensor, Tensor)"
)
define(
    "readout_step_backward(Tensor grad_velocity, Tensor grad_positions, Tensor scalars, "
    "Tensor vectors, Tensor[] weights, Tensor batch_ptr, float step_size, bool[] wants) "
    "-> (Tensor, Tensor, Tensor, Tensor[])"
)


def readout_step_native(
    scalars: Tensor,
    vectors: Tensor,
    positions: Tensor,
    weights: list[Tensor],
    batch_ptr: Tensor,
    step_size: float,
) -> tuple[Tensor, Tensor]:
    """Call the registered op; arguments as in :func:`tito_fast.ops.readout_step`, checked."""
    pair: tuple[Tensor, Tensor] = torch.ops.tito_fast.readout_step(
        scalars, vectors, positions, weights, batch_ptr, step_size
    )
    return pair


def _forward(
    scalars: Tensor,
    vectors: Tensor,
    positions: Tensor,
    weights: list[Tensor],
    batch_ptr: Tensor,
    step_size: float,
) -> tuple[Tensor, Tensor]:
    inputs, weights = dense(scalars, vectors, positions, batch_ptr), dense(*weights)
    outputs = positions.new_empty(positions.shape), positions.new_empty(positions.shape)
    cpu_kernel("readout_step_fwd", scalars.dtype)(
        addresses(inputs),
        addresses(weights),
        scalars.shape[1],
        weights[1].shape[0],
        addresses(outputs),
        step_size,
        scalars.shape[0],
        batch_ptr.shape[0] - 1,
        torch.get_num_threads(),
    )
    return outputs


def _backward(
    grad_velocity: Tensor,
    grad_positions: Tensor,
    scalars: Tensor,
    vectors: Tensor,
    weights: list[Tensor],
    batch_ptr: Tensor,
    step_size: float,
    wants: list[bool],
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    grads, inputs = dense(grad_velocity, grad_positions), dense(scalars, vectors, batch_ptr)
    weights = dense(*weights)
    grad_features, grad_weights = empty_gradients(inputs[:2], weights, wants)
    # Of the given positions, and of what the features add to them.
    grad_given, grad_readout = torch.empty_like(grads[0]), torch.empty_like(grads[0])
    cpu_kernel("readout_step_bwd", scalars.dtype)(
        addresses(inputs),
        addresses(weights),
        scalars.shape[1],
        weights[1].shape[0],
        addresses(grads),
        (addresses(grad_features) if wants[0] else [NO_ADDRESS, NO_ADDRESS])
        + addresses([grad_given, grad_readout]),
        addresses(grad_weights),
        step_size,
        scalars.shape[0],
        batch_ptr.shape[0] - 1,
        torch.get_num_threads(),
    )
    return grad_features[0], grad_features[1], grad_given, grad_weights


def _fake_readout_step(
    scalars: Tensor,  # noqa: ARG001, the schema's argument
    vectors: Tensor,  # noqa: ARG001
    positions: Tensor,
    weights: list[Tensor],  # noqa: ARG001
    batch_ptr: Tensor,  # noqa: ARG001
    step_size: float,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    return positions.new_empty(positions.shape), positions.new_empty(positions.shape)


def _fake_readout_step_backward(
    grad_velocity: Tensor,
    grad_positions: Tensor,  # noqa: ARG001, the schema's argument
    scalars: Tensor,
    vectors: Tensor,
    weights: list[Tensor],
    batch_ptr: Tensor,  # noqa: ARG001
    step_size: float,  # noqa: ARG001
    wants: list[bool],
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    grad_features, grad_weights = empty_gradients([scalars, vectors], weights, wants)
    grad_given = grad_velocity.new_empty(grad_velocity.shape)
    return grad_features[0], grad_features[1], grad_given, grad_weights


implement("readout_step", _forward, "CPU")
implement("readout_step_backward", _backward, "CPU")
implement_fake("readout_step", _fake_readout_step)
implement_fake("readout_step_backward", _fake_readout_step_backward)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        step_size: float,
        batch_ptr: Tensor,
        scalars: Tensor,
        vectors: Tensor,
        positions: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(batch_ptr, scalars, vectors, *weights)
        ctx.step_size = step_size
        with torch._C._AutoDispatchBelowAutograd():
            return readout_step_native(
                scalars, vectors, positions, list(weights), batch_ptr, step_size
            )

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_velocity: Tensor,
        grad_positions: Tensor,
    ) -> tuple[Tensor | None, ...]:
        batch_ptr, scalars, vectors, *weights = ctx.saved_tensors
        wants = [any(ctx.needs_input_grad[2:4]), any(ctx.needs_input_grad[5:])]
        *grad_features, grad_given, grad_weights = torch.ops.tito_fast.readout_step_backward(
            grad_velocity,
            grad_positions,
            scalars,
            vectors,
            weights,
            batch_ptr,
            ctx.step_size,
            wants,
        )
        return (
            None,
            None,
            *(grad_features if wants[0] else [None, None]),
            grad_given,
            *(grad_weights if wants[1] else [None] * len(weights)),
        )


def _autograd_forward(
    scalars: Tensor,
    vectors: Tensor,
    positions: Tensor,
    weights: list[Tensor],
    batch_ptr: Tensor,
    step_size: float,
) -> tuple[Tensor, Tensor]:
    if not needs_gradient(scalars, vectors, positions, *weights):
        with torch._C._AutoDispatchBelowAutograd():
            return readout_step_native(scalars, vectors, positions, weights, batch_ptr, step_size)
    pair: tuple[Tensor, Tensor] = _Step.apply(  # type: ignore[no-untyped-call]
        step_size, batch_ptr, scalars, vectors, positions, *weights
    )
    return pair


def _autograd_backward(
    grad_velocity: Tensor,
    grad_positions: Tensor,
    scalars: Tensor,
    vectors: Tensor,
    weights: list[Tensor],
    batch_ptr: Tensor,
    step_size: float,
    wants: list[bool],
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    with torch._C._AutoDispatchBelowAutograd():
        *grad_inputs, grad_weights = torch.ops.tito_fast.readout_step_backward(
            grad_velocity,
            grad_positions,
            scalars,
            vectors,
            weights,
            batch_ptr,
            step_size,
            wants,
        )
    inputs = [grad_velocity, grad_positions, scalars, vectors, *weights]
    first, second, third, *rest = differentiable_once(
        "readout_step", inputs, [*grad_inputs, *grad_weights]
    )
    return first, second, third, rest


implement("readout_step", _autograd_forward, "Autograd")
implement("readout_step_backward", _autograd_backward, "Autograd")
