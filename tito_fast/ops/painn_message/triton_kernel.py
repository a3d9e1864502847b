"""Triton kernel of ``painn_message``: edges' MLPs, gates and sums over sources in one pass."""

import triton
import triton.language as tl

from tito_fast.ops.triton_blocks import (
    IS_INTERPRETED,
    _to_bf16,
    encode_distances,
    norm_silu,
    product,
)
from tito_fast.ops.triton_launch import KernelBuild, Launch, LaunchTable


@triton.jit
def _block(weight, row, column, N_INPUTS: tl.constexpr, WIDTH: tl.constexpr, DTYPE: tl.constexpr):
    """Return a square block of ``weight`` (outputs, inputs), transposed: (inputs, outputs)."""
    feature = tl.arange(0, WIDTH)
    offset = (row + feature)[None, :] * N_INPUTS + (column + feature)[:, None]
    return tl.load(weight + offset).to(DTYPE)


@triton.jit
def _zero_of(chunk):
    """Return 0 in a way that the compiler cannot see through.

    Added to addresses of weights, it keeps a loop's weights and their addresses out of registers between its rounds.
    """
    if IS_INTERPRETED:
        return chunk * 0
    zero = tl.inline_asm_elementwise(
        "mov.b32 $0, 0;", "=r,r", [chunk], dtype=tl.int32, is_pure=False, pack=1
    )
    # Keeps addresses divisible in the eyes of the compiler.
    return zero * 16


