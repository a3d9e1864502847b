"""Triton kernels of ``edge_embed``, forward and backward.

All arrays are dense and row-major: edge_type (n_edges,) int64, table (n_types, n_features), features and their gradient
(n_edges, n_features). A tile is EDGES edges by COLUMNS features.
"""

import triton
import triton.language as tl

from tito_fast.ops.triton_launch import TRITON_WIDTHS, KernelBuild, Launch

_TILE_ELEMENTS = 4096
_FEWEST_COLUMNS = 16
_MOST_COLUMNS = 128


# One program writes a tile of features; an edge whose type the table lacks gets NaN.
@triton.jit(do_not_specialize=["n_edges", "n_types"])
def edge_embed_fwd_kernel(
    edge_type,
    table,
    features,
    n_edges,
    n_types,
    n_features,
    EDGES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    n_parts = tl.cdiv(n_features, COLUMNS)
    edge = (tl.program_id(0) // n_parts) * EDGES + tl.arange(0, EDGES)
    column = (tl.program_id(0) % n_parts) * COLUMNS + tl.arange(0, COLUMNS)
    kind = tl.load(edge_type + edge, mask=edge < n_edges, other=0)
    is_known = (kind >= 0) & (kind < n_types)
    is_column = column < n_features
    at = table + kind[:, None] * n_features + column[None, :]
    rows = tl.load(at, mask=is_known[:, None] & is_column[None, :], other=float("nan"))
    at = features + edge.to(tl.int64)[:, None] * n_features + column[None, :]
    tl.store(at, rows, mask=(edge < n_edges)[:, None] & is_column[None, :])


# One program sums COLUMNS features of grad over the edges of one type among [split edges_per_split, + edges_per_split),
# tile by tile in their order, and writes it to partial (n_splits, n_types, n_features). Rows of other types are not
# read. Programs: n_splits x n_types x ceil(n_features / COLUMNS).
@triton.jit(do_not_specialize=["n_edges", "n_types", "edges_per_split"])
def edge_embed_bwd_kernel(
    grad,
    edge_type,
    partial,
    n_edges,
    n_types,
    edges_per_split,
    n_features,
    EDGES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    n_parts = tl.cdiv(n_features, COLUMNS)
    column = (tl.program_id(0) % n_parts) * COLUMNS + tl.arange(0, COLUMNS)
    row = tl.program_id(0) // n_parts
    kind, split = row % n_types, row // n_types
    is_column = column < n_features
    total = tl.zeros((EDGES, COLUMNS), dtype=partial.dtype.element_ty)
    begin = split * edges_per_split
    end = tl.minimum(begin + edges_per_split, n_edges)
    for start in range(begin, end, EDGES):
        edge = start + tl.arange(0, EDGES)
        is_kind = tl.load(edge_type + edge, mask=edge < end, other=-1) == kind
        at = grad + edge.to(tl.int64)[:, None] * n_features + column[None, :]
        total += tl.load(at, mask=is_kind[:, None] & is_column[None, :], other=0.0)
    at = partial + row.to(tl.int64) * n_features + column
    tl.store(at, tl.sum(total, axis=0), mask=is_column)


def embed_launch(n_features: int) -> Launch:
    """Return the launch of both kernels, which depends on the number of features alone."""
    columns = min(max(triton.next_power_of_2(n_features), _FEWEST_COLUMNS), _MOST_COLUMNS)
    return Launch({"EDGES": _TILE_ELEMENTS // columns, "COLUMNS": columns}, num_warps=4)


def aot_builds(architecture: int) -> list[KernelBuild]:  # noqa: ARG001, the same on both
    """Return the kernels that models use."""
    of_type = {"edge_type": "*i64"} | dict.fromkeys(
        ("grad", "table", "features", "partial"), "*fp32"
    )
    return [
        KernelBuild(
            name=f"edge_embed_{part}[F={width}]",
            kernel=kernel,
            signature={
                each: of_type.get(each, "i32") for each in kernel.arg_names if not each.isupper()
            },
            constexprs={},
            launch=embed_launch(width),
            is_hot=True,
        )
        for width in TRITON_WIDTHS
        for part, kernel in (("fwd", edge_embed_fwd_kernel), ("bwd", edge_embed_bwd_kernel))
    ]
