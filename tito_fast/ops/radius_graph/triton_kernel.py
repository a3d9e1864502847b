"""Triton kernels of ``radius_graph`` without a box: count, fill, and the backward.

All arrays are dense and row-major: positions (n_atoms, 3); batch_ptr (n_molecules + 1,), edge_ptr (n_atoms + 1,),
sources and receivers (n_edges,) int64. Every pair of a molecule is tested; a distance is rounded step by step
(nothing is fused), so that the edges are those of the other backends to the last bit.
"""

import triton
import triton.language as tl

from tito_fast.ops.triton_blocks import quotient, root
from tito_fast.ops.triton_launch import KernelBuild, Launch, LaunchTable


@triton.jit
def _molecule(batch_ptr, n_molecules, n_halvings, i):
    """Return first and end of the molecule of atom i: the first one that ends beyond it."""
    low = i * 0
    high = low + n_molecules - 1
    for _ in range(n_halvings):
        middle = (low + high) // 2
        is_before = tl.load(batch_ptr + middle + 1) <= i
        high = tl.where(is_before, high, middle)
        low = tl.where(is_before, tl.minimum(middle + 1, high), low)
    return tl.load(batch_ptr + low), tl.load(batch_ptr + low + 1)


@triton.jit
def _sources(positions, cutoff, i, start, end, TILE: tl.constexpr):
    """Return candidates j = start ... start + TILE, which are edges j → i, their vectors and distances."""
    j = start + tl.arange(0, TILE)
    mask = j < end
    x = tl.load(positions + 3 * j, mask, 0.0) - tl.load(positions + 3 * i)
    y = tl.load(positions + 3 * j + 1, mask, 0.0) - tl.load(positions + 3 * i + 1)
    z = tl.load(positions + 3 * j + 2, mask, 0.0) - tl.load(positions + 3 * i + 2)
    dist = root((x * x + y * y) + z * z)
    is_edge = mask & (j != i) & (dist < tl.full([TILE], cutoff, dist.dtype))
    return j, is_edge, x, y, z, dist


@triton.jit(do_not_specialize=["n_molecules", "n_halvings"])
def radius_graph_count_kernel(
    positions, batch_ptr, counts, n_molecules, n_halvings, cutoff: tl.float64,
    TILE: tl.constexpr,
):  # fmt: skip
    """Write ``counts[i]``, int64, the edges of receiver i: one program each."""
    i = tl.program_id(0).to(tl.int64)
    first, end = _molecule(batch_ptr, n_molecules, n_halvings, i)
    found = tl.zeros([TILE], tl.int32)
    for start in range(first, end, TILE):
        _, is_edge, _, _, _, _ = _sources(positions, cutoff, i, start, end, TILE)
        found += is_edge.to(tl.int32)
    tl.store(counts + i, tl.sum(found).to(tl.int64))


@triton.jit(do_not_specialize=["n_molecules", "n_halvings"])
def radius_graph_fill_kernel(
    positions, batch_ptr, edge_ptr, sources, receivers, edge_vec, edge_dist,
    n_molecules, n_halvings, cutoff: tl.float64,
    TILE: tl.constexpr,
):  # fmt: skip
    """Write the edges edge_ptr[i] ... edge_ptr[i + 1] of receiver i, sorted by source: one program each."""
    i = tl.program_id(0).to(tl.int64)
    first, end = _molecule(batch_ptr, n_molecules, n_halvings, i)
    edge = tl.load(edge_ptr + i)
    for start in range(first, end, TILE):
        j, is_edge, x, y, z, dist = _sources(positions, cutoff, i, start, end, TILE)
        rank = tl.cumsum(is_edge.to(tl.int32), axis=0)
        e = edge + rank - 1
        tl.store(sources + e, j, is_edge)
        tl.store(receivers + e, j * 0 + i, is_edge)
        tl.store(edge_vec + 3 * e, x, is_edge)
        tl.store(edge_vec + 3 * e + 1, y, is_edge)
        tl.store(edge_vec + 3 * e + 2, z, is_edge)
        tl.store(edge_dist + e, dist, is_edge)
        edge += tl.sum(is_edge.to(tl.int32)).to(tl.int64)


