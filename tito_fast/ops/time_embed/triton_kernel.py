"""Triton kernels of ``time_embed``.

Letters: m rows of a tile (BLOCK), F features (N_FEATURES). ``encodings`` are (n_molecules, N_ENCODINGS F), the first
weight (F, (1 + N_ENCODINGS) F).
"""

import triton
import triton.language as tl

from tito_fast.ops.triton_gradients import mlp_launches
from tito_fast.ops.triton_launch import TRITON_WIDTHS, KernelBuild, Launch
from tito_fast.ops.triton_mlp import (
    grad_of_last_activation,
    hidden_layers,
    hidden_layers_backward,
    last_activation,
    linear,
    linear_backward,
    load_features,
    load_rows,
    store_outputs,
    store_rows,
)
from tito_fast.types import PRODUCT_PRECISIONS


@triton.jit
def _molecule_of(rows, batch_ptr, n_molecules, n_halvings):
    """Return the molecule of each atom: the last one that starts at or before it.

    Between ``low`` and ``high``, which n_halvings = bits of n_molecules bring next to each other; within
    0 ... n_molecules - 1 whatever ``batch_ptr`` holds.
    """
    low = rows * 0
    high = low + n_molecules
    for _ in range(n_halvings):
        middle = (low + high) // 2
        starts_before = tl.load(batch_ptr + middle) <= rows
        low = tl.where(starts_before, middle, low)
        high = tl.where(starts_before, high, middle)
    return low


