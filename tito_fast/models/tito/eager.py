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

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.tito.eager_tiles import (
    Geometry,
    Kinds,
    Tile,
    make_tiles,
    pad_rows,
    tile_geometry,
    vector_length,
)
from tito_fast.models.tito.layers import Message, Mlp, Readout, Update
from tito_fast.models.tito.network import ConditionNetwork, TitoNetwork
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


@dataclass(frozen=True)
class EagerConditioning:
    """What the velocity needs to know of the current state; constant over the solver's evaluations."""

    scaled_positions: Tensor  # (n_atoms, 3) in tile order
    projection: (
        Tensor | None
    )  # (n_atoms, F): the condition's share of the first linear; None with a cutoff
    edges: tuple[Tensor, ...]  # per tile (n_edges, F)
    edge_shares: tuple[Tensor, ...]  # per tile (n_edges, width): W_e e of the first velocity layer


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
    network: TitoNetwork, tables: EagerTables, scaled_positions: Tensor
) -> EagerConditioning:
    """Run the conditioning network over the state at t."""
    positions = _take(scaled_positions, tables.atom_order)
    if network.config.scaled_cutoff is not None:
        # The graph unites the state's edges with the interpolant's, so nothing can be computed ahead.
        return EagerConditioning(positions, None, (), ())
    return _run_condition(network, tables, positions, graph_of=())


