"""Sums of products of frames a lag apart, and the covariances they give."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.series import Series, check_lag, check_series, chunk_slices
from tito_fast.analysis.unit_sums import UnitSums, series_idx_of, units_of
from tito_fast.data.molecule import FloatArray

EPSILON: Final = 1e-6
"""Directions of less variance are left out, as in deeptime's TICA and VAMP."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LaggedMoments(UnitSums):
    """Sums of products of the frames x (first) and y (``lag_frames`` later), per unit.

    With a 1 before the features, x = [1, features − shift], so that one array holds everything.

    Parameters
    ----------
    sums : ndarray, shape (n_units, 3, n_features + 1, n_features + 1), float64
        Σ x xᵀ, Σ x yᵀ, Σ y yᵀ; the first element of each is the number of pairs.
    shift : ndarray, shape (n_features,), float64
        Subtracted from all features, against cancellation.
    lag_frames : int
    """

    shift: FloatArray
    lag_frames: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Covariances:
    """Covariances of pairs of frames a lag apart, divided by the number of pairs.

    Parameters
    ----------
    n_pairs : float
    mean_0, mean_t : ndarray, shape (n_features,), float64
        Of the first and of the second frames.
    cov_00, cov_0t, cov_tt : ndarray, shape (n_features, n_features), float64
    """

    n_pairs: float
    mean_0: FloatArray
    mean_t: FloatArray
    cov_00: FloatArray
    cov_0t: FloatArray
    cov_tt: FloatArray


def lagged_moments(
    series: Sequence[Series], *, lag_frames: int, block_frames: int | None = None
) -> LaggedMoments:
    """Return the sums over all pairs of frames of one trajectory that are a lag apart.

    Parameters
    ----------
    series : sequence of ndarray, shape (n_frames, n_features)
        One per trajectory. A trajectory without a pair is a unit of zeros.
    lag_frames : int
    block_frames : int, optional
        Cut each trajectory into units of this many frames; a pair belongs to the unit of its first
        frame, so that no pair is lost. One unit per trajectory by default.

    Returns
    -------
    LaggedMoments

    Raises
    ------
    ValueError
        If no trajectory is longer than the lag, features differ, or one is not finite.

    Notes
    -----
    Reads each chunk of frames twice; memory is that of the sums, 24 n_units n_features² bytes.
    """
    n_features = check_series(series)
    check_lag(series, lag_frames)
    shift = _first_mean(series)
    lengths = [len(one) for one in series]
    units = units_of(lengths, block_frames=block_frames)
    sums = np.zeros((len(units), 3, n_features + 1, n_features + 1))
    for row, unit in enumerate(units):
        one = series[unit.series_idx]
        stop = min(unit.stop, len(one) - lag_frames)
        for chunk in chunk_slices(unit.start, stop, n_features=n_features):
            first = _augmented(one[chunk], shift)
            second = _augmented(one[chunk.start + lag_frames : chunk.stop + lag_frames], shift)
            sums[row, 0] += first.T @ first
            sums[row, 1] += first.T @ second
            sums[row, 2] += second.T @ second
    _check_finite(sums)
    return LaggedMoments(
        sums=sums, series_idx=series_idx_of(units), shift=shift, lag_frames=lag_frames
    )


