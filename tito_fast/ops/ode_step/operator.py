"""Schemas, fakes and derivatives of the steps' ops, whatever computes them.

The backward is an op of its own. With P the centring, the step is P (x + sum_k h w_k v_k), so a
gradient g gives P g for x and h w_k P g for v_k; that map is linear in g, and its own gradient is an
``ode_step`` again. Noise is a constant: the derivatives of a noisy step are those of the step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tito_fast.ops.library import define, implement, implement_fake

_Forward = Callable[[Tensor, Tensor, list[float], float, Tensor, bool], Tensor]
_Backward = Callable[[Tensor, list[float], float, Tensor, bool], tuple[Tensor, Tensor]]

_STEP = "float[] weights, float step_size, Tensor batch_ptr, bool center"


def register_step(name: str, forward: _Forward, backward: _Backward) -> None:
    """Register ``torch.ops.tito_fast.<name>`` and ``<name>_backward`` for CPU and CUDA tensors.

    Parameters
    ----------
    name
        Of the op.
    forward
        Maps positions, velocities, weights, step_size, batch_ptr and center to the new positions.
        ``weights`` and ``velocities`` may hold no stage at all; positions are then only centred.
    backward
        Maps the gradient of the new positions, weights, step_size, batch_ptr and center to those of
        positions and velocities.
    """
    define(f"{name}(Tensor positions, Tensor velocities, {_STEP}) -> Tensor")
    define(f"{name}_backward(Tensor grad, {_STEP}) -> (Tensor, Tensor)")
    for device in ("CPU", "CUDA"):
        implement(name, forward, device)
        implement(f"{name}_backward", backward, device)
    implement_fake(name, _fake_forward)
    implement_fake(f"{name}_backward", _fake_backward)
    implement(name, partial(_autograd_forward, name), "Autograd")
    implement(f"{name}_backward", partial(_autograd_backward, name), "Autograd")


def register_noisy_step(name: str, forward: Callable[..., Tensor], *, backward: str) -> None:
    """Register ``torch.ops.tito_fast.<name>``, a step with noise, for CPU and CUDA tensors.

    Parameters
    ----------
    name
        Of the op.
    forward
        Maps the arguments of the schema to the new positions.
    backward
        Name of the step's backward, one of those that `register_step` registers.
    """
    define(
        f"{name}(Tensor positions, Tensor velocities, float[] weights, float step_size, "
        "float noise_scale, Tensor keys, Tensor replicas, int rollout_step, int stream_evaluation, "
        "Tensor batch_ptr, bool center) -> Tensor"
    )
    for device in ("CPU", "CUDA"):
        implement(name, forward, device)
    implement_fake(name, _fake_forward)
    implement(name, partial(_autograd_noisy, name, backward), "Autograd")


def register_embedded_step(name: str, forward: Callable[..., tuple[Tensor, Tensor]]) -> None:
    """Register ``torch.ops.tito_fast.<name>``, a step with an error estimate, for CPU and CUDA tensors.

    Parameters
    ----------
    name
        Of the op, which has no derivative.
    forward
        Maps the arguments of the schema to the new positions and the errors.
    """
    define(
        f"{name}(Tensor positions, Tensor velocities, float[] weights, float[] error_weights, "
        "Tensor step_sizes, float absolute_tolerance, float relative_tolerance, Tensor batch_ptr, "
        "bool center) -> (Tensor, Tensor)"
    )
    for device in ("CPU", "CUDA"):
        implement(name, forward, device)
    implement_fake(name, _fake_embedded)


def _forward_of(name: str) -> _Forward:
    op: _Forward = getattr(torch.ops.tito_fast, name)
    return op


def _backward_of(name: str) -> _Backward:
    op: _Backward = getattr(torch.ops.tito_fast, f"{name}_backward")
    return op


def _fake_forward(positions: Tensor, velocities: Tensor, *step: object) -> Tensor:  # noqa: ARG001, the schema's
    return torch.empty_like(positions, memory_format=torch.contiguous_format)


def _fake_backward(
    grad: Tensor,
    weights: list[float],
    *step: object,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    return (
        torch.empty_like(grad, memory_format=torch.contiguous_format),
        grad.new_empty((len(weights), *grad.shape)),
    )


def _fake_embedded(
    positions: Tensor,
    velocities: Tensor,  # noqa: ARG001
    weights: list[float],  # noqa: ARG001
    error_weights: list[float],  # noqa: ARG001
    step_sizes: Tensor,
    *step: object,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:
    dense = torch.contiguous_format
    return (
        torch.empty_like(positions, memory_format=dense),
        torch.empty_like(step_sizes, memory_format=dense),
    )


class _Forwards(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401, torch gives it no type
        name: str,
        positions: Tensor,
        velocities: Tensor,
        weights: list[float],
        step_size: float,
        batch_ptr: Tensor,
        center: bool,
    ) -> Tensor:
        ctx.save_for_backward(batch_ptr)
        ctx.step = (name, weights, step_size, center)
        with torch._C._AutoDispatchBelowAutograd():
            return _forward_of(name)(positions, velocities, weights, step_size, batch_ptr, center)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[Tensor | None, ...]:
        (batch_ptr,) = ctx.saved_tensors
        name, weights, step_size, center = ctx.step
        of_both = _backward_of(name)(grad, weights, step_size, batch_ptr, center)
        return None, *of_both, None, None, None, None


class _Backwards(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        name: str,
        grad: Tensor,
        weights: list[float],
        step_size: float,
        batch_ptr: Tensor,
        center: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(batch_ptr)
        ctx.step = (name, weights, step_size, center)
        with torch._C._AutoDispatchBelowAutograd():
            return _backward_of(name)(grad, weights, step_size, batch_ptr, center)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad_positions: Tensor,
        grad_velocities: Tensor,
    ) -> tuple[Tensor | None, ...]:
        (batch_ptr,) = ctx.saved_tensors
        name, weights, step_size, center = ctx.step
        grad = _forward_of(name)(
            grad_positions, grad_velocities, weights, step_size, batch_ptr, center
        )
        return None, grad, None, None, None, None


class _NoisyForwards(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401, torch gives it no type
        names: tuple[str, str],
        positions: Tensor,
        velocities: Tensor,
        *step: Any,  # noqa: ANN401, as in the schema
    ) -> Tensor:
        weights, step_size, *_, batch_ptr, center = step
        name, backward = names
        ctx.save_for_backward(batch_ptr)
        ctx.step = (backward, weights, step_size, center, len(step))
        with torch._C._AutoDispatchBelowAutograd():
            result: Tensor = getattr(torch.ops.tito_fast, name)(positions, velocities, *step)
        return result

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        grad: Tensor,
    ) -> tuple[Tensor | None, ...]:
        (batch_ptr,) = ctx.saved_tensors
        backward, weights, step_size, center, n_more = ctx.step
        of_both = getattr(torch.ops.tito_fast, backward)(
            grad, weights, step_size, batch_ptr, center
        )
        return None, *of_both, *(None,) * n_more


def _autograd_forward(
    name: str,
    positions: Tensor,
    velocities: Tensor,
    *step: Any,  # noqa: ANN401, handed on
) -> Tensor:
    if not (torch.is_grad_enabled() and (positions.requires_grad or velocities.requires_grad)):
        with torch._C._AutoDispatchBelowAutograd():
            return _forward_of(name)(positions, velocities, *step)
    result: Tensor = _Forwards.apply(name, positions, velocities, *step)  # type: ignore[no-untyped-call]
    return result


def _autograd_backward(
    name: str,
    grad: Tensor,
    *step: Any,  # noqa: ANN401, handed on
) -> tuple[Tensor, Tensor]:
    pair: tuple[Tensor, Tensor] = _Backwards.apply(name, grad, *step)  # type: ignore[no-untyped-call]
    return pair


def _autograd_noisy(
    name: str,
    backward: str,
    positions: Tensor,
    velocities: Tensor,
    *step: Any,  # noqa: ANN401, handed on
) -> Tensor:
    result: Tensor
    if not (torch.is_grad_enabled() and (positions.requires_grad or velocities.requires_grad)):
        with torch._C._AutoDispatchBelowAutograd():
            result = getattr(torch.ops.tito_fast, name)(positions, velocities, *step)
    else:
        result = _NoisyForwards.apply((name, backward), positions, velocities, *step)  # type: ignore[no-untyped-call]
    return result
