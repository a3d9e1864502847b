"""XTC files: big-endian frames one after another, each complete in itself, so files can be joined."""

import struct
import tempfile
from pathlib import Path

import numpy as np
from mdtraj.formats import XTCTrajectoryFile
from numpy.typing import NDArray

from tito_fast.data.molecule import Molecule
from tito_fast.data.writers.base import BufferedWriter, Frames, check_molecule_atoms
from tito_fast.data.writers.disk import AppendFile

# A frame: magic, n_atoms, step, time, nine box floats, n_atoms again; then, up to nine atoms, plain
# floats; else precision, six bounds, a table index, a length, and that many bytes padded to four.
_MAGIC = 1995
_HEADER_BYTES = 56
_PACKED_HEADER_BYTES = 92
_MAX_PLAIN_ATOMS = 9
# A packed coordinate triple takes at most 1.2 * 3 integers: that is the size of xdrfile's buffer.
_MAX_BYTES_PER_ATOM = 15


class XtcWriter(BufferedWriter):
    """Appends frames to an XTC file at the usual precision of 0.001 nm.

    ``step`` of a frame is its number, from 0; times are float32 in this format. Up to nine atoms the
    format stores plain float32. The token is the length of the file.
    """

    def __init__(self, path: Path, *, molecule: Molecule, token: int | None) -> None:
        super().__init__(path, n_atoms=molecule.n_atoms)
        self._file = AppendFile(path, token=token)
        if self._file.size:
            self._n_written = 1 + _last_step(self._file, molecule)

    def _write(
        self, frames: NDArray[np.float32], times_ps: NDArray[np.float64], *, sync: bool
    ) -> None:
        data = encode_frames(frames, times_ps, first_step=self._n_written) if len(frames) else b""
        if data or sync:
            self._file.append(data, sync=sync)

    def _token(self) -> int:
        return self._file.size


def encode_frames(
    frames: NDArray[np.float32], times_ps: NDArray[np.float64], *, first_step: int
) -> bytes:
    """Return XTC frames as bytes, encoded by mdtraj in a temporary file (30 µs plus about 1 µs each).

    Parameters
    ----------
    frames : ndarray, shape (n_frames, n_atoms, 3), float32
        In nm; finite: xdrfile ends the process at a NaN.
    times_ps : ndarray, shape (n_frames,)
    first_step : int
        Number of the first frame.

    Raises
    ------
    OSError
        If the temporary folder is full.
    """
    n_frames, n_atoms = frames.shape[:2]
    with tempfile.NamedTemporaryFile(suffix=".xtc") as file:
        # mdtraj reports a failed write only if it happens before closing, so the bytes are counted.
        failure: RuntimeError | None = None
        try:
            with XTCTrajectoryFile(file.name, "w", force_overwrite=True) as xtc:
                xtc.write(
                    np.ascontiguousarray(frames),
                    time=times_ps.astype(np.float32),
                    step=np.arange(first_step, first_step + n_frames, dtype=np.int32),
                    box=np.zeros((n_frames, 3, 3), dtype=np.float32),
                )
        except RuntimeError as error:
            failure = error
        data = Path(file.name).read_bytes()
        n_encoded = len(_frame_starts(data, n_atoms))
        if failure is not None or n_encoded != n_frames:
            raise OSError(
                f"{file.name}: expected {n_frames} encoded frames, got {n_encoded}; free some space in "
                "the temporary folder (TMPDIR) and run the same command again"
            ) from failure
    return data


def read_xtc(path: Path) -> Frames:
    """Return all frames of an XTC file."""
    with XTCTrajectoryFile(str(path)) as xtc:
        positions, times_ps, _, _ = xtc.read()
    return Frames(positions=positions, times_ps=times_ps.astype(np.float64))


def _frame_starts(data: bytes, n_atoms: int) -> list[int]:
    """Return where each whole frame starts, up to the first byte that fits no frame."""
    starts, position = [], 0
    while (size := _frame_bytes(data, position, n_atoms)) is not None:
        starts.append(position)
        position += size
    return starts


def _frame_bytes(data: bytes, position: int, n_atoms: int) -> int | None:
    """Return the length of the whole frame at ``position``, or None if there is none."""
    is_packed = n_atoms > _MAX_PLAIN_ATOMS
    header_bytes = _PACKED_HEADER_BYTES if is_packed else _HEADER_BYTES
    if position + header_bytes > len(data):
        return None
    if struct.unpack_from(">2i", data, position) != (_MAGIC, n_atoms):
        return None
    (n_bytes,) = struct.unpack_from(">i", data, position + 88) if is_packed else (12 * n_atoms,)
    size = header_bytes + (n_bytes + 3) // 4 * 4
    return size if n_bytes >= 0 and position + size <= len(data) else None


def _last_step(file: AppendFile, molecule: Molecule) -> int:
    """Return the number of the last frame, found from the end: long files are not read through.

    Raises
    ------
    ValueError
        If the file does not end with a whole frame of this molecule.
    """
    with file.path.open("rb") as opened:
        first = opened.read(8)
    if len(first) == 8 and struct.unpack(">i", first[:4]) == (_MAGIC,):
        check_molecule_atoms(molecule, struct.unpack(">i", first[4:])[0], file.path)
    data = file.tail(_PACKED_HEADER_BYTES + _MAX_BYTES_PER_ATOM * molecule.n_atoms)
    mark = struct.pack(">2i", _MAGIC, molecule.n_atoms)
    start = data.rfind(mark)
    while start >= 0:
        size = _frame_bytes(data, start, molecule.n_atoms)
        if size is not None and start + size == len(data):
            return int(struct.unpack_from(">i", data, start + 8)[0])
        start = data.rfind(mark, 0, start)
    raise ValueError(
        f"{file.path}: expected a whole XTC frame of {molecule.n_atoms} atoms before byte {file.size}, "
        "got other data; it was changed from outside: put it back, or start again with --overwrite"
    )
