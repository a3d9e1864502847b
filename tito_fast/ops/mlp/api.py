"""Public function of the op ``mlp``."""

from torch import Tensor

from tito_fast.ops.mlp import native
from tito_fast.ops.mlp_parameters import (
    MlpParameters,
    check_mlp_parameters,
    mlp_reference,
    triton_mlp_problem,
)
from tito_fast.ops.resolve import resolve_backend
from tito_fast.ops.triton_launch import check_product
from tito_fast.types import Backend, ProductPrecision
from tito_fast.validation import check_floating, check_shape


def mlp(
    inputs: Tensor,
    parameters: MlpParameters,
    *,
    backend: Backend = "auto",
    precision: ProductPrecision = "ieee",
) -> Tensor:
    """Run rows of features through linear, LayerNorm, SiLU, linear, LayerNorm, SiLU, linear.

    Parameters
    ----------
    inputs
        (n, n_in) float32 or float64.
    parameters
        Ten tensors of the dtype of ``inputs``; any n_in, n_hidden, n_out above zero.
    backend
        ``auto``, ``native`` (CPU tensors), ``triton`` (CUDA tensors; 32, 64 or 128 hidden features, a
        multiple of them as inputs), ``reference`` or ``eager`` (the same as ``reference``).
    precision
        How ``triton`` multiplies; the others take ``ieee`` only.

    Returns
    -------
    Tensor
        (n, n_out), a new tensor.

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
    Triton: one program runs a tile of rows through all three linears; gradients of weights are
    summed over rows in a fixed order. Native: the mean that LayerNorm subtracts is taken out of the
    weights before it, and rows stay in cache from the first linear to the last;
    2 (n_in n_hidden + n_hidden² + n_hidden n_out) floating point operations a row, three times that
    backward. Weights are packed at every call. The backward
    computes the forward again and keeps the inputs only. Deterministic, bitwise independent of the
    number of threads; a row's result does not depend on the other rows. Differentiable in ``inputs``
    and ``parameters``, once; the reference any number of times.

    Examples
    --------
    >>> import torch
    >>> from tito_fast.ops import MlpParameters, mlp
    >>> one, zero = torch.ones(2), torch.zeros(2)
    >>> parameters = MlpParameters(
    ...     torch.eye(2), zero, one, zero, torch.eye(2), zero, one, zero, torch.ones(1, 2), one[:1]
    ... )
    >>> mlp(torch.tensor([[3.0, -3.0]]), parameters)
    tensor([[1.4621]])
    """
    check_floating("inputs", inputs)
    check_shape("inputs", inputs, ("n", "n_in"))
    check_mlp_parameters(parameters, n_in=inputs.shape[1], n_out=None, like=("inputs", inputs))
    limit = triton_mlp_problem(parameters)
    chosen = resolve_backend("mlp", backend, inputs.device, triton_limit=limit)
    check_product(chosen, precision, inputs)
    if chosen == "triton":
        from tito_fast.ops.mlp.triton_op import mlp_triton  # noqa: PLC0415  Triton is optional

        return mlp_triton(inputs, parameters, precision)
    if chosen == "native":
        return native.mlp_native(inputs, parameters)
    return mlp_reference(inputs, parameters)
