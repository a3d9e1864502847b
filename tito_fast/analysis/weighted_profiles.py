"""Distributions and free energies along a coordinate, of samples with weights."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.resampling import N_RESAMPLES, interval_about
from tito_fast.analysis.reweighting import Estimate, normalized_weights, resampled
from tito_fast.data.molecule import FloatArray, IntArray
from tito_fast.validation import check_positive


@dataclass(frozen=True, eq=False, kw_only=True)
class FreeEnergyProfile:
    """A free energy along a coordinate.

    Parameters
    ----------
    centers : ndarray, shape (n_points,), float64
        Of bins, or points of a kernel density estimate.
    free_energy, low, high : ndarray, shape (n_points,), float64
        In kT, with its 95 % interval by bootstrap; the minimum is 0. Infinite where nothing was found.
    """

    centers: FloatArray
    free_energy: FloatArray
    low: FloatArray
    high: FloatArray


def weighted_histogram(
    values: NDArray[np.floating],
    log_weights: NDArray[np.floating],
    *,
    edges: NDArray[np.floating],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return the probability density in each bin.

    Parameters
    ----------
    values : ndarray, shape (n_samples,)
        The coordinate; samples outside of all bins keep their share of probability.
    log_weights : ndarray, shape (n_samples,)
    edges : ndarray, shape (n_bins + 1,)
        Rising. The last bin holds its right edge.
    n_resamples, seed
        As in :func:`weighted_mean`.

    Returns
    -------
    Estimate
        Of shape (n_bins,), per unit of ``values``.

    Raises
    ------
    ValueError
        If ``edges`` do not rise, or as :func:`weighted_mean`.
    """
    bounds = _checked_edges(edges)
    # The weighted mean of indicators, which are many for many bins: sums instead.
    weights = normalized_weights(log_weights)
    bins = _bin_of(values, bounds, len(weights))
    n_bins = len(bounds) - 1

    def shares(each: FloatArray) -> FloatArray:
        return np.asarray(
            np.bincount(bins, weights=each, minlength=n_bins + 1)[:n_bins], dtype=np.float64
        )

    value = shares(weights)
    squares = np.square(weights)
    # Σ w̄² (1 − p)² inside and Σ w̄² p² outside.
    inside = shares(squares)
    error = np.sqrt(inside * (1 - 2 * value) + squares.sum() * value**2)
    resamples = resampled(weights, shares, n_resamples=n_resamples, seed=seed)
    interval = interval_about(value, resamples, bounds=(0.0, 1.0))
    widths = np.diff(bounds)
    return Estimate(
        value=value / widths,
        standard_error=error / widths,
        low=interval.low / widths,
        high=interval.high / widths,
    )


def free_energy_profile(
    values: NDArray[np.floating],
    log_weights: NDArray[np.floating],
    *,
    edges: NDArray[np.floating],
    bandwidth: float | None = None,
    period: float | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> FreeEnergyProfile:
    """Return the free energy ``F(s) = −ln p(s)`` along a coordinate.

    Parameters
    ----------
    values : ndarray, shape (n_samples,)
        The coordinate s, finite.
    log_weights : ndarray, shape (n_samples,)
    edges : ndarray, shape (n_points + 1,)
        Rising; F is given at the middles.
    bandwidth : float, optional
        Standard deviation of normal kernels, in the unit of ``values``. None: a histogram. (SciPy's ``bw_method`` is
        a share of the samples' standard deviation instead.)
    period : float, optional
        Of the coordinate, for kernels: 2π for angles.
    n_resamples, seed
        As in :func:`weighted_mean`.

    Returns
    -------
    FreeEnergyProfile

    Raises
    ------
    ValueError
        If an argument is out of range, or no sample is on the profile.
    """
    bounds = _checked_edges(edges)
    weights = normalized_weights(log_weights)
    centers = (bounds[:-1] + bounds[1:]) / 2
    if bandwidth is None:
        if period is not None:
            raise ValueError("period: expected None without a bandwidth, got a number")
        bins = _bin_of(values, bounds, len(weights))
        n_bins = len(centers)

        def density(each: FloatArray) -> FloatArray:
            shares = np.bincount(bins, weights=each, minlength=n_bins + 1)[:n_bins]
            return np.asarray(shares / np.diff(bounds))
    else:
        kernels = _kernels(values, centers, len(weights), bandwidth=bandwidth, period=period)

        def density(each: FloatArray) -> FloatArray:
            return np.asarray(kernels @ each)

    with np.errstate(divide="ignore"):
        energy = -np.log(density(weights))
        resamples = -np.log(resampled(weights, density, n_resamples=n_resamples, seed=seed))
    if not np.isfinite(energy).any():
        raise ValueError("edges: expected a sample between them, got none")
    interval = interval_about(energy, resamples)
    lowest = energy.min()
    return FreeEnergyProfile(
        centers=centers,
        free_energy=energy - lowest,
        low=interval.low - lowest,
        high=interval.high - lowest,
    )


def _checked_edges(edges: NDArray[np.floating]) -> FloatArray:
    bounds = np.asarray(edges, dtype=np.float64)
    if bounds.ndim != 1 or len(bounds) < 2 or not (np.diff(bounds) > 0).all():
        raise ValueError("edges: expected two or more rising numbers, got others")
    return bounds


def _checked_coordinate(values: NDArray[np.floating], n_samples: int) -> FloatArray:
    one = np.asarray(values, dtype=np.float64)
    if one.shape != (n_samples,):
        raise ValueError(f"values: expected shape ({n_samples},) as log_weights, got {one.shape}")
    if not np.isfinite(one).all():
        raise ValueError("values: expected finite values, got NaN or infinity")
    return one


def _bin_of(values: NDArray[np.floating], bounds: FloatArray, n_samples: int) -> IntArray:
    """Return the bin of each sample; n_bins for those outside."""
    one = _checked_coordinate(values, n_samples)
    n_bins = len(bounds) - 1
    bins = np.searchsorted(bounds, one, side="right") - 1
    bins[one == bounds[-1]] = n_bins - 1
    return np.where((bins < 0) | (bins >= n_bins), n_bins, bins).astype(np.int64)


def _kernels(
    values: NDArray[np.floating],
    centers: FloatArray,
    n_samples: int,
    *,
    bandwidth: float,
    period: float | None,
) -> FloatArray:
    """Return the density of each sample's kernel at each center, (n_points, n_samples)."""
    one = _checked_coordinate(values, n_samples)
    check_positive("bandwidth", bandwidth)
    apart = centers[:, None] - one
    if period is not None:
        check_positive("period", period)
        apart -= period * np.round(apart / period)
    kernels = np.exp(-0.5 * np.square(apart / bandwidth))
    if period is not None:
        # The nearest image and its two neighbors; farther ones are beyond half a period and more.
        for shift in (-period, period):
            kernels += np.exp(-0.5 * np.square((apart + shift) / bandwidth))
    return np.asarray(kernels / (bandwidth * np.sqrt(2 * np.pi)))
