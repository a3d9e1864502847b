"""Unbiased averages from samples of a model: importance weights, and what they are good for.

==========================================  =========================================================
in the papers                               here
==========================================  =========================================================
``w(x) ∝ exp(−u(x)) / p(x)``, u = E / kT    ``log_weights(log_density, reduced_energies)``, logarithms
``w_i / Σ w``                               ``normalized_weights``
Kish's ``(Σ w)² / Σ w²``                    ``effective_sample_size``
``⟨f⟩ = Σ w f / Σ w``                       ``weighted_mean``
``F(s) = −ln p(s)``                         ``weighted_profiles.free_energy_profile``
``ΔF = −ln (P_B / P_A)``                    ``free_energy_difference``
==========================================  =========================================================

Functions take logarithms of weights, up to a constant, and compute with them: energies in the thousands are no
problem. A weight of zero has the logarithm −∞.

References
----------
.. [1] Noé et al., Boltzmann generators, Science 365, eaaw1147 (2019), doi:10.1126/science.aaw1147.
.. [2] Transferable Boltzmann generators, arXiv:2406.14426: weights, effective sample size, profiles.
.. [3] Kish, Survey Sampling, Wiley (1965).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.resampling import N_RESAMPLES, interval_about
from tito_fast.data.molecule import FloatArray
from tito_fast.validation import check_at_least, check_positive

GAS_CONSTANT_KJ_PER_MOL_K: Final = 8.31446261815324e-3
_MIN_RESAMPLES: Final = 20


@dataclass(frozen=True, eq=False, kw_only=True)
class Estimate:
    """A self-normalized estimate with its uncertainty.

    Parameters
    ----------
    value : ndarray, shape (...), float64
    standard_error : ndarray, shape (...), float64
        By the delta method.
    low, high : ndarray, shape (...), float64
        95 % interval by bootstrap over samples.

    Notes
    -----
    Both speak of the samples that there are. If the model never visits a region that the target holds, neither knows.
    """

    value: FloatArray
    standard_error: FloatArray
    low: FloatArray
    high: FloatArray


def reduced_energies(energies_kj_mol: NDArray[np.floating], temperature_k: float) -> FloatArray:
    """Return ``E / kT``.

    Parameters
    ----------
    energies_kj_mol : ndarray
        In kJ/mol.
    temperature_k : float

    Returns
    -------
    ndarray, float64
    """
    check_positive("temperature_k", temperature_k, unit="K")
    return np.asarray(energies_kj_mol, dtype=np.float64) / (
        GAS_CONSTANT_KJ_PER_MOL_K * temperature_k
    )


def log_weights(
    log_density: NDArray[np.floating], reduced_energies: NDArray[np.floating]
) -> FloatArray:
    """Return logarithms of importance weights ``exp(−u) / p``, the largest of them 0.

    Parameters
    ----------
    log_density : ndarray, shape (n_samples,)
        ``log p`` of the model at its own samples, in any unit of length.
    reduced_energies : ndarray, shape (n_samples,)
        ``u = E / kT``, up to a constant; plus infinity for a sample that is impossible.

    Returns
    -------
    ndarray, shape (n_samples,), float64
        Minus infinity for a weight of zero.

    Raises
    ------
    ValueError
        If shapes differ, a value is NaN, a density or an energy is minus infinity, or no weight is above zero.
    """
    log_p = np.asarray(log_density, dtype=np.float64)
    u = np.asarray(reduced_energies, dtype=np.float64)
    if log_p.ndim != 1 or u.shape != log_p.shape:
        raise ValueError(
            f"reduced_energies: expected shape {log_p.shape} as log_density, got {u.shape}"
        )
    if not np.isfinite(log_p).all():
        raise ValueError("log_density: expected finite values, got NaN or infinity")
    if np.isnan(u).any() or np.isneginf(u).any():
        raise ValueError(
            f"reduced_energies: expected numbers, got NaN or minus infinity for {int((~(u > -np.inf)).sum())} "
            "samples; give plus infinity where a sample is impossible"
        )
    return _checked(-u - log_p)


def normalized_weights(log_weights: NDArray[np.floating]) -> FloatArray:
    """Return weights that sum to 1.

    Parameters
    ----------
    log_weights : ndarray, shape (n_samples,)
        Up to a constant.

    Returns
    -------
    ndarray, shape (n_samples,), float64

    Raises
    ------
    ValueError
        If a value is NaN or plus infinity, or no weight is above zero.

    Examples
    --------
    >>> normalized_weights(np.array([1000.0, 1000.0 + np.log(3.0)]))
    array([0.25, 0.75])
    """
    weights = np.exp(_checked(log_weights))
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def effective_sample_size(log_weights: NDArray[np.floating]) -> float:
    """Return Kish's effective sample size ``(Σ w)² / Σ w²``, from 1 to n_samples.

    Parameters
    ----------
    log_weights : ndarray, shape (n_samples,)

    Returns
    -------
    float
        The number of equal weights with the same variance of a mean; n_samples where all are equal.

    Raises
    ------
    ValueError
        As :func:`normalized_weights`.

    Examples
    --------
    >>> effective_sample_size(np.zeros(5))
    5.0
    """
    weights = np.exp(_checked(log_weights))
    return float(weights.sum() ** 2 / np.square(weights).sum())


def clip_log_weights(log_weights: NDArray[np.floating], *, share: float) -> FloatArray:
    """Return weights of which the largest are lowered to the smallest of them.

    Parameters
    ----------
    log_weights : ndarray, shape (n_samples,)
    share : float
        Share of samples in [0, 1): the ``⌈share n_samples⌉`` largest weights become equal. 0.002 is usual.

    Returns
    -------
    ndarray, shape (n_samples,), float64

    Raises
    ------
    ValueError
        If ``share`` is outside its range, or as :func:`normalized_weights`.

    Notes
    -----
    Clipping trades variance for bias: report both estimates.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share: expected 0 or more and less than 1, got {share}")
    values = _checked(log_weights)
    n_clipped = int(np.ceil(share * len(values)))
    if n_clipped < 2:
        return values
    limit = np.partition(values, len(values) - n_clipped)[len(values) - n_clipped]
    return _checked(np.minimum(values, limit))


