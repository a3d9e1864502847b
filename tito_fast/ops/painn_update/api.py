"""Public function of the op ``painn_update``."""

from typing import NamedTuple

from torch import Tensor

from tito_fast.ops.mlp_parameters import (
    MlpParameters,
    check_mlp_parameters,
    triton_mlp_problem,
)
from tito_fast.ops.painn_update import native
from tito_fast.ops.painn_update.reference import painn_update_reference
from tito_fast.ops.resolve import resolve_backend
from tito_fast.ops.triton_launch import check_product
from tito_fast.types import Backend, ProductPrecision
from tito_fast.validation import (
    check_at_least,
    check_dtype,
    check_floating,
    check_same_device,
    check_shape,
)


class UpdatedFeatures(NamedTuple):
    """Features of the atoms after the update."""

    scalars: Tensor  # (n, F)
    vectors: Tensor  # (n, 3, F)


def painn_update(
    scalars: Tensor,
    vectors: Tensor,
    *,
    u_weight: Tensor | None,
    v_weight: Tensor,
    parameters: MlpParameters,
    backend: Backend = "auto",
    precision: ProductPrecision = "ieee",
) -> UpdatedFeatures:
    """Mix the features of each atom.

    With ``[gates, scale, add] = mlp([|V v|, s])``, the length taken over the three components:
    ``v += gates (U v)``, ``s += |V v|² scale + add``.

    Parameters
    ----------
    scalars
        (n, F) float32 or float64.
    vectors
        (n, 3, F), dtype of ``scalars``.
    u_weight
        (F, F), or None where nobody reads the new vectors: they are then the given ones, and the
        mlp has the outputs ``[scale, add]`` only.
    v_weight
        (F, F).
    parameters
        An mlp from 2F to 3F, or to 2F without ``u_weight``.
    backend
        ``auto``, ``native`` (CPU tensors), ``triton`` (CUDA tensors; 32, 64 or 128 features),
        ``reference`` or ``eager`` (the same as ``reference``).
    precision
        How ``triton`` multiplies; the others take ``ieee`` only.

    Returns
    -------
    UpdatedFeatures
        New tensors; ``vectors`` itself without ``u_weight``.

    Raises
    ------
    ValueError
        A shape or a device is wrong.
    TypeError
        A dtype is wrong.
    BackendUnavailableError
        The named backend cannot run here, or not in ``precision``.

    Notes
    -----
    The gradient of the length of a zero vector is zero. Native: each atom's rows stay in cache from
    the first product to the last; the backward computes the forward again and keeps the inputs only.
    Deterministic, bitwise independent of the number of threads; an atom's result does not depend on
    the other atoms. Differentiable in all tensors, once; the reference any number of times.


    Examples
    --------
    >>> import torch
    >>> from tito_fast.ops import MlpParameters, painn_update
    >>> one, zero = torch.ones(1), torch.zeros(1)
    >>> parameters = MlpParameters(
    ...     torch.ones(1, 2), zero, one, zero, torch.ones(1, 1), zero, one, zero,
    ...     torch.zeros(3, 1), torch.tensor([2.0, 1.0, 0.5]),
    ... )
    >>> new = painn_update(
    ...     torch.tensor([[1.0]]),
    ...     torch.tensor([[[3.0], [0.0], [4.0]]]),
    ...     u_weight=torch.eye(1),
    ...     v_weight=torch.eye(1),
    ...     parameters=parameters,
    ... )
    >>> new.scalars, new.vectors.flatten()
    (tensor([[26.5000]]), tensor([ 9.,  0., 12.]))
    """
    _check(scalars, vectors, u_weight, v_weight, parameters)
    limit = _triton_limit(scalars, parameters)
    chosen = resolve_backend("painn_update", backend, scalars.device, triton_limit=limit)
    check_product(chosen, precision, scalars)
    if chosen == "triton":
        from tito_fast.ops.painn_update.triton_op import (  # noqa: PLC0415  Triton is optional
            painn_update_triton,
        )

        return UpdatedFeatures(
            *painn_update_triton(scalars, vectors, u_weight, v_weight, parameters, precision)
        )
    if chosen == "native":
        return UpdatedFeatures(
            *native.painn_update_native(scalars, vectors, u_weight, v_weight, parameters)
        )
    return UpdatedFeatures(
        *painn_update_reference(scalars, vectors, u_weight, v_weight, parameters)
    )


def _triton_limit(scalars: Tensor, parameters: MlpParameters) -> str:
    n_hidden = parameters.first_weight.shape[0]
    if n_hidden != scalars.shape[1]:
        return (
            f"expected as many hidden features as features, got {n_hidden} and {scalars.shape[1]}"
        )
    return triton_mlp_problem(parameters)


def _check(
    scalars: Tensor,
    vectors: Tensor,
    u_weight: Tensor | None,
    v_weight: Tensor,
    parameters: MlpParameters,
) -> None:
    check_floating("scalars", scalars)
    check_shape("scalars", scalars, ("n", "n_features"))
    n, n_features = scalars.shape
    check_at_least("scalars: n_features", n_features, 1)
    weights = {"v_weight": v_weight} | ({} if u_weight is None else {"u_weight": u_weight})
    for name, tensor in {"vectors": vectors, **weights}.items():
        check_dtype(name, tensor, scalars.dtype)
        check_same_device(name, tensor, "scalars", scalars)
    check_shape("vectors", vectors, (n, 3, n_features))
    for name, tensor in weights.items():
        check_shape(name, tensor, (n_features, n_features))
    check_mlp_parameters(
        parameters,
        n_in=2 * n_features,
        n_out=(2 if u_weight is None else 3) * n_features,
        like=("scalars", scalars),
    )
