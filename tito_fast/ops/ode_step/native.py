"""C++ and CUDA kernels of ``ode_step`` as ``torch.ops.tito_fast.ode_step`` and its backward.

The backward is an op of its own. With P the centring, the step is P (x + sum_k h w_k v_k), so a
gradient g gives P g for x and h w_k P g for v_k; that map is linear in g, and its own gradient is an
``ode_step`` again.
"""

from typing import Any

import torch
from torch import Tensor

from tito_fast._extension import native_module
from tito_fast.ops.library import define, dtype_suffix, implement, implement_fake

define(
    "ode_step(Tensor positions, Tensor velocities, float[] weights, float step_size, "
    "Tensor batch_ptr, bool center) -> Tensor"
)
define(
    "ode_step_backward(Tensor grad, float[] weights, float step_size, Tensor batch_ptr, "
    "bool center) -> (Tensor, Tensor)"
)


def ode_step_native(
    positions: Tensor,
    velocities: Tensor,
    weights: list[float],
    step_size: float,
    batch_ptr: Tensor,
    center: bool,
) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.ode_step`, already checked.

    ``weights`` and ``velocities`` may hold no stage at all; ``positions`` are then only centred.
    """
    result: Tensor = torch.ops.tito_fast.ode_step(
        positions, velocities, weights, step_size, batch_ptr, center
    )
    return result


def _where(tensor: Tensor) -> tuple[int, ...]:
    if tensor.is_cuda:
        stream = torch.cuda.current_stream(tensor.device)
        return (tensor.get_device(), stream.cuda_stream)
    return (torch.get_num_threads(),)


def _forward(
    positions: Tensor,
    velocities: Tensor,
    weights: list[float],
    step_size: float,
    batch_ptr: Tensor,
    center: bool,
) -> Tensor:
    positions, velocities = positions.contiguous(), velocities.contiguous()
    batch_ptr = batch_ptr.contiguous()
    result = torch.empty_like(positions)
    name = f"ode_step_fwd_{positions.device.type}_{dtype_suffix(positions.dtype)}"
    getattr(native_module(), name)(
        positions.data_ptr(),
        velocities.data_ptr(),
        result.data_ptr(),
        batch_ptr.data_ptr(),
        positions.shape[0],
        batch_ptr.shape[0] - 1,
        [step_size * weight for weight in weights],
        center,
        *_where(positions),
    )
    return result


def _backward(
    grad: Tensor, weights: list[float], step_size: float, batch_ptr: Tensor, center: bool
) -> tuple[Tensor, Tensor]:
    grad, batch_ptr = grad.contiguous(), batch_ptr.contiguous()
    grad_positions = torch.empty_like(grad)
    grad_velocities = grad.new_empty((len(weights), *grad.shape))
    name = f"ode_step_bwd_{grad.device.type}_{dtype_suffix(grad.dtype)}"
    getattr(native_module(), name)(
        grad.data_ptr(),
        grad_positions.data_ptr(),
        grad_velocities.data_ptr(),
        batch_ptr.data_ptr(),
        grad.shape[0],
        batch_ptr.shape[0] - 1,
        [step_size * weight for weight in weights],
        center,
        *_where(grad),
    )
    return grad_positions, grad_velocities


for _device in ("CPU", "CUDA"):
    implement("ode_step", _forward, _device)
    implement("ode_step_backward", _backward, _device)


def _fake_ode_step(
    positions: Tensor,
    velocities: Tensor,  # noqa: ARG001, the schema's argument
    weights: list[float],  # noqa: ARG001
    step_size: float,  # noqa: ARG001
    batch_ptr: Tensor,  # noqa: ARG001
    center: bool,  # noqa: ARG001
) -> Tensor:
    return torch.empty_like(positions, memory_format=torch.contiguous_format)


implement_fake("ode_step", _fake_ode_step)


def _fake_ode_step_backward(
    grad: Tensor,
    weights: list[float],
    step_size: float,  # noqa: ARG001
    batch_ptr: Tensor,  # noqa: ARG001
    center: bool,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(grad, memory_format=torch.contiguous_format),
        grad.new_empty((len(weights), *grad.shape)),
    )


implement_fake("ode_step_backward", _fake_ode_step_backward)


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        positions: Tensor,
        velocities: Tensor,
        weights: list[float],
        step_size: float,
        batch_ptr: Tensor,
        center: bool,
    ) -> Tensor:
        ctx.save_for_backward(batch_ptr)
        ctx.step = (weights, step_size, center)
        with torch._C._AutoDispatchBelowAutograd():
            return ode_step_native(positions, velocities, weights, step_size, batch_ptr, center)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[Tensor | None, ...]:
        (batch_ptr,) = ctx.saved_tensors
        weights, step_size, center = ctx.step
        grad_positions, grad_velocities = torch.ops.tito_fast.ode_step_backward(
            grad, weights, step_size, batch_ptr, center
        )
        return grad_positions, grad_velocities, None, None, None, None


class _StepBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
        weights: list[float],
        step_size: float,
        batch_ptr: Tensor,
        center: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(batch_ptr)
        ctx.step = (weights, step_size, center)
        with torch._C._AutoDispatchBelowAutograd():
            pair: tuple[Tensor, Tensor] = torch.ops.tito_fast.ode_step_backward(
                grad, weights, step_size, batch_ptr, center
            )
            return pair

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_positions: Tensor,
        grad_velocities: Tensor,
    ) -> tuple[Tensor | None, ...]:
        (batch_ptr,) = ctx.saved_tensors
        weights, step_size, center = ctx.step
        grad = ode_step_native(
            grad_positions, grad_velocities, weights, step_size, batch_ptr, center
        )
        return grad, None, None, None, None


def _autograd_forward(
    positions: Tensor,
    velocities: Tensor,
    weights: list[float],
    step_size: float,
    batch_ptr: Tensor,
    center: bool,
) -> Tensor:
    if not (torch.is_grad_enabled() and (positions.requires_grad or velocities.requires_grad)):
        with torch._C._AutoDispatchBelowAutograd():
            return ode_step_native(positions, velocities, weights, step_size, batch_ptr, center)
    result: Tensor = _Step.apply(  # type: ignore[no-untyped-call]
        positions, velocities, weights, step_size, batch_ptr, center
    )
    return result


def _autograd_backward(
    grad: Tensor, weights: list[float], step_size: float, batch_ptr: Tensor, center: bool
) -> tuple[Tensor, Tensor]:
    pair: tuple[Tensor, Tensor] = _StepBackward.apply(  # type: ignore[no-untyped-call]
        grad, weights, step_size, batch_ptr, center
    )
    return pair


implement("ode_step", _autograd_forward, "Autograd")
implement("ode_step_backward", _autograd_backward, "Autograd")
