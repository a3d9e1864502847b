"""A rollout step with every tensor at a fixed address: run as it is, or captured in a CUDA graph and replayed."""

import weakref
from collections import OrderedDict
from collections.abc import Callable  # noqa: TC003
from typing import NamedTuple, Self

import torch
from torch import Tensor

from tito_fast.models.tito import op_network
from tito_fast.models.tito.network import TitoNetwork, n_encodings
from tito_fast.models.tito.static_graph import StaticGraph, StaticShape, captured, fill
from tito_fast.models.tito.step import StepNoise, StepSettings
from tito_fast.noise import BASE_STREAM, VECTOR_STREAM, stream_evaluation
from tito_fast.ops import center, philox_normal_at, philox_rows
from tito_fast.solvers import integrate

MAX_PLANS = 8
"""Plans kept for one network; the one not used for longest goes first."""


class _Buffers(NamedTuple):
    """What a step reads besides the graph, and what it writes."""

    positions: Tensor  # (n_atoms, 3)
    encodings: Tensor  # (n_evaluations, n_molecules, m F)
    keys: Tensor  # (n_molecules,) int64
    replicas: Tensor  # (n_molecules,) int64
    rollout_step: Tensor  # (1,) int64
    result: Tensor  # (n_atoms, 3)


class StepPlan:
    """Take rollout steps of any molecules that fit a shape.

    On CUDA the first step captures a graph, all others replay it: nothing is allocated, launched by the host or
    synchronised inside. Elsewhere the same function is called.

    Parameters
    ----------
    network : TitoNetwork
        Read where it is: weights may change in place, not move.
    shape : StaticShape
    kernels : Kernels
    settings : StepSettings
    """

    def __init__(
        self,
        network: TitoNetwork,
        shape: StaticShape,
        kernels: op_network.Kernels,
        settings: StepSettings,
    ) -> None:
        # Plans are kept by network, so none may keep its network alive.
        self._network = weakref.ref(network)
        self._settings = settings
        weight = next(network.parameters())
        self._static = StaticGraph(shape, kernels, weight.device)
        self._buffers = _make_buffers(
            shape,
            n_evaluations=len(settings.evaluation_times()),
            width=n_encodings(network.config) * network.config.n_features,
            like=weight,
        )
        self._replay: Callable[[], None] | None = None

    def step(
        self,
        graph: op_network.Graph,
        scaled_positions: Tensor,
        *,
        time_encodings: Tensor,
        molecule_encodings: Tensor,
        noise: StepNoise,
    ) -> Tensor:
        """Return the positions one lag later, (n_atoms, 3), a new tensor.

        Parameters
        ----------
        graph : Graph
            Complete; ``StaticShape.of`` it is this plan's.
        scaled_positions : Tensor, shape (n_atoms, 3)
        time_encodings : Tensor, shape (n_evaluations, F)
        molecule_encodings : Tensor, shape (n_molecules, (m − 1) F)
        noise : StepNoise
        """
        buffers, n_molecules = self._buffers, noise.keys.shape[0]
        self._static.load(graph)
        n_atoms, n_time = scaled_positions.shape[0], time_encodings.shape[1]
        fill(buffers.positions, scaled_positions)
        fill(buffers.keys, noise.keys)
        fill(buffers.replicas, noise.replicas)
        buffers.encodings[:, :, :n_time].copy_(time_encodings[:, None, :])
        buffers.encodings[:, :n_molecules, n_time:].copy_(molecule_encodings)
        buffers.rollout_step.fill_(noise.rollout_step)
        if self._replay is None:
            self._replay = captured(self._run, scaled_positions.device)
        self._replay()
        return buffers.result[:n_atoms].clone()

    @torch.no_grad()
    def _run(self) -> None:
        """Take one step from the buffers to the buffers."""
        network, settings, buffers = self._network(), self._settings, self._buffers
        if network is None:
            raise RuntimeError("network: expected one that is alive, got none")
        graph, shape = self._static.graph, self._static.shape
        batch_ptr = graph.message.batch_ptr
        packed = op_network.pack(network, graph.kernels)
        positions = buffers.positions if network.config.is_conditional else None
        features = op_network.condition(network, graph, positions, packed=packed)
        n_features = network.config.n_features
        vector_rows = _NoiseRows.of(batch_ptr, 3 * n_features)
        fixed: Tensor | None = None
        if settings.vector_start == "zeros":
            fixed = buffers.positions.new_zeros((shape.n_atoms, 3, n_features))
        elif settings.vector_start == "randn_fixed":
            fixed = self._normal(vector_rows, VECTOR_STREAM, 0).view(-1, 3, n_features)
        elif settings.vector_start == "condition":
            fixed = features.vectors

        def field(x_t: Tensor, flow_time: float, evaluation: int) -> Tensor:  # noqa: ARG001
            vectors = fixed
            if vectors is None:
                drawn = self._normal(vector_rows, VECTOR_STREAM, evaluation)
                vectors = drawn.view(-1, 3, n_features)
            return op_network.velocity(
                network,
                graph,
                features,
                x_t,
                encodings=buffers.encodings[evaluation],
                vectors=vectors,
                packed=packed,
            )

        base = self._normal(_NoiseRows.of(batch_ptr, 3), BASE_STREAM, 0).view(-1, 3)
        x_0 = base * settings.base_std
        if settings.center:
            x_0 = center(x_0, batch_ptr=batch_ptr)
        buffers.result.copy_(
            integrate(
                field,
                x_0,
                solver=settings.solver,
                time_grid=settings.time_grid,
                batch_ptr=batch_ptr,
                center=settings.center,
            )
        )

    def _normal(self, rows: "_NoiseRows", stream: int, evaluation: int) -> Tensor:
        """Return as many normals as ``rows`` says of each atom, in the order of the atoms."""
        buffers = self._buffers
        values = philox_normal_at(
            buffers.keys,
            buffers.replicas,
            rows.counts,
            rows=rows.rows,
            rollout_step=buffers.rollout_step,
            stream_evaluation=stream_evaluation(stream, evaluation),
            n_total=self._static.shape.n_atoms * rows.per_atom,
        )
        return values.to(buffers.positions.dtype)


