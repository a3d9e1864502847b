"""Backend ``eager``: the same function in plain PyTorch, with every exact saving that dense tiles allow.

Molecules of one size are worked on together as tiles of ``n_atoms × n_atoms`` edges (receiver, source), diagonal
included: no index of an edge is ever read. What the algebra saves, each exactly (kernels §3):

- the conditioning is computed once per rollout step, and its share of the first velocity layer with it;
- a linear of a concatenation is a sum: the source's share of φ is computed per atom, the condition's share of the
  velocity network once per rollout step, the times' share per molecule;
- the filter ``w(d)`` is computed once per pair and read by both directions; the diagonal reads a row of zeros;
- φ of the first conditioning layer is a table over (element, bond type), since its inputs are embedding rows;
- with vectors that are zero, or outputs that nobody reads, the blocks of the last linear are left out;
- ``Σ_j c_ij (u_ij × v_i) = (Σ_j c_ij u_ij) × v_i``: one cross product per receiver;
- one sine and cosine per pair; the multiples of the angle by doubling.

Works on every device and dtype, with autograd.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.tito.eager_blocks import (
    linear,
    linear_vectors,
    mlp_tail,
    run_mlp,
)
from tito_fast.models.tito.eager_layers import (
    Work,
    add_edges,
    add_nodes,
    edge_share_of,
    first_message_sums,
    message_sums,
    place_tiles,
    readout_vector,
    update_atoms,
)
from tito_fast.models.tito.eager_tiles import (
    Kinds,
    Tile,
    make_tiles,
    pad_rows,
)
from tito_fast.models.tito.eager_weights import (
    CROSS,
    DIRECTION,
    EDGES,
    GATE,
    SCALARS,
    MessageWeights,
    MlpWeights,
    ReadoutWeights,
    UpdateWeights,
    message_weights,
    mlp_weights,
    readout_weights,
    update_weights,
)
from tito_fast.models.tito.network import TitoNetwork, displaced
from tito_fast.ops import center


@dataclass(frozen=True)
class EagerTables:
    """What does not change while the molecules stay the same."""

    batch: MoleculeBatch
    tiles: tuple[Tile, ...]
    kinds: Kinds
    atomic_numbers: Tensor  # (n_atoms,) in tile order
    batch_idx: Tensor  # (n_atoms,) in tile order
    atom_order: (
        Tensor | None
    )  # (n_atoms,): atoms sorted by the size of their molecule; None if they are
    atom_place: Tensor | None  # inverse of atom_order


class _VelocityWeights(NamedTuple):
    """The velocity network, gathered."""

    combine_times: Tensor  # share of the first linear that reads the times' encodings
    combine: MlpWeights
    layers: list[tuple[MessageWeights, UpdateWeights]]
    readout: ReadoutWeights


@dataclass(frozen=True)
class EagerConditioning:
    """What the velocity needs to know of the current state; constant over the solver's evaluations.

    With a cutoff the features are None: the graph unites the state's edges with the interpolant's, so
    nothing can be computed ahead.
    """

    scaled_positions: Tensor | None  # (n_atoms, 3) in tile order; None without a condition
    lag_encoding: Tensor | None  # (n_molecules, F)
    weights: _VelocityWeights
    features: "_Features | None"


class _Features(NamedTuple):
    """What the conditioning network hands over."""

    projection: Tensor  # (n_atoms, F): share of the velocity network's first linear
    edges: list[Tensor]  # per tile (rows, F); rows are n_edges, then padding
    edge_shares: list[Tensor]  # per tile (rows, width): W_e e of the first velocity layer
    vectors: Tensor | None  # (n_atoms, 3, F), where they are the velocity network's start


def prepare(network: TitoNetwork, batch: MoleculeBatch) -> EagerTables:
    """Return the tables for ``batch``: molecules sorted by size, cut into tiles."""
    tiles, kinds, order = make_tiles(batch, n_features=network.config.n_features)
    return EagerTables(
        batch=batch,
        tiles=tiles,
        kinds=kinds,
        atomic_numbers=_take(batch.atomic_numbers, order),
        batch_idx=_take(batch.batch_idx, order),
        atom_order=order,
        atom_place=None if order is None else torch.argsort(order),
    )


def condition(
    network: TitoNetwork,
    tables: EagerTables,
    scaled_positions: Tensor | None,
    *,
    lag_encoding: Tensor | None,
) -> EagerConditioning:
    """Run the conditioning network over the state at t."""
    positions = None
    if scaled_positions is not None:
        positions = _take(scaled_positions, tables.atom_order)
    conditioning = EagerConditioning(positions, lag_encoding, _velocity_weights(network), None)
    if network.config.scaled_cutoff is not None:
        return conditioning
    features = _condition_features(network, tables, conditioning, graph_of=())
    return replace(conditioning, features=features)


def pairs(network: TitoNetwork, tables: EagerTables, x_t: Tensor) -> list[Work]:
    """Return the tiles at ``x_t``, for all networks without a cutoff that encode distances alike."""
    x = _take(x_t, tables.atom_order)
    first = message_weights(network.velocity.layers.first_message, [GATE])
    return place_tiles(tables.tiles, x, first, graph_of=(), scaled_cutoff=None)


def velocity(
    network: TitoNetwork,
    tables: EagerTables,
    conditioning: EagerConditioning,
    x_t: Tensor,
    *,
    encodings: list[Tensor],
    vectors: Tensor | None,
    pairs: list[Work] | None = None,
) -> Tensor:
    """Return ``x_t + readout``, centered where the model is, (n_atoms, 3), model units."""
    x = _take(x_t, tables.atom_order)
    weights, features = conditioning.weights, conditioning.features
    graph_of: tuple[Tensor, ...] = ()
    if features is None:
        current = conditioning.scaled_positions
        graph_of = (x,) if current is None else (current, x)
        features = _condition_features(network, tables, conditioning, graph_of=graph_of)
    v = features.vectors if vectors is None else _take(vectors, tables.atom_order)
    if v is None:
        raise RuntimeError("vectors: expected those of the condition, got none")
    if vectors is None:
        v = displaced(network, v, conditioning.scaled_positions, x)
    work = pairs or place_tiles(
        tables.tiles,
        x,
        weights.layers[0][0],
        graph_of=graph_of,
        scaled_cutoff=network.config.scaled_cutoff,
    )
    times = linear(torch.cat(encodings, dim=-1), weights.combine_times, weights.combine.first[1])
    scalars = mlp_tail(weights.combine, features.projection + times[tables.batch_idx])
    edges, edge_shares = features.edges, features.edge_shares
    n_layers = len(weights.layers)
    for index, (message, update) in enumerate(weights.layers):
        if index > 0:
            edge_shares = [edge_share_of(message, tile_edges) for tile_edges in edges]
        # The first shares are the conditioning's, which the next evaluation reads again.
        sums = message_sums(message, work, scalars, v, edge_shares, owns_shares=index > 0)
        if index + 1 < n_layers:
            edges = add_edges(message, edges, sums, owns_edges=index > 0)
        scalars, v = add_nodes(message, scalars, v, sums)
        scalars, v = update_atoms(update, scalars, v)
    x = x + readout_vector(weights.readout, scalars, v)
    output = _take(x, tables.atom_place)
    if not network.config.is_centered:
        return output
    return center(output, batch_ptr=tables.batch.batch_ptr)


def _velocity_weights(network: TitoNetwork) -> _VelocityWeights:
    net, n_features = network.velocity, network.config.n_features
    every, last = [GATE, DIRECTION, SCALARS, CROSS, EDGES], [GATE, DIRECTION, SCALARS, CROSS]
    n_layers = len(net.layers)
    return _VelocityWeights(
        combine_times=net.combine.linears[0].weight[:, n_features:],
        combine=mlp_weights(net.combine),
        layers=[
            (
                message_weights(layer.message, every if index + 1 < n_layers else last),
                update_weights(layer.update, wants_vectors=True),
            )
            for index, layer in enumerate(net.layers)
        ],
        readout=readout_weights(net.readout, rows=slice(1, 2)),
    )


def _condition_features(
    network: TitoNetwork,
    tables: EagerTables,
    conditioning: EagerConditioning,
    *,
    graph_of: tuple[Tensor, ...],
) -> _Features:
    net, config, positions = network.condition, network.config, conditioning.scaled_positions
    scalars = net.atom_embedding(tables.atomic_numbers)
    if conditioning.lag_encoding is not None:
        lag_encoding = conditioning.lag_encoding[tables.batch_idx]
        scalars = run_mlp(mlp_weights(net.combine), torch.cat([scalars, lag_encoding], dim=-1))
    if config.message == "edge":
        edges = [pad_rows(net.bond_embedding(tile.edge_type)) for tile in tables.tiles]
    else:
        edges = [scalars.new_zeros((tile.n_edges, 0)) for tile in tables.tiles]
    vectors = scalars.new_zeros((scalars.shape[0], 3, config.n_features))
    if positions is None:
        return _handed_over(conditioning.weights, scalars, edges, None)
    hands_over_vectors = config.vector_start == "condition"
    # Where the first φ reads embeddings alone it is a table.
    has_table = config.message == "edge" and conditioning.lag_encoding is None
    every = [GATE, DIRECTION, SCALARS, CROSS, EDGES]
    # No vectors yet: nothing to gate, nothing to cross.
    first = [DIRECTION, SCALARS, EDGES] if has_table else every
    message = message_weights(net.layers.first_message, first)
    work = place_tiles(
        tables.tiles,
        positions,
        message,
        graph_of=graph_of,
        scaled_cutoff=config.scaled_cutoff,
    )
    for index, layer in enumerate(net.layers):
        if index == 0 and has_table:
            atoms = net.atom_embedding(tables.kinds.atomic_numbers)
            bonds = net.bond_embedding(tables.kinds.bond_types)
            sums = first_message_sums(message, atoms, bonds, work)
        else:
            message = message_weights(layer.message, every)
            edge_shares = [edge_share_of(message, tile_edges) for tile_edges in edges]
            sums = message_sums(message, work, scalars, vectors, edge_shares, owns_shares=True)
        edges = add_edges(message, edges, sums, owns_edges=True)
        scalars, vectors = add_nodes(message, scalars, vectors, sums)
        is_last = index + 1 == len(net.layers)
        update = update_weights(layer.update, wants_vectors=hands_over_vectors or not is_last)
        scalars, vectors = update_atoms(update, scalars, vectors)
    if not hands_over_vectors:
        scalars = run_mlp(mlp_weights(net.readout.mlp, rows=slice(0, config.n_features)), scalars)
        return _handed_over(conditioning.weights, scalars, edges, None)
    scalars, gate = run_mlp(mlp_weights(net.readout.mlp), scalars).chunk(2, dim=-1)
    vectors = gate.unsqueeze(1) * linear_vectors(vectors, net.readout.v.weight)
    return _handed_over(conditioning.weights, scalars, edges, vectors)


def _handed_over(
    weights: _VelocityWeights, scalars: Tensor, edges: list[Tensor], vectors: Tensor | None
) -> _Features:
    n_features = scalars.shape[1]
    return _Features(
        projection=linear(scalars, weights.combine.first[0][:, :n_features]),
        edges=edges,
        edge_shares=[edge_share_of(weights.layers[0][0], tile_edges) for tile_edges in edges],
        vectors=vectors,
    )


def _take(rows: Tensor, order: Tensor | None) -> Tensor:
    return rows if order is None else rows[order]
