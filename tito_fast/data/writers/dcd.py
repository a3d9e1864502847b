"""DCD files: one header with the number of frames, then frames of equal length in float32 Å."""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import Molecule
from tito_fast.data.writers.base import BufferedWriter, Frames, check_molecule_atoms
from tito_fast.data.writers.disk import AppendFile

# Fortran records, each between two copies of its length: 84 bytes of "CORD" and twenty numbers, the
# title, the number of atoms; then x, y, z of each frame as three records.
_ANGSTROM_PER_NM = 10.0
_PS_PER_AKMA = 0.04888821  # CHARMM's unit of time
_N_FRAMES_AT = 8
_N_STEPS_AT = 20
_INTERVAL_AT = 44
_TITLE = b"Created by tito_fast".ljust(80)
_HEADER_BYTES = 92 + (4 + 4 + 80 + 4) + 12


class DcdWriter(BufferedWriter):
    """Appends frames to a DCD file without unit cell and keeps both frame counts of its header.

    The format holds one interval, not times: it is that between the first two frames, the start
    being at 0. The token is the length of the file.
    """

    def __init__(self, path: Path, *, molecule: Molecule, token: int | None) -> None:
        super().__init__(path, n_atoms=molecule.n_atoms)
        self._file = AppendFile(path, token=token)
        self._frame_bytes = 3 * (4 * molecule.n_atoms + 8)
        if self._file.size:
            self._n_written = self._recorded_frames(molecule)
            # A run that was killed may have left a count of frames that are cut off now.
            self._patch_counts(self._n_written)
        else:
            self._file.append(_header(molecule.n_atoms), sync=False)

    def _write(
        self, frames: NDArray[np.float32], times_ps: NDArray[np.float64], *, sync: bool
    ) -> None:
        if not len(frames) and not sync:
            return
        self._file.append(encode_frames(frames), sync=False)
        second = 1 - self._n_written
        if 0 <= second < len(times_ps):
            start_ps = times_ps[0] if second else 0.0
            interval = (float(times_ps[second]) - float(start_ps)) / _PS_PER_AKMA
            self._file.patch(struct.pack("<f", interval), offset=_INTERVAL_AT)
        self._patch_counts(self._n_written + len(frames))
        if sync:
            self._file.append(b"", sync=True)

    def _token(self) -> int:
        return self._file.size

    def _patch_counts(self, n_frames: int) -> None:
        self._file.patch(struct.pack("<i", n_frames), offset=_N_FRAMES_AT)
        self._file.patch(struct.pack("<i", n_frames), offset=_N_STEPS_AT)

    def _recorded_frames(self, molecule: Molecule) -> int:
        n_atoms = _n_atoms(self.path)
        check_molecule_atoms(molecule, n_atoms, self.path)
        n_frames, rest = divmod(self._file.size - _HEADER_BYTES, self._frame_bytes)
        if n_frames < 0 or rest:
            raise ValueError(
                f"{self.path}: expected whole DCD frames before byte {self._file.size}, got a part of "
                "one; it was changed from outside: put it back, or start again with --overwrite"
            )
        return n_frames


def encode_frames(frames: NDArray[np.float32]) -> bytes:
    """Return DCD records of ``frames`` (n_frames, n_atoms, 3) float32, in nm."""
    n_frames, n_atoms = frames.shape[:2]
    records = np.empty((n_frames, 3, n_atoms + 2), dtype="<f4")
    length = np.array([4 * n_atoms], dtype="<i4").view("<f4")
    records[:, :, 0] = records[:, :, -1] = length
    records[:, :, 1:-1] = frames.transpose(0, 2, 1) * np.float32(_ANGSTROM_PER_NM)
    return records.tobytes()


def read_dcd(path: Path) -> Frames:
    """Return all whole frames of a DCD file that this module wrote."""
    n_atoms = _n_atoms(path)
    with path.open("rb") as file:
        (interval,) = struct.unpack_from("<f", file.read(_HEADER_BYTES), _INTERVAL_AT)
        records = np.frombuffer(file.read(), dtype="<f4")
    n_frames = len(records) // (3 * (n_atoms + 2))
    records = records[: n_frames * 3 * (n_atoms + 2)].reshape(n_frames, 3, n_atoms + 2)
    positions = records[:, :, 1:-1].transpose(0, 2, 1) / np.float32(_ANGSTROM_PER_NM)
    return Frames(
        positions=np.ascontiguousarray(positions, dtype=np.float32),
        times_ps=np.arange(n_frames, dtype=np.float64) * interval * _PS_PER_AKMA,
    )


def _header(n_atoms: int) -> bytes:
    numbers = [0] * 20
    numbers[2] = 1  # steps between frames
    numbers[19] = 24  # the CHARMM version whose layout this is
    control = struct.pack("<i4s20ii", 84, b"CORD", *numbers, 84)
    title = struct.pack("<2i80si", 84, 1, _TITLE, 84)
    return control + title + struct.pack("<3i", 4, n_atoms, 4)


def _n_atoms(path: Path) -> int:
    """Return the number of atoms that the header states; refuse a header of another kind."""
    with path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES or header[92:-12] != _header(0)[92:-12]:
        raise ValueError(
            f"{path}: expected a DCD file that tito_fast wrote, got another header; "
            "choose another output folder"
        )
    return int(struct.unpack_from("<i", header, _HEADER_BYTES - 8)[0])
