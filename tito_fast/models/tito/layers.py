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


def positional_encoding(
    values: Tensor, *, n_features: int, length: float, first_rank: int = 1
) -> Tensor:
    """Return ``cos(kπ values/length), sin(kπ values/length)`` for n_features/2 ranks k, interleaved.

    Parameters
    ----------
    values : Tensor, shape (n,)
    n_features : int
        Even.
    length : float
        In the unit of ``values``; the encoding repeats after twice this length.
    first_rank : int
        Smallest k: 1 in TITO; 0 in ITO and BoPITO, whose first pair is constant.

    Returns
    -------
    Tensor, shape (n, n_features)
    """
    end = first_rank + n_features // 2
    ranks = torch.arange(first_rank, end, dtype=values.dtype, device=values.device)
    # The order of the products is that of the released code: float32 phases are compared bit by bit.
    phases = (values / length).unsqueeze(-1) * ranks * math.pi
    return torch.stack([torch.cos(phases), torch.sin(phases)], dim=-1).flatten(-2)


class LayerShape(NamedTuple):
    """What the layers of a network have in common."""

    n_features: int
    n_reduced_features: int | None  # width that messages are computed in; None: n_features
    distance_length: float  # of the distance encoding, model units
    first_rank: int = 1  # of the distance encoding
    has_edge_features: bool = True
    has_norms: bool = True


class Mlp(nn.Sequential):
    """The block that every learned function here is: three linears, LayerNorm and SiLU between them.

    ITO's has no LayerNorm.
    """

    def __init__(self, n_in: int, n_hidden: int, n_out: int, *, has_norms: bool = True) -> None:
        def between() -> list[nn.Module]:
            return [nn.LayerNorm(n_hidden), nn.SiLU()] if has_norms else [nn.SiLU()]

        super().__init__(
            nn.Linear(n_in, n_hidden),
            *between(),
            nn.Linear(n_hidden, n_hidden),
            *between(),
            nn.Linear(n_hidden, n_out),
        )

    @property
    def linears(self) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
        """The three linears, first to last."""
        step = len(self) // 2
        return cast("tuple[nn.Linear, nn.Linear, nn.Linear]", (self[0], self[step], self[2 * step]))

    @property
    def norms(self) -> tuple[nn.LayerNorm, nn.LayerNorm] | None:
        """The two norms, each after its linear; None without."""
        if not isinstance(self[1], nn.LayerNorm):
            return None
        return cast("tuple[nn.LayerNorm, nn.LayerNorm]", (self[1], self[4]))


def mlp_parameters(mlp: Mlp) -> MlpParameters:
    """Return an MLP's parameters in the order of the ops.

    Raises
    ------
    ValueError
        If the MLP has no LayerNorm, which the ops compute.
    """
    first, second, last = mlp.linears
    if mlp.norms is None:
        raise ValueError("mlp: expected one with LayerNorm, got one without")
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


def filter_first_linear(message: "Message") -> tuple[Tensor, Tensor]:
    """Return weight and bias of a filter's first linear as one of the ranks 1 … n_features/2.

    An encoding from rank 0 on begins with the constants 1 and 0, so it is the same linear: the constant's
    column goes to the bias, and the last rank, which is not there, gets zeros.
    """
    first = message.filter.linears[0]
    if message.first_rank == 1:
        return first.weight, first.bias
    weight = first.weight
    shifted = torch.cat([weight[:, 2:], torch.zeros_like(weight[:, :2])], dim=1)
    return shifted, first.bias + weight[:, 0]


def filter_parameters(message: "Message") -> MlpParameters:
    """Return a filter's parameters in the order of the ops, which encode from rank 1 on."""
    weight, bias = filter_first_linear(message)
    return mlp_parameters(message.filter)._replace(first_weight=weight, first_bias=bias)


class Message(nn.Module):
    """Send scalars, vectors and edge features along the edges.

    With ``[gate, dir, ds, de, cross] = φ([s_j, e_ij]) ⊙ w(enc(d_ij))`` and u the saturated edge vector:
    ``v_i += Σ_j gate v_j + dir u_ij + cross (u_ij × v_i)``, ``s_i += Σ_j ds``, ``e_ij += de``.
    The cross product takes the receiver's vectors.

    Without edge features (ITO) ``[gate, dir, scale, cross] = φ(s_j) ⊙ w(enc(d_ij))`` and
    ``s_i += Σ_j scale s_j``.

    Parameters
    ----------
    shape : LayerShape
        With a reduced width everything is reduced before, expanded after the sum over sources.
    """

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        n_features = shape.n_features
        width = shape.n_reduced_features or n_features
        self.n_features = n_features
        self.width = width
        self.is_reduced = shape.n_reduced_features is not None
        self.distance_length = shape.distance_length
        self.first_rank = shape.first_rank
        self.has_edge_features = shape.has_edge_features
        n_in, n_out = (2 * width, 5 * width) if shape.has_edge_features else (width, 4 * width)
        self.phi = Mlp(n_in, width, n_out, has_norms=shape.has_norms)
        self.filter = Mlp(width, width, n_out, has_norms=shape.has_norms)
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
            edges.dist,
            n_features=self.width,
            length=self.distance_length,
            first_rank=self.first_rank,
        )
        if self.has_edge_features:
            inputs = torch.cat([s[edges.source], e], dim=-1)
            product = self.phi(inputs) * self.filter(encoding)
            gate, direction, ds, de, cross = product.chunk(5, dim=-1)
        else:
            product = self.phi(s[edges.source]) * self.filter(encoding)
            gate, direction, scale, cross = product.chunk(4, dim=-1)
            ds, de = scale * s[edges.source], torch.zeros_like(e)
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

    def __init__(self, n_features: int, *, has_norms: bool = True) -> None:
        super().__init__()
        self.u = nn.Linear(n_features, n_features, bias=False)
        self.v = nn.Linear(n_features, n_features, bias=False)
        self.mlp = Mlp(2 * n_features, n_features, 3 * n_features, has_norms=has_norms)

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return new scalars (n_atoms, F) and vectors (n_atoms, 3, F)."""
        norm = torch.linalg.vector_norm(self.v(vectors), dim=1)
        gates, scale, add = self.mlp(torch.cat([norm, scalars], dim=-1)).chunk(3, dim=-1)
        return scalars + norm**2 * scale + add, vectors + gates.unsqueeze(1) * self.u(vectors)


class Readout(nn.Module):
    """Turn features into ``n_out`` scalars and ``n_out`` vectors: ``[s, gate] = Mlp(s)``; ``gate V v``."""

    def __init__(self, n_features: int, n_out: int, *, has_norms: bool = True) -> None:
        super().__init__()
        self.mlp = Mlp(n_features, n_features, 2 * n_out, has_norms=has_norms)
        self.v = nn.Linear(n_features, n_out, bias=False)

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return scalars (n_atoms, n_out) and vectors (n_atoms, 3, n_out)."""
        invariant, gate = self.mlp(scalars).chunk(2, dim=-1)
        return invariant, gate.unsqueeze(1) * self.v(vectors)


class Layer(nn.Module):
    """A message and an update."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.message = Message(shape)
        self.update = Update(shape.n_features, has_norms=shape.has_norms)

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
