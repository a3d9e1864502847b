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
    pair_encoding,
    run_mlp,
)
from tito_fast.models.tito.eager_tiles import (
    Geometry,
    Kinds,
    Tile,
    make_tiles,
    pad_rows,
    tile_geometry,
    vector_length,
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


class _Work(NamedTuple):
    """A tile at some positions, with the encoded distances of its pairs."""

    tile: Tile
    geometry: Geometry
    encoding: Tensor  # (n_pairs padded, width)


class _Sums(NamedTuple):
    """What a message adds to a tile."""

    scalars: Tensor  # (receivers, width)
    vectors: Tensor  # (receivers, 3, width)
    edges: Tensor | None  # (n_edges, width)


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


def pairs(network: TitoNetwork, tables: EagerTables, x_t: Tensor) -> "list[_Work]":
    """Return the tiles at ``x_t``, for all networks without a cutoff that encode distances alike."""
    x = _take(x_t, tables.atom_order)
    first = message_weights(network.velocity.layers.first_message, [GATE])
    return _work(network, tables, x, first, graph_of=())


def velocity(
    network: TitoNetwork,
    tables: EagerTables,
    conditioning: EagerConditioning,
    x_t: Tensor,
    *,
    encodings: list[Tensor],
    vectors: Tensor | None,
    pairs: "list[_Work] | None" = None,
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
    work = pairs or _work(network, tables, x, weights.layers[0][0], graph_of=graph_of)
    times = linear(torch.cat(encodings, dim=-1), weights.combine_times, weights.combine.first[1])
    scalars = mlp_tail(weights.combine, features.projection + times[tables.batch_idx])
    edges, edge_shares = features.edges, features.edge_shares
    n_layers = len(weights.layers)
    for index, (message, update) in enumerate(weights.layers):
        if index > 0:
            edge_shares = [_edge_share(message, tile_edges) for tile_edges in edges]
        # The first shares are the conditioning's, which the next evaluation reads again.
        sums = _sums(message, work, scalars, v, edge_shares, owns_shares=index > 0)
        if index + 1 < n_layers:
            edges = _add_edges(message, edges, sums, owns_edges=index > 0)
        scalars, v = _add_nodes(message, scalars, v, sums)
        scalars, v = _update(update, scalars, v)
    x = x + _readout_vector(weights.readout, scalars, v)
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
    work = _work(network, tables, positions, message, graph_of=graph_of)
    for index, layer in enumerate(net.layers):
        if index == 0 and has_table:
            atoms = net.atom_embedding(tables.kinds.atomic_numbers)
            bonds = net.bond_embedding(tables.kinds.bond_types)
            sums = _first_sums(message, atoms, bonds, work)
        else:
            message = message_weights(layer.message, every)
            edge_shares = [_edge_share(message, tile_edges) for tile_edges in edges]
            sums = _sums(message, work, scalars, vectors, edge_shares, owns_shares=True)
        edges = _add_edges(message, edges, sums, owns_edges=True)
        scalars, vectors = _add_nodes(message, scalars, vectors, sums)
        is_last = index + 1 == len(net.layers)
        update = update_weights(layer.update, wants_vectors=hands_over_vectors or not is_last)
        scalars, vectors = _update(update, scalars, vectors)
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
        edge_shares=[_edge_share(weights.layers[0][0], tile_edges) for tile_edges in edges],
        vectors=vectors,
    )


def _work(
    network: TitoNetwork,
    tables: EagerTables,
    positions: Tensor,
    message: MessageWeights,
    *,
    graph_of: tuple[Tensor, ...],
) -> list[_Work]:
    """Return the tiles at ``positions``; all messages of one network share the encoding of ``message``."""
    work = []
    for tile in tables.tiles:
        geometry = tile_geometry(
            tile, positions, graph_of=graph_of, scaled_cutoff=network.config.scaled_cutoff
        )
        encoding = pair_encoding(
            geometry.pair_dist, n_features=message.width, length=message.distance_length
        )
        work.append(_Work(tile, geometry, encoding))
    return work


def _edge_share(message: MessageWeights, edges: Tensor) -> Tensor:
    """Return the edges' share of φ's first linear, (rows, width); of edges without features nothing."""
    if message.edge is None:
        return edges
    if message.reduction is not None:
        edges = linear(edges, *message.reduction.reduce_edges)
    return linear(edges, message.edge)


def _sums(
    message: MessageWeights,
    work: list[_Work],
    scalars: Tensor,
    vectors: Tensor,
    edge_shares: list[Tensor],
    *,
    owns_shares: bool,
) -> list[_Sums]:
    """Return what the message adds to each tile; ``owns_shares`` allows to overwrite the shares."""
    if message.reduction is not None:
        scalars = linear(scalars, *message.reduction.reduce_scalars)
        vectors = linear_vectors(vectors, message.reduction.reduce_vectors)
    width = message.width
    if message.edge is None:
        of_atoms = _phi_of_atoms(message, scalars)
    else:
        of_atoms = linear(scalars, message.source, message.phi.first[1])
    sums = []
    for (tile, geometry, encoding), edge_share in zip(work, edge_shares, strict=True):
        b, n = tile.n_molecules, tile.n_atoms
        here = of_atoms[tile.atoms]
        if message.edge is None:
            phi = here.view(b, 1, n, -1).expand(b, n, n, -1).reshape(tile.n_edges, -1)
        else:
            phi = _phi_of_edges(message, tile, here, edge_share, owns_share=owns_shares)
        product = _times_filter(message, phi, encoding, geometry)
        wants_edges = product.shape[1] == 5 * width
        blocks = [width, 3 * width, width] if wants_edges else [width, 3 * width]
        gate, to_sum, *de = torch.split(product, blocks, dim=1)
        v = vectors[tile.atoms]
        summed = torch.bmm(geometry.vec_and_one, to_sum.view(b * n, n, 3 * width))
        direction, ds, cross = torch.split(summed, width, dim=2)
        gated = _gated_sum(gate.view(b, n, n, width), v.view(b, 1, n, 3, width))
        # Under autocast the sums are bfloat16 and the vectors are not; cross wants one dtype.
        crossed = torch.linalg.cross(cross[:, :3].to(v.dtype), v, dim=1)
        sums.append(
            _Sums(
                scalars=ds[:, 3],
                vectors=gated.view(b * n, 3, width) + direction[:, :3] + crossed,
                edges=de[0] if de else None,
            )
        )
    return sums


def _phi_of_edges(
    message: MessageWeights,
    tile: Tile,
    source_share: Tensor,
    edge_share: Tensor,
    *,
    owns_share: bool,
) -> Tensor:
    """Return φ of every edge of a tile, from the shares of its first linear."""
    b, n, n_edges, width = tile.n_molecules, tile.n_atoms, tile.n_edges, message.width
    share = source_share.view(b, 1, n, width)
    if edge_share.requires_grad or share.requires_grad:
        hidden = (edge_share.view(b, n, n, width) + share).view(n_edges, width)
    else:
        hidden = edge_share if owns_share else edge_share.clone()
        hidden[:n_edges].view(b, n, n, width).add_(share)
    return mlp_tail(message.phi, hidden)[:n_edges]


def _phi_of_atoms(message: MessageWeights, scalars: Tensor) -> Tensor:
    """Return φ of every source, its scale already times the scalars that it scales."""
    gate, direction, scale, cross = run_mlp(message.phi, scalars).chunk(4, dim=-1)
    return torch.cat([gate, direction, scale * scalars, cross], dim=-1)


def _first_sums(
    message: MessageWeights, atoms: Tensor, bonds: Tensor, work: list[_Work]
) -> list[_Sums]:
    """Return what the first conditioning message adds: no vectors yet, and φ a table over kinds of edges.

    ``atoms`` and ``bonds`` are the embeddings (n_kinds, F) of the kinds' elements and bond types.
    """
    width = message.width
    if message.reduction is not None:
        atoms = linear(atoms, *message.reduction.reduce_scalars)
    source_share = linear(atoms, message.source, message.phi.first[1])
    table = mlp_tail(message.phi, source_share + _edge_share(message, bonds))
    sums = []
    for tile, geometry, encoding in work:
        product = _times_filter(message, table[tile.kind_idx], encoding, geometry)
        to_sum, de = torch.split(product, [2 * width, width], dim=1)
        b, n = tile.n_molecules, tile.n_atoms
        summed = torch.bmm(geometry.vec_and_one, to_sum.view(b * n, n, 2 * width))
        direction, ds = torch.split(summed, width, dim=2)
        sums.append(_Sums(scalars=ds[:, 3], vectors=direction[:, :3], edges=de))
    return sums


def _times_filter(
    message: MessageWeights, phi: Tensor, encoding: Tensor, geometry: Geometry
) -> Tensor:
    """Return φ ⊙ w of every edge; w is computed once per pair and is zero where there is no edge."""
    filters = run_mlp(message.filter, encoding)
    filters[geometry.n_pairs :] = 0
    per_edge = filters.index_select(0, geometry.pair_slot)
    return phi * per_edge if phi.requires_grad or per_edge.requires_grad else phi.mul_(per_edge)


def _gated_sum(gate: Tensor, vectors: Tensor) -> Tensor:
    """Return Σ_j gate_ij v_j, (b, n, 3, width), for gate (b, n, n, width) and vectors (b, 1, n, 3, width)."""
    return torch.stack([(gate * vectors[..., axis, :]).sum(2) for axis in range(3)], dim=2)


def _add_edges(
    message: MessageWeights, edges: list[Tensor], sums: list[_Sums], *, owns_edges: bool
) -> list[Tensor]:
    """Return ``e + de`` per tile; ``owns_edges`` allows to overwrite the edges."""
    if message.edge is None:
        return edges
    new_edges = []
    for tile_edges, each in zip(edges, sums, strict=True):
        added = each.edges
        if added is None:
            raise RuntimeError("sums: expected a share for the edges, got none")
        if message.reduction is not None:
            added = linear(added, *message.reduction.expand_edges)
        if tile_edges.requires_grad or added.requires_grad:
            new_edges.append(tile_edges + added)
            continue
        new = tile_edges if owns_edges else tile_edges.clone()
        new[: added.shape[0]].add_(added)
        new_edges.append(new)
    return new_edges


def _add_nodes(
    message: MessageWeights, scalars: Tensor, vectors: Tensor, sums: list[_Sums]
) -> tuple[Tensor, Tensor]:
    """Return ``s + ds`` and ``v + dv``."""
    if not sums:
        return scalars, vectors
    ds, dv = torch.cat([each.scalars for each in sums]), torch.cat([each.vectors for each in sums])
    if message.reduction is not None:
        ds = linear(ds, *message.reduction.expand_scalars)
        dv = linear_vectors(dv, message.reduction.expand_vectors)
    return scalars + ds, vectors + dv


def _update(update: UpdateWeights, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return the atoms' features after the update; the vectors as they are where nobody reads them."""
    n_features = scalars.shape[1]
    moved = linear_vectors(vectors, update.vectors)
    norm = vector_length(moved[..., :n_features], dim=1)
    outputs = run_mlp(update.mlp, torch.cat([norm, scalars], dim=-1))
    if update.vectors.shape[0] == n_features:
        scale, add = outputs.chunk(2, dim=-1)
        return scalars + norm**2 * scale + add, vectors
    gates, scale, add = outputs.chunk(3, dim=-1)
    vectors = vectors + gates.unsqueeze(1) * moved[..., n_features:]
    return scalars + norm**2 * scale + add, vectors


def _readout_vector(readout: ReadoutWeights, scalars: Tensor, vectors: Tensor) -> Tensor:
    """Return the readout's vector, (n_atoms, 3); its scalar is not computed."""
    return run_mlp(readout.mlp, scalars) * linear_vectors(vectors, readout.vectors).squeeze(-1)


def _take(rows: Tensor, order: Tensor | None) -> Tensor:
    return rows if order is None else rows[order]
