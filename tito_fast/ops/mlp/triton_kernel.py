"""Triton kernels of ``mlp``.

Letters: m rows of a tile (BLOCK), F features (N_FEATURES), all hidden rows' width.
"""

import triton
import triton.language as tl

from tito_fast.ops.triton_gradients import ROWS_PRODUCT, mlp_launches
from tito_fast.ops.triton_launch import TRITON_WIDTHS, KernelBuild
from tito_fast.ops.triton_mlp import (
    grad_of_last_activation,
    hidden_layers,
    hidden_layers_backward,
    last_activation,
    linear,
    linear_backward,
    load_features,
    load_rows,
    rows_product_kernel,
    store_outputs,
    store_rows,
)
from tito_fast.types import PRODUCT_PRECISIONS


@triton.jit
def _first_linear(
    inputs,
    first_weight,
    first_bias,
    rows,
    n_rows,
    N_IN: tl.constexpr,
    BLOCK: tl.constexpr,
    N_FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the first linear of rows of N_IN F inputs, (m, F)."""
    hidden = tl.zeros((BLOCK, N_FEATURES), dtype=inputs.dtype.element_ty)
    for block in range(N_IN):
        start = block * N_FEATURES
        part = load_rows(inputs + start, rows, n_rows, N_IN * N_FEATURES, N_FEATURES)
        hidden += linear(part, first_weight + start, N_IN * N_FEATURES, N_FEATURES, PRECISION)
    return hidden + load_features(first_bias, N_FEATURES)[None, :]


# One program runs BLOCK rows through the mlp: inputs (n_rows, N_IN F) to outputs (n_rows, n_out), which it writes.
@triton.jit(do_not_specialize=["n_rows"])
def mlp_fwd_kernel(
    inputs,
    first_weight,
    first_bias,
    first_scale,
    first_shift,
    second_weight,
    second_bias,
    second_scale,
    second_shift,
    last_weight,
    last_bias,
    outputs,
    n_rows,
    n_out,
    N_IN: tl.constexpr,
    N_WIDE: tl.constexpr,
    N_FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    hidden = _first_linear(
        inputs, first_weight, first_bias, rows, n_rows, N_IN, BLOCK, N_FEATURES, PRECISION
    )
    act = last_activation(
        hidden,
        first_scale,
        first_shift,
        second_weight,
        second_bias,
        second_scale,
        second_shift,
        N_FEATURES,
        PRECISION,
    )
    store_outputs(
        act, last_weight, last_bias, outputs, rows, n_rows, n_out, N_FEATURES, N_WIDE, PRECISION
    )


# One program computes BLOCK rows again and takes the gradient of their outputs, grad (n_rows, n_out), back:
# d last activation = grad W_last; d hidden of each norm as in norm_silu_backward; d first activation = d second
# hidden W_second; d inputs = d first hidden W_first. Writes grad_inputs (n_rows, N_IN F) with WANTS_INPUTS, work
# (8, n_rows, F) with WANTS_WEIGHTS: gradients of weights are products and sums of its rows.
@triton.jit(do_not_specialize=["n_rows"])
def mlp_bwd_kernel(
    grad,
    inputs,
    first_weight,
    first_bias,
    first_scale,
    first_shift,
    second_weight,
    second_bias,
    second_scale,
    second_shift,
    last_weight,
    grad_inputs,
    work,
    n_rows,
    n_out,
    N_IN: tl.constexpr,
    N_WIDE: tl.constexpr,
    N_FEATURES: tl.constexpr,
    WANTS_INPUTS: tl.constexpr,
    WANTS_WEIGHTS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    hidden = _first_linear(
        inputs, first_weight, first_bias, rows, n_rows, N_IN, BLOCK, N_FEATURES, PRECISION
    )
    _, first_unit, first_inverse, second_unit, second_inverse = hidden_layers(
        hidden,
        first_scale,
        first_shift,
        second_weight,
        second_bias,
        second_scale,
        second_shift,
        work,
        rows,
        n_rows,
        N_FEATURES,
        WANTS_WEIGHTS,
        PRECISION,
    )
    d_act = grad_of_last_activation(
        grad, last_weight, rows, n_rows, n_out, BLOCK, N_FEATURES, N_WIDE, PRECISION
    )
    d_hidden = hidden_layers_backward(
        d_act,
        first_unit,
        first_inverse,
        second_unit,
        second_inverse,
        first_scale,
        first_shift,
        second_weight,
        second_scale,
        second_shift,
        work,
        rows,
        n_rows,
        N_FEATURES,
        WANTS_WEIGHTS,
        PRECISION,
    )
    if WANTS_INPUTS:
        for block in range(N_IN):
            start = block * N_FEATURES
            weight = first_weight + start
            d_inputs = linear_backward(d_hidden, weight, N_IN * N_FEATURES, N_FEATURES, PRECISION)
            store_rows(grad_inputs + start, rows, n_rows, N_IN * N_FEATURES, d_inputs, N_FEATURES)


FORWARD = mlp_launches({32: (64, 4), 64: (32, 4), 128: (16, 8)})
BACKWARD = mlp_launches({32: (64, 4), 64: (32, 8), 128: (16, 8)})

_FLOATS = "*fp32"


def aot_builds(architecture: int) -> list[KernelBuild]:
    """Return the kernels that models use: 2F inputs to 3F outputs and to one."""
    builds = []
    for width in TRITON_WIDTHS:
        for precision in PRODUCT_PRECISIONS:
            if precision == "ieee" and width != 64:
                continue
            for n_wide in (3, 0):
                constants = {
                    "N_IN": 2,
                    "N_WIDE": n_wide,
                    "N_FEATURES": width,
                    "PRECISION": precision,
                }
                wants = {"WANTS_INPUTS": True, "WANTS_WEIGHTS": True}
                for name, kernel, table, more in (
                    ("mlp_fwd", mlp_fwd_kernel, FORWARD, {}),
                    ("mlp_bwd", mlp_bwd_kernel, BACKWARD, wants),
                ):
                    builds.append(
                        KernelBuild(
                            name=f"{name}[F={width}, {precision}{'' if n_wide else ', narrow'}]",
                            kernel=kernel,
                            signature={
                                each: "i32" if each in ("n_rows", "n_out") else _FLOATS
                                for each in kernel.arg_names
                                if each not in {*constants, *more, "BLOCK"}
                            },
                            constexprs={**constants, **more},
                            launch=table[architecture, width, precision],
                            is_hot=precision != "ieee",
                        )
                    )
    return [*builds, *_rows_product_builds()]


def _rows_product_builds() -> list[KernelBuild]:
    return [
        KernelBuild(
            name=f"rows_product[{precision}]",
            kernel=rows_product_kernel,
            signature={
                each: _FLOATS if each in ("left", "right", "partial") else "i32"
                for each in rows_product_kernel.arg_names
                if not each.isupper()
            },
            constexprs={"PRECISION": precision},
            launch=ROWS_PRODUCT,
            is_hot=precision != "ieee",
        )
        for precision in PRODUCT_PRECISIONS
    ]