def weighted_mean(
    values: NDArray[Any],
    log_weights: NDArray[np.floating],
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return the self-normalized average ``Σ w f / Σ w`` with its uncertainty.

    Parameters
    ----------
    values : ndarray, shape (n_samples, ...)
        Observable f of each sample; finite where the weight is above zero.
    log_weights : ndarray, shape (n_samples,)
        Zeros for plain averages.
    n_resamples : int
        Of the bootstrap; at least 20.
    seed : int

    Returns
    -------
    Estimate
        With the standard error ``√(Σ w̄² (f − ⟨f⟩)²)``, w̄ the normalized weights.

    Raises
    ------
    ValueError
        If shapes do not fit, a value with a weight is not finite, or as :func:`normalized_weights`.
    """
    weights = normalized_weights(log_weights)
    table = np.asarray(values, dtype=np.float64)
    if table.ndim == 0 or table.shape[0] != len(weights):
        raise ValueError(
            f"values: expected shape ({len(weights)}, ...) as log_weights, got {table.shape}"
        )
    rows = table.reshape(len(table), -1)
    rows = np.where((weights > 0)[:, None], rows, 0.0)
    if not np.isfinite(rows).all():
        raise ValueError("values: expected finite values, got NaN or infinity")
    value = weights @ rows
    error = np.sqrt(np.square(weights) @ np.square(rows - value))
    resamples = resampled(weights, lambda each: each @ rows, n_resamples=n_resamples, seed=seed)
    interval = interval_about(value, resamples)
    shape = table.shape[1:]
    return Estimate(
        value=value.reshape(shape),
        standard_error=error.reshape(shape),
        low=interval.low.reshape(shape),
        high=interval.high.reshape(shape),
    )


def free_energy_difference(
    in_a: NDArray[np.bool_],
    in_b: NDArray[np.bool_],
    log_weights: NDArray[np.floating],
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return ``F_B − F_A = −ln (P_B / P_A)`` in kT.

    Parameters
    ----------
    in_a, in_b : ndarray of bool, shape (n_samples,)
        Which samples are in which state.
    log_weights : ndarray, shape (n_samples,)
    n_resamples, seed
        As in :func:`weighted_mean`.

    Returns
    -------
    Estimate
        Of shape (). The interval is NaN where a state is missing in half of the resamples.

    Raises
    ------
    ValueError
        If a state holds no weight, or shapes do not fit.
    """
    weights = normalized_weights(log_weights)
    states = []
    for name, mask in (("in_a", in_a), ("in_b", in_b)):
        one = np.asarray(mask)
        if one.dtype != np.bool_ or one.shape != weights.shape:
            raise ValueError(
                f"{name}: expected bools of shape {weights.shape}, got {one.dtype} of {one.shape}"
            )
        if not weights[one].sum() > 0:
            raise ValueError(f"{name}: expected samples with a weight in the state, got none")
        states.append(one.astype(np.float64))
    table = np.stack(states, axis=1)

    def shares(each: FloatArray) -> FloatArray:
        return np.asarray(each @ table)

    of_a, of_b = shares(weights)
    value = np.asarray(np.log(of_a) - np.log(of_b))
    slopes = table[:, 1] / of_b - table[:, 0] / of_a
    error = np.sqrt(np.square(weights) @ np.square(slopes))
    drawn = resampled(weights, shares, n_resamples=n_resamples, seed=seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        resamples = np.log(drawn[:, 0]) - np.log(drawn[:, 1])
    interval = interval_about(value, resamples)
    return Estimate(
        value=value, standard_error=np.asarray(error), low=interval.low, high=interval.high
    )


def _checked(log_weights: NDArray[np.floating]) -> FloatArray:
    """Return logarithms of weights with the largest at 0."""
    values = np.asarray(log_weights, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"log_weights: expected shape (n_samples,), got {values.shape}")
    if np.isnan(values).any() or np.isposinf(values).any():
        raise ValueError("log_weights: expected numbers below infinity, got NaN or infinity")
    largest = values.max(initial=-np.inf)
    if not np.isfinite(largest):
        raise ValueError("log_weights: expected a weight above zero, got none")
    return np.asarray(values - largest)


def resampled(
    weights: FloatArray,
    statistic: Callable[[FloatArray], FloatArray],
    *,
    n_resamples: int,
    seed: int,
) -> FloatArray:
    """Return a statistic that is linear in normalized weights for each resample of the samples.

    Parameters
    ----------
    weights : ndarray, shape (n_samples,), float64
        Normalized.
    statistic : callable
        Of normalized weights.
    n_resamples, seed : int

    Returns
    -------
    ndarray, shape (n_resamples, ...), float64

    Raises
    ------
    ValueError
        If there are fewer than 20 resamples.
    """
    check_at_least("n_resamples", n_resamples, _MIN_RESAMPLES)
    rng = np.random.default_rng(seed)
    n_samples = len(weights)
    found = []
    for _ in range(n_resamples):
        counts = np.bincount(rng.integers(n_samples, size=n_samples), minlength=n_samples)
        drawn = weights * counts
        total = drawn.sum()
        # A resample without any weight says nothing.
        value = statistic(drawn / total) if total > 0 else np.full_like(statistic(weights), np.nan)
        found.append(value)
    return np.stack(found)
