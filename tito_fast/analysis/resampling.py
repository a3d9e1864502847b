"""Intervals by resampling units, and how long blocks must be.

A statistic takes totals (:meth:`UnitSums.total`), of one set of units or of the reference and the model,
and gives a number or an array of fixed shape; NaN where it is undefined.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.series import check_series
from tito_fast.analysis.unit_sums import UnitSums
from tito_fast.data.molecule import FloatArray, IntArray

Statistic = Callable[..., Any]
"""Of totals: one, or those of the reference and of the model."""

N_RESAMPLES: Final = 200
"""Resamples of a bootstrap: the ends of a 95 % interval are then good to a tenth of its width."""

_QUANTILES: Final = (0.025, 0.975)
_BLOCK_OVER_AUTOCORRELATION: Final = 5
_MIN_BLOCKS: Final = 10
_MAX_BLOCKS: Final = 200


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
        Five times the frames that count as one, but at most a tenth of all frames, and so many that
        there are no more than 200 blocks.

    Raises
    ------
    ValueError
        As :func:`autocorrelation_frames`.
    """
    frames = autocorrelation_frames(series)
    n_frames = sum(len(one) for one in series)
    wanted = int(np.ceil(_BLOCK_OVER_AUTOCORRELATION * frames))
    most, least = max(1, n_frames // _MIN_BLOCKS), -(-n_frames // _MAX_BLOCKS)
    return BlockLength(
        block_frames=max(min(wanted, most), least),
        autocorrelation_frames=frames,
        is_limited=wanted > most,
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
    *units: UnitSums,
    bounds: tuple[float, float] = (-np.inf, np.inf),
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return a statistic of sets of units with its interval.

    Parameters
    ----------
    statistic : callable
        Of as many totals as there are sets.
    *units : UnitSums
        One set, or the reference and the model. Units of each are resampled with replacement,
        independently; a set of one unit stays as it is.
    bounds : tuple of float
        What the statistic can be at all.
    n_resamples, seed : int

    Returns
    -------
    Interval
        NaN ends if all sets are one unit. Resamples on which the statistic raises ``ValueError`` are
        left out. With fewer than about ten units it is too narrow.
    """
    value = np.asarray(statistic(*(each.total() for each in units)), dtype=np.float64)
    if all(each.n_units < 2 for each in units):
        unknown = np.full_like(value, np.nan)
        return Interval(value=value, low=unknown, high=unknown)
    weights = [
        unit_weights(each.n_units, n_resamples=n_resamples, seed=seed + side)
        for side, each in enumerate(units)
    ]
    resamples = np.full((n_resamples, *value.shape), np.nan)
    for row in range(n_resamples):
        totals = [each.total(side[row]) for each, side in zip(units, weights, strict=True)]
        try:
            resamples[row] = statistic(*totals)
        except ValueError:
            continue
    return interval_about(value, resamples, bounds=bounds)
