"""The one tolerance rule for every kernel."""

from dataclasses import dataclass

import torch
from torch import Tensor

# Floor of the rule, in units of the reference's largest element.
_FLOOR = {torch.float64: 1e-14}
_DEFAULT_FLOOR = 1e-7


@dataclass(frozen=True, kw_only=True)
class ErrorReport:
    """Absolute errors against a float64 reference, and what was allowed."""

    kernel_error: float
    plain_error: float
    scale: float
    allowed: float


def check_against_reference(
    kernel: Tensor, plain: Tensor, reference64: Tensor, *, name: str = "kernel"
) -> ErrorReport:
    """Raise unless a kernel is as accurate as plain PyTorch of the same dtype.

    ``max|kernel - reference64| <= 2 max|plain - reference64| + floor * max|reference64|`` with floor
    1e-7, or 1e-14 where the kernel is float64.

    Parameters
    ----------
    kernel
        What the kernel computed, any shape.
    plain
        The same in plain PyTorch, of the kernel's shape and dtype.
    reference64
        The same in float64 from the float64 values of the same inputs.
    name
        What the message calls the kernel.

    Returns
    -------
    ErrorReport
        The errors found.

    Raises
    ------
    AssertionError
        The kernel is less accurate, or not finite where the reference is.
    ValueError
        The shapes or dtypes do not belong together.
    """
    return check_draws_against_reference(kernel[None], plain[None], reference64[None], name=name)


def check_draws_against_reference(
    kernel: Tensor, plain: Tensor, reference64: Tensor, *, name: str = "kernel"
) -> ErrorReport:
    """Hold a kernel to the rule over several draws of its inputs.

    The error is the root mean square over draws of a draw's largest error. The largest error of a
    single draw is a matter of luck in both codes (a LayerNorm of nearly equal features, a sum in
    another order); so is the largest of all draws, but not their mean square.

    Parameters
    ----------
    kernel, plain, reference64
        As for `check_against_reference`, shape (n_draws, ...).
    name
        What the message calls the kernel.

    Returns
    -------
    ErrorReport
        The errors found.

    Raises
    ------
    AssertionError
        The kernel is less accurate, or not finite where the reference is.
    ValueError
        The shapes or dtypes do not belong together.
    """
    if reference64.dtype != torch.float64:
        raise ValueError(f"reference64: expected dtype float64, got {reference64.dtype}")
    if not kernel.shape == plain.shape == reference64.shape:
        raise ValueError(
            f"kernel: expected one shape of all three, got {tuple(kernel.shape)}, "
            f"{tuple(plain.shape)}, {tuple(reference64.shape)}"
        )
    if kernel.dtype != plain.dtype:
        raise ValueError(f"plain: expected dtype {kernel.dtype} as kernel, got {plain.dtype}")
    if kernel.numel() == 0:
        return ErrorReport(kernel_error=0.0, plain_error=0.0, scale=0.0, allowed=0.0)
    exact = reference64.detach().cpu().flatten(1)
    scale = float(exact.abs().max())

    def error(found: Tensor) -> float:
        difference = found.detach().cpu().to(torch.float64).flatten(1) - exact
        return float(difference.abs().amax(1).square().mean().sqrt())

    kernel_error, plain_error = error(kernel), error(plain)
    allowed = 2.0 * plain_error + _FLOOR.get(kernel.dtype, _DEFAULT_FLOOR) * scale
    # Written so that a NaN on either side fails.
    if not kernel_error <= allowed:
        raise AssertionError(
            f"{name}: expected an error of at most {allowed:.3g} (plain PyTorch has "
            f"{plain_error:.3g}, scale {scale:.3g}), got {kernel_error:.3g}"
        )
    return ErrorReport(
        kernel_error=kernel_error, plain_error=plain_error, scale=scale, allowed=allowed
    )
