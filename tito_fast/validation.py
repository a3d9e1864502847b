"""Checks of arguments. Every message reads ``name: expected …, got …[; what to do]``."""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Not at run time: simulation and data conversion check numbers and words only, and torch takes seconds.
    import torch
    from torch import Tensor


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``choices``."""
    allowed = tuple(choices)
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")


def check_positive(name: str, value: float, *, unit: str = "") -> None:
    """Raise ``ValueError`` unless ``value`` is finite and above zero."""
    if not math.isfinite(value) or value <= 0:
        raise ValueError(
            f"{name}: expected a value above zero, got {value:g}{' ' + unit if unit else ''}"
        )


def check_at_least(name: str, value: int, minimum: int) -> None:
    """Raise ``ValueError`` unless ``value`` is at least ``minimum``."""
    if value < minimum:
        raise ValueError(f"{name}: expected at least {minimum}, got {value}")


def check_shape(name: str, tensor: "Tensor", shape: tuple[int | str, ...]) -> None:
    """Raise ``ValueError`` unless ``tensor`` has ``shape``.

    A string in ``shape`` names a size that may be anything, as in ``("n_atoms", 3)``.
    """
    fits = tensor.ndim == len(shape) and all(
        isinstance(want, str) or have == want
        for have, want in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        wanted = (
            "(" + ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
        )
        raise ValueError(f"{name}: expected shape {wanted}, got {tuple(tensor.shape)}")


def check_dtype(name: str, tensor: "Tensor", *dtypes: "torch.dtype") -> None:
    """Raise ``TypeError`` unless ``tensor`` has one of ``dtypes``."""
    if tensor.dtype not in dtypes:
        wanted = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise TypeError(
            f"{name}: expected dtype {wanted}, got {str(tensor.dtype).removeprefix('torch.')}"
        )


def check_floating(name: str, tensor: "Tensor") -> None:
    """Raise ``TypeError`` unless ``tensor`` is float32 or float64."""
    import torch  # noqa: PLC0415  see above

    check_dtype(name, tensor, torch.float32, torch.float64)


def check_same_device(name: str, tensor: "Tensor", other_name: str, other: "Tensor") -> None:
    """Raise ``ValueError`` unless both tensors are on one device."""
    if tensor.device != other.device:
        raise ValueError(
            f"{name}: expected device {other.device} as {other_name}, got {tensor.device}; move it with .to()"
        )


def check_batch_ptr(batch_ptr: "Tensor", n_atoms: int) -> None:
    """Raise unless ``batch_ptr`` is int64 CSR of ``n_atoms`` atoms: starts at 0, never falls."""
    import torch  # noqa: PLC0415  see above

    check_dtype("batch_ptr", batch_ptr, torch.int64)
    if batch_ptr.ndim != 1 or batch_ptr.numel() == 0:
        raise ValueError(
            f"batch_ptr: expected shape (n_molecules + 1,), got {tuple(batch_ptr.shape)}"
        )
    starts = batch_ptr.tolist()
    if starts[0] != 0 or starts[-1] != n_atoms or any(a > b for a, b in pairwise(starts)):
        raise ValueError(
            f"batch_ptr: expected non-decreasing starts from 0 to n_atoms = {n_atoms}, got {starts[0]} to {starts[-1]}"
        )
