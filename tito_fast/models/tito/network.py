"""The TITO network: a conditioning network over the state at t, a velocity network over the interpolant."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tito_fast.models.tito.config import TitoConfig
from tito_fast.models.tito.layers import (
    N_ATOM_TYPES,
    N_BOND_TYPES,
    Edges,
    Layer,
    LayerStack,
    Mlp,
    Readout,
    positional_encoding,
)

# The released velocity network has this length whatever the options say (compat: Encoder).
VELOCITY_DISTANCE_LENGTH = 10.0

FLOW_TIME_LENGTH = 1.0
"""Length of the encoding of the flow time, and of the scaled temperature."""


class ConditionFeatures(NamedTuple):
    """What the conditioning network hands over; its vectors are not used by the velocity network."""

    scalars: Tensor  # (n_atoms, F)
    vectors: Tensor  # (n_atoms, 3, F)
    edge_features: Tensor  # (n_edges, F)


class ConditionNetwork(nn.Module):
    """Embed the current state: atoms, bonds and distances at time t."""

    def __init__(self, config: TitoConfig) -> None:
        super().__init__()
        self.atom_embedding = nn.Embedding(N_ATOM_TYPES, config.n_features)
        self.bond_embedding = nn.Embedding(N_BOND_TYPES, config.n_features)
        self.layers = LayerStack(
            Layer(
                config.n_features,
                n_reduced_features=config.n_reduced_features,
                distance_length=config.distance_encoding_length,
            )
            for _ in range(config.n_embedding_layers)
        )
        self.readout = Readout(config.n_features, config.n_features)

    def forward(self, atomic_numbers: Tensor, edge_type: Tensor, edges: Edges) -> ConditionFeatures:
        """Return features of atoms and edges; all vectors start at zero."""
        scalars = self.atom_embedding(atomic_numbers)
        vectors = scalars.new_zeros((scalars.shape[0], 3, scalars.shape[1]))
        edge_features = self.bond_embedding(edge_type)
        for layer in self.layers:
            scalars, vectors, edge_features = layer(scalars, vectors, edge_features, edges)
        scalars, vectors = self.readout(scalars, vectors)
        return ConditionFeatures(scalars, vectors, edge_features)


class VelocityNetwork(nn.Module):
    """Read the velocity off the interpolant, the flow time, the lag and the condition's features."""

    def __init__(self, config: TitoConfig) -> None:
        super().__init__()
        n_inputs = 4 if config.has_temperature else 3
        self.combine = Mlp(n_inputs * config.n_features, config.n_features, config.n_features)
        self.layers = LayerStack(
            Layer(
                config.n_features,
                n_reduced_features=config.n_reduced_features,
                distance_length=VELOCITY_DISTANCE_LENGTH,
            )
            for _ in range(config.n_model_layers)
        )
        self.readout = Readout(config.n_features, 1)

    def forward(
        self, encodings: Tensor, vectors: Tensor, edge_features: Tensor, edges: Edges
    ) -> tuple[Tensor, Tensor]:
        """Return scalars (n_atoms, 1) and vectors (n_atoms, 3, 1) before the skip and the centring.

        ``encodings`` is (n_atoms, 3F or 4F): the condition's scalars, flow time, temperature, lag.
        """
        scalars = self.combine(encodings)
        for layer in self.layers:
            scalars, vectors, edge_features = layer(scalars, vectors, edge_features, edges)
        invariant, equivariant = self.readout(scalars, vectors)
        return invariant, equivariant


class TitoNetwork(nn.Module):
    """All parameters of a TITO model, and the reference forward."""

    def __init__(self, config: TitoConfig) -> None:
        super().__init__()
        self.config = config
        self.condition = ConditionNetwork(config)
        self.velocity = VelocityNetwork(config)

    def encode(
        self, flow_time: Tensor, lag_time_ps: Tensor, temperature_k: Tensor | None
    ) -> list[Tensor]:
        """Return the encodings of flow time, temperature (if the model has one) and lag, each (n, F)."""
        config = self.config
        encodings = [
            positional_encoding(flow_time, n_features=config.n_features, length=FLOW_TIME_LENGTH)
        ]
        if config.has_temperature:
            if temperature_k is None:
                raise ValueError(
                    "temperature_k: expected a temperature for this model, got None; give one in K"
                )
            scaled = temperature_k / config.temperature_scale_k
            encodings.append(
                positional_encoding(scaled, n_features=config.n_features, length=FLOW_TIME_LENGTH)
            )
        elif temperature_k is not None:
            raise ValueError(
                "temperature_k: expected None, for this model has no temperature, got a value"
            )
        encodings.append(
            positional_encoding(lag_time_ps, n_features=config.n_features, length=config.max_lag_ps)
        )
        return encodings


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def initialize(config: TitoConfig, *, seed: int) -> TitoNetwork:
    """Return a network with torch's default initialization, drawn from ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TitoNetwork(config)
