"""What every trajectory writer is, and the buffering that they share."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import Molecule
from tito_fast.errors import NonFiniteError

TrajectoryFormat = Literal["xtc", "dcd", "h5"]
FORMATS: tuple[TrajectoryFormat, ...] = get_args(TrajectoryFormat)

MAX_POSITION_NM: Final = 1e5
"""Largest coordinate accepted: XTC stores coordinates as 32-bit integers of 0.001 nm."""

# Opening a file costs some 30 µs whatever is written, so frames are gathered until this many bytes.
_BUFFER_BYTES = 1 << 17


@dataclass(frozen=True, eq=False, kw_only=True)
class Frames:
    """Frames of one trajectory.

    Parameters
    ----------
    positions : ndarray, shape (n_frames, n_atoms, 3), float32
        In nm.
    times_ps : ndarray, shape (n_frames,), float64
    """

    positions: NDArray[np.float32]
    times_ps: NDArray[np.float64]


class FrameWriter(Protocol):
    """A trajectory file that frames are appended to."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def n_frames(self) -> int:
        """Frames in the file and in the buffer."""

    def append(self, positions: NDArray[np.floating], times_ps: NDArray[np.floating]) -> None:
        """Add frames of shape (n_frames, n_atoms, 3), in nm, at ``times_ps`` (n_frames,)."""

    def flush(self, *, sync: bool = True) -> int:
        """Write what is buffered and return the token at which the file can be resumed."""

    def close(self) -> None:
        """Write what is buffered; frames can no longer be added."""


class BufferedWriter(ABC):
    """Checks frames, gathers them, and hands them to ``_write`` in large pieces."""

    def __init__(self, path: Path, *, n_atoms: int) -> None:
        self._path = path
        self._n_atoms = n_atoms
        self._n_written = 0
        self._pending: list[tuple[NDArray[np.float32], NDArray[np.float64]]] = []
        self._n_pending = 0
        self._is_open = True

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    @property
    def n_frames(self) -> int:
        """Frames in the file and in the buffer."""
        return self._n_written + self._n_pending

    def append(self, positions: NDArray[np.floating], times_ps: NDArray[np.floating]) -> None:
        """Add frames; they reach the file when the buffer is full or flushed.

        Parameters
        ----------
        positions : ndarray, shape (n_frames, n_atoms, 3)
            In nm; copied.
        times_ps : ndarray, shape (n_frames,)

        Raises
        ------
        ValueError
            If shapes do not fit, or the writer is closed.
        NonFiniteError
            If a coordinate is not finite, or beyond ``MAX_POSITION_NM``. Nothing of this call is kept.
        OSError
            If the file cannot be written; it then ends after the last frames written before.
        """
        if not self._is_open:
            raise ValueError(f"{self._path}: expected an open writer, got a closed one")
        frames = np.array(positions, dtype=np.float32)
        times = np.array(times_ps, dtype=np.float64)
        if frames.ndim != 3 or frames.shape[1:] != (self._n_atoms, 3):
            raise ValueError(
                f"positions: expected shape (n_frames, {self._n_atoms}, 3), got {frames.shape}"
            )
        if times.shape != frames.shape[:1]:
            raise ValueError(f"times_ps: expected shape {frames.shape[:1]}, got {times.shape}")
        # One comparison finds NaN as well: it is not below anything.
        is_good = (np.abs(frames) < MAX_POSITION_NM).all(axis=(1, 2))
        if not is_good.all():
            frame = self.n_frames + int(np.argmin(is_good))
            raise NonFiniteError(
                f"positions: expected finite coordinates below {MAX_POSITION_NM:g} nm, got others in "
                f"frame {frame} of {self._path}; the frames before this call are kept"
            )
        if not len(frames):
            return
        self._pending.append((frames, times))
        self._n_pending += len(frames)
        if self._n_pending * self._n_atoms * 12 >= _BUFFER_BYTES:
            self._write_pending(sync=False)

    def flush(self, *, sync: bool = True) -> int:
        """Write what is buffered and return the token at which the file can be resumed.

        Parameters
        ----------
        sync : bool
            Also wait until the disk has it (some ms): needed to survive a power cut, not a killed
            process.

        Raises
        ------
        OSError
            If the file cannot be written; it then ends after the last frames written before.
        """
        if not self._is_open:
            raise ValueError(f"{self._path}: expected an open writer, got a closed one")
        self._write_pending(sync=sync)
        return self._token()

    def close(self) -> None:
        """Write what is buffered; frames can no longer be added. A second call does nothing."""
        if self._is_open:
            self._write_pending(sync=False)
            self._is_open = False

    def _write_pending(self, *, sync: bool) -> None:
        frames = np.zeros((0, self._n_atoms, 3), dtype=np.float32)
        times = np.zeros(0, dtype=np.float64)
        if self._pending:
            frames = np.concatenate([piece for piece, _ in self._pending])
            times = np.concatenate([piece for _, piece in self._pending])
        # Forgotten before writing: after a failure the run resumes from its state, which has them.
        self._pending, self._n_pending = [], 0
        try:
            self._write(frames, times, sync=sync)
        except BaseException:
            self._is_open = False
            raise
        self._n_written += len(frames)

    @abstractmethod
    def _write(
        self, frames: NDArray[np.float32], times_ps: NDArray[np.float64], *, sync: bool
    ) -> None:
        """Put ``frames``, perhaps none, at the end of the file: all of them or none."""

    @abstractmethod
    def _token(self) -> int:
        """Return the token of the file as it is."""


def check_molecule_atoms(molecule: Molecule, n_atoms: int, path: Path) -> None:
    """Raise ``ValueError`` unless a file of ``n_atoms`` atoms can be one of ``molecule``."""
    if n_atoms != molecule.n_atoms:
        raise ValueError(
            f"{path}: expected a trajectory of {molecule.n_atoms} atoms, got {n_atoms}; "
            "choose another output folder"
        )
