"""Molecules of one size as dense tiles of edges, and the geometry of a tile."""

from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch

# A tile's widest tensor has n_edges · 5 F floats and is passed over about ten times, so it should stay in cache.
CPU_TILE_BYTES = 4 * 2**20
GPU_TILE_BYTES = 2**30


# BLAS takes another kernel for rows that do not fill its register tile, and torch's loops take the scalar exponential
# for elements that do not fill their vectors. A row's bytes depend on how many rows there are, unless every thread has
# whole blocks of rows.
BLOCK_ROWS = 32
BLOCK_ELEMENTS = 64
# torch gives a thread at least this many elements (at::internal::GRAIN_SIZE).
GRAIN_ELEMENTS = 32768


@dataclass(frozen=True)
class Tile:
    """``n_molecules`` molecules of ``n_atoms`` atoms; its edges are (molecule, receiver, source), diagonal included."""

    n_molecules: int
    n_atoms: int
    atoms: slice  # in tile order
    edge_type: Tensor  # (n_edges,) int64
    kind_idx: Tensor  # (n_edges,) int64: row of (element of the source, bond type) in Kinds
    pair_slot: (
        Tensor  # (n_edges,) int64: the edge's pair, or n_pairs (a row of zeros) on the diagonal
    )
    pair_receiver: Tensor  # (n_atoms (n_atoms - 1) / 2,) int64, within a molecule
    pair_source: Tensor

    @property
    def n_edges(self) -> int:
        """Edges, the diagonal included."""
        return self.n_molecules * self.n_atoms**2

    @property
    def n_pairs(self) -> int:
        """Unordered pairs of different atoms of a molecule."""
        return self.n_molecules * self.n_atoms * (self.n_atoms - 1) // 2


@dataclass(frozen=True)
class Kinds:
    """The distinct (element, bond type) pairs of a batch: all that the first φ can be asked for."""

    atomic_numbers: Tensor  # (n_kinds,) int64
    bond_types: Tensor  # (n_kinds,) int64


@dataclass(frozen=True)
class Geometry:
    """Distances and vectors of a tile."""

    n_pairs: int
    pair_dist: Tensor  # (more than n_pairs, whole blocks)
    pair_slot: Tensor  # (n_edges,): as the tile's, with a cutoff the missing edges at n_pairs too
    vec_and_one: Tensor  # (receivers, 4, sources): saturated vector of each edge, then 1


