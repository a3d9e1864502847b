"""Device functions and kernels that every Triton kernel with an MLP shares.

Letters: m rows of a tile, F features. Weights have torch's layout, (outputs, inputs), row-major. ``work`` is
(8, n_rows, F), by slot: activations after the first and the second norm, then, for each of the two hidden
layers, the rows whose sums over all rows are the gradients of its bias, of its norm's scale and of its shift.
"""

import triton
import triton.language as tl

from tito_fast.ops.triton_blocks import norm_silu_backward, normalized, product, sigmoid

ACTIVATIONS = 2
"""Slots of ``work`` before those that are summed."""
WORK_SLOTS = 8


@triton.jit
def load_rows(pointer, rows, n_rows, stride, WIDTH: tl.constexpr):
    """Return (m, WIDTH): what starts at ``pointer + rows stride``; zero where ``rows >= n_rows``."""
    columns = tl.arange(0, WIDTH)
    at = pointer + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    return tl.load(at, mask=(rows < n_rows)[:, None], other=0.0)


@triton.jit
def store_rows(pointer, rows, n_rows, stride, values, WIDTH: tl.constexpr):
    """Write (m, WIDTH) to ``pointer + rows stride``."""
    columns = tl.arange(0, WIDTH)
    at = pointer + rows.to(tl.int64)[:, None] * stride + columns[None, :]
    tl.store(at, values, mask=(rows < n_rows)[:, None])


