"""Models of low-dimensional states: their noise prediction, and samples of it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tito_fast.flows.bopito import capped_lag, check_decay, dynamic_weight, separate
from tito_fast.models.state.config import StateConfig
from tito_fast.models.state.network import StateNetwork
from tito_fast.solvers.ddpm import ddpm_sample
from tito_fast.solvers.dpm_solver import dpm_solver_sample
from tito_fast.validation import check_at_least, check_shape


class StateModel(nn.Module):
    """Independent models of one `StateConfig`, side by side in a leading dimension.

    Parameters
    ----------
    config : StateConfig
    seeds : sequence of int
        One per model, for its initial weights.
    prior : StateModel or None
        Of as many models, for kind ``bopito``; copied and frozen.
    decay : float, Tensor of shape (n_models,), or None
        λ̂ per frame, for kind ``bopito``: given, or fitted to data; where training started if it is learned.

    Raises
    ------
    ValueError
        If there is no model, or prior and decay are not those that the kind needs.

    Notes
    -----
    Noise is predicted as ``noised + network`` by equilibrium and ITO models, since noised states become noise; as
    ``prior + decay^lag · network`` by BoPITO models. A learned decay is ``exp(−1 / exp(log_timescale))``, between 0
    and 1 whatever training does.

    References
    ----------
    BoPITO, arXiv:2410.10605; ITO, arXiv:2305.18046.
    """

    log_timescale: Tensor | None

    def __init__(
        self,
        config: StateConfig,
        *,
        seeds: Sequence[int],
        prior: "StateModel | None" = None,
        decay: float | Tensor | None = None,
    ) -> None:
        super().__init__()
        check_at_least("seeds", len(seeds), 1)
        self.config = config
        self.n_models = len(seeds)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.network = StateNetwork(config, generators=generators)
        self.prior: StateNetwork | None = None
        if config.kind == "bopito":
            self._add_prior(prior, decay)
        elif prior is not None or decay is not None:
            raise ValueError(f"prior: expected none, nor a decay, for kind {config.kind}")
        else:
            self.log_timescale = None

    def _add_prior(self, prior: "StateModel | None", decay: float | Tensor | None) -> None:
        if prior is None or prior.config != self.config.prior or prior.n_models != self.n_models:
            raise ValueError(f"prior: expected {self.n_models} models of config.prior")
        if decay is None:
            raise ValueError("decay: expected a value above 0 and below 1, got none")
        decays = torch.as_tensor(decay, dtype=torch.float64).expand(self.n_models).clone()
        check_decay(decays)
        generators = [torch.Generator()] * self.n_models
        self.prior = StateNetwork(prior.config, generators=generators)
        self.prior.load_state_dict(prior.network.state_dict())
        self.prior.requires_grad_(requires_grad=False)
        log_timescale = (-1.0 / decays.log()).log()
        if self.config.is_decay_learned:
            self.log_timescale = nn.Parameter(log_timescale)
        else:
            self.register_buffer("log_timescale", log_timescale)

    @property
    def decay(self) -> Tensor:
        """λ̂ of each model, (n_models,) float64.

        Raises
        ------
        ValueError
            If the kind has none.
        """
        if self.log_timescale is None:
            raise ValueError(f"decay: expected a model of kind bopito, got {self.config.kind}")
        return torch.exp(-torch.exp(-self.log_timescale))

    def condition(self, current: Tensor, lag_steps: Tensor) -> Tensor:
        """Return what `noise` needs of current states and lags; `StateNetwork.condition` with the lag capped."""
        return self.network.condition(current, capped_lag(lag_steps, self.config.max_lag_steps))

    def weight(self, lag_steps: Tensor) -> Tensor | None:
        """Return ``decay ** lag_steps`` (n_models, …) for lags (n_models or 1, …); None unless BoPITO."""
        if self.log_timescale is None:
            return None
        decay = self.decay.reshape(-1, *[1] * (lag_steps.ndim - 1))
        return dynamic_weight(lag_steps, decay)

    def noise(
        self,
        noised: Tensor,
        diffusion_step: Tensor,
        *,
        condition: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Return the predicted noise (n_models, …, n_dims).

        Parameters
        ----------
        noised : Tensor, shape (n_models, …, n_dims)
        diffusion_step : Tensor, (1, …) of sizes that broadcast with those of ``noised``
        condition : Tensor, shape (n_models, …, n_features), or None
            Of `condition`; None for an equilibrium model.
        weight : Tensor, (n_models, …) of sizes that broadcast with those of ``noised``, or None
            Of `weight`, for BoPITO models.
        """
        output: Tensor = self.network(noised, diffusion_step, condition)
        if self.prior is None:
            return noised + output
        with torch.no_grad():
            equilibrium = noised + self.prior(noised, diffusion_step)
        if weight is None:
            raise ValueError("weight: expected that of the lags for kind bopito, got none")
        return separate(equilibrium, output, weight.expand(output.shape[:-1]))

    @torch.no_grad()
    def sample(
        self,
        start_noise: Tensor,
        *,
        current: Tensor | None = None,
        lag_steps: int = 0,
        interpolation: float | Tensor | None = None,
        n_steps: int = 30,
        seed: int = 0,
    ) -> Tensor:
        """Return samples of equilibrium, or of the states a lag after ``current``.

        Parameters
        ----------
        start_noise : Tensor, shape (n_models or 1, n, n_dims)
            Standard normal values; one sample from each.
        current : Tensor, shape (n_models or 1, n, n_dims), or None
            For ITO and BoPITO models.
        lag_steps : int
            Frames. An ITO model takes lags above its longest as several steps: what is left over, then the longest
            ones; a BoPITO model takes every lag in one.
        interpolation : float or Tensor of shape (n_models,), or None
            Power of the decay in place of ``lag_steps`` (N_int of the paper), for BoPITO models.
        n_steps : int
            Steps of DPM-Solver++(2M); 0 draws ancestrally, in all diffusion steps.
        seed : int
            Of the noise that ancestral and repeated steps add.

        Returns
        -------
        Tensor, shape (n_models, n, n_dims)

        Raises
        ------
        ValueError
            If the arguments are not those that the kind needs.
        """
        self._check_sample(start_noise, current, lag_steps, interpolation)
        generator = torch.Generator(start_noise.device).manual_seed(seed)
        noise = start_noise.expand(self.n_models, -1, -1)
        lags = [lag_steps]
        if self.config.kind == "ito":
            longest = self.config.max_lag_steps
            n_more = math.ceil(lag_steps / longest) - 1
            lags = [lag_steps - n_more * longest] + [longest] * n_more
        for index, lag in enumerate(lags):
            if index:
                noise = torch.randn(
                    noise.shape, generator=generator, dtype=noise.dtype, device=noise.device
                )
            current = self._one_step(noise, current, lag, interpolation, n_steps, generator)
        # The loop ran once at least.
        return current if current is not None else noise

    def _one_step(
        self,
        noise: Tensor,
        current: Tensor | None,
        lag_steps: int,
        interpolation: float | Tensor | None,
        n_steps: int,
        generator: torch.Generator,
    ) -> Tensor:
        condition = weight = None
        if current is not None:
            lag = torch.full((1, 1), lag_steps, device=noise.device)
            condition = self.condition(current, lag)
            power = lag if interpolation is None else torch.as_tensor(interpolation)
            weight = self.weight(power.reshape(-1, 1))

        def field(x_d: Tensor, diffusion_step: float, evaluation: int) -> Tensor:  # noqa: ARG001
            step = torch.full((1, 1), diffusion_step, dtype=x_d.dtype, device=x_d.device)
            return self.noise(x_d, step, condition=condition, weight=weight)

        def normals(evaluation: int) -> Tensor:  # noqa: ARG001
            return torch.randn(
                noise.shape, generator=generator, dtype=noise.dtype, device=noise.device
            )

        schedule = self.config.schedule
        if n_steps:
            return dpm_solver_sample(field, noise, schedule=schedule, n_steps=n_steps)
        return ddpm_sample(field, noise, schedule=schedule, normals=normals)

    def _check_sample(
        self,
        start_noise: Tensor,
        current: Tensor | None,
        lag_steps: int,
        interpolation: float | Tensor | None,
    ) -> None:
        kind = self.config.kind
        check_shape("start_noise", start_noise, ("n_models", "n", self.config.n_dims))
        if interpolation is not None and kind != "bopito":
            raise ValueError(f"interpolation: expected none for kind {kind}, got {interpolation}")
        if kind == "equilibrium":
            if current is not None or lag_steps:
                raise ValueError("current: expected none, nor a lag, for an equilibrium model")
            return
        if current is None:
            raise ValueError(f"current: expected states for kind {kind}, got none")
        check_shape("current", current, ("n_models", start_noise.shape[1], self.config.n_dims))
        check_at_least("lag_steps", lag_steps, 1)

    def select(self, models: Sequence[int]) -> "StateModel":
        """Return a copy of some of the models, in the order given."""
        index = torch.as_tensor(models, dtype=torch.int64)
        return model_of_state(
            self.config, {name: tensor[index] for name, tensor in self.state_dict().items()}
        )


def model_of_state(config: StateConfig, state: dict[str, Tensor]) -> StateModel:
    """Return the model with the weights ``state``, each with a leading dimension of models.

    Raises
    ------
    ValueError
        If tensors are missing, unknown or of another shape.
    """
    if "network.noised.weight" not in state:
        raise ValueError("weights: expected those of a model of states, got none of its layers")
    n_models = state["network.noised.weight"].shape[0]
    seeds = [0] * n_models
    model = StateModel(
        config,
        seeds=seeds,
        prior=None if config.prior is None else StateModel(config.prior, seeds=seeds),
        decay=None if config.prior is None else 0.5,
    )
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise ValueError(
            f"weights: expected those of the configuration, got others: {detail}"
        ) from error
    return model
