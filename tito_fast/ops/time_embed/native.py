"""C++ kernel of ``time_embed`` as ``torch.ops.tito_fast.time_embed`` and its backward.

``wants`` says whether the gradients of the inputs and of the parameters are wanted; what is not
wanted comes back empty.
"""

from collections.abc import Sequence
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
    "time_embed(Tensor scalars, Tensor encodings, Tensor batch_ptr, Tensor[] parameters) -> Tensor"
)
define(
    "time_embed_backward(Tensor grad, Tensor scalars, Tensor encodings, Tensor batch_ptr, "
    "Tensor[] parameters, bool[] wants) -> (Tensor, Tensor, Tensor[])"
)


def time_embed_native(
    scalars: Tensor, encodings: Tensor, batch_ptr: Tensor, parameters: Sequence[Tensor]
) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.time_embed`, checked."""
    result: Tensor = torch.ops.tito_fast.time_embed(scalars, encodings, batch_ptr, list(parameters))
    return result


def _sizes(parameters: list[Tensor]) -> list[int]:
    n_hidden, n_in = parameters[0].shape
    return [n_in, n_hidden, parameters[-2].shape[0]]


def _forward(
    scalars: Tensor, encodings: Tensor, batch_ptr: Tensor, parameters: list[Tensor]
) -> Tensor:
    inputs, parameters = dense(scalars, encodings, batch_ptr), dense(*parameters)
    outputs = scalars.new_empty((scalars.shape[0], parameters[-2].shape[0]))
    cpu_kernel("time_embed_fwd", scalars.dtype)(
        addresses(inputs),
        addresses(parameters),
        _sizes(parameters),
        outputs.data_ptr(),
        scalars.shape[1],
        scalars.shape[0],
        encodings.shape[0],
        torch.get_num_threads(),
    )
    return outputs


def _backward(
    grad: Tensor,
    scalars: Tensor,
    encodings: Tensor,
    batch_ptr: Tensor,
    parameters: list[Tensor],
    wants: list[bool],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    inputs, parameters = dense(scalars, encodings, batch_ptr), dense(*parameters)
    (grad,) = dense(grad)
    grad_inputs, grad_parameters = empty_gradients(inputs[:2], parameters, wants)
    cpu_kernel("time_embed_bwd", scalars.dtype)(
        addresses(inputs),
        addresses(parameters),
        _sizes(parameters),
        grad.data_ptr(),
        addresses(grad_inputs) if wants[0] else [NO_ADDRESS, NO_ADDRESS],
        addresses(grad_parameters),
        scalars.shape[1],
        scalars.shape[0],
        encodings.shape[0],
        torch.get_num_threads(),
    )
    return grad_inputs[0], grad_inputs[1], grad_parameters


def _fake_time_embed(
    scalars: Tensor,
    encodings: Tensor,  # noqa: ARG001, the schema's argument
    batch_ptr: Tensor,  # noqa: ARG001
    parameters: list[Tensor],
) -> Tensor:
    return scalars.new_empty((scalars.shape[0], parameters[-2].shape[0]))


def _fake_time_embed_backward(
    grad: Tensor,  # noqa: ARG001, the schema's argument
    scalars: Tensor,
    encodings: Tensor,
    batch_ptr: Tensor,  # noqa: ARG001
    parameters: list[Tensor],
    wants: list[bool],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    grad_inputs, grad_parameters = empty_gradients([scalars, encodings], parameters, wants)
    return grad_inputs[0], grad_inputs[1], grad_parameters


implement("time_embed", _forward, "CPU")
implement("time_embed_backward", _backward, "CPU")
implement_fake("time_embed", _fake_time_embed)
implement_fake("time_embed_backward", _fake_time_embed_backward)


class _Embed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        scalars: Tensor,
        encodings: Tensor,
        batch_ptr: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(scalars, encodings, batch_ptr, *parameters)
        with torch._C._AutoDispatchBelowAutograd():
            return time_embed_native(scalars, encodings, batch_ptr, parameters)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[Tensor | None, ...]:
        scalars, encodings, batch_ptr, *parameters = ctx.saved_tensors
        wants = [any(ctx.needs_input_grad[:2]), any(ctx.needs_input_grad[3:])]
        *grad_inputs, grad_parameters = torch.ops.tito_fast.time_embed_backward(
            grad, scalars, encodings, batch_ptr, parameters, wants
        )
        return (
            *(grad_inputs if wants[0] else [None, None]),
            None,
            *(grad_parameters if wants[1] else [None] * len(parameters)),
        )


def _autograd_forward(
    scalars: Tensor, encodings: Tensor, batch_ptr: Tensor, parameters: list[Tensor]
) -> Tensor:
    if not needs_gradient(scalars, encodings, *parameters):
        with torch._C._AutoDispatchBelowAutograd():
            return time_embed_native(scalars, encodings, batch_ptr, parameters)
    result: Tensor = _Embed.apply(  # type: ignore[no-untyped-call]
        scalars, encodings, batch_ptr, *parameters
    )
    return result


def _autograd_backward(
    grad: Tensor,
    scalars: Tensor,
    encodings: Tensor,
    batch_ptr: Tensor,
    parameters: list[Tensor],
    wants: list[bool],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    with torch._C._AutoDispatchBelowAutograd():
        *grad_inputs, grad_parameters = torch.ops.tito_fast.time_embed_backward(
            grad, scalars, encodings, batch_ptr, parameters, wants
        )
    first, second, *rest = differentiable_once(
        "time_embed", [grad, scalars, encodings, *parameters], [*grad_inputs, *grad_parameters]
    )
    return first, second, rest


implement("time_embed", _autograd_forward, "Autograd")
implement("time_embed_backward", _autograd_backward, "Autograd")
