"""The network as a composition of ops: backend ``triton``, and ``native`` with gradients.

A layer keeps its inputs only; the ops compute the rest again in their backward.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.tito.config import TitoConfig
from tito_fast.models.tito.eager_blocks import linear_vectors
from tito_fast.models.tito.graph import EdgeList, cutoff_edges, typed_edges
from tito_fast.models.tito.layers import (
    Layer,
    Message,
    Update,
    filter_parameters,
    mlp_parameters,
)
from tito_fast.models.tito.network import TitoNetwork, displaced
from tito_fast.ops import (
    EdgeGeometry,
    MessageGraph,
    MlpParameters,
    complete_graph,
    edge_embed,
    edge_geometry,
    message_graph,
    mlp,
    painn_message,
    painn_update,
    readout_step,
    time_embed,
)
from tito_fast.ops.painn_message.triton_pack import PackedWeights, pack_weights
from tito_fast.types import Backend, ProductPrecision


@dataclass(frozen=True)
class Kernels:
    """Which kernels the ops are computed with.

    Parameters
    ----------
    backend : "native" | "triton"
    precision : "ieee" | "fp32" | "tf32" | "bf16"
        Of products; ``native`` has ``ieee`` only.
    """

    backend: Backend
    precision: ProductPrecision = "ieee"


@dataclass(frozen=True)
class Graph:
    """Molecules, the edges between their atoms, and what computes on them.

    ``batch`` and ``edges`` may be longer than ``message`` says: what is beyond its pointers is not read.
    """

    atomic_numbers: Tensor  # (n_atoms,) int64
    edge_type: Tensor  # (n_edges,) int64
    message: MessageGraph
    kernels: Kernels


def problem(config: TitoConfig) -> str:
    """Return why the ops cannot compute a network of ``config``, or an empty string."""
    if not config.layer_norm:
        return "its kernels compute MLPs with LayerNorm, which this model does not have"
    if config.message != "edge":
        return "its kernels compute messages with edge features, which this model does not have"
    return ""


Packed = Mapping[Message, PackedWeights]
"""Weights of messages as their kernels read them."""

_NOTHING: Packed = MappingProxyType({})


def pack(network: TitoNetwork, kernels: Kernels) -> Packed:
    """Round the weights of all messages at once, for as many evaluations as follow; empty without Triton."""
    if kernels.backend != "triton":
        return {}
    nets = (network.condition, network.velocity)
    messages = [layer.message for net in nets for layer in net.layers]
    parameters = [(mlp_parameters(each.phi), filter_parameters(each)) for each in messages]
    return dict(zip(messages, pack_weights(parameters, kernels.precision), strict=True))


class Features(NamedTuple):
    """What the conditioning network hands over."""

    scalars: Tensor  # (n_atoms, F)
    edges: Tensor  # (n_edges, F)
    vectors: Tensor | None  # (n_atoms, 3, F), where they are the velocity network's start
    positions: Tensor | None  # (n_atoms, 3), the state at t, where they are


class _State(NamedTuple):
    """Features between layers; no vectors: all zero."""

    scalars: Tensor
    vectors: Tensor | None
    edges: Tensor


def make_graph(batch: MoleculeBatch, edges: EdgeList, kernels: Kernels) -> Graph:
    """Return the graph of ``edges``."""
    edge_index = torch.stack([edges.source, edges.receiver])
    message = message_graph(edge_index, batch_ptr=batch.batch_ptr, n_atoms=batch.n_atoms)
    return Graph(batch.atomic_numbers, edges.edge_type, message, kernels)


def make_complete_graph(
    batch: MoleculeBatch, kernels: Kernels, *, edges: EdgeList | None = None
) -> Graph:
    """Return the complete graph of ``batch``, whose ``edges`` may be at hand; nothing is read back from the device."""
    message = complete_graph(batch.batch_ptr, sizes=batch.sizes)
    if edges is None:
        edges = typed_edges(batch, message.source, message.receiver)
    return Graph(batch.atomic_numbers, edges.edge_type, message, kernels)


def cutoff_graph(
    network: TitoNetwork,
    batch: MoleculeBatch,
    edges: EdgeList,
    kernels: Kernels,
    *positions: Tensor,
) -> Graph:
    """Return the graph that the network's cutoff leaves of the complete ``edges`` at ``positions``."""
    cutoff = network.config.scaled_cutoff
    if cutoff is None:
        raise ValueError("network: expected one with a cutoff, got none")
    return make_graph(batch, cutoff_edges(edges, *positions, scaled_cutoff=cutoff), kernels)


def condition(
    network: TitoNetwork,
    graph: Graph,
    positions: Tensor | None,
    *,
    lag_encoding: Tensor | None = None,
    packed: Packed = _NOTHING,
) -> Features:
    """Run the conditioning network; of its readout only what is handed over is computed."""
    net, kernels = network.condition, graph.kernels
    edges = edge_embed(graph.edge_type, net.bond_embedding.weight, backend=kernels.backend)
    if network.config.n_reduced_features is None:
        # Half the bytes of what is largest; products would round them anyway.
        edges = edges.to(torch.bfloat16) if kernels.precision == "bf16" else edges
    # The same lookup; its gradient is summed in a fixed order too.
    atoms = edge_embed(graph.atomic_numbers, net.atom_embedding.weight, backend=kernels.backend)
    if lag_encoding is not None:
        atoms = time_embed(
            atoms,
            lag_encoding.to(atoms.dtype),
            graph.message.batch_ptr,
            parameters=mlp_parameters(net.combine),
            precision=kernels.precision,
            backend=kernels.backend,
        )
    if positions is None:
        return Features(atoms, edges, None, None)
    hands_over_vectors = network.config.vector_start == "condition"
    state = _State(atoms, None, edges)
    geometry = edge_geometry(positions, graph.message)
    layers = list(net.layers)
    for index, layer in enumerate(layers):
        is_last = index + 1 == len(layers)
        state = _run_layer(
            layer,
            graph,
            geometry,
            state,
            packed.get(layer.message),
            has_edges=True,
            wants_vectors=hands_over_vectors or not is_last,
        )
    parameters, n_features = mlp_parameters(net.readout.mlp), network.config.n_features
    if not hands_over_vectors:
        parameters = _outputs(parameters, slice(0, n_features))
    outputs = mlp(state.scalars, parameters, precision=kernels.precision, backend=kernels.backend)
    if not hands_over_vectors or state.vectors is None:
        return Features(outputs, state.edges, None, None)
    scalars, gate = outputs.chunk(2, dim=-1)
    vectors = gate.unsqueeze(1) * linear_vectors(state.vectors, net.readout.v.weight)
    return Features(scalars.contiguous(), state.edges, vectors, positions)


