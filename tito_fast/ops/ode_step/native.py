"""C++ and CUDA kernels of ``ode_step`` as ``torch.ops.tito_fast.ode_step`` and its backward."""

import torch
from torch import Tensor

from tito_fast.ops.cuda_call import call_cuda, runs_on_cuda
from tito_fast.ops.library import dtype_suffix
from tito_fast.ops.native_call import cpu_kernel
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


def _call(name: str, on: Tensor, *arguments: object) -> None:
    if runs_on_cuda(on):
        call_cuda(f"{name}_cuda_{dtype_suffix(on.dtype)}", on, *arguments)
    else:
        cpu_kernel(name, on.dtype)(*arguments, torch.get_num_threads())


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
    _call(
        "ode_step_fwd",
        positions,
        positions.data_ptr(),
        velocities.data_ptr(),
        result.data_ptr(),
        batch_ptr.data_ptr(),
        positions.shape[0],
        batch_ptr.shape[0] - 1,
        [step_size * weight for weight in weights],
        center,
    )
    return result


def _backward(
    grad: Tensor, weights: list[float], step_size: float, batch_ptr: Tensor, center: bool
) -> tuple[Tensor, Tensor]:
    grad, batch_ptr = grad.contiguous(), batch_ptr.contiguous()
    grad_positions = torch.empty_like(grad)
    grad_velocities = grad.new_empty((len(weights), *grad.shape))
    _call(
        "ode_step_bwd",
        grad,
        grad.data_ptr(),
        grad_positions.data_ptr(),
        grad_velocities.data_ptr(),
        batch_ptr.data_ptr(),
        grad.shape[0],
        batch_ptr.shape[0] - 1,
        [step_size * weight for weight in weights],
        center,
    )
    return grad_positions, grad_velocities


register_step("ode_step", _forward, _backward)
