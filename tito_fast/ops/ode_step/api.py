"""Public function of the op ``ode_step``."""

from collections.abc import Sequence

from torch import Tensor

from tito_fast.ops.ode_step import native
from tito_fast.ops.ode_step.checks import check_finite, check_step
from tito_fast.ops.ode_step.reference import ode_step_reference
from tito_fast.ops.resolve import resolve_backend
from tito_fast.types import Backend
from tito_fast.validation import check_batch_ptr


def ode_step(
    positions: Tensor,
    velocities: Tensor,
    *,
    weights: Sequence[float],
    step_size: float,
    batch_ptr: Tensor,
    center: bool = True,
    backend: Backend = "auto",
) -> Tensor:
    """Advance positions by a weighted sum of stage velocities and center each molecule.

    ``moved = positions + step_size * sum_k weights[k] * velocities[k]``; with ``center``, the
    result is ``moved_i - mean_{j in molecule(i)} moved_j``.

    Parameters
    ----------
    positions
        (n_atoms, 3) float32 or float64, any length unit.
    velocities
        (n_stages, n_atoms, 3), dtype of ``positions``; 1 to 8 stages.
    weights
        n_stages numbers, the row ``b`` of the solver's Butcher tableau.
    step_size
        Length of the step in the unit of time that ``velocities`` are per.
    batch_ptr
        (n_molecules + 1,) int64, CSR starts of the molecules.
    center
        Subtract each molecule's mean position.
    backend
        ``auto``, ``native``, ``triton``, ``reference`` or ``eager`` (the same as ``reference``).

    Returns
    -------
    Tensor
        (n_atoms, 3), a new tensor.

    Raises
    ------
    ValueError
        A shape, ``batch_ptr``, ``weights`` or ``step_size`` is wrong. The content of ``batch_ptr``
        is checked on CPU tensors; on CUDA tensors that would wait for the device, and rows outside
        the arrays are left out instead.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        The named backend cannot run here.

    Notes
    -----
    Native, Triton: one launch on CUDA, the mean in double, no synchronisation, CUDA graphs yes (step and
    weights are constants of them). Deterministic: each molecule is summed in one fixed order, independent
    of the batch and of the number of threads. Differentiable in ``positions`` and ``velocities``, any
    number of times.

    Examples
    --------
    >>> import torch
    >>> from tito_fast.ops import ode_step
    >>> positions = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    >>> velocities = torch.tensor([[[1.0, 0.0, 0.0], [3.0, 0.0, 0.0]]])
    >>> ode_step(positions, velocities, weights=[1.0], step_size=0.5, batch_ptr=torch.tensor([0, 2]))
    tensor([[-1.5000,  0.0000,  0.0000],
            [ 1.5000,  0.0000,  0.0000]])
    """
    check_step(positions, velocities, weights, batch_ptr)
    check_finite("step_size", step_size)
    implementation = resolve_backend("ode_step", backend, positions.device)
    if implementation == "native":
        return native.ode_step_native(
            positions,
            velocities,
            [float(weight) for weight in weights],
            step_size,
            batch_ptr,
            center,
        )
    if batch_ptr.device.type == "cpu":
        check_batch_ptr(batch_ptr, positions.shape[0])
    if implementation == "triton":
        from tito_fast.ops.ode_step import triton_op  # noqa: PLC0415  optional

        return triton_op.ode_step_triton(
            positions,
            velocities,
            [float(weight) for weight in weights],
            step_size,
            batch_ptr,
            center,
        )
    return ode_step_reference(positions, velocities, weights, step_size, batch_ptr, center)
