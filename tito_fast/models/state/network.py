"""A multilayer perceptron on encodings, for several independent models at once.

Every parameter has a leading dimension of models, and products are batched over it: many small models train and sample
in one pass, at the speed of one large one.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from tito_fast.models.state.config import StateConfig


def encode(values: Tensor, *, n_features: int, length: float) -> Tensor:
    """Return cosines and sines of ``k π values / length``, k = 0 … n_features/2 − 1, in a new last dimension.

    Parameters
    ----------
    values : Tensor, any shape, floating
    n_features : int
        Even.
    length : float
        Half of the longest period.

    Returns
    -------
    Tensor, shape (*values.shape, n_features)
        All cosines, then all sines.

    References
    ----------
    BoPITO, arXiv:2410.10605, released code: ranks from 0, so that the first pair is constant.
    """
    ranks = torch.arange(n_features // 2, dtype=values.dtype, device=values.device)
    angles = values.unsqueeze(-1) * (ranks * (math.pi / length))
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class ModelLinear(nn.Module):
    """A linear layer of ``n_models`` models; a model's initial values follow from its generator alone."""

    def __init__(
        self, n_in: int, n_out: int, *, generators: Sequence[torch.Generator], has_bias: bool = True
    ) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(n_in)
        draws = [
            torch.empty(n_in + has_bias, n_out).uniform_(-bound, bound, generator=generator)
            for generator in generators
        ]
        drawn = torch.stack(draws)
        self.weight = nn.Parameter(drawn[:, :n_in].contiguous())
        self.bias = nn.Parameter(drawn[:, n_in:].contiguous()) if has_bias else None

    def forward(self, values: Tensor) -> Tensor:
        """Return (n_models, …, n_out) for ``values`` (n_models or 1, …, n_in)."""
        n_models = self.weight.shape[0]
        flat = values.reshape(values.shape[0], -1, values.shape[-1]).expand(n_models, -1, -1)
        product = (
            torch.bmm(flat, self.weight)
            if self.bias is None
            else torch.baddbmm(self.bias, flat, self.weight)
        )
        return product.view(n_models, *values.shape[1:-1], self.weight.shape[-1])


class StateNetwork(nn.Module):
    """The network of a `StateConfig` without its prior.

    The first layer acts on the concatenated encodings. It is kept in one part per input, whose results are summed, so
    that what is the same for many samples (the lag, the diffusion step) is multiplied once, and what the current
    state gives is kept over all solver steps.

    Parameters
    ----------
    config : StateConfig
    generators : sequence of torch.Generator, one per model
        For the initial values.
    """

    def __init__(self, config: StateConfig, *, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.config = config
        width, n_state = config.n_features, config.n_dims * config.n_state_features
        self.noised = ModelLinear(n_state, width, generators=generators)
        self.diffusion = ModelLinear(
            config.n_diffusion_features, width, generators=generators, has_bias=False
        )
        self.is_conditional = config.kind != "equilibrium"
        if self.is_conditional:
            self.current = ModelLinear(n_state, width, generators=generators, has_bias=False)
            self.lag = ModelLinear(
                config.n_lag_features, width, generators=generators, has_bias=False
            )
        widths = [width] * (config.n_layers - 1) + [config.n_dims]
        self.hidden = nn.ModuleList(
            ModelLinear(n_in, n_out, generators=generators) for n_in, n_out in pairwise(widths)
        )

    def condition(self, current: Tensor, lag_steps: Tensor) -> Tensor:
        """Return what the current states and lags add to the first layer.

        Parameters
        ----------
        current : Tensor, shape (n_models or 1, …, n_dims)
        lag_steps : Tensor, (n_models or 1, …) of sizes that broadcast with those of ``current``
            Frames, at most ``config.max_lag_steps``; not checked.

        Returns
        -------
        Tensor, shape (n_models, …, n_features)
        """
        config = self.config
        lags = encode(
            lag_steps.to(current.dtype),
            n_features=config.n_lag_features,
            length=float(config.max_lag_steps),
        )
        result: Tensor = self.current(self._encode_state(current)) + self.lag(lags)
        return result

    def forward(
        self, noised: Tensor, diffusion_step: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        """Return the output (n_models, …, n_dims) at the noised states.

        Parameters
        ----------
        noised : Tensor, shape (n_models or 1, …, n_dims)
        diffusion_step : Tensor, (1, …) of sizes that broadcast with those of ``noised``
        condition : Tensor or None
            Of `condition`; None for an equilibrium network.
        """
        config = self.config
        steps = encode(
            diffusion_step.to(noised.dtype),
            n_features=config.n_diffusion_features,
            length=float(config.n_diffusion_steps),
        )
        features = self.noised(self._encode_state(noised)) + self.diffusion(steps)
        if condition is not None:
            features = features + condition
        result: Tensor = features
        for layer in self.hidden:
            result = layer(functional.silu(result))
        return result

    def _encode_state(self, state: Tensor) -> Tensor:
        config = self.config
        encoded = encode(
            state - config.state_start,
            n_features=config.n_state_features,
            length=config.state_length,
        )
        return encoded.flatten(-2)
