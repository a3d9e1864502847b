"""What a batch does to the weights: gradients, clipping, optimizer, average."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tito_fast.models.tito.model import TitoModel
from tito_fast.training.batches import TrainingBatch
from tito_fast.training.config import TrainingConfig
from tito_fast.training.optimization import (
    MovingAverage,
    capturable_rate,
    changed_by,
    clip_gradients,
    make_optimizer,
)
from tito_fast.training.step_plan import StepPlans
from tito_fast.training.workers import Workers


class Stepper:
    """Take optimizer steps.

    Parameters
    ----------
    model : TitoModel
        Its weights are updated in place.
    workers : Workers
        Processes whose gradients are summed.
    config : TrainingConfig
    loss : callable
        Returns this process' share of the loss of a batch.

    Attributes
    ----------
    optimizer : torch.optim.Optimizer
    average : MovingAverage
        Of the weights.
    is_planned : bool
        Whether steps run at fixed addresses, on CUDA as a captured graph.
    """

    def __init__(
        self,
        model: TitoModel,
        workers: Workers,
        config: TrainingConfig,
        *,
        loss: Callable[[TitoModel, TrainingBatch], Tensor],
    ) -> None:
        self._model, self._workers, self._config, self._loss = model, workers, config, loss
        self.optimizer = make_optimizer(config.optimizer, model.network.parameters())
        self.average = MovingAverage(model.network, decay=config.optimizer.ema_decay)
        self._rate: Tensor | None = None
        self._plans: StepPlans | None = None

    @property
    def is_planned(self) -> bool:
        """Whether :meth:`plan` was called."""
        return self._plans is not None

    def plan(self) -> None:
        """Let steps run at fixed addresses, the optimizer's part too unless gradients are summed between.

        Not before :meth:`load`.
        """
        self._rate = capturable_rate(self.optimizer, self._model.device)

        def update() -> Tensor:
            norm = self._clip()
            self.optimizer.step()
            return norm

        self._plans = StepPlans(
            self._model,
            sigma=self._config.flow_sigma,
            update=update if self._workers.n_ranks == 1 else None,
            state=lambda: changed_by(self.optimizer),
        )

    def load(self, optimizer: dict[str, Any], average: dict[str, Tensor | int]) -> None:
        """Go on from the states of an earlier optimizer and average."""
        self.optimizer.load_state_dict(optimizer)
        for group in self.optimizer.param_groups:
            # As planned steps on a GPU leave it; no other device takes it.
            group["capturable"] = False
        self.average.load_state_dict(average)

    def step(self, drawn: TrainingBatch, rate: float) -> tuple[Tensor, Tensor]:
        """Update weights and their average; return this share of the loss, and the norm of all gradients.

        With one process all of it stays on the device: nothing is read back. Weights that are not finite are
        found by what is returned, before they are kept.
        """
        network = self._model.network
        if self._plans is not None and self._rate is not None:
            self._rate.fill_(rate)
            share, norm = self._plans.step(drawn)
        else:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.zero_grad(set_to_none=True)
            loss = self._loss(self._model, drawn)
            torch.autograd.backward(loss)
            share = loss.detach()
        if not self.is_planned or self._workers.n_ranks > 1:
            self._workers.sum_gradients(network)
            norm = self._clip()
            self.optimizer.step()
        self.average.update(network)
        return share, norm

    def _clip(self) -> Tensor:
        """Scale all gradients to the largest norm allowed; return their norm before."""
        limit = self._config.optimizer.gradient_clip
        return clip_gradients(self._model.network.parameters(), limit=limit)
