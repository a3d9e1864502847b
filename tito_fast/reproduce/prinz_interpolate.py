"""Prinz: a lag that no trajectory is long enough for, found again from its correlation alone."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from tito_fast.models.state.model import StateModel
from tito_fast.reproduce.prinz import (
    Probe,
    Say,
    exact_correlation,
    prinz_trajectories,
    seed_of,
    slowest_timescale,
    train_prior,
    train_transitions,
)
from tito_fast.reproduce.scales import NetworkSizes, PrinzScale
from tito_fast.training.state_decay import fitted_decay

_N_GRID: Final = 12
# The search goes from a lag that was seen to one at which nothing is left.
_GRID_ENDS: Final = (0.5, 8.0)
_TWO_SIDED_95: Final = 1.959964


def run_prinz_interpolate(scale: PrinzScale, seeds: Sequence[int], say: Say) -> dict[str, Any]:
    """Return the results of ``prinz-interpolate``.

    Trajectories are one frame longer than N_max, so that no longer lag is in the data. The first seed's data give the
    decay (slowest implied time) and a BoPITO model; for the interval, both are found again from trajectories drawn
    with replacement. Then N_int is fitted to the exact correlation at each held-back lag:
    ``s = s_eq + λ̂^N_int s_dyn(·, N_max)``.

    Parameters
    ----------
    scale : PrinzScale
    seeds : sequence of int
        The first decides; replicates need no more.
    say : callable

    Returns
    -------
    dict
        For JSON. Per held-back lag N: the fitted N_int with a 95 % interval, normal in ln N_int with the standard
        deviation of the replicates, and whether N lies within.
    """
    network, sizes = scale.network, scale.interpolate
    n_models = sizes.n_replicates + 1
    base = seeds[0]
    longest = sizes.max_lag_steps
    say(f"{sizes.n_trajectories} trajectories of {longest + 1} frames")
    trajectories = prinz_trajectories(sizes.n_trajectories, longest + 1, seed=seed_of(base, 6))
    rng = np.random.default_rng(seed_of(base, 11))
    drawn = rng.integers(sizes.n_trajectories, size=(n_models, sizes.n_trajectories))
    drawn[0] = np.arange(sizes.n_trajectories)
    data = trajectories[drawn]
    decays = np.array([fitted_decay(own, lag_steps=sizes.decay_lag_steps) for own in data])
    say("prior")
    prior = train_prior(network, [base]).select([0] * n_models)
    say(f"{n_models} BoPITO models, one of them of the data as they are")
    model = train_transitions(
        network,
        "bopito",
        data,
        max_lag_steps=longest,
        n_steps=sizes.n_steps,
        seeds=[seed_of(base, 12) + index for index in range(n_models)],
        prior=prior,
        decay=torch.from_numpy(decays),
    )
    say("correlations over N_int")
    low, high = (end * longest for end in _GRID_ENDS)
    grid = np.geomspace(low, high, _N_GRID)
    curves = _curves(model, grid, longest, network, seed_of(base, 7))
    targets = exact_correlation(sizes.held_back)
    fits = [
        _fit(grid, curves, float(target)) | {"held_back": lag}
        for lag, target in zip(sizes.held_back, targets, strict=True)
    ]
    for fit in fits:
        fit["is_recovered"] = bool(fit["low"] <= fit["held_back"] <= fit["high"])
    times = -1.0 / np.log(decays)
    return {
        "max_lag_frames": longest,
        "n_trajectories": sizes.n_trajectories,
        "timescale_frames": {
            "exact": slowest_timescale(),
            "fitted": float(times[0]),
            "replicates": times[1:].tolist(),
        },
        "grid_n_int": grid.tolist(),
        "model_correlations": curves.tolist(),
        "exact_correlations": exact_correlation(grid.tolist()).tolist(),
        "fits": fits,
    }


def _curves(
    model: StateModel, grid: NDArray[np.float64], longest: int, network: NetworkSizes, seed: int
) -> NDArray[np.float64]:
    """Return the correlation of each model at each N_int, (n_models, n_grid)."""
    probe = Probe.of(network.n_starts, seed=seed)
    return np.stack(
        [
            probe.correlation(
                model, longest, interpolation=float(n_int), n_steps=network.n_solver_steps
            )
            for n_int in grid
        ],
        axis=1,
    )


def _fit(
    grid: NDArray[np.float64], curves: NDArray[np.float64], target: float
) -> dict[str, float | int | bool]:
    """Return N_int of the first model and its interval from the others."""
    found = np.array([root_on_grid(grid, curve, target) for curve in curves])
    replicates = np.log(found[1:])
    spread = float(np.std(replicates, ddof=1))
    return {
        "target": target,
        "n_int": float(found[0]),
        "low": float(found[0] * np.exp(-_TWO_SIDED_95 * spread)),
        "high": float(found[0] * np.exp(_TWO_SIDED_95 * spread)),
        "n_replicates_at_the_end": int(np.sum((found == grid[0]) | (found == grid[-1]))),
    }


def root_on_grid(grid: NDArray[np.float64], curve: NDArray[np.float64], target: float) -> float:
    """Return where a falling curve first reaches a value, linear in ln grid; an end if it does not.

    Parameters
    ----------
    grid : ndarray, shape (n,), rising, above zero
    curve : ndarray, shape (n,)
    target : float

    Returns
    -------
    float
    """
    below = np.nonzero(curve <= target)[0]
    if not len(below):
        return float(grid[-1])
    after = int(below[0])
    if after == 0:
        return float(grid[0])
    share = (curve[after - 1] - target) / (curve[after - 1] - curve[after])
    return float(grid[after - 1] * (grid[after] / grid[after - 1]) ** share)