@triton.jit
def _edge_gradient(grad_vec, grad_dist, edge_vec, edge_dist, e, mask):
    """Return the three components of grad_vec + grad_dist vec / dist of edges e in double; 0 where masked."""
    dist = tl.load(edge_dist + e, mask, 0.0).to(tl.float64)
    of_dist = tl.load(grad_dist + e, mask, 0.0).to(tl.float64)
    is_apart = dist > 0.0
    # The derivative of a distance of zero is taken as zero.
    radial = tl.where(is_apart, quotient(of_dist, tl.where(is_apart, dist, 1.0)), 0.0)
    x = tl.load(grad_vec + 3 * e, mask, 0.0) + radial * tl.load(edge_vec + 3 * e, mask, 0.0)
    y = tl.load(grad_vec + 3 * e + 1, mask, 0.0) + radial * tl.load(edge_vec + 3 * e + 1, mask, 0.0)
    z = tl.load(grad_vec + 3 * e + 2, mask, 0.0) + radial * tl.load(edge_vec + 3 * e + 2, mask, 0.0)
    return x, y, z


@triton.jit(do_not_specialize=["n_halvings"])
def radius_graph_bwd_kernel(
    grad_vec, grad_dist, edge_vec, edge_dist, sources, edge_ptr, grad_positions, n_halvings,
    TILE: tl.constexpr,
):  # fmt: skip
    """Write row i of ``grad_positions``: the edges that leave atom i less those that reach it, in double.

    Edges come in both directions: that from i to j is found in the sorted row of j, in n_halvings steps.
    """
    i = tl.program_id(0).to(tl.int64)
    sum_x = tl.zeros([TILE], tl.float64)
    sum_y = tl.zeros([TILE], tl.float64)
    sum_z = tl.zeros([TILE], tl.float64)
    end = tl.load(edge_ptr + i + 1)
    for start in range(tl.load(edge_ptr + i), end, TILE):
        e = start + tl.arange(0, TILE)
        mask = e < end
        x, y, z = _edge_gradient(grad_vec, grad_dist, edge_vec, edge_dist, e, mask)
        sum_x, sum_y, sum_z = sum_x - x, sum_y - y, sum_z - z
        j = tl.load(sources + e, mask, 0)
        low = tl.load(edge_ptr + j, mask, 0)
        row_end = tl.load(edge_ptr + j + 1, mask, 0)
        high = row_end
        for _ in range(n_halvings):
            middle = (low + high) // 2
            is_open = low < high
            is_before = tl.load(sources + middle, mask & is_open, 0) < i
            low = tl.where(is_open & is_before, middle + 1, low)
            high = tl.where(is_open & ~is_before, middle, high)
        is_there = mask & (low < row_end)
        is_there = is_there & (tl.load(sources + low, is_there, -1) == i)
        x, y, z = _edge_gradient(grad_vec, grad_dist, edge_vec, edge_dist, low, is_there)
        sum_x, sum_y, sum_z = sum_x + x, sum_y + y, sum_z + z
    dtype = grad_positions.dtype.element_ty
    tl.store(grad_positions + 3 * i, tl.sum(sum_x).to(dtype))
    tl.store(grad_positions + 3 * i + 1, tl.sum(sum_y).to(dtype))
    tl.store(grad_positions + 3 * i + 2, tl.sum(sum_z).to(dtype))


SEARCH: LaunchTable = {
    (architecture, 3, "ieee"): Launch({"TILE": 64}, num_warps=1, fuses=False)
    for architecture in (80, 90)
}

_NUMBERS = {"n_molecules": "i32", "n_halvings": "i32", "cutoff": "fp64"}
_WHOLE = {"batch_ptr", "counts", "edge_ptr", "sources", "receivers"}


def aot_builds(architecture: int) -> list[KernelBuild]:
    """Return the builds that users get, for float32."""
    return [
        KernelBuild(
            name=f"radius_graph_{part}",
            kernel=kernel,
            signature={
                name: _NUMBERS.get(name, "*i64" if name in _WHOLE else "*fp32")
                for name in kernel.arg_names
                if name != "TILE"
            },
            constexprs={},
            launch=SEARCH[architecture, 3, "ieee"],
            is_hot=True,
        )
        for part, kernel in (
            ("count", radius_graph_count_kernel),
            ("fill", radius_graph_fill_kernel),
            ("bwd", radius_graph_bwd_kernel),
        )
    ]
