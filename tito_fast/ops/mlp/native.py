"""C++ kernel of ``mlp`` as ``torch.ops.tito_fast.mlp`` and its backward.

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

define("mlp(Tensor inputs, Tensor[] parameters) -> Tensor")
define(
    "mlp_backward(Tensor grad, Tensor inputs, Tensor[] parameters, bool[] wants) "
    "-> (Tensor, Tensor[])"
)


def mlp_native(inputs: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.mlp`, already checked."""
    result: Tensor = torch.ops.tito_fast.mlp(inputs, list(parameters))
    return result


def mlp_sizes(parameters: Sequence[Tensor]) -> list[int]:
    """Return n_in, n_hidden and n_out."""
    n_hidden, n_in = parameters[0].shape
    return [n_in, n_hidden, parameters[-2].shape[0]]


def _forward(inputs: Tensor, parameters: list[Tensor]) -> Tensor:
    (inputs,) = dense(inputs)
    parameters = dense(*parameters)
    outputs = _fake_mlp(inputs, parameters)
    cpu_kernel("mlp_fwd", inputs.dtype)(
        inputs.data_ptr(),
        addresses(parameters),
        mlp_sizes(parameters),
        outputs.data_ptr(),
        inputs.shape[0],
        torch.get_num_threads(),
    )
    return outputs


def _backward(
    grad: Tensor, inputs: Tensor, parameters: list[Tensor], wants: list[bool]
) -> tuple[Tensor, list[Tensor]]:
    grad, inputs = dense(grad, inputs)
    parameters = dense(*parameters)
    (grad_inputs,), grad_parameters = empty_gradients([inputs], parameters, wants)
    cpu_kernel("mlp_bwd", inputs.dtype)(
        inputs.data_ptr(),
        addresses(parameters),
        mlp_sizes(parameters),
        grad.data_ptr(),
        grad_inputs.data_ptr() if wants[0] else NO_ADDRESS,
        addresses(grad_parameters),
        inputs.shape[0],
        torch.get_num_threads(),
    )
    return grad_inputs, grad_parameters


def _fake_mlp(inputs: Tensor, parameters: list[Tensor]) -> Tensor:
    return inputs.new_empty((inputs.shape[0], parameters[-2].shape[0]))


def _fake_mlp_backward(
    grad: Tensor,  # noqa: ARG001, the schema's argument
    inputs: Tensor,
    parameters: list[Tensor],
    wants: list[bool],
) -> tuple[Tensor, list[Tensor]]:
    (grad_inputs,), grad_parameters = empty_gradients([inputs], parameters, wants)
    return grad_inputs, grad_parameters


implement("mlp", _forward, "CPU")
implement("mlp_backward", _backward, "CPU")
implement_fake("mlp", _fake_mlp)
implement_fake("mlp_backward", _fake_mlp_backward)


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        inputs: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(inputs, *parameters)
        with torch._C._AutoDispatchBelowAutograd():
            return mlp_native(inputs, parameters)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[Tensor | None, ...]:
        inputs, *parameters = ctx.saved_tensors
        wants = [ctx.needs_input_grad[0], any(ctx.needs_input_grad[1:])]
        grad_inputs, grad_parameters = torch.ops.tito_fast.mlp_backward(
            grad, inputs, parameters, wants
        )
        return (
            grad_inputs if wants[0] else None,
            *(grad_parameters if wants[1] else [None] * len(parameters)),
        )


def _autograd_forward(inputs: Tensor, parameters: list[Tensor]) -> Tensor:
    if not needs_gradient(inputs, *parameters):
        with torch._C._AutoDispatchBelowAutograd():
            return mlp_native(inputs, parameters)
    result: Tensor = _Mlp.apply(inputs, *parameters)  # type: ignore[no-untyped-call]
    return result


def _autograd_backward(
    grad: Tensor, inputs: Tensor, parameters: list[Tensor], wants: list[bool]
) -> tuple[Tensor, list[Tensor]]:
    with torch._C._AutoDispatchBelowAutograd():
        grad_inputs, grad_parameters = torch.ops.tito_fast.mlp_backward(
            grad, inputs, parameters, wants
        )
    grad_inputs, *grad_parameters = differentiable_once(
        "mlp", [grad, inputs, *parameters], [grad_inputs, *grad_parameters]
    )
    return grad_inputs, grad_parameters


implement("mlp", _autograd_forward, "Autograd")
implement("mlp_backward", _autograd_backward, "Autograd")