@triton.jit
def _first_linear(
    scalars,
    encodings,
    batch_ptr,
    first_weight,
    first_bias,
    rows,
    n_rows,
    n_molecules,
    n_halvings,
    N_ENCODINGS: tl.constexpr,
    N_FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the first linear of ``[scalars_i, encodings_{molecule(i)}]``, (m, F)."""
    stride = (1 + N_ENCODINGS) * N_FEATURES
    part = load_rows(scalars, rows, n_rows, N_FEATURES, N_FEATURES)
    hidden = linear(part, first_weight, stride, N_FEATURES, PRECISION)
    molecule = _molecule_of(rows, batch_ptr, n_molecules, n_halvings)
    for block in range(N_ENCODINGS):
        start = block * N_FEATURES
        part = load_rows(
            encodings + start, molecule, n_molecules, N_ENCODINGS * N_FEATURES, N_FEATURES
        )
        weight = first_weight + N_FEATURES + start
        hidden += linear(part, weight, stride, N_FEATURES, PRECISION)
    return hidden + load_features(first_bias, N_FEATURES)[None, :]


# One program runs BLOCK atoms through the mlp; it writes outputs (n_rows, n_out).
@triton.jit(do_not_specialize=["n_rows", "n_molecules", "n_halvings"])
def time_embed_fwd_kernel(
    scalars,
    encodings,
    batch_ptr,
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
    n_molecules,
    n_halvings,
    n_out,
    N_ENCODINGS: tl.constexpr,
    N_WIDE: tl.constexpr,
    N_FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    hidden = _first_linear(
        scalars,
        encodings,
        batch_ptr,
        first_weight,
        first_bias,
        rows,
        n_rows,
        n_molecules,
        n_halvings,
        N_ENCODINGS,
        N_FEATURES,
        PRECISION,
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


# One program computes BLOCK atoms again and takes grad (n_rows, n_out) back as mlp's backward does. It writes
# grad_scalars (n_rows, F) and work (8, n_rows, F); slot 2 of work, the gradient of what the first linear gave, is what
# the encodings get.
@triton.jit(do_not_specialize=["n_rows", "n_molecules", "n_halvings"])
def time_embed_bwd_kernel(
    grad,
    scalars,
    encodings,
    batch_ptr,
    first_weight,
    first_bias,
    first_scale,
    first_shift,
    second_weight,
    second_bias,
    second_scale,
    second_shift,
    last_weight,
    grad_scalars,
    work,
    n_rows,
    n_molecules,
    n_halvings,
    n_out,
    N_ENCODINGS: tl.constexpr,
    N_WIDE: tl.constexpr,
    N_FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    hidden = _first_linear(
        scalars,
        encodings,
        batch_ptr,
        first_weight,
        first_bias,
        rows,
        n_rows,
        n_molecules,
        n_halvings,
        N_ENCODINGS,
        N_FEATURES,
        PRECISION,
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
        True,
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
        True,
        PRECISION,
    )
    stride = (1 + N_ENCODINGS) * N_FEATURES
    d_scalars = linear_backward(d_hidden, first_weight, stride, N_FEATURES, PRECISION)
    store_rows(grad_scalars, rows, n_rows, N_FEATURES, d_scalars, N_FEATURES)


# One program sums the rows of one molecule's atoms, d_hidden (n_rows, F), in tiles in their order, to sums
# (n_molecules, F).
@triton.jit(do_not_specialize=["n_rows"])
def molecule_sums_kernel(
    d_hidden, batch_ptr, sums, n_rows, N_FEATURES: tl.constexpr, TILE: tl.constexpr
):
    molecule = tl.program_id(0)
    first = tl.maximum(tl.load(batch_ptr + molecule), 0)
    end = tl.minimum(tl.load(batch_ptr + molecule + 1), n_rows)
    total = tl.zeros((TILE, N_FEATURES), dtype=sums.dtype.element_ty)
    for start in range(first, end, TILE):
        rows = start + tl.arange(0, TILE)
        total += load_rows(d_hidden, rows, end, N_FEATURES, N_FEATURES)
    at = sums + molecule.to(tl.int64) * N_FEATURES + tl.arange(0, N_FEATURES)
    tl.store(at, tl.sum(total, axis=0))


# One program takes sums (n_molecules, F) of BLOCK molecules back through the first linear's columns of encodings; it
# writes grad_encodings (n_molecules, N_ENCODINGS F).
@triton.jit(do_not_specialize=["n_molecules"])
def encodings_bwd_kernel(
    sums,
    first_weight,
    grad_encodings,
    n_molecules,
    N_ENCODINGS: tl.constexpr,
    N_FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
):
    molecules = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    d_hidden = load_rows(sums, molecules, n_molecules, N_FEATURES, N_FEATURES)
    for block in range(N_ENCODINGS):
        start = block * N_FEATURES
        d_encodings = linear_backward(
            d_hidden,
            first_weight + N_FEATURES + start,
            (1 + N_ENCODINGS) * N_FEATURES,
            N_FEATURES,
            PRECISION,
        )
        store_rows(
            grad_encodings + start,
            molecules,
            n_molecules,
            N_ENCODINGS * N_FEATURES,
            d_encodings,
            N_FEATURES,
        )


FORWARD = mlp_launches({32: (64, 4), 64: (32, 4), 128: (16, 8)})
BACKWARD = mlp_launches({32: (64, 4), 64: (32, 8), 128: (16, 8)})
ENCODINGS = mlp_launches({32: (32, 4), 64: (32, 4), 128: (16, 8)})
SUMS = Launch({"TILE": 16}, num_warps=4)

_OF_TYPE = {"batch_ptr": "*i64"} | dict.fromkeys(
    ("n_rows", "n_molecules", "n_halvings", "n_out"), "i32"
)


def _build(
    name: str, kernel: object, constexprs: dict[str, object], launch: Launch, *, is_hot: bool
) -> KernelBuild:
    known = {*constexprs, *launch.tile}
    return KernelBuild(
        name=name,
        kernel=kernel,
        signature={
            each: _OF_TYPE.get(each, "*fp32") for each in kernel.arg_names if each not in known
        },
        constexprs=constexprs,
        launch=launch,
        is_hot=is_hot,
    )


def aot_builds(architecture: int) -> list[KernelBuild]:
    """Return the kernels that models use: flow time and lag, F outputs."""
    builds = []
    for width in TRITON_WIDTHS:
        builds.append(
            _build(
                f"molecule_sums[F={width}]",
                molecule_sums_kernel,
                {"N_FEATURES": width},
                SUMS,
                is_hot=False,
            )
        )
        for precision in PRODUCT_PRECISIONS:
            if precision == "ieee" and width != 64:
                continue
            shared = {"N_ENCODINGS": 2, "N_FEATURES": width, "PRECISION": precision}
            for name, kernel, table, more in (
                ("time_embed_fwd", time_embed_fwd_kernel, FORWARD, {"N_WIDE": 1}),
                ("time_embed_bwd", time_embed_bwd_kernel, BACKWARD, {"N_WIDE": 1}),
                ("encodings_bwd", encodings_bwd_kernel, ENCODINGS, {}),
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
