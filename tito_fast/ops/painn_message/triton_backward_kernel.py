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

A window takes five launches: ``hidden_kernel`` (slots 0 to 5), ``blocks_kernel`` (gradients of the output blocks, those
of h2 and g2, and the gate), ``rows_kernel`` (back through both hidden layers), ``sources_kernel`` (sums over the edges
of a source) and ``weights_kernel`` (sums over all edges). Sums that go on from window to window are read, added to and
written by the one program that owns them, row after row: they do not depend on where windows end.

"Half" 0 is phi, half 1 the filter. ``first``, ``second`` (2, F, F), ``last`` (2, 5, F, F), ``last_bias`` (2, 5, F) and
``norms`` (2, 6, F) hold the parameters of both; rows of ``norms`` are bias, scale and shift of the first hidden layer,
then of the second. ``first`` of phi is the part that acts on edges; what it makes of a source's scalars, with the
bias, is ``source_part`` (n_atoms, F).
"""

import triton
import triton.language as tl

from tito_fast.ops.triton_blocks import (
    encode_distances,
    norm_silu_backward,
    normalized,
    product,
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
def _forward_weight(weight, F: tl.constexpr):
    """Return a weight (out, in) as the right factor of ``inputs @ weight.T``, (in, out)."""
    feature = tl.arange(0, F)
    return tl.load(weight + feature[None, :] * F + feature[:, None])


@triton.jit
def _backward_weight(weight, F: tl.constexpr):
    """Return a weight (out, in) as the right factor of ``gradients @ weight``."""
    feature = tl.arange(0, F)
    return tl.load(weight + feature[:, None] * F + feature[None, :])


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


@triton.jit(do_not_specialize=["start", "n_rows", "slot_stride"])
def hidden_kernel(
    edge_features,
    source_part,
    distances,
    source,
    edge_pair,
    source_edges,
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
    half = tl.program_id(0) % 2
    row = tl.program_id(0) // 2 * ROWS + tl.arange(0, ROWS)
    is_row = row < n_rows
    mask = is_row[:, None]
    edge = tl.load(source_edges + start + row, mask=is_row, other=0)
    if half == 0:
        inputs = tl.load(_tile(edge_features, edge, F), mask=mask, other=0.0)
    else:
        pair = tl.load(edge_pair + edge, mask=is_row, other=0)
        inputs = encode_distances(tl.load(distances + pair, mask=is_row, other=0.0), 1.0, F)
    kept = work + half * 3 * slot_stride
    _keep(_tile(kept, row, F), inputs, mask)
    feature = tl.arange(0, F)
    norms += half * 6 * F
    hidden = product(inputs, _forward_weight(first + half * F * F, F), PRECISION)
    hidden += _first_bias(half, source_part, source, edge, norms, is_row, F)
    unit, _ = normalized(hidden, F)
    affine = unit * tl.load(norms + F + feature)[None, :] + tl.load(norms + 2 * F + feature)[None, :]
    hidden = affine * sigmoid(affine)
    _keep(_tile(kept + slot_stride, row, F), hidden, mask)
    hidden = product(hidden, _forward_weight(second + half * F * F, F), PRECISION)
    unit, _ = normalized(hidden + tl.load(norms + 3 * F + feature)[None, :], F)
    affine = (
        unit * tl.load(norms + 4 * F + feature)[None, :] + tl.load(norms + 5 * F + feature)[None, :]
    )
    _keep(_tile(kept + 2 * slot_stride, row, F), affine * sigmoid(affine), mask)


@triton.jit
def _through_block(
    BLOCK: tl.constexpr,
    d_product,
    h2,
    g2,
    d_h2,
    d_g2,
    last,
    last_bias,
    work,
    row,
    mask,
    slot_stride,
    F: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return block ``BLOCK`` of phi ⊙ filter, and d_h2 and d_g2 with its part added; store its gradients."""
    feature = tl.arange(0, F)
    phi_weight = last + BLOCK * F * F
    filter_weight = last + (5 + BLOCK) * F * F
    phi = product(h2, _forward_weight(phi_weight, F), PRECISION)
    phi += tl.load(last_bias + BLOCK * F + feature)[None, :]
    filter_ = product(g2, _forward_weight(filter_weight, F), PRECISION)
    filter_ += tl.load(last_bias + (5 + BLOCK) * F + feature)[None, :]
    d_phi = d_product * filter_
    d_filter = d_product * phi
    _keep(_tile(work + (8 + BLOCK) * slot_stride, row, F), d_phi, mask)
    _keep(_tile(work + (15 + BLOCK) * slot_stride, row, F), d_filter, mask)
    d_h2 += product(d_phi, _backward_weight(phi_weight, F), PRECISION)
    d_g2 += product(d_filter, _backward_weight(filter_weight, F), PRECISION)
    return phi * filter_, d_h2, d_g2


