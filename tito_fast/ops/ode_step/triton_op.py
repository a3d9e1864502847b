"""Triton kernels of ``ode_step`` as ``torch.ops.tito_fast.ode_step_triton`` and its backward."""

import torch
from torch import Tensor

from tito_fast.ops.native_call import dense
from tito_fast.ops.ode_step.operator import register_step
from tito_fast.ops.ode_step.triton_kernel import (
    MAX_STAGES,
    STEP,
    ode_step_bwd_kernel,
    ode_step_fwd_kernel,
)
from tito_fast.ops.triton_launch import choose_launch


def ode_step_triton(
    positions: Tensor,
    velocities: Tensor,
    weights: list[float],
    step_size: float,
    batch_ptr: Tensor,
    center: bool,
) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.ode_step`, already checked.

    ``weights`` and ``velocities`` may hold no stage at all; ``positions`` are then only centred. The step is a
    constant of a captured graph.
    """
    result: Tensor = torch.ops.tito_fast.ode_step_triton(
        positions, velocities, weights, step_size, batch_ptr, center
    )
    return result


def _coefficients(weights: list[float], step_size: float) -> list[float]:
    return [step_size * weight for weight in weights] + [0.0] * (MAX_STAGES - len(weights))


def _forward(
    positions: Tensor,
    velocities: Tensor,
    weights: list[float],
    step_size: float,
    batch_ptr: Tensor,
    center: bool,
) -> Tensor:
    positions, velocities, batch_ptr = dense(positions, velocities, batch_ptr)
    result = torch.empty_like(positions)
    n_atoms, n_molecules = positions.shape[0], batch_ptr.shape[0] - 1
    if n_atoms and n_molecules:
        ode_step_fwd_kernel[n_molecules,](
            positions,
            velocities,
            result,
            batch_ptr,
            n_atoms,
            *_coefficients(weights, step_size),
            N_STAGES=len(weights),
            CENTERS=center,
            **choose_launch(STEP, positions.device, 3, "ieee").options,
        )
    return result


def _backward(
    grad: Tensor, weights: list[float], step_size: float, batch_ptr: Tensor, center: bool
) -> tuple[Tensor, Tensor]:
    grad, batch_ptr = dense(grad, batch_ptr)
    grad_positions = torch.empty_like(grad)
    grad_velocities = grad.new_empty((len(weights), *grad.shape))
    n_atoms, n_molecules = grad.shape[0], batch_ptr.shape[0] - 1
    if n_atoms and n_molecules:
        ode_step_bwd_kernel[n_molecules,](
            grad,
            grad_positions,
            grad_velocities,
            batch_ptr,
            n_atoms,
            *_coefficients(weights, step_size),
            N_STAGES=len(weights),
            CENTERS=center,
            **choose_launch(STEP, grad.device, 3, "ieee").options,
        )
    return grad_positions, grad_velocities


register_step("ode_step_triton", _forward, _backward)
