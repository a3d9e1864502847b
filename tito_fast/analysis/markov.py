"""Discrete states and the probabilities of transitions between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.series import Series, check_lag, check_series, chunk_slices
from tito_fast.analysis.unit_sums import UnitSums, series_idx_of, units_of
from tito_fast.data.molecule import FloatArray, IntArray

_MAX_FRAMES_KMEANS: Final = 50_000
# (I + T) / 2 squared so often has converged for every chain that does not take 1e15 steps to mix.
_N_SQUARINGS: Final = 50


@dataclass(frozen=True, eq=False, kw_only=True)
class States:
    """Cells of space, each about a center.

    Parameters
    ----------
    centers : ndarray, shape (n_states, n_features), float64
        Sorted by the first feature.
    """

    centers: FloatArray

    @property
    def n_states(self) -> int:
        """Number of states."""
        return len(self.centers)

    def assign(self, features: NDArray[Any]) -> IntArray:
        """Return the state of the nearest center.

        Parameters
        ----------
        features : ndarray, shape (n_frames, n_features)

        Returns
        -------
        ndarray, shape (n_frames,), int64

        Raises
        ------
        ValueError
            If the number of features is another than that of the centers.
        """
        from scipy.spatial import cKDTree  # noqa: PLC0415  slow to import

        if features.ndim != 2 or features.shape[1] != self.centers.shape[1]:
            raise ValueError(
                f"features: expected shape (n_frames, {self.centers.shape[1]}), got {features.shape}"
            )
        tree = cKDTree(self.centers)
        result = np.empty(len(features), dtype=np.int64)
        for chunk in chunk_slices(0, len(features), n_features=features.shape[1]):
            result[chunk] = tree.query(features[chunk])[1]
        return result


def fit_states(reference: Sequence[Series], *, n_states: int, seed: int = 0) -> States:
    """Return states about the k-means centers of the reference.

    Parameters
    ----------
    reference : sequence of ndarray, shape (n_frames, n_features)
        Slow coordinates; of more than 50,000 frames, as many evenly spaced ones are looked at.
    n_states : int
    seed : int

    Returns
    -------
    States

    Raises
    ------
    ValueError
        If there are fewer different frames than states.
    """
    from deeptime.clustering import KMeans  # noqa: PLC0415  slow to import

    check_series(reference, name="reference")
    stride = -(-sum(len(one) for one in reference) // _MAX_FRAMES_KMEANS)
    frames = np.concatenate([one[::stride] for one in reference]).astype(np.float64)
    n_distinct = len(np.unique(frames, axis=0))
    if n_states < 1 or n_distinct < n_states:
        raise ValueError(
            f"n_states: expected 1 to {n_distinct}, the number of different frames, got {n_states}"
        )
    fit = KMeans(n_clusters=n_states, fixed_seed=seed, max_iter=500, n_jobs=1).fit(frames)
    centers = np.asarray(fit.fetch_model().cluster_centers, dtype=np.float64)
    return States(centers=centers[np.lexsort(centers.T[::-1])])


def grid_states(reference: Sequence[Series], *, n_states: int) -> States:
    """Return equal cells over the range of the reference's first feature.

    Parameters
    ----------
    reference : sequence of ndarray, shape (n_frames, 1)
    n_states : int

    Returns
    -------
    States

    Raises
    ------
    ValueError
        If there is more than one feature, or it does not vary.
    """
    if check_series(reference, name="reference") != 1:
        raise ValueError(f"reference: expected one feature, got {reference[0].shape[1]}")
    if n_states < 1:
        raise ValueError(f"n_states: expected at least 1, got {n_states}")
    filled = [one for one in reference if len(one)]
    low, high = min(one.min() for one in filled), max(one.max() for one in filled)
    if not low < high:
        raise ValueError(f"reference: expected a feature that varies, got {low} in every frame")
    middles = (np.arange(n_states) + 0.5) / n_states
    return States(centers=(low + (high - low) * middles)[:, None])


def transition_counts(
    states: Sequence[IntArray],
    *,
    n_states: int,
    lag_frames: int,
    block_frames: int | None = None,
) -> UnitSums:
    """Count transitions between states a lag apart.

    Parameters
    ----------
    states : sequence of ndarray, shape (n_frames,), int64
        One per trajectory.
    n_states : int
    lag_frames : int
    block_frames : int, optional
        Cut each trajectory into units of this many frames; a pair belongs to the unit of its first frame.

    Returns
    -------
    UnitSums
        ``sums`` (n_units, n_states, n_states), int64: from row to column, over all pairs (sliding).

    Raises
    ------
    ValueError
        If no trajectory is longer than the lag, or a state is out of range.
    """
    check_lag(states, lag_frames, name="states")
    for one in states:
        if len(one) and not (one.min() >= 0 and one.max() < n_states):
            raise ValueError(f"states: expected 0 to {n_states - 1}, got others")
    units = units_of([len(one) for one in states], block_frames=block_frames)
    sums = np.zeros((len(units), n_states, n_states), dtype=np.int64)
    for row, unit in enumerate(units):
        one = states[unit.series_idx]
        stop = max(unit.start, min(unit.stop, len(one) - lag_frames))
        flat = one[unit.start : stop] * n_states + one[unit.start + lag_frames : stop + lag_frames]
        sums[row] = np.bincount(flat, minlength=n_states * n_states).reshape(n_states, n_states)
    return UnitSums(sums=sums, series_idx=series_idx_of(units))


def transition_matrix(counts: NDArray[Any]) -> FloatArray:
    """Return probabilities from counts.

    Parameters
    ----------
    counts : ndarray, shape (..., n_states, n_states)

    Returns
    -------
    ndarray, shape (..., n_states, n_states), float64
        Each row sums to 1; a state that was never left nor kept stays where it is.
    """
    totals = counts.sum(axis=-1, keepdims=True)
    stay = np.broadcast_to(np.eye(counts.shape[-1]), counts.shape).copy()
    return np.asarray(np.divide(counts, totals, out=stay, where=totals > 0))


def stationary_distribution(matrix: FloatArray) -> FloatArray:
    """Return the distribution that a transition matrix keeps.

    Parameters
    ----------
    matrix : ndarray, shape (n_states, n_states), float64
        Rows sum to 1.

    Returns
    -------
    ndarray, shape (n_states,), float64
        Where a chain ends that starts with equal shares; the only one that is kept, if every state can
        be reached from every other.

    Raises
    ------
    ValueError
        If a row does not sum to 1.

    Examples
    --------
    >>> stationary_distribution(np.array([[0.9, 0.1], [0.3, 0.7]])).round(6)
    array([0.75, 0.25])
    """
    if not np.allclose(matrix.sum(axis=1), 1.0):
        raise ValueError("matrix: expected rows that sum to 1, got others")
    limit = (matrix + np.eye(len(matrix))) / 2
    for _ in range(_N_SQUARINGS):
        limit = limit @ limit
        limit /= limit.sum(axis=1, keepdims=True)
    return np.asarray(limit.mean(axis=0))


def transition_distance(reference: FloatArray, model: FloatArray) -> float:
    """Return how far the transition probabilities of two sets of counts are apart.

    Parameters
    ----------
    reference, model : ndarray, shape (n_states, n_states)
        Totals of :func:`transition_counts`, at one lag in ps.

    Returns
    -------
    float
        Total variation between the rows of a state, 0 (equal) to 1 (disjoint), averaged over the states
        that both were in, each weighted by the share of the reference's transitions from it. Finite
        counts alone give some.

    Raises
    ------
    ValueError
        If shapes differ, or there is no state that both were in.
    """
    if reference.shape != model.shape:
        raise ValueError(
            f"model: expected the shape of reference, {reference.shape}, got {model.shape}"
        )
    visits = np.where(model.sum(axis=1) > 0, reference.sum(axis=1), 0.0)
    if not visits.sum() > 0:
        raise ValueError("model: expected a state that the reference was in, too, got none")
    difference = transition_matrix(reference) - transition_matrix(model)
    distances = np.abs(difference).sum(axis=1) / 2
    return float((visits * distances).sum() / visits.sum())
