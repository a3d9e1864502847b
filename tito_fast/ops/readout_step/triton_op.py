"""Triton kernels of ``readout_step`` as ``torch.ops.tito_fast.readout_step_triton`` and its backward.

``weights`` are V and the ten tensors of the mlp. ``wants`` says whether the gradients of scalars, vectors and
positions and those of the weights are wanted; what is not wanted comes back empty.
"""

import torch
from torch import Tensor

from tito_fast.ops.library import define, implement, implement_fake
from tito_fast.ops.native_call import dense, empty_gradients
from tito_fast.ops.once_differentiable import register_gradient
from tito_fast.ops.readout_step.triton_kernel import (
    BACKWARD,
    CENTER,
    FORWARD,
    readout_center_bwd_kernel,
    readout_center_fwd_kernel,
    readout_rows_bwd_kernel,
    readout_rows_fwd_kernel,
)
from tito_fast.ops.triton_gradients import (
    empty_work,
    first_hidden_gradient,
    mlp_gradients,
    on_device,
    rows_product,
)
from tito_fast.ops.triton_launch import choose_launch
from tito_fast.types import ProductPrecision

define(
    "readout_step_triton(Tensor scalars, Tensor vectors, Tensor positions, Tensor[] weights, "
    "Tensor batch_ptr, float step_size, str precision) -> (Tensor, Tensor)"
)
define(
    "readout_step_triton_backward(Tensor grad_velocity, Tensor grad_stepped, Tensor scalars, "
    "Tensor vectors, Tensor positions, Tensor[] weights, Tensor batch_ptr, float step_size, "
    "str precision, bool[] wants) -> (Tensor, Tensor, Tensor, Tensor[])"
)


def readout_step_triton(
    scalars: Tensor,
    vectors: Tensor,
    positions: Tensor,
    weights: list[Tensor],
    batch_ptr: Tensor,
    step_size: float,
    precision: ProductPrecision,
) -> tuple[Tensor, Tensor]:
    """Call the registered op; arguments as in :func:`tito_fast.ops.readout_step`, checked."""
    pair: tuple[Tensor, Tensor] = torch.ops.tito_fast.readout_step_triton(
        scalars, vectors, positions, weights, batch_ptr, step_size, precision
    )
    return pair


def _forward(
    scalars: Tensor,
    vectors: Tensor,
    positions: Tensor,
    weights: list[Tensor],
    batch_ptr: Tensor,
    step_size: float,
    precision: ProductPrecision,
) -> tuple[Tensor, Tensor]:
    scalars, vectors, positions, batch_ptr = dense(scalars, vectors, positions, batch_ptr)
    weights = dense(*weights)
    velocity, stepped = torch.empty_like(positions), torch.empty_like(positions)
    n_rows, width = scalars.shape
    if n_rows == 0:
        return velocity, stepped
    launch = choose_launch(FORWARD, scalars.device, width, precision)
    with on_device(scalars):
        readout_rows_fwd_kernel[(-(-n_rows // launch.tile["BLOCK"]),)](
            scalars,
            vectors,
            positions,
            *weights,
            velocity,
            n_rows,
            N_FEATURES=width,
            PRECISION=precision,
            **launch.options,
        )
        readout_center_fwd_kernel[(batch_ptr.shape[0] - 1,)](
            velocity, positions, stepped, batch_ptr, n_rows, step_size, **CENTER.options
        )
    return velocity, stepped


def _backward(
    grad_velocity: Tensor,
    grad_stepped: Tensor,
    scalars: Tensor,
    vectors: Tensor,
    positions: Tensor,
    weights: list[Tensor],
    batch_ptr: Tensor,
    step_size: float,
    precision: ProductPrecision,
    wants: list[bool],
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    grad_velocity, grad_stepped, batch_ptr = dense(grad_velocity, grad_stepped, batch_ptr)
    scalars, vectors, weights = *dense(scalars, vectors), dense(*weights)
    of_inputs, of_weights = empty_gradients([scalars, vectors, positions], weights, wants)
    n_rows, width = scalars.shape
    if n_rows == 0:
        return of_inputs[0], of_inputs[1], of_inputs[2], [each.zero_() for each in of_weights]
    grad_readout, grad_positions = torch.empty_like(grad_velocity), torch.empty_like(grad_velocity)
    launch = choose_launch(BACKWARD, scalars.device, width, precision)
    work = empty_work(scalars, n_rows, width, wants=wants[1])
    n_kept = n_rows if wants[1] else 0
    along = scalars.new_empty((n_kept, width))
    gates, grad_gates = scalars.new_empty((n_kept, 1)), scalars.new_empty((n_kept, 1))
    with on_device(scalars):
        readout_center_bwd_kernel[(batch_ptr.shape[0] - 1,)](
            grad_velocity,
            grad_stepped,
            grad_readout,
            grad_positions,
            batch_ptr,
            n_rows,
            step_size,
            **CENTER.options,
        )
        readout_rows_bwd_kernel[(-(-n_rows // launch.tile["BLOCK"]),)](
            grad_readout,
            scalars,
            vectors,
            *weights,
            *of_inputs[:2],
            work,
            along,
            gates,
            grad_gates,
            n_rows,
            N_FEATURES=width,
            WANTS_INPUTS=wants[0],
            WANTS_WEIGHTS=wants[1],
            PRECISION=precision,
            **launch.options,
        )
        if wants[1]:
            first_weight = rows_product(first_hidden_gradient(work), scalars, precision)
            of_weights = [
                rows_product(gates, along, precision),
                *mlp_gradients(work, grad_gates, first_weight, precision),
            ]
    return of_inputs[0], of_inputs[1], grad_positions if wants[0] else of_inputs[2], of_weights


def _fake_readout_step(
    scalars: Tensor,  # noqa: ARG001, the schema's argument
    vectors: Tensor,  # noqa: ARG001
    positions: Tensor,
    weights: list[Tensor],  # noqa: ARG001
    batch_ptr: Tensor,  # noqa: ARG001
    step_size: float,  # noqa: ARG001
    precision: str,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    return positions.new_empty(positions.shape), positions.new_empty(positions.shape)


def _fake_readout_step_backward(
    grad_velocity: Tensor,  # noqa: ARG001, the schema's argument
    grad_stepped: Tensor,  # noqa: ARG001
    scalars: Tensor,
    vectors: Tensor,
    positions: Tensor,
    weights: list[Tensor],
    batch_ptr: Tensor,  # noqa: ARG001
    step_size: float,  # noqa: ARG001
    precision: str,  # noqa: ARG001
    wants: list[bool],
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    of_inputs, of_weights = empty_gradients([scalars, vectors, positions], weights, wants)
    return of_inputs[0], of_inputs[1], of_inputs[2], of_weights


for _device in ("CPU", "CUDA"):
    implement("readout_step_triton", _forward, _device)
    implement("readout_step_triton_backward", _backward, _device)
implement_fake("readout_step_triton", _fake_readout_step)
implement_fake("readout_step_triton_backward", _fake_readout_step_backward)
register_gradient("readout_step_triton", n_inputs=3, n_outputs=2)