def weighted_moments(
    series: Sequence[Series], pair_weights: Sequence[NDArray[Any]], *, lag_frames: int
) -> FloatArray:
    """Return the total of lagged moments in which each pair of frames counts as often as given.

    Parameters
    ----------
    series : sequence of ndarray, shape (n_frames, n_features)
    pair_weights : sequence of ndarray, shape (n_frames − lag_frames,)
        By first frame.
    lag_frames : int

    Returns
    -------
    ndarray, shape (3, n_features + 1, n_features + 1), float64
        As :meth:`LaggedMoments.total`, with the same shift.

    Raises
    ------
    ValueError
        As :func:`lagged_moments`.
    """
    n_features = check_series(series)
    check_lag(series, lag_frames)
    shift = _first_mean(series)
    total = np.zeros((3, n_features + 1, n_features + 1))
    for one, weights in zip(series, pair_weights, strict=True):
        starts = np.flatnonzero(weights)
        for chunk in chunk_slices(0, len(starts), n_features=n_features):
            frames = starts[chunk]
            first = _augmented(one[frames], shift)
            second = _augmented(one[frames + lag_frames], shift)
            counts = weights[frames][:, None]
            total[0] += first.T @ (first * counts)
            total[1] += first.T @ (second * counts)
            total[2] += second.T @ (second * counts)
    _check_finite(total)
    return total


def covariances(total: FloatArray) -> Covariances:
    """Return the covariances of the pairs that ``total`` sums over.

    Parameters
    ----------
    total : ndarray, shape (3, n_features + 1, n_features + 1), float64
        Of :meth:`LaggedMoments.total`; means are then those of the shifted features.

    Returns
    -------
    Covariances

    Raises
    ------
    ValueError
        If it sums over no pair.
    """
    n_pairs = float(total[0, 0, 0])
    if not n_pairs > 0:
        raise ValueError("total: expected at least one pair of frames, got none")
    mean_0, mean_t = total[0, 0, 1:] / n_pairs, total[2, 0, 1:] / n_pairs
    return Covariances(
        n_pairs=n_pairs,
        mean_0=mean_0,
        mean_t=mean_t,
        cov_00=total[0, 1:, 1:] / n_pairs - np.outer(mean_0, mean_0),
        cov_0t=total[1, 1:, 1:] / n_pairs - np.outer(mean_0, mean_t),
        cov_tt=total[2, 1:, 1:] / n_pairs - np.outer(mean_t, mean_t),
    )


def reversible_covariances(total: FloatArray) -> Covariances:
    """Return the covariances with each pair taken forward and backward in time.

    Parameters
    ----------
    total : ndarray, shape (3, n_features + 1, n_features + 1), float64

    Returns
    -------
    Covariances
        ``cov_00`` and ``cov_tt`` are one array, as are the means; ``cov_0t`` is symmetric.
    """
    both = np.stack([total[0] + total[2], total[1] + total[1].T, total[0] + total[2]])
    return covariances(both)


def whitening(covariance: FloatArray, *, name: str = "features") -> FloatArray:
    """Return L with Lᵀ C L = 1 on all directions that vary.

    Parameters
    ----------
    covariance : ndarray, shape (n_features, n_features), float64
        C, symmetric.
    name : str
        What the error speaks of.

    Returns
    -------
    ndarray, shape (n_features, rank), float64
        Directions by falling variance. Those of variance below ``EPSILON``, or below the size of the
        most negative eigenvalue that rounding gave, are left out, as deeptime does.

    Raises
    ------
    ValueError
        If nothing varies.
    """
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    threshold = max(EPSILON, -values[0] + 1e-16)
    n_kept = int((values >= threshold).sum())
    if not n_kept:
        raise ValueError(
            f"{name}: expected at least one that varies, got variances below {EPSILON}"
        )
    kept = slice(None, -n_kept - 1, -1)
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]))


def _augmented(frames: NDArray[Any], shift: FloatArray) -> FloatArray:
    result = np.empty((len(frames), len(shift) + 1))
    result[:, 0] = 1.0
    np.subtract(frames, shift, out=result[:, 1:])
    return result


def _first_mean(series: Sequence[Series]) -> FloatArray:
    first = next(one for one in series if len(one))
    mean = first[:256].mean(axis=0, dtype=np.float64)
    return np.where(np.isfinite(mean), mean, 0.0)


def _check_finite(sums: FloatArray) -> None:
    if not np.isfinite(sums).all():
        raise ValueError("series: expected finite features, got NaN or infinity")
