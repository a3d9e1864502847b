"""Public function of the op ``center``."""

import torch
from torch import Tensor

from tito_fast.ops.center import native
from tito_fast.ops.center.reference import center_reference
from tito_fast.ops.resolve import resolve_backend
from tito_fast.types import Backend
from tito_fast.validation import (
    check_batch_ptr,
    check_dtype,
    check_floating,
    check_same_device,
    check_shape,
)


def center(positions: Tensor, *, batch_ptr: Tensor, backend: Backend = "auto") -> Tensor:
    """Move each molecule's mean position to the origin.

    ``result_i = positions_i - mean_{j in molecule(i)} positions_j``

    Parameters
    ----------
    positions
        (n_atoms, 3) float32 or float64, any unit.
    batch_ptr
        (n_molecules + 1,) int64, CSR starts of the molecules.
    backend
        ``auto``, ``native``, ``triton``, ``reference`` or ``eager`` (the same as ``reference``).

    Returns
    -------
    Tensor
        (n_atoms, 3), a new tensor.

    Raises
    ------
    ValueError
        A shape or, on CPU tensors, the content of ``batch_ptr`` is wrong.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        The named backend cannot run here.

    Notes
    -----
    Deterministic, and bitwise independent of the other molecules and of the number of threads: each
    molecule is summed in one fixed order. Differentiable in ``positions``. No synchronisation.

    Examples
    --------
    >>> import torch
    >>> from tito_fast.ops import center
    >>> center(torch.tensor([[0.0, 0.0, 0.0], [2.0, 4.0, 6.0]]), batch_ptr=torch.tensor([0, 2]))
    tensor([[-1., -2., -3.],
            [ 1.,  2.,  3.]])
    """
    check_floating("positions", positions)
    check_shape("positions", positions, ("n_atoms", 3))
    check_dtype("batch_ptr", batch_ptr, torch.int64)
    check_same_device("batch_ptr", batch_ptr, "positions", positions)
    if batch_ptr.ndim != 1 or batch_ptr.numel() == 0:
        raise ValueError(
            f"batch_ptr: expected shape (n_molecules + 1,), got {tuple(batch_ptr.shape)}"
        )
    implementation = resolve_backend("center", backend, positions.device)
    if implementation == "native":
        return native.center_native(positions, batch_ptr)
    if batch_ptr.device.type == "cpu":
        check_batch_ptr(batch_ptr, positions.shape[0])
    if implementation == "triton":
        from tito_fast.ops.center import triton_op  # noqa: PLC0415  optional

        return triton_op.center_triton(positions, batch_ptr)
    return center_reference(positions, batch_ptr)
