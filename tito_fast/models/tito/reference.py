"""Backend ``reference``: the released formulation, conditioning recomputed at every evaluation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.tito.graph import EdgeList, complete_edges, cutoff_edges, edge_geometry
from tito_fast.models.tito.layers import Edges
from tito_fast.models.tito.network import TitoNetwork, displaced
from tito_fast.ops import center


@dataclass(frozen=True)
class ReferenceTables:
    """What does not change while the molecules stay the same."""

    batch: MoleculeBatch
    edges: EdgeList


@dataclass(frozen=True)
class ReferenceConditioning:
    """The state at t; the network runs over it at every evaluation, as the released code does."""

    scaled_positions: Tensor | None  # None without a condition
    lag_encoding: Tensor | None  # (n_molecules, F)


def prepare(network: TitoNetwork, batch: MoleculeBatch) -> ReferenceTables:
    """Return the tables for ``batch``."""
    del network
    return ReferenceTables(batch, complete_edges(batch))


def condition(
    network: TitoNetwork,
    tables: ReferenceTables,
    scaled_positions: Tensor | None,
    *,
    lag_encoding: Tensor | None,
) -> ReferenceConditioning:
    """Return the state at t; nothing is computed ahead."""
    del network, tables
    return ReferenceConditioning(scaled_positions, lag_encoding)


def pairs(network: TitoNetwork, tables: ReferenceTables, x_t: Tensor) -> Edges:
    """Return the geometry at ``x_t``, for all networks without a cutoff."""
    del network
    return edge_geometry(x_t, tables.edges)


def velocity(
    network: TitoNetwork,
    tables: ReferenceTables,
    conditioning: ReferenceConditioning,
    x_t: Tensor,
    *,
    encodings: list[Tensor],
    vectors: Tensor | None,
    pairs: Edges | None = None,
) -> Tensor:
    """Return ``x_t + readout``, centered where the model is, (n_atoms, 3), model units.

    ``encodings`` are (n_molecules, F) each, in the order of the network's input; ``vectors`` are None where
    the condition hands them over.
    """
    config, edges, current = network.config, tables.edges, conditioning.scaled_positions
    if config.scaled_cutoff is not None:
        frames = (x_t,) if current is None else (current, x_t)
        edges = cutoff_edges(edges, *frames, scaled_cutoff=config.scaled_cutoff)
    batch_idx, lag_encoding = tables.batch.batch_idx, conditioning.lag_encoding
    features = network.condition(
        tables.batch.atomic_numbers,
        edges.edge_type,
        None if current is None else edge_geometry(current, edges),
        lag_encoding=None if lag_encoding is None else lag_encoding[batch_idx],
    )
    inputs = torch.cat([features.scalars, *(encoding[batch_idx] for encoding in encodings)], dim=-1)
    _, equivariant = network.velocity(
        inputs,
        displaced(network, features.vectors, current, x_t) if vectors is None else vectors,
        features.edge_features,
        edge_geometry(x_t, edges) if pairs is None else pairs,
    )
    output = x_t + equivariant.squeeze(-1)
    return center(output, batch_ptr=tables.batch.batch_ptr) if config.is_centered else output