def velocity(
    network: TitoNetwork,
    graph: Graph,
    features: Features,
    x_t: Tensor,
    *,
    encodings: Tensor,
    vectors: Tensor | None,
    packed: Packed = _NOTHING,
    pairs: EdgeGeometry | None = None,
) -> Tensor:
    """Return ``x_t + readout``, centered where the model is, (n_atoms, 3).

    ``encodings`` are those of a molecule end to end; ``vectors`` are None where the condition hands them over;
    ``pairs`` is the geometry at ``x_t`` where it is known.
    """
    net, kernels = network.velocity, graph.kernels
    scalars = time_embed(
        features.scalars,
        encodings.to(x_t.dtype),
        graph.message.batch_ptr,
        parameters=mlp_parameters(net.combine),
        precision=kernels.precision,
        backend=kernels.backend,
    )
    if vectors is None and features.vectors is not None:
        vectors = displaced(network, features.vectors, features.positions, x_t)
    state = _State(scalars, vectors, features.edges)
    geometry = edge_geometry(x_t, graph.message) if pairs is None else pairs
    layers = list(net.layers)
    for index, layer in enumerate(layers):
        state = _run_layer(
            layer,
            graph,
            geometry,
            state,
            packed.get(layer.message),
            has_edges=index + 1 < len(layers),
            wants_vectors=True,
        )
    if state.vectors is None:
        raise RuntimeError("state: expected vectors after a layer, got none")
    # Outputs: scalar, gate. Only the gate is read.
    gate = _outputs(mlp_parameters(net.readout.mlp), slice(1, 2))
    if not network.config.is_centered:
        outputs = mlp(state.scalars, gate, precision=kernels.precision, backend=kernels.backend)
        # Of padded rows: a trajectory does not depend on what else is in its batch.
        read = linear_vectors(state.vectors, net.readout.v.weight)
        readout: Tensor = outputs * read.squeeze(-1)
        return x_t + readout
    stepped = readout_step(
        state.scalars,
        state.vectors,
        x_t,
        v_weight=net.readout.v.weight,
        parameters=gate,
        batch_ptr=graph.message.batch_ptr,
        step_size=0.0,
        precision=kernels.precision,
        backend=kernels.backend,
    )
    return stepped.velocity


def _run_layer(
    layer: Layer,
    graph: Graph,
    geometry: EdgeGeometry,
    state: _State,
    packed: PackedWeights | None,
    *,
    has_edges: bool,
    wants_vectors: bool,
) -> _State:
    message, kernels = layer.message, graph.kernels
    s, v, e = state.scalars, state.vectors, state.edges
    if message.is_reduced:
        s, e = message.reduce_scalars(s), message.reduce_edges(e)
        v = None if v is None else message.reduce_vectors(v)
    sums = painn_message(
        s,
        v,
        e,
        pair_dist=geometry.pair_dist,
        vec_saturated=geometry.vec_saturated,
        graph=graph.message,
        phi=mlp_parameters(message.phi),
        filter_=filter_parameters(message),
        distance_length=message.distance_length,
        has_edges=has_edges,
        adds_edges=not message.is_reduced,
        adds_atoms=not message.is_reduced,
        precision=kernels.precision,
        backend=kernels.backend,
        packed=packed,
    )
    scalars, vectors, edges = sums
    if message.is_reduced:
        scalars = state.scalars + message.expand_scalars(scalars)
        vectors = message.expand_vectors(vectors)
        vectors = vectors if state.vectors is None else state.vectors + vectors
        if edges is not None:
            edges = torch.addmm(
                state.edges + message.expand_edges.bias, edges, message.expand_edges.weight.t()
            )
    nothing = e.new_empty((0, e.shape[1]))
    state = _State(scalars, vectors, nothing if edges is None else edges)
    return _update(layer.update, state, kernels, wants_vectors=wants_vectors)


def _update(update: Update, state: _State, kernels: Kernels, *, wants_vectors: bool) -> _State:
    if state.vectors is None:
        raise RuntimeError("state: expected vectors after a message, got none")
    parameters = mlp_parameters(update.mlp)
    if not wants_vectors:
        parameters = _outputs(parameters, slice(state.scalars.shape[1], None))
    result = painn_update(
        state.scalars,
        state.vectors,
        u_weight=update.u.weight if wants_vectors else None,
        v_weight=update.v.weight,
        parameters=parameters,
        precision=kernels.precision,
        backend=kernels.backend,
    )
    return _State(result.scalars, result.vectors, state.edges)


def _outputs(parameters: MlpParameters, rows: slice) -> MlpParameters:
    """Return the MLP with only ``rows`` of its outputs."""
    return parameters._replace(
        last_weight=parameters.last_weight[rows], last_bias=parameters.last_bias[rows]
    )
