"""Triton kernels of ``mlp`` as ``torch.ops.tito_fast.mlp_triton`` and its backward.

``wants`` says whether the gradients of the inputs and of the parameters are wanted; what is not
wanted comes back empty.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tito_fast.ops.library import define, implement, implement_fake
from tito_fast.ops.mlp.triton_kernel import BACKWARD, FORWARD, mlp_bwd_kernel, mlp_fwd_kernel
from tito_fast.ops.native_call import dense, empty_gradients
from tito_fast.ops.once_differentiable import register_gradient
from tito_fast.ops.triton_gradients import (
    empty_work,
    first_hidden_gradient,
    mlp_gradients,
    n_wide_outputs,
    on_device,
    rows_product,
)
from tito_fast.ops.triton_launch import choose_launch
from tito_fast.types import ProductPrecision

define("mlp_triton(Tensor inputs, Tensor[] parameters, str precision) -> Tensor")
define(
    "mlp_triton_backward(Tensor grad, Tensor inputs, Tensor[] parameters, str precision, "
    "bool[] wants) -> (Tensor, Tensor[])"
)


def mlp_triton(inputs: Tensor, parameters: Sequence[Tensor], precision: ProductPrecision) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.mlp`, already checked."""
    result: Tensor = torch.ops.tito_fast.mlp_triton(inputs, list(parameters), precision)
    return result


def _forward(inputs: Tensor, parameters: list[Tensor], precision: ProductPrecision) -> Tensor:
    (inputs,), parameters = dense(inputs), dense(*parameters)
    outputs = _fake_mlp(inputs, parameters, precision)
    n_rows, (n_out, width) = inputs.shape[0], parameters[-2].shape
    if n_rows == 0:
        return outputs
    launch = choose_launch(FORWARD, inputs.device, width, precision)
    with on_device(inputs):
        mlp_fwd_kernel[(-(-n_rows // launch.tile["BLOCK"]),)](
            inputs,
            *parameters,
            outputs,
            n_rows,
            n_out,
            N_IN=inputs.shape[1] // width,
            N_WIDE=n_wide_outputs(n_out, width),
            N_FEATURES=width,
            PRECISION=precision,
            **launch.options,
        )
    return outputs


def _backward(
    grad: Tensor,
    inputs: Tensor,
    parameters: list[Tensor],
    precision: ProductPrecision,
    wants: list[bool],
) -> tuple[Tensor, list[Tensor]]:
    grad, inputs = dense(grad, inputs)
    parameters = dense(*parameters)
    (grad_inputs,), _ = empty_gradients([inputs], [], wants)
    n_rows, (n_out, width) = inputs.shape[0], parameters[-2].shape
    if n_rows == 0:
        return grad_inputs, [torch.zeros_like(each) for each in parameters] if wants[1] else []
    work = empty_work(inputs, n_rows, width, wants=wants[1])
    launch = choose_launch(BACKWARD, inputs.device, width, precision)
    with on_device(inputs):
        mlp_bwd_kernel[(-(-n_rows // launch.tile["BLOCK"]),)](
            grad,
            inputs,
            *parameters[:-1],
            grad_inputs,
            work,
            n_rows,
            n_out,
            N_IN=inputs.shape[1] // width,
            N_WIDE=n_wide_outputs(n_out, width),
            N_FEATURES=width,
            WANTS_INPUTS=wants[0],
            WANTS_WEIGHTS=wants[1],
            PRECISION=precision,
            **launch.options,
        )
        if not wants[1]:
            return grad_inputs, []
        first_weight = rows_product(first_hidden_gradient(work), inputs, precision)
        return grad_inputs, mlp_gradients(work, grad, first_weight, precision)


def _fake_mlp(
    inputs: Tensor,
    parameters: list[Tensor],
    precision: str,  # noqa: ARG001, the schema's argument
) -> Tensor:
    return inputs.new_empty((inputs.shape[0], parameters[-2].shape[0]))


def _fake_mlp_backward(
    grad: Tensor,  # noqa: ARG001, the schema's argument
    inputs: Tensor,
    parameters: list[Tensor],
    precision: str,  # noqa: ARG001
    wants: list[bool],
) -> tuple[Tensor, list[Tensor]]:
    (grad_inputs,), grad_parameters = empty_gradients([inputs], parameters, wants)
    return grad_inputs, grad_parameters


for _device in ("CPU", "CUDA"):
    implement("mlp_triton", _forward, _device)
    implement("mlp_triton_backward", _backward, _device)
implement_fake("mlp_triton", _fake_mlp)
implement_fake("mlp_triton_backward", _fake_mlp_backward)
register_gradient("mlp_triton", n_inputs=1, n_outputs=1)
