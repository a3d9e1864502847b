"""The definitions of ``ode_step`` and of the steps with noise and with an error estimate in plain PyTorch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tito_fast.ops.philox_normal import philox_normal
from tito_fast.ops.segments import centered, molecule_sizes


def ode_step_reference(
    positions: Tensor,
    velocities: Tensor,
    weights: Sequence[float],
    step_size: float,
    batch_ptr: Tensor,
    center: bool,
) -> Tensor:
    """Return ``positions + step_size * sum_k weights[k] * velocities[k]``, centred on request.

    Arguments as in :func:`tito_fast.ops.ode_step`, already checked.
    """
    moved = positions + step_size * _weighted_sum(weights, velocities)
    return centered(moved, batch_ptr) if center else moved


def noisy_ode_step_reference(  # noqa: PLR0913, PLR0917, as the public function
    positions: Tensor,
    velocities: Tensor,
    weights: Sequence[float],
    step_size: float,
    noise_scale: float,
    keys: Tensor,
    replicas: Tensor,
    rollout_step: int,
    stream_evaluation: int,
    batch_ptr: Tensor,
    center: bool,
) -> Tensor:
    """Return positions moved by velocities and by ``noise_scale`` times normals, centred on request.

    Arguments as in :func:`tito_fast.ops.noisy_ode_step`, already checked.
    """
    normals = philox_normal(
        keys,
        replicas,
        3 * molecule_sizes(batch_ptr),
        rollout_step=rollout_step,
        stream_evaluation=stream_evaluation,
        n_total=positions.numel(),
        backend="reference",
    )
    moved = positions + step_size * _weighted_sum(weights, velocities)
    moved = moved + noise_scale * normals.view_as(positions).to(positions.dtype)
    return centered(moved, batch_ptr) if center else moved


def embedded_ode_step_reference(  # noqa: PLR0913, PLR0917, as the public function
    positions: Tensor,
    velocities: Tensor,
    weights: Sequence[float],
    error_weights: Sequence[float],
    step_sizes: Tensor,
    absolute_tolerance: float,
    relative_tolerance: float,
    batch_ptr: Tensor,
    center: bool,
) -> tuple[Tensor, Tensor]:
    """Return the positions after each molecule's own step, and the scaled norm of its error.

    Arguments as in :func:`tito_fast.ops.embedded_ode_step`, already checked.
    """
    sizes = molecule_sizes(batch_ptr)
    of_atoms = step_sizes.repeat_interleave(sizes, output_size=positions.shape[0]).unsqueeze(1)
    moved = positions + of_atoms * _weighted_sum(weights, velocities)
    error = of_atoms.double() * _weighted_sum(error_weights, velocities.double())
    if center:
        moved, error = centered(moved, batch_ptr), centered(error, batch_ptr)
    largest = torch.maximum(positions.abs(), moved.abs()).double()
    ratios = error / (absolute_tolerance + relative_tolerance * largest)
    if positions.shape[0] == 0 or sizes.numel() == 0:
        return moved, torch.zeros_like(step_sizes)
    sums = torch.segment_reduce(
        ratios.square().sum(dim=1), "sum", offsets=batch_ptr, axis=0, initial=0.0
    )
    return moved, (sums / (3 * sizes.clamp(min=1))).sqrt().to(positions.dtype)


def _weighted_sum(weights: Sequence[float], velocities: Tensor) -> Tensor:
    total = torch.zeros_like(velocities[0])
    for weight, velocity in zip(weights, velocities, strict=True):
        total = total + weight * velocity
    return total
