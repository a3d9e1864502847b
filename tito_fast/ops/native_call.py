"""What the native ops with lists of weights share: addresses, wishes, and one derivative only."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tito_fast._extension import native_module
from tito_fast.ops.library import dtype_suffix

NO_ADDRESS = 0
"""What a kernel gets for an array that is not there."""


def cpu_kernel(name: str, dtype: torch.dtype) -> Callable[..., None]:
    """Return the compiled CPU function ``<name>_cpu_<dtype>``."""
    kernel: Callable[..., None] = getattr(native_module(), f"{name}_cpu_{dtype_suffix(dtype)}")
    return kernel


def dense(*tensors: Tensor) -> list[Tensor]:
    """Return the tensors, each contiguous; keep the list until the kernel has read them."""
    return [tensor.contiguous() for tensor in tensors]


def addresses(tensors: Sequence[Tensor]) -> list[int]:
    """Return where the tensors' data start."""
    return [tensor.data_ptr() for tensor in tensors]


def needs_gradient(*tensors: Tensor) -> bool:
    """Return whether autograd wants to hear of an op on these tensors."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def empty_gradients(
    inputs: Sequence[Tensor], weights: Sequence[Tensor], wants: Sequence[bool]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return memory for the gradients of inputs and of weights.

    Parameters
    ----------
    inputs, weights
        Of any shape.
    wants
        Two: are the gradients of inputs, and those of weights, wanted? The former come without
        elements where not, so that their number does not depend on it; the latter do not come.
    """
    of_inputs = [each.new_empty(each.shape if wants[0] else 0) for each in inputs]
    return of_inputs, [each.new_empty(each.shape) for each in weights] if wants[1] else []


def differentiable_once(
    name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
) -> list[Tensor]:
    """Return an op's gradients such that differentiating them says that this is not possible.

    Parameters
    ----------
    name
        The op whose gradients ``outputs`` are.
    inputs
        What the gradients depend on.
    outputs
        The gradients.
    """
    if not outputs or not needs_gradient(*inputs):
        return list(outputs)
    result: tuple[Tensor, ...] = _Once.apply(  # type: ignore[no-untyped-call]
        name, len(outputs), *outputs, *inputs
    )
    return list(result)


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401, torch gives it no type
        name: str,
        n_outputs: int,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.name = name
        return tuple(tensor.view_as(tensor) for tensor in tensors[:n_outputs])

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *grads: Tensor,  # noqa: ARG004, autograd's arguments
    ) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            f"{ctx.name}: expected to be differentiated once, got a second derivative; the kernel "
            f"has none: use backend='reference'"
        )
