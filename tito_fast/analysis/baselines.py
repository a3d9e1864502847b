"""What a metric is to be read beside: the noise floor of MD, and the score of an exact sampler.

A statistic takes two totals (:meth:`UnitSums.total`), of the reference first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.drawn_rollouts import DrawnRollouts, drawn_pairs, drawn_rollouts
from tito_fast.analysis.moments import weighted_moments
from tito_fast.analysis.resampling import Statistic
from tito_fast.analysis.series import Series
from tito_fast.analysis.unit_sums import UnitSums
from tito_fast.data.molecule import FloatArray, IntArray

N_DRAWS: Final = 20
"""Draws of an exact sampler, and ways to divide the reference."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MdFloor:
    """A metric of parts of the reference against each other.

    Parameters
    ----------
    halves : ndarray or None
        First half of each trajectory against the second; None if a trajectory is one unit.
    replicates : ndarray or None
        One half of the trajectories against the other half, mean size over up to 20 ways to divide
        them; None for one trajectory.
    """

    halves: FloatArray | None
    replicates: FloatArray | None

    @property
    def value(self) -> FloatArray | None:
        """The replicates, which do not share a start, where there are several; the halves otherwise."""
        return self.halves if self.replicates is None else self.replicates


def md_floor(statistic: Statistic, reference: UnitSums, *, seed: int = 0) -> MdFloor:
    """Return a metric of parts of the reference against each other.

    Parameters
    ----------
    statistic : callable
        Of two totals; its size counts, not its sign.
    reference : UnitSums
        With several units per trajectory (blocks), several trajectories, or both.
    seed : int
        For the ways to divide more than a few trajectories.

    Returns
    -------
    MdFloor
        NaN where a part is too short for the metric.

    Notes
    -----
    Each part has half of the frames, so a metric that falls with the number of frames is larger here
    than between two references of full length. Halves of pairs of frames share the pairs that cross the
    middle, at most one lag of them.
    """
    idx = reference.series_idx
    n_units = np.bincount(idx)
    n_units = n_units[n_units > 0]
    halves = replicates = None
    if (n_units >= 2).all():
        rank = np.concatenate([np.arange(count) for count in n_units])
        is_first = rank < np.repeat((n_units + 1) // 2, n_units)
        halves = _between(statistic, reference, is_first)
    trajectories = np.unique(idx)
    if len(trajectories) >= 2:
        parts = [
            _between(statistic, reference, np.isin(idx, trajectories[list(chosen)]))
            for chosen in _divisions(len(trajectories), seed=seed)
        ]
        replicates = np.asarray(np.mean(parts, axis=0))
    return MdFloor(halves=halves, replicates=replicates)


def ideal_static(
    statistic: Statistic,
    reference_total: FloatArray,
    *,
    n_frames: int,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> FloatArray:
    """Return what an exact sampler with as many frames as the model would score in a static metric.

    Frames are drawn independently from the reference's histogram, which here is the truth: its range
    is that of the bins, so that no drawn frame falls outside.

    Parameters
    ----------
    statistic : callable
        Of two totals.
    reference_total : ndarray, shape (..., n_bins)
        Counts; each row is a histogram of its own.
    n_frames : int
        Of the model, all replicas together.
    n_draws, seed : int

    Returns
    -------
    ndarray, float64
        Mean over draws.

    Raises
    ------
    ValueError
        If there is no frame.
    """
    if n_frames < 1:
        raise ValueError(f"n_frames: expected at least 1, got {n_frames}")
    rng = np.random.default_rng(seed)
    shares = reference_total / reference_total.sum(axis=-1, keepdims=True)
    draws = [
        statistic(reference_total, rng.multinomial(n_frames, shares).astype(np.float64))
        for _ in range(n_draws)
    ]
    return np.asarray(np.mean(draws, axis=0), dtype=np.float64)


def ideal_rollouts(
    score: Callable[[DrawnRollouts], float | FloatArray],
    n_frames: Sequence[int],
    *,
    lag_frames: int,
    n_replicas: int,
    n_steps: int,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> FloatArray:
    """Return what an exact sampler's rollouts, cut from the reference, would score.

    Parameters
    ----------
    score : callable
        Of :class:`DrawnRollouts`; a number or an array of them.
    n_frames : sequence of int
        Length of each trajectory of the reference.
    lag_frames, n_replicas, n_steps, n_draws, seed : int
        As for :func:`ideal_kinetic`.

    Returns
    -------
    ndarray, float64
        Mean over draws; NaN where the reference is too short for rollouts of as many steps.

    Raises
    ------
    ValueError
        As :func:`drawn_pairs`.
    """
    if (max(n_frames) - 1) // lag_frames < n_steps:
        return np.asarray(np.nan)
    counts = {"lag_frames": lag_frames, "n_replicas": n_replicas, "n_steps": n_steps}
    draws = [
        np.asarray(score(drawn_rollouts(n_frames, **counts, seed=seed + draw)))
        for draw in range(n_draws)
    ]
    return np.asarray(np.mean(draws, axis=0), dtype=np.float64)


def ideal_kinetic(
    statistic: Statistic,
    reference: Sequence[Series],
    reference_total: FloatArray,
    *,
    lag_frames: int,
    n_replicas: int,
    n_steps: int,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> FloatArray:
    """Return what an exact sampler with the model's replicas and steps would score.

    Its rollouts are cut from the reference by :func:`drawn_pairs`: they start in equilibrium and have
    the model's lag, replicas and steps; the reference's dynamics here are the truth.

    Parameters
    ----------
    statistic : callable
        Of two totals of lagged moments.
    reference : sequence of ndarray, shape (n_frames, n_features)
    reference_total : ndarray, shape (3, n_features + 1, n_features + 1), float64
        Of all its pairs, at the same lag.
    lag_frames : int
        The model's lag in frames of the reference.
    n_replicas, n_steps : int
        Of the model.
    n_draws, seed : int

    Returns
    -------
    ndarray, float64
        Mean over draws.

    Raises
    ------
    ValueError
        As :func:`drawn_pairs`.
    """

    def total(weights: list[IntArray]) -> FloatArray:
        return weighted_moments(reference, weights, lag_frames=lag_frames)

    draws = [
        statistic(reference_total, total(weights))
        for weights in _draws(
            reference,
            lag_frames,
            n_replicas=n_replicas,
            n_steps=n_steps,
            n_draws=n_draws,
            seed=seed,
        )
    ]
    return np.asarray(np.mean(draws, axis=0), dtype=np.float64)


def ideal_transitions(
    statistic: Statistic,
    states: Sequence[IntArray],
    reference_total: FloatArray,
    *,
    lag_frames: int,
    n_replicas: int,
    n_steps: int,
    n_draws: int = N_DRAWS,
    seed: int = 0,
) -> FloatArray:
    """Return what an exact sampler would score in a metric of transition counts.

    Parameters
    ----------
    statistic : callable
        Of two totals of transition counts.
    states : sequence of ndarray, shape (n_frames,), int64
        Of the reference.
    reference_total : ndarray, shape (n_states, n_states), float64
        Of all its transitions, at the same lag.
    lag_frames, n_replicas, n_steps, n_draws, seed : int
        As for :func:`ideal_kinetic`.

    Returns
    -------
    ndarray, float64
        Mean over draws.

    Raises
    ------
    ValueError
        As :func:`drawn_pairs`.
    """
    n_states = len(reference_total)
    flat = [one[:-lag_frames] * n_states + one[lag_frames:] for one in states]

    def total(weights: list[IntArray]) -> FloatArray:
        counts = [
            np.bincount(pairs, weights=each, minlength=n_states * n_states)
            for pairs, each in zip(flat, weights, strict=True)
        ]
        return np.asarray(np.sum(counts, axis=0).reshape(n_states, n_states))

    draws = [
        statistic(reference_total, total(weights))
        for weights in _draws(
            states, lag_frames, n_replicas=n_replicas, n_steps=n_steps, n_draws=n_draws, seed=seed
        )
    ]
    return np.asarray(np.mean(draws, axis=0), dtype=np.float64)


def _draws(
    reference: Sequence[Series],
    lag_frames: int,
    *,
    n_replicas: int,
    n_steps: int,
    n_draws: int,
    seed: int,
) -> Iterator[list[IntArray]]:
    lengths = [len(one) for one in reference]
    for draw in range(n_draws):
        yield drawn_pairs(
            lengths,
            lag_frames=lag_frames,
            n_replicas=n_replicas,
            n_steps=n_steps,
            seed=seed + draw,
        )


def _between(statistic: Statistic, units: UnitSums, is_first: NDArray[np.bool_]) -> FloatArray:
    first = np.asarray(is_first, dtype=np.int64)
    try:
        return np.abs(np.asarray(statistic(units.total(first), units.total(1 - first)), np.float64))
    except ValueError:
        return np.asarray(np.nan)


def _divisions(n_trajectories: int, *, seed: int) -> Iterator[tuple[int, ...]]:
    """Yield ways to take half of the trajectories: all of them, or 20 drawn ones."""
    half = n_trajectories // 2
    if comb(n_trajectories, half) <= N_DRAWS:
        yield from combinations(range(n_trajectories), half)
        return
    rng = np.random.default_rng(seed)
    for _ in range(N_DRAWS):
        yield tuple(rng.choice(n_trajectories, size=half, replace=False).tolist())
