"""Triton kernels of ``edge_geometry``.

All arrays are dense and row-major; ``positions``, ``vec_saturated`` and its gradient have rows of three. With
d = sqrt(max(|r|², tiny)), r = x_source - x_receiver, the gradient of an edge's r is, from g of r / (1 + d) and h of d
(0 but for the first edge of a pair):

    g / (1 + d) + (h - (g . r) / (1 + d)²) r / d,

where the second term is 0 if |r|² < tiny. Nothing is fused, so that numbers are those of the interpreter.
"""

import triton
import triton.language as tl

from tito_fast.ops.triton_blocks import quotient, root
from tito_fast.ops.triton_launch import KernelBuild, Launch, LaunchTable

TINY_FLOAT32 = tl.constexpr(1.1754943508222875e-38)
TINY_FLOAT64 = tl.constexpr(2.2250738585072014e-308)


@triton.jit
def _measured(positions, source, receiver, mask):
    """Return the three components of r, |r|² and d of edges."""
    x = tl.load(positions + 3 * source, mask, 0.0) - tl.load(positions + 3 * receiver, mask, 0.0)
    y = tl.load(positions + 3 * source + 1, mask, 0.0)
    y -= tl.load(positions + 3 * receiver + 1, mask, 0.0)
    z = tl.load(positions + 3 * source + 2, mask, 0.0)
    z -= tl.load(positions + 3 * receiver + 2, mask, 0.0)
    square = (x * x + y * y) + z * z
    tiny = TINY_FLOAT64 if square.dtype == tl.float64 else TINY_FLOAT32
    return x, y, z, square, root(tl.where(square < tiny, tiny, square).to(x.dtype))


@triton.jit(do_not_specialize=["n_edges"])
def edge_geometry_fwd_kernel(
    positions, source, receiver, edge_pair, pair_edges, pair_dist, vec_saturated, n_edges,
    TILE: tl.constexpr,
):  # fmt: skip
    """Measure TILE edges e; write their rows of ``vec_saturated`` and the ``pair_dist`` that they are first of."""
    e = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    mask = e < n_edges
    j, i = tl.load(source + e, mask, 0), tl.load(receiver + e, mask, 0)
    x, y, z, _, dist = _measured(positions, j, i, mask)
    pair = tl.load(edge_pair + e, mask, 0)
    is_first = mask & (tl.load(pair_edges + 2 * pair, mask, -1) == e)
    tl.store(pair_dist + pair, dist, is_first)
    tl.store(vec_saturated + 3 * e, quotient(x, 1.0 + dist), mask)
    tl.store(vec_saturated + 3 * e + 1, quotient(y, 1.0 + dist), mask)
    tl.store(vec_saturated + 3 * e + 2, quotient(z, 1.0 + dist), mask)


@triton.jit
def _edge_gradient(
    positions, source, receiver, edge_pair, pair_edges, grad_dist, grad_vec, e, mask
):
    """Return the three components of the gradient of r of edges e; 0 where masked."""
    j, i = tl.load(source + e, mask, 0), tl.load(receiver + e, mask, 0)
    x, y, z, square, dist = _measured(positions, j, i, mask)
    pair = tl.load(edge_pair + e, mask, 0)
    is_first = mask & (tl.load(pair_edges + 2 * pair, mask, -1) == e)
    of_dist = tl.load(grad_dist + pair, is_first, 0.0)
    g_x = tl.load(grad_vec + 3 * e, mask, 0.0)
    g_y = tl.load(grad_vec + 3 * e + 1, mask, 0.0)
    g_z = tl.load(grad_vec + 3 * e + 2, mask, 0.0)
    along = quotient((g_x * x + g_y * y) + g_z * z, (1.0 + dist) * (1.0 + dist))
    is_clamped = square < (TINY_FLOAT64 if square.dtype == tl.float64 else TINY_FLOAT32)
    radial = tl.where(is_clamped, 0.0, quotient(of_dist - along, dist))
    r_x = quotient(g_x, 1.0 + dist) + radial * x
    r_y = quotient(g_y, 1.0 + dist) + radial * y
    r_z = quotient(g_z, 1.0 + dist) + radial * z
    return tl.where(mask, r_x, 0.0), tl.where(mask, r_y, 0.0), tl.where(mask, r_z, 0.0)


@triton.jit
def edge_geometry_bwd_kernel(
    positions, source, receiver, edge_ptr, edge_pair, pair_edges, source_ptr, source_edges,
    grad_dist, grad_vec, grad_positions,
    TILE: tl.constexpr,
):  # fmt: skip
    """Write row i of ``grad_positions``: the edges that leave atom i less those that reach it, in their order.

    Each edge is measured twice, by the programs of its two atoms; no atomics.
    """
    i = tl.program_id(0).to(tl.int64)
    dtype = grad_positions.dtype.element_ty
    sum_x = tl.zeros([TILE], dtype)
    sum_y = tl.zeros([TILE], dtype)
    sum_z = tl.zeros([TILE], dtype)
    end = tl.load(source_ptr + i + 1)
    for first in range(tl.load(source_ptr + i), end, TILE):
        row = first + tl.arange(0, TILE)
        e = tl.load(source_edges + row, row < end, 0)
        x, y, z = _edge_gradient(
            positions, source, receiver, edge_pair, pair_edges, grad_dist, grad_vec, e, row < end
        )
        sum_x, sum_y, sum_z = sum_x + x, sum_y + y, sum_z + z
    end = tl.load(edge_ptr + i + 1)
    for first in range(tl.load(edge_ptr + i), end, TILE):
        e = first + tl.arange(0, TILE)
        x, y, z = _edge_gradient(
            positions, source, receiver, edge_pair, pair_edges, grad_dist, grad_vec, e, e < end
        )
        sum_x, sum_y, sum_z = sum_x - x, sum_y - y, sum_z - z
    tl.store(grad_positions + 3 * i, tl.sum(sum_x))
    tl.store(grad_positions + 3 * i + 1, tl.sum(sum_y))
    tl.store(grad_positions + 3 * i + 2, tl.sum(sum_z))


FORWARD: LaunchTable = {
    (architecture, 3, "ieee"): Launch({"TILE": 128}, num_warps=4, fuses=False)
    for architecture in (80, 90)
}
BACKWARD: LaunchTable = {
    (architecture, 3, "ieee"): Launch({"TILE": 32}, num_warps=1, fuses=False)
    for architecture in (80, 90)
}

_FLOATS = {"positions", "pair_dist", "vec_saturated", "grad_dist", "grad_vec", "grad_positions"}


def aot_builds(architecture: int) -> list[KernelBuild]:
    """Return the builds that users get."""
    return [
        KernelBuild(
            name=f"edge_geometry_{part}",
            kernel=kernel,
            signature={
                name: "i32" if name == "n_edges" else "*fp32" if name in _FLOATS else "*i64"
                for name in kernel.arg_names
                if name != "TILE"
            },
            constexprs={},
            launch=table[architecture, 3, "ieee"],
            is_hot=True,
        )
        for part, kernel, table in (
            ("fwd", edge_geometry_fwd_kernel, FORWARD),
            ("bwd", edge_geometry_bwd_kernel, BACKWARD),
        )
    ]
