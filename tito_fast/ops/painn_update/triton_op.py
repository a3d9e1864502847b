"""Triton kernels of ``painn_update`` as ``torch.ops.tito_fast.painn_update_triton`` and its backward.

``weights`` are U, V and the ten tensors of the mlp, or V and the ten: the op then returns an empty
tensor in place of the vectors, which stay as they are.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tito_fast.ops.library import define, implement, implement_fake
from tito_fast.ops.mlp_parameters import MlpParameters
from tito_fast.ops.native_call import dense, empty_gradients
from tito_fast.ops.once_differentiable import register_gradient
from tito_fast.ops.painn_update.triton_kernel import (
    BACKWARD,
    FORWARD,
    painn_update_bwd_kernel,
    painn_update_fwd_kernel,
)
from tito_fast.ops.triton_gradients import (
    empty_work,
    first_hidden_gradient,
    mlp_gradients,
    on_device,
    rows_product,
)
from tito_fast.ops.triton_launch import choose_launch
from tito_fast.types import ProductPrecision

define(
    "painn_update_triton(Tensor scalars, Tensor vectors, Tensor[] weights, str precision) "
    "-> (Tensor, Tensor)"
)
define(
    "painn_update_triton_backward(Tensor grad_scalars, Tensor grad_vectors, Tensor scalars, "
    "Tensor vectors, Tensor[] weights, str precision, bool[] wants) -> (Tensor, Tensor, Tensor[])"
)

_N_MLP = len(MlpParameters._fields)
_N_COMPONENTS = 3


def painn_update_triton(
    scalars: Tensor,
    vectors: Tensor,
    u_weight: Tensor | None,
    v_weight: Tensor,
    parameters: Sequence[Tensor],
    precision: ProductPrecision,
) -> tuple[Tensor, Tensor]:
    """Call the registered op; arguments as in :func:`tito_fast.ops.painn_update`, checked."""
    of_vectors = [v_weight] if u_weight is None else [u_weight, v_weight]
    new_scalars, new_vectors = torch.ops.tito_fast.painn_update_triton(
        scalars, vectors, [*of_vectors, *parameters], precision
    )
    return new_scalars, vectors if u_weight is None else new_vectors


def _has_u(weights: list[Tensor]) -> bool:
    return len(weights) == _N_MLP + 2


def _with_u(weights: list[Tensor]) -> list[Tensor]:
    """Return U, V and the rest; V stands in for a U that nobody reads."""
    return weights if _has_u(weights) else [weights[0], *weights]


def _forward(
    scalars: Tensor, vectors: Tensor, weights: list[Tensor], precision: ProductPrecision
) -> tuple[Tensor, Tensor]:
    scalars, vectors = dense(scalars, vectors)
    weights = dense(*weights)
    new_scalars, new_vectors = _fake_update(scalars, vectors, weights, precision)
    n_rows, width = scalars.shape
    if n_rows == 0:
        return new_scalars, new_vectors
    launch = choose_launch(FORWARD, scalars.device, width, precision)
    with on_device(scalars):
        painn_update_fwd_kernel[(-(-n_rows // launch.tile["BLOCK"]),)](
            scalars,
            vectors,
            *_with_u(weights),
            new_scalars,
            new_vectors,
            n_rows,
            _N_COMPONENTS,
            HAS_U=_has_u(weights),
            N_FEATURES=width,
            PRECISION=precision,
            **launch.options,
        )
    return new_scalars, new_vectors


def _backward(
    grad_scalars: Tensor,
    grad_vectors: Tensor,
    scalars: Tensor,
    vectors: Tensor,
    weights: list[Tensor],
    precision: ProductPrecision,
    wants: list[bool],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    grads, inputs = dense(grad_scalars, grad_vectors), dense(scalars, vectors)
    weights = dense(*weights)
    has_u, (n_rows, width) = _has_u(weights), scalars.shape
    d_scalars, d_vectors = (torch.empty_like(each) for each in inputs)
    length = scalars.new_empty((n_rows, width))
    d_mixed = scalars.new_empty((2 if has_u else 1, n_rows, 3, width))
    d_outputs = scalars.new_empty((n_rows, (3 if has_u else 2) * width))
    work = empty_work(scalars, n_rows, width, wants=True)
    if n_rows:
        launch = choose_launch(BACKWARD, scalars.device, width, precision)
        with on_device(scalars):
            painn_update_bwd_kernel[(-(-n_rows // launch.tile["BLOCK"]),)](
                *grads,
                *inputs,
                *_with_u(weights),
                d_scalars,
                d_vectors,
                length,
                d_mixed,
                d_outputs,
                work,
                n_rows,
                _N_COMPONENTS,
                HAS_U=has_u,
                N_FEATURES=width,
                PRECISION=precision,
                **launch.options,
            )
    (none, _), _ = empty_gradients(inputs, [], [False, False])
    if not wants[0]:
        d_scalars, d_vectors = none, none.clone()
    if not wants[1]:
        return d_scalars, d_vectors, []
    with on_device(scalars):
        d_hidden = first_hidden_gradient(work)
        of_length, of_scalars = (
            rows_product(d_hidden, each, precision) for each in (length, inputs[0])
        )
        rows = inputs[1].view(-1, width)
        of_v, *of_u = (rows_product(each.view(-1, width), rows, precision) for each in d_mixed)
        first_weight = torch.cat([of_length, of_scalars], dim=1)
        of_mlp = mlp_gradients(work, d_outputs, first_weight, precision)
    return d_scalars, d_vectors, [*of_u, of_v, *of_mlp]


def _fake_update(
    scalars: Tensor,
    vectors: Tensor,
    weights: list[Tensor],
    precision: str,  # noqa: ARG001, the schema's argument
) -> tuple[Tensor, Tensor]:
    return (
        scalars.new_empty(scalars.shape),
        vectors.new_empty(vectors.shape if _has_u(weights) else 0),
    )


def _fake_backward(
    grad_scalars: Tensor,  # noqa: ARG001, the schema's argument
    grad_vectors: Tensor,  # noqa: ARG001
    scalars: Tensor,
    vectors: Tensor,
    weights: list[Tensor],
    precision: str,  # noqa: ARG001
    wants: list[bool],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    grad_inputs, grad_weights = empty_gradients([scalars, vectors], weights, wants)
    return grad_inputs[0], grad_inputs[1], grad_weights


for _device in ("CPU", "CUDA"):
    implement("painn_update_triton", _forward, _device)
    implement("painn_update_triton_backward", _backward, _device)
implement_fake("painn_update_triton", _fake_update)
implement_fake("painn_update_triton_backward", _fake_backward)
register_gradient("painn_update_triton", n_inputs=2, n_outputs=2)
