"""HDF5 files in MDTraj's layout, by h5py, so that PyTables is not needed to write them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import Molecule
from tito_fast.data.writers.base import BufferedWriter, Frames, check_molecule_atoms
from tito_fast.data.writers.disk import check_token, create_empty
from tito_fast.data.writers.overlay import OverlayFile, journal_path

# Of one dataset chunk: large enough for few index entries, small enough for a short trajectory.
_CHUNK_BYTES = 1 << 14


class Hdf5Writer(BufferedWriter):
    """Appends frames to an HDF5 file: ``coordinates`` in nm, ``time`` in ps, ``topology`` as JSON.

    Each write happens whole or not at all, also when the process is killed in the middle of it
    (:mod:`tito_fast.data.writers.overlay`). The token is the number of frames.
    """

    def __init__(self, path: Path, *, molecule: Molecule, token: int | None) -> None:
        super().__init__(path, n_atoms=molecule.n_atoms)
        if token is None:
            create_empty(path)
            token = 0
        check_token(token)
        if token == 0:
            self._start_again(molecule)
        else:
            self._n_written = self._cut(token, molecule)

    def _write(
        self, frames: NDArray[np.float32], times_ps: NDArray[np.float64], *, sync: bool
    ) -> None:
        if not len(frames) and not sync:
            return

        def add(file: h5py.File) -> None:
            n_frames = self._n_written + len(frames)
            file["coordinates"].resize(n_frames, axis=0)
            file["coordinates"][self._n_written :] = frames
            file["time"].resize(n_frames, axis=0)
            file["time"][self._n_written :] = times_ps

        self._change("r+", add, sync=sync)

    def _token(self) -> int:
        return self._n_written

    def _start_again(self, molecule: Molecule) -> None:
        self.path.unlink(missing_ok=True)
        journal_path(self.path).unlink(missing_ok=True)

        self._change("w", lambda file: _write_layout(file, molecule), sync=False)

    def _cut(self, n_frames: int, molecule: Molecule) -> int:
        if not self.path.is_file():
            raise ValueError(
                f"{self.path}: expected the {n_frames} frames that the run recorded, got no file; "
                "put it back, or start again with --overwrite"
            )
        present: list[int] = []

        def look(file: h5py.File) -> None:
            _check_layout(file, self.path)
            check_molecule_atoms(molecule, file["coordinates"].shape[1], self.path)
            present.append(min(file["coordinates"].shape[0], file["time"].shape[0]))

        self._read(look)
        if present[0] < n_frames:
            raise ValueError(
                f"{self.path}: expected the {n_frames} frames that the run recorded, got {present[0]}; "
                "it was changed from outside: put it back, or start again with --overwrite"
            )
        if present[0] > n_frames:

            def cut(file: h5py.File) -> None:
                file["coordinates"].resize(n_frames, axis=0)
                file["time"].resize(n_frames, axis=0)

            self._change("r+", cut, sync=False)
        return n_frames

    def _read(self, look: Callable[[h5py.File], None]) -> None:
        with OverlayFile(self.path) as overlay:
            try:
                with h5py.File(overlay, "r") as file:
                    look(file)
            except OSError as error:
                raise ValueError(
                    f"{self.path}: expected an HDF5 file, got other data; it was changed from outside: "
                    "put it back, or start again with --overwrite"
                ) from error

    def _change(self, mode: str, change: Callable[[h5py.File], None], *, sync: bool) -> None:
        with OverlayFile(self.path) as overlay:
            with h5py.File(overlay, mode) as file:
                change(file)
            overlay.commit(sync=sync)


def read_hdf5(path: Path) -> Frames:
    """Return all frames of an HDF5 file in MDTraj's layout, in nm and ps."""
    with OverlayFile(path) as overlay, h5py.File(overlay, "r") as file:
        _check_layout(file, path)
        return Frames(
            positions=file["coordinates"][:].astype(np.float32, copy=False),
            times_ps=file["time"][:].astype(np.float64),
        )


def topology_json(molecule: Molecule) -> str:
    """Return the topology as the JSON text of MDTraj's HDF5 layout."""
    from mdtraj.formats import HDF5TrajectoryFile  # noqa: PLC0415  slow to import

    from tito_fast.data.topology import to_mdtraj_topology  # noqa: PLC0415  imports mdtraj

    layout: dict[str, Any] = HDF5TrajectoryFile.convert_topology_to_dict(
        to_mdtraj_topology(molecule)
    )
    return json.dumps(layout)


def _write_layout(file: h5py.File, molecule: Molecule) -> None:
    import mdtraj  # noqa: PLC0415  slow to import

    attributes = {
        "conventions": "Pande",
        "conventionVersion": "1.1",
        "program": "MDTraj",
        "programVersion": str(mdtraj.__version__),
        "application": "tito_fast",
        "title": molecule.name,
    }
    for name, value in attributes.items():
        # Of fixed length: PyTables, by which MDTraj reads, knows no other.
        file.attrs[name] = np.bytes_(value.encode())
    n_atoms = molecule.n_atoms
    coordinates = file.create_dataset(
        "coordinates",
        shape=(0, n_atoms, 3),
        maxshape=(None, n_atoms, 3),
        chunks=(max(1, _CHUNK_BYTES // (12 * n_atoms)), n_atoms, 3),
        dtype="<f4",
    )
    coordinates.attrs["units"] = np.bytes_(b"nanometers")
    time = file.create_dataset("time", shape=(0,), maxshape=(None,), chunks=(1024,), dtype="<f4")
    time.attrs["units"] = np.bytes_(b"picoseconds")
    file.create_dataset("topology", data=np.array([topology_json(molecule).encode("ascii")]))


def _check_layout(file: h5py.File, path: Path) -> None:
    """Raise ``ValueError`` unless ``file`` has the two datasets that grow."""
    missing = [name for name in ("coordinates", "time") if name not in file]
    if missing:
        raise ValueError(
            f"{path}: expected an HDF5 file in MDTraj's layout, got one without {' and '.join(missing)}; "
            "choose another output folder"
        )
