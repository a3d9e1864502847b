"""The backward of ``painn_message`` by Triton kernels."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tito_fast.ops.mlp_parameters import MlpParameters
from tito_fast.ops.painn_message import triton_backward_kernel as kernels
from tito_fast.ops.triton_launch import Launch, choose_launch
from tito_fast.types import ProductPrecision

_WINDOW_ELEMENTS = 1 << 20
"""Edges of a window times features: 44 MB of workspace in bf16, 88 MB in float32."""
_MOST_SPLITS = 16
_SPLIT_UNIT = 64
_SOURCE_PROGRAMS = 1024


class _Sizes(NamedTuple):
    n_atoms: int
    n_edges: int
    width: int
    n_window: int


class _Edges(NamedTuple):
    """The graph as the kernels read it."""

    source: Tensor
    receiver: Tensor
    edge_ptr: Tensor
    edge_pair: Tensor
    pair_edges: Tensor
    batch_ptr: Tensor
    source_ptr: Tensor
    source_edges: Tensor


class _Weights(NamedTuple):
    """Parameters of both MLPs in one place; see the kernels' header."""

    first: Tensor
    second: Tensor
    last: Tensor
    last_bias: Tensor
    norms: Tensor


def _gather(phi: MlpParameters, filter_: MlpParameters) -> _Weights:
    width = filter_.first_weight.shape[0]
    rows = [
        row
        for mlp in (phi, filter_)
        for row in (
            mlp.first_bias, mlp.first_scale, mlp.first_shift,
            mlp.second_bias, mlp.second_scale, mlp.second_shift,
        )
    ]  # fmt: skip
    return _Weights(
        torch.stack([phi.first_weight[:, width:], filter_.first_weight]),
        torch.stack([phi.second_weight, filter_.second_weight]),
        torch.stack([phi.last_weight, filter_.last_weight]),
        torch.stack([phi.last_bias, filter_.last_bias]),
        torch.stack(rows),
    )


def _launch(table: Any, like: Tensor, precision: str) -> Launch:  # noqa: ANN401
    return choose_launch(table, like.device, like.shape[-1], precision)


