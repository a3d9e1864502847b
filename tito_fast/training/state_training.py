"""Training of models of low-dimensional states: many small models at once, on a CPU."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import torch
from torch import Tensor

from tito_fast.models.state.model import StateModel
from tito_fast.validation import check_at_least, check_choice, check_positive, check_shape

LagLaw = Literal["uniform", "log"]
LAG_LAWS: Final[tuple[LagLaw, ...]] = get_args(LagLaw)

_ADAM_BETAS: Final = (0.9, 0.999)


@dataclass(frozen=True, kw_only=True)
class StateTrainingConfig:
    """How models of states are trained.

    Parameters
    ----------
    n_steps : int
    n_diffusion_draws, n_lag_draws : int
        A batch of one model has ``n_diffusion_draws × n_lag_draws`` pairs, one for each combination of the drawn
        diffusion steps and lags. Both are drawn one from each of as many equal parts of their range.
    learning_rate : float
        Of Adam at the first step; it falls to zero as a half cosine if ``is_rate_falling``.
    is_rate_falling : bool
    ema_decay : float
        Of the average of the weights, which is the result; in [0, 1). It starts as ``(1 + step)/(10 + step)``.
    lag_law : "uniform" | "log"
        N uniform in 1 … N_max, or ``floor(exp(U(0, ln(N_max + 1))))``; N_max is at most what the trajectories allow.
    seed : int
        Of what all models share: lags and diffusion steps.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    n_steps: int = 2000
    n_diffusion_draws: int = 32
    n_lag_draws: int = 32
    learning_rate: float = 2e-3
    is_rate_falling: bool = True
    ema_decay: float = 0.99
    lag_law: LagLaw = "uniform"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_diffusion_draws", "n_lag_draws"):
            check_at_least(name, getattr(self, name), 1)
        check_positive("learning_rate", self.learning_rate)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay: expected a value in [0, 1), got {self.ema_decay:g}")
        check_choice("lag_law", self.lag_law, LAG_LAWS)


@dataclass(frozen=True, eq=False)
class StateTraining:
    """What training leaves.

    Parameters
    ----------
    model : StateModel
        The one given, with averaged weights.
    losses : Tensor, shape (n_models,), float64
        Mean square error of the noise, mean over the last tenth of the steps.
    """

    model: StateModel
    losses: Tensor