@triton.jit
def _sum_sources(x, RECEIVERS: tl.constexpr, HIGH: tl.constexpr, WIDTH: tl.constexpr):
    """Return the sum of ``x`` (rows, WIDTH) over the sources of each receiver, (RECEIVERS, WIDTH)."""
    ROWS: tl.constexpr = x.shape[0]
    GROUPS: tl.constexpr = ROWS // (16 * HIGH)
    LANES: tl.constexpr = ROWS // (2 * HIGH * RECEIVERS)
    x = tl.reshape(x, [HIGH, GROUPS, 2, LANES, 8 // LANES * WIDTH])
    x = tl.sum(tl.sum(tl.sum(x, axis=0), axis=1), axis=1)
    return tl.reshape(x, [RECEIVERS, WIDTH])


@triton.jit(do_not_specialize=["n_atoms"])
def painn_message_fwd_kernel(
    scalars,
    vectors,
    edges,
    pair_dist,
    vec_saturated,
    source,
    edge_ptr,
    edge_pair,
    phi_first,
    phi_first_bias,
    phi_first_scale,
    phi_first_shift,
    phi_second,
    phi_second_bias,
    phi_second_scale,
    phi_second_shift,
    phi_last,
    phi_last_bias,
    filter_first,
    filter_first_bias,
    filter_first_scale,
    filter_first_shift,
    filter_second,
    filter_second_bias,
    filter_second_scale,
    filter_second_shift,
    filter_last,
    filter_last_bias,
    sum_scalars,
    sum_vectors,
    new_edges,
    cross_sum,
    n_atoms,
    distance_length,
    HAS_VECTORS: tl.constexpr,
    HAS_EDGES: tl.constexpr,
    ADDS_EDGES: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
    RECEIVERS: tl.constexpr,
    ROWS: tl.constexpr,
    HIGH: tl.constexpr,
    KEEPS_WEIGHTS: tl.constexpr,
):
    DTYPE: tl.constexpr = scalars.dtype.element_ty
    SOURCES: tl.constexpr = ROWS // RECEIVERS
    LANES: tl.constexpr = SOURCES // (2 * HIGH)
    GROUPS: tl.constexpr = ROWS // (16 * HIGH)

    feature = tl.arange(0, WIDTH)
    # Bits of a row from the lowest: receiver, source (8 together: lanes of a warp), source (2: registers of a
    # thread), receiver (warps), source (registers). Most of a sum over sources is then within threads.
    row = tl.arange(0, ROWS)
    row_receiver = row // 16 % GROUPS * (8 // LANES) + row % (8 // LANES)
    row_source = (row // (16 * GROUPS) * 2 + row // 8 % 2) * LANES + row // (8 // LANES) % LANES

    if KEEPS_WEIGHTS:
        w1s = _block(phi_first, 0, 0, 2 * WIDTH, WIDTH, DTYPE)
        w1e = _block(phi_first, 0, WIDTH, 2 * WIDTH, WIDTH, DTYPE)
        w2 = _block(phi_second, 0, 0, WIDTH, WIDTH, DTYPE)
        f1 = _block(filter_first, 0, 0, WIDTH, WIDTH, DTYPE)
        f2 = _block(filter_second, 0, 0, WIDTH, WIDTH, DTYPE)
        w_dir = _block(phi_last, WIDTH, 0, WIDTH, WIDTH, DTYPE)
        f_dir = _block(filter_last, WIDTH, 0, WIDTH, WIDTH, DTYPE)
        w_ds = _block(phi_last, 2 * WIDTH, 0, WIDTH, WIDTH, DTYPE)
        f_ds = _block(filter_last, 2 * WIDTH, 0, WIDTH, WIDTH, DTYPE)
        if HAS_VECTORS:
            w_gate = _block(phi_last, 0, 0, WIDTH, WIDTH, DTYPE)
            f_gate = _block(filter_last, 0, 0, WIDTH, WIDTH, DTYPE)
            w_cross = _block(phi_last, 4 * WIDTH, 0, WIDTH, WIDTH, DTYPE)
            f_cross = _block(filter_last, 4 * WIDTH, 0, WIDTH, WIDTH, DTYPE)
        if HAS_EDGES:
            w_de = _block(phi_last, 3 * WIDTH, 0, WIDTH, WIDTH, DTYPE)
            f_de = _block(filter_last, 3 * WIDTH, 0, WIDTH, WIDTH, DTYPE)

    for tile in range(tl.program_id(0), tl.cdiv(n_atoms, RECEIVERS), tl.num_programs(0)):
        i = tile * RECEIVERS + tl.arange(0, RECEIVERS)
        first = tl.load(edge_ptr + i, mask=i < n_atoms, other=0)
        end = tl.load(edge_ptr + i + 1, mask=i < n_atoms, other=0)
        n_chunks = (tl.max(end - first, axis=0).to(tl.int32) + SOURCES - 1) // SOURCES

        ds_sum = tl.zeros([RECEIVERS, WIDTH], dtype=DTYPE)
        dv_x = tl.zeros([RECEIVERS, WIDTH], dtype=DTYPE)
        dv_y = tl.zeros([RECEIVERS, WIDTH], dtype=DTYPE)
        dv_z = tl.zeros([RECEIVERS, WIDTH], dtype=DTYPE)
        if HAS_VECTORS:
            c_x = tl.zeros([RECEIVERS, WIDTH], dtype=DTYPE)
            c_y = tl.zeros([RECEIVERS, WIDTH], dtype=DTYPE)
            c_z = tl.zeros([RECEIVERS, WIDTH], dtype=DTYPE)

        for chunk in range(0, n_chunks):
            zero = _zero_of(chunk)
            at = feature + zero
            i_row = tile * RECEIVERS + row_receiver + zero
            e_first = tl.load(edge_ptr + i_row, mask=i_row < n_atoms, other=0)
            e_end = tl.load(edge_ptr + i_row + 1, mask=i_row < n_atoms, other=0)
            e = e_first + chunk * SOURCES + row_source
            is_edge = e < e_end
            mask = is_edge[:, None]
            j = tl.load(source + e, mask=is_edge, other=0)
            pair = tl.load(edge_pair + e, mask=is_edge, other=0)
            dist = tl.load(pair_dist + pair, mask=is_edge, other=0.0)
            e_feature = e[:, None] * WIDTH + feature[None, :]

            if not KEEPS_WEIGHTS:
                f1 = _block(filter_first, zero, 0, WIDTH, WIDTH, DTYPE)
            hidden = product(encode_distances(dist, distance_length, WIDTH), f1, PRECISION)
            hidden = norm_silu(
                hidden + tl.load(filter_first_bias + at)[None, :],
                tl.load(filter_first_scale + at),
                tl.load(filter_first_shift + at),
                WIDTH,
            )
            if not KEEPS_WEIGHTS:
                f2 = _block(filter_second, zero, 0, WIDTH, WIDTH, DTYPE)
            hidden = product(hidden, f2, PRECISION)
            g = norm_silu(
                hidden + tl.load(filter_second_bias + at)[None, :],
                tl.load(filter_second_scale + at),
                tl.load(filter_second_shift + at),
                WIDTH,
            )

            if not KEEPS_WEIGHTS:
                w1e = _block(phi_first, zero, WIDTH, 2 * WIDTH, WIDTH, DTYPE)
                w1s = _block(phi_first, zero, 0, 2 * WIDTH, WIDTH, DTYPE)
            e_ij = tl.load(edges + e_feature, mask=mask, other=0.0).to(DTYPE)
            s_j = tl.load(scalars + j[:, None] * WIDTH + feature[None, :], mask=mask, other=0.0)
            hidden = product(e_ij, w1e, PRECISION)
            hidden += product(s_j, w1s, PRECISION)
            hidden = norm_silu(
                hidden + tl.load(phi_first_bias + at)[None, :],
                tl.load(phi_first_scale + at),
                tl.load(phi_first_shift + at),
                WIDTH,
            )
            if not KEEPS_WEIGHTS:
                w2 = _block(phi_second, zero, 0, WIDTH, WIDTH, DTYPE)
            hidden = product(hidden, w2, PRECISION)
            h = norm_silu(
                hidden + tl.load(phi_second_bias + at)[None, :],
                tl.load(phi_second_scale + at),
                tl.load(phi_second_shift + at),
                WIDTH,
            )

            if HAS_EDGES:
                if not KEEPS_WEIGHTS:
                    w_de = _block(phi_last, 3 * WIDTH + zero, 0, WIDTH, WIDTH, DTYPE)
                    f_de = _block(filter_last, 3 * WIDTH + zero, 0, WIDTH, WIDTH, DTYPE)
                de = product(h, w_de, PRECISION)
                de += tl.load(phi_last_bias + 3 * WIDTH + at)[None, :]
                w = product(g, f_de, PRECISION)
                de *= w + tl.load(filter_last_bias + 3 * WIDTH + at)[None, :]
                if ADDS_EDGES:
                    de += tl.load(edges + e_feature, mask=mask, other=0.0).to(DTYPE)
                if new_edges.dtype.element_ty == tl.bfloat16:
                    de = _to_bf16(de)
                tl.store(new_edges + e_feature, de, mask=mask)

            if not KEEPS_WEIGHTS:
                w_ds = _block(phi_last, 2 * WIDTH + zero, 0, WIDTH, WIDTH, DTYPE)
                f_ds = _block(filter_last, 2 * WIDTH + zero, 0, WIDTH, WIDTH, DTYPE)
            ds = product(h, w_ds, PRECISION)
            ds += tl.load(phi_last_bias + 2 * WIDTH + at)[None, :]
            w = product(g, f_ds, PRECISION)
            ds *= w + tl.load(filter_last_bias + 2 * WIDTH + at)[None, :]
            ds_sum += _sum_sources(tl.where(mask, ds, 0.0), RECEIVERS, HIGH, WIDTH)

            # Rows beyond the last edge: u and v_j are zero.
            u = vec_saturated + e * 3
            u_x = tl.load(u, mask=is_edge, other=0.0)[:, None]
            u_y = tl.load(u + 1, mask=is_edge, other=0.0)[:, None]
            u_z = tl.load(u + 2, mask=is_edge, other=0.0)[:, None]

            if HAS_VECTORS:
                if not KEEPS_WEIGHTS:
                    w_cross = _block(phi_last, 4 * WIDTH + zero, 0, WIDTH, WIDTH, DTYPE)
                    f_cross = _block(filter_last, 4 * WIDTH + zero, 0, WIDTH, WIDTH, DTYPE)
                cross = product(h, w_cross, PRECISION)
                cross += tl.load(phi_last_bias + 4 * WIDTH + at)[None, :]
                w = product(g, f_cross, PRECISION)
                cross *= w + tl.load(filter_last_bias + 4 * WIDTH + at)[None, :]
                c_x += _sum_sources(cross * u_x, RECEIVERS, HIGH, WIDTH)
                c_y += _sum_sources(cross * u_y, RECEIVERS, HIGH, WIDTH)
                c_z += _sum_sources(cross * u_z, RECEIVERS, HIGH, WIDTH)

            if not KEEPS_WEIGHTS:
                w_dir = _block(phi_last, WIDTH + zero, 0, WIDTH, WIDTH, DTYPE)
                f_dir = _block(filter_last, WIDTH + zero, 0, WIDTH, WIDTH, DTYPE)
            direction = product(h, w_dir, PRECISION)
            direction += tl.load(phi_last_bias + WIDTH + at)[None, :]
            w = product(g, f_dir, PRECISION)
            direction *= w + tl.load(filter_last_bias + WIDTH + at)[None, :]
            if HAS_VECTORS:
                if not KEEPS_WEIGHTS:
                    w_gate = _block(phi_last, zero, 0, WIDTH, WIDTH, DTYPE)
                    f_gate = _block(filter_last, zero, 0, WIDTH, WIDTH, DTYPE)
                gate = product(h, w_gate, PRECISION)
                gate += tl.load(phi_last_bias + at)[None, :]
                w = product(g, f_gate, PRECISION)
                gate *= w + tl.load(filter_last_bias + at)[None, :]
                v_j = vectors + j[:, None] * (3 * WIDTH) + feature[None, :]
                v = tl.load(v_j, mask=mask, other=0.0)
                dv_x += _sum_sources(gate * v + direction * u_x, RECEIVERS, HIGH, WIDTH)
                v = tl.load(v_j + WIDTH, mask=mask, other=0.0)
                dv_y += _sum_sources(gate * v + direction * u_y, RECEIVERS, HIGH, WIDTH)
                v = tl.load(v_j + 2 * WIDTH, mask=mask, other=0.0)
                dv_z += _sum_sources(gate * v + direction * u_z, RECEIVERS, HIGH, WIDTH)
            else:
                dv_x += _sum_sources(direction * u_x, RECEIVERS, HIGH, WIDTH)
                dv_y += _sum_sources(direction * u_y, RECEIVERS, HIGH, WIDTH)
                dv_z += _sum_sources(direction * u_z, RECEIVERS, HIGH, WIDTH)

        i = (tile * RECEIVERS + tl.arange(0, RECEIVERS)).to(tl.int64)
        is_atom = i[:, None] < n_atoms
        tl.store(sum_scalars + i[:, None] * WIDTH + feature[None, :], ds_sum, mask=is_atom)
        i_vector = i[:, None] * (3 * WIDTH) + feature[None, :]
        if HAS_VECTORS:
            v_x = tl.load(vectors + i_vector, mask=is_atom, other=0.0)
            v_y = tl.load(vectors + i_vector + WIDTH, mask=is_atom, other=0.0)
            v_z = tl.load(vectors + i_vector + 2 * WIDTH, mask=is_atom, other=0.0)
            dv_x += c_y * v_z - c_z * v_y
            dv_y += c_z * v_x - c_x * v_z
            dv_z += c_x * v_y - c_y * v_x
            tl.store(cross_sum + i_vector, c_x, mask=is_atom)
            tl.store(cross_sum + i_vector + WIDTH, c_y, mask=is_atom)
            tl.store(cross_sum + i_vector + 2 * WIDTH, c_z, mask=is_atom)
        tl.store(sum_vectors + i_vector, dv_x, mask=is_atom)
        tl.store(sum_vectors + i_vector + WIDTH, dv_y, mask=is_atom)
        tl.store(sum_vectors + i_vector + 2 * WIDTH, dv_z, mask=is_atom)


def _launch(rows: int, receivers: int, high: int, num_warps: int, *, keeps: bool = False) -> Launch:
    tile = {"ROWS": rows, "RECEIVERS": receivers, "HIGH": high, "KEEPS_WEIGHTS": keeps}
    return Launch(tile=tile, num_warps=num_warps)


FORWARD: LaunchTable = {
    (architecture, width, precision): _launch(64, 16, 1, 8)
    for architecture in (80, 90)
    for width in (32, 64, 128)
    for precision in ("ieee", "fp32", "tf32", "bf16")
}