def make_tiles(
    batch: MoleculeBatch, *, n_features: int
) -> tuple[tuple[Tile, ...], Kinds, Tensor | None]:
    """Return the tiles, the kinds of edges and the order of atoms (None where atoms are in order).

    Molecules are sorted by size, stably; those of one size fill tiles up to a size that stays in cache.
    """
    device = batch.batch_ptr.device
    by_size = sorted(range(batch.n_molecules), key=lambda molecule: batch.sizes[molecule])
    starts = _starts(batch.sizes)
    order = torch.cat(
        [
            torch.zeros(0, dtype=torch.int64),
            *(torch.arange(starts[molecule], starts[molecule + 1]) for molecule in by_size),
        ]
    )
    is_sorted = bool((order == torch.arange(order.numel())).all())
    order = order.to(device)
    place = torch.argsort(order)
    numbers = batch.atomic_numbers[order]
    budget = CPU_TILE_BYTES if device.type == "cpu" else GPU_TILE_BYTES
    tiles, codes = [], []
    start = 0
    for size, n_molecules in sorted(Counter(batch.sizes).items()):
        if size == 0:
            continue
        n_per_tile = max(1, budget // (20 * n_features * size**2))
        for first in range(0, n_molecules, n_per_tile):
            count = min(n_per_tile, n_molecules - first)
            atoms = slice(start, start + count * size)
            tile = _tile(batch, place, atoms, n_molecules=count, n_atoms=size)
            sources = numbers[atoms].view(count, 1, size).expand(count, size, size).reshape(-1)
            codes.append(sources * 16 + tile.edge_type)
            tiles.append(tile)
            start = atoms.stop
    kinds, kind_idx = torch.unique(
        torch.cat([torch.zeros(0, dtype=torch.int64, device=device), *codes]), return_inverse=True
    )
    rows = kind_idx.split([code.numel() for code in codes])
    tiles = [replace(tile, kind_idx=row) for tile, row in zip(tiles, rows, strict=True)]
    return tuple(tiles), Kinds(kinds // 16, kinds % 16), None if is_sorted else order


def tile_geometry(
    tile: Tile, positions: Tensor, *, graph_of: tuple[Tensor, ...], scaled_cutoff: float | None
) -> Geometry:
    """Return the geometry of ``tile`` at ``positions`` (n_atoms of the batch, 3), in tile order.

    With a cutoff an edge exists where it is a bond or shorter than the cutoff in any of ``graph_of``.
    """
    b, n = tile.n_molecules, tile.n_atoms
    vec, dist = _differences(tile, positions)
    pair_dist = dist[:, tile.pair_receiver, tile.pair_source].flatten()
    n_padded = padded_rows(tile.n_pairs + 1, 1)
    pair_dist = torch.nn.functional.pad(pair_dist, (0, n_padded - tile.n_pairs))
    saturated = vec / (1 + dist).unsqueeze(-1)
    vec_and_one = torch.cat([saturated, torch.ones_like(dist).unsqueeze(-1)], dim=-1)
    slot = tile.pair_slot
    if scaled_cutoff is not None:
        keep = tile.edge_type > 0
        for frame in graph_of:
            keep = keep | (_differences(tile, frame)[1].flatten() < scaled_cutoff)
        slot = torch.where(keep, slot, tile.n_pairs)
    return Geometry(
        tile.n_pairs, pair_dist, slot, vec_and_one.view(b * n, n, 4).transpose(1, 2).contiguous()
    )


def padded_rows(n_rows: int, width: int) -> int:
    """Return the least number of rows above ``n_rows`` that gives every thread of torch whole blocks."""
    block = max(BLOCK_ROWS, BLOCK_ELEMENTS // width)
    n_threads = 1
    while True:
        step = block * n_threads
        padded = -(-n_rows // step) * step
        used = min(torch.get_num_threads(), -(-padded * width // GRAIN_ELEMENTS))
        if used <= n_threads:
            return padded
        n_threads += 1


def pad_rows(rows: Tensor) -> Tensor:
    """Return ``rows`` (n, width) with rows of zeros up to whole blocks.

    Only without gradients: training repeats the same batches of rows, and nothing else is promised there.
    """
    if torch.is_grad_enabled() or rows.device.type != "cpu":
        return rows
    n_rows, width = rows.shape
    n_missing = padded_rows(n_rows, width) - n_rows
    return torch.nn.functional.pad(rows, (0, 0, 0, n_missing)) if n_missing else rows


def vector_length(vectors: Tensor, *, dim: int) -> Tensor:
    """Return the Euclidean norm over the three components at ``dim``; its gradient at zero is zero.

    Five times as fast as ``torch.linalg.vector_norm`` over a short dimension. A zero vector gets the root of
    the smallest normal number, 1e-19 in float32.
    """
    x, y, z = vectors.unbind(dim)
    return torch.sqrt((x * x + y * y + z * z).clamp_min(torch.finfo(vectors.dtype).tiny))


def _differences(tile: Tile, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return x_source − x_receiver, (b, n, n, 3), and its length."""
    x = positions[tile.atoms].view(tile.n_molecules, tile.n_atoms, 3)
    vec = x.unsqueeze(1) - x.unsqueeze(2)
    return vec, vector_length(vec, dim=-1)


def _tile(
    batch: MoleculeBatch, place: Tensor, atoms: slice, *, n_molecules: int, n_atoms: int
) -> Tile:
    device = batch.batch_ptr.device
    source, receiver = place[batch.bond_index[0]], place[batch.bond_index[1]]
    inside = (receiver >= atoms.start) & (receiver < atoms.stop)
    source, receiver = source[inside] - atoms.start, receiver[inside] - atoms.start
    edge = receiver * n_atoms + source % n_atoms
    edge_type = torch.zeros(n_molecules * n_atoms**2, dtype=torch.int64, device=device)
    edge_type = edge_type.scatter_reduce(0, edge, batch.bond_type[inside], reduce="amax")
    i, j = torch.triu_indices(n_atoms, n_atoms, offset=1, device=device)
    n_pairs = i.numel()
    molecule = torch.arange(n_molecules, device=device).unsqueeze(1)
    slots = torch.full((n_molecules, n_atoms, n_atoms), n_molecules * n_pairs, device=device)
    number = molecule * n_pairs + torch.arange(n_pairs, device=device)
    slots[:, i, j] = number
    slots[:, j, i] = number
    return Tile(
        n_molecules=n_molecules,
        n_atoms=n_atoms,
        atoms=atoms,
        edge_type=edge_type,
        kind_idx=edge_type,
        pair_slot=slots.flatten(),
        pair_receiver=i,
        pair_source=j,
    )


def _starts(sizes: tuple[int, ...]) -> list[int]:
    starts = [0]
    for size in sizes:
        starts.append(starts[-1] + size)
    return starts
