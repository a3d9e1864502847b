"""Intervals by resampling, the noise floor of MD, and what an exact sampler would score.

A statistic takes the totals of the reference and of the model (:meth:`UnitSums.total`) and gives a
number or an array; NaN where it is undefined.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.moments import weighted_moments
from tito_fast.analysis.series import Series, check_lag, check_series
from tito_fast.analysis.unit_sums import UnitSums
from tito_fast.data.molecule import FloatArray, IntArray

Statistic = Callable[[FloatArray, FloatArray], Any]
"""Of the totals of the reference and of the model."""

N_RESAMPLES: Final = 200
"""Resamples of a bootstrap: the ends of a 95 % interval are then good to a tenth of its width."""

N_DRAWS: Final = 20
"""Draws of an exact sampler, and splits of the reference."""

_QUANTILES: Final = (0.025, 0.975)
_BLOCK_OVER_AUTOCORRELATION: Final = 5
_MIN_BLOCKS: Final = 10


@dataclass(frozen=True, eq=False, kw_only=True)
class Interval:
    """A statistic with its 95 % interval.

    Parameters
    ----------
    value, low, high : ndarray, of one shape, float64
        NaN where there is no value or no interval.
    """

    value: FloatArray
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True, kw_only=True)
class BlockLength:
    """How a long trajectory is cut into units of resampling.

    Parameters
    ----------
    block_frames : int
    autocorrelation_frames : float
        1 + 2 Σ ρ, the frames that count as one independent frame.
    is_limited : bool
        Blocks are shorter than five of those, so that there are ten: intervals are then too narrow.
    """

    block_frames: int
    autocorrelation_frames: float
    is_limited: bool


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


def autocorrelation_frames(series: Sequence[NDArray[Any]]) -> float:
    """Return how many frames count as one independent frame, 1 + 2 Σ ρ.

    Parameters
    ----------
    series : sequence of ndarray, shape (n_frames,)
        One coordinate of each trajectory, such as the slowest.

    Returns
    -------
    float
        At least 1; summed while the sums of two neighboring autocorrelations stay positive.

    Raises
    ------
    ValueError
        If there is no frame, or the coordinate does not vary.

    References
    ----------
    Geyer, Stat. Sci. 7, 473–483 (1992), doi:10.1214/ss/1177011137.
    """
    columns = [np.asarray(one, dtype=np.float64)[:, None] for one in series]
    check_series(columns)
    mean = np.concatenate(columns).mean()
    longest = max(len(one) for one in columns)
    products, n_pairs = np.zeros(longest), np.zeros(longest)
    for one in columns:
        n_frames = len(one)
        if n_frames:
            products[:n_frames] += lagged_products(one[:, 0] - mean)
            n_pairs[:n_frames] += np.arange(n_frames, 0, -1)
    if not products[0] > 1e-12 * n_pairs[0] * max(mean * mean, 1e-300):
        raise ValueError("series: expected a coordinate that varies, got a constant")
    # Divided by all frames, so that long lags of few pairs weigh little.
    rho = products / products[0]
    pairs = rho[: longest // 2 * 2].reshape(-1, 2).sum(axis=1)
    is_positive = np.logical_and.accumulate(pairs > 0)
    return max(1.0, float(2 * np.minimum.accumulate(pairs)[is_positive].sum() - 1))


def lagged_products(values: FloatArray) -> FloatArray:
    """Return Σ_t v(t) v(t + lag) for all lags, along the first axis, by FFT."""
    from scipy.fft import irfft, next_fast_len, rfft  # noqa: PLC0415  slow to import

    n_frames = values.shape[0]
    size = next_fast_len(2 * n_frames, real=True)
    spectrum = rfft(values, size, axis=0)
    products = irfft(spectrum.real**2 + spectrum.imag**2, size, axis=0)
    return np.asarray(products[:n_frames], dtype=np.float64)


def block_length(series: Sequence[NDArray[Any]]) -> BlockLength:
    """Return how long blocks must be for a bootstrap over one or a few long trajectories.

    Parameters
    ----------
    series : sequence of ndarray, shape (n_frames,)
        The slowest coordinate of each trajectory.

    Returns
    -------
    BlockLength
        Five times the frames that count as one, but at most a tenth of all frames.

    Raises
    ------
    ValueError
        As :func:`autocorrelation_frames`.
    """
    frames = autocorrelation_frames(series)
    wanted = int(np.ceil(_BLOCK_OVER_AUTOCORRELATION * frames))
    most = max(1, sum(len(one) for one in series) // _MIN_BLOCKS)
    return BlockLength(
        block_frames=min(wanted, most), autocorrelation_frames=frames, is_limited=wanted > most
    )


def unit_weights(n_units: int, *, n_resamples: int = N_RESAMPLES, seed: int = 0) -> IntArray:
    """Return how often each unit occurs in each resample, (n_resamples, n_units)."""
    rng = np.random.default_rng(seed)
    shares = np.full(n_units, 1 / n_units)
    return rng.multinomial(n_units, shares, size=n_resamples).astype(np.int64)


def interval_about(
    value: NDArray[Any] | float,
    resamples: NDArray[Any],
    *,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """Return the 95 % percentile interval of resamples, moved so that its median is at ``value``.

    Parameters
    ----------
    value : float or ndarray, shape (...)
    resamples : ndarray, shape (n_resamples, ...)
        Those that are not finite are left out.
    bounds : tuple of float
        What the statistic can be at all.

    Returns
    -------
    Interval
        NaN where ``value`` is not finite, or fewer than half of the resamples are.

    Notes
    -----
    Resampling adds noise to data that have noise already, which moves every divergence up: a plain
    percentile interval often lies above its own value. Moving it by its median keeps its width.
    """
    center = np.asarray(value, dtype=np.float64)
    is_finite = np.isfinite(resamples)
    is_known = (2 * is_finite.sum(axis=0) >= len(resamples)) & np.isfinite(center)
    usable = np.where(is_finite, resamples, np.nan)
    usable = np.where(is_known, usable, 0.0)
    low, middle, high = np.nanquantile(usable, (_QUANTILES[0], 0.5, _QUANTILES[1]), axis=0)
    ends = [
        np.where(is_known, np.clip(center + end - middle, *bounds), np.nan) for end in (low, high)
    ]
    return Interval(value=center, low=np.asarray(ends[0]), high=np.asarray(ends[1]))


def bootstrap(
    statistic: Statistic,
    reference: UnitSums,
    model: UnitSums,
    *,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return a statistic of two sets of units with its interval.

    Parameters
    ----------
    statistic : callable
        Of two totals.
    reference, model : UnitSums
        Units of each are resampled with replacement, independently; a side of one unit stays as it is.
    bounds : tuple of float
        What the statistic can be at all.
    n_resamples, seed : int

    Returns
    -------
    Interval
        NaN ends if both sides are one unit. Resamples on which the statistic raises ``ValueError`` are
        left out. With fewer than about ten units it is too narrow.
    """
    value = np.asarray(statistic(reference.total(), model.total()), dtype=np.float64)
    if reference.n_units < 2 and model.n_units < 2:
        unknown = np.full_like(value, np.nan)
        return Interval(value=value, low=unknown, high=unknown)
    weights = [
        unit_weights(units.n_units, n_resamples=n_resamples, seed=seed + side)
        for side, units in enumerate((reference, model))
    ]
    resamples = np.full((n_resamples, *value.shape), np.nan)
    for row in range(n_resamples):
        totals = [
            units.total(side[row]) for units, side in zip((reference, model), weights, strict=True)
        ]
        try:
            resamples[row] = statistic(*totals)
        except ValueError:
            continue
    return interval_about(value, resamples, bounds=bounds)


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


