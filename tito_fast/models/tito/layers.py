"""The layers of the chirality-aware PaiNN, in the released formulation: the definition of correct.

Tensors of shape ``(n_edges, ·)`` are gathered, gated and scattered as the formulas read. Vectors are
``(n_atoms, 3, n_features)``. Edges run from a source ``j`` to a receiver ``i`` and are sorted by receiver.

References
----------
.. [1] TITO, Science Advances 12(15) eaed2333 (2026), arXiv:2510.07589.
.. [2] PaiNN, arXiv:2102.03150; the message adds a cross product, which tells mirror images apart.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from tito_fast.ops.mlp_parameters import MlpParameters

N_ATOM_TYPES = 167
"""Rows of the atom embedding: atomic numbers up to 166."""

N_BOND_TYPES = 13
"""Rows of the bond embedding: 0 for no bond, RDKit codes up to 12 (aromatic)."""


class Edges(NamedTuple):
    """Edges with geometry, sorted by receiver."""

    source: Tensor  # (n_edges,) int64
    receiver: Tensor  # (n_edges,) int64
    dist: Tensor  # (n_edges,)
    vec_saturated: Tensor  # (n_edges, 3): edge_vec / (1 + edge_dist)


def positional_encoding(values: Tensor, *, n_features: int, length: float) -> Tensor:
    """Return ``cos(kπ values/length), sin(kπ values/length)`` for k = 1 … n_features/2, interleaved.

    Parameters
    ----------
    values : Tensor, shape (n,)
    n_features : int
        Even.
    length : float
        In the unit of ``values``; the encoding repeats after twice this length.

    Returns
    -------
    Tensor, shape (n, n_features)
    """
    ranks = torch.arange(1, n_features // 2 + 1, dtype=values.dtype, device=values.device)
    # The order of the products is that of the released code: float32 phases are compared bit by bit.
    phases = (values / length).unsqueeze(-1) * ranks * math.pi
    return torch.stack([torch.cos(phases), torch.sin(phases)], dim=-1).flatten(-2)


class Mlp(nn.Sequential):
    """The block that every learned function here is: three linears, LayerNorm and SiLU between them."""

    def __init__(self, n_in: int, n_hidden: int, n_out: int) -> None:
        super().__init__(
            nn.Linear(n_in, n_hidden),
            nn.LayerNorm(n_hidden),
            nn.SiLU(),
            nn.Linear(n_hidden, n_hidden),
            nn.LayerNorm(n_hidden),
            nn.SiLU(),
            nn.Linear(n_hidden, n_out),
        )

    @property
    def linears(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """The three linears, first to last."""
        return cast("tuple[nn.Linear, nn.Linear, nn.Linear]", (self[0], self[3], self[6]))

    @property
    def norms(self) -> tuple[nn.LayerNorm, nn.LayerNorm]:
        """The two norms, each after its linear."""
        return cast("tuple[nn.LayerNorm, nn.LayerNorm]", (self[1], self[4]))


def mlp_parameters(mlp: Mlp) -> MlpParameters:
    """Return an MLP's parameters in the order of the ops."""
    first, second, last = mlp.linears
    first_norm, second_norm = mlp.norms
    return MlpParameters(
        first.weight,
        first.bias,
        first_norm.weight,
        first_norm.bias,
        second.weight,
        second.bias,
        second_norm.weight,
        second_norm.bias,
        last.weight,
        last.bias,
    )