def train_state_model(
    model: StateModel,
    data: Tensor,
    config: StateTrainingConfig,
    *,
    seeds: Sequence[int],
    on_step: Callable[[int], None] | None = None,
) -> StateTraining:
    """Train ``model`` in place to predict noise.

    The loss of a model is ``mean (noise_hat − noise)²`` over pairs of frames a lag apart, uniform over trajectories
    and over the start frames that the lag allows, and over diffusion steps 1 … T.

    Parameters
    ----------
    model : StateModel
    data : Tensor, shape (n_models or 1, n_trajectories, n_frames, n_dims), float32
        Trajectories of each model, or of all. For equilibrium models any samples, as trajectories of one frame.
    config : StateTrainingConfig
    seeds : sequence of int, one per model
        A model's frames and noise follow from its seed and ``config.seed``, not from the models beside it.
    on_step : callable or None
        Called with the number of steps done.

    Returns
    -------
    StateTraining

    Raises
    ------
    ValueError
        If shapes do not fit, trajectories are too short for a lag of one frame, or values are not finite.

    Notes
    -----
    Deterministic for a number of threads. The sum of the losses is differentiated, so each model's gradient is its
    own.

    References
    ----------
    ITO, arXiv:2305.18046; BoPITO, arXiv:2410.10605: losses of the Prinz models, mean square error.
    """
    _check_data(model, data, seeds)
    draw = _Batches(model, data, config, seeds)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(
        parameters, lr=config.learning_rate, betas=_ADAM_BETAS, foreach=True
    )
    averages = [parameter.detach().clone() for parameter in parameters]
    losses = torch.zeros(model.n_models, dtype=torch.float64)
    n_last = max(1, config.n_steps // 10)
    for step in range(config.n_steps):
        if config.is_rate_falling:
            rate = 0.5 * config.learning_rate * (1 + math.cos(math.pi * step / config.n_steps))
            for group in optimizer.param_groups:
                group["lr"] = rate
        per_model = draw.losses()
        optimizer.zero_grad()
        per_model.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        kept = min(config.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(averages, parameters, 1.0 - kept)  # type: ignore[arg-type]
        if step >= config.n_steps - n_last:
            losses += per_model.detach().to("cpu", torch.float64) / n_last
        if on_step is not None:
            on_step(step + 1)
    with torch.no_grad():
        for parameter, average in zip(parameters, averages, strict=True):
            parameter.copy_(average)
    return StateTraining(model=model, losses=losses)


class _Batches:
    """Batches of one training, each evaluated to one loss per model."""

    def __init__(
        self, model: StateModel, data: Tensor, config: StateTrainingConfig, seeds: Sequence[int]
    ) -> None:
        self.model, self.config = model, config
        self.data = data.expand(model.n_models, -1, -1, -1)
        device = data.device
        self.common = torch.Generator(device).manual_seed(config.seed)
        self.own = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self.alpha_bar = model.config.schedule.alpha_bar.to(device)
        self.longest = min(model.config.max_lag_steps, data.shape[2] - 1)
        self.is_conditional = model.config.kind != "equilibrium"
        if not self.is_conditional:
            # Frames of trajectories are samples too.
            self.data = self.data.flatten(1, 2).unsqueeze(2)

    def losses(self) -> Tensor:
        """Return the mean square error of each model on a new batch, (n_models,)."""
        config, model = self.config, self.model
        sizes = (config.n_diffusion_draws, config.n_lag_draws)
        n_diffusion_steps = model.config.n_diffusion_steps
        share = self._stratified(sizes[0])
        steps = (share * n_diffusion_steps).long().clamp(max=n_diffusion_steps - 1) + 1
        lags = self._lags(sizes[1])
        current, following, noise = self._pairs(lags, sizes)
        alpha_bar = self.alpha_bar[steps].view(1, -1, 1, 1)
        noised = (alpha_bar.sqrt().to(noise.dtype)) * following
        noised = noised + (1 - alpha_bar).sqrt().to(noise.dtype) * noise
        condition = weight = None
        if self.is_conditional:
            broadcast = lags.view(1, 1, -1)
            condition = model.condition(current, broadcast)
            weight = model.weight(broadcast)
        predicted = model.noise(noised, steps.view(1, -1, 1), condition=condition, weight=weight)
        return (predicted - noise).square().flatten(1).mean(dim=1)

    def _stratified(self, n: int) -> Tensor:
        """Return ``n`` values in [0, 1), one from each part of length 1/n."""
        device = self.data.device
        jitter = torch.rand(n, generator=self.common, dtype=torch.float64, device=device)
        return (torch.arange(n, device=device) + jitter) / n

    def _lags(self, n: int) -> Tensor:
        if not self.is_conditional:
            return torch.zeros(n, dtype=torch.int64, device=self.data.device)
        share = self._stratified(n)
        if self.config.lag_law == "uniform":
            lags = (share * self.longest).long() + 1
        else:
            lags = torch.exp(share * math.log(self.longest + 1)).long()
        return lags.clamp(1, self.longest)

    def _pairs(self, lags: Tensor, sizes: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return current states, following states and noise, each (n_models, *sizes, n_dims)."""
        n_models, n_trajectories, n_frames, n_dims = self.data.shape
        device, dtype = self.data.device, self.data.dtype
        shares = torch.stack(
            [
                torch.rand(2, *sizes, generator=g, dtype=torch.float64, device=device)
                for g in self.own
            ]
        )
        trajectory = (shares[:, 0] * n_trajectories).long().clamp(max=n_trajectories - 1)
        n_starts = n_frames - lags
        start = torch.minimum((shares[:, 1] * n_starts).long(), n_starts - 1)
        models = torch.arange(n_models, device=device).view(-1, 1, 1)
        current = self.data[models, trajectory, start]
        following = self.data[models, trajectory, start + lags]
        noise = torch.stack(
            [torch.randn(*sizes, n_dims, generator=g, dtype=dtype, device=device) for g in self.own]
        )
        return current, following, noise


def _check_data(model: StateModel, data: Tensor, seeds: Sequence[int]) -> None:
    n_dims = model.config.n_dims
    check_shape("data", data, ("n_models", "n_trajectories", "n_frames", n_dims))
    if data.shape[0] not in (1, model.n_models):
        raise ValueError(f"data: expected those of {model.n_models} models, got {data.shape[0]}")
    if len(seeds) != model.n_models:
        raise ValueError(f"seeds: expected {model.n_models}, one per model, got {len(seeds)}")
    check_at_least("data: n_trajectories", data.shape[1], 1)
    shortest = 1 if model.config.kind == "equilibrium" else 2
    check_at_least("data: n_frames", data.shape[2], shortest)
    if not bool(torch.isfinite(data).all()):
        raise ValueError("data: expected finite values, got others")
