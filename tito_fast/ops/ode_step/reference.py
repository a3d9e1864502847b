"""The definition of ``ode_step`` in plain PyTorch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tito_fast.ops.segments import centered


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
    direction = torch.zeros_like(positions)
    for weight, velocity in zip(weights, velocities, strict=True):
        direction = direction + weight * velocity
    moved = positions + step_size * direction
    return centered(moved, batch_ptr) if center else moved
