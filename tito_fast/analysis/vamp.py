"""VAMP-2 scores of a model against a reference, and implied time scales."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from tito_fast.analysis.moments import Covariances, covariances, whitening
from tito_fast.data.molecule import FloatArray

N_TIMESCALES: Final = 10
"""Processes that the relative error of time scales looks at."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Vamp:
    """Singular functions of the transfer operator, linear in the features.

    Parameters
    ----------
    left, right : ndarray, shape (n_features, rank), float64
        Coefficients for the first and for the second frame of a pair.
    singular_values : ndarray, shape (rank,), float64
        Falling, without the constant mode.
    """

    left: FloatArray
    right: FloatArray
    singular_values: FloatArray

    def score(self, pairs: Covariances) -> float:
        """Return the VAMP-2 score of these singular functions on ``pairs``.

        ‖(Uᵀ C00 U)^-½ Uᵀ C0t V (Vᵀ Ctt V)^-½‖² + 1, the 1 for the constant mode.

        Raises
        ------
        ValueError
            If the number of features is another, or nothing varies.
        """
        if pairs.cov_00.shape[0] != self.left.shape[0]:
            raise ValueError(
                f"pairs: expected {self.left.shape[0]} features as in the fit, "
                f"got {pairs.cov_00.shape[0]}"
            )
        first = whitening(self.left.T @ pairs.cov_00 @ self.left)
        second = whitening(self.right.T @ pairs.cov_tt @ self.right)
        middle = self.left.T @ pairs.cov_0t @ self.right
        return float(np.square(first.T @ middle @ second).sum()) + 1.0


@dataclass(frozen=True, kw_only=True)
class Vamp2:
    """Scores of the reference's singular functions on the reference and on the model.

    Parameters
    ----------
    score_reference, score_model : float
        At least 1, more is slower.
    """

    score_reference: float
    score_model: float

    @property
    def gap(self) -> float:
        """Reference minus model, the sign of TITO: negative where the model looks slower."""
        return self.score_reference - self.score_model

    @property
    def gap_model_minus_reference(self) -> float:
        """Model minus reference, the sign of ITO: positive where the model looks slower."""
        return self.score_model - self.score_reference


@dataclass(frozen=True, kw_only=True)
class TimescaleError:
    """Mean relative error of time scales.

    Parameters
    ----------
    value : float or None
        None if no process of the reference is slower than the lag.
    n_processes : int
        Over how many it was taken.
    """

    value: float | None
    n_processes: int


def fit_vamp(pairs: Covariances) -> Vamp:
    """Return the singular functions of pairs of frames.

    Parameters
    ----------
    pairs : Covariances

    Returns
    -------
    Vamp

    Raises
    ------
    ValueError
        If no feature varies, or there are so few pairs that any two sets of features are correlated
        perfectly.

    References
    ----------
    Wu and Noé, J. Nonlinear Sci. 30, 23–66 (2020), doi:10.1007/s00332-019-09567-y.
    """
    first, second = whitening(pairs.cov_00), whitening(pairs.cov_tt)
    rank = max(first.shape[1], second.shape[1])
    if pairs.n_pairs <= rank + 1:
        raise ValueError(
            f"pairs: expected more than {rank + 1} pairs of frames for {rank} features that vary, "
            f"got {pairs.n_pairs:.0f}; take a shorter lag, more frames or fewer features"
        )
    left, values, right = np.linalg.svd(first.T @ pairs.cov_0t @ second, full_matrices=False)
    return Vamp(left=first @ left, right=second @ right.T, singular_values=values)


def vamp2(reference: Covariances, model: Covariances) -> Vamp2:
    """Return the VAMP-2 scores of reference and model, at one lag in ps.

    Parameters
    ----------
    reference, model : Covariances
        Of the same features, at the same lag.

    Returns
    -------
    Vamp2

    Raises
    ------
    ValueError
        If numbers of features differ, or as :func:`fit_vamp`.

    Notes
    -----
    As TITO's code with deeptime: ``ref.score(2, ref)`` and ``ref.score(2, pred)``.
    """
    fit = fit_vamp(reference)
    return Vamp2(score_reference=fit.score(reference), score_model=fit.score(model))


def timescales_ps(singular_values: FloatArray, *, lag_ps: float) -> FloatArray:
    """Return the implied time scales −lag / ln σ.

    Parameters
    ----------
    singular_values : ndarray, shape (...), float64
        Or eigenvalues, of which the size counts.
    lag_ps : float

    Returns
    -------
    ndarray, shape (...), float64
        In ps; 0 for σ = 0, infinite for σ at or above 1.

    Examples
    --------
    >>> timescales_ps(np.exp([-0.1, -1.0]), lag_ps=5.0)
    array([50.,  5.])
    """
    if not lag_ps > 0:
        raise ValueError(f"lag_ps: expected above 0, got {lag_ps}")
    size = np.minimum(np.abs(singular_values), 1.0)
    with np.errstate(divide="ignore"):
        return np.asarray(lag_ps / np.abs(np.log(size)), dtype=np.float64)


def slowest_timescales_ps(total: FloatArray, *, lag_ps: float, n: int = N_TIMESCALES) -> FloatArray:
    """Return the slowest implied time scales of pairs of frames, for a bootstrap over units.

    Parameters
    ----------
    total : ndarray, shape (3, n_features + 1, n_features + 1), float64
        Of :class:`~tito_fast.analysis.moments.LaggedMoments`.
    lag_ps : float
    n : int

    Returns
    -------
    ndarray, shape (n,), float64
        In ps, slowest first; NaN where there are fewer processes.

    Raises
    ------
    ValueError
        As :func:`fit_vamp`.
    """
    found = timescales_ps(fit_vamp(covariances(total)).singular_values[:n], lag_ps=lag_ps)
    return np.append(found, np.full(n - len(found), np.nan))


def timescale_error(
    reference_ps: FloatArray, model_ps: FloatArray, *, lag_ps: float, n: int = N_TIMESCALES
) -> TimescaleError:
    """Return the mean relative error of the slowest time scales.

    Parameters
    ----------
    reference_ps, model_ps : ndarray, shape (n_processes,), float64
        Time scales, slowest first.
    lag_ps : float
        Processes of the reference at or below it are not looked at: a model of that lag cannot
        resolve them.
    n : int
        At most so many processes.

    Returns
    -------
    TimescaleError
        Mean of |t_reference − t_model| / t_reference. A process that the model does not have counts as
        one of time scale 0, an error of 1.

    Raises
    ------
    ValueError
        If a time scale of the reference is not finite.
    """
    n_processes = min(n, int((reference_ps > lag_ps).sum()))
    if n_processes < 1:
        return TimescaleError(value=None, n_processes=0)
    expected = reference_ps[:n_processes]
    if not np.isfinite(expected).all():
        raise ValueError(
            "reference_ps: expected finite time scales, got infinity; the reference has too few frames "
            "for its features at this lag"
        )
    found = np.zeros(n_processes)
    found[: len(model_ps)] = model_ps[:n_processes]
    value = float((np.abs(expected - found) / expected).mean())
    return TimescaleError(value=value, n_processes=n_processes)
