"""Chapman–Kolmogorov tests: one step of k lags against k steps of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.markov import transition_counts, transition_distance, transition_matrix
from tito_fast.analysis.resampling import N_RESAMPLES, Interval, interval_about, unit_weights
from tito_fast.analysis.unit_sums import UnitSums
from tito_fast.data.molecule import FloatArray, IntArray


@dataclass(frozen=True, eq=False, kw_only=True)
class ChapmanKolmogorov:
    """Probabilities to be in a state again after multiples of a lag.

    Parameters
    ----------
    multiples : tuple of int
    estimated : Interval
        Shape (n_multiples, n_states): of T(k lag), counted at that lag.
    predicted : Interval
        Shape (n_multiples, n_states): of T(lag)^k.
    """

    multiples: tuple[int, ...]
    estimated: Interval
    predicted: Interval


@dataclass(frozen=True, eq=False, kw_only=True)
class LagComparison:
    """Probabilities to be in a state again after one long lag, reached on three ways.

    Parameters
    ----------
    one_step : Interval
        Shape (n_states,): one step of k lag.
    many_steps : Interval
        Shape (n_states,): k steps of lag, counted at their end.
    predicted : Interval
        Shape (n_states,): of T(lag)^k.
    distance : float
        Of :func:`transition_distance` between one step and k steps.
    """

    one_step: Interval
    many_steps: Interval
    predicted: Interval
    distance: float


def chapman_kolmogorov(
    states: Sequence[IntArray],
    *,
    n_states: int,
    lag_frames: int,
    multiples: Sequence[int] = (1, 2, 3, 4, 5),
    block_frames: int | None = None,
    seed: int = 0,
) -> ChapmanKolmogorov:
    """Compare T(k lag), counted, with T(lag)^k.

    Parameters
    ----------
    states : sequence of ndarray, shape (n_frames,), int64
        One per trajectory.
    n_states, lag_frames : int
    multiples : sequence of int
        k.
    block_frames : int, optional
        Units of the bootstrap: blocks of this many frames, or trajectories.
    seed : int

    Returns
    -------
    ChapmanKolmogorov
        With 95 % intervals of a bootstrap over units, the same resamples for all lags; a state from
        which no transition was counted is NaN.

    Raises
    ------
    ValueError
        If no trajectory is longer than the longest lag, or a state is out of range.

    References
    ----------
    Prinz et al., J. Chem. Phys. 134, 174105 (2011), doi:10.1063/1.3565032.
    """
    short = transition_counts(
        states, n_states=n_states, lag_frames=lag_frames, block_frames=block_frames
    )
    weights = unit_weights(short.n_units, n_resamples=N_RESAMPLES, seed=seed)
    estimated, predicted = [], []
    for multiple in multiples:
        long = transition_counts(
            states, n_states=n_states, lag_frames=multiple * lag_frames, block_frames=block_frames
        )
        estimated.append(_stay_interval(long, weights))
        predicted.append(_stay_interval(short, weights, power=multiple))
    return ChapmanKolmogorov(
        multiples=tuple(multiples),
        estimated=_stacked(estimated),
        predicted=_stacked(predicted),
    )


def chapman_kolmogorov_error(counts: NDArray[Any], multiples: Sequence[int]) -> float:
    """Return the mean difference of the probabilities to be in a state again, counted and of T(lag)^k.

    Parameters
    ----------
    counts : ndarray, shape (n_multiples, n_states, n_states)
        Of transitions at each multiple of the lag.
    multiples : sequence of int
        k, from 1, which does not count: both are the same there.

    Returns
    -------
    float
        NaN where no state was left at all.
    """
    differences = np.stack(
        [
            _stay(at_lag, 1) - _stay(counts[0], multiple)
            for at_lag, multiple in zip(counts[1:], multiples[1:], strict=True)
        ]
    )
    known = np.abs(differences[np.isfinite(differences)])
    return float(known.mean()) if len(known) else float("nan")


def compare_lags(
    states_many_steps: Sequence[IntArray],
    states_one_step: Sequence[IntArray],
    *,
    n_states: int,
    multiple: int,
    seed: int = 0,
) -> LagComparison:
    """Compare runs with different lags: one step of k lag against k steps of lag.

    Parameters
    ----------
    states_many_steps : sequence of ndarray, shape (n_frames,), int64
        Of the runs with the short lag; at least k + 1 frames.
    states_one_step : sequence of ndarray, shape (n_frames,), int64
        Of the runs with k times the lag.
    n_states : int
    multiple : int
        k.
    seed : int

    Returns
    -------
    LagComparison
        With 95 % intervals of a bootstrap over trajectories.

    Raises
    ------
    ValueError
        If runs are too short, or a state is out of range.
    """
    each = transition_counts(states_many_steps, n_states=n_states, lag_frames=1)
    many = transition_counts(states_many_steps, n_states=n_states, lag_frames=multiple)
    one = transition_counts(states_one_step, n_states=n_states, lag_frames=1)
    weights = unit_weights(each.n_units, n_resamples=N_RESAMPLES, seed=seed)
    weights_one = unit_weights(one.n_units, n_resamples=N_RESAMPLES, seed=seed + 1)
    return LagComparison(
        one_step=_stay_interval(one, weights_one),
        many_steps=_stay_interval(many, weights),
        predicted=_stay_interval(each, weights, power=multiple),
        distance=transition_distance(many.total(), one.total()),
    )


def _stay_interval(counts: UnitSums, weights: IntArray, *, power: int = 1) -> Interval:
    value = _stay(counts.total(), power)
    if counts.n_units < 2:
        unknown = np.full_like(value, np.nan)
        return Interval(value=value, low=unknown, high=unknown)
    return interval_about(value, _stay(counts.total(weights), power), bounds=(0.0, 1.0))


def _stay(counts: FloatArray, power: int) -> FloatArray:
    """Return the diagonal of T^power, NaN where a state was not left."""
    matrix = np.linalg.matrix_power(transition_matrix(counts), power)
    diagonal = np.diagonal(matrix, axis1=-2, axis2=-1).copy()
    diagonal[counts.sum(axis=-1) == 0] = np.nan
    return diagonal


def _stacked(intervals: Sequence[Interval]) -> Interval:
    return Interval(
        value=np.stack([one.value for one in intervals]),
        low=np.stack([one.low for one in intervals]),
        high=np.stack([one.high for one in intervals]),
    )
