"""The network: a conditioning network over the state at t, a velocity network over the interpolant.

``TitoConfig`` makes it that of TITO, ITO or BoPITO. Where it predicts noise, the velocity network is the one that
does, and its time is the step of the diffusion.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from tito_fast.models.tito.config import TitoConfig
from tito_fast.models.tito.layers import (
    N_ATOM_TYPES,
    N_BOND_TYPES,
    Edges,
    Layer,
    LayerShape,
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
    """What the conditioning network hands over."""

    scalars: Tensor  # (n_atoms, F)
    vectors: (
        Tensor  # (n_atoms, 3, F); read by the velocity network with vector_start "condition" only
    )
    edge_features: Tensor  # (n_edges, F), or (n_edges, 0) without edge features


class ConditionNetwork(nn.Module):
    """Embed the current state: atoms, bonds and distances at time t.

    Without a condition (``config.is_conditional`` is False) it has no layers and no readout: what is left
    are the embeddings of atoms and bonds, which the velocity network then reads. Messages without edge
    features leave out the embedding of bonds. With ``config.lag_in`` "condition" the lag is combined with
    the atoms' embeddings.
    """

    def __init__(self, config: TitoConfig) -> None:
        super().__init__()
        n_features = config.n_features
        self.atom_embedding = nn.Embedding(N_ATOM_TYPES, n_features)
        if config.message == "edge":
            self.bond_embedding = nn.Embedding(N_BOND_TYPES, n_features)
        if config.lag_in == "condition":
            self.combine = Mlp(2 * n_features, n_features, n_features, has_norms=config.layer_norm)
        shape = _layer_shape(config, config.distance_encoding_length)
        self.layers = LayerStack(Layer(shape) for _ in range(config.n_embedding_layers))
        if config.is_conditional:
            self.readout = Readout(n_features, n_features, has_norms=config.layer_norm)
        self._config = config

    def forward(
        self,
        atomic_numbers: Tensor,
        edge_type: Tensor,
        edges: Edges | None,
        *,
        lag_encoding: Tensor | None = None,
    ) -> ConditionFeatures:
        """Return features of atoms and edges; all vectors start at zero.

        ``edges`` are None without a condition; ``lag_encoding``, (n_atoms, F), is None unless the lag
        enters here.
        """
        scalars = self.atom_embedding(atomic_numbers)
        if lag_encoding is not None:
            scalars = self.combine(torch.cat([scalars, lag_encoding], dim=-1))
        vectors = scalars.new_zeros((scalars.shape[0], 3, scalars.shape[1]))
        if self._config.message == "edge":
            edge_features = self.bond_embedding(edge_type)
        else:
            edge_features = scalars.new_zeros((edge_type.shape[0], 0))
        if edges is None:
            return ConditionFeatures(scalars, vectors, edge_features)
        for layer in self.layers:
            scalars, vectors, edge_features = layer(scalars, vectors, edge_features, edges)
        scalars, vectors = self.readout(scalars, vectors)
        return ConditionFeatures(scalars, vectors, edge_features)


class VelocityNetwork(nn.Module):
    """Read the velocity off the interpolant, the flow time, the lag and the condition's features."""

    def __init__(self, config: TitoConfig) -> None:
        super().__init__()
        n_features, has_norms = config.n_features, config.layer_norm
        n_inputs = 1 + n_encodings(config)
        self.combine = Mlp(n_inputs * n_features, n_features, n_features, has_norms=has_norms)
        shape = _layer_shape(config, VELOCITY_DISTANCE_LENGTH)
        self.layers = LayerStack(Layer(shape) for _ in range(config.n_model_layers))
        self.readout = Readout(n_features, 1, has_norms=has_norms)

    def forward(
        self, encodings: Tensor, vectors: Tensor, edge_features: Tensor, edges: Edges
    ) -> tuple[Tensor, Tensor]:
        """Return scalars (n_atoms, 1) and vectors (n_atoms, 3, 1) before the skip and the centring.

        ``encodings`` is (n_atoms, 2F to 4F): the condition's scalars, flow time or diffusion step, temperature
        where there is one, lag where it enters here.
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
        self, flow_time: Tensor, lag_time_ps: Tensor | None, temperature_k: Tensor | None
    ) -> list[Tensor]:
        """Return the encodings that the velocity network reads, each (n, F).

        They are those of the flow time (or the diffusion step), of the temperature if the model has one, and
        of the lag if it enters there.
        """
        config = self.config
        encodings = [self.encode_times(flow_time)]
        if config.has_temperature:
            if temperature_k is None:
                raise ValueError(
                    "temperature_k: expected a temperature for this model, got None; give one in K"
                )
            scaled = temperature_k / config.temperature_scale_k
            encodings.append(self._encode(scaled, FLOW_TIME_LENGTH))
        elif temperature_k is not None:
            raise ValueError(
                "temperature_k: expected None, for this model has no temperature, got a value"
            )
        if config.is_conditional and config.lag_in == "velocity":
            encodings.append(self.encode_lag(lag_time_ps))
        return encodings

    def encode_times(self, times: Tensor) -> Tensor:
        """Return the encodings of flow times or diffusion steps, (n, F)."""
        return self._encode(times, self.config.time_length)

    def encode_lag(self, lag_time_ps: Tensor | None) -> Tensor:
        """Return the encodings of lags, (n, F)."""
        if lag_time_ps is None:
            raise ValueError("lag_time_ps: expected a lag for this model, got None; give one in ps")
        return self._encode(lag_time_ps, self.config.max_lag_ps)

    def _encode(self, values: Tensor, length: float) -> Tensor:
        config = self.config
        return positional_encoding(
            values, n_features=config.n_features, length=length, first_rank=config.first_rank
        )


def n_encodings(config: TitoConfig) -> int:
    """Return how many encodings the velocity network reads."""
    has_lag = config.is_conditional and config.lag_in == "velocity"
    return 1 + int(config.has_temperature) + int(has_lag)


def _layer_shape(config: TitoConfig, distance_length: float) -> LayerShape:
    return LayerShape(
        n_features=config.n_features,
        n_reduced_features=config.n_reduced_features,
        distance_length=distance_length,
        first_rank=config.first_rank,
        has_edge_features=config.message == "edge",
        has_norms=config.layer_norm,
    )


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable values."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def initialize(config: TitoConfig, *, seed: int) -> TitoNetwork:
    """Return a network with torch's default initialization, drawn from ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TitoNetwork(config)