def velocity(
    network: TitoNetwork,
    tables: EagerTables,
    conditioning: EagerConditioning,
    x_t: Tensor,
    *,
    encodings: list[Tensor],
    vectors: Tensor,
) -> Tensor:
    """Return ``center(x_t + readout)``, (n_atoms, 3), model units."""
    x, v = _take(x_t, tables.atom_order), _take(vectors, tables.atom_order)
    graph_of: tuple[Tensor, ...] = ()
    if network.config.scaled_cutoff is not None:
        graph_of = (conditioning.scaled_positions, x)
        conditioning = _run_condition(
            network, tables, conditioning.scaled_positions, graph_of=graph_of
        )
    net = network.velocity
    work = _work(network, tables, x, net.layers.first_message, graph_of=graph_of)
    scalars = _combine(net.combine, conditioning, encodings, tables.batch_idx)
    edges, edge_shares = conditioning.edges, conditioning.edge_shares
    for index, layer in enumerate(net.layers):
        message, is_last = layer.message, index + 1 == len(net.layers)
        if index > 0:
            edge_shares = tuple(_edge_share(message, tile_edges) for tile_edges in edges)
        sums = _sums(message, work, scalars, v, edge_shares, wants_edges=not is_last)
        if not is_last:
            # The first layer reads the conditioning's edges, which the next evaluation reads again.
            edges = _add_edges(message, edges, sums, in_place=index > 0)
        scalars, v = _add_nodes(message, scalars, v, sums)
        scalars, v = _update(layer.update, scalars, v)
    x = x + _readout_vector(net.readout, scalars, v)
    return center(_take(x, tables.atom_place), batch_ptr=tables.batch.batch_ptr)


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``inputs @ weight.T + bias`` for inputs (n, ·), computed on a whole block of rows."""
    n_rows = inputs.shape[0]
    return functional.linear(pad_rows(inputs), weight, bias)[:n_rows]


def pair_encoding(dist: Tensor, *, n_features: int, length: float) -> Tensor:
    """Return ``positional_encoding(dist)`` from one sine and cosine each, (n, n_features).

    The powers of ``z = exp(iπd/length)`` come by doubling, ``z^(m+k) = z^m z^k``, so the error grows with log₂ k.
    """
    angle = dist * (torch.pi / length)
    cos, sin = torch.cos(angle).unsqueeze(-1), torch.sin(angle).unsqueeze(-1)
    n_ranks = n_features // 2
    while cos.shape[-1] < n_ranks:
        top_cos, top_sin = cos[:, -1:], sin[:, -1:]
        cos, sin = (
            torch.cat([cos, cos * top_cos - sin * top_sin], dim=-1),
            torch.cat([sin, sin * top_cos + cos * top_sin], dim=-1),
        )
    return torch.stack([cos[:, :n_ranks], sin[:, :n_ranks]], dim=-1).flatten(-2)


def _run_condition(
    network: TitoNetwork, tables: EagerTables, positions: Tensor, *, graph_of: tuple[Tensor, ...]
) -> EagerConditioning:
    net = network.condition
    work = _work(network, tables, positions, net.layers.first_message, graph_of=graph_of)
    scalars = net.atom_embedding(tables.atomic_numbers)
    vectors = scalars.new_zeros((scalars.shape[0], 3, scalars.shape[1]))
    edges = tuple(net.bond_embedding(tile.edge_type) for tile in tables.tiles)
    for index, layer in enumerate(net.layers):
        message, is_last = layer.message, index + 1 == len(net.layers)
        if index == 0:
            sums = _first_sums(net, tables.kinds, work)
        else:
            edge_shares = tuple(_edge_share(message, tile_edges) for tile_edges in edges)
            sums = _sums(message, work, scalars, vectors, edge_shares, wants_edges=True)
        edges = _add_edges(message, edges, sums, in_place=True)
        scalars, vectors = _add_nodes(message, scalars, vectors, sums)
        scalars, vectors = _update(layer.update, scalars, vectors, wants_vectors=not is_last)
    # Only the scalars of the readout are handed over.
    n_features = network.config.n_features
    scalars = _run_mlp(net.readout.mlp, scalars, rows=slice(0, n_features))
    return EagerConditioning(
        scaled_positions=positions,
        projection=linear(scalars, network.velocity.combine.linears[0].weight[:, :n_features]),
        edges=edges,
        edge_shares=tuple(
            _edge_share(network.velocity.layers.first_message, tile_edges) for tile_edges in edges
        ),
    )


def _combine(
    block: Mlp,
    conditioning: EagerConditioning,
    encodings: list[Tensor],
    batch_idx: Tensor,
) -> Tensor:
    """Return the first scalars of the velocity network, (n_atoms, F)."""
    projection = conditioning.projection
    if projection is None:
        raise RuntimeError("conditioning: expected features, got positions alone")
    times = linear(
        torch.cat(encodings, dim=-1),
        block.linears[0].weight[:, projection.shape[1] :],
        block.linears[0].bias,
    )
    return _mlp_tail(
        block, projection + times[batch_idx], block.linears[2].weight, block.linears[2].bias
    )


def _work(
    network: TitoNetwork,
    tables: EagerTables,
    positions: Tensor,
    message: Message,
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


def _edge_share(message: Message, edges: Tensor) -> Tensor:
    """Return the edges' share of φ's first linear, (n_edges, width)."""
    if message.is_reduced:
        edges = linear(edges, message.reduce_edges.weight, message.reduce_edges.bias)
    return linear(edges, message.phi.linears[0].weight[:, message.width :])


def _sums(
    message: Message,
    work: list[_Work],
    scalars: Tensor,
    vectors: Tensor,
    edge_shares: tuple[Tensor, ...],
    *,
    wants_edges: bool,
) -> list[_Sums]:
    """Return what the message adds to each tile."""
    if message.is_reduced:
        scalars = linear(scalars, message.reduce_scalars.weight, message.reduce_scalars.bias)
        vectors = _linear_vectors(vectors, message.reduce_vectors.weight)
    width = message.width
    source_share = linear(
        scalars, message.phi.linears[0].weight[:, :width], message.phi.linears[0].bias
    )
    # Blocks of the last linears: gate, direction, scalars, cross, and edges where they are wanted.
    blocks = [0, 1, 2, 4, 3] if wants_edges else [0, 1, 2, 4]
    phi, weights = (
        _blocks(block.linears[2], blocks, width) for block in (message.phi, message.filter)
    )
    sums = []
    for (tile, geometry, encoding), edge_share in zip(work, edge_shares, strict=True):
        b, n = tile.n_molecules, tile.n_atoms
        hidden = edge_share.view(b, n, n, width) + source_share[tile.atoms].view(b, 1, n, width)
        product = _times_filter(
            message,
            _mlp_tail(message.phi, hidden.view(-1, width), *phi),
            encoding,
            geometry,
            weights,
        )
        gate, to_sum, *de = torch.split(
            product, [width, 3 * width, width][: len(blocks) - 2], dim=1
        )
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


def _first_sums(net: ConditionNetwork, kinds: Kinds, work: list[_Work]) -> list[_Sums]:
    """Return what the first conditioning message adds: no vectors yet, and φ a table over kinds of edges."""
    message = net.layers.first_message
    width = message.width
    atoms, bonds = net.atom_embedding(kinds.atomic_numbers), net.bond_embedding(kinds.bond_types)
    if message.is_reduced:
        atoms = linear(atoms, message.reduce_scalars.weight, message.reduce_scalars.bias)
    hidden = linear(
        atoms, message.phi.linears[0].weight[:, :width], message.phi.linears[0].bias
    ) + _edge_share(message, bonds)
    blocks = [1, 2, 3]  # direction, scalars, edges
    table = _mlp_tail(message.phi, hidden, *_blocks(message.phi.linears[2], blocks, width))
    weights = _blocks(message.filter.linears[2], blocks, width)
    sums = []
    for tile, geometry, encoding in work:
        product = _times_filter(message, table[tile.kind_idx], encoding, geometry, weights)
        to_sum, de = torch.split(product, [2 * width, width], dim=1)
        b, n = tile.n_molecules, tile.n_atoms
        summed = torch.bmm(geometry.vec_and_one, to_sum.view(b * n, n, 2 * width))
        direction, ds = torch.split(summed, width, dim=2)
        sums.append(_Sums(scalars=ds[:, 3], vectors=direction[:, :3], edges=de))
    return sums


def _times_filter(
    message: Message,
    phi: Tensor,
    encoding: Tensor,
    geometry: Geometry,
    last_linear: tuple[Tensor, Tensor],
) -> Tensor:
    """Return φ ⊙ w of every edge; w is computed once per pair and is zero where there is no edge."""
    filters = _mlp_tail(
        message.filter,
        linear(encoding, message.filter.linears[0].weight, message.filter.linears[0].bias),
        *last_linear,
    )
    filters[geometry.n_pairs :] = 0
    per_edge = filters.index_select(0, geometry.pair_slot)
    return phi * per_edge if phi.requires_grad or per_edge.requires_grad else phi.mul_(per_edge)


def _gated_sum(gate: Tensor, vectors: Tensor) -> Tensor:
    """Return Σ_j gate_ij v_j, (b, n, 3, width), for gate (b, n, n, width) and vectors (b, 1, n, 3, width)."""
    return torch.stack([(gate * vectors[..., axis, :]).sum(2) for axis in range(3)], dim=2)


def _add_edges(
    message: Message, edges: tuple[Tensor, ...], sums: list[_Sums], *, in_place: bool
) -> tuple[Tensor, ...]:
    """Return ``e + de`` per tile."""
    new_edges = []
    for tile_edges, each in zip(edges, sums, strict=True):
        added = each.edges
        if added is None:
            raise RuntimeError("sums: expected a share for the edges, got none")
        if message.is_reduced:
            added = linear(added, message.expand_edges.weight, message.expand_edges.bias)
        may_overwrite = in_place and not (tile_edges.requires_grad or added.requires_grad)
        new_edges.append(tile_edges.add_(added) if may_overwrite else tile_edges + added)
    return tuple(new_edges)


def _add_nodes(
    message: Message, scalars: Tensor, vectors: Tensor, sums: list[_Sums]
) -> tuple[Tensor, Tensor]:
    """Return ``s + ds`` and ``v + dv``."""
    if not sums:
        return scalars, vectors
    ds, dv = torch.cat([each.scalars for each in sums]), torch.cat([each.vectors for each in sums])
    if message.is_reduced:
        ds = linear(ds, message.expand_scalars.weight, message.expand_scalars.bias)
        dv = _linear_vectors(dv, message.expand_vectors.weight)
    return scalars + ds, vectors + dv


def _update(
    update: Update, scalars: Tensor, vectors: Tensor, *, wants_vectors: bool = True
) -> tuple[Tensor, Tensor]:
    """Return the atoms' features after the update; the vectors as they are where nobody reads them."""
    n_features = scalars.shape[1]
    norm = vector_length(_linear_vectors(vectors, update.v.weight), dim=1)
    inputs = torch.cat([norm, scalars], dim=-1)
    if not wants_vectors:
        scale, add = _run_mlp(update.mlp, inputs, rows=slice(n_features, None)).chunk(2, dim=-1)
        return scalars + norm**2 * scale + add, vectors
    gates, scale, add = _run_mlp(update.mlp, inputs).chunk(3, dim=-1)
    moved = gates.unsqueeze(1) * _linear_vectors(vectors, update.u.weight)
    return scalars + norm**2 * scale + add, vectors + moved


