"""Public function of the op ``readout_step``."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from tito_fast.ops.mlp_parameters import (
    MlpParameters,
    check_mlp_parameters,
    triton_mlp_problem,
)
from tito_fast.ops.readout_step import native
from tito_fast.ops.readout_step.reference import readout_step_reference
from tito_fast.ops.resolve import resolve_backend
from tito_fast.ops.triton_launch import check_product
from tito_fast.types import Backend, ProductPrecision
from tito_fast.validation import (
    check_at_least,
    check_batch_ptr,
    check_dtype,
    check_floating,
    check_same_device,
    check_shape,
)


class SteppedPositions(NamedTuple):
    """A velocity, and the positions after an Euler step along it."""

    velocity: Tensor  # (n_atoms, 3)
    positions: Tensor  # (n_atoms, 3)


def readout_step(  # noqa: PLR0913, the features, the step and how to compute it
    scalars: Tensor,
    vectors: Tensor,
    positions: Tensor,
    *,
    v_weight: Tensor,
    parameters: MlpParameters,
    batch_ptr: Tensor,
    step_size: float,
    backend: Backend = "auto",
    precision: ProductPrecision = "ieee",
) -> SteppedPositions:
    """Read the velocity off the features of the last layer and take an Euler step along it.

    ``velocity = center(positions + mlp(s) (V v))`` and
    ``new positions = center(positions + step_size velocity)``, each molecule by itself.

    Parameters
    ----------
    scalars
        (n_atoms, F) float32 or float64.
    vectors
        (n_atoms, 3, F), dtype of ``scalars``.
    positions
        (n_atoms, 3), dtype of ``scalars``, in the unit of the model.
    v_weight
        (1, F).
    parameters
        An mlp from F to 1: the row of the gate alone where a readout has a scalar output too.
    batch_ptr
        (n_molecules + 1,) int64, CSR starts of the molecules.
    step_size
        Length of the step in flow time.
    backend
        ``auto``, ``native`` (CPU tensors), ``triton`` (CUDA tensors; F and the hidden features both 32, 64
        or 128), ``reference`` or ``eager`` (the same as ``reference``).
    precision
        How ``triton`` multiplies; the others take ``ieee`` only.

    Returns
    -------
    SteppedPositions
        New tensors.

    Raises
    ------
    ValueError
        A shape, a device, ``step_size`` or, on CPU tensors, the content of ``batch_ptr`` is wrong.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        The named backend cannot run here, or not in ``precision``.

    Notes
    -----
    Triton: one launch for tiles of atoms and one that centers molecules, means in double; gradients
    of weights are summed in a fixed order. Native: the centring is that of ``ode_step``, its mean in
    double. The backward computes the forward again and keeps the inputs only. Deterministic, bitwise
    independent of the number of threads; a molecule's result does not depend on the other molecules.
    Differentiable in all floating tensors, once; the reference any number of times.

    Examples
    --------
    >>> import torch
    >>> from tito_fast.ops import MlpParameters, readout_step
    >>> one, zero = torch.ones(1), torch.zeros(1)
    >>> parameters = MlpParameters(
    ...     torch.ones(1, 1), zero, one, zero, torch.ones(1, 1), zero, one, zero,
    ...     torch.zeros(1, 1), 2.0 * one,
    ... )
    >>> step = readout_step(
    ...     torch.ones(2, 1),
    ...     torch.tensor([[[1.0], [0.0], [0.0]], [[-1.0], [0.0], [0.0]]]),
    ...     torch.zeros(2, 3),
    ...     v_weight=torch.ones(1, 1),
    ...     parameters=parameters,
    ...     batch_ptr=torch.tensor([0, 2]),
    ...     step_size=0.5,
    ... )
    >>> step.velocity[0], step.positions[0]
    (tensor([2., 0., 0.]), tensor([1., 0., 0.]))
    """
    _check(scalars, vectors, positions, v_weight, parameters, batch_ptr)
    if not math.isfinite(step_size):
        raise ValueError(f"step_size: expected a finite number, got {step_size}")
    limit = triton_mlp_problem(parameters, n_features=scalars.shape[1])
    chosen = resolve_backend("readout_step", backend, scalars.device, triton_limit=limit)
    check_product(chosen, precision, scalars)
    weights = [v_weight, *parameters]
    if chosen == "native":
        return SteppedPositions(
            *native.readout_step_native(scalars, vectors, positions, weights, batch_ptr, step_size)
        )
    if batch_ptr.device.type == "cpu":
        check_batch_ptr(batch_ptr, positions.shape[0])
    if chosen == "triton":
        from tito_fast.ops.readout_step.triton_op import (  # noqa: PLC0415  optional
            readout_step_triton,
        )

        if batch_ptr.shape[0] == 1 and scalars.shape[0]:
            raise ValueError(
                f"batch_ptr: expected molecules for {scalars.shape[0]} atoms, got none"
            )
        return SteppedPositions(
            *readout_step_triton(
                scalars, vectors, positions, weights, batch_ptr, step_size, precision
            )
        )
    return SteppedPositions(
        *readout_step_reference(
            scalars, vectors, positions, v_weight, parameters, batch_ptr, step_size
        )
    )


def _check(
    scalars: Tensor,
    vectors: Tensor,
    positions: Tensor,
    v_weight: Tensor,
    parameters: MlpParameters,
    batch_ptr: Tensor,
) -> None:
    check_floating("scalars", scalars)
    check_shape("scalars", scalars, ("n_atoms", "n_features"))
    n_atoms, n_features = scalars.shape
    check_at_least("scalars: n_features", n_features, 1)
    others = {"vectors": vectors, "positions": positions, "v_weight": v_weight}
    for name, tensor in others.items():
        check_dtype(name, tensor, scalars.dtype)
        check_same_device(name, tensor, "scalars", scalars)
    check_shape("vectors", vectors, (n_atoms, 3, n_features))
    check_shape("positions", positions, (n_atoms, 3))
    check_shape("v_weight", v_weight, (1, n_features))
    check_mlp_parameters(parameters, n_in=n_features, n_out=1, like=("scalars", scalars))
    check_dtype("batch_ptr", batch_ptr, torch.int64)
    check_same_device("batch_ptr", batch_ptr, "scalars", scalars)
    if batch_ptr.ndim != 1 or batch_ptr.numel() == 0:
        raise ValueError(
            f"batch_ptr: expected shape (n_molecules + 1,), got {tuple(batch_ptr.shape)}"
        )