class Message(nn.Module):
    """Send scalars, vectors and edge features along the edges.

    With ``[gate, dir, ds, de, cross] = φ([s_j, e_ij]) ⊙ w(enc(d_ij))`` and u the saturated edge vector:
    ``v_i += Σ_j gate v_j + dir u_ij + cross (u_ij × v_i)``, ``s_i += Σ_j ds``, ``e_ij += de``.
    The cross product takes the receiver's vectors.

    Parameters
    ----------
    n_features : int
    n_reduced_features : int or None
        Width that messages are computed in; reduced before, expanded after the sum over sources.
    distance_length : float
        Length of the distance encoding, model units.
    """

    def __init__(
        self, n_features: int, *, n_reduced_features: int | None, distance_length: float
    ) -> None:
        super().__init__()
        width = n_reduced_features or n_features
        self.n_features = n_features
        self.width = width
        self.is_reduced = n_reduced_features is not None
        self.distance_length = distance_length
        self.phi = Mlp(2 * width, width, 5 * width)
        self.filter = Mlp(width, width, 5 * width)
        if self.is_reduced:
            self.reduce_scalars = nn.Linear(n_features, width)
            self.reduce_edges = nn.Linear(n_features, width)
            self.reduce_vectors = nn.Linear(n_features, width, bias=False)
            self.expand_vectors = nn.Linear(width, n_features, bias=False)
            self.expand_scalars = nn.Linear(width, n_features)
            self.expand_edges = nn.Linear(width, n_features)

    def forward(
        self, scalars: Tensor, vectors: Tensor, edge_features: Tensor, edges: Edges
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return new scalars (n_atoms, F), vectors (n_atoms, 3, F) and edge features (n_edges, F)."""
        s, v, e = scalars, vectors, edge_features
        if self.is_reduced:
            s, v, e = self.reduce_scalars(s), self.reduce_vectors(v), self.reduce_edges(e)
        encoding = positional_encoding(
            edges.dist, n_features=self.width, length=self.distance_length
        )
        inputs = torch.cat([s[edges.source], e], dim=-1)
        gate, direction, ds, de, cross = (self.phi(inputs) * self.filter(encoding)).chunk(5, dim=-1)
        u = edges.vec_saturated.unsqueeze(-1).to(v.dtype)  # (n_edges, 3, 1)
        dv = (
            gate.unsqueeze(1) * v[edges.source]
            + direction.unsqueeze(1) * u
            + cross.unsqueeze(1)
            * torch.linalg.cross(u.expand_as(v[edges.receiver]), v[edges.receiver], dim=1)
        )
        sum_dv = torch.zeros_like(v).index_add(0, edges.receiver, dv.to(v.dtype))
        sum_ds = torch.zeros_like(s).index_add(0, edges.receiver, ds.to(s.dtype))
        if self.is_reduced:
            sum_dv, sum_ds, de = (
                self.expand_vectors(sum_dv),
                self.expand_scalars(sum_ds),
                self.expand_edges(de),
            )
        return scalars + sum_ds, vectors + sum_dv, edge_features + de


class Update(nn.Module):
    """Mix the features of each atom.

    ``[gates, scale, add] = Mlp([|V v|, s])``; ``v += gates U v``; ``s += |V v|² scale + add``.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.u = nn.Linear(n_features, n_features, bias=False)
        self.v = nn.Linear(n_features, n_features, bias=False)
        self.mlp = Mlp(2 * n_features, n_features, 3 * n_features)

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return new scalars (n_atoms, F) and vectors (n_atoms, 3, F)."""
        norm = torch.linalg.vector_norm(self.v(vectors), dim=1)
        gates, scale, add = self.mlp(torch.cat([norm, scalars], dim=-1)).chunk(3, dim=-1)
        return scalars + norm**2 * scale + add, vectors + gates.unsqueeze(1) * self.u(vectors)


class Readout(nn.Module):
    """Turn features into ``n_out`` scalars and ``n_out`` vectors: ``[s, gate] = Mlp(s)``; ``gate V v``."""

    def __init__(self, n_features: int, n_out: int) -> None:
        super().__init__()
        self.mlp = Mlp(n_features, n_features, 2 * n_out)
        self.v = nn.Linear(n_features, n_out, bias=False)

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return scalars (n_atoms, n_out) and vectors (n_atoms, 3, n_out)."""
        invariant, gate = self.mlp(scalars).chunk(2, dim=-1)
        return invariant, gate.unsqueeze(1) * self.v(vectors)


class Layer(nn.Module):
    """A message and an update."""

    def __init__(
        self, n_features: int, *, n_reduced_features: int | None, distance_length: float
    ) -> None:
        super().__init__()
        self.message = Message(
            n_features, n_reduced_features=n_reduced_features, distance_length=distance_length
        )
        self.update = Update(n_features)

    def forward(
        self, scalars: Tensor, vectors: Tensor, edge_features: Tensor, edges: Edges
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return new scalars (n_atoms, F), vectors (n_atoms, 3, F) and edge features (n_edges, F)."""
        scalars, vectors, edge_features = self.message(scalars, vectors, edge_features, edges)
        scalars, vectors = self.update(scalars, vectors)
        return scalars, vectors, edge_features


class LayerStack(nn.ModuleList):
    """Layers one after the other."""

    def __iter__(self) -> Iterator[Layer]:
        """Iterate over the layers."""
        return cast("Iterator[Layer]", super().__iter__())

    @property
    def first_message(self) -> Message:
        """Message of the first layer."""
        return next(iter(self)).message
