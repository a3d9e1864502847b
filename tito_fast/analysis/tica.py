"""Time-lagged independent components: the slow coordinates of a trajectory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.moments import (
    LaggedMoments,
    lagged_moments,
    reversible_covariances,
    whitening,
)
from tito_fast.analysis.series import Series, chunk_slices
from tito_fast.data.molecule import FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Tica:
    """A linear projection onto slow coordinates.

    Parameters
    ----------
    mean : ndarray, shape (n_features,), float64
    components : ndarray, shape (n_features, n_components), float64
        Scaled by eigenvalues (a kinetic map); the element of largest size in each is positive.
    eigenvalues : ndarray, shape (rank,), float64
        Autocorrelations at the lag, of all independent components, by falling size.
    lag_frames : int
    """

    mean: FloatArray
    components: FloatArray
    eigenvalues: FloatArray
    lag_frames: int

    def project(self, features: NDArray[Any]) -> FloatArray:
        """Return the slow coordinates of ``features``, which may be a memory map.

        Parameters
        ----------
        features : ndarray, shape (..., n_features)

        Returns
        -------
        ndarray, shape (..., n_components), float64

        Raises
        ------
        ValueError
            If the number of features is another than that of the fit.
        """
        if features.shape[-1] != len(self.mean):
            raise ValueError(
                f"features: expected {len(self.mean)} as in the fit, got {features.shape[-1]}"
            )
        n_features, n_components = self.components.shape
        flat = features.reshape(-1, n_features)
        result = np.empty((len(flat), n_components))
        for chunk in chunk_slices(0, len(flat), n_features=n_features):
            result[chunk] = flat[chunk].astype(np.float64, copy=False) @ self.components
        result -= self.mean @ self.components
        return result.reshape(*features.shape[:-1], n_components)


def fit_tica(series: Sequence[Series], *, lag_frames: int, n_components: int = 2) -> Tica:
    """Return the slow coordinates of trajectories.

    Solves C(τ) r = C(0) r λ with covariances of pairs taken forward and backward in time.

    Parameters
    ----------
    series : sequence of ndarray, shape (n_frames, n_features)
        One per trajectory.
    lag_frames : int
    n_components : int

    Returns
    -------
    Tica

    Raises
    ------
    ValueError
        If no trajectory is longer than the lag, features differ, are not finite, or fewer than
        ``n_components`` directions vary.

    Notes
    -----
    One pass in chunks; equal to ``deeptime.decomposition.TICA(lagtime, dim)`` on the same trajectories
    up to the sign, which deeptime fixes before it multiplies by a possibly negative eigenvalue.

    References
    ----------
    Pérez-Hernández et al., J. Chem. Phys. 139, 015102 (2013), doi:10.1063/1.4811489.
    """
    moments = lagged_moments(series, lag_frames=lag_frames)
    return tica_from_moments(moments, n_components=n_components)


def tica_from_moments(moments: LaggedMoments, *, n_components: int = 2) -> Tica:
    """Return the slow coordinates from sums over pairs of frames; see :func:`fit_tica`."""
    if n_components < 1:
        raise ValueError(f"n_components: expected at least 1, got {n_components}")
    pairs = reversible_covariances(moments.total())
    white = whitening(pairs.cov_00)
    rank = white.shape[1]
    if rank < n_components:
        raise ValueError(
            f"n_components: expected at most the {rank} independent features that vary, "
            f"got {n_components}"
        )
    values, vectors = np.linalg.eigh(white.T @ pairs.cov_0t @ white)
    order = np.argsort(-np.abs(values), kind="stable")
    kept = order[:n_components]
    components = white @ vectors[:, kept] * values[kept]
    largest = np.abs(components).argmax(axis=0)
    components = components * np.sign(components[largest, np.arange(n_components)])
    return Tica(
        mean=pairs.mean_0 + moments.shift,
        components=components,
        eigenvalues=values[order],
        lag_frames=moments.lag_frames,
    )
