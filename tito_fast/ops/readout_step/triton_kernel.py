"""Triton kernels of ``readout_step``: rows of atoms, and the centering of molecules.

Letters: m rows of a tile (BLOCK), F features (N_FEATURES). All arrays are dense and row-major: scalars (n_rows, F),
vectors (n_rows, 3, F), positions and their gradients (n_rows, 3), batch_ptr (n_molecules + 1,) int64. The mlp's one
output, the gate g_i, and the products with V = v_weight (F,) are sums of float32 terms in every precision.
"""

import triton
import triton.language as tl

from tito_fast.ops.triton_blocks import molecule_rows, molecule_tile
from tito_fast.ops.triton_gradients import mlp_launches
from tito_fast.ops.triton_launch import TRITON_WIDTHS, KernelBuild, Launch
from tito_fast.ops.triton_mlp import (
    hidden_layers,
    hidden_layers_backward,
    last_activation,
    linear,
    linear_backward,
    load_features,
    load_rows,
    store_rows,
)
from tito_fast.types import PRODUCT_PRECISIONS


@triton.jit
def _first_linear(
    scalars,
    first_weight,
    first_bias,
    rows,
    n_rows,
    N_FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the first linear of the scalars, (m, F)."""
    inputs = load_rows(scalars, rows, n_rows, N_FEATURES, N_FEATURES)
    hidden = linear(inputs, first_weight, N_FEATURES, N_FEATURES, PRECISION)
    return hidden + load_features(first_bias, N_FEATURES)[None, :]


@triton.jit
def _gate(act, last_weight, last_bias, N_FEATURES: tl.constexpr):
    """Return the last linear's one output of (m, F), (m,)."""
    weight = load_features(last_weight, N_FEATURES)
    return tl.sum(act * weight[None, :], axis=1) + tl.load(last_bias)


# One program reads the velocity off BLOCK atoms, u_i = x_i + g_i (V v_i), and writes it to uncentered (n_rows, 3).
@triton.jit(do_not_specialize=["n_rows"])
def readout_rows_fwd_kernel(
    scalars,
    vectors,
    positions,
    v_weight,
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
    uncentered,
    n_rows,
    N_FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    hidden = _first_linear(scalars, first_weight, first_bias, rows, n_rows, N_FEATURES, PRECISION)
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
    gate = _gate(act, last_weight, last_bias, N_FEATURES)
    weight = load_features(v_weight, N_FEATURES)
    is_row = rows < n_rows
    at = 3 * rows.to(tl.int64)
    for axis in tl.static_range(3):
        component = load_rows(vectors + axis * N_FEATURES, rows, n_rows, 3 * N_FEATURES, N_FEATURES)
        readout = gate * tl.sum(component * weight[None, :], axis=1)
        position = tl.load(positions + at + axis, mask=is_row, other=0.0)
        tl.store(uncentered + at + axis, position + readout, mask=is_row)


# One program computes BLOCK atoms again and takes grad, the gradient d of u (n_rows, 3), back:
# d g = sum_x d_x (V v_x); d v_x = d_x g V; d V = sum_i g_i (sum_x d_x v_x)_i; d act = d g W_last, then as in the mlp.
# Writes with WANTS_INPUTS grad_scalars (n_rows, F) and grad_vectors (n_rows, 3, F); with WANTS_WEIGHTS work
# (8, n_rows, F), along (n_rows, F) = sum_x d_x v_x, gates and grad_gates (n_rows,).
@triton.jit(do_not_specialize=["n_rows"])
def readout_rows_bwd_kernel(
    grad,
    scalars,
    vectors,
    v_weight,
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
    grad_scalars,
    grad_vectors,
    work,
    along,
    gates,
    grad_gates,
    n_rows,
    N_FEATURES: tl.constexpr,
    WANTS_INPUTS: tl.constexpr,
    WANTS_WEIGHTS: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    is_row = rows < n_rows
    at = 3 * rows.to(tl.int64)
    total = tl.zeros((BLOCK, N_FEATURES), dtype=v_weight.dtype.element_ty)
    for axis in tl.static_range(3):
        d_axis = tl.load(grad + at + axis, mask=is_row, other=0.0)
        component = load_rows(vectors + axis * N_FEATURES, rows, n_rows, 3 * N_FEATURES, N_FEATURES)
        total += d_axis[:, None] * component
    d_gate = tl.sum(total * load_features(v_weight, N_FEATURES)[None, :], axis=1)
    if WANTS_WEIGHTS:
        store_rows(along, rows, n_rows, N_FEATURES, total, N_FEATURES)
        tl.store(grad_gates + rows, d_gate, mask=is_row)
    hidden = _first_linear(scalars, first_weight, first_bias, rows, n_rows, N_FEATURES, PRECISION)
    act, first_unit, first_inverse, second_unit, second_inverse = hidden_layers(
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
    gate = _gate(act, last_weight, last_bias, N_FEATURES)
    if WANTS_WEIGHTS:
        tl.store(gates + rows, gate, mask=is_row)
    if WANTS_INPUTS:
        weight = load_features(v_weight, N_FEATURES)
        for axis in tl.static_range(3):
            d_axis = tl.load(grad + at + axis, mask=is_row, other=0.0)
            d_component = (d_axis * gate)[:, None] * weight[None, :]
            into = grad_vectors + axis * N_FEATURES
            store_rows(into, rows, n_rows, 3 * N_FEATURES, d_component, N_FEATURES)
    d_act = d_gate[:, None] * load_features(last_weight, N_FEATURES)[None, :]
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
        d_scalars = linear_backward(d_hidden, first_weight, N_FEATURES, N_FEATURES, PRECISION)
        store_rows(grad_scalars, rows, n_rows, N_FEATURES, d_scalars, N_FEATURES)


@triton.jit
def _means(first_array, second_array, first, end, TILE: tl.constexpr):
    """Return the means of a molecule's rows of two arrays, (4,) each, in double.

    Tiles are walked in order, so that the sums depend on the molecule alone.
    """
    total = tl.zeros([TILE, 4], tl.float64)
    other = tl.zeros([TILE, 4], tl.float64)
    for start in range(first, end, TILE):
        place, mask = molecule_tile(start, end, TILE)
        total += tl.load(first_array + place, mask, 0.0).to(tl.float64)
        other += tl.load(second_array + place, mask, 0.0).to(tl.float64)
    n_here = tl.maximum(end - first, 1).to(tl.float64)
    return tl.sum(total, axis=0) / n_here, tl.sum(other, axis=0) / n_here


# One program centers one molecule: with u in velocity, it writes u - mean(u) there, and to stepped the centered step,
# (x - mean(x)) + h (u - mean(u)). In double, rounded once.
@triton.jit(do_not_specialize=["n_rows"])
def readout_center_fwd_kernel(
    velocity,
    positions,
    stepped,
    batch_ptr,
    n_rows,
    step_size: tl.float64,
    TILE: tl.constexpr,
):
    first, end = molecule_rows(batch_ptr, n_rows)
    velocity_mean, position_mean = _means(velocity, positions, first, end, TILE)
    for start in range(first, end, TILE):
        place, mask = molecule_tile(start, end, TILE)
        moving = tl.load(velocity + place, mask, 0.0)
        moving_64 = moving.to(tl.float64) - velocity_mean[None, :]
        position = tl.load(positions + place, mask, 0.0).to(tl.float64) - position_mean[None, :]
        tl.store(velocity + place, moving_64.to(moving.dtype), mask)
        tl.store(stepped + place, (position + step_size * moving_64).to(moving.dtype), mask)


# One program takes one molecule's gradients a of velocity and b of the stepped positions back: with the centered ones
# a' and b', d u = a' + h b' to grad_readout and d x = d u + b' to grad_positions.
@triton.jit(do_not_specialize=["n_rows"])
def readout_center_bwd_kernel(
    grad_velocity,
    grad_stepped,
    grad_readout,
    grad_positions,
    batch_ptr,
    n_rows,
    step_size: tl.float64,
    TILE: tl.constexpr,
):
    first, end = molecule_rows(batch_ptr, n_rows)
    velocity_mean, stepped_mean = _means(grad_velocity, grad_stepped, first, end, TILE)
    for start in range(first, end, TILE):
        place, mask = molecule_tile(start, end, TILE)
        of_velocity = tl.load(grad_velocity + place, mask, 0.0)
        of_stepped = tl.load(grad_stepped + place, mask, 0.0).to(tl.float64) - stepped_mean[None, :]
        of_readout = of_velocity.to(tl.float64) - velocity_mean[None, :] + step_size * of_stepped
        tl.store(grad_readout + place, of_readout.to(of_velocity.dtype), mask)
        tl.store(grad_positions + place, (of_readout + of_stepped).to(of_velocity.dtype), mask)


FORWARD = mlp_launches({32: (64, 4), 64: (32, 4), 128: (16, 8)})
BACKWARD = mlp_launches({32: (64, 4), 64: (32, 8), 128: (16, 8)})
CENTER = Launch({"TILE": 32}, num_warps=1, fuses=False)


def _build(
    name: str, kernel: object, constexprs: dict[str, object], launch: Launch, *, is_hot: bool
) -> KernelBuild:
    known = {*constexprs, *launch.tile}
    of_type = {"batch_ptr": "*i64", "n_rows": "i32", "step_size": "fp64"}
    return KernelBuild(
        name=name,
        kernel=kernel,
        signature={
            each: of_type.get(each, "*fp32") for each in kernel.arg_names if each not in known
        },
        constexprs=constexprs,
        launch=launch,
        is_hot=is_hot,
    )


def aot_builds(architecture: int) -> list[KernelBuild]:
    """Return the kernels that models use."""
    builds = [
        _build("readout_center_fwd", readout_center_fwd_kernel, {}, CENTER, is_hot=True),
        _build("readout_center_bwd", readout_center_bwd_kernel, {}, CENTER, is_hot=True),
    ]
    wants = {"WANTS_INPUTS": True, "WANTS_WEIGHTS": True}
    for width in TRITON_WIDTHS:
        for precision in PRODUCT_PRECISIONS:
            if precision == "ieee" and width != 64:
                continue
            shared = {"N_FEATURES": width, "PRECISION": precision}
            for name, kernel, table, more in (
                ("readout_rows_fwd", readout_rows_fwd_kernel, FORWARD, {}),
                ("readout_rows_bwd", readout_rows_bwd_kernel, BACKWARD, wants),
            ):
                builds.append(
                    _build(
                        f"{name}[F={width}, {precision}]",
                        kernel,
                        {**shared, **more},
                        table[architecture, width, precision],
                        is_hot=precision != "ieee",
                    )
                )
    return builds