def _cdiv(n: int, size: int) -> int:
    return -(-n // size)


def _atoms_product(
    rows: Tensor, weight: Tensor, bias: Tensor | None, precision: str, *, transposed: bool
) -> Tensor:
    """Return ``rows @ weight`` or ``rows @ weight.T``, row by row the same whatever the others are."""
    result = torch.empty_like(rows)
    launch = _launch(kernels.ATOMS_LAUNCHES, rows, precision)
    strides = weight.stride() if not transposed else weight.stride()[::-1]
    grid = (_cdiv(rows.shape[0], launch.tile["ROWS"]),)
    kernels.atoms_kernel[grid](
        rows, weight, rows if bias is None else bias, result, rows.shape[0], *strides,
        F=rows.shape[1], PRECISION=precision, HAS_BIAS=bias is not None, **launch.options,
    )  # fmt: skip
    return result


class _Sums(NamedTuple):
    """Partial sums of the parameters' gradients."""

    weights: Tensor
    biases: Tensor
    norms: Tensor


def _split(n_rows: int) -> tuple[int, int]:
    """Return how many splits ``n_rows`` have and how many rows a split, from the number alone."""
    rows = _cdiv(_cdiv(n_rows, _MOST_SPLITS), _SPLIT_UNIT) * _SPLIT_UNIT
    return _cdiv(n_rows, rows), rows


def _add_weights(
    left: Tensor,
    right: Tensor,
    sums: tuple[Tensor, Tensor],
    *,
    n_rows: int,
    rows_per_split: int,
    precision: str,
    has_vectors: bool = True,
    has_edges: bool = True,
) -> None:
    """Add ``leftᵀ right`` of ``n_rows`` rows to the partial sums; slots are those of the kernel."""
    weights, biases = sums
    n_weights, n_splits, width, _ = weights.shape
    launch = _launch(kernels.WEIGHTS_LAUNCHES, right, precision)
    kernels.weights_kernel[(n_weights * n_splits,)](
        left, right, weights, biases, n_rows, rows_per_split, n_splits, left.stride(0),
        F=width, PRECISION=precision, HAS_VECTORS=has_vectors, HAS_EDGES=has_edges,
        **launch.options,
    )  # fmt: skip


def painn_message_backward_triton(  # noqa: PLR0913, PLR0915, PLR0917, the schema's arguments
    grad_scalars: Tensor,
    grad_vectors: Tensor,
    grad_edges: Tensor,
    cross_sum: Tensor,
    scalars: Tensor,
    vectors: Tensor | None,
    edge_features: Tensor,
    pair_dist: Tensor,
    vec_saturated: Tensor,
    graph: list[Tensor],
    phi: list[Tensor],
    filter_: list[Tensor],
    distance_length: float,
    has_edges: bool,
    adds_edges: bool,
    wants_geometry: bool,
    precision: ProductPrecision,
) -> list[Tensor]:
    """Return the gradients of a message.

    Parameters
    ----------
    grad_scalars, grad_vectors, grad_edges
        Of the results: (n_atoms, F), (n_atoms, 3, F), and (n_edges, F) or (0, F) without edges.
    cross_sum
        (n_atoms, 3, F), ``Σ_j cross_ij u_ij``, which the forward kept; (0, 3, F) without vectors.
    scalars, vectors, edge_features, pair_dist, vec_saturated, graph, phi, filter_
        As for the forward, already checked; F is 32, 64 or 128.
    distance_length, has_edges, adds_edges
        As for the forward.
    wants_geometry
        Whether gradients of ``pair_dist`` and ``vec_saturated`` are wanted.
    precision
        Of the factors of products.

    Returns
    -------
    list of Tensor
        Of scalars, vectors, edge_features, pair_dist, vec_saturated, and of each parameter of ``phi`` and ``filter_``;
        those that are not wanted have no elements.

    Notes
    -----
    Edges go through a workspace of fixed size in windows; nothing is read back from the device. Deterministic;
    gradients of atoms, edges, distances and vectors are bitwise independent of the batch.
    """
    edges = _Edges(*(tensor.contiguous() for tensor in graph))
    scalars, edge_features, vec = (t.contiguous() for t in (scalars, edge_features, vec_saturated))
    grad_scalars, grad_vectors, grad_edges = (
        tensor.contiguous() for tensor in (grad_scalars, grad_vectors, grad_edges)
    )
    n_atoms, width = scalars.shape
    n_edges = edge_features.shape[0]
    both = MlpParameters(*phi), MlpParameters(*filter_)
    weights = _gather(*both)
    sizes = _Sizes(n_atoms, n_edges, width, min(n_edges, _WINDOW_ELEMENTS // width))
    has_vectors = vectors is not None
    if vectors is not None:
        vectors = vectors.contiguous()
        d_vectors = torch.linalg.cross(grad_vectors, cross_sum, dim=1)
        grad_cross = torch.linalg.cross(vectors, grad_vectors, dim=1)
    else:
        d_vectors = scalars.new_empty((0,))
        grad_cross = grad_vectors
    d_hidden = torch.zeros_like(scalars)
    d_edges = torch.empty_like(edge_features)
    d_vec = vec.new_zeros((2 if wants_geometry else 0, n_edges, 3))
    d_edge_dist = vec.new_empty((n_edges if wants_geometry else 0,))
    layer_launch = _launch(kernels.LAYER_LAUNCHES, scalars, precision)
    hidden_launch = _launch(kernels.HIDDEN_LAUNCHES, scalars, precision)
    blocks_launch = _launch(kernels.BLOCKS_LAUNCHES, scalars, precision)
    sources_launch = _launch(kernels.SOURCES_LAUNCHES, scalars, precision)
    n_splits, rows_per_split = _split(max(sizes.n_window, 1))
    n_tiles = _cdiv(sizes.n_window, layer_launch.tile["ROWS"])
    sums = _Sums(
        scalars.new_zeros((kernels.N_PRODUCTS, n_splits, width, width)),
        scalars.new_zeros((kernels.N_PRODUCTS, n_splits, width)),
        scalars.new_zeros((n_tiles, 2, kernels.N_NORM_ROWS, width)),
    )
    if n_edges:
        work = torch.empty(
            (kernels.N_SLOTS, sizes.n_window, width),
            dtype=torch.bfloat16 if precision == "bf16" else scalars.dtype,
            device=scalars.device,
        )
        phi_first = both[0].first_weight
        source_part = _atoms_product(
            scalars,
            phi_first[:, :width],
            both[0].first_bias.contiguous(),
            precision,
            transposed=True,
        )
        distances = (pair_dist / distance_length).contiguous()
        common = {"F": width, "PRECISION": precision}
        for start in range(0, n_edges, sizes.n_window):
            n_rows = min(sizes.n_window, n_edges - start)
            place = (start, n_rows, work.stride(0))
            grid = (2 * _cdiv(n_rows, hidden_launch.tile["ROWS"]),)
            kernels.hidden_kernel[grid](
                edge_features, source_part, distances, edges.source, edges.edge_pair,
                edges.source_edges, weights.first, weights.second, weights.norms, work, *place,
                **common, **hidden_launch.options,
            )  # fmt: skip
            grid = (5 * _cdiv(n_rows, blocks_launch.tile["ROWS"]),)
            kernels.blocks_kernel[grid](
                grad_scalars, grad_vectors, grad_edges, grad_cross,
                grad_vectors if vectors is None else vectors, vec, edges.source, edges.receiver,
                edges.source_edges, weights.last, weights.last_bias, work, d_vec, *place, n_edges,
                HAS_VECTORS=has_vectors, HAS_EDGES=has_edges, WANTS_GEOMETRY=wants_geometry,
                **common, **blocks_launch.options,
            )  # fmt: skip
            grid = (2 * _cdiv(n_rows, layer_launch.tile["ROWS"]),)
            for layer in (1, 0):
                kernels.layer_kernel[grid](
                    grad_edges, source_part, distances, edges.source, edges.edge_pair,
                    edges.source_edges, weights.first, weights.second, weights.last, weights.norms, work,
                    d_edges, d_edge_dist, sums.norms, *place,
                    LAYER=layer, HAS_VECTORS=has_vectors, HAS_EDGES=has_edges,
                    ADDS_EDGES=has_edges and adds_edges,
                    WANTS_GEOMETRY=wants_geometry, **common, **layer_launch.options,
                )  # fmt: skip
            grid = (min(_cdiv(n_atoms, sources_launch.tile["ATOMS"]), _SOURCE_PROGRAMS),)
            kernels.sources_kernel[grid](
                grad_vectors, edges.source, edges.receiver, edges.source_edges, edges.source_ptr,
                work, d_hidden, d_vectors, *place, F=width, HAS_VECTORS=has_vectors,
                **sources_launch.options,
            )  # fmt: skip
            _add_weights(
                work[6:], work, (sums.weights, sums.biases), n_rows=n_rows,
                rows_per_split=rows_per_split, precision=precision, has_vectors=has_vectors,
                has_edges=has_edges,
            )  # fmt: skip
        d_scalars = _atoms_product(
            d_hidden, phi_first[:, :width], None, precision, transposed=False
        )
    else:
        d_scalars = torch.zeros_like(scalars)
    d_source_weight = _source_weight(d_hidden, scalars, precision)
    geometry = (d_edge_dist, d_vec.new_empty((0,)))
    if wants_geometry:
        geometry = (_of_pairs(d_edge_dist, edges.pair_edges) / distance_length, d_vec.sum(0))
    return [
        d_scalars,
        d_vectors,
        d_edges,
        *geometry,
        *_parameters(sums, d_source_weight),
    ]


def _source_weight(d_hidden: Tensor, scalars: Tensor, precision: str) -> Tensor:
    """Return the gradient of the part of phi's first weight that acts on sources, (F, F)."""
    n_atoms, width = scalars.shape
    n_splits, rows_per_split = _split(max(n_atoms, 1))
    partial = scalars.new_zeros((1, n_splits, width, width))
    if n_atoms:
        biases = scalars.new_zeros((1, n_splits, width))
        _add_weights(
            d_hidden[None], scalars[None], (partial, biases), n_rows=n_atoms,
            rows_per_split=rows_per_split, precision=precision,
        )  # fmt: skip
    return partial.sum((0, 1))


def _of_pairs(of_edges: Tensor, pair_edges: Tensor) -> Tensor:
    """Return the sums over the one or two edges of each pair, (n_pairs,)."""
    if not of_edges.shape[0]:
        return of_edges.new_zeros(pair_edges.shape[0])
    found = of_edges[pair_edges.clamp(min=0)]
    return torch.where(pair_edges >= 0, found, 0.0).sum(1)


def _parameters(sums: _Sums, d_source_weight: Tensor) -> list[Tensor]:
    """Return the gradients of phi's parameters, then of the filter's."""
    weights, biases, norms = sums.weights.sum(1), sums.biases.sum(1), sums.norms.sum(0)
    width = weights.shape[-1]
    gradients = []
    for half in range(2):
        weight, bias = weights[7 * half : 7 * half + 7], biases[7 * half : 7 * half + 7]
        first = torch.cat([d_source_weight, weight[0]], dim=1) if half == 0 else weight[0]
        gradients += [
            *(first, bias[0], norms[half, 0], norms[half, 1]),
            *(weight[1], bias[1], norms[half, 2], norms[half, 3]),
            *(weight[2:].reshape(5 * width, width), bias[2:].reshape(5 * width)),
        ]
    # Views of one tensor would share its memory.
    return [gradient.clone() for gradient in gradients]
