"""Autograd of registered ops that have one derivative: inputs, a list of weights, and the rest."""

from typing import Any

import torch
from torch import Tensor

from tito_fast.ops.library import implement
from tito_fast.ops.native_call import differentiable_once, needs_gradient


def register_gradient(name: str, *, n_inputs: int, n_outputs: int) -> None:
    """Register the autograd of ``tito_fast::<name>`` and of ``tito_fast::<name>_backward``.

    Parameters
    ----------
    name
        An op with the arguments: ``n_inputs`` tensors, a list of weights, then any others, which get no
        gradient. Its backward takes the gradients of the outputs, the same arguments, and ``bool[] wants``
        (are the gradients of inputs wanted, and those of weights), and returns the gradients of the inputs
        and a list of those of the weights; what is not wanted comes back empty.
    n_inputs
        Tensors before the list of weights.
    n_outputs
        Tensors that the op returns; a single one is no tuple.
    """

    def forward(*args: Any) -> Any:  # noqa: ANN401, whatever the op takes and returns
        inputs, weights, others = args[:n_inputs], args[n_inputs], args[n_inputs + 1 :]
        if needs_gradient(*inputs, *weights):
            return _Op.apply(  # type: ignore[no-untyped-call]
                name, others, n_inputs, n_outputs, *inputs, *weights
            )
        return _below_autograd(name, args)

    def backward(*args: Any) -> Any:  # noqa: ANN401
        *grad_inputs, grad_weights = _below_autograd(f"{name}_backward", args)
        n_tensors = n_outputs + n_inputs
        first = differentiable_once(
            name.removesuffix("_triton"),
            [*args[:n_tensors], *args[n_tensors]],
            [*grad_inputs, *grad_weights],
        )
        return *first[:n_inputs], first[n_inputs:]

    implement(name, forward, "Autograd")
    implement(f"{name}_backward", backward, "Autograd")


def _below_autograd(name: str, args: tuple[Any, ...]) -> Any:  # noqa: ANN401
    with torch._C._AutoDispatchBelowAutograd():
        return getattr(torch.ops.tito_fast, name)(*args)


class _Op(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401, torch gives it no type
        name: str,
        others: tuple[Any, ...],
        n_inputs: int,
        n_outputs: int,
        *tensors: Tensor,
    ) -> Any:  # noqa: ANN401
        is_tensor = [isinstance(other, Tensor) for other in others]
        held = [other for other, yes in zip(others, is_tensor, strict=True) if yes]
        ctx.save_for_backward(*held, *tensors)
        ctx.n_held, ctx.name, ctx.n_inputs, ctx.n_outputs = len(held), name, n_inputs, n_outputs
        ctx.others = [None if yes else other for other, yes in zip(others, is_tensor, strict=True)]
        ctx.is_tensor = is_tensor
        return _below_autograd(name, (*tensors[:n_inputs], list(tensors[n_inputs:]), *others))

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *grads: Tensor,
    ) -> tuple[Tensor | None, ...]:
        held = iter(ctx.saved_tensors[: ctx.n_held])
        tensors = ctx.saved_tensors[ctx.n_held :]
        others = [
            next(held) if yes else other
            for other, yes in zip(ctx.others, ctx.is_tensor, strict=True)
        ]
        inputs, weights = tensors[: ctx.n_inputs], list(tensors[ctx.n_inputs :])
        needed = ctx.needs_input_grad[4:]
        wants = [any(needed[: ctx.n_inputs]), any(needed[ctx.n_inputs :])]
        *grad_inputs, grad_weights = getattr(torch.ops.tito_fast, f"{ctx.name}_backward")(
            *grads, *inputs, weights, *others, wants
        )
        return (
            *[None] * 4,
            *(grad_inputs if wants[0] else [None] * ctx.n_inputs),
            *(grad_weights if wants[1] else [None] * len(weights)),
        )