@triton.jit
def _along(base, atom, x0, x1, x2, mask, F: tl.constexpr):
    """Return Σ_x base[atom, x] x_x of an array (n_atoms, 3, F) and numbers (m, 1), (m, F)."""
    result = tl.load(_tile(base, 3 * atom, F), mask=mask, other=0.0) * x0
    result += tl.load(_tile(base, 3 * atom + 1, F), mask=mask, other=0.0) * x1
    return result + tl.load(_tile(base, 3 * atom + 2, F), mask=mask, other=0.0) * x2


@triton.jit
def _over_features(base, atom, axis: tl.constexpr, weights, mask, F: tl.constexpr):
    """Return Σ_f base[atom, axis, f] weights[:, f], (m,)."""
    row = tl.load(_tile(base, 3 * atom + axis, F), mask=mask, other=0.0)
    return tl.sum(row * weights, axis=1)


@triton.jit(do_not_specialize=["start", "n_rows", "slot_stride"])
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
    last,
    last_bias,
    work,
    d_vec,
    start,
    n_rows,
    slot_stride,
    F: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
    HAS_VECTORS: tl.constexpr,
    HAS_EDGES: tl.constexpr,
    WANTS_GEOMETRY: tl.constexpr,
):
    """Take the gradients of ROWS edges through the five blocks of phi ⊙ filter.

    With p_c = phi_c w_c: d p = (Σ_x dV_ix v_jx, Σ_x dV_ix u_x, dS_i, dE, Σ_x dC_ix u_x) for gate, dir, ds, de, cross,
    where dC (``grad_cross``) is the gradient of Σ_j cross_ij u_ij; d phi_c = d p_c w_c, d w_c = d p_c phi_c;
    d h2 = Σ_c d phi_c W_c, d g2 = Σ_c d w_c V_c. Writes slots 8 - 12 and 15 - 19 (those of blocks that are there), d h2
    to 7, d g2 to 14, the gate to 20, and ``d_vec`` (n_edges, 3) = Σ_f dir dV_ix + cross dC_ix if wanted.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    is_row = row < n_rows
    mask = is_row[:, None]
    edge = tl.load(source_edges + start + row, mask=is_row, other=0)
    i = tl.load(receiver + edge, mask=is_row, other=0)
    u0 = tl.load(vec_saturated + 3 * edge, mask=is_row, other=0.0)[:, None]
    u1 = tl.load(vec_saturated + 3 * edge + 1, mask=is_row, other=0.0)[:, None]
    u2 = tl.load(vec_saturated + 3 * edge + 2, mask=is_row, other=0.0)[:, None]
    h2 = _reload(_tile(work + 2 * slot_stride, row, F), mask, u0)
    g2 = _reload(_tile(work + 5 * slot_stride, row, F), mask, u0)

    d_product = _along(grad_vectors, i, u0, u1, u2, mask, F)
    d_h2 = tl.zeros_like(d_product)
    d_g2 = tl.zeros_like(d_product)
    direction, d_h2, d_g2 = _through_block(
        1, d_product, h2, g2, d_h2, d_g2, last, last_bias, work, row, mask, slot_stride, F, PRECISION
    )
    if WANTS_GEOMETRY:
        du0 = _over_features(grad_vectors, i, 0, direction, mask, F)
        du1 = _over_features(grad_vectors, i, 1, direction, mask, F)
        du2 = _over_features(grad_vectors, i, 2, direction, mask, F)
    if HAS_VECTORS:
        d_product = _along(grad_cross, i, u0, u1, u2, mask, F)
        cross, d_h2, d_g2 = _through_block(
            4, d_product, h2, g2, d_h2, d_g2, last, last_bias, work, row, mask, slot_stride, F,
            PRECISION,
        )  # fmt: skip
        if WANTS_GEOMETRY:
            du0 += _over_features(grad_cross, i, 0, cross, mask, F)
            du1 += _over_features(grad_cross, i, 1, cross, mask, F)
            du2 += _over_features(grad_cross, i, 2, cross, mask, F)
        j = tl.load(source + edge, mask=is_row, other=0)
        d_product = tl.zeros_like(d_h2)
        for axis in tl.static_range(3):
            d_product += tl.load(
                _tile(grad_vectors, 3 * i + axis, F), mask=mask, other=0.0
            ) * tl.load(_tile(vectors, 3 * j + axis, F), mask=mask, other=0.0)
        gate, d_h2, d_g2 = _through_block(
            0, d_product, h2, g2, d_h2, d_g2, last, last_bias, work, row, mask, slot_stride, F,
            PRECISION,
        )  # fmt: skip
        _keep(_tile(work + _GATE_SLOT * slot_stride, row, F), gate, mask)
    if WANTS_GEOMETRY:
        tl.store(d_vec + 3 * edge, du0, mask=is_row)
        tl.store(d_vec + 3 * edge + 1, du1, mask=is_row)
        tl.store(d_vec + 3 * edge + 2, du2, mask=is_row)
    d_product = tl.load(_tile(grad_scalars, i, F), mask=mask, other=0.0)
    _, d_h2, d_g2 = _through_block(
        2, d_product, h2, g2, d_h2, d_g2, last, last_bias, work, row, mask, slot_stride, F, PRECISION
    )
    if HAS_EDGES:
        d_product = tl.load(_tile(grad_edges, edge, F), mask=mask, other=0.0)
        _, d_h2, d_g2 = _through_block(
            3, d_product, h2, g2, d_h2, d_g2, last, last_bias, work, row, mask, slot_stride, F,
            PRECISION,
        )  # fmt: skip
    _keep(_tile(work + 7 * slot_stride, row, F), d_h2, mask)
    _keep(_tile(work + 14 * slot_stride, row, F), d_g2, mask)


@triton.jit
def _encoding_slope(distance, WIDTH: tl.constexpr):
    """Return the derivative of ``encode_distances(distance, 1)``, (m, WIDTH)."""
    feature = tl.arange(0, WIDTH)
    # The derivative of a sine is a sine half a turn ahead.
    ahead = tl.where(feature % 2 == 0, 1.0, 0.5).to(distance.dtype)
    rank = (feature // 2 + 1).to(distance.dtype)
    return sin_pi(distance[:, None] * rank[None, :] + ahead[None, :]) * (rank * 3.141592653589793)[None, :]


@triton.jit
def _add_to(pointer, value):
    """Add ``value`` to what this program alone reads and writes."""
    tl.store(pointer, tl.load(pointer) + value)


@triton.jit(do_not_specialize=["start", "n_rows", "slot_stride"])
def rows_kernel(
    grad_edges,
    source_part,
    distances,
    source,
    edge_pair,
    source_edges,
    first,
    second,
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
    ADDS_EDGES: tl.constexpr,
    WANTS_GEOMETRY: tl.constexpr,
):
    """Take the gradients of ROWS edges back through both hidden layers of one half.

    Hidden rows are computed again from the inputs and first activations in ``work``. Writes the gradients of hidden
    rows before their norms (slots 6, 7 or 13, 14; 7 and 14 hold d h2, d g2 before); ``d_edges`` (n_edges, F), with
    ``grad_edges`` added if ADDS_EDGES; or, if wanted, ``d_dist`` (n_edges,), the gradient of the distance in units of
    the length. Adds to ``d_norms`` (n_programs, 4, F): scale and shift of the first norm, then of the second.
    Programs as of ``hidden_kernel``.
    """
    half = tl.program_id(0) % 2
    row = tl.program_id(0) // 2 * ROWS + tl.arange(0, ROWS)
    is_row = row < n_rows
    mask = is_row[:, None]
    feature = tl.arange(0, F)
    edge = tl.load(source_edges + start + row, mask=is_row, other=0)
    norms += half * 6 * F
    first += half * F * F
    second += half * F * F
    kept = work + half * 3 * slot_stride
    gradients = work + (_GRADIENT_SLOT + 7 * half) * slot_stride
    d_norms += tl.program_id(0) * 4 * F + feature

    bias = tl.load(norms + 3 * F + feature)[None, :]
    hidden = _reload(_tile(kept + slot_stride, row, F), mask, bias)
    hidden = product(hidden, _forward_weight(second, F), PRECISION) + bias
    unit, inverse = normalized(hidden, F)
    gradient = _reload(_tile(gradients + slot_stride, row, F), mask, bias)
    gradient, d_affine = norm_silu_backward(
        gradient, unit, inverse, tl.load(norms + 4 * F + feature), tl.load(norms + 5 * F + feature), F
    )
    _add_to(d_norms + 2 * F, tl.sum(d_affine * unit, axis=0))
    _add_to(d_norms + 3 * F, tl.sum(d_affine, axis=0))
    # Rows are read by other threads than those that write.
    tl.debug_barrier()
    _keep(_tile(gradients + slot_stride, row, F), gradient, mask)

    gradient = product(gradient, _backward_weight(second, F), PRECISION)
    hidden = _reload(_tile(kept, row, F), mask, bias)
    hidden = product(hidden, _forward_weight(first, F), PRECISION)
    hidden += _first_bias(half, source_part, source, edge, norms, is_row, F)
    unit, inverse = normalized(hidden, F)
    gradient, d_affine = norm_silu_backward(
        gradient, unit, inverse, tl.load(norms + F + feature), tl.load(norms + 2 * F + feature), F
    )
    _add_to(d_norms, tl.sum(d_affine * unit, axis=0))
    _add_to(d_norms + F, tl.sum(d_affine, axis=0))
    _keep(_tile(gradients, row, F), gradient, mask)
    if half == 0:
        d_inputs = product(gradient, _backward_weight(first, F), PRECISION)
        if ADDS_EDGES:
            d_inputs += tl.load(_tile(grad_edges, edge, F), mask=mask, other=0.0)
        tl.store(_tile(d_edges, edge, F), d_inputs, mask=mask)
    elif WANTS_GEOMETRY:
        d_inputs = product(gradient, _backward_weight(first, F), PRECISION)
        pair = tl.load(edge_pair + edge, mask=is_row, other=0)
        distance = tl.load(distances + pair, mask=is_row, other=0.0)
        tl.store(
            d_dist + edge, tl.sum(d_inputs * _encoding_slope(distance, F), axis=1), mask=is_row
        )


@triton.jit(do_not_specialize=["start", "n_rows", "slot_stride"])
def sources_kernel(
    grad_vectors,
    source,
    receiver,
    source_edges,
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
    lowest = tl.load(source + tl.load(source_edges + start))
    highest = tl.load(source + tl.load(source_edges + start + n_rows - 1))
    n_groups = (highest - lowest) // ATOMS + 1
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
                    gate = _reload(_tile(work + _GATE_SLOT * slot_stride, row, F), edge_mask, hidden)
                    # Fused or not, but the same for every edge.
                    v0 = tl.fma(
                        gate, tl.load(_tile(grad_vectors, 3 * i, F), mask=edge_mask, other=0.0), v0
                    )
                    v1 = tl.fma(
                        gate, tl.load(_tile(grad_vectors, 3 * i + 1, F), mask=edge_mask, other=0.0), v1
                    )
                    v2 = tl.fma(
                        gate, tl.load(_tile(grad_vectors, 3 * i + 2, F), mask=edge_mask, other=0.0), v2
                    )
        tl.store(_tile(d_hidden, atom, F), hidden, mask=mask)
        if HAS_VECTORS:
            tl.store(_tile(d_vectors, 3 * atom, F), v0, mask=mask)
            tl.store(_tile(d_vectors, 3 * atom + 1, F), v1, mask=mask)
            tl.store(_tile(d_vectors, 3 * atom + 2, F), v2, mask=mask)


@triton.jit(do_not_specialize=["n_rows", "rows_per_split", "n_splits", "slot_stride"])
def weights_kernel(
    left,
    right,
    d_weights,
    d_biases,
    n_rows,
    rows_per_split,
    n_splits,
    slot_stride,
    F: tl.constexpr,
    ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
    HAS_VECTORS: tl.constexpr,
    HAS_EDGES: tl.constexpr,
):
    """Add the products of one split of rows to the gradient of one weight, and their sums to that of its bias.

    Weight k = 7 half + layer (0, 1: hidden layers; 2 - 6: blocks of the last) takes gradients from slot k of ``left``
    and inputs from slot 3 half + min(layer, 2) of ``right``: d_weights[k, split] += left^T right, (n_splits, F, F)
    each; d_biases[k, split] += Σ left, (n_splits, F) each. Blocks that are not there are left alone. Programs:
    n_weights n_splits, the splits innermost.
    """
    weight = tl.program_id(0) // n_splits
    split = tl.program_id(0) % n_splits
    half = weight // 7
    layer = weight % 7
    is_there = True
    if not HAS_VECTORS:
        is_there = (layer != 2) & (layer != 6)
    if not HAS_EDGES:
        is_there = is_there & (layer != 5)
    low = split * rows_per_split
    high = tl.minimum(low + rows_per_split, n_rows)
    if is_there & (low < high):
        left += weight * slot_stride
        right += (3 * half + tl.minimum(layer, 2)) * slot_stride
        feature = tl.arange(0, F)
        d_weights += tl.program_id(0) * F * F
        d_biases += tl.program_id(0) * F + feature
        total = tl.load(_tile(d_weights, feature, F))
        bias = tl.load(d_biases)
        for first_row in range(low, high, ROWS):
            row = first_row + tl.arange(0, ROWS)
            mask = (row < high)[:, None]
            gradient = _reload(_tile(left, row, F), mask, total)
            inputs = _reload(_tile(right, row, F), mask, total)
            total += product(tl.trans(gradient), inputs, PRECISION)
            bias += tl.sum(gradient, axis=0)
        tl.store(_tile(d_weights, feature, F), total)
        tl.store(d_biases, bias)


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
    value = product(tl.load(_tile(rows, row, F), mask=mask, other=0.0), factor, PRECISION)
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


HIDDEN_LAUNCHES = _table({32: 64, 64: 64, 128: 32}, {32: 4, 64: 4, 128: 4})
BLOCKS_LAUNCHES = _table({32: 64, 64: 64, 128: 32}, {32: 4, 64: 8, 128: 8})
ROWS_LAUNCHES = _table({32: 64, 64: 64, 128: 32}, {32: 4, 64: 4, 128: 4})
WEIGHTS_LAUNCHES = _table({32: 64, 64: 64, 128: 32}, {32: 4, 64: 4, 128: 8})
ATOMS_LAUNCHES = _table({32: 64, 64: 64, 128: 32}, {32: 4, 64: 4, 128: 4})
SOURCES_LAUNCHES: LaunchTable = {
    key: Launch({"ATOMS": 4, "UNROLL": 8 if key[1] < 128 else 4}, 4) for key in ROWS_LAUNCHES
}