def _readout_vector(readout: Readout, scalars: Tensor, vectors: Tensor) -> Tensor:
    """Return the readout's vector, (n_atoms, 3); its scalar is not computed."""
    gate = _run_mlp(readout.mlp, scalars, rows=slice(1, 2))
    return gate * _linear_vectors(vectors, readout.v.weight).squeeze(-1)


def _run_mlp(block: Mlp, inputs: Tensor, *, rows: slice = slice(None)) -> Tensor:
    """Return the MLP of inputs (n, ·); ``rows`` picks outputs of its last linear."""
    hidden = linear(inputs, block.linears[0].weight, block.linears[0].bias)
    return _mlp_tail(block, hidden, block.linears[2].weight[rows], block.linears[2].bias[rows])


def _mlp_tail(block: Mlp, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the MLP after its first linear, with ``weight`` and ``bias`` for its last."""
    n_rows = hidden.shape[0]
    hidden = _norm_silu(block.norms[0], pad_rows(hidden))
    hidden = functional.linear(hidden, block.linears[1].weight, block.linears[1].bias)
    return functional.linear(_norm_silu(block.norms[1], hidden), weight, bias)[:n_rows]


def _norm_silu(norm: nn.LayerNorm, hidden: Tensor) -> Tensor:
    hidden = functional.layer_norm(hidden, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    return functional.silu(hidden, inplace=not hidden.requires_grad)


def _blocks(last: nn.Linear, blocks: list[int], width: int) -> tuple[Tensor, Tensor]:
    """Return weight and bias of a message's last linear, restricted to ``blocks`` of its five."""
    weight, bias = last.weight.view(5, width, -1), last.bias.view(5, width)
    return (
        torch.cat([weight[block] for block in blocks]),
        torch.cat([bias[block] for block in blocks]),
    )


def _linear_vectors(vectors: Tensor, weight: Tensor) -> Tensor:
    """Return the bias-free linear of the features of vectors (n_atoms, 3, ·)."""
    flat = linear(vectors.reshape(-1, vectors.shape[-1]), weight)
    return flat.view(vectors.shape[0], 3, weight.shape[0])


def _take(rows: Tensor, order: Tensor | None) -> Tensor:
    return rows if order is None else rows[order]
