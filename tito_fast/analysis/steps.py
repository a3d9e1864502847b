"""Which pairs of a run's frames are a lag apart, for lags that are not all equal."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.unit_sums import UnitSums
from tito_fast.data.molecule import FloatArray, IntArray
from tito_fast.units import format_time


@dataclass(frozen=True, eq=False, kw_only=True)
class Steps:
    """Stretches of successive frames with one lag between them.

    Parameters
    ----------
    lag_ps : float
        The lag of most steps; of equally many, the longest.
    trajectory_idx, starts, stops : ndarray, shape (n_stretches,), int64
        Frames ``starts`` to ``stops`` of a trajectory; all stretches together cover every frame that
        has a neighbor a lag away.
    note : str
        What was left out; empty if all lags are equal.
    """

    lag_ps: float
    trajectory_idx: IntArray
    starts: IntArray
    stops: IntArray
    note: str = ""

    @property
    def n_pairs(self) -> int:
        """Pairs of frames a lag apart."""
        return int((self.stops - self.starts - 1).sum())

    def cut(self, series: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the stretches of ``series``, one array per trajectory, (n_frames, ...)."""
        return [
            series[idx][start:stop]
            for idx, start, stop in zip(
                self.trajectory_idx.tolist(), self.starts.tolist(), self.stops.tolist(), strict=True
            )
        ]

    def by_trajectory(self, units: UnitSums) -> UnitSums:
        """Return sums over stretches, one unit each or cut into blocks, as units of trajectories.

        Stretches of one trajectory are joined where each is one unit; they are not independent.
        """
        owner = self.trajectory_idx[units.series_idx]
        if len(np.unique(units.series_idx)) < units.n_units or len(np.unique(owner)) == len(owner):
            return UnitSums(sums=units.sums, series_idx=owner)
        first = np.flatnonzero(np.diff(owner, prepend=-1))
        return UnitSums(sums=np.add.reduceat(units.sums, first, axis=0), series_idx=owner[first])


def steps_of(times_ps: Sequence[FloatArray]) -> Steps:
    """Return the steps of trajectories with given times.

    Parameters
    ----------
    times_ps : sequence of ndarray, shape (n_frames,), float64
        Of the frames that are looked at.

    Returns
    -------
    Steps

    Raises
    ------
    ValueError
        If no trajectory has two frames.
    """
    lags = [_rounded(np.diff(times)) for times in times_ps]
    values, numbers = np.unique(np.concatenate(lags), return_counts=True)
    if not len(values):
        raise ValueError(
            "run: expected at least two frames after the start, a lag apart, got fewer in every "
            "trajectory; sample more steps"
        )
    counts = dict(zip(values.tolist(), numbers.tolist(), strict=True))
    lag_ps = max(counts, key=lambda lag: (counts[lag], lag))
    found = []
    for idx, one in enumerate(lags):
        is_lag = np.concatenate([[False], one == lag_ps, [False]])
        edges = np.flatnonzero(np.diff(is_lag.astype(np.int8)))
        found += [
            (idx, start, stop + 1) for start, stop in zip(edges[::2], edges[1::2], strict=True)
        ]
    table = np.array(found, dtype=np.int64).T
    note = ""
    if len(counts) > 1:
        others = ", ".join(
            format_time(lag) for lag in sorted(counts, reverse=True) if lag != lag_ps
        )
        note = (
            f"kinetics are over the {counts[lag_ps]} steps of {format_time(lag_ps)} only; the run has "
            f"others ({others}), which do not count"
        )
    return Steps(lag_ps=lag_ps, trajectory_idx=table[0], starts=table[1], stops=table[2], note=note)


def _rounded(lags_ps: FloatArray) -> FloatArray:
    """Return lags to eight digits, so that sums of equal lags have equal differences."""
    scale = 10.0 ** (7 - np.floor(np.log10(lags_ps)))
    return np.asarray(np.round(lags_ps * scale) / scale)