@triton.jit
def _halves(x, WIDTH: tl.constexpr):
    """Return the left and the right half of ``x`` (m, WIDTH), (m, WIDTH / 2) each."""
    return tl.split(x.reshape(x.shape[0], 2, WIDTH // 2).permute(0, 2, 1))


@triton.jit
def _times(x, at, step, WIDTH: tl.constexpr, PRECISION: tl.constexpr):
    """Return ``x`` times the factor at the pointers ``at``, its rows ``step`` apart.

    128 rows come in four parts, ``at`` those of the first, with barriers between: the whole factor, which the
    compiler would fetch ahead, does not fit into the registers.
    """
    tl.debug_barrier()
    if WIDTH == 128:
        left, right = _halves(x, 128)
        first, second = _halves(left, 64)
        third, fourth = _halves(right, 64)
        result = product(first, tl.load(at), PRECISION)
        tl.debug_barrier()
        result += product(second, tl.load(at + 32 * step), PRECISION)
        tl.debug_barrier()
        result += product(third, tl.load(at + 64 * step), PRECISION)
        tl.debug_barrier()
        result += product(fourth, tl.load(at + 96 * step), PRECISION)
    else:
        result = product(x, tl.load(at), PRECISION)
    return result


@triton.jit
def linear(x, weight, stride, N_FEATURES: tl.constexpr, PRECISION: tl.constexpr):
    """Return ``x @ W^T``, (m, F outputs), of (m, F inputs), W at ``weight`` with rows ``stride`` apart."""
    feature = tl.arange(0, N_FEATURES)
    part = tl.arange(0, 32 if N_FEATURES == 128 else N_FEATURES)
    at = weight + part[:, None] + feature[None, :] * stride
    return _times(x, at, 1, N_FEATURES, PRECISION)


@triton.jit
def linear_backward(grad, weight, stride, N_FEATURES: tl.constexpr, PRECISION: tl.constexpr):
    """Return ``grad @ W``, (m, F inputs), of the gradient (m, F outputs) of ``linear``."""
    feature = tl.arange(0, N_FEATURES)
    part = tl.arange(0, 32 if N_FEATURES == 128 else N_FEATURES)
    at = weight + part[:, None] * stride + feature[None, :]
    return _times(grad, at, stride, N_FEATURES, PRECISION)


@triton.jit
def load_features(pointer, N_FEATURES: tl.constexpr):
    """Return (F,)."""
    return tl.load(pointer + tl.arange(0, N_FEATURES))


@triton.jit
def activation(unit, scale, shift):
    """Return silu(unit scale + shift), ``unit`` from ``normalized``."""
    affine = unit * scale[None, :] + shift[None, :]
    return affine * sigmoid(affine)


@triton.jit
def second_hidden(
    first_act, second_weight, second_bias, N_FEATURES: tl.constexpr, PRECISION: tl.constexpr
):
    """Return the second linear of the first activation, (m, F)."""
    hidden = linear(first_act, second_weight, N_FEATURES, N_FEATURES, PRECISION)
    return hidden + load_features(second_bias, N_FEATURES)[None, :]


@triton.jit
def last_activation(
    hidden,
    first_scale,
    first_shift,
    second_weight,
    second_bias,
    second_scale,
    second_shift,
    N_FEATURES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return what the last linear takes, (m, F), from what the first linear gave, ``hidden`` (m, F)."""
    unit, _ = normalized(hidden, N_FEATURES)
    act = activation(
        unit, load_features(first_scale, N_FEATURES), load_features(first_shift, N_FEATURES)
    )
    hidden = second_hidden(act, second_weight, second_bias, N_FEATURES, PRECISION)
    unit, _ = normalized(hidden, N_FEATURES)
    return activation(
        unit, load_features(second_scale, N_FEATURES), load_features(second_shift, N_FEATURES)
    )


@triton.jit
def store_outputs(
    act,
    last_weight,
    last_bias,
    outputs,
    rows,
    n_rows,
    n_out,
    N_FEATURES: tl.constexpr,
    N_WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write the last linear of ``act``, (m, F), to ``outputs`` (n_rows, n_out).

    In blocks of F outputs where n_out is N_WIDE of them, else (N_WIDE = 0) of 16, the last one cut off.
    """
    if N_WIDE > 0:
        for block in range(N_WIDE):
            start = block * N_FEATURES
            out = linear(act, last_weight + start * N_FEATURES, N_FEATURES, N_FEATURES, PRECISION)
            out += load_features(last_bias + start, N_FEATURES)[None, :]
            store_rows(outputs + start, rows, n_rows, N_WIDE * N_FEATURES, out, N_FEATURES)
    else:
        feature = tl.arange(0, N_FEATURES)
        for start in range(0, n_out, 16):
            column = start + tl.arange(0, 16)
            known = column < n_out
            at = last_weight + feature[:, None] + column[None, :] * N_FEATURES
            out = product(act, tl.load(at, mask=known[None, :], other=0.0), PRECISION)
            out += tl.load(last_bias + column, mask=known, other=0.0)[None, :]
            at = outputs + rows.to(tl.int64)[:, None] * n_out + column[None, :]
            tl.store(at, out, mask=(rows < n_rows)[:, None] & known[None, :])


@triton.jit
def grad_of_last_activation(
    grad,
    last_weight,
    rows,
    n_rows,
    n_out,
    BLOCK: tl.constexpr,
    N_FEATURES: tl.constexpr,
    N_WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return ``grad @ last_weight``, (m, F), of ``grad`` (n_rows, n_out) in memory; blocks as in ``store_outputs``."""
    result = tl.zeros((BLOCK, N_FEATURES), dtype=last_weight.dtype.element_ty)
    if N_WIDE > 0:
        for block in range(N_WIDE):
            start = block * N_FEATURES
            part = load_rows(grad + start, rows, n_rows, N_WIDE * N_FEATURES, N_FEATURES)
            weight = last_weight + start * N_FEATURES
            result += linear_backward(part, weight, N_FEATURES, N_FEATURES, PRECISION)
    else:
        feature = tl.arange(0, N_FEATURES)
        for start in range(0, n_out, 16):
            column = start + tl.arange(0, 16)
            known = column < n_out
            at = grad + rows.to(tl.int64)[:, None] * n_out + column[None, :]
            part = tl.load(at, mask=(rows < n_rows)[:, None] & known[None, :], other=0.0)
            at = last_weight + column[:, None] * N_FEATURES + feature[None, :]
            weight = tl.load(at, mask=known[:, None], other=0.0)
            result += product(part, weight, PRECISION)
    return result


@triton.jit
def hidden_layers(
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
    N_FEATURES: tl.constexpr,
    WANTS_WEIGHTS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the last activation, and what the backward needs of both norms: ``normalized`` of each.

    With WANTS_WEIGHTS, writes the activations to ``work``.
    """
    first_unit, first_inverse = normalized(hidden, N_FEATURES)
    act = activation(
        first_unit, load_features(first_scale, N_FEATURES), load_features(first_shift, N_FEATURES)
    )
    if WANTS_WEIGHTS:
        store_rows(work, rows, n_rows, N_FEATURES, act, N_FEATURES)
    hidden = second_hidden(act, second_weight, second_bias, N_FEATURES, PRECISION)
    second_unit, second_inverse = normalized(hidden, N_FEATURES)
    act = activation(
        second_unit,
        load_features(second_scale, N_FEATURES),
        load_features(second_shift, N_FEATURES),
    )
    if WANTS_WEIGHTS:
        slot = work + n_rows.to(tl.int64) * N_FEATURES
        store_rows(slot, rows, n_rows, N_FEATURES, act, N_FEATURES)
    return act, first_unit, first_inverse, second_unit, second_inverse


@triton.jit
def _norm_backward(
    grad,
    unit,
    inverse,
    scale,
    shift,
    slots,
    rows,
    n_rows,
    N_FEATURES: tl.constexpr,
    WANTS_WEIGHTS: tl.constexpr,
):
    """Return the gradient of a norm's input; with WANTS_WEIGHTS, write three slots of ``work``."""
    scale, shift = load_features(scale, N_FEATURES), load_features(shift, N_FEATURES)
    d_hidden, d_affine = norm_silu_backward(grad, unit, inverse, scale, shift, N_FEATURES)
    if WANTS_WEIGHTS:
        slot = n_rows.to(tl.int64) * N_FEATURES
        store_rows(slots, rows, n_rows, N_FEATURES, d_hidden, N_FEATURES)
        store_rows(slots + slot, rows, n_rows, N_FEATURES, d_affine * unit, N_FEATURES)
        store_rows(slots + 2 * slot, rows, n_rows, N_FEATURES, d_affine, N_FEATURES)
    return d_hidden


@triton.jit
def hidden_layers_backward(
    grad,
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
    N_FEATURES: tl.constexpr,
    WANTS_WEIGHTS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return the gradient of what the first linear gave, (m, F), of that of the last activation.

    With WANTS_WEIGHTS, writes slots 2 to 7 of ``work``.
    """
    slot = n_rows.to(tl.int64) * N_FEATURES
    d_hidden = _norm_backward(
        grad,
        second_unit,
        second_inverse,
        second_scale,
        second_shift,
        work + 5 * slot,
        rows,
        n_rows,
        N_FEATURES,
        WANTS_WEIGHTS,
    )
    d_act = linear_backward(d_hidden, second_weight, N_FEATURES, N_FEATURES, PRECISION)
    return _norm_backward(
        d_act,
        first_unit,
        first_inverse,
        first_scale,
        first_shift,
        work + 2 * slot,
        rows,
        n_rows,
        N_FEATURES,
        WANTS_WEIGHTS,
    )


@triton.jit(do_not_specialize=["n_rows", "rows_per_split"])
def rows_product_kernel(
    left,
    right,
    partial,
    n_rows,
    rows_per_split,
    n_left,
    n_right,
    PRECISION: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Sum one TILE x TILE piece of left^T right over one split of the rows, BLOCK at a time in their order.

    ``left`` is (n_rows, n_left), ``right`` (n_rows, n_right); the rows are [split rows_per_split, + rows_per_split),
    the sum goes to ``partial`` (n_splits, n_left, n_right). Programs: n_splits x ceil(n_left / TILE) x
    ceil(n_right / TILE).
    """
    n_right_tiles = tl.cdiv(n_right, TILE)
    n_tiles = tl.cdiv(n_left, TILE) * n_right_tiles
    split = tl.program_id(0) // n_tiles
    tile = tl.program_id(0) % n_tiles
    of_left = (tile // n_right_tiles) * TILE + tl.arange(0, TILE)
    of_right = (tile % n_right_tiles) * TILE + tl.arange(0, TILE)
    total = tl.zeros((TILE, TILE), dtype=partial.dtype.element_ty)
    begin = split * rows_per_split
    end = tl.minimum(begin + rows_per_split, n_rows)
    for start in range(begin, end, BLOCK):
        rows = start + tl.arange(0, BLOCK)
        is_row = rows < end
        at = left + rows.to(tl.int64)[None, :] * n_left + of_left[:, None]
        factor = tl.load(at, mask=is_row[None, :] & (of_left < n_left)[:, None], other=0.0)
        at = right + rows.to(tl.int64)[:, None] * n_right + of_right[None, :]
        other = tl.load(at, mask=is_row[:, None] & (of_right < n_right)[None, :], other=0.0)
        total += product(factor, other, PRECISION)
    at = partial + (split.to(tl.int64) * n_left + of_left[:, None]) * n_right + of_right[None, :]
    tl.store(at, total, mask=(of_left < n_left)[:, None] & (of_right < n_right)[None, :])
