"""C++ kernel of ``painn_update`` as ``torch.ops.tito_fast.painn_update`` and its backward.

``weights`` are U, V and the ten tensors of the mlp, or V and the ten: the op then returns an empty
tensor in place of the vectors, which stay as they are. ``wants`` says whether the gradients of the
inputs and of the weights are wanted; what is not wanted comes back empty.
"""

from typing import Any

import torch
from torch import Tensor

from tito_fast.ops.library import define, implement, implement_fake
from tito_fast.ops.mlp_parameters import MlpParameters
from tito_fast.ops.native_call import (
    NO_ADDRESS,
    addresses,
    cpu_kernel,
    dense,
    differentiable_once,
    empty_gradients,
    needs_gradient,
)

define("painn_update(Tensor scalars, Tensor vectors, Tensor[] weights) -> (Tensor, Tensor)")
define(
    "painn_update_backward(Tensor grad_scalars, Tensor grad_vectors, Tensor scalars, "
    "Tensor vectors, Tensor[] weights, bool[] wants) -> (Tensor, Tensor, Tensor[])"
)

_N_MLP = len(MlpParameters._fields)


def painn_update_native(
    scalars: Tensor,
    vectors: Tensor,
    u_weight: Tensor | None,
    v_weight: Tensor,
    parameters: MlpParameters,
) -> tuple[Tensor, Tensor]:
    """Call the registered op; arguments as in :func:`tito_fast.ops.painn_update`, checked."""
    of_vectors = [v_weight] if u_weight is None else [u_weight, v_weight]
    new_scalars, new_vectors = torch.ops.tito_fast.painn_update(
        scalars, vectors, [*of_vectors, *parameters]
    )
    return new_scalars, vectors if u_weight is None else new_vectors


def _has_vectors(weights: list[Tensor]) -> bool:
    return len(weights) == _N_MLP + 2


def _addresses(weights: list[Tensor]) -> list[int]:
    """Return the addresses of U, V and the mlp's tensors; none of no weights."""
    without_u = [NO_ADDRESS] if len(weights) == _N_MLP + 1 else []
    return without_u + addresses(weights)


def _forward(scalars: Tensor, vectors: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    scalars, vectors = dense(scalars, vectors)
    weights = dense(*weights)
    new_scalars, new_vectors = _fake_painn_update(scalars, vectors, weights)
    cpu_kernel("painn_update_fwd", scalars.dtype)(
        scalars.data_ptr(),
        vectors.data_ptr(),
        _addresses(weights),
        scalars.shape[1],
        weights[-_N_MLP].shape[0],
        new_scalars.data_ptr(),
        new_vectors.data_ptr(),
        scalars.shape[0],
        torch.get_num_threads(),
    )
    return new_scalars, new_vectors


def _backward(
    grad_scalars: Tensor,
    grad_vectors: Tensor,
    scalars: Tensor,
    vectors: Tensor,
    weights: list[Tensor],
    wants: list[bool],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    grads, inputs = dense(grad_scalars, grad_vectors), dense(scalars, vectors)
    weights = dense(*weights)
    grad_inputs, grad_weights = empty_gradients(inputs, weights, wants)
    cpu_kernel("painn_update_bwd", scalars.dtype)(
        addresses(inputs),
        _addresses(weights),
        scalars.shape[1],
        weights[-_N_MLP].shape[0],
        addresses(grads),
        addresses(grad_inputs) if wants[0] else [NO_ADDRESS, NO_ADDRESS],
        _addresses(grad_weights),
        scalars.shape[0],
        torch.get_num_threads(),
    )
    return grad_inputs[0], grad_inputs[1], grad_weights


def _fake_painn_update(
    scalars: Tensor, vectors: Tensor, weights: list[Tensor]
) -> tuple[Tensor, Tensor]:
    return (
        scalars.new_empty(scalars.shape),
        vectors.new_empty(vectors.shape if _has_vectors(weights) else 0),
    )


def _fake_painn_update_backward(
    grad_scalars: Tensor,  # noqa: ARG001, the schema's argument
    grad_vectors: Tensor,  # noqa: ARG001
    scalars: Tensor,
    vectors: Tensor,
    weights: list[Tensor],
    wants: list[bool],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    grad_inputs, grad_weights = empty_gradients([scalars, vectors], weights, wants)
    return grad_inputs[0], grad_inputs[1], grad_weights


implement("painn_update", _forward, "CPU")
implement("painn_update_backward", _backward, "CPU")
implement_fake("painn_update", _fake_painn_update)
implement_fake("painn_update_backward", _fake_painn_update_backward)


class _Update(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        scalars: Tensor,
        vectors: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(scalars, vectors, *weights)
        with torch._C._AutoDispatchBelowAutograd():
            new_scalars, new_vectors = torch.ops.tito_fast.painn_update(
                scalars, vectors, list(weights)
            )
        if not _has_vectors(list(weights)):
            ctx.mark_non_differentiable(new_vectors)
        return new_scalars, new_vectors

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_scalars: Tensor,
        grad_vectors: Tensor,
    ) -> tuple[Tensor | None, ...]:
        scalars, vectors, *weights = ctx.saved_tensors
        wants = [any(ctx.needs_input_grad[:2]), any(ctx.needs_input_grad[2:])]
        *grad_inputs, grad_weights = torch.ops.tito_fast.painn_update_backward(
            grad_scalars, grad_vectors, scalars, vectors, weights, wants
        )
        return (
            *(grad_inputs if wants[0] else [None, None]),
            *(grad_weights if wants[1] else [None] * len(weights)),
        )


def _autograd_forward(
    scalars: Tensor, vectors: Tensor, weights: list[Tensor]
) -> tuple[Tensor, Tensor]:
    pair: tuple[Tensor, Tensor]
    if needs_gradient(scalars, vectors, *weights):
        pair = _Update.apply(scalars, vectors, *weights)  # type: ignore[no-untyped-call]
        return pair
    with torch._C._AutoDispatchBelowAutograd():
        pair = torch.ops.tito_fast.painn_update(scalars, vectors, weights)
    return pair


def _autograd_backward(
    grad_scalars: Tensor,
    grad_vectors: Tensor,
    scalars: Tensor,
    vectors: Tensor,
    weights: list[Tensor],
    wants: list[bool],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    with torch._C._AutoDispatchBelowAutograd():
        *grad_inputs, grad_weights = torch.ops.tito_fast.painn_update_backward(
            grad_scalars, grad_vectors, scalars, vectors, weights, wants
        )
    inputs = [grad_scalars, grad_vectors, scalars, vectors, *weights]
    first, second, *rest = differentiable_once(
        "painn_update", inputs, [*grad_inputs, *grad_weights]
    )
    return first, second, rest


implement("painn_update", _autograd_forward, "Autograd")
implement("painn_update_backward", _autograd_backward, "Autograd")
