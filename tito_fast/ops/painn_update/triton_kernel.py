"""Triton kernels of ``painn_update``.

Letters: m rows of a tile (BLOCK), F features (N_FEATURES). Vectors are (n_rows, 3, F). HAS_U says whether there
are new vectors: the mlp then has the outputs [gates, scale, add], else [scale, add]. n_components is 3, but the
compiler must not know it: it would unroll loops over components, halves and outputs, and put off the products of one
turn until the factors of all of them are in registers, which then spill.
"""

import triton
import triton.language as tl

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
def _square_of_v(
    vectors,
    v_weight,
    all_mixed,
    rows,
    n_rows,
    n_components,
    KEEPS: tl.constexpr,
    BLOCK: tl.constexpr,
    N_FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return ``|V v|²``, (m, F), summed over the three components; with KEEPS, write V v to ``all_mixed``."""
    square = tl.zeros((BLOCK, N_FEATURES), dtype=vectors.dtype.element_ty)
    for component in range(n_components):
        start = component * N_FEATURES
        part = load_rows(vectors + start, rows, n_rows, 3 * N_FEATURES, N_FEATURES)
        mixed = linear(part, v_weight, N_FEATURES, N_FEATURES, PRECISION)
        square += mixed * mixed
        if KEEPS:
            store_rows(all_mixed + start, rows, n_rows, 3 * N_FEATURES, mixed, N_FEATURES)
    return square


@triton.jit
def _first_linear(
    length,
    scalars,
    first_weight,
    first_bias,
    n_components,
    N_FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the first linear of ``[length, scalars]``, (m, F)."""
    stride = 2 * N_FEATURES
    hidden = tl.zeros_like(length)
    for half in range(n_components - 1):
        part = tl.where(half == 0, length, scalars)
        hidden += linear(part, first_weight + half * N_FEATURES, stride, N_FEATURES, PRECISION)
    return hidden + load_features(first_bias, N_FEATURES)[None, :]


@triton.jit
def _output(
    act,
    last_weight,
    last_bias,
    block,
    N_FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return a block of F outputs of the mlp, (m, F)."""
    start = block * N_FEATURES
    out = linear(act, last_weight + start * N_FEATURES, N_FEATURES, N_FEATURES, PRECISION)
    return out + load_features(last_bias + start, N_FEATURES)[None, :]


# One program updates BLOCK rows: with [gates, scale, add] = mlp([|V v|, s]) it writes new_vectors = v + gates (U v)
# (with HAS_U) and new_scalars = s + |V v|² scale + add.
@triton.jit(do_not_specialize=["n_rows", "n_components"])
def painn_update_fwd_kernel(
    scalars,
    vectors,
    u_weight,
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
    new_scalars,
    new_vectors,
    n_rows,
    n_components,
    HAS_U: tl.constexpr,
    N_FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    FIRST: tl.constexpr = 1 if HAS_U else 0
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    square = _square_of_v(
        vectors,
        v_weight,
        new_vectors,
        rows,
        n_rows,
        n_components,
        False,
        BLOCK,
        N_FEATURES,
        PRECISION,
    )
    old = load_rows(scalars, rows, n_rows, N_FEATURES, N_FEATURES)
    hidden = _first_linear(
        tl.sqrt(square), old, first_weight, first_bias, n_components, N_FEATURES, PRECISION
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
    new = tl.zeros_like(square)
    for block in range(FIRST, FIRST + n_components - 1):
        out = _output(act, last_weight, last_bias, block, N_FEATURES, PRECISION)
        new += tl.where(block == FIRST, square * out, out)
    new += load_rows(scalars, rows, n_rows, N_FEATURES, N_FEATURES)
    store_rows(new_scalars, rows, n_rows, N_FEATURES, new, N_FEATURES)
    if HAS_U:
        gates = _output(act, last_weight, last_bias, 0, N_FEATURES, PRECISION)
        for component in range(n_components):
            start = component * N_FEATURES
            part = load_rows(vectors + start, rows, n_rows, 3 * N_FEATURES, N_FEATURES)
            part += gates * linear(part, u_weight, N_FEATURES, N_FEATURES, PRECISION)
            store_rows(new_vectors + start, rows, n_rows, 3 * N_FEATURES, part, N_FEATURES)


# One program computes BLOCK rows again and takes the gradients gs of new_scalars and gv of new_vectors back. With
# q = |V v|², l = sqrt(q): d gates = sum_x gv_x (U v_x); d scale = gs q; d add = gs, together d_outputs
# (n_rows, 2 or 3 F); d act = d_outputs W_last, then as in the mlp to d hidden; [d l, d s] = d hidden W_first,
# d s += gs; d (V v_x) = V v_x (2 gs scale + d l / l), the last term zero where l is; d (U v_x) = gates gv_x;
# d v_x = gv_x + d (V v_x) V + d (U v_x) U. Writes grad_scalars, grad_vectors, and for the gradients of weights:
# length (n_rows, F), d_mixed (2, n_rows, 3, F) of V v, which is kept there until then, and U v, d_outputs, work
# (8, n_rows, F).
@triton.jit(do_not_specialize=["n_rows", "n_components"])
def painn_update_bwd_kernel(
    of_scalars,
    of_vectors,
    scalars,
    vectors,
    u_weight,
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
    length,
    d_mixed,
    d_outputs,
    work,
    n_rows,
    n_components,
    HAS_U: tl.constexpr,
    N_FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    FIRST: tl.constexpr = 1 if HAS_U else 0
    N_OUTPUTS: tl.constexpr = (FIRST + 2) * N_FEATURES
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    square = _square_of_v(
        vectors,
        v_weight,
        d_mixed,
        rows,
        n_rows,
        n_components,
        True,
        BLOCK,
        N_FEATURES,
        PRECISION,
    )
    store_rows(length, rows, n_rows, N_FEATURES, tl.sqrt(square), N_FEATURES)
    hidden = _first_linear(
        tl.sqrt(square),
        load_rows(scalars, rows, n_rows, N_FEATURES, N_FEATURES),
        first_weight,
        first_bias,
        n_components,
        N_FEATURES,
        PRECISION,
    )
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
        True,
        PRECISION,
    )
    # The outputs in turn: scale in the end, and gates, if there are any, before it.
    scale = tl.zeros_like(act)
    gates = tl.zeros_like(act)
    for block in range(FIRST + n_components - 2):
        gates = scale
        scale = _output(act, last_weight, last_bias, block, N_FEATURES, PRECISION)
    d_gates = tl.zeros_like(act)
    of_u = d_mixed + n_rows.to(tl.int64) * 3 * N_FEATURES
    if HAS_U:
        for component in range(n_components):
            start = component * N_FEATURES
            part = load_rows(vectors + start, rows, n_rows, 3 * N_FEATURES, N_FEATURES)
            back = load_rows(of_vectors + start, rows, n_rows, 3 * N_FEATURES, N_FEATURES)
            d_gates += back * linear(part, u_weight, N_FEATURES, N_FEATURES, PRECISION)
            store_rows(of_u + start, rows, n_rows, 3 * N_FEATURES, gates * back, N_FEATURES)
        store_rows(d_outputs, rows, n_rows, N_OUTPUTS, d_gates, N_FEATURES)
    grad = load_rows(of_scalars, rows, n_rows, N_FEATURES, N_FEATURES)
    # Half of the gradient of q: what q itself is multiplied with.
    d_square = grad * scale
    d_scale = grad * square
    store_rows(d_outputs + FIRST * N_FEATURES, rows, n_rows, N_OUTPUTS, d_scale, N_FEATURES)
    store_rows(d_outputs + (FIRST + 1) * N_FEATURES, rows, n_rows, N_OUTPUTS, grad, N_FEATURES)
    d_act = tl.zeros_like(grad)
    for block in range(FIRST + n_components - 1):
        part = tl.where(block == FIRST, d_scale, grad)
        if HAS_U:
            part = tl.where(block == 0, d_gates, part)
        weight = last_weight + block * N_FEATURES * N_FEATURES
        d_act += linear_backward(part, weight, N_FEATURES, N_FEATURES, PRECISION)
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
        True,
        PRECISION,
    )
    d_length = tl.zeros_like(d_hidden)
    d_scalars = tl.zeros_like(d_hidden)
    for half in range(n_components - 1):
        weight = first_weight + half * N_FEATURES
        d_scalars = linear_backward(d_hidden, weight, 2 * N_FEATURES, N_FEATURES, PRECISION)
        d_length = tl.where(half == 0, d_scalars, d_length)
    d_scalars += load_rows(of_scalars, rows, n_rows, N_FEATURES, N_FEATURES)
    store_rows(grad_scalars, rows, n_rows, N_FEATURES, d_scalars, N_FEATURES)
    # What other threads of this program have stored is read back here and below.
    tl.debug_barrier()
    root = load_rows(length, rows, n_rows, N_FEATURES, N_FEATURES)
    along = 2.0 * d_square + tl.where(root > 0.0, d_length / tl.where(root > 0.0, root, 1.0), 0.0)
    for component in range(n_components):
        start = component * N_FEATURES
        d_v = along * load_rows(d_mixed + start, rows, n_rows, 3 * N_FEATURES, N_FEATURES)
        total = linear_backward(d_v, v_weight, N_FEATURES, N_FEATURES, PRECISION)
        # After the barrier of the product: V v is there until every thread has it.
        store_rows(d_mixed + start, rows, n_rows, 3 * N_FEATURES, d_v, N_FEATURES)
        if HAS_U:
            total += load_rows(of_vectors + start, rows, n_rows, 3 * N_FEATURES, N_FEATURES)
        store_rows(grad_vectors + start, rows, n_rows, 3 * N_FEATURES, total, N_FEATURES)
    if HAS_U:
        tl.debug_barrier()
        for component in range(n_components):
            start = component * N_FEATURES
            d_u = load_rows(of_u + start, rows, n_rows, 3 * N_FEATURES, N_FEATURES)
            total = load_rows(grad_vectors + start, rows, n_rows, 3 * N_FEATURES, N_FEATURES)
            total += linear_backward(d_u, u_weight, N_FEATURES, N_FEATURES, PRECISION)
            store_rows(grad_vectors + start, rows, n_rows, 3 * N_FEATURES, total, N_FEATURES)


FORWARD = mlp_launches({32: (64, 4), 64: (32, 4), 128: (16, 8)})
BACKWARD = {
    **mlp_launches({32: (32, 4), 64: (16, 4), 128: (16, 8)}),
    # As 16 rows it spills 40 bytes on compute capability 8.0.
    **{(each, 64, "bf16"): Launch({"BLOCK": 32}, num_warps=8) for each in (80, 90)},
}


# Runs once an atom and training step; of 128 features up to 120 bytes of a thread stay spilled: tiles of 16 rows are
# the smallest that products take, more warps have half the registers each.
COLD = ("painn_update_bwd", 128)


def aot_builds(architecture: int) -> list[KernelBuild]:
    """Return the kernels that models use."""
    builds = []
    for width in TRITON_WIDTHS:
        for precision in PRODUCT_PRECISIONS:
            if precision == "ieee" and width != 64:
                continue
            for has_u in (True, False):
                constants = {"HAS_U": has_u, "N_FEATURES": width, "PRECISION": precision}
                for name, kernel, table in (
                    ("painn_update_fwd", painn_update_fwd_kernel, FORWARD),
                    ("painn_update_bwd", painn_update_bwd_kernel, BACKWARD),
                ):
                    launch = table[architecture, width, precision]
                    known = {*constants, *launch.tile}
                    builds.append(
                        KernelBuild(
                            name=f"{name}[F={width}, {precision}{'' if has_u else ', scalars'}]",
                            kernel=kernel,
                            signature={
                                each: "i32" if each in ("n_rows", "n_components") else "*fp32"
                                for each in kernel.arg_names
                                if each not in known
                            },
                            constexprs=constants,
                            launch=launch,
                            is_hot=precision != "ieee" and (name, width) != COLD,
                        )
                    )
    return builds
