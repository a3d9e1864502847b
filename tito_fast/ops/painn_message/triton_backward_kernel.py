"""Triton kernels of the backward of ``painn_message``.

Edges are taken in order of their source, ``edge = source_edges[q]``, in windows of consecutive q. What a window's edges
need and give goes through one workspace, ``work`` (21, slot_stride / F, F), whose slots hold a row for each edge of
the window:

======== =====================================================================================
0, 1, 2  phi's input e, and its activations h1, h2
3, 4, 5  the filter's input enc(d), and its activations g1, g2
6 - 12   gradients of phi's hidden rows before their norms (2) and of its five output blocks
13 - 19  the same of the filter
20       the gate, phi_0 w_0
======== =====================================================================================

A window takes six launches: ``hidden_kernel`` (slots 0 to 5), ``blocks_kernel`` (gradients of the output blocks, and
the gate), ``layer_kernel`` twice (back through the hidden layers), ``sources_kernel`` (sums over the edges of a
source) and ``weights_kernel`` (sums over all edges). Sums that go on from window to window are read, added to and
written by the one program that owns them, row after row. Those over the edges of a source do not depend on where
windows end.

"Half" 0 is phi, half 1 the filter. ``first``, ``second`` (2, F, F), ``last`` (2, 5, F, F), ``last_bias`` (2, 5, F) and
``norms`` (2, 6, F) hold the parameters of both; rows of ``norms`` are bias, scale and shift of the first hidden layer,
then of the second. ``first`` of phi is the part that acts on edges; what it makes of a source's scalars, with the
bias, is ``source_part`` (n_atoms, F).
"""

import triton
import triton.language as tl

from tito_fast.ops.painn_message.triton_factor_kernel import product_with, right_factor
from tito_fast.ops.triton_blocks import (
    encode_distances,
    norm_silu_backward,
    normalized,
    sigmoid,
    sin_pi,
)
from tito_fast.ops.triton_launch import KernelBuild, Launch, LaunchTable, is_interpreting

N_SLOTS = 21
N_PRODUCTS = 14
N_NORM_ROWS = 4
_GRADIENT_SLOT = tl.constexpr(6)
_GATE_SLOT = tl.constexpr(20)
_IS_INTERPRETED = tl.constexpr(is_interpreting())


@triton.jit
def _tile(base, row, F: tl.constexpr):
    """Return pointers to rows ``row`` of an array (n, F), (m, F)."""
    return base + row[:, None] * F + tl.arange(0, F)[None, :]


@triton.jit
def _forward_weight(weight, F: tl.constexpr, PRECISION: tl.constexpr):
    """Return a weight (out, in) as the right factor of ``inputs @ weight.T``, (in, out)."""
    feature = tl.arange(0, F)
    return right_factor(tl.load(weight + feature[None, :] * F + feature[:, None]), PRECISION)


@triton.jit
def _backward_weight(weight, F: tl.constexpr, PRECISION: tl.constexpr):
    """Return a weight (out, in) as the right factor of ``gradients @ weight``."""
    feature = tl.arange(0, F)
    return right_factor(tl.load(weight + feature[:, None] * F + feature[None, :]), PRECISION)


