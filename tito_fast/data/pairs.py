"""Training pairs: frames of one trajectory a physical lag apart, drawn a whole batch at a time."""

import warnings
from dataclasses import dataclass
from typing import Final, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from tito_fast.data.batch import MoleculeBatch, upload
from tito_fast.data.molecule import IntArray
from tito_fast.data.store import Store
from tito_fast.data.topology_table import TopologyTable, csr_starts
from tito_fast.validation import check_at_least, check_choice, check_positive

LagLaw = Literal["uniform", "log_uniform", "fixed"]
LAG_LAWS: Final[tuple[LagLaw, ...]] = get_args(LagLaw)

# The interval is known to about seven digits; 0.3 ps are three steps of 0.1 ps, not two.
_INTERVAL_SLACK: Final = 1e-6


@dataclass(frozen=True, eq=False, kw_only=True)
class PairBatch:
    """Pairs of frames, ragged over molecules.

    Parameters
    ----------
    batch : MoleculeBatch
        Topology, one entry a pair.
    current_positions, next_positions : Tensor, shape (n_atoms, 3), float32
        In nm, every molecule centered; ``next_positions`` are ``lag_time_ps`` later.
    lag_time_ps : Tensor, shape (n_pairs,), float32
    molecule_idx : Tensor, shape (n_pairs,), int64
        Into ``Store.molecules``.
    trajectory_idx, start_frame, lag_steps : Tensor, shape (n_pairs,), int64
        Where each pair came from.
    """

    batch: MoleculeBatch
    current_positions: Tensor
    next_positions: Tensor
    lag_time_ps: Tensor
    molecule_idx: Tensor
    trajectory_idx: Tensor
    start_frame: Tensor
    lag_steps: Tensor

    @property
    def n_pairs(self) -> int:
        """Number of pairs."""
        return self.batch.n_molecules

    def to(self, device: torch.device | str) -> Self:
        """Return the batch on ``device``."""
        return type(self)(
            batch=self.batch.to(device),
            current_positions=self.current_positions.to(device),
            next_positions=self.next_positions.to(device),
            lag_time_ps=self.lag_time_ps.to(device),
            molecule_idx=self.molecule_idx.to(device),
            trajectory_idx=self.trajectory_idx.to(device),
            start_frame=self.start_frame.to(device),
            lag_steps=self.lag_steps.to(device),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class PairIndices:
    """Which pairs were drawn, on the host; their positions are not read yet.

    Parameters
    ----------
    trajectory, start_frame, lag_steps : ndarray, shape (n_pairs,), int64
        Trajectories are numbered within the split.
    sizes : ndarray, shape (n_pairs,), int64
        Atoms of each pair's molecule.
    """

    trajectory: IntArray
    start_frame: IntArray
    lag_steps: IntArray
    sizes: IntArray

    @property
    def n_atoms(self) -> int:
        """Atoms of all pairs."""
        return int(self.sizes.sum())

    def part(self, rows: slice) -> Self:
        """Return consecutive pairs."""
        return type(self)(
            trajectory=self.trajectory[rows],
            start_frame=self.start_frame[rows],
            lag_steps=self.lag_steps[rows],
            sizes=self.sizes[rows],
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class DevicePositions:
    """All frames of one split on a device.

    Parameters
    ----------
    positions : Tensor, shape (n_rows, 3), float32
        In nm, trajectory after trajectory.
    first_row : ndarray, shape (n_trajectories,), int64
        Where each trajectory of the split starts.
    """

    positions: Tensor
    first_row: IntArray

    def frames(self, rows: IntArray) -> Tensor:
        """Return ``positions`` at ``rows``: only these numbers travel."""
        return self.positions.index_select(0, upload(torch.from_numpy(rows), self.positions.device))


@dataclass(frozen=True, eq=False, kw_only=True)
class LaggedWindows:
    """All start frames from which every lag up to the largest stays inside the trajectory.

    Windows are numbered through all trajectories and never listed, so memory does not grow with the
    number of frames.

    Parameters
    ----------
    frame_ptr : ndarray, shape (n_trajectories + 1,), int64
        Frames of trajectory ``k`` are ``frame_ptr[k]:frame_ptr[k + 1]`` when all are put in a row.
    window_ptr : ndarray, shape (n_trajectories + 1,), int64
        Windows of trajectory ``k`` are ``window_ptr[k]:window_ptr[k + 1]``.
    max_lag_steps : ndarray, shape (n_trajectories,), int64
    """

    frame_ptr: IntArray
    window_ptr: IntArray
    max_lag_steps: IntArray

    @property
    def n_windows(self) -> int:
        """Number of windows of all trajectories."""
        return int(self.window_ptr[-1])

    def trajectory_idx(self, window_idx: IntArray) -> IntArray:
        """Return the trajectory of each window, same shape as ``window_idx``."""
        return np.searchsorted(self.window_ptr, window_idx, side="right") - 1

    def start_frame(self, window_idx: IntArray) -> IntArray:
        """Return the first frame of each window, counted within its trajectory."""
        return window_idx - self.window_ptr[self.trajectory_idx(window_idx)]

    def first_frames(self) -> IntArray:
        """Return the first frame of every window, (n_windows,), counted over all trajectories."""
        every = np.arange(self.n_windows)
        return self.frame_ptr[self.trajectory_idx(every)] + self.start_frame(every)

    def window_max_lag_steps(self) -> IntArray:
        """Return the largest lag of every window, (n_windows,), in steps."""
        return np.repeat(self.max_lag_steps, np.diff(self.window_ptr))


def lagged_windows(lengths: IntArray, max_lag_steps: IntArray | int) -> LaggedWindows:
    """Return the windows of trajectories with ``lengths`` frames.

    A trajectory of ``T`` frames has starts ``0 … T − max_lag_steps − 1``, whatever lag is drawn
    later; one that is too short has none.

    Parameters
    ----------
    lengths : ndarray, shape (n_trajectories,), int64
    max_lag_steps : int or ndarray, shape (n_trajectories,), int64
        At least 1.

    Raises
    ------
    ValueError
        If a lag is below 1 or the shapes differ.

    Examples
    --------
    >>> windows = lagged_windows(np.array([5, 2, 4]), 2)
    >>> windows.first_frames().tolist()
    [0, 1, 2, 7, 8]
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    lags = np.asarray(max_lag_steps, dtype=np.int64)
    if lengths.ndim != 1 or lags.shape not in {(), lengths.shape}:
        raise ValueError(
            f"max_lag_steps: expected one lag or shape {lengths.shape}, got {lags.shape}"
        )
    check_at_least("max_lag_steps", int(lags.min(initial=1)), 1)
    counts = np.maximum(lengths - lags, 0)
    return LaggedWindows(
        frame_ptr=np.concatenate([[0], np.cumsum(lengths)]),
        window_ptr=np.concatenate([[0], np.cumsum(counts)]),
        max_lag_steps=np.broadcast_to(lags, lengths.shape).copy(),
    )


def draw_lag_steps(
    rng: np.random.Generator | np.random.RandomState,
    max_lag_steps: IntArray,
    *,
    law: LagLaw = "uniform",
) -> IntArray:
    """Draw one lag in steps for every entry of ``max_lag_steps`` = K.

    ``uniform``: 1 … K with equal weight; ``log_uniform``: ⌊exp(u)⌋ with u uniform in
    [0, ln(K + 1)); ``fixed``: K.

    Parameters
    ----------
    rng : numpy Generator or RandomState
        A ``RandomState`` gives the draws of the released code, which uses numpy's legacy stream.
    max_lag_steps : ndarray, shape (n_pairs,), int64
        At least 1.
    law : {"uniform", "log_uniform", "fixed"}

    Returns
    -------
    ndarray, shape (n_pairs,), int64

    Raises
    ------
    ValueError
        If ``law`` is not known or a lag is below 1.
    """
    check_choice("law", law, LAG_LAWS)
    limit = np.asarray(max_lag_steps, dtype=np.int64)
    check_at_least("max_lag_steps", int(limit.min(initial=1)), 1)
    if law == "fixed":
        return limit.copy()
    if law == "log_uniform":
        lags = np.exp(rng.uniform(0.0, 1.0, limit.shape) * np.log(limit + 1.0)).astype(np.int64)
        # exp(ln(K + 1)) may round up to K + 1 itself.
        return np.asarray(np.minimum(lags, limit), dtype=np.int64)
    if isinstance(rng, np.random.RandomState):
        return np.asarray(rng.randint(1, limit + 1, size=limit.shape), dtype=np.int64)
    return np.asarray(rng.integers(1, limit, endpoint=True), dtype=np.int64)


class PairSampler:
    """Draw pairs of frames from one split of a store.

    Every window of every trajectory is equally likely, so a trajectory weighs by its length. With
    ``max_lag_ps`` and a frame interval dt the largest lag is ``K = max(int(max_lag_ps / dt), 1)``
    steps, and start frames run from 0 to ``n_frames − K − 1``; no pair crosses a trajectory's end.

    Parameters
    ----------
    store : Store
    split : str
    max_lag_ps : float
        Largest lag, in ps.
    lag_law : {"uniform", "log_uniform", "fixed"}
        See :func:`draw_lag_steps`.

    Raises
    ------
    ValueError
        If the split is unknown, the lag not positive, or every trajectory too short for it.

    Warns
    -----
    UserWarning
        If some trajectories are too short, or the interval is longer than ``max_lag_ps``.

    Notes
    -----
    Tables of the topology are held in memory, positions are read from the map as they are drawn.
    """

    def __init__(
        self, store: Store, *, split: str, max_lag_ps: float, lag_law: LagLaw = "uniform"
    ) -> None:
        check_choice("lag_law", lag_law, LAG_LAWS)
        check_positive("max_lag_ps", max_lag_ps, unit="ps")
        self.split = split
        self.max_lag_ps = max_lag_ps
        self.lag_law: LagLaw = lag_law
        self._positions = store.positions
        self._trajectories = store.split_indices(split)
        rows = [store.trajectories[idx] for idx in self._trajectories]
        self._interval_ps = np.array([row.frame_interval_ps for row in rows])
        self._first_row = np.array([row.first_row for row in rows], dtype=np.int64)
        self._molecule = np.array([row.molecule_idx for row in rows], dtype=np.int64)
        lengths = np.array([row.n_frames for row in rows], dtype=np.int64)
        self.windows = lagged_windows(lengths, self._max_lag_steps())
        self._check_windows(lengths)
        self._topology = TopologyTable.from_store(store)
        self._n_rows = lengths * self._topology.atom_counts[self._molecule]

    @property
    def n_windows(self) -> int:
        """Number of start frames to draw from."""
        return self.windows.n_windows

    def draw(self, n_pairs: int, rng: np.random.Generator) -> PairBatch:
        """Draw ``n_pairs`` pairs, independently and with replacement.

        Parameters
        ----------
        n_pairs : int
        rng : numpy Generator
            Takes two draws a pair, all windows first and then all lags; equal states give equal
            pairs.

        Raises
        ------
        ValueError
            If ``n_pairs`` is below 1.
        """
        return self.gather(self.draw_indices(n_pairs, rng))

    def draw_indices(self, n_pairs: int, rng: np.random.Generator) -> PairIndices:
        """Draw as :meth:`draw` does, and read no positions."""
        check_at_least("n_pairs", n_pairs, 1)
        window_idx = rng.integers(0, self.windows.n_windows, size=n_pairs)
        trajectory = self.windows.trajectory_idx(window_idx)
        return PairIndices(
            trajectory=trajectory,
            start_frame=window_idx - self.windows.window_ptr[trajectory],
            lag_steps=draw_lag_steps(rng, self.windows.max_lag_steps[trajectory], law=self.lag_law),
            sizes=self._topology.atom_counts[self._molecule[trajectory]],
        )

    def gather(self, indices: PairIndices, *, source: DevicePositions | None = None) -> PairBatch:
        """Return the pairs of ``indices``.

        Parameters
        ----------
        indices : PairIndices
        source : DevicePositions, optional
            From :meth:`positions_on`: the positions of the result are on its device, all else on the
            host. None: positions are read from the map.
        """
        trajectory, sizes = indices.trajectory, indices.sizes
        molecule = self._molecule[trajectory]
        batch, atom = self._topology.batch(molecule)
        first_row = self._first_row if source is None else source.first_row
        first = first_row[trajectory] + indices.start_frame * sizes
        current = np.repeat(first, sizes)
        current += atom
        later = np.repeat(first + indices.lag_steps * sizes, sizes)
        later += atom
        frames = self._mapped if source is None else source.frames
        return PairBatch(
            batch=batch,
            current_positions=frames(current),
            next_positions=frames(later),
            lag_time_ps=torch.from_numpy(
                (indices.lag_steps * self._interval_ps[trajectory]).astype(np.float32)
            ),
            molecule_idx=torch.from_numpy(molecule),
            trajectory_idx=torch.from_numpy(self._trajectories[trajectory]),
            start_frame=torch.from_numpy(indices.start_frame),
            lag_steps=torch.from_numpy(indices.lag_steps),
        )

    @property
    def n_bytes(self) -> int:
        """Memory of all positions of the split."""
        return int(self._n_rows.sum()) * 3 * self._positions.itemsize

    def positions_on(self, device: torch.device) -> DevicePositions:
        """Return all positions of the split on ``device``; reads them once."""
        first_row = csr_starts(self._n_rows)
        positions = torch.empty((int(self._n_rows.sum()), 3), dtype=torch.float32, device=device)
        for start, mapped, n_rows in zip(first_row, self._first_row, self._n_rows, strict=True):
            block = np.array(self._positions[mapped : mapped + n_rows])
            positions[start : start + n_rows] = torch.from_numpy(block).to(device)
        return DevicePositions(positions=positions, first_row=first_row)

    def _mapped(self, rows: IntArray) -> Tensor:
        return torch.from_numpy(np.take(self._positions, rows, axis=0))

    def _max_lag_steps(self) -> IntArray:
        steps = (self.max_lag_ps / self._interval_ps * (1 + _INTERVAL_SLACK)).astype(np.int64)
        if (steps < 1).any():
            longest = float(self._interval_ps.max())
            warnings.warn(
                f"max_lag_ps: {self.max_lag_ps:g} ps is shorter than the frame interval of "
                f"{longest:g} ps; pairs of neighboring frames are drawn instead",
                stacklevel=3,
            )
        return np.maximum(steps, 1)

    def _check_windows(self, lengths: IntArray) -> None:
        empty = int((np.diff(self.windows.window_ptr) == 0).sum())
        if empty == lengths.shape[0]:
            longest_ps = float(((lengths - 1) * self._interval_ps).max())
            raise ValueError(
                f"max_lag_ps: expected at most {longest_ps:g} ps, the longest trajectory of split "
                f"{self.split!r}, got {self.max_lag_ps:g}"
            )
        if empty:
            warnings.warn(
                f"max_lag_ps: {empty} of {lengths.shape[0]} trajectories in split {self.split!r} "
                f"are not longer than {self.max_lag_ps:g} ps and give no pairs",
                stacklevel=3,
            )
