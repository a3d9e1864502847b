"""Backend ``native`` with gradients: the network as a composition of differentiable ops.

A layer keeps its inputs only; the ops compute the rest again in their backward.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.tito.graph import EdgeList, cutoff_edges
from tito_fast.models.tito.layers import Layer, Update
from tito_fast.models.tito.native_network import mlp_parameters
from tito_fast.models.tito.network import TitoNetwork
from tito_fast.ops import (
    MessageGraph,
    MlpParameters,
    edge_embed,
    message_graph,
    mlp,
    painn_message,
    painn_update,
    readout_step,
    time_embed,
)


@dataclass(frozen=True)
class Graph:
    """Molecules and the edges between their atoms."""

    batch: MoleculeBatch
    edges: EdgeList
    message: MessageGraph


class Features(NamedTuple):
    """What the conditioning network hands over."""

    scalars: Tensor  # (n_atoms, F)
    edges: Tensor  # (n_edges, F)


class _Geometry(NamedTuple):
    pair_dist: Tensor  # (n_pairs,)
    vec_saturated: Tensor  # (n_edges, 3)


class _State(NamedTuple):
    """Features between layers; no vectors: all zero."""

    scalars: Tensor
    vectors: Tensor | None
    edges: Tensor


def make_graph(batch: MoleculeBatch, edges: EdgeList) -> Graph:
    """Return the graph of ``edges``."""
    edge_index = torch.stack([edges.source, edges.receiver])
    graph = message_graph(edge_index, batch_ptr=batch.batch_ptr, n_atoms=batch.n_atoms)
    return Graph(batch, edges, graph)


def cutoff_graph(
    network: TitoNetwork, batch: MoleculeBatch, edges: EdgeList, *positions: Tensor
) -> Graph:
    """Return the graph that the network's cutoff leaves of the complete ``edges`` at ``positions``."""
    cutoff = network.config.scaled_cutoff
    if cutoff is None:
        raise ValueError("network: expected one with a cutoff, got none")
    return make_graph(batch, cutoff_edges(edges, *positions, scaled_cutoff=cutoff))


def condition(network: TitoNetwork, graph: Graph, positions: Tensor) -> Features:
    """Run the conditioning network; of its readout only the scalars are computed."""
    net, n_features = network.condition, network.config.n_features
    state = _State(
        net.atom_embedding(graph.batch.atomic_numbers),
        None,
        edge_embed(graph.edges.edge_type, net.bond_embedding.weight, backend="native"),
    )
    geometry = _geometry(graph, positions)
    layers = list(net.layers)
    for index, layer in enumerate(layers):
        is_last = index + 1 == len(layers)
        state = _run_layer(layer, graph, geometry, state, has_edges=True, wants_vectors=not is_last)
    parameters = mlp_parameters(net.readout.mlp)
    scalars = mlp(state.scalars, _outputs(parameters, slice(0, n_features)), backend="native")
    return Features(scalars, state.edges)


def velocity(
    network: TitoNetwork,
    graph: Graph,
    features: Features,
    x_t: Tensor,
    *,
    encodings: list[Tensor],
    vectors: Tensor,
) -> Tensor:
    """Return ``center(x_t + readout)``, (n_atoms, 3)."""
    net, batch_ptr = network.velocity, graph.batch.batch_ptr
    scalars = time_embed(
        features.scalars,
        torch.cat(encodings, dim=-1).to(x_t.dtype),
        batch_ptr,
        parameters=mlp_parameters(net.combine),
        backend="native",
    )
    state = _State(scalars, vectors, features.edges)
    geometry = _geometry(graph, x_t)
    layers = list(net.layers)
    for index, layer in enumerate(layers):
        state = _run_layer(
            layer,
            graph,
            geometry,
            state,
            has_edges=index + 1 < len(layers),
            wants_vectors=True,
        )
    if state.vectors is None:
        raise RuntimeError("state: expected vectors after a layer, got none")
    # Outputs: scalar, gate. Only the gate is read.
    gate = _outputs(mlp_parameters(net.readout.mlp), slice(1, 2))
    stepped = readout_step(
        state.scalars,
        state.vectors,
        x_t,
        v_weight=net.readout.v.weight,
        parameters=gate,
        batch_ptr=batch_ptr,
        step_size=0.0,
        backend="native",
    )
    return stepped.velocity


def _geometry(graph: Graph, positions: Tensor) -> _Geometry:
    vec = positions[graph.edges.source] - positions[graph.edges.receiver]
    # Not vector_norm, whose gradient at a zero distance is not a number.
    square = (vec * vec).sum(dim=-1)
    dist = torch.sqrt(square.clamp_min(torch.finfo(vec.dtype).tiny))
    return _Geometry(dist[graph.message.pair_edges[:, 0]], vec / (1 + dist).unsqueeze(-1))


def _run_layer(
    layer: Layer,
    graph: Graph,
    geometry: _Geometry,
    state: _State,
    *,
    has_edges: bool,
    wants_vectors: bool,
) -> _State:
    message = layer.message
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
        filter_=mlp_parameters(message.filter),
        distance_length=message.distance_length,
        has_edges=has_edges,
        adds_edges=not message.is_reduced,
        backend="native",
    )
    ds, dv, edges = sums.scalars, sums.vectors, sums.edges
    if message.is_reduced:
        ds, dv = message.expand_scalars(ds), message.expand_vectors(dv)
        if edges is not None:
            edges = torch.addmm(
                state.edges + message.expand_edges.bias, edges, message.expand_edges.weight.t()
            )
    scalars = state.scalars + ds
    vectors = dv if state.vectors is None else state.vectors + dv
    return _update(layer.update, scalars, vectors, edges, wants_vectors=wants_vectors)


def _update(
    update: Update, scalars: Tensor, vectors: Tensor, edges: Tensor | None, *, wants_vectors: bool
) -> _State:
    n_features = scalars.shape[1]
    parameters = mlp_parameters(update.mlp)
    if not wants_vectors:
        parameters = _outputs(parameters, slice(n_features, None))
    result = painn_update(
        scalars,
        vectors,
        u_weight=update.u.weight if wants_vectors else None,
        v_weight=update.v.weight,
        parameters=parameters,
        backend="native",
    )
    nothing = scalars.new_empty((0, n_features))
    return _State(result.scalars, result.vectors, nothing if edges is None else edges)


def _outputs(parameters: MlpParameters, rows: slice) -> MlpParameters:
    """Return the MLP with only ``rows`` of its outputs."""
    return parameters._replace(
        last_weight=parameters.last_weight[rows], last_bias=parameters.last_bias[rows]
    )