@triton.jit
def _keep(pointer, value, mask):
    """Store ``value`` rounded to the workspace's type."""
    if pointer.dtype.element_ty == tl.bfloat16 and _IS_INTERPRETED:
        # The interpreter cuts bits off where a GPU rounds to nearest.
        bits = value.to(tl.int32, bitcast=True)
        value = ((bits + 32767 + ((bits >> 16) & 1)) & -65536).to(tl.float32, bitcast=True)
    tl.store(pointer, value.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def _reload(pointer, mask, like):
    """Load from the workspace as the type of ``like``."""
    return tl.load(pointer, mask=mask, other=0.0).to(like.dtype)


@triton.jit
def _rows_left(edges_end, start, n_rows):
    """Return how many of the window's rows are edges: arrays may be longer than the graph."""
    return tl.minimum(tl.load(edges_end) - start, n_rows).to(tl.int32)


@triton.jit
def _first_bias(half, source_part, source, edge, norms, mask, F: tl.constexpr):
    """Return what the first layer adds to its product, (m, F): the source's part, or the filter's bias."""
    if half == 0:
        added = tl.load(
            _tile(source_part, tl.load(source + edge, mask=mask, other=0), F), mask=mask[:, None]
        )
    else:
        bias = tl.load(norms + tl.arange(0, F))
        added = tl.where(mask[:, None], bias[None, :], 0.0)
    return added


@triton.jit(
    do_not_specialize=["start", "n_rows", "slot_stride"],
    do_not_specialize_on_alignment=["edges_end"],
)
def hidden_kernel(
    edge_features,
    source_part,
    distances,
    source,
    edge_pair,
    source_edges,
    edges_end,
    first,
    second,
    norms,
    work,
    start,
    n_rows,
    slot_stride,
    F: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Write the input and both activations of ROWS edges of one half to slots 0 to 2 or 3 to 5.

    ``distances`` (n_pairs,) are in units of the encoding's length. Programs: 2 cdiv(n_rows, ROWS), the half innermost.
    """
    n_rows = _rows_left(edges_end, start, n_rows)
    half = tl.program_id(0) % 2
    row = tl.program_id(0) // 2 * ROWS + tl.arange(0, ROWS)
    is_row = row < n_rows
    mask = is_row[:, None]
    edge = tl.load(source_edges + start + row, mask=is_row, other=0)
    if half == 0:
        inputs = _read(edge_features, edge, mask, F).to(source_part.dtype.element_ty)
    else:
        pair = tl.load(edge_pair + edge, mask=is_row, other=0)
        inputs = encode_distances(tl.load(distances + pair, mask=is_row, other=0.0), 1.0, F)
    kept = work + half * 3 * slot_stride
    _keep(_tile(kept, row, F), inputs, mask)
    feature = tl.arange(0, F)
    norms += half * 6 * F
    hidden = product_with(inputs, _forward_weight(first + half * F * F, F, PRECISION), PRECISION)
    hidden += _first_bias(half, source_part, source, edge, norms, is_row, F)
    unit, _ = normalized(hidden, F)
    affine = (
        unit * tl.load(norms + F + feature)[None, :] + tl.load(norms + 2 * F + feature)[None, :]
    )
    hidden = affine * sigmoid(affine)
    _keep(_tile(kept + slot_stride, row, F), hidden, mask)
    hidden = product_with(hidden, _forward_weight(second + half * F * F, F, PRECISION), PRECISION)
    unit, _ = normalized(hidden + tl.load(norms + 3 * F + feature)[None, :], F)
    affine = (
        unit * tl.load(norms + 4 * F + feature)[None, :] + tl.load(norms + 5 * F + feature)[None, :]
    )
    _keep(_tile(kept + 2 * slot_stride, row, F), affine * sigmoid(affine), mask)


@triton.jit
def _is_there(block, HAS_VECTORS: tl.constexpr, HAS_EDGES: tl.constexpr):
    """Return whether results depend on a block of gate, dir, ds, de, cross."""
    there = (block == 1) | (block == 2)
    if HAS_VECTORS:
        there = there | (block == 0) | (block == 4)
    if HAS_EDGES:
        there = there | (block == 3)
    return there


@triton.jit
def _read(base, row, mask, F: tl.constexpr):
    """Load rows of an array (n, F), (m, F); 0 where ``mask`` (m, 1) is not."""
    return tl.load(_tile(base, row, F), mask=mask, other=0.0)


@triton.jit(
    do_not_specialize=["start", "n_rows", "slot_stride", "n_edges"],
    do_not_specialize_on_alignment=["edges_end"],
)
def blocks_kernel(
    grad_scalars,
    grad_vectors,
    grad_edges,
    grad_cross,
    vectors,
    vec_saturated,
    source,
    receiver,
    source_edges,
    edges_end,
    last,
    last_bias,
    work,
    d_vec,
    start,
    n_rows,
    slot_stride,
    n_edges,
    F: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
    HAS_VECTORS: tl.constexpr,
    HAS_EDGES: tl.constexpr,
    WANTS_GEOMETRY: tl.constexpr,
):
    """Take the gradients of ROWS edges through one block of phi ⊙ filter.

    With p_c = phi_c w_c: d p = (Σ_x dV_ix v_jx, Σ_x dV_ix u_x, dS_i, dE, Σ_x dC_ix u_x) for gate, dir, ds, de, cross,
    where dC (``grad_cross``) is the gradient of Σ_j cross_ij u_ij; d phi_c = d p_c w_c, d w_c = d p_c phi_c. Writes
    them to slots 8 + c and 15 + c, the gate to 20, and, if wanted, what dir and cross give to the edges' vectors:
    ``d_vec`` (2, n_edges, 3), Σ_f dir dV_ix and Σ_f cross dC_ix. Programs: 5 cdiv(n_rows, ROWS), blocks innermost;
    those of blocks that are not there return.
    """
    n_rows = _rows_left(edges_end, start, n_rows)
    block = tl.program_id(0) % 5
    if _is_there(block, HAS_VECTORS, HAS_EDGES):
        row = tl.program_id(0) // 5 * ROWS + tl.arange(0, ROWS)
        is_row = row < n_rows
        mask = is_row[:, None]
        feature = tl.arange(0, F)
        phi_bias = tl.load(last_bias + block * F + feature)[None, :]
        phi = _reload(_tile(work + 2 * slot_stride, row, F), mask, phi_bias)
        phi = (
            product_with(phi, _forward_weight(last + block * F * F, F, PRECISION), PRECISION)
            + phi_bias
        )
        filter_bias = tl.load(last_bias + (5 + block) * F + feature)[None, :]
        filter_ = _reload(_tile(work + 5 * slot_stride, row, F), mask, filter_bias)
        filter_ = product_with(
            filter_, _forward_weight(last + (5 + block) * F * F, F, PRECISION), PRECISION
        )
        filter_ += filter_bias

        edge = tl.load(source_edges + start + row, mask=is_row, other=0)
        i = tl.load(receiver + edge, mask=is_row, other=0)
        if block == 0:
            _keep(_tile(work + _GATE_SLOT * slot_stride, row, F), phi * filter_, mask)
            j = tl.load(source + edge, mask=is_row, other=0)
            d_product = _read(grad_vectors, 3 * i, mask, F) * _read(vectors, 3 * j, mask, F)
            for axis in tl.static_range(1, 3):
                d_product += _read(grad_vectors, 3 * i + axis, mask, F) * _read(
                    vectors, 3 * j + axis, mask, F
                )
        elif (block == 1) | (block == 4):
            gradient = grad_vectors if block == 1 else grad_cross
            message = phi * filter_
            d_product = tl.zeros_like(message)
            d_vec += tl.where(block == 1, 0, n_edges.to(tl.int64) * 3)
            for axis in tl.static_range(3):
                along = _read(gradient, 3 * i + axis, mask, F)
                u = tl.load(vec_saturated + 3 * edge + axis, mask=is_row, other=0.0)
                d_product += along * u[:, None]
                if WANTS_GEOMETRY:
                    tl.store(d_vec + 3 * edge + axis, tl.sum(along * message, axis=1), mask=is_row)
        elif block == 2:
            d_product = _read(grad_scalars, i, mask, F)
        else:
            d_product = _read(grad_edges, edge, mask, F).to(phi.dtype)
        _keep(_tile(work + (8 + block) * slot_stride, row, F), d_product * filter_, mask)
        _keep(_tile(work + (15 + block) * slot_stride, row, F), d_product * phi, mask)


@triton.jit
def _encoding_slope(distance, WIDTH: tl.constexpr):
    """Return the derivative of ``encode_distances(distance, 1)``, (m, WIDTH)."""
    feature = tl.arange(0, WIDTH)
    # The derivative of a sine is a sine half a turn ahead.
    ahead = tl.where(feature % 2 == 0, 1.0, 0.5).to(distance.dtype)
    rank = (feature // 2 + 1).to(distance.dtype)
    return (
        sin_pi(distance[:, None] * rank[None, :] + ahead[None, :])
        * (rank * 3.141592653589793)[None, :]
    )


@triton.jit
def _add_to(pointer, value):
    """Add ``value`` to what this program alone reads and writes."""
    tl.store(pointer, tl.load(pointer) + value)


@triton.jit(
    do_not_specialize=["start", "n_rows", "slot_stride"],
    do_not_specialize_on_alignment=["edges_end"],
)
def layer_kernel(
    grad_edges,
    source_part,
    distances,
    source,
    edge_pair,
    source_edges,
    edges_end,
    first,
    second,
    last,
    norms,
    work,
    d_edges,
    d_dist,
    d_norms,
    start,
    n_rows,
    slot_stride,
    F: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
    LAYER: tl.constexpr,
    HAS_VECTORS: tl.constexpr,
    HAS_EDGES: tl.constexpr,
    ADDS_EDGES: tl.constexpr,
    WANTS_GEOMETRY: tl.constexpr,
):
    """Take the gradients of ROWS edges back through hidden layer LAYER, 1 and then 0, of one half.

    d h2 = Σ_c d phi_c W_c; d h1 = (slot 7 or 14) W_2; hidden rows are computed again from the inputs and first
    activations in ``work``. Writes the gradients of hidden rows before their norm (slots 7, 14; 6, 13). Layer 0 also
    writes ``d_edges`` (n_edges, F), with ``grad_edges`` added if ADDS_EDGES; or, if wanted, ``d_dist`` (n_edges,), the
    gradient of the distance in units of the length. Adds to ``d_norms`` (n_programs, 4, F), with d the gradient of
    the norm's result: Σ d unit and Σ d of layer 0, then of layer 1. Programs as of ``hidden_kernel``.
    """
    n_rows = _rows_left(edges_end, start, n_rows)
    half = tl.program_id(0) % 2
    row = tl.program_id(0) // 2 * ROWS + tl.arange(0, ROWS)
    is_row = row < n_rows
    mask = is_row[:, None]
    feature = tl.arange(0, F)
    edge = tl.load(source_edges + start + row, mask=is_row, other=0)
    norms += half * 6 * F
    first += half * F * F
    second += half * F * F
    kept = work + (half * 3 + LAYER) * slot_stride
    gradients = work + (_GRADIENT_SLOT + 7 * half + LAYER) * slot_stride

    bias = tl.load(norms + 3 * F * LAYER + feature)[None, :]
    hidden = _reload(_tile(kept, row, F), mask, bias)
    hidden = product_with(
        hidden, _forward_weight(second if LAYER == 1 else first, F, PRECISION), PRECISION
    )
    if LAYER == 1:
        hidden += bias
    else:
        hidden += _first_bias(half, source_part, source, edge, norms, is_row, F)
    unit, inverse = normalized(hidden, F)
    tl.debug_barrier()
    if LAYER == 1:
        gradient = tl.zeros_like(unit)
        for block in range(5):
            if _is_there(block, HAS_VECTORS, HAS_EDGES):
                of_block = _reload(_tile(gradients + (1 + block) * slot_stride, row, F), mask, bias)
                weight = _backward_weight(last + (5 * half + block) * F * F, F, PRECISION)
                gradient += product_with(of_block, weight, PRECISION)
    else:
        gradient = _reload(_tile(gradients + slot_stride, row, F), mask, bias)
        gradient = product_with(gradient, _backward_weight(second, F, PRECISION), PRECISION)
    tl.debug_barrier()
    scale = tl.load(norms + (3 * LAYER + 1) * F + feature)
    shift = tl.load(norms + (3 * LAYER + 2) * F + feature)
    gradient, d_affine = norm_silu_backward(gradient, unit, inverse, scale, shift, F)
    d_norms += (tl.program_id(0) * 4 + 2 * LAYER) * F + feature
    _add_to(d_norms, tl.sum(d_affine * unit, axis=0))
    _add_to(d_norms + F, tl.sum(d_affine, axis=0))
    _keep(_tile(gradients, row, F), gradient, mask)
    if LAYER == 0:
        tl.debug_barrier()
        if half == 0:
            d_inputs = product_with(gradient, _backward_weight(first, F, PRECISION), PRECISION)
            if ADDS_EDGES:
                d_inputs += _read(grad_edges, edge, mask, F)
            _keep(_tile(d_edges, edge, F), d_inputs, mask)
        elif WANTS_GEOMETRY:
            d_inputs = product_with(gradient, _backward_weight(first, F, PRECISION), PRECISION)
            pair = tl.load(edge_pair + edge, mask=is_row, other=0)
            distance = tl.load(distances + pair, mask=is_row, other=0.0)
            slope = _encoding_slope(distance, F)
            tl.store(d_dist + edge, tl.sum(d_inputs * slope, axis=1), mask=is_row)


@triton.jit(
    do_not_specialize=["start", "n_rows", "slot_stride"],
    do_not_specialize_on_alignment=["edges_end"],
)
def sources_kernel(
    grad_vectors,
    source,
    receiver,
    source_edges,
    edges_end,
    source_ptr,
    work,
    d_hidden,
    d_vectors,
    start,
    n_rows,
    slot_stride,
    F: tl.constexpr,
    ATOMS: tl.constexpr,
    UNROLL: tl.constexpr,
    HAS_VECTORS: tl.constexpr,
):
    """Add up what the window's edges give to their sources.

    d_hidden_j += Σ_i slot 6, ``d_hidden`` (n_atoms, F), the gradient of ``source_part``; d_vectors_jx += Σ_i gate_ij
    dV_ix, ``d_vectors`` (n_atoms, 3, F); edge after edge. A program takes every n-th group of ATOMS sources of those
    between the sources of the window's first and last edge.
    """
    n_rows = _rows_left(edges_end, start, n_rows)
    lowest = tl.load(source + tl.load(source_edges + start))
    highest = tl.load(source + tl.load(source_edges + start + tl.maximum(n_rows, 1) - 1))
    n_groups = tl.where(n_rows > 0, (highest - lowest) // ATOMS + 1, 0)
    for group in range(tl.program_id(0), n_groups, tl.num_programs(0)):
        atom = lowest + group * ATOMS + tl.arange(0, ATOMS)
        is_atom = atom <= highest
        begin = tl.maximum(tl.load(source_ptr + atom, mask=is_atom, other=0), start)
        end = tl.load(source_ptr + atom + 1, mask=is_atom, other=0)
        end = tl.minimum(end, start + n_rows)
        n_edges = tl.max(end - begin, axis=0)
        mask = is_atom[:, None]
        hidden = tl.load(_tile(d_hidden, atom, F), mask=mask, other=0.0)
        if HAS_VECTORS:
            v0 = tl.load(_tile(d_vectors, 3 * atom, F), mask=mask, other=0.0)
            v1 = tl.load(_tile(d_vectors, 3 * atom + 1, F), mask=mask, other=0.0)
            v2 = tl.load(_tile(d_vectors, 3 * atom + 2, F), mask=mask, other=0.0)
        for first_edge in range(0, n_edges, UNROLL):
            for ahead in tl.static_range(UNROLL):
                q = begin + first_edge + ahead
                is_edge = q < end
                edge_mask = is_edge[:, None]
                row = q - start
                hidden += _reload(
                    _tile(work + _GRADIENT_SLOT * slot_stride, row, F), edge_mask, hidden
                )
                if HAS_VECTORS:
                    edge = tl.load(source_edges + q, mask=is_edge, other=0)
                    i = tl.load(receiver + edge, mask=is_edge, other=0)
                    gate = _reload(
                        _tile(work + _GATE_SLOT * slot_stride, row, F), edge_mask, hidden
                    )
                    # Fused or not, but the same for every edge.
                    v0 = tl.fma(
                        gate, tl.load(_tile(grad_vectors, 3 * i, F), mask=edge_mask, other=0.0), v0
                    )
                    v1 = tl.fma(
                        gate,
                        tl.load(_tile(grad_vectors, 3 * i + 1, F), mask=edge_mask, other=0.0),
                        v1,
                    )
                    v2 = tl.fma(
                        gate,
                        tl.load(_tile(grad_vectors, 3 * i + 2, F), mask=edge_mask, other=0.0),
                        v2,
                    )
        tl.store(_tile(d_hidden, atom, F), hidden, mask=mask)
        if HAS_VECTORS:
            tl.store(_tile(d_vectors, 3 * atom, F), v0, mask=mask)
            tl.store(_tile(d_vectors, 3 * atom + 1, F), v1, mask=mask)
            tl.store(_tile(d_vectors, 3 * atom + 2, F), v2, mask=mask)


@triton.jit(
    do_not_specialize=["start", "n_rows", "rows_per_split", "n_splits", "slot_stride"],
    do_not_specialize_on_alignment=["edges_end"],
)
def weights_kernel(
    left,
    right,
    d_weights,
    d_biases,
    edges_end,
    start,
    n_rows,
    rows_per_split,
    n_splits,
    slot_stride,
    F: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
    HAS_END: tl.constexpr,
    HAS_VECTORS: tl.constexpr,
    HAS_EDGES: tl.constexpr,
):
    """Add the products of one split of rows to the gradient of one weight, and their sums to that of its bias.

    Weight k = 7 half + layer (0, 1: hidden layers; 2 - 6: blocks of the last) takes gradients from slot k of ``left``
    and inputs from slot 3 half + min(layer, 2) of ``right``: d_weights[k, split] += left^T right, (n_splits, F, F)
    each; d_biases[k, split] += Σ left, (n_splits, F) each. Blocks that are not there are left alone. Programs:
    n_weights n_splits, the splits innermost.
    """
    if HAS_END:
        n_rows = _rows_left(edges_end, start, n_rows)
    weight = tl.program_id(0) // n_splits
    split = tl.program_id(0) % n_splits
    half = weight // 7
    layer = weight % 7
    low = split * rows_per_split
    high = tl.minimum(low + rows_per_split, n_rows)
    if (layer < 2) | _is_there(layer - 2, HAS_VECTORS, HAS_EDGES):
        gradients = left + weight * slot_stride
        activations = right + (3 * half + tl.minimum(layer, 2)) * slot_stride
        feature = tl.arange(0, F)
        weight_tile = _tile(d_weights + tl.program_id(0) * F * F, feature, F)
        bias_row = d_biases + tl.program_id(0) * F + feature
        total = tl.load(weight_tile)
        bias = tl.load(bias_row)
        for first_row in range(low, high, ROWS):
            row = first_row + tl.arange(0, ROWS)
            mask = (row < high)[:, None]
            gradient = _reload(_tile(gradients, row, F), mask, total)
            inputs = _reload(_tile(activations, row, F), mask, total)
            total += product_with(tl.trans(gradient), right_factor(inputs, PRECISION), PRECISION)
            bias += tl.sum(gradient, axis=0)
        tl.store(weight_tile, total)
        tl.store(bias_row, bias)


@triton.jit(do_not_specialize=["n_rows", "stride_in", "stride_out"])
def atoms_kernel(
    rows,
    weight,
    bias,
    result,
    n_rows,
    stride_in,
    stride_out,
    F: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    """Write ``rows`` (n_rows, F) times a matrix, whose element (in, out) is at in stride_in + out stride_out."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    mask = (row < n_rows)[:, None]
    row = row.to(tl.int64)
    feature = tl.arange(0, F)
    factor = tl.load(weight + feature[:, None] * stride_in + feature[None, :] * stride_out)
    value = product_with(
        tl.load(_tile(rows, row, F), mask=mask, other=0.0),
        right_factor(factor, PRECISION),
        PRECISION,
    )
    if HAS_BIAS:
        value += tl.load(bias + feature)[None, :]
    tl.store(_tile(result, row, F), value, mask=mask)


def _table(rows: dict[int, int], warps: dict[int, int]) -> LaunchTable:
    return {
        (architecture, width, precision): Launch({"ROWS": rows[width]}, warps[width])
        for architecture in (80, 90)
        for width in (32, 64, 128)
        for precision in ("ieee", "tf32", "bf16", "fp32")
    }


HIDDEN_LAUNCHES = _table({32: 64, 64: 64, 128: 32}, {32: 8, 64: 8, 128: 8})
BLOCKS_LAUNCHES = _table({32: 64, 64: 64, 128: 32}, {32: 4, 64: 8, 128: 8}) | {
    (80, 64, "tf32"): Launch({"ROWS": 32}, 4)
}
LAYER_LAUNCHES: LaunchTable = {
    **_table({32: 64, 64: 32, 128: 32}, {32: 4, 64: 4, 128: 8}),
    # A split factor is two: more warps hold it.
    **{(architecture, 64, "fp32"): Launch({"ROWS": 64}, 8) for architecture in (80, 90)},
}
WEIGHTS_LAUNCHES = _table({32: 64, 64: 64, 128: 32}, {32: 4, 64: 4, 128: 8})
ATOMS_LAUNCHES = _table({32: 64, 64: 64, 128: 32}, {32: 4, 64: 4, 128: 4})
SOURCES_LAUNCHES: LaunchTable = {
    key: Launch({"ATOMS": 4, "UNROLL": 8 if key[1] < 128 else 4}, 4) for key in LAYER_LAUNCHES
}

_FLOATS = (
    "edge_features", "source_part", "distances", "first", "second", "norms", "grad_scalars", "grad_vectors",
    "grad_edges", "grad_cross", "vectors", "vec_saturated", "last", "last_bias", "d_vec", "d_edges", "d_dist",
    "d_norms", "d_hidden", "d_vectors", "d_weights", "d_biases", "rows", "weight", "bias", "result",
)  # fmt: skip
_INDICES = ("source", "receiver", "edge_pair", "source_edges", "source_ptr", "edges_end")
_WORK = ("work", "left", "right")
_NUMBERS = (
    "start", "n_rows", "slot_stride", "rows_per_split", "n_splits", "stride_in", "stride_out", "n_edges",
)  # fmt: skip
_ALL = {"HAS_VECTORS": True, "HAS_EDGES": True, "ADDS_EDGES": True, "WANTS_GEOMETRY": True}


def backward_builds(architecture: int) -> list[KernelBuild]:
    """Return the specialisations that a training step launches; geometry's gradients included."""
    known = (
        ("hidden", hidden_kernel, HIDDEN_LAUNCHES),
        ("blocks", blocks_kernel, BLOCKS_LAUNCHES),
        ("layer0", layer_kernel, LAYER_LAUNCHES),
        ("layer1", layer_kernel, LAYER_LAUNCHES),
        ("sources", sources_kernel, SOURCES_LAUNCHES),
        ("weights", weights_kernel, WEIGHTS_LAUNCHES),
        ("atoms", atoms_kernel, ATOMS_LAUNCHES),
    )
    return [
        _build(f"painn_message_bwd_{name}", kernel, table, (architecture, width, precision))
        for name, kernel, table in known
        for width in (32, 64, 128)
        for precision in ("tf32", "bf16", "fp32", *(("ieee",) if width == 64 else ()))
    ]


def _build(
    name: str, kernel: triton.JITFunction, table: LaunchTable, key: tuple[int, int, str]
) -> KernelBuild:
    _, width, precision = key
    launch = table[key]
    types = dict.fromkeys(_FLOATS, "*fp32") | dict.fromkeys(_INDICES, "*i64")
    types |= dict.fromkeys(_WORK, "*bf16" if precision == "bf16" else "*fp32")
    if precision == "bf16":
        types |= dict.fromkeys(("edge_features", "grad_edges", "d_edges"), "*bf16")
    types |= dict.fromkeys(_NUMBERS, "i32")
    constexprs = {
        "F": width,
        "PRECISION": precision,
        "HAS_BIAS": True,
        "HAS_END": True,
        "LAYER": int(name[-1] == "1"),
    } | _ALL
    names = set(kernel.arg_names)
    return KernelBuild(
        name=f"{name}[F={width}, {precision}]",
        kernel=kernel,
        signature={each: types[each] for each in kernel.arg_names if each in types},
        constexprs={each: value for each, value in constexprs.items() if each in names},
        launch=launch,
        # With 128 features the split factors of fp32 spill 24 to 600 bytes of a thread, whatever the tile.
        is_hot=precision != "ieee" and (width, precision) != (128, "fp32"),
    )
