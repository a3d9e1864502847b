"""Backend ``native``: compiled kernels on the CPU.

Without gradients the whole network is one call, and so is a whole rollout step (``rollout_step``). With gradients it is
the composition of the ops in ``op_network``. The exact savings are those of ``eager``; besides, the filters of the
velocity network are splines in float32 (``filter_table``), LayerNorm's mean is part of the weights, and a bottleneck's
first linears are folded into those that follow.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.errors import BackendUnavailableError
from tito_fast.models.tito import op_network
from tito_fast.models.tito.graph import EdgeList, complete_edges
from tito_fast.models.tito.layers import N_ATOM_TYPES, N_BOND_TYPES
from tito_fast.models.tito.native_network import is_one_call, packed_network, problem
from tito_fast.models.tito.network import TitoNetwork
from tito_fast.models.tito.step import StepNoise, StepSettings
from tito_fast.ops import EdgeGeometry, edge_geometry
from tito_fast.types import VECTOR_STARTS
from tito_fast.validation import check_dtype

_KERNELS = op_network.Kernels("native")


@dataclass(frozen=True)
class NativeTables:
    """What does not change while the molecules stay the same."""

    batch: MoleculeBatch
    edges: EdgeList

    @cached_property
    def arguments(self) -> tuple[list[int], int, int]:
        """Addresses and sizes that every compiled call begins with."""
        arrays = [self.batch.batch_ptr, self.batch.atomic_numbers, self.edges.edge_type]
        return [array.data_ptr() for array in arrays], self.batch.n_atoms, self.batch.n_molecules

    @cached_property
    def graph(self) -> op_network.Graph:
        """The complete graph as the differentiable ops want it."""
        return op_network.make_complete_graph(self.batch, _KERNELS, edges=self.edges)


class _Features(NamedTuple):
    """Rows of the conditioning network's results, padded to whole vectors."""

    projection: Tensor  # (n_atoms, F padded)
    edges: Tensor  # (n_edges, F padded)
    edge_share: Tensor  # (n_edges, width padded)
    vectors: Tensor | None  # (n_atoms, 3, F padded), where they are handed over

    @property
    def addresses(self) -> list[int]:
        """Where the arrays lie, as compiled calls take them."""
        return [0 if array is None else array.data_ptr() for array in self]


@dataclass(frozen=True)
class NativeConditioning:
    """What the velocity needs to know of the current state.

    One of ``features`` and ``differentiable`` is there; with a cutoff neither, for the graph depends on the
    interpolant.
    """

    scaled_positions: Tensor | None
    lag_encoding: Tensor | None
    features: _Features | None
    differentiable: op_network.Features | None


def prepare(network: TitoNetwork, batch: MoleculeBatch) -> NativeTables:
    """Return the tables for ``batch``.

    Raises
    ------
    ValueError
        If an atomic number or a bond type has no row in the embeddings; the kernels read them unchecked.
    """
    del network
    edges = complete_edges(batch)
    _check_range("atomic_numbers", batch.atomic_numbers, N_ATOM_TYPES)
    _check_range("bond_type", edges.edge_type, N_BOND_TYPES)
    return NativeTables(batch, edges)


def condition(
    network: TitoNetwork,
    tables: NativeTables,
    scaled_positions: Tensor | None,
    *,
    lag_encoding: Tensor | None,
) -> NativeConditioning:
    """Run the conditioning network over the state at t."""
    inputs = [each for each in (scaled_positions, lag_encoding) if each is not None]
    if scaled_positions is not None:
        _check_dtypes(network, scaled_positions=scaled_positions)
    if network.config.scaled_cutoff is not None:
        return NativeConditioning(scaled_positions, lag_encoding, None, None)
    if _takes_ops(network, *inputs):
        features = op_network.condition(
            network, tables.graph, scaled_positions, lag_encoding=lag_encoding
        )
        return NativeConditioning(scaled_positions, lag_encoding, None, features)
    here = _features(network, tables, scaled_positions)
    return NativeConditioning(scaled_positions, lag_encoding, here, None)


def pairs(network: TitoNetwork, tables: NativeTables, x_t: Tensor) -> EdgeGeometry | None:
    """Return the geometry at ``x_t``, for all networks without a cutoff; None: one call computes its own."""
    if not _takes_ops(network, x_t):
        return None
    return edge_geometry(x_t, tables.graph.message)


