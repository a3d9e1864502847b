"""Checks that the steps share."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tito_fast.validation import check_dtype, check_floating, check_same_device, check_shape

MAX_STAGES = 8


def check_step(
    positions: Tensor, velocities: Tensor, weights: Sequence[float], batch_ptr: Tensor
) -> None:
    """Raise unless shapes, dtypes and devices belong together; the content of ``batch_ptr`` is not read."""
    check_floating("positions", positions)
    check_shape("positions", positions, ("n_atoms", 3))
    check_dtype("velocities", velocities, positions.dtype)
    check_shape("velocities", velocities, ("n_stages", positions.shape[0], 3))
    check_same_device("velocities", velocities, "positions", positions)
    check_dtype("batch_ptr", batch_ptr, torch.int64)
    check_same_device("batch_ptr", batch_ptr, "positions", positions)
    if batch_ptr.ndim != 1 or batch_ptr.numel() == 0:
        raise ValueError(
            f"batch_ptr: expected shape (n_molecules + 1,), got {tuple(batch_ptr.shape)}"
        )
    n_stages = velocities.shape[0]
    if not 1 <= n_stages <= MAX_STAGES:
        raise ValueError(f"velocities: expected 1 to {MAX_STAGES} stages, got {n_stages}")
    check_weights("weights", weights, n_stages)


def check_weights(name: str, weights: Sequence[float], n_stages: int) -> None:
    """Raise ``ValueError`` unless there is a finite number for each stage."""
    if len(weights) != n_stages:
        raise ValueError(
            f"{name}: expected one per stage of velocities ({n_stages}), got {len(weights)}"
        )
    if not all(math.isfinite(weight) for weight in weights):
        raise ValueError(f"{name}: expected finite numbers, got {list(weights)}")


def check_finite(name: str, value: float) -> None:
    """Raise ``ValueError`` unless ``value`` is finite."""
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value}")


def check_per_molecule(name: str, tensor: Tensor, dtype: torch.dtype, batch_ptr: Tensor) -> None:
    """Raise unless ``tensor`` has an element of ``dtype`` for each molecule, on its device."""
    check_dtype(name, tensor, dtype)
    check_shape(name, tensor, (batch_ptr.shape[0] - 1,))
    check_same_device(name, tensor, "batch_ptr", batch_ptr)