class _NoiseRows(NamedTuple):
    """How a draw is shared among the molecules."""

    per_atom: int
    counts: Tensor  # (n_molecules,) int64
    rows: Tensor  # (2, n_molecules) int64

    @classmethod
    def of(cls, batch_ptr: Tensor, per_atom: int) -> Self:
        """Return that of ``per_atom`` values for each atom."""
        counts = batch_ptr.diff() * per_atom
        return cls(per_atom, counts, philox_rows(counts))


def _make_buffers(shape: StaticShape, *, n_evaluations: int, width: int, like: Tensor) -> _Buffers:
    def integers(size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.int64, device=like.device)

    return _Buffers(
        positions=like.new_zeros((shape.n_atoms, 3)),
        encodings=like.new_zeros((n_evaluations, shape.n_molecules, width)),
        keys=integers(shape.n_molecules),
        replicas=integers(shape.n_molecules),
        rollout_step=integers(1),
        result=like.new_zeros((shape.n_atoms, 3)),
    )


class _PlanCache:
    """Plans by network; those of one network by what they were made for, the latest used last."""

    def __init__(self) -> None:
        self._plans: weakref.WeakKeyDictionary[TitoNetwork, OrderedDict[object, StepPlan]] = (
            weakref.WeakKeyDictionary()
        )

    def get(
        self, network: TitoNetwork, graph: op_network.Graph, settings: StepSettings
    ) -> StepPlan:
        shape = StaticShape.of(graph)
        addresses = tuple(p.data_ptr() for p in network.parameters())
        key = (shape, graph.kernels, settings, addresses)
        plans = self._plans.setdefault(network, OrderedDict())
        if key not in plans:
            plans[key] = StepPlan(network, shape, graph.kernels, settings)
        plans.move_to_end(key)
        while len(plans) > MAX_PLANS:
            plans.popitem(last=False)
        return plans[key]


_CACHE = _PlanCache()


def step_plan(network: TitoNetwork, graph: op_network.Graph, settings: StepSettings) -> StepPlan:
    """Return the plan for molecules of the sizes of ``graph``: an earlier one where one fits.

    Parameters
    ----------
    network : TitoNetwork
    graph : Graph
        Complete.
    settings : StepSettings
    """
    return _CACHE.get(network, graph, settings)