def drawn_pairs(
    n_frames: Sequence[int],
    *,
    lag_frames: int,
    n_replicas: int,
    n_steps: int,
    seed: int = 0,
) -> list[IntArray]:
    """Return how often each pair of the reference occurs in rollouts cut from the reference.

    A rollout is ``n_steps`` successive pairs (t, t + lag), (t + lag, t + 2 lag), … from a frame drawn
    evenly among those from which so many fit. Where a trajectory of the reference is too short, rollouts
    are as long as fits and more of them are drawn, until there are n_replicas n_steps pairs.

    Parameters
    ----------
    n_frames : sequence of int
        Length of each trajectory of the reference.
    lag_frames : int
        The model's lag in frames of the reference.
    n_replicas, n_steps : int
        Of the model.
    seed : int

    Returns
    -------
    list of ndarray, shape (n_frames − lag_frames,), int64
        By first frame.

    Raises
    ------
    ValueError
        If no trajectory is longer than the lag, or a number is below 1.
    """
    if n_replicas < 1 or n_steps < 1:
        raise ValueError(
            f"n_steps: expected at least one replica and one step, got {n_replicas} and {n_steps}"
        )
    lengths = np.asarray(n_frames, dtype=np.int64)
    check_lag([np.zeros((int(length), 0)) for length in lengths], lag_frames, name="reference")
    steps = min(n_steps, int(lengths.max() - 1) // lag_frames)
    n_starts = np.maximum(lengths - steps * lag_frames, 0)
    n_pairs = n_replicas * n_steps
    n_rollouts = -(-n_pairs // steps)
    picked = np.random.default_rng(seed).integers(n_starts.sum(), size=n_rollouts)
    ends = np.cumsum(n_starts)
    which = np.searchsorted(ends, picked, side="right")
    starts = picked - (ends - n_starts)[which]
    frames = (starts[:, None] + lag_frames * np.arange(steps)).ravel()[:n_pairs]
    owner = np.repeat(which, steps)[:n_pairs]
    return [
        np.bincount(frames[owner == idx], minlength=max(0, length - lag_frames))
        for idx, length in enumerate(lengths.tolist())
    ]


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
    lengths = [len(one) for one in reference]
    draws = []
    for draw in range(n_draws):
        weights = drawn_pairs(
            lengths,
            lag_frames=lag_frames,
            n_replicas=n_replicas,
            n_steps=n_steps,
            seed=seed + draw,
        )
        total = weighted_moments(reference, weights, lag_frames=lag_frames)
        draws.append(statistic(reference_total, total))
    return np.asarray(np.mean(draws, axis=0), dtype=np.float64)


def _between(statistic: Statistic, units: UnitSums, is_first: NDArray[np.bool_]) -> FloatArray:
    first = np.asarray(is_first, dtype=np.int64)
    return np.abs(np.asarray(statistic(units.total(first), units.total(1 - first)), np.float64))


def _divisions(n_trajectories: int, *, seed: int) -> Iterator[tuple[int, ...]]:
    """Yield ways to take half of the trajectories: all of them, or 20 drawn ones."""
    half = n_trajectories // 2
    if comb(n_trajectories, half) <= N_DRAWS:
        yield from combinations(range(n_trajectories), half)
        return
    rng = np.random.default_rng(seed)
    for _ in range(N_DRAWS):
        yield tuple(rng.choice(n_trajectories, size=half, replace=False).tolist())
