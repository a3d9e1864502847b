"""C++ kernels of ``edge_embed`` as ``torch.ops.tito_fast.edge_embed`` and its backward."""

import torch
from torch import Tensor

from tito_fast._extension import native_module
from tito_fast.ops.edge_embed.operator import register_embed
from tito_fast.ops.library import dtype_suffix


def edge_embed_native(edge_type: Tensor, table: Tensor) -> Tensor:
    """Call the registered op; arguments as in :func:`tito_fast.ops.edge_embed`, checked."""
    result: Tensor = torch.ops.tito_fast.edge_embed(edge_type, table)
    return result


def _forward(edge_type: Tensor, table: Tensor) -> Tensor:
    edge_type, table = edge_type.contiguous(), table.contiguous()
    n_types, n_features = table.shape
    features = table.new_empty((edge_type.shape[0], n_features))
    getattr(native_module(), f"edge_embed_fwd_cpu_{dtype_suffix(table.dtype)}")(
        edge_type.data_ptr(),
        table.data_ptr(),
        features.data_ptr(),
        edge_type.shape[0],
        n_types,
        n_features,
        torch.get_num_threads(),
    )
    return features


def _backward(grad: Tensor, edge_type: Tensor, n_types: int) -> Tensor:
    grad, edge_type = grad.contiguous(), edge_type.contiguous()
    n_edges, n_features = grad.shape
    grad_table = grad.new_empty((n_types, n_features))
    getattr(native_module(), f"edge_embed_bwd_cpu_{dtype_suffix(grad.dtype)}")(
        edge_type.data_ptr(),
        grad.data_ptr(),
        grad_table.data_ptr(),
        n_edges,
        n_types,
        n_features,
        torch.get_num_threads(),
    )
    return grad_table


register_embed("edge_embed", _forward, _backward, ("CPU",))
