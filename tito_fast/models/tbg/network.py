"""TBG's equivariant network on tiles: molecules of one size together, all pairs of each.

| symbol in the paper | here |
|---|---|
| h_i | ``features`` |
| x_i | ``positions`` |
| d_ij² | ``squared``; at the start of the network ``first_squared`` |
| m_ij | ``message`` |
| φ_e (message) | ``edge_in``, ``edge_out`` |
| φ_m (attention) | ``attention`` |
| φ_d (step) | ``step_in``, ``step_out`` |
| φ_h (node) | ``node_in``, ``node_out`` |
| L, 15 | ``config.n_layers``, ``config.coordinate_range`` |
"""

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from tito_fast.models.tbg.config import TbgConfig

# Under the root, as in the published network: keeps its derivative finite where atoms coincide.
_MIN_SQUARED_DIST: Final = 1e-8
# So that an untrained network moves nothing far.
_STEP_GAIN: Final = 0.001


class Neighbors(NamedTuple):
    """All other atoms of each atom."""

    idx: Tensor  # (n_atoms * (n_atoms - 1),), int64: row i holds all j but i
    n_atoms: int

    @classmethod
    def of_all(cls, n_atoms: int, device: torch.device) -> "Neighbors":
        """Return all ordered pairs of ``n_atoms`` atoms."""
        receiver = torch.arange(n_atoms, device=device)[:, None]
        place = torch.arange(max(n_atoms - 1, 0), device=device)[None]
        return cls((place + (place >= receiver)).flatten(), n_atoms)

    def gather(self, values: Tensor) -> Tensor:
        """Return ``values`` (n_molecules, n_atoms, k) of all neighbors, (n_molecules, n_atoms, n_atoms - 1, k)."""
        n_molecules, n_atoms, width = values.shape
        return values[:, self.idx].reshape(n_molecules, n_atoms, n_atoms - 1, width)


class EgnnLayer(nn.Module):
    """One layer: messages along all pairs, a step along each, new features.

    Parameters
    ----------
    n_features : int
    coordinate_step : float
        Largest step along a pair, model units.
    """

    def __init__(self, n_features: int, coordinate_step: float) -> None:
        super().__init__()
        self.coordinate_step = coordinate_step
        self.edge_in = nn.Linear(2 * n_features + 2, n_features)
        self.edge_out = nn.Linear(n_features, n_features)
        self.attention = nn.Linear(n_features, 1)
        self.step_in = nn.Linear(n_features, n_features)
        self.step_out = nn.Linear(n_features, 1, bias=False)
        self.node_in = nn.Linear(2 * n_features, n_features)
        self.node_out = nn.Linear(n_features, n_features)
        nn.init.xavier_uniform_(self.step_out.weight, gain=_STEP_GAIN)

    def forward(
        self, features: Tensor, positions: Tensor, first_squared: Tensor, neighbors: Neighbors
    ) -> tuple[Tensor, Tensor]:
        """Return new features (n_molecules, n_atoms, n_features) and positions (n_molecules, n_atoms, 3).

        ``first_squared`` is (n_molecules, n_atoms, n_atoms - 1, 1), the squared distances that the network
        started from.
        """
        pair_vec = positions[:, :, None] - neighbors.gather(positions)
        squared = pair_vec.square().sum(dim=-1, keepdim=True)
        message = self._message(features, squared, first_squared, neighbors)
        direction = pair_vec / ((squared + _MIN_SQUARED_DIST).sqrt() + 1.0)
        step = torch.tanh(self.step_out(silu(self.step_in(message))))
        moved = positions + self.coordinate_step * (direction * step).sum(dim=2)
        received = torch.cat([features, message.sum(dim=2)], dim=-1)
        return features + self.node_out(silu(self.node_in(received))), moved

    def _message(
        self, features: Tensor, squared: Tensor, first_squared: Tensor, neighbors: Neighbors
    ) -> Tensor:
        # The first product of the pair is one of each atom, so the wide matrix is never applied to pairs.
        n_features = features.shape[-1]
        receiver, source, distances = torch.split(
            self.edge_in.weight, [n_features, n_features, 2], dim=1
        )
        hidden = (
            linear(features, receiver, self.edge_in.bias)[:, :, None]
            + neighbors.gather(linear(features, source))
            + linear(torch.cat([squared, first_squared], dim=-1), distances)
        )
        message = silu(self.edge_out(silu(hidden)))
        return message * torch.sigmoid(self.attention(message))


class TbgNetwork(nn.Module):
    """The velocity of an equilibrium flow: how far the layers move each atom.

    Parameters
    ----------
    config : TbgConfig

    Notes
    -----
    Equivariant to rotations and reflections, so it makes both mirror images of a chiral molecule; invariant to
    translations; equivariant to permutations. ``embedding_out`` belongs to the published network and is part of
    its number of parameters: it maps features that the velocity does not read, as does the last ``node_out``.
    """

    def __init__(self, config: TbgConfig) -> None:
        super().__init__()
        self.config = config
        n_inputs = config.n_inputs + 1  # the flow time
        self.embedding = nn.Linear(n_inputs, config.n_features)
        self.embedding_out = nn.Linear(config.n_features, n_inputs)
        self.layers = nn.ModuleList(
            EgnnLayer(config.n_features, config.coordinate_range / config.n_layers)
            for _ in range(config.n_layers)
        )

    def forward(self, atom_features: Tensor, scaled_positions: Tensor, flow_time: Tensor) -> Tensor:
        """Return the velocity of molecules of one size.

        Parameters
        ----------
        atom_features : Tensor, shape (n_molecules, n_atoms, n_inputs)
        scaled_positions : Tensor, shape (n_molecules, n_atoms, 3)
            Model units.
        flow_time : Tensor, shape (n_molecules,)
            In [0, 1].

        Returns
        -------
        Tensor, shape (n_molecules, n_atoms, 3)
            Model units, its mean over the atoms of each molecule removed.
        """
        n_molecules, n_atoms, _ = scaled_positions.shape
        time = flow_time.to(atom_features.dtype)[:, None, None].expand(n_molecules, n_atoms, 1)
        features = self.embedding(torch.cat([atom_features, time], dim=-1))
        neighbors = Neighbors.of_all(n_atoms, scaled_positions.device)
        pair_vec = scaled_positions[:, :, None] - neighbors.gather(scaled_positions)
        first_squared = pair_vec.square().sum(dim=-1, keepdim=True)
        positions = scaled_positions
        for layer in self.layers:
            features, positions = layer(features, positions, first_squared, neighbors)
        velocity = positions - scaled_positions
        return velocity - velocity.mean(dim=1, keepdim=True)
