"""Messages, updates and readouts of the eager backend, on tiles of edges."""

from typing import NamedTuple

import torch
from torch import Tensor

from tito_fast.models.tito.eager_blocks import (
    linear,
    linear_vectors,
    mlp_tail,
    pair_encoding,
    run_mlp,
)
from tito_fast.models.tito.eager_tiles import Geometry, Tile, tile_geometry, vector_length
from tito_fast.models.tito.eager_weights import MessageWeights, ReadoutWeights, UpdateWeights


class Work(NamedTuple):
    """A tile at some positions, with the encoded distances of its pairs."""

    tile: Tile
    geometry: Geometry
    encoding: Tensor  # (n_pairs padded, width)


class Sums(NamedTuple):
    """What a message adds to a tile."""

    scalars: Tensor  # (receivers, width)
    vectors: Tensor  # (receivers, 3, width)
    edges: Tensor | None  # (n_edges, width)


def place_tiles(
    tiles: tuple[Tile, ...],
    positions: Tensor,
    message: MessageWeights,
    *,
    graph_of: tuple[Tensor, ...],
    scaled_cutoff: float | None,
) -> list[Work]:
    """Return the tiles at ``positions``; all messages of one network share the encoding of ``message``."""
    work = []
    for tile in tiles:
        geometry = tile_geometry(tile, positions, graph_of=graph_of, scaled_cutoff=scaled_cutoff)
        encoding = pair_encoding(
            geometry.pair_dist, n_features=message.width, length=message.distance_length
        )
        work.append(Work(tile, geometry, encoding))
    return work


def edge_share_of(message: MessageWeights, edges: Tensor) -> Tensor:
    """Return the edges' share of φ's first linear, (rows, width); of edges without features nothing."""
    if message.edge is None:
        return edges
    if message.reduction is not None:
        edges = linear(edges, *message.reduction.reduce_edges)
    return linear(edges, message.edge)


def message_sums(
    message: MessageWeights,
    work: list[Work],
    scalars: Tensor,
    vectors: Tensor,
    edge_shares: list[Tensor],
    *,
    owns_shares: bool,
) -> list[Sums]:
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
            Sums(
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


def first_message_sums(
    message: MessageWeights, atoms: Tensor, bonds: Tensor, work: list[Work]
) -> list[Sums]:
    """Return what the first conditioning message adds: no vectors yet, and φ a table over kinds of edges.

    ``atoms`` and ``bonds`` are the embeddings (n_kinds, F) of the kinds' elements and bond types.
    """
    width = message.width
    if message.reduction is not None:
        atoms = linear(atoms, *message.reduction.reduce_scalars)
    source_share = linear(atoms, message.source, message.phi.first[1])
    table = mlp_tail(message.phi, source_share + edge_share_of(message, bonds))
    sums = []
    for tile, geometry, encoding in work:
        product = _times_filter(message, table[tile.kind_idx], encoding, geometry)
        to_sum, de = torch.split(product, [2 * width, width], dim=1)
        b, n = tile.n_molecules, tile.n_atoms
        summed = torch.bmm(geometry.vec_and_one, to_sum.view(b * n, n, 2 * width))
        direction, ds = torch.split(summed, width, dim=2)
        sums.append(Sums(scalars=ds[:, 3], vectors=direction[:, :3], edges=de))
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


def add_edges(
    message: MessageWeights, edges: list[Tensor], sums: list[Sums], *, owns_edges: bool
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


def add_nodes(
    message: MessageWeights, scalars: Tensor, vectors: Tensor, sums: list[Sums]
) -> tuple[Tensor, Tensor]:
    """Return ``s + ds`` and ``v + dv``."""
    if not sums:
        return scalars, vectors
    ds, dv = torch.cat([each.scalars for each in sums]), torch.cat([each.vectors for each in sums])
    if message.reduction is not None:
        ds = linear(ds, *message.reduction.expand_scalars)
        dv = linear_vectors(dv, message.reduction.expand_vectors)
    return scalars + ds, vectors + dv


def update_atoms(update: UpdateWeights, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
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


def readout_vector(readout: ReadoutWeights, scalars: Tensor, vectors: Tensor) -> Tensor:
    """Return the readout's vector, (n_atoms, 3); its scalar is not computed."""
    return run_mlp(readout.mlp, scalars) * linear_vectors(vectors, readout.vectors).squeeze(-1)
