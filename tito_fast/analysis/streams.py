"""Frames as they stream in: blocks of one size, rows that go to disk, evenly spaced ones that stay."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.series import Series
from tito_fast.data.convert.writer import Frames
from tito_fast.data.molecule import FloatArray

MEMORY_LIMIT_BYTES: Final = 1 << 28
"""Torsions and features of one source up to this size stay in memory."""


class Columns:
    """Rows of float32, in memory while they are few, then in a file.

    Parameters
    ----------
    n_columns : int
    path : Path
        Of the file, if there is one.
    """

    def __init__(self, n_columns: int, path: Path) -> None:
        self._n_columns, self._path = n_columns, path
        self._lengths: list[int] = []
        self._chunks: list[NDArray[np.float32]] = []
        self._n_bytes = 0
        self._is_on_disk = False

    def begin(self) -> None:
        """Start the next trajectory."""
        self._lengths.append(0)

    def append(self, rows: FloatArray) -> None:
        """Add rows to the trajectory."""
        narrow = rows.astype(np.float32)
        self._lengths[-1] += len(narrow)
        self._n_bytes += narrow.nbytes
        self._chunks.append(narrow)
        if self._n_bytes > MEMORY_LIMIT_BYTES:
            with self._path.open("ab") as file:
                for chunk in self._chunks:
                    chunk.tofile(file)
            self._chunks.clear()
            self._is_on_disk = True

    def series(self) -> list[Series]:
        """Return the rows of each trajectory."""
        shape = (sum(self._lengths), self._n_columns)
        whole: NDArray[np.float32]
        if self._is_on_disk:
            whole = np.memmap(self._path, dtype=np.float32, mode="r", shape=shape)
        else:
            whole = np.concatenate([np.zeros((0, self._n_columns), np.float32), *self._chunks])
            self._chunks.clear()
        ends = np.cumsum(self._lengths)
        return [whole[end - n : end] for end, n in zip(ends, self._lengths, strict=True)]


class Thinned:
    """Evenly spaced frames of a trajectory of unknown length.

    Parameters
    ----------
    n_wanted : int
        At most so many, and at least half as many; 0 for none.
    """

    def __init__(self, n_wanted: int) -> None:
        self._n_wanted = n_wanted
        self._stride, self._seen = 1, 0
        self._kept: list[NDArray[np.float32]] = []

    def add(self, positions: NDArray[Any]) -> None:
        """Take frames into account."""
        if not self._n_wanted:
            return
        first = -self._seen % self._stride
        self._kept += list(positions[first :: self._stride].astype(np.float32))
        self._seen += len(positions)
        while len(self._kept) > self._n_wanted:
            self._kept = self._kept[::2]
            self._stride *= 2

    def positions(self, n_atoms: int) -> NDArray[np.float32]:
        """Return those that are kept, (n_kept, n_atoms, 3)."""
        if not self._kept:
            return np.zeros((0, n_atoms, 3), np.float32)
        return np.stack(self._kept)


def temporary_folder() -> "_Folder":
    """Return a folder that is removed when the context ends."""
    return _Folder()


class _Folder:
    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp(prefix="tito_fast_evaluate_"))
        return self._path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


def cut_frames(blocks: Iterator[Frames], size: int) -> Iterator[Frames]:
    """Yield the frames in blocks of at most ``size``."""
    for block in blocks:
        for start in range(0, len(block.positions), size):
            cut = slice(start, start + size)
            times = None if block.times_ps is None else block.times_ps[cut]
            yield Frames(positions=block.positions[cut], times_ps=times)


def joined_frames(
    blocks: Iterator[Frames], size: int
) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
    """Yield blocks of ``size`` frames, however they come: sums then do not depend on it."""
    waiting: list[Frames] = []
    n_waiting = 0

    def joined() -> tuple[NDArray[Any], NDArray[Any] | None]:
        positions = np.concatenate([one.positions for one in waiting])
        stamps = [one.times_ps for one in waiting if one.times_ps is not None]
        return positions, np.concatenate(stamps) if stamps else None

    for block in blocks:
        start = 0
        while start < len(block.positions):
            take = slice(start, start + size - n_waiting)
            times = None if block.times_ps is None else block.times_ps[take]
            waiting.append(Frames(positions=block.positions[take], times_ps=times))
            n_waiting += len(waiting[-1].positions)
            start += len(waiting[-1].positions)
            if n_waiting == size:
                yield joined()
                waiting.clear()
                n_waiting = 0
    if waiting:
        yield joined()
