"""Prinz: the error of correlations against the number of trajectories, for ITO and BoPITO."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from tito_fast.models.state.model import StateModel
from tito_fast.reproduce.factor import data_factor
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
from tito_fast.reproduce.scales import BopitoSizes, NetworkSizes, PrinzScale
from tito_fast.systems.equilibrium import equilibrium_cdf, equilibrium_samples
from tito_fast.systems.potentials import PRINZ

SHORT_LAGS_END: Final = 50
"""Lags in frames up to this are short: below a third of the slowest implied time of 167."""
LONG_LAGS_START: Final = 500
"""Lags in frames from this on are long: above three slowest times, less than 5 % of the correlation is left."""

# 5 % critical value of the Kolmogorov-Smirnov statistic times the square root of the number of samples.
_KS_5_PERCENT: Final = 1.358
_EQUILIBRIUM_FACTOR: Final = 10


def ranges_of(lags: Sequence[int]) -> dict[str, NDArray[np.bool_]]:
    """Return which lags are short, medium and long; ranges without lags are left out."""
    values = np.asarray(lags)
    ranges = {
        "short": values <= SHORT_LAGS_END,
        "medium": (values > SHORT_LAGS_END) & (values < LONG_LAGS_START),
        "long": values >= LONG_LAGS_START,
    }
    return {name: chosen for name, chosen in ranges.items() if chosen.any()}


def run_prinz_bopito(scale: PrinzScale, seeds: Sequence[int], say: Say) -> dict[str, Any]:
    """Return the results of ``prinz-bopito``.

    One prior per seed, trained on equilibrium samples; trajectories from equilibrium, of which the first n are taken;
    one ITO and one BoPITO model per seed and n. Correlations are those of one-step samples from equilibrium starts,
    of several steps for an ITO model beyond its longest lag.

    Parameters
    ----------
    scale : PrinzScale
    seeds : sequence of int
        One model of each kind for each.
    say : callable
        Gets a sentence on what is being done.

    Returns
    -------
    dict
        For JSON.
    """
    network, sizes = scale.network, scale.bopito
    say(f"prior: {len(seeds)} equilibrium models")
    prior = train_prior(network, seeds)
    n_most = max(*sizes.n_trajectories_ito, *sizes.n_trajectories_bopito)
    say(f"{n_most} trajectories per seed of {sizes.n_frames} frames")
    pool = np.stack(
        [prinz_trajectories(n_most, sizes.n_frames, seed=seed_of(seed, 6)) for seed in seeds]
    )
    probe = Probe.of(network.n_starts, seed=seed_of(seeds[0], 7))
    exact = exact_correlation(sizes.lags)
    results: dict[str, Any] = {"correlations": {"exact": exact.tolist(), "ito": {}, "bopito": {}}}
    errors: dict[str, dict[int, NDArray[np.float64]]] = {"ito": {}, "bopito": {}}
    model = prior
    for kind, numbers in (
        ("bopito", sizes.n_trajectories_bopito),
        ("ito", sizes.n_trajectories_ito),
    ):
        for number in numbers:
            say(f"{kind}, {number} trajectories")
            model = train_transitions(
                network,
                "bopito" if kind == "bopito" else "ito",
                pool[:, :number],
                max_lag_steps=sizes.max_lag_steps,
                n_steps=sizes.n_steps,
                seeds=seeds,
                prior=prior if kind == "bopito" else None,
                decay=sizes.decay if kind == "bopito" else None,
            )
            found = probe.correlations(model, sizes.lags, n_steps=network.n_solver_steps)
            results["correlations"][kind][str(number)] = found.tolist()
            errors[kind][number] = np.abs(found - exact)
            if kind == "bopito" and number == numbers[-1]:
                say("equilibrium at ten times the longest lag")
                results["equilibrium"] = _equilibrium(model, prior, network, sizes, seeds)
    results |= _summary(sizes, errors)
    return results


def _summary(
    sizes: BopitoSizes, errors: dict[str, dict[int, NDArray[np.float64]]]
) -> dict[str, Any]:
    """Return mean errors of each range of lags, per number of trajectories and seed, and the factors k(n)."""
    ranges = ranges_of(sizes.lags)
    by_range = {
        kind: {
            str(number): {
                name: values[:, chosen].mean(axis=1).tolist() for name, chosen in ranges.items()
            }
            for number, values in of_kind.items()
        }
        for kind, of_kind in errors.items()
    }
    factors = {}
    for name, chosen in ranges.items():
        other = np.stack(
            [errors["ito"][n][:, chosen].mean(axis=1) for n in sizes.n_trajectories_ito], axis=1
        )
        factors[name] = [
            data_factor(
                number,
                errors["bopito"][number][:, chosen].mean(axis=1),
                sizes.n_trajectories_ito,
                other,
            ).to_dict()
            for number in sizes.n_trajectories_bopito
        ]
    return {
        "lags_frames": list(sizes.lags),
        "ranges": {name: np.asarray(sizes.lags)[c].tolist() for name, c in ranges.items()},
        "slowest_timescale_frames": slowest_timescale(),
        "mean_errors": by_range,
        "factors": factors,
        "published_factor": 10,
    }


def _equilibrium(
    model: StateModel,
    prior: StateModel,
    network: NetworkSizes,
    sizes: BopitoSizes,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Compare samples of BoPITO at ten times the longest lag with the exact density and with the prior."""
    n, n_models = sizes.n_ks_samples, len(seeds)
    generator = torch.Generator().manual_seed(seed_of(seeds[0], 8))
    noise, other_noise, third_noise = torch.randn(3, n_models, n, 1, generator=generator).unbind()
    starts = equilibrium_samples(PRINZ, n, seed=seed_of(seeds[0], 9)).astype(np.float32)
    lag = _EQUILIBRIUM_FACTOR * sizes.max_lag_steps
    current = torch.from_numpy(starts).view(1, n, 1)
    n_steps = network.n_solver_steps
    sampled = model.sample(noise, current=current, lag_steps=lag, n_steps=n_steps)[..., 0].numpy()
    of_prior = prior.sample(other_noise, n_steps=n_steps)[..., 0].numpy()
    of_prior_again = prior.sample(third_noise, n_steps=n_steps)[..., 0].numpy()
    between = [_ks_two(a, b) for a, b in zip(sampled, of_prior, strict=True)]
    critical = _KS_5_PERCENT * float(np.sqrt(2 / n))
    return {
        "lag_frames": lag,
        "n_samples": n,
        "decay_to_the_lag": float(model.decay[0]) ** lag,
        "ks_bopito_to_exact": [_ks_exact(values) for values in sampled],
        "ks_prior_to_exact": [_ks_exact(values) for values in of_prior],
        "ks_bopito_to_prior": between,
        "ks_prior_to_prior": [_ks_two(a, b) for a, b in zip(of_prior, of_prior_again, strict=True)],
        "critical_5_percent_two_samples": critical,
        "critical_5_percent_one_sample": _KS_5_PERCENT / float(np.sqrt(n)),
        "n_models_below_critical": int(sum(value < critical for value in between)),
        "histogram": _histogram(sampled, of_prior),
    }


