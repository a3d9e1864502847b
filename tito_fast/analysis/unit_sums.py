"""Sums per unit of resampling: a replica, or a block of one long trajectory."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import FloatArray, IntArray


@dataclass(frozen=True, eq=False, kw_only=True)
class UnitSums:
    """What a statistic needs, summed over the frames (or pairs of frames) of each unit.

    Parameters
    ----------
    sums : ndarray, shape (n_units, ...)
        Counts, or sums of products. A statistic takes the sum over units.
    series_idx : ndarray, shape (n_units,), int64
        Trajectory of each unit, ascending; units of one trajectory are in the order of time.
    """

    sums: NDArray[Any]
    series_idx: IntArray

    def __post_init__(self) -> None:
        """Check that there is one trajectory for each unit."""
        if not len(self.sums) or self.series_idx.shape != self.sums.shape[:1]:
            raise ValueError(
                f"series_idx: expected one for each of {len(self.sums)} units (at least one), "
                f"got shape {self.series_idx.shape}"
            )

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.sums)

    def total(self, weights: NDArray[Any] | None = None) -> FloatArray:
        """Return the sum over units.

        Parameters
        ----------
        weights : ndarray, shape (n_units,) or (n_resamples, n_units), optional
            How often each unit counts; once by default.

        Returns
        -------
        ndarray, shape (...) or (n_resamples, ...), float64
        """
        if weights is None:
            return np.asarray(self.sums.sum(axis=0), dtype=np.float64)
        flat = self.sums.reshape(self.n_units, -1).astype(np.float64, copy=False)
        result = np.asarray(weights, dtype=np.float64) @ flat
        return np.asarray(result.reshape(*weights.shape[:-1], *self.sums.shape[1:]))


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Frames ``start`` to ``stop`` of one trajectory."""

    series_idx: int
    start: int
    stop: int


def units_of(n_frames: Sequence[int], *, block_frames: int | None = None) -> list[Unit]:
    """Return the units of trajectories.

    Parameters
    ----------
    n_frames : sequence of int
        Length of each trajectory.
    block_frames : int, optional
        Cut each trajectory into blocks of this many frames; a rest of less than half a block joins the
        block before it. One unit per trajectory by default.

    Returns
    -------
    list of Unit
        By trajectory, then by time. A trajectory without frames is one unit, too.

    Raises
    ------
    ValueError
        If ``block_frames`` is below 1.
    """
    if block_frames is not None and block_frames < 1:
        raise ValueError(f"block_frames: expected at least 1, got {block_frames}")
    units = []
    for series_idx, length in enumerate(n_frames):
        size = block_frames or max(length, 1)
        n_blocks = max(1, (length + size // 2) // size)
        edges = [size * block for block in range(n_blocks)] + [length]
        units += [
            Unit(series_idx=series_idx, start=start, stop=stop) for start, stop in pairwise(edges)
        ]
    return units


def series_idx_of(units: Sequence[Unit]) -> IntArray:
    """Return the trajectory of each unit, (n_units,)."""
    return np.array([unit.series_idx for unit in units], dtype=np.int64)
