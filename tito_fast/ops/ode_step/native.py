"""C++ and CUDA kernels: ``torch.ops.tito_fast.ode_step``, its backward, ``noisy_`` and ``embedded_ode_step``."""

import torch
from torch import Tensor

from tito_fast.ops.cuda_call import call_cuda, runs_on_cuda
from tito_fast.ops.library import dtype_suffix
from tito_fast.ops.native_call import addresses, cpu_kernel, dense
from tito_fast.ops.ode_step.operator import (
    register_embedded_step,
    register_noisy_step,
    register_step,
)


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


def noisy_ode_step_native(
    positions: Tensor,
    velocities: Tensor,
    weights: list[float],
    step_size: float,
    noise_scale: float,
    keys: Tensor,
    replicas: Tensor,
    rollout_step: int,
    stream_evaluation: int,
    batch_ptr: Tensor,
    center: bool,
) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.noisy_ode_step`, already checked."""
    result: Tensor = torch.ops.tito_fast.noisy_ode_step(
        positions,
        velocities,
        weights,
        step_size,
        noise_scale,
        keys,
        replicas,
        rollout_step,
        stream_evaluation,
        batch_ptr,
        center,
    )
    return result


def embedded_ode_step_native(
    positions: Tensor,
    velocities: Tensor,
    weights: list[float],
    error_weights: list[float],
    step_sizes: Tensor,
    absolute_tolerance: float,
    relative_tolerance: float,
    batch_ptr: Tensor,
    center: bool,
) -> tuple[Tensor, Tensor]:
    """Call the registered op; arguments as in :func:`tito_fast.ops.embedded_ode_step`, already checked."""
    pair: tuple[Tensor, Tensor] = torch.ops.tito_fast.embedded_ode_step(
        positions,
        velocities,
        weights,
        error_weights,
        step_sizes,
        absolute_tolerance,
        relative_tolerance,
        batch_ptr,
        center,
    )
    return pair


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


def _noisy_forward(
    positions: Tensor,
    velocities: Tensor,
    weights: list[float],
    step_size: float,
    noise_scale: float,
    keys: Tensor,
    replicas: Tensor,
    rollout_step: int,
    stream_evaluation: int,
    batch_ptr: Tensor,
    center: bool,
) -> Tensor:
    positions, velocities, batch_ptr = dense(positions, velocities, batch_ptr)
    rows = dense(keys, replicas)
    result = torch.empty_like(positions)
    _call(
        "noisy_ode_step_fwd",
        positions,
        *addresses((positions, velocities, result, batch_ptr)),
        positions.shape[0],
        batch_ptr.shape[0] - 1,
        [step_size * weight for weight in weights],
        noise_scale,
        *addresses(rows),
        rollout_step,
        stream_evaluation,
        center,
    )
    return result


def _embedded_forward(
    positions: Tensor,
    velocities: Tensor,
    weights: list[float],
    error_weights: list[float],
    step_sizes: Tensor,
    absolute_tolerance: float,
    relative_tolerance: float,
    batch_ptr: Tensor,
    center: bool,
) -> tuple[Tensor, Tensor]:
    positions, velocities, batch_ptr, step_sizes = dense(
        positions, velocities, batch_ptr, step_sizes
    )
    result, error = torch.empty_like(positions), torch.empty_like(step_sizes)
    _call(
        "embedded_ode_step_fwd",
        positions,
        *addresses((positions, velocities, result, error, batch_ptr)),
        positions.shape[0],
        batch_ptr.shape[0] - 1,
        weights,
        error_weights,
        step_sizes.data_ptr(),
        absolute_tolerance,
        relative_tolerance,
        center,
    )
    return result, error


register_step("ode_step", _forward, _backward)
register_noisy_step("noisy_ode_step", _noisy_forward, backward="ode_step_backward")
register_embedded_step("embedded_ode_step", _embedded_forward)
