"""How large each experiment is: sizes of networks, data and training at every scale."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

from tito_fast.types import NoiseScheduleName

Scale = Literal["quick", "default", "paper"]
SCALES: Final[tuple[Scale, ...]] = get_args(Scale)


@dataclass(frozen=True, kw_only=True)
class NetworkSizes:
    """Networks and their training, in all three Prinz experiments.

    ``n_solver_steps`` is that of DPM-Solver++(2M), 0 for ancestral sampling; a batch of a model is
    ``n_draws × n_draws`` pairs.
    """

    n_features: int
    n_encoding: int
    n_diffusion_steps: int
    noise_schedule: NoiseScheduleName
    n_solver_steps: int
    learning_rate: float
    is_rate_falling: bool
    n_draws: int
    n_prior_steps: int
    n_prior_draws: int
    n_prior_samples: int
    n_starts: int
    """States from which correlations are computed."""


@dataclass(frozen=True, kw_only=True)
class BopitoSizes:
    """Data of ``prinz-bopito``."""

    n_frames: int
    max_lag_steps: int
    lags: tuple[int, ...]
    n_trajectories_bopito: tuple[int, ...]
    n_trajectories_ito: tuple[int, ...]
    decay: float
    n_steps: int
    n_ks_samples: int


@dataclass(frozen=True, kw_only=True)
class DataSizes:
    """Data of ``prinz-data``."""

    n_frames: int
    max_lag_steps: int
    lags: tuple[int, ...]
    n_trajectories: tuple[int, ...]
    n_steps: int


@dataclass(frozen=True, kw_only=True)
class InterpolateSizes:
    """Data of ``prinz-interpolate``."""

    n_trajectories: int
    max_lag_steps: int
    decay_lag_steps: int
    held_back: tuple[int, ...]
    n_replicates: int
    n_steps: int


@dataclass(frozen=True, kw_only=True)
class PrinzScale:
    """Everything that a scale decides."""

    network: NetworkSizes
    bopito: BopitoSizes
    data: DataSizes
    interpolate: InterpolateSizes


_LAGS: Final = (10, 25, 50, 75, 100, 200, 300, 500, 750, 1000)

PRINZ_SCALES: Final[dict[Scale, PrinzScale]] = {
    "quick": PrinzScale(
        network=NetworkSizes(
            n_features=16,
            n_encoding=16,
            n_diffusion_steps=100,
            noise_schedule="polynomial",
            n_solver_steps=10,
            learning_rate=1e-2,
            is_rate_falling=True,
            n_draws=8,
            n_prior_steps=20,
            n_prior_draws=8,
            n_prior_samples=1000,
            n_starts=256,
        ),
        bopito=BopitoSizes(
            n_frames=120,
            max_lag_steps=100,
            lags=(10, 75, 600),
            n_trajectories_bopito=(4, 8, 16),
            n_trajectories_ito=(4, 8, 16),
            decay=0.994,
            n_steps=10,
            n_ks_samples=500,
        ),
        data=DataSizes(
            n_frames=60, max_lag_steps=50, lags=(10, 25, 50), n_trajectories=(8,), n_steps=10
        ),
        interpolate=InterpolateSizes(
            n_trajectories=50,
            max_lag_steps=100,
            decay_lag_steps=50,
            held_back=(150,),
            n_replicates=3,
            n_steps=10,
        ),
    ),
    "default": PrinzScale(
        network=NetworkSizes(
            n_features=64,
            n_encoding=64,
            n_diffusion_steps=500,
            noise_schedule="polynomial",
            n_solver_steps=80,
            learning_rate=1e-2,
            is_rate_falling=True,
            n_draws=24,
            n_prior_steps=12_000,
            n_prior_draws=32,
            n_prior_samples=100_000,
            n_starts=2048,
        ),
        bopito=BopitoSizes(
            n_frames=2000,
            max_lag_steps=1000,
            lags=_LAGS,
            n_trajectories_bopito=(10, 30, 100),
            n_trajectories_ito=(10, 30, 100, 300, 1000),
            decay=0.994,
            n_steps=6000,
            n_ks_samples=20_000,
        ),
        data=DataSizes(
            n_frames=300,
            max_lag_steps=200,
            lags=(5, 10, 25, 50, 100, 150, 200),
            n_trajectories=(30, 300),
            n_steps=1200,
        ),
        interpolate=InterpolateSizes(
            n_trajectories=1000,
            max_lag_steps=200,
            decay_lag_steps=100,
            held_back=(250, 300, 400, 600),
            n_replicates=8,
            n_steps=1500,
        ),
    ),
    "paper": PrinzScale(
        network=NetworkSizes(
            n_features=256,
            n_encoding=256,
            n_diffusion_steps=500,
            noise_schedule="sigmoid",
            n_solver_steps=0,
            learning_rate=1e-3,
            is_rate_falling=False,
            n_draws=1448,
            n_prior_steps=70_000,
            n_prior_draws=1448,
            n_prior_samples=10_000_000,
            n_starts=50_000,
        ),
        bopito=BopitoSizes(
            n_frames=2000,
            max_lag_steps=1000,
            lags=_LAGS,
            n_trajectories_bopito=(10, 30, 100, 300, 1000),
            n_trajectories_ito=(10, 30, 100, 300, 1000, 3000, 10_000, 30_000),
            decay=0.994,
            n_steps=70_000,
            n_ks_samples=50_000,
        ),
        data=DataSizes(
            n_frames=300,
            max_lag_steps=200,
            lags=(5, 10, 25, 50, 100, 150, 200),
            n_trajectories=(30, 100, 300, 1000, 3000),
            n_steps=70_000,
        ),
        interpolate=InterpolateSizes(
            n_trajectories=50_000,
            max_lag_steps=200,
            decay_lag_steps=100,
            held_back=(250, 300, 400, 600),
            n_replicates=20,
            n_steps=70_000,
        ),
    ),
}
"""The published sizes are those of the released code: 256 wide, 500 steps of the sigmoid schedule, ancestral sampling,
2,097,152 pairs to a batch, Adam at 1e-3, λ̂ = 0.994. Its 1,500 epochs of 1e8 frames are about 70,000 steps."""
