"""The definition of ``edge_embed`` in plain PyTorch."""

from torch import Tensor


def edge_embed_reference(edge_type: Tensor, table: Tensor) -> Tensor:
    """Return ``table[edge_type]``; arguments as in :func:`tito_fast.ops.edge_embed`, checked."""
    return table[edge_type]
