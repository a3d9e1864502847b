"""The definition of ``edge_geometry`` in plain PyTorch."""

import torch
from torch import Tensor

from tito_fast.ops.painn_message import MessageGraph


def edge_geometry_reference(positions: Tensor, graph: MessageGraph) -> tuple[Tensor, Tensor]:
    """Return pair_dist and vec_saturated; arguments already checked."""
    vec = positions[graph.source] - positions[graph.receiver]
    # Not vector_norm, whose gradient at a zero distance is not a number.
    square = (vec * vec).sum(dim=-1)
    dist = torch.sqrt(square.clamp_min(torch.finfo(vec.dtype).tiny))
    return dist[graph.pair_edges[:, 0]], vec / (1 + dist).unsqueeze(-1)
