"""Prinz: trajectories that start from a Boltzmann generator's samples against ones that all start in one state."""

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
    train_prior,
    train_transitions,
)
from tito_fast.reproduce.scales import NetworkSizes, PrinzScale

SINGLE_START: Final = 0.75
"""Where the published trajectories from one structure start."""

_PERCENTILES = (2.5, 97.5)
_N_RESAMPLES = 2000


def run_prinz_data(scale: PrinzScale, seeds: Sequence[int], say: Say) -> dict[str, Any]:
    """Return the results of ``prinz-data``.

    ITO models are trained on as many trajectories of the same length, started from samples of an equilibrium model or
    all at x = 0.75; what is compared is the error of their correlations over the lag.

    Parameters
    ----------
    scale : PrinzScale
    seeds : sequence of int
    say : callable

    Returns
    -------
    dict
        For JSON. ``gap`` is the error from one state less that from the generator's samples, per number of
        trajectories: its mean over seeds at every lag with a 95 % bootstrap interval, and the rise of the gap from
        the shortest to the longest lag.
    """
    network, sizes = scale.network, scale.data
    say(f"prior: {len(seeds)} equilibrium models")
    prior = train_prior(network, seeds)
    probe = Probe.of(network.n_starts, seed=seed_of(seeds[0], 7))
    exact = exact_correlation(sizes.lags)
    correlations: dict[str, dict[str, Any]] = {"generator": {}, "single": {}}
    gaps = {}
    for number in sizes.n_trajectories:
        starts = {
            "generator": _prior_samples(prior, number, network, seeds),
            "single": np.full((len(seeds), number), SINGLE_START),
        }
        errors = {}
        for name, start in starts.items():
            say(f"{name} starts, {number} trajectories")
            trajectories = np.stack(
                [
                    prinz_trajectories(number, sizes.n_frames, seed=seed_of(seed, 6), start=own)
                    for seed, own in zip(seeds, start, strict=True)
                ]
            )
            model = train_transitions(
                network,
                "ito",
                trajectories,
                max_lag_steps=sizes.max_lag_steps,
                n_steps=sizes.n_steps,
                seeds=seeds,
            )
            found = probe.correlations(model, sizes.lags, n_steps=network.n_solver_steps)
            correlations[name][str(number)] = found.tolist()
            errors[name] = np.abs(found - exact)
        gaps[str(number)] = _gap(errors["single"] - errors["generator"])
    return {
        "lags_frames": list(sizes.lags),
        "single_start": SINGLE_START,
        "correlations": {"exact": exact.tolist(), **correlations},
        "gap": gaps,
    }


def _prior_samples(
    prior: StateModel, n: int, network: NetworkSizes, seeds: Sequence[int]
) -> NDArray[np.float64]:
    noise = torch.stack(
        [
            torch.randn(n, 1, generator=torch.Generator().manual_seed(seed_of(seed, 10)))
            for seed in seeds
        ]
    )
    samples = prior.sample(noise, n_steps=network.n_solver_steps)
    return np.asarray(samples[..., 0].double().numpy())


def _gap(differences: NDArray[np.float64]) -> dict[str, Any]:
    """Return mean and interval of (n_seeds, n_lags), and of the last less the first lag."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(differences), size=(_N_RESAMPLES, len(differences)))
    means = differences[drawn].mean(axis=1)
    low, high = np.percentile(means, _PERCENTILES, axis=0)
    rises = means[:, -1] - means[:, 0]
    rise_low, rise_high = np.percentile(rises, _PERCENTILES)
    return {
        "mean": differences.mean(axis=0).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "rise": float((differences[:, -1] - differences[:, 0]).mean()),
        "rise_low": float(rise_low),
        "rise_high": float(rise_high),
    }
