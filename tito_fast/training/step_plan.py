"""A training step with every tensor at a fixed address: run as it is, or captured in a CUDA graph and replayed."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Parameter  # noqa: TC002

from tito_fast.flows import interpolate
from tito_fast.models.bopito.model import BopitoModel
from tito_fast.models.tito import op_network
from tito_fast.models.tito.model import TitoModel
from tito_fast.models.tito.network import n_encodings
from tito_fast.models.tito.static_graph import StaticGraph, StaticShape, captured, fill
from tito_fast.precision import product_precision
from tito_fast.training.batches import TrainingBatch

MAX_PLANS = 16
"""Plans kept; the one not used for longest goes first."""


class StepPlans:
    """Gradients of batches on the Triton backend, a plan for each shape that occurs.

    Parameters
    ----------
    model : TitoModel
        Without a cutoff, whose graph would change with the batch. Its weights may change in place, not move.
    sigma : float
        Standard deviation of the noise on the interpolant, model units.
    update : callable or None
        What follows the gradients, on the device alone; captured with them. Its result, a scalar, is handed on.
    state : callable
        Returns the tensors that ``update`` changes: put back after the runs that warm a capture up.
    """

    def __init__(
        self,
        model: TitoModel,
        *,
        sigma: float,
        update: Callable[[], Tensor] | None = None,
        state: Callable[[], list[Tensor]] = list,
    ) -> None:
        self._model, self._sigma, self._update, self._state = model, sigma, update, state
        self._plans: OrderedDict[StaticShape, _StepPlan] = OrderedDict()

    def step(self, drawn: TrainingBatch) -> Tensor:
        """Leave the gradients of ``drawn`` in the parameters; return its loss, and what ``update`` returned.

        Returns
        -------
        Tensor, shape (2,)
            Share of the step's loss; result of ``update``, or zero. Overwritten by the next step.
        """
        kernels = op_network.Kernels("triton", product_precision())
        graph = op_network.make_complete_graph(drawn.batch, kernels)
        shape = StaticShape.of(graph)
        if shape not in self._plans:
            self._plans[shape] = _StepPlan(
                self._model, StaticGraph(shape, kernels, self._model.device), self._sigma
            )
        self._plans.move_to_end(shape)
        while len(self._plans) > MAX_PLANS:
            self._plans.popitem(last=False)
        return self._plans[shape].step(drawn, graph, self._update, self._state)


class _StepPlan:
    """One shape's tensors, and the step on them."""

    def __init__(self, model: TitoModel, static: StaticGraph, sigma: float) -> None:
        self._model, self._static, self._sigma = model, static, sigma
        config, weight = model.config, next(model.network.parameters())
        n_atoms, _, n_molecules = static.shape
        self._current, self._x_0, self._x_1, self._epsilon = (
            weight.new_zeros((n_atoms, 3), requires_grad=False) for _ in range(4)
        )
        # None: the condition's own.
        self._vectors: Tensor | None = None
        if config.vector_start != "condition":
            self._vectors = weight.new_zeros((n_atoms, 3, config.n_features), requires_grad=False)
        self._flow_time = weight.new_zeros((n_molecules,), requires_grad=False)
        self._encodings = weight.new_zeros(
            (n_molecules, n_encodings(config) * config.n_features), requires_grad=False
        )
        # Of each atom in the loss: nothing of those that fill up.
        self._atom_weight = weight.new_zeros((n_atoms,), requires_grad=False)
        self._told = weight.new_zeros((2,), requires_grad=False)
        self._gradients: list[tuple[Parameter, Tensor | None]] = []
        self._replay: Callable[[], None] | None = None

    def step(
        self,
        drawn: TrainingBatch,
        graph: op_network.Graph,
        update: Callable[[], Tensor] | None,
        state: Callable[[], list[Tensor]],
    ) -> Tensor:
        """Load ``drawn`` and run."""
        self._static.load(graph)
        fill(self._current, drawn.scaled_current)
        fill(self._x_0, drawn.x_0)
        fill(self._x_1, drawn.x_1)
        fill(self._epsilon, drawn.epsilon)
        if self._vectors is not None and drawn.vectors is not None:
            fill(self._vectors, drawn.vectors)
        fill(self._flow_time, drawn.flow_time)
        encodings = self._model.network.encode(
            drawn.flow_time, drawn.lag_time_ps, drawn.temperature_k
        )
        fill(self._encodings, torch.cat(encodings, dim=-1))
        n_atoms = drawn.x_0.shape[0]
        self._atom_weight[:n_atoms].fill_(drawn.share / max(n_atoms, 1))
        self._atom_weight[n_atoms:].fill_(0.0)
        if self._replay is None:
            self._capture(update, state)
        else:
            self._replay()
        # A graph leaves gradients where its plan has them, and does not say so to the parameters.
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return self._told

    def _capture(
        self, update: Callable[[], Tensor] | None, state: Callable[[], list[Tensor]]
    ) -> None:
        """Run once, on CUDA by a captured graph."""
        is_cuda = self._model.device.type == "cuda"
        parameters = list(self._model.network.parameters())

        def run() -> None:
            for parameter in parameters:
                parameter.grad = None
            loss = self._loss()
            torch.autograd.backward(loss)
            self._told[0].copy_(loss.detach())
            if update is not None:
                self._told[1].copy_(update())

        before = [tensor.clone() for tensor in state()]
        self._replay = captured(run, self._model.device)
        if is_cuda:
            _put_back(state(), before)
            self._gradients = [(parameter, parameter.grad) for parameter in parameters]
        self._replay()

    def _loss(self) -> Tensor:
        """Return the share of the loss: the weighted sum over atoms of the velocity's squared error."""
        network, graph = self._model.network, self._static.graph
        batch_ptr = graph.message.batch_ptr
        x_t = interpolate(
            self._x_0,
            self._x_1,
            self._flow_time,
            self._epsilon,
            batch_ptr=batch_ptr,
            sigma=self._sigma,
        )
        packed = op_network.pack(network, graph.kernels)
        current = self._current if network.config.is_conditional else None
        features = op_network.condition(network, graph, current, packed=packed)
        velocity = op_network.velocity(
            network,
            graph,
            features,
            x_t,
            encodings=self._encodings,
            vectors=self._vectors,
            packed=packed,
        )
        error = (velocity - (self._x_1 - self._x_0)).square().sum(dim=-1)
        return torch.dot(error, self._atom_weight)


@torch.no_grad()
def _put_back(tensors: list[Tensor], before: list[Tensor]) -> None:
    """Give the tensors their values of before; those that there were none of then were zero."""
    for index, tensor in enumerate(tensors):
        if index < len(before):
            tensor.copy_(before[index])
        else:
            tensor.zero_()


def plans_problem(model: TitoModel) -> str:
    """Return why steps on ``model`` cannot be planned, or an empty string."""
    if isinstance(model, BopitoModel):
        return "steps of two networks are not planned in this version"
    if model.config.scaled_cutoff is not None:
        return "with a cutoff the graph changes with the batch"
    if model.config.objective != "velocity" or model.config.lag_in != "velocity":
        return "planned steps are those of a velocity with the lag in the velocity network"
    return ""