def _ks_exact(samples: NDArray[np.floating]) -> float:
    """Return the largest distance between the distribution function of samples and the exact one."""
    exact = equilibrium_cdf(PRINZ, np.sort(samples).astype(np.float64))
    steps = np.arange(len(samples) + 1) / len(samples)
    return float(max((steps[1:] - exact).max(), (exact - steps[:-1]).max()))


def _ks_two(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Return the largest distance between the distribution functions of two sets of samples."""
    points = np.concatenate((a, b))
    of_a = np.searchsorted(np.sort(a), points, side="right") / len(a)
    of_b = np.searchsorted(np.sort(b), points, side="right") / len(b)
    return float(np.abs(of_a - of_b).max())


def _histogram(
    sampled: NDArray[np.floating], of_prior: NDArray[np.floating]
) -> dict[str, list[float]]:
    edges = np.linspace(-1.2, 1.2, 97)
    width = edges[1] - edges[0]
    exact = np.diff(equilibrium_cdf(PRINZ, edges)) / width
    return {
        "centers": ((edges[1:] + edges[:-1]) / 2).tolist(),
        "exact": exact.tolist(),
        "bopito": (np.histogram(sampled, edges)[0] / (sampled.size * width)).tolist(),
        "prior": (np.histogram(of_prior, edges)[0] / (of_prior.size * width)).tolist(),
    }
