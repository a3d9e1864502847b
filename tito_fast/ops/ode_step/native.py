"""C++ and CUDA kernels of ``ode_step`` as ``torch.ops.tito_fast.ode_step`` and its backward."""

import torch
from torch import Tensor

from tito_fast._extension import native_module
from tito_fast.ops.library import dtype_suffix
from tito_fast.ops.ode_step.operator import register_step


def ode_step_native(
    positions: Tensor,
    velocities: Tensor,
    weights: list[float],
    step_size: float,
    batch_ptr: Tensor,
    center: bool,
) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.ode_step`, already checked.

    ``weights`` and ``velocities`` may hold no stage at all; ``positions`` are then only centred.
    """
    result: Tensor = torch.ops.tito_fast.ode_step(
        positions, velocities, weights, step_size, batch_ptr, center
    )
    return result


def _where(tensor: Tensor) -> tuple[int, ...]:
    if tensor.is_cuda:
        stream = torch.cuda.current_stream(tensor.device)
        return (tensor.get_device(), stream.cuda_stream)
    return (torch.get_num_threads(),)


def _forward(
    positions: Tensor,
    velocities: Tensor,
    weights: list[float],
    step_size: float,
    batch_ptr: Tensor,
    center: bool,
) -> Tensor:
    positions, velocities = positions.contiguous(), velocities.contiguous()
    batch_ptr = batch_ptr.contiguous()
    result = torch.empty_like(positions)
    name = f"ode_step_fwd_{positions.device.type}_{dtype_suffix(positions.dtype)}"
    getattr(native_module(), name)(
        positions.data_ptr(),
        velocities.data_ptr(),
        result.data_ptr(),
        batch_ptr.data_ptr(),
        positions.shape[0],
        batch_ptr.shape[0] - 1,
        [step_size * weight for weight in weights],
        center,
        *_where(positions),
    )
    return result


def _backward(
    grad: Tensor, weights: list[float], step_size: float, batch_ptr: Tensor, center: bool
) -> tuple[Tensor, Tensor]:
    grad, batch_ptr = grad.contiguous(), batch_ptr.contiguous()
    grad_positions = torch.empty_like(grad)
    grad_velocities = grad.new_empty((len(weights), *grad.shape))
    name = f"ode_step_bwd_{grad.device.type}_{dtype_suffix(grad.dtype)}"
    getattr(native_module(), name)(
        grad.data_ptr(),
        grad_positions.data_ptr(),
        grad_velocities.data_ptr(),
        batch_ptr.data_ptr(),
        grad.shape[0],
        batch_ptr.shape[0] - 1,
        [step_size * weight for weight in weights],
        center,
        *_where(grad),
    )
    return grad_positions, grad_velocities


register_step("ode_step", _forward, _backward)
