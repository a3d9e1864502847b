"""How large the experiment with alanine dipeptide is, at every scale."""

from dataclasses import dataclass
from typing import Final

from tito_fast.reproduce.scales import Scale


@dataclass(frozen=True, kw_only=True)
class Ala2Scale:
    """Networks, training and data of ``ala2-bopito``; ITO and BoPITO have all of it in common.

    Parameters
    ----------
    n_features, n_embedding_layers, n_model_layers : int
        The equilibrium model has no embedding layers.
    batch_size, n_prior_steps, n_steps : int
    learning_rate, ema_decay : float
    n_windows : tuple of int
        Numbers of training trajectories, rising; the windows of a number are among those of the next.
    window_ps : float
        Length of a training trajectory.
    part_ps : float
        The store's trajectories are cut into parts of this length, of which every second one is held back.
    max_lag_ps : float
    relaxation_time_ps : float
        λ̂ is exp(−frame interval / this).
    lags_ps : tuple of float
        Lags of the correlations; the nearest multiples of the frame interval are taken.
    n_starts, n_ode_steps : int
        Held-back frames that are sampled from, and Euler steps of a sample.
    """

    n_features: int
    n_embedding_layers: int
    n_model_layers: int
    batch_size: int
    n_prior_steps: int
    n_steps: int
    learning_rate: float
    ema_decay: float
    n_windows: tuple[int, ...]
    window_ps: float
    part_ps: float
    max_lag_ps: float
    relaxation_time_ps: float
    lags_ps: tuple[float, ...]
    n_starts: int
    n_ode_steps: int


ALA2_SCALES: Final[dict[Scale, Ala2Scale]] = {
    "quick": Ala2Scale(
        n_features=8,
        n_embedding_layers=2,
        n_model_layers=1,
        batch_size=4,
        n_prior_steps=3,
        n_steps=3,
        learning_rate=1e-3,
        ema_decay=0.9,
        n_windows=(1, 2),
        window_ps=30.0,
        part_ps=60.0,
        max_lag_ps=20.0,
        relaxation_time_ps=20.0,
        lags_ps=(1.0, 5.0, 40.0),
        n_starts=8,
        n_ode_steps=2,
    ),
    "default": Ala2Scale(
        n_features=32,
        n_embedding_layers=2,
        n_model_layers=3,
        batch_size=32,
        n_prior_steps=4000,
        n_steps=900,
        learning_rate=2e-3,
        ema_decay=0.99,
        n_windows=(2, 8),
        window_ps=2000.0,
        part_ps=6000.0,
        max_lag_ps=1000.0,
        relaxation_time_ps=2500.0,
        lags_ps=(10.0, 50.0, 100.0, 300.0, 1000.0, 2000.0, 4000.0),
        n_starts=384,
        n_ode_steps=20,
    ),
    "paper": Ala2Scale(
        n_features=64,
        n_embedding_layers=2,
        n_model_layers=5,
        batch_size=1024,
        n_prior_steps=100_000,
        n_steps=50_000,
        learning_rate=1e-3,
        ema_decay=0.99,
        n_windows=(1, 2, 5, 10, 20),
        window_ps=25_000.0,
        part_ps=25_000.0,
        max_lag_ps=10_000.0,
        relaxation_time_ps=2500.0,
        lags_ps=(
            10.0,
            100.0,
            500.0,
            1000.0,
            2000.0,
            5000.0,
            10_000.0,
            15_000.0,
            20_000.0,
        ),
        n_starts=7500,
        n_ode_steps=50,
    ),
}
"""``paper`` has the widths, layers, batch, learning rate, N_max, λ̂ and starts of the released code, for 20 trajectories
of 50 ns, of which a half is held back."""
