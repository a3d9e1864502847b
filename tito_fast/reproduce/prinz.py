"""What the Prinz experiments share: trajectories, exact answers, models, and the error of their correlations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tito_fast.models.state.config import StateConfig, StateKind
from tito_fast.models.state.model import StateModel
from tito_fast.reproduce.scales import NetworkSizes
from tito_fast.systems.equilibrium import equilibrium_cdf, equilibrium_samples
from tito_fast.systems.potentials import PRINZ
from tito_fast.systems.spectrum import TransferSpectrum, transfer_spectrum
from tito_fast.training.state_training import StateTrainingConfig, train_state_model
from tito_fast.validation import check_at_least

FloatArray = NDArray[np.floating]
Say = Callable[[str], None]

FRAME_TIME: Final = PRINZ.time_step * PRINZ.steps_per_frame
"""Time units between two frames."""

# Seeds of different uses of one experiment's seed lie apart by this.
_SEED_STRIDE: Final = 1_000_003
_N_CDF_NODES: Final = 20_001


def seed_of(seed: int, use: int) -> int:
    """Return the seed of a numbered use within the experiment of ``seed``."""
    return seed * _SEED_STRIDE + use


@cache
def frame_spectrum() -> TransferSpectrum:
    """Return the exact transfer operator of one frame."""
    return transfer_spectrum(PRINZ, lag_time=FRAME_TIME)


@cache
def _cumulative_transitions() -> NDArray[np.float64]:
    """Return row i + the distribution function of the cell one frame after cell i, as one rising array."""
    probabilities = frame_spectrum().transition_probabilities(FRAME_TIME)
    cumulative = np.cumsum(probabilities, axis=1)
    cumulative /= cumulative[:, -1:]
    return np.asarray(cumulative + np.arange(len(cumulative))[:, None]).ravel()


def prinz_trajectories(
    n_trajectories: int, n_frames: int, *, seed: int, start: FloatArray | None = None
) -> NDArray[np.float32]:
    """Draw trajectories from the exact transition probabilities of one frame.

    Parameters
    ----------
    n_trajectories, n_frames : int
    seed : int
    start : ndarray, shape (n_trajectories,), or None
        First frames; None: drawn from equilibrium.

    Returns
    -------
    ndarray, shape (n_trajectories, n_frames, 1), float32

    Notes
    -----
    A chain on the cells of the discretized operator, uniform within a cell (0.003 wide; a frame moves by 0.1). There is
    no error of a time step, and the correlations that models are compared with are those of the very chain.
    """
    check_at_least("n_trajectories", n_trajectories, 1)
    rng = np.random.default_rng(seed)
    spectrum = frame_spectrum()
    centers = spectrum.centers[:, 0]
    width = centers[1] - centers[0]
    n_cells = len(centers)
    if start is None:
        cells = rng.choice(n_cells, size=n_trajectories, p=spectrum.stationary)
    else:
        cells = np.clip(np.rint((start - centers[0]) / width), 0, n_cells - 1).astype(np.int64)
    transitions = _cumulative_transitions()
    visited = np.empty((n_frames, n_trajectories), dtype=np.int64)
    for frame in range(n_frames):
        visited[frame] = cells
        found = np.searchsorted(transitions, cells + rng.random(n_trajectories), side="right")
        cells = np.clip(found - cells * n_cells, 0, n_cells - 1)
    jitter = rng.random(visited.shape, dtype=np.float32) - np.float32(0.5)
    positions = centers[visited].astype(np.float32) + np.float32(width) * jitter
    return np.ascontiguousarray(positions.T)[..., None]


def exact_correlation(lags: Sequence[float]) -> NDArray[np.float64]:
    """Return the equilibrium autocorrelation of x at lags in frames."""
    spectrum = frame_spectrum()
    times = FRAME_TIME * np.asarray(lags, dtype=np.float64)
    return spectrum.correlation(spectrum.centers[:, 0], times)


def slowest_timescale() -> float:
    """Return the exact slowest implied time in frames."""
    return float(frame_spectrum().timescales[0]) / FRAME_TIME


def state_config(
    sizes: NetworkSizes,
    kind: StateKind,
    *,
    max_lag_steps: int = 0,
    prior: StateConfig | None = None,
) -> StateConfig:
    """Return the configuration of a network of these sizes."""
    return StateConfig(
        kind=kind,
        n_features=sizes.n_features,
        n_state_features=sizes.n_encoding,
        n_lag_features=sizes.n_encoding,
        n_diffusion_features=sizes.n_encoding,
        max_lag_steps=max_lag_steps,
        n_diffusion_steps=sizes.n_diffusion_steps,
        noise_schedule=sizes.noise_schedule,
        prior=prior,
    )


def train_prior(sizes: NetworkSizes, seeds: Sequence[int]) -> StateModel:
    """Train one equilibrium model per seed on exact equilibrium samples of its own."""
    samples = [
        equilibrium_samples(PRINZ, sizes.n_prior_samples, seed=seed_of(seed, 1)) for seed in seeds
    ]
    data = torch.from_numpy(np.stack(samples).astype(np.float32)).unsqueeze(2)
    model = StateModel(state_config(sizes, "equilibrium"), seeds=[seed_of(s, 2) for s in seeds])
    training = StateTrainingConfig(
        n_steps=sizes.n_prior_steps,
        n_diffusion_draws=sizes.n_prior_draws,
        n_lag_draws=sizes.n_prior_draws,
        learning_rate=sizes.learning_rate,
        is_rate_falling=sizes.is_rate_falling,
    )
    return train_state_model(model, data, training, seeds=[seed_of(s, 3) for s in seeds]).model


def train_transitions(
    sizes: NetworkSizes,
    kind: StateKind,
    trajectories: FloatArray,
    *,
    max_lag_steps: int,
    n_steps: int,
    seeds: Sequence[int],
    prior: StateModel | None = None,
    decay: float | Tensor | None = None,
) -> StateModel:
    """Train an ITO or BoPITO model per seed on its trajectories (n_seeds, n_trajectories, n_frames, 1)."""
    config = state_config(
        sizes,
        kind,
        max_lag_steps=max_lag_steps,
        prior=None if prior is None else prior.config,
    )
    model = StateModel(config, seeds=[seed_of(s, 4) for s in seeds], prior=prior, decay=decay)
    training = StateTrainingConfig(
        n_steps=n_steps,
        n_diffusion_draws=sizes.n_draws,
        n_lag_draws=sizes.n_draws,
        learning_rate=sizes.learning_rate,
        is_rate_falling=sizes.is_rate_falling,
    )
    data = torch.from_numpy(np.ascontiguousarray(trajectories, dtype=np.float32))
    return train_state_model(model, data, training, seeds=[seed_of(s, 5) for s in seeds]).model


@dataclass(frozen=True, eq=False)
class Probe:
    """States at equilibrium and noise from which the correlations of every model are computed.

    Both come from one scrambled Sobol sequence, so that a model's correlation has little noise of its own, and two
    models see the same.

    Parameters
    ----------
    current, noise : Tensor, shape (1, n_starts, 1), float32
    """

    current: Tensor
    noise: Tensor

    @classmethod
    def of(cls, n_starts: int, *, seed: int) -> "Probe":
        """Return the probe of a seed; ``n_starts`` a power of two fills the square best."""
        engine = torch.quasirandom.SobolEngine(2, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
        uniform = engine.draw(n_starts, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
        ((low, high),) = PRINZ.bounds
        nodes = np.linspace(low, high, _N_CDF_NODES)
        states = np.interp(uniform[:, 0].numpy(), equilibrium_cdf(PRINZ, nodes), nodes)
        noise = torch.special.ndtri(uniform[:, 1])
        return cls(
            current=torch.from_numpy(states).float().view(1, -1, 1),
            noise=noise.float().view(1, -1, 1),
        )

    def correlation(
        self,
        model: StateModel,
        lag_steps: int,
        *,
        n_steps: int,
        interpolation: float | None = None,
    ) -> NDArray[np.float64]:
        """Return the correlation of x that each model gives at a lag, (n_models,).

        ``C(N) = ⟨(x_0 − x̄_0)(x_N − x̄_N)⟩ / ⟨(x_0 − x̄_0)²⟩``.
        """
        following = model.sample(
            self.noise,
            current=self.current,
            lag_steps=lag_steps,
            interpolation=interpolation,
            n_steps=n_steps,
        )
        start = self.current.double() - self.current.double().mean(dim=1, keepdim=True)
        end = following.double() - following.double().mean(dim=1, keepdim=True)
        covariance = (start * end).mean(dim=(1, 2))
        return np.asarray((covariance / start.square().mean()).numpy())

    def correlations(
        self, model: StateModel, lags: Sequence[int], *, n_steps: int
    ) -> NDArray[np.float64]:
        """Return `correlation` at every lag, (n_models, n_lags)."""
        return np.stack([self.correlation(model, lag, n_steps=n_steps) for lag in lags], axis=1)
