"""Triton kernel of ``painn_message``: edges' MLPs, gates and sums over sources in one pass.

A program takes tiles of RECEIVERS atoms in turn, and of each atom ROWS / RECEIVERS edges at a time, a chunk. In a
chunk it computes both MLPs' hidden rows, then COLUMNS features at a time the five output blocks, and adds their sums
over sources to ``sum_scalars`` (n_atoms, F), ``sum_vectors`` and ``cross_sum`` (n_atoms, 3, F), which it alone reads
and writes; ``new_edges`` (n_edges, F) are written once. The cross product with the receiver's vectors follows after
the last chunk: Σ_j cross_ij (u_ij × v_i) = (Σ_j cross_ij u_ij) × v_i; so do, if wanted, the atoms' own features.
Offsets within a tile fit 32 bits.
"""

import triton
import triton.language as tl

from tito_fast.ops.painn_message.triton_backward_kernel import backward_builds
from tito_fast.ops.painn_message.triton_factor_kernel import product_with
from tito_fast.ops.triton_blocks import (
    IS_INTERPRETED,
    _to_bf16,
    norm_silu,
    sin_pi,
)
from tito_fast.ops.triton_launch import TRITON_WIDTHS, KernelBuild, Launch, LaunchTable
from tito_fast.types import PRODUCT_PRECISIONS


