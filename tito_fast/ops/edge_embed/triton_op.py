"""Triton kernels of ``edge_embed`` as ``torch.ops.tito_fast.edge_embed_triton`` and its backward."""

import torch
from torch import Tensor

from tito_fast.ops.edge_embed.operator import register_embed
from tito_fast.ops.edge_embed.triton_kernel import (
    edge_embed_bwd_kernel,
    edge_embed_fwd_kernel,
    embed_launch,
)
from tito_fast.ops.native_call import dense
from tito_fast.ops.triton_gradients import on_device

_FEWEST_EDGES = 1024
_MOST_SPLITS = 128
# Of partial sums, so that large tables do not take much memory.
_MOST_ROWS = 4096


def edge_embed_triton(edge_type: Tensor, table: Tensor) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.edge_embed`, checked."""
    result: Tensor = torch.ops.tito_fast.edge_embed_triton(edge_type, table)
    return result


def _forward(edge_type: Tensor, table: Tensor) -> Tensor:
    edge_type, table = dense(edge_type, table)
    n_edges, (n_types, n_features) = edge_type.shape[0], table.shape
    features = table.new_empty((n_edges, n_features))
    if features.numel() == 0:
        return features
    launch = embed_launch(n_features)
    n_tiles = -(-n_edges // launch.tile["EDGES"]) * -(-n_features // launch.tile["COLUMNS"])
    with on_device(table):
        edge_embed_fwd_kernel[(n_tiles,)](
            edge_type, table, features, n_edges, n_types, n_features, **launch.options
        )
    return features


def _backward(grad: Tensor, edge_type: Tensor, n_types: int) -> Tensor:
    grad, edge_type = dense(grad, edge_type)
    n_edges, n_features = grad.shape
    if grad.numel() == 0 or n_types == 0:
        return grad.new_zeros((n_types, n_features))
    launch = embed_launch(n_features)
    edges = launch.tile["EDGES"]
    most_splits = max(min(_MOST_SPLITS, _MOST_ROWS // n_types), 1)
    edges_per_split = max(_FEWEST_EDGES, -(-n_edges // (most_splits * edges)) * edges)
    n_splits = -(-n_edges // edges_per_split)
    partial = grad.new_empty((n_splits, n_types, n_features))
    n_programs = n_splits * n_types * -(-n_features // launch.tile["COLUMNS"])
    with on_device(grad):
        edge_embed_bwd_kernel[(n_programs,)](
            grad,
            edge_type,
            partial,
            n_edges,
            n_types,
            edges_per_split,
            n_features,
            **launch.options,
        )
    return partial.sum(0)


register_embed("edge_embed_triton", _forward, _backward, ("CPU", "CUDA"))
