"""Rollouts of an exact sampler: those cut from a reference, whose dynamics are taken for the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.series import check_lag
from tito_fast.data.molecule import IntArray


@dataclass(frozen=True, eq=False, kw_only=True)
class DrawnRollouts:
    """Rollouts cut from the trajectories of a reference.

    Parameters
    ----------
    series_idx : ndarray, shape (n_rollouts,), int64
        Trajectory of each.
    frames : ndarray, shape (n_rollouts, n_steps + 1), int64
    """

    series_idx: IntArray
    frames: IntArray

    def take(self, series: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Return what ``series`` has at the frames, (n_rollouts, n_steps + 1, ...)."""
        found = np.empty((*self.frames.shape, *series[0].shape[1:]), dtype=series[0].dtype)
        for idx in np.unique(self.series_idx).tolist():
            is_here = self.series_idx == idx
            found[is_here] = series[idx][self.frames[is_here]]
        return found


def drawn_rollouts(
    n_frames: Sequence[int],
    *,
    lag_frames: int,
    n_replicas: int,
    n_steps: int,
    seed: int = 0,
) -> DrawnRollouts:
    """Return rollouts from frames drawn evenly among those from which as many steps fit.

    Parameters
    ----------
    n_frames : sequence of int
        Length of each trajectory of the reference.
    lag_frames, n_replicas, n_steps, seed : int
        As for :func:`drawn_pairs`; where the reference is too short, more and shorter rollouts.

    Returns
    -------
    DrawnRollouts

    Raises
    ------
    ValueError
        As :func:`drawn_pairs`.
    """
    if n_replicas < 1 or n_steps < 1:
        raise ValueError(
            f"n_steps: expected at least one replica and one step, got {n_replicas} and {n_steps}"
        )
    lengths = np.asarray(n_frames, dtype=np.int64)
    check_lag([np.zeros((int(length), 0)) for length in lengths], lag_frames, name="reference")
    steps = min(n_steps, int(lengths.max() - 1) // lag_frames)
    n_starts = np.maximum(lengths - steps * lag_frames, 0)
    n_rollouts = -(-n_replicas * n_steps // steps)
    picked = np.random.default_rng(seed).integers(n_starts.sum(), size=n_rollouts)
    ends = np.cumsum(n_starts)
    which = np.searchsorted(ends, picked, side="right")
    starts = picked - (ends - n_starts)[which]
    return DrawnRollouts(
        series_idx=which, frames=starts[:, None] + lag_frames * np.arange(steps + 1)
    )


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
    n_pairs = n_replicas * n_steps
    rollouts = drawn_rollouts(
        n_frames, lag_frames=lag_frames, n_replicas=n_replicas, n_steps=n_steps, seed=seed
    )
    n_drawn = rollouts.frames.shape[1] - 1
    frames = rollouts.frames[:, :-1].ravel()[:n_pairs]
    owner = np.repeat(rollouts.series_idx, n_drawn)[:n_pairs]
    return [
        np.bincount(frames[owner == idx], minlength=max(0, length - lag_frames))
        for idx, length in enumerate(n_frames)
    ]
