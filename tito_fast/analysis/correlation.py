"""Correlation functions: how fast features forget where they started."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.series import Series, check_lag, check_series, chunk_slices
from tito_fast.analysis.unit_sums import UnitSums, series_idx_of, units_of
from tito_fast.data.molecule import FloatArray


def correlation_sums(
    series: Sequence[Series],
    *,
    lags_frames: Sequence[int],
    block_frames: int | None = None,
    is_from_start: bool = False,
) -> UnitSums:
    """Return the sums that correlation functions are made of.

    Parameters
    ----------
    series : sequence of ndarray, shape (n_frames, n_features)
        One per trajectory.
    lags_frames : sequence of int
        From 0.
    block_frames : int, optional
        Cut each trajectory into units of this many frames; a pair belongs to the unit of its first frame.
    is_from_start : bool
        Take only the pairs of which the first frame is a trajectory's first, as BoPITO does; all pairs by
        default.

    Returns
    -------
    UnitSums
        ``sums`` (n_units, n_lags, 3 + 2 n_features), float64: pairs, Σ f(0)·f(N), Σ f(0)·f(0), Σ f(0),
        Σ f(N).

    Raises
    ------
    ValueError
        If no trajectory is longer than the longest lag, a lag is negative, features differ, or one is
        not finite.
    """
    n_features = check_series(series)
    if not len(lags_frames) or min(lags_frames) < 0:
        raise ValueError(f"lags_frames: expected lags at or above 0, got {list(lags_frames)}")
    if max(lags_frames) > 0:
        check_lag(series, max(lags_frames))
    units = units_of([len(one) for one in series], block_frames=block_frames)
    sums = np.zeros((len(units), len(lags_frames), 3 + 2 * n_features))
    for row, unit in enumerate(units):
        one = series[unit.series_idx]
        stop = min(unit.stop, 1) if is_from_start else unit.stop
        for chunk in chunk_slices(unit.start, stop, n_features=n_features):
            reach = min(len(one), chunk.stop + max(lags_frames))
            part = np.ascontiguousarray(one[chunk.start : reach], dtype=np.float64)
            for column, lag in enumerate(lags_frames):
                n_pairs = min(chunk.stop - chunk.start, len(part) - lag)
                if n_pairs > 0:
                    sums[row, column] += _pair_sums(part[:n_pairs], part[lag : lag + n_pairs])
    if not np.isfinite(sums).all():
        raise ValueError("series: expected finite features, got NaN or infinity")
    return UnitSums(sums=sums, series_idx=series_idx_of(units))


def correlation_function(total: NDArray[Any]) -> FloatArray:
    """Return C(N) = ⟨(f(x_0) − f̄_0)·(f(x_N) − f̄_N)⟩ / ⟨‖f(x_0) − f̄_0‖²⟩.

    Parameters
    ----------
    total : ndarray, shape (..., n_lags, 3 + 2 n_features)
        Of :func:`correlation_sums`.

    Returns
    -------
    ndarray, shape (..., n_lags), float64
        1 at lag 0. Means are those of the pairs of each lag.

    Raises
    ------
    ValueError
        If there is no pair at a lag, or the features do not vary.

    References
    ----------
    Diez et al., Boltzmann priors for implicit transfer operators, arXiv 2410.10605.
    """
    n_features = (total.shape[-1] - 3) // 2
    n_pairs = total[..., 0]
    if not (n_pairs > 0).all():
        raise ValueError("total: expected a pair of frames at every lag, got none")
    mean_0 = total[..., 3 : 3 + n_features] / n_pairs[..., None]
    mean_n = total[..., 3 + n_features :] / n_pairs[..., None]
    covariance = total[..., 1] / n_pairs - (mean_0 * mean_n).sum(axis=-1)
    squares = total[..., 2] / n_pairs
    variance = squares - np.square(mean_0).sum(axis=-1)
    if not (variance > 1e-12 * squares).all():
        raise ValueError("total: expected features that vary, got constant ones")
    return np.asarray(covariance / variance, dtype=np.float64)


def _pair_sums(first: FloatArray, second: FloatArray) -> FloatArray:
    products = [len(first), np.vdot(first, second), np.vdot(first, first)]
    return np.concatenate([products, first.sum(axis=0), second.sum(axis=0)])
