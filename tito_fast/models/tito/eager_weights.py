"""The network's weights as the eager backend reads them: gathered once per rollout step, in its order of blocks.

Reading a parameter through nested modules costs microseconds, several hundred times an evaluation.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tito_fast.models.tito.layers import Message, Mlp, Readout, Update, filter_first_linear


class MlpWeights(NamedTuple):
    """Linear, norm, SiLU, linear, norm, SiLU, linear; the norms are None without."""

    first: tuple[Tensor, Tensor]  # weight, bias
    first_norm: tuple[Tensor, Tensor, float] | None  # weight, bias, eps
    second: tuple[Tensor, Tensor]
    second_norm: tuple[Tensor, Tensor, float] | None
    last: tuple[Tensor, Tensor]


class MessageWeights(NamedTuple):
    """A message, its last linears restricted to the blocks that are wanted."""

    width: int
    distance_length: float
    source: Tensor  # (width, width): share of φ's first linear that reads the source's scalars
    edge: Tensor | None  # (width, width): share that reads the edge; None without edge features
    phi: MlpWeights
    filter: MlpWeights
    reduction: "Reduction | None"


class Reduction(NamedTuple):
    """The bottleneck around a message; each is weight and, where there is one, bias."""

    reduce_scalars: tuple[Tensor, Tensor]
    reduce_edges: tuple[Tensor, Tensor]
    reduce_vectors: Tensor
    expand_vectors: Tensor
    expand_scalars: tuple[Tensor, Tensor]
    expand_edges: tuple[Tensor, Tensor]


class UpdateWeights(NamedTuple):
    """An update: the linear of the norms, and of the new vectors where they are wanted, stacked."""

    vectors: Tensor  # (F, F) or (2 F, F): V, then U
    mlp: MlpWeights


class ReadoutWeights(NamedTuple):
    """The part of a readout that is wanted."""

    mlp: MlpWeights
    vectors: Tensor


# Blocks of a message's last linears: gate, direction, scalars, edges (where they have features), cross.
GATE, DIRECTION, SCALARS, EDGES, CROSS = range(5)


def message_weights(message: Message, blocks: list[int]) -> MessageWeights:
    """Return a message's weights with only ``blocks`` of its last linears, in that order."""
    width = message.width
    first = message.phi.linears[0].weight
    if not message.has_edge_features:
        blocks = [block - int(block > EDGES) for block in blocks if block != EDGES]
    filter_weights = _mlp(message.filter, _blocks(message.filter, blocks, width))
    return MessageWeights(
        width=width,
        distance_length=message.distance_length,
        source=first[:, :width],
        edge=first[:, width:] if message.has_edge_features else None,
        phi=_mlp(message.phi, _blocks(message.phi, blocks, width)),
        # Distances are encoded from rank 1 on.
        filter=filter_weights._replace(first=filter_first_linear(message)),
        reduction=_reduction(message) if message.is_reduced else None,
    )


def update_weights(update: Update, *, wants_vectors: bool) -> UpdateWeights:
    """Return an update's weights; without the vectors' where nobody reads them."""
    n_features = update.u.weight.shape[0]
    if wants_vectors:
        both = torch.cat([update.v.weight, update.u.weight])
        return UpdateWeights(both, mlp_weights(update.mlp))
    return UpdateWeights(update.v.weight, mlp_weights(update.mlp, rows=slice(n_features, None)))


def readout_weights(readout: Readout, *, rows: slice) -> ReadoutWeights:
    """Return a readout's weights with only ``rows`` of its outputs."""
    return ReadoutWeights(mlp_weights(readout.mlp, rows=rows), readout.v.weight)


def mlp_weights(mlp: Mlp, *, rows: slice = slice(None)) -> MlpWeights:
    """Return an MLP's weights with only ``rows`` of its outputs."""
    last = mlp.linears[2]
    return _mlp(mlp, (last.weight[rows], last.bias[rows]))


def _mlp(mlp: Mlp, last: tuple[Tensor, Tensor]) -> MlpWeights:
    first, second, _ = mlp.linears
    first_norm, second_norm = mlp.norms or (None, None)
    return MlpWeights(
        first=(first.weight, first.bias),
        first_norm=_norm(first_norm),
        second=(second.weight, second.bias),
        second_norm=_norm(second_norm),
        last=last,
    )


def _norm(norm: nn.LayerNorm | None) -> tuple[Tensor, Tensor, float] | None:
    return None if norm is None else (norm.weight, norm.bias, norm.eps)


def _blocks(mlp: Mlp, blocks: list[int], width: int) -> tuple[Tensor, Tensor]:
    last = mlp.linears[2]
    weight, bias = last.weight.view(-1, width, width), last.bias.view(-1, width)
    return (
        torch.cat([weight[block] for block in blocks]),
        torch.cat([bias[block] for block in blocks]),
    )


def _reduction(message: Message) -> Reduction:
    return Reduction(
        reduce_scalars=(message.reduce_scalars.weight, message.reduce_scalars.bias),
        reduce_edges=(message.reduce_edges.weight, message.reduce_edges.bias),
        reduce_vectors=message.reduce_vectors.weight,
        expand_vectors=message.expand_vectors.weight,
        expand_scalars=(message.expand_scalars.weight, message.expand_scalars.bias),
        expand_edges=(message.expand_edges.weight, message.expand_edges.bias),
    )
