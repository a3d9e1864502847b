"""Public function of the op ``embedded_ode_step``."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from tito_fast.ops.ode_step import native
from tito_fast.ops.ode_step.checks import check_per_molecule, check_step, check_weights
from tito_fast.ops.ode_step.reference import embedded_ode_step_reference
from tito_fast.ops.resolve import resolve_backend
from tito_fast.types import Backend
from tito_fast.validation import check_batch_ptr, check_positive


class EmbeddedStep(NamedTuple):
    """A step and the estimate of its error."""

    positions: Tensor
    """(n_atoms, 3), dtype of the positions before."""
    error: Tensor
    """(n_molecules,), of that dtype: at most 1 where the step is within the tolerances."""


def embedded_ode_step(  # noqa: PLR0913, a pair of methods and its tolerances
    positions: Tensor,
    velocities: Tensor,
    *,
    weights: Sequence[float],
    error_weights: Sequence[float],
    step_sizes: Tensor,
    absolute_tolerance: float,
    relative_tolerance: float,
    batch_ptr: Tensor,
    center: bool = True,
    backend: Backend = "auto",
) -> EmbeddedStep:
    """Advance each molecule by a step of its own length, and estimate the error of the step.

    For the atoms of molecule m, with ``h = step_sizes[m]``:
    ``moved = positions + h * sum_k weights[k] * velocities[k]`` and
    ``err = h * sum_k error_weights[k] * velocities[k]``, both less their means over the molecule with
    ``center``. The error is the root mean square of
    ``err / (absolute_tolerance + relative_tolerance * max(|positions|, |moved|))`` over the ``3 n_m``
    components of the molecule; that of a molecule without atoms is 0.

    A step is to be accepted where its error is at most 1. What to do about the others, and the next lengths, is the
    caller's affair; for a pair of orders p and p - 1, ``h * 0.9 * error ** (-1 / p)`` within bounds is usual.

    Parameters
    ----------
    positions
        (n_atoms, 3) float32 or float64, any length unit.
    velocities
        (n_stages, n_atoms, 3), dtype of ``positions``; 1 to 8 stages.
    weights
        n_stages numbers, the row ``b`` of the pair's Butcher tableau that the state follows.
    error_weights
        n_stages numbers, ``b - b_hat``: they sum to 0.
    step_sizes
        (n_molecules,), dtype of ``positions``, in the unit of time that ``velocities`` are per. A molecule with
        0 is only centered, and has the error 0.
    absolute_tolerance
        Above 0, in the unit of ``positions``.
    relative_tolerance
        At least 0.
    batch_ptr
        (n_molecules + 1,) int64, CSR starts of the molecules.
    center
        Subtract each molecule's mean position.
    backend
        ``auto``, ``native``, ``reference`` or ``eager`` (the same as ``reference``); there is no Triton kernel.

    Returns
    -------
    EmbeddedStep
        ``positions`` (n_atoms, 3) and ``error`` (n_molecules,), new tensors.

    Raises
    ------
    ValueError
        A shape or a number is wrong. The content of ``batch_ptr`` is checked on CPU tensors; on CUDA
        tensors that would wait for the device, and rows outside the arrays are left out instead.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        The named backend cannot run here.

    Notes
    -----
    Native: one launch on CUDA; means, the error and its norm in double. Positions are bitwise those of
    :func:`tito_fast.ops.ode_step` with the same step size. No synchronisation; CUDA graphs yes, with
    ``step_sizes`` read at each replay and the rest constants. Deterministic: each molecule is summed in one
    fixed order, independent of the batch and of the number of threads. Not differentiable: results are
    detached.

    References
    ----------
    Hairer, Norsett, Wanner, Solving Ordinary Differential Equations I, II.4, eq. 4.11,
    doi:10.1007/978-3-540-78862-1; for the pair of orders 5 and 4 Dormand and Prince,
    doi:10.1016/0771-050X(80)90013-3.

    Examples
    --------
    >>> import torch
    >>> from tito_fast.ops import embedded_ode_step
    >>> positions, velocities = torch.zeros(2, 3), torch.zeros(2, 2, 3)
    >>> velocities[1, :, 0] = torch.tensor([-2.0, 2.0])
    >>> step = embedded_ode_step(
    ...     positions,
    ...     velocities,
    ...     weights=[0.5, 0.5],
    ...     error_weights=[-0.5, 0.5],
    ...     step_sizes=torch.tensor([0.1]),
    ...     absolute_tolerance=0.1,
    ...     relative_tolerance=0.0,
    ...     batch_ptr=torch.tensor([0, 2]),
    ... )
    >>> step.positions[:, 0], step.error
    (tensor([-0.1000,  0.1000]), tensor([0.5774]))
    """
    check_step(positions, velocities, weights, batch_ptr)
    check_weights("error_weights", error_weights, velocities.shape[0])
    check_per_molecule("step_sizes", step_sizes, positions.dtype, batch_ptr)
    check_positive("absolute_tolerance", absolute_tolerance)
    if not 0 <= relative_tolerance < math.inf:
        raise ValueError(f"relative_tolerance: expected at least 0, got {relative_tolerance}")
    implementation = resolve_backend("embedded_ode_step", backend, positions.device)
    if implementation == "reference" and batch_ptr.device.type == "cpu":
        check_batch_ptr(batch_ptr, positions.shape[0])
    function = (
        native.embedded_ode_step_native
        if implementation == "native"
        else embedded_ode_step_reference
    )
    moved, error = function(
        positions.detach(),
        velocities.detach(),
        [float(weight) for weight in weights],
        [float(weight) for weight in error_weights],
        step_sizes.detach(),
        float(absolute_tolerance),
        float(relative_tolerance),
        batch_ptr,
        center,
    )
    return EmbeddedStep(moved, error)
