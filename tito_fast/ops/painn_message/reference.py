"""The definition of ``painn_message`` in plain PyTorch."""

import math

import torch
from torch import Tensor

from tito_fast.ops.mlp_parameters import MlpParameters, mlp_reference
from tito_fast.ops.painn_message.graph import MessageGraph


def encode_distances(dist: Tensor, n_features: int, length: float) -> Tensor:
    """Return ``cos(kπ d/length), sin(kπ d/length)`` for k = 1 … n_features/2, interleaved, (n, n_features)."""
    ranks = torch.arange(1, n_features // 2 + 1, dtype=dist.dtype, device=dist.device)
    phases = (dist / length).unsqueeze(-1) * ranks * math.pi
    return torch.stack([torch.cos(phases), torch.sin(phases)], dim=-1).flatten(-2)


def painn_message_reference(  # noqa: PLR0913, PLR0917, as the public function
    scalars: Tensor,
    vectors: Tensor | None,
    edge_features: Tensor,
    pair_dist: Tensor,
    vec_saturated: Tensor,
    graph: MessageGraph,
    phi: MlpParameters,
    filter_: MlpParameters,
    distance_length: float,
    adds_edges: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sums of scalars and vectors, and the edges' features.

    Arguments as in :func:`tito_fast.ops.painn_message`, already checked.
    """
    source, receiver = graph.source, graph.receiver
    width = scalars.shape[1]
    v = scalars.new_zeros((scalars.shape[0], 3, width)) if vectors is None else vectors
    encoding = encode_distances(pair_dist[graph.edge_pair], width, distance_length)
    inputs = torch.cat([scalars[source], edge_features], dim=-1)
    product = mlp_reference(inputs, phi) * mlp_reference(encoding, filter_)
    gate, direction, ds, de, cross = product.chunk(5, dim=-1)
    u = vec_saturated.unsqueeze(-1)
    dv = (
        gate.unsqueeze(1) * v[source]
        + direction.unsqueeze(1) * u
        + cross.unsqueeze(1) * torch.linalg.cross(u.expand_as(v[receiver]), v[receiver], dim=1)
    )
    sum_ds = torch.zeros_like(scalars).index_add(0, receiver, ds)
    sum_dv = torch.zeros_like(v).index_add(0, receiver, dv)
    return sum_ds, sum_dv, edge_features + de if adds_edges else de