@triton.jit
def _block(
    weight,
    low_offset,
    first_output,
    first_input,
    ROW: tl.constexpr,
    N_INPUTS: tl.constexpr,
    N_OUTPUTS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return a block of ``weight`` (outputs, inputs), ROW numbers a row, as the right factor (N_INPUTS, N_OUTPUTS)."""
    output = first_output + tl.arange(0, N_OUTPUTS)
    offset = output[None, :] * ROW + first_input + tl.arange(0, N_INPUTS)[:, None]
    high = tl.load(weight + offset)
    low = high
    if PRECISION == "fp32":
        low = tl.load(weight + tl.multiple_of(low_offset, 16) + offset)
    return high, low


@triton.jit
def _encode(dist, length, WIDTH: tl.constexpr):
    """Return what ``encode_distances`` does, transposed: a thread then computes few edges, whose rows it must know."""
    feature = tl.arange(0, WIDTH)
    ahead = tl.where(feature % 2 == 0, 0.5, 0.0).to(dist.dtype)
    rank = (feature // 2 + 1).to(dist.dtype)
    return sin_pi((dist / length)[None, :] * rank[:, None] + ahead[:, None])


@triton.jit
def _outputs(
    h,
    g,
    phi_last,
    phi_bias,
    filter_last,
    filter_bias,
    low_offset,
    first_column,
    SECTION: tl.constexpr,
    WIDTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return columns of one of the five blocks of phi times those of the filter, (rows, COLUMNS)."""
    first = SECTION * WIDTH + first_column
    column = first + tl.arange(0, COLUMNS)
    w = _block(phi_last, low_offset, first, 0, WIDTH, WIDTH, COLUMNS, PRECISION)
    f = _block(filter_last, low_offset, first, 0, WIDTH, WIDTH, COLUMNS, PRECISION)
    of_phi = product_with(h, w, PRECISION) + tl.load(phi_bias + column)[None, :]
    return of_phi * (product_with(g, f, PRECISION) + tl.load(filter_bias + column)[None, :])


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
    x = tl.reshape(x, [HIGH, GROUPS, 2, 8 // LANES, LANES, WIDTH])
    x = tl.sum(tl.sum(tl.sum(x, axis=0), axis=1), axis=2)
    return tl.reshape(x, [RECEIVERS, WIDTH])


@triton.jit
def _add(address, x, has_sum, is_atom):
    """Add ``x`` to what is stored at ``address``, or store it where there is no sum yet."""
    tl.store(address, tl.load(address, mask=has_sum, other=0.0) + x, mask=is_atom)


@triton.jit(do_not_specialize=["n_atoms", "low_offset"])
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
    low_offset,
    HAS_VECTORS: tl.constexpr,
    HAS_EDGES: tl.constexpr,
    ADDS_EDGES: tl.constexpr,
    ADDS_ATOMS: tl.constexpr,
    WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
    RECEIVERS: tl.constexpr,
    ROWS: tl.constexpr,
    HIGH: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    DTYPE: tl.constexpr = scalars.dtype.element_ty
    SOURCES: tl.constexpr = ROWS // RECEIVERS
    LANES: tl.constexpr = SOURCES // (2 * HIGH)
    GROUPS: tl.constexpr = ROWS // (16 * HIGH)

    feature = tl.arange(0, WIDTH)
    # Bits of a row from the lowest: source, receiver (8 together: lanes of a warp), source (2: registers of a
    # thread), receiver (warps), source (registers). Most of a sum over sources is then within threads.
    row = tl.arange(0, ROWS)
    row_receiver = row // 16 % GROUPS * (8 // LANES) + row % 8 // LANES
    row_source = (row // (16 * GROUPS) * 2 + row // 8 % 2) * LANES + row % LANES

    for tile in range(tl.program_id(0), tl.cdiv(n_atoms, RECEIVERS), tl.num_programs(0)):
        # Offsets from here fit 32 bits, so that fewer registers hold them.
        i_first = tile * RECEIVERS
        i = tl.arange(0, RECEIVERS)
        is_atom = (i_first + i < n_atoms)[:, None]
        start = tl.load(edge_ptr + i_first + i, mask=i_first + i < n_atoms, other=0)
        end = tl.load(edge_ptr + i_first + i + 1, mask=i_first + i < n_atoms, other=0)
        # One at least, which writes the zeros of atoms without edges.
        n_chunks = tl.maximum(tl.cdiv(tl.max(end - start, axis=0).to(tl.int32), SOURCES), 1)

        for chunk in range(n_chunks):
            zero = _zero_of(chunk)
            at = feature + zero
            e_first = tl.load(edge_ptr + i_first + zero)
            tile_scalars = scalars + (i_first + zero).to(tl.int64) * WIDTH
            tile_vectors = vectors + (i_first + zero).to(tl.int64) * (3 * WIDTH)
            tile_edges = edges + e_first * WIDTH
            tile_new_edges = new_edges + e_first * WIDTH
            tile_saturated = vec_saturated + e_first * 3
            tile_sum_scalars = sum_scalars + (i_first + zero).to(tl.int64) * WIDTH
            tile_sum_vectors = sum_vectors + (i_first + zero).to(tl.int64) * (3 * WIDTH)
            tile_cross_sum = cross_sum + (i_first + zero).to(tl.int64) * (3 * WIDTH)
            i_row = i_first + row_receiver + zero
            row_start = tl.load(edge_ptr + i_row, mask=i_row < n_atoms, other=0)
            row_end = tl.load(edge_ptr + i_row + 1, mask=i_row < n_atoms, other=0)
            k = chunk * SOURCES + row_source
            is_edge = k < (row_end - row_start).to(tl.int32)
            mask = is_edge[:, None]
            e = (row_start - e_first).to(tl.int32) + k
            j = (tl.load(source + e_first + e, mask=is_edge, other=0) - i_first).to(tl.int32)
            pair = tl.load(edge_pair + e_first + e, mask=is_edge, other=0)
            dist = tl.load(pair_dist + pair, mask=is_edge, other=0.0)
            e_feature = e[:, None] * WIDTH + feature[None, :]
            j_feature = j[:, None] * WIDTH + feature[None, :]
            has_sums = is_atom & (chunk > 0)

            f1 = _block(filter_first, low_offset, zero, 0, WIDTH, WIDTH, WIDTH, PRECISION)
            hidden = product_with(tl.trans(_encode(dist, distance_length, WIDTH)), f1, PRECISION)
            hidden = norm_silu(
                hidden + tl.load(filter_first_bias + at)[None, :],
                tl.load(filter_first_scale + at),
                tl.load(filter_first_shift + at),
                WIDTH,
            )
            f2 = _block(filter_second, low_offset, zero, 0, WIDTH, WIDTH, WIDTH, PRECISION)
            hidden = product_with(hidden, f2, PRECISION)
            g = norm_silu(
                hidden + tl.load(filter_second_bias + at)[None, :],
                tl.load(filter_second_scale + at),
                tl.load(filter_second_shift + at),
                WIDTH,
            )

            w1e = _block(phi_first, low_offset, zero, WIDTH, 2 * WIDTH, WIDTH, WIDTH, PRECISION)
            w1s = _block(phi_first, low_offset, zero, 0, 2 * WIDTH, WIDTH, WIDTH, PRECISION)
            e_ij = tl.load(tile_edges + e_feature, mask=mask, other=0.0).to(DTYPE)
            s_j = tl.load(tile_scalars + j_feature, mask=mask, other=0.0)
            hidden = product_with(e_ij, w1e, PRECISION)
            hidden += product_with(s_j, w1s, PRECISION)
            hidden = norm_silu(
                hidden + tl.load(phi_first_bias + at)[None, :],
                tl.load(phi_first_scale + at),
                tl.load(phi_first_shift + at),
                WIDTH,
            )
            w2 = _block(phi_second, low_offset, zero, 0, WIDTH, WIDTH, WIDTH, PRECISION)
            hidden = product_with(hidden, w2, PRECISION)
            h = norm_silu(
                hidden + tl.load(phi_second_bias + at)[None, :],
                tl.load(phi_second_scale + at),
                tl.load(phi_second_shift + at),
                WIDTH,
            )

            # Rows beyond the last edge: u and v_j are zero.
            u = tile_saturated + e * 3
            u_x = tl.load(u, mask=is_edge, other=0.0)[:, None]
            u_y = tl.load(u + 1, mask=is_edge, other=0.0)[:, None]
            u_z = tl.load(u + 2, mask=is_edge, other=0.0)[:, None]

            for first_column in range(0, WIDTH + zero, COLUMNS):
                column = first_column + tl.arange(0, COLUMNS)
                i_scalar = i[:, None] * WIDTH + column[None, :]
                i_vector = i[:, None] * (3 * WIDTH) + column[None, :]
                if HAS_EDGES:
                    de = _outputs(
                        h, g, phi_last, phi_last_bias, filter_last, filter_last_bias,
                        low_offset, first_column, 3, WIDTH, COLUMNS, PRECISION,
                    )  # fmt: skip
                    e_column = e[:, None] * WIDTH + column[None, :]
                    if ADDS_EDGES:
                        de += tl.load(tile_edges + e_column, mask=mask, other=0.0).to(DTYPE)
                    if new_edges.dtype.element_ty == tl.bfloat16:
                        de = _to_bf16(de)
                    tl.store(tile_new_edges + e_column, de, mask=mask)

                ds = _outputs(
                    h, g, phi_last, phi_last_bias, filter_last, filter_last_bias,
                    low_offset, first_column, 2, WIDTH, COLUMNS, PRECISION,
                )  # fmt: skip
                ds = _sum_sources(tl.where(mask, ds, 0.0), RECEIVERS, HIGH, COLUMNS)
                _add(tile_sum_scalars + i_scalar, ds, has_sums, is_atom)

                if HAS_VECTORS:
                    cross = _outputs(
                        h, g, phi_last, phi_last_bias, filter_last, filter_last_bias,
                        low_offset, first_column, 4, WIDTH, COLUMNS, PRECISION,
                    )  # fmt: skip
                    c = _sum_sources(cross * u_x, RECEIVERS, HIGH, COLUMNS)
                    _add(tile_cross_sum + i_vector, c, has_sums, is_atom)
                    c = _sum_sources(cross * u_y, RECEIVERS, HIGH, COLUMNS)
                    _add(tile_cross_sum + i_vector + WIDTH, c, has_sums, is_atom)
                    c = _sum_sources(cross * u_z, RECEIVERS, HIGH, COLUMNS)
                    _add(tile_cross_sum + i_vector + 2 * WIDTH, c, has_sums, is_atom)

                # Vectors are loaded before the last products of what they are added to: the compiler then sums in
                # the products' layout.
                if HAS_VECTORS:
                    gate = _outputs(
                        h, g, phi_last, phi_last_bias, filter_last, filter_last_bias,
                        low_offset, first_column, 0, WIDTH, COLUMNS, PRECISION,
                    )  # fmt: skip
                    v_j = tile_vectors + j[:, None] * (3 * WIDTH) + column[None, :]
                    dv_x = gate * tl.load(v_j, mask=mask, other=0.0)
                    dv_y = gate * tl.load(v_j + WIDTH, mask=mask, other=0.0)
                    dv_z = gate * tl.load(v_j + 2 * WIDTH, mask=mask, other=0.0)
                direction = _outputs(
                    h, g, phi_last, phi_last_bias, filter_last, filter_last_bias,
                    low_offset, first_column, 1, WIDTH, COLUMNS, PRECISION,
                )  # fmt: skip
                if HAS_VECTORS:
                    dv_x += direction * u_x
                    dv_y += direction * u_y
                    dv_z += direction * u_z
                else:
                    dv_x = direction * u_x
                    dv_y = direction * u_y
                    dv_z = direction * u_z
                dv_x = _sum_sources(dv_x, RECEIVERS, HIGH, COLUMNS)
                _add(tile_sum_vectors + i_vector, dv_x, has_sums, is_atom)
                dv_y = _sum_sources(dv_y, RECEIVERS, HIGH, COLUMNS)
                _add(tile_sum_vectors + i_vector + WIDTH, dv_y, has_sums, is_atom)
                dv_z = _sum_sources(dv_z, RECEIVERS, HIGH, COLUMNS)
                _add(tile_sum_vectors + i_vector + 2 * WIDTH, dv_z, has_sums, is_atom)
            tl.debug_barrier()

        if ADDS_ATOMS:
            tile_scalars = scalars + i_first.to(tl.int64) * WIDTH
            tile_sum_scalars = sum_scalars + i_first.to(tl.int64) * WIDTH
            i_scalar = i[:, None] * WIDTH + feature[None, :]
            s_i = tl.load(tile_scalars + i_scalar, mask=is_atom, other=0.0)
            _add(tile_sum_scalars + i_scalar, s_i, is_atom, is_atom)
        if HAS_VECTORS:
            tile_vectors = vectors + i_first.to(tl.int64) * (3 * WIDTH)
            tile_sum_vectors = sum_vectors + i_first.to(tl.int64) * (3 * WIDTH)
            tile_cross_sum = cross_sum + i_first.to(tl.int64) * (3 * WIDTH)
            i_vector = i[:, None] * (3 * WIDTH) + feature[None, :]
            v_x = tl.load(tile_vectors + i_vector, mask=is_atom, other=0.0)
            v_y = tl.load(tile_vectors + i_vector + WIDTH, mask=is_atom, other=0.0)
            v_z = tl.load(tile_vectors + i_vector + 2 * WIDTH, mask=is_atom, other=0.0)
            c_x = tl.load(tile_cross_sum + i_vector, mask=is_atom, other=0.0)
            c_y = tl.load(tile_cross_sum + i_vector + WIDTH, mask=is_atom, other=0.0)
            c_z = tl.load(tile_cross_sum + i_vector + 2 * WIDTH, mask=is_atom, other=0.0)
            dv_x = c_y * v_z - c_z * v_y
            dv_y = c_z * v_x - c_x * v_z
            dv_z = c_x * v_y - c_y * v_x
            if ADDS_ATOMS:
                dv_x += v_x
                dv_y += v_y
                dv_z += v_z
            _add(tile_sum_vectors + i_vector, dv_x, is_atom, is_atom)
            _add(tile_sum_vectors + i_vector + WIDTH, dv_y, is_atom, is_atom)
            _add(tile_sum_vectors + i_vector + 2 * WIDTH, dv_z, is_atom, is_atom)


def _launch(rows: int, receivers: int, high: int, num_warps: int, *, columns: int) -> Launch:
    tile = {
        "ROWS": rows,
        "RECEIVERS": receivers,
        "HIGH": high,
        "COLUMNS": columns,
    }
    return Launch(tile=tile, num_warps=num_warps)


def _launch_of(architecture: int, width: int, precision: str) -> Launch:
    """Return the largest tile that fits the registers."""
    if precision == "ieee":
        return _launch(64, 16, 1, 4, columns=32)
    if width == 128:
        return _launch(16, 8, 1, 8, columns=32)
    if (width, precision) == (32, "bf16"):
        return _launch(64, 16, 1, 4, columns=16)
    if precision == "tf32":
        return _launch(16, 8, 1, 4, columns=32)
    if (architecture, width, precision) == (90, 64, "fp32"):
        return _launch(16, 4, 1, 4, columns=32)
    return _launch(32, 8, 1, 4, columns=16)


FORWARD: LaunchTable = {
    (architecture, width, precision): _launch_of(architecture, width, precision)
    for architecture in (80, 90)
    for width in TRITON_WIDTHS
    for precision in PRODUCT_PRECISIONS
}

_INDICES = ("source", "edge_ptr", "edge_pair")
_WEIGHTS = tuple(
    f"{mlp}_{layer}" for mlp in ("phi", "filter") for layer in ("first", "second", "last")
)
_LAYERS = {
    "": (True, True),
    ", first": (False, True),
    ", last": (True, False),
}
"""Whether a layer has vectors, and whether it has new edges."""


def aot_builds(architecture: int) -> list[KernelBuild]:
    """Return the kernels that models use, those of the backward included."""
    builds = []
    for width in TRITON_WIDTHS:
        for precision in PRODUCT_PRECISIONS:
            if precision == "ieee" and width != 64:
                continue
            launch = FORWARD[architecture, width, precision]
            for layer, (has_vectors, has_edges) in _LAYERS.items():
                constants = {
                    "HAS_VECTORS": has_vectors,
                    "HAS_EDGES": has_edges,
                    "ADDS_EDGES": has_edges,
                    "ADDS_ATOMS": True,
                    "WIDTH": width,
                    "PRECISION": precision,
                }
                known = {*constants, *launch.tile}
                types = dict.fromkeys(_INDICES, "*i64") | {
                    "n_atoms": "i32",
                    "distance_length": "fp32",
                    "low_offset": "i32",
                }
                if precision in ("bf16", "fp32"):
                    types |= dict.fromkeys(_WEIGHTS, "*bf16")
                if precision == "bf16":
                    types |= {"edges": "*bf16", "new_edges": "*bf16"}
                builds.append(
                    KernelBuild(
                        name=f"painn_message_fwd[F={width}, {precision}{layer}]",
                        kernel=painn_message_fwd_kernel,
                        signature={
                            each: types.get(each, "*fp32")
                            for each in painn_message_fwd_kernel.arg_names
                            if each not in known
                        },
                        constexprs=constants,
                        launch=launch,
                        # With 128 features tf32 spills 8 to 16 bytes of a thread, and fp32 8 to 88.
                        is_hot=precision == "bf16" or (precision != "ieee" and width < 128),
                    )
                )
    return builds + backward_builds(architecture)
