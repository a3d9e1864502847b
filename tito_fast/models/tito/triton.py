"""Backend ``triton``: the network as a composition of Triton kernels, on CUDA tensors.

With and without gradients the same ops run. A rollout step without gradients is a `StepPlan`, captured in a CUDA graph.
How products are rounded follows from `tito_fast.precision.product_precision`. With ``TRITON_INTERPRET=1`` all of it
runs on CPU tensors, interpreted: slow, and for tests.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch
from tito_fast.models.tito import op_network
from tito_fast.models.tito.graph import EdgeList, complete_edges
from tito_fast.models.tito.network import TitoNetwork
from tito_fast.models.tito.step import StepNoise, StepSettings
from tito_fast.models.tito.triton_step import step_plan
from tito_fast.ops import EdgeGeometry, edge_geometry
from tito_fast.ops.triton_launch import triton_problem, width_problem
from tito_fast.precision import product_precision


def problem(network: TitoNetwork) -> str:
    """Return why the Triton kernels cannot run on ``network`` here and now, or an empty string."""
    parameter = next(network.parameters())
    config, device = network.config, parameter.device
    if reason := triton_problem(device.type):
        return reason
    if reason := op_network.problem(config):
        return reason
    for width in {config.n_features, config.n_reduced_features or config.n_features}:
        if reason := width_problem(width):
            return reason
    is_exact = device.type == "cpu" and product_precision() == "ieee"
    if parameter.dtype == torch.float32 or (parameter.dtype == torch.float64 and is_exact):
        return ""
    return f"expected float32 weights, got {parameter.dtype}"


@dataclass(frozen=True)
class TritonTables:
    """What does not change while the molecules stay the same."""

    batch: MoleculeBatch
    edges: EdgeList
    kernels: op_network.Kernels

    @cached_property
    def graph(self) -> op_network.Graph:
        """The complete graph."""
        return op_network.make_complete_graph(self.batch, self.kernels, edges=self.edges)


@dataclass(frozen=True)
class TritonConditioning:
    """What the velocity needs to know of the current state; no features with a cutoff."""

    scaled_positions: Tensor | None
    lag_encoding: Tensor | None  # (n_molecules, F)
    features: op_network.Features | None


def prepare(network: TitoNetwork, batch: MoleculeBatch) -> TritonTables:
    """Return the tables for ``batch``; the precision of products is the one in force now."""
    del network
    kernels = op_network.Kernels("triton", product_precision())
    return TritonTables(batch, complete_edges(batch), kernels)


def condition(
    network: TitoNetwork,
    tables: TritonTables,
    scaled_positions: Tensor | None,
    *,
    lag_encoding: Tensor | None,
) -> TritonConditioning:
    """Run the conditioning network over the state at t."""
    if network.config.scaled_cutoff is not None:
        return TritonConditioning(scaled_positions, lag_encoding, None)
    with torch.autocast(tables.batch.batch_ptr.device.type, enabled=False):
        features = op_network.condition(
            network, tables.graph, scaled_positions, lag_encoding=lag_encoding
        )
    return TritonConditioning(scaled_positions, lag_encoding, features)


def pairs(network: TitoNetwork, tables: TritonTables, x_t: Tensor) -> EdgeGeometry:
    """Return the geometry at ``x_t``, for all networks without a cutoff."""
    del network
    with torch.autocast(x_t.device.type, enabled=False):
        return edge_geometry(x_t, tables.graph.message)


def velocity(
    network: TitoNetwork,
    tables: TritonTables,
    conditioning: TritonConditioning,
    x_t: Tensor,
    *,
    encodings: list[Tensor],
    vectors: Tensor | None,
    pairs: EdgeGeometry | None = None,
) -> Tensor:
    """Return ``x_t + readout``, centered where the model is, (n_atoms, 3), model units."""
    with torch.autocast(x_t.device.type, enabled=False):
        features, current = conditioning.features, conditioning.scaled_positions
        if features is not None:
            graph = tables.graph
        else:
            frames = [each.detach() for each in (current, x_t) if each is not None]
            graph = op_network.cutoff_graph(
                network, tables.batch, tables.edges, tables.kernels, *frames
            )
            features = op_network.condition(
                network, graph, current, lag_encoding=conditioning.lag_encoding
            )
        return op_network.velocity(
            network,
            graph,
            features,
            x_t,
            encodings=torch.cat(encodings, dim=-1),
            vectors=vectors,
            pairs=pairs,
        )


def rollout_step(
    network: TitoNetwork,
    tables: TritonTables,
    scaled_positions: Tensor,
    *,
    lag_encoding: Tensor | None,
    time_encodings: Tensor,
    molecule_encodings: list[Tensor],
    noise: StepNoise,
    settings: StepSettings,
) -> Tensor | None:
    """Return the positions one lag later, (n_atoms, 3); None with a cutoff, whose graph changes within the step.

    None too where the lag enters the conditioning network.

    Parameters
    ----------
    lag_encoding : Tensor, shape (n_molecules, F), or None
        What the conditioning network reads.
    time_encodings : Tensor, shape (n_evaluations, F)
        Of the flow time of each evaluation.
    molecule_encodings : list of Tensor, each (n_molecules, F)
        Temperature where the model has one, lag.
    """
    config = network.config
    if config.scaled_cutoff is not None or lag_encoding is not None:
        return None
    nothing = scaled_positions.new_empty((tables.batch.n_molecules, 0))
    plan = step_plan(network, tables.graph, settings)
    with torch.autocast(scaled_positions.device.type, enabled=False):
        return plan.step(
            tables.graph,
            scaled_positions,
            time_encodings=time_encodings,
            molecule_encodings=torch.cat([nothing, *molecule_encodings], dim=-1),
            noise=noise,
        )
