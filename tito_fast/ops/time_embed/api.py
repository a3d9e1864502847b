"""Public function of the op ``time_embed``."""

import torch
from torch import Tensor

from tito_fast.ops.mlp_parameters import (
    MlpParameters,
    check_mlp_parameters,
    triton_mlp_problem,
)
from tito_fast.ops.resolve import resolve_backend
from tito_fast.ops.time_embed import native
from tito_fast.ops.time_embed.reference import time_embed_reference
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


def time_embed(
    scalars: Tensor,
    encodings: Tensor,
    batch_ptr: Tensor,
    *,
    parameters: MlpParameters,
    backend: Backend = "auto",
    precision: ProductPrecision = "ieee",
) -> Tensor:
    """Run each atom's scalars, joined with its molecule's encodings, through an mlp.

    ``result_i = mlp([scalars_i, encodings_{molecule(i)}])``

    Parameters
    ----------
    scalars
        (n_atoms, F) float32 or float64.
    encodings
        (n_molecules, m F), dtype of ``scalars``: flow time, temperature, lag, one after the other;
        any width above zero.
    batch_ptr
        (n_molecules + 1,) int64, CSR starts of the molecules.
    parameters
        An mlp from (1 + m) F to any number of outputs.
    backend
        ``auto``, ``native`` (CPU tensors), ``triton`` (CUDA tensors; F and the hidden features both 32, 64
        or 128), ``reference`` or ``eager`` (the same as ``reference``).
    precision
        How ``triton`` multiplies; the others take ``ieee`` only.

    Returns
    -------
    Tensor
        (n_atoms, n_out), a new tensor.

    Raises
    ------
    ValueError
        A shape, a device or, on CPU tensors, the content of ``batch_ptr`` is wrong.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        The named backend cannot run here, or not in ``precision``.

    Notes
    -----
    Triton: one program runs a tile of atoms through all three linears and finds their molecules by
    bisection; gradients of encodings and weights are summed in a fixed order. Native: the first linear
    is split, and what it reads of the encodings is computed once per molecule. The backward computes
    the forward again and keeps the inputs only. Deterministic, bitwise independent of the number of
    threads; an atom's result depends on its own row and its molecule's only. Differentiable in
    ``scalars``, ``encodings`` and ``parameters``, once; the reference any number of times.

    Examples
    --------
    >>> import torch
    >>> from tito_fast.ops import MlpParameters, time_embed
    >>> one, zero = torch.ones(1), torch.zeros(1)
    >>> parameters = MlpParameters(
    ...     torch.ones(1, 2), zero, one, zero, torch.ones(1, 1), zero, one, zero,
    ...     torch.ones(1, 1), one,
    ... )
    >>> time_embed(torch.ones(2, 1), torch.ones(1, 1), torch.tensor([0, 2]), parameters=parameters)
    tensor([[1.],
            [1.]])
    """
    _check(scalars, encodings, batch_ptr, parameters)
    limit = triton_mlp_problem(parameters, n_features=scalars.shape[1])
    chosen = resolve_backend("time_embed", backend, scalars.device, triton_limit=limit)
    check_product(chosen, precision, scalars)
    if chosen == "native":
        return native.time_embed_native(scalars, encodings, batch_ptr, parameters)
    if batch_ptr.device.type == "cpu":
        check_batch_ptr(batch_ptr, scalars.shape[0])
    if chosen == "triton":
        from tito_fast.ops.time_embed.triton_op import time_embed_triton  # noqa: PLC0415  optional

        if encodings.shape[0] == 0 and scalars.shape[0]:
            raise ValueError(
                f"batch_ptr: expected molecules for {scalars.shape[0]} atoms, got none"
            )
        return time_embed_triton(scalars, encodings, batch_ptr, parameters, precision)
    return time_embed_reference(scalars, encodings, batch_ptr, parameters)


def _check(
    scalars: Tensor, encodings: Tensor, batch_ptr: Tensor, parameters: MlpParameters
) -> None:
    check_floating("scalars", scalars)
    check_shape("scalars", scalars, ("n_atoms", "n_features"))
    check_at_least("scalars: n_features", scalars.shape[1], 1)
    check_dtype("batch_ptr", batch_ptr, torch.int64)
    check_same_device("batch_ptr", batch_ptr, "scalars", scalars)
    if batch_ptr.ndim != 1 or batch_ptr.numel() == 0:
        raise ValueError(
            f"batch_ptr: expected shape (n_molecules + 1,), got {tuple(batch_ptr.shape)}"
        )
    check_dtype("encodings", encodings, scalars.dtype)
    check_same_device("encodings", encodings, "scalars", scalars)
    check_shape("encodings", encodings, (batch_ptr.shape[0] - 1, "n_encodings"))
    check_at_least("encodings: n_encodings", encodings.shape[1], 1)
    check_mlp_parameters(
        parameters,
        n_in=scalars.shape[1] + encodings.shape[1],
        n_out=None,
        like=("scalars", scalars),
    )
