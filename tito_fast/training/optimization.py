"""The optimizer, its learning rate over time, the average of the weights."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tito_fast.training.config import OptimizerConfig


def make_optimizer(
    config: OptimizerConfig, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """Return Adam, or AdamW where there is weight decay."""
    if config.weight_decay > 0:
        return torch.optim.AdamW(
            parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
    return torch.optim.Adam(parameters, lr=config.learning_rate, fused=True)


def capturable_rate(optimizer: torch.optim.Optimizer, device: torch.device) -> Tensor:
    """Let steps of ``optimizer`` be captured in a CUDA graph; return the learning rate that they will read.

    Returns
    -------
    Tensor
        A float32 scalar on ``device``, to be filled before a step.
    """
    rate = torch.zeros((), dtype=torch.float32, device=device)
    for group in optimizer.param_groups:
        group["lr"] = rate
        group["capturable"] = device.type == "cuda"
    return rate


def changed_by(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the tensors that a step of ``optimizer`` changes: parameters, then its own."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    own = [value for each in optimizer.state.values() for value in each.values()]
    return [*parameters, *own]


def learning_rate(config: OptimizerConfig, step: int, *, n_steps: int) -> float:
    """Return the learning rate of a step: linear warm-up, then constant or cosine.

    Parameters
    ----------
    config : OptimizerConfig
    step : int
        Counted from 0.
    n_steps : int
        Where the cosine ends.

    Examples
    --------
    >>> config = OptimizerConfig(learning_rate=1.0, n_warmup_steps=2, final_learning_rate_share=0.0)
    >>> [learning_rate(config, step, n_steps=4) for step in range(5)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """
    if step < config.n_warmup_steps:
        return config.learning_rate * (step + 1) / config.n_warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    share = (step - config.n_warmup_steps) / max(n_steps - config.n_warmup_steps, 1)
    floor = config.final_learning_rate_share
    cosine = 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))
    return config.learning_rate * (floor + (1 - floor) * cosine)


def clip_gradients(parameters: Iterable[nn.Parameter], *, limit: float) -> Tensor:
    """Scale all gradients together to a norm of at most ``limit``; return the norm before.

    A ``limit`` of 0 scales nothing.
    """
    return torch.nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else math.inf)


class MovingAverage:
    """Exponential moving average of a network's weights.

    Its decay rises with the number ``n`` of updates, ``min(decay, (1 + n) / (10 + n))``, so that the
    first weights are soon forgotten.

    Parameters
    ----------
    network : nn.Module
        Floating-point parameters and buffers only.
    decay : float
        Zero: the average is the network itself.
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.n_updates = 0
        self.weights = {
            name: value.detach().clone() for name, value in network.state_dict().items()
        }

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take the weights of ``network`` in."""
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates)) if self.decay else 0.0
        self.n_updates += 1
        new = network.state_dict()
        theirs = [new[name] for name in self.weights]
        # One call for all weights, as in the optimizers of torch.
        torch._foreach_lerp_(list(self.weights.values()), theirs, 1 - decay)

    def state_dict(self) -> dict[str, Tensor | int]:
        """Return everything that is needed to go on."""
        return {"n_updates": self.n_updates, **{f"weights.{k}": v for k, v in self.weights.items()}}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Go on from ``state_dict``."""
        self.n_updates = int(state["n_updates"])
        for name, weight in self.weights.items():
            saved = state[f"weights.{name}"]
            if not isinstance(saved, Tensor):
                raise TypeError(f"weights.{name}: expected a tensor, got {type(saved).__name__}")
            weight.copy_(saved)