def velocity(
    network: TitoNetwork,
    tables: NativeTables,
    conditioning: NativeConditioning,
    x_t: Tensor,
    *,
    encodings: list[Tensor],
    vectors: Tensor | None,
    pairs: EdgeGeometry | None = None,
) -> Tensor:
    """Return ``x_t + readout``, centered where the model is, (n_atoms, 3), model units."""
    _check_dtypes(network, x_t=x_t)
    if vectors is not None:
        _check_dtypes(network, vectors=vectors)
    current, lag_encoding = conditioning.scaled_positions, conditioning.lag_encoding
    inputs = [each for each in (x_t, vectors, current, lag_encoding) if each is not None]
    if _takes_ops(network, *inputs, *encodings):
        features, graph = conditioning.differentiable, tables.graph
        if network.config.scaled_cutoff is not None:
            frames = [each.detach() for each in (current, x_t) if each is not None]
            graph = op_network.cutoff_graph(network, tables.batch, tables.edges, _KERNELS, *frames)
            features = None
        if features is None:
            features = op_network.condition(network, graph, current, lag_encoding=lag_encoding)
        return op_network.velocity(
            network,
            graph,
            features,
            x_t,
            encodings=torch.cat(encodings, dim=-1),
            vectors=vectors,
            pairs=pairs,
        )
    features_here = conditioning.features
    if features_here is None and network.config.scaled_cutoff is None:
        features_here = _features(network, tables, current)
    # The order of a row: flow time, temperature where there is one, lag where there is one.
    rows = torch.stack(encodings, dim=1).to(x_t.dtype).contiguous()
    result = torch.empty_like(x_t, memory_format=torch.contiguous_format)
    # Without a condition, or with its vectors, there is nothing to read.
    arrays = [None if each is None else each.contiguous() for each in (current, x_t, rows, vectors)]
    packed_network(network).kernels.velocity(
        *tables.arguments,
        [0] * len(_Features._fields) if features_here is None else features_here.addresses,
        [0 if array is None else array.data_ptr() for array in (*arrays, result)],
        torch.get_num_threads(),
    )
    return result


def rollout_step(
    network: TitoNetwork,
    tables: NativeTables,
    scaled_positions: Tensor,
    *,
    lag_encoding: Tensor | None,
    time_encodings: Tensor,
    molecule_encodings: list[Tensor],
    noise: StepNoise,
    settings: StepSettings,
) -> Tensor | None:
    """Return the positions one lag later, (n_atoms, 3): conditioning, all solver stages and noise in one call.

    None where the network is not one call: where the lag enters the conditioning network.

    Parameters
    ----------
    lag_encoding : Tensor, shape (n_molecules, F), or None
        What the conditioning network reads.
    time_encodings : Tensor, shape (n_evaluations, F)
        Of the flow time of each evaluation.
    molecule_encodings : list of Tensor, each (n_molecules, F)
        Temperature where the model has one, lag.
    """
    if lag_encoding is not None or not is_one_call(network):
        return None
    _check_dtypes(network, scaled_positions=scaled_positions)
    positions = scaled_positions.contiguous()
    result = torch.empty_like(positions)
    rows = positions.new_empty((tables.batch.n_molecules, 0, network.config.n_features))
    if molecule_encodings:
        rows = torch.stack(molecule_encodings, dim=1).contiguous()
    times = time_encodings.contiguous()
    arrays = [positions, times, rows, noise.keys, noise.replicas, result]
    packed_network(network).kernels.rollout_step(
        *tables.arguments,
        [array.data_ptr() for array in arrays],
        list(settings.time_grid),
        list(settings.program.shares),
        list(settings.program.weights),
        settings.program.is_multistep,
        noise.rollout_step,
        _VECTOR_START_CODES[settings.vector_start],
        settings.base_std,
        settings.center,
        torch.get_num_threads(),
    )
    return result


# As csrc/tito/tito_network.h numbers them.
_VECTOR_START_CODES = {"zeros": 0, "randn_fixed": 1, "randn": 2, "condition": 3}
if set(_VECTOR_START_CODES) != set(VECTOR_STARTS):
    raise RuntimeError(f"vector_start: expected codes for {VECTOR_STARTS}")


def _features(
    network: TitoNetwork, tables: NativeTables, scaled_positions: Tensor | None
) -> _Features:
    kernels, like = packed_network(network).kernels, next(network.parameters()).detach()
    n_atoms, n_edges = tables.batch.n_atoms, tables.edges.source.shape[0]
    width = kernels.padded_features
    hands_over_vectors = network.config.vector_start == "condition"
    features = _Features(
        like.new_empty((n_atoms, width)),
        like.new_empty((n_edges, width)),
        like.new_empty((n_edges, kernels.padded_width)),
        like.new_empty((n_atoms, 3, width)) if hands_over_vectors else None,
    )
    positions = None if scaled_positions is None else scaled_positions.contiguous()
    kernels.condition(
        *tables.arguments,
        0 if positions is None else positions.data_ptr(),
        features.addresses,
        torch.get_num_threads(),
    )
    return features


def _check_range(name: str, values: Tensor, end: int) -> None:
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < end:
        raise ValueError(
            f"{name}: expected 0 to {end - 1}, got {int(values.min())} to {int(values.max())}"
        )


def _check_dtypes(network: TitoNetwork, **tensors: Tensor) -> None:
    dtype = next(network.parameters()).dtype
    for name, tensor in tensors.items():
        check_dtype(name, tensor, dtype)


def _takes_ops(network: TitoNetwork, *inputs: Tensor) -> bool:
    """Return whether the network is composed of ops: with gradients, or where it is not one compiled call."""
    return _wants_gradient(network, *inputs) or not is_one_call(network)


def _wants_gradient(network: TitoNetwork, *inputs: Tensor) -> bool:
    wants = torch.is_grad_enabled() and (
        any(tensor.requires_grad for tensor in inputs)
        or any(parameter.requires_grad for parameter in network.parameters())
    )
    if wants and (reason := problem(network, with_gradients=True)):
        raise BackendUnavailableError(f"backend='native': {reason}; use backend='eager'")
    return wants
