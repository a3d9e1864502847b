"""Triton kernels of ``time_embed`` as ``torch.ops.tito_fast.time_embed_triton`` and its backward.

``wants`` says whether the gradients of the inputs and of the parameters are wanted; what is not
wanted comes back empty.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tito_fast.ops.library import define, implement, implement_fake
from tito_fast.ops.native_call import dense, empty_gradients
from tito_fast.ops.once_differentiable import register_gradient
from tito_fast.ops.time_embed.triton_kernel import (
    BACKWARD,
    ENCODINGS,
    FORWARD,
    SUMS,
    encodings_bwd_kernel,
    molecule_sums_kernel,
    time_embed_bwd_kernel,
    time_embed_fwd_kernel,
)
from tito_fast.ops.triton_gradients import (
    empty_work,
    first_hidden_gradient,
    mlp_gradients,
    n_wide_outputs,
    on_device,
    rows_product,
)
from tito_fast.ops.triton_launch import choose_launch
from tito_fast.types import ProductPrecision

define(
    "time_embed_triton(Tensor scalars, Tensor encodings, Tensor[] parameters, Tensor batch_ptr, "
    "str precision) -> Tensor"
)
define(
    "time_embed_triton_backward(Tensor grad, Tensor scalars, Tensor encodings, "
    "Tensor[] parameters, Tensor batch_ptr, str precision, bool[] wants) "
    "-> (Tensor, Tensor, Tensor[])"
)


def time_embed_triton(
    scalars: Tensor,
    encodings: Tensor,
    batch_ptr: Tensor,
    parameters: Sequence[Tensor],
    precision: ProductPrecision,
) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.time_embed`, checked."""
    result: Tensor = torch.ops.tito_fast.time_embed_triton(
        scalars, encodings, list(parameters), batch_ptr, precision
    )
    return result


def _forward(
    scalars: Tensor,
    encodings: Tensor,
    parameters: list[Tensor],
    batch_ptr: Tensor,
    precision: ProductPrecision,
) -> Tensor:
    inputs, parameters = dense(scalars, encodings, batch_ptr), dense(*parameters)
    n_rows, (n_out, width) = scalars.shape[0], parameters[-2].shape
    outputs = scalars.new_empty((n_rows, n_out))
    if n_rows == 0:
        return outputs
    launch = choose_launch(FORWARD, scalars.device, width, precision)
    n_molecules = encodings.shape[0]
    with on_device(scalars):
        time_embed_fwd_kernel[(-(-n_rows // launch.tile["BLOCK"]),)](
            *inputs,
            *parameters,
            outputs,
            n_rows,
            n_molecules,
            n_molecules.bit_length(),
            n_out,
            N_ENCODINGS=encodings.shape[1] // width,
            N_WIDE=n_wide_outputs(n_out, width),
            N_FEATURES=width,
            PRECISION=precision,
            **launch.options,
        )
    return outputs


def _backward(
    grad: Tensor,
    scalars: Tensor,
    encodings: Tensor,
    parameters: list[Tensor],
    batch_ptr: Tensor,
    precision: ProductPrecision,
    wants: list[bool],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    grad, scalars, encodings, batch_ptr = dense(grad, scalars, encodings, batch_ptr)
    parameters = dense(*parameters)
    n_rows, (n_out, width) = scalars.shape[0], parameters[-2].shape
    if n_rows == 0:
        (first, second), rest = empty_gradients([scalars, encodings], parameters, wants)
        return first, second.zero_(), [each.zero_() for each in rest]
    work = empty_work(scalars, n_rows, width, wants=True)
    grad_scalars = torch.empty_like(scalars)
    launch = choose_launch(BACKWARD, scalars.device, width, precision)
    n_molecules = encodings.shape[0]
    with on_device(scalars):
        time_embed_bwd_kernel[(-(-n_rows // launch.tile["BLOCK"]),)](
            grad,
            scalars,
            encodings,
            batch_ptr,
            *parameters[:-1],
            grad_scalars,
            work,
            n_rows,
            n_molecules,
            n_molecules.bit_length(),
            n_out,
            N_ENCODINGS=encodings.shape[1] // width,
            N_WIDE=n_wide_outputs(n_out, width),
            N_FEATURES=width,
            PRECISION=precision,
            **launch.options,
        )
        d_hidden = first_hidden_gradient(work)
        sums = scalars.new_empty((n_molecules, width))
        molecule_sums_kernel[(n_molecules,)](
            d_hidden, batch_ptr, sums, n_rows, N_FEATURES=width, **SUMS.options
        )
        (first, second), _ = empty_gradients([scalars, encodings], [], wants)
        if wants[0]:
            first = grad_scalars
            _encodings_backward(sums, parameters[0], second, precision)
        if not wants[1]:
            return first, second, []
        of_first = [
            rows_product(d_hidden, scalars, precision),
            rows_product(sums, encodings, precision),
        ]
        weights = mlp_gradients(work, grad, torch.cat(of_first, dim=1), precision)
    return first, second, weights


def _encodings_backward(
    sums: Tensor, first_weight: Tensor, grad_encodings: Tensor, precision: ProductPrecision
) -> None:
    """Write the gradient of the encodings from the sums over each molecule's atoms."""
    n_molecules, width = sums.shape
    launch = choose_launch(ENCODINGS, sums.device, width, precision)
    encodings_bwd_kernel[(-(-n_molecules // launch.tile["BLOCK"]),)](
        sums,
        first_weight,
        grad_encodings,
        n_molecules,
        N_ENCODINGS=grad_encodings.shape[1] // width,
        N_FEATURES=width,
        PRECISION=precision,
        **launch.options,
    )


def _fake_time_embed(
    scalars: Tensor,
    encodings: Tensor,  # noqa: ARG001, the schema's argument
    parameters: list[Tensor],
    batch_ptr: Tensor,  # noqa: ARG001
    precision: str,  # noqa: ARG001
) -> Tensor:
    return scalars.new_empty((scalars.shape[0], parameters[-2].shape[0]))


def _fake_time_embed_backward(
    grad: Tensor,  # noqa: ARG001, the schema's argument
    scalars: Tensor,
    encodings: Tensor,
    parameters: list[Tensor],
    batch_ptr: Tensor,  # noqa: ARG001
    precision: str,  # noqa: ARG001
    wants: list[bool],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    grad_inputs, grad_parameters = empty_gradients([scalars, encodings], parameters, wants)
    return grad_inputs[0], grad_inputs[1], grad_parameters


for _device in ("CPU", "CUDA"):
    implement("time_embed_triton", _forward, _device)
    implement("time_embed_triton_backward", _backward, _device)
implement_fake("time_embed_triton", _fake_time_embed)
implement_fake("time_embed_triton_backward", _fake_time_embed_backward)
register_gradient("time_embed_triton", n_inputs=2, n_outputs=1)
