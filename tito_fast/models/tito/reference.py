"""Backend ``reference``: the released formulation, conditioning recomputed at every evaluation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.tito.graph import EdgeList, complete_edges, cutoff_edges, edge_geometry
from tito_fast.models.tito.network import TitoNetwork
from tito_fast.ops import center


@dataclass(frozen=True)
class ReferenceTables:
    """What does not change while the molecules stay the same."""

    batch: MoleculeBatch
    edges: EdgeList


@dataclass(frozen=True)
class ReferenceConditioning:
    """The state at t; the network runs over it at every evaluation, as the released code does."""

    scaled_positions: Tensor


def prepare(network: TitoNetwork, batch: MoleculeBatch) -> ReferenceTables:
    """Return the tables for ``batch``."""
    del network
    return ReferenceTables(batch, complete_edges(batch))


def condition(
    network: TitoNetwork, tables: ReferenceTables, scaled_positions: Tensor
) -> ReferenceConditioning:
    """Return the state at t; nothing is computed ahead."""
    del network, tables
    return ReferenceConditioning(scaled_positions)


def velocity(
    network: TitoNetwork,
    tables: ReferenceTables,
    conditioning: ReferenceConditioning,
    x_t: Tensor,
    *,
    encodings: list[Tensor],
    vectors: Tensor,
) -> Tensor:
    """Return ``center(x_t + readout)``, (n_atoms, 3), model units.

    ``encodings`` are (n_molecules, F) each, in the order of the network's input.
    """
    edges = tables.edges
    if network.config.scaled_cutoff is not None:
        edges = cutoff_edges(
            edges,
            conditioning.scaled_positions,
            x_t,
            scaled_cutoff=network.config.scaled_cutoff,
        )
    features = network.condition(
        tables.batch.atomic_numbers,
        edges.edge_type,
        edge_geometry(conditioning.scaled_positions, edges),
    )
    batch_idx = tables.batch.batch_idx
    inputs = torch.cat([features.scalars, *(encoding[batch_idx] for encoding in encodings)], dim=-1)
    _, equivariant = network.velocity(
        inputs, vectors, features.edge_features, edge_geometry(x_t, edges)
    )
    return center(x_t + equivariant.squeeze(-1), batch_ptr=tables.batch.batch_ptr)
