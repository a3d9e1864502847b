"""Writing a store: streaming, checksummed on the way, in place only when it is complete."""

import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import Molecule
from tito_fast.data.store import (
    CENTERING,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST_FILE,
    MOLECULES_FILE,
    POSITIONS_DTYPE,
    POSITIONS_FILE,
    TRAJECTORIES_FILE,
    Trajectory,
    content_hash,
    file_sha256,
    molecule_row,
)

# Time stamps of an XTC file are float32: a stamp t is known to about t * 2^-24.
_STAMP_EPSILON = 2.0**-22
_RELATIVE_JITTER = 1e-3


@dataclass(frozen=True, eq=False, kw_only=True)
class Frames:
    """Consecutive frames of one trajectory as a reader delivers them.

    Parameters
    ----------
    positions : ndarray, shape (n_frames, n_atoms, 3)
        In nm.
    times_ps : ndarray, shape (n_frames,), or None
        Time stamps, where the source has any.
    """

    positions: NDArray[np.floating[Any]]
    times_ps: NDArray[np.floating[Any]] | None = None


class StoreWriter:
    """Write a store into a hidden directory beside ``destination`` and rename it at the end.

    Use it as a context manager: leaving it without an error puts the store in place, leaving it
    with one (a full disk, Ctrl-C) removes what was written and ``destination`` stays as it was.

    Parameters
    ----------
    destination : Path or str
        The directory to make.
    converter : str
        Name of the source format, for the manifest.
    source_name : str
        What the data are called, for the manifest.
    overwrite : bool
        Replace a store that is already there. Anything else that is there is never replaced.
    on_trajectory : callable, optional
        Called with the row of every trajectory that has been written.

    Raises
    ------
    ValueError
        If ``destination`` exists and may not be replaced, or if nothing was added.
    """

    def __init__(
        self,
        destination: Path | str,
        *,
        converter: str,
        source_name: str,
        overwrite: bool = False,
        on_trajectory: Callable[[Trajectory], None] | None = None,
    ) -> None:
        self.destination = Path(destination)
        self._converter = converter
        self._source_name = source_name
        self._overwrite = overwrite
        self._on_trajectory = on_trajectory
        self._molecules: list[Molecule] = []
        self._trajectories: list[Trajectory] = []
        self._n_rows = 0
        self._digest = hashlib.sha256()
        check_destination(self.destination, overwrite=overwrite)

    def __enter__(self) -> Self:
        self.destination.parent.mkdir(parents=True, exist_ok=True)
        self._folder = Path(
            tempfile.mkdtemp(
                prefix=f".{self.destination.name}.", suffix=".part", dir=self.destination.parent
            )
        )
        self._folder.chmod(0o755)  # mkdtemp makes it private; a finished store is as any directory
        self._positions = (self._folder / POSITIONS_FILE).open("wb")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if exc_type is None:
                self._positions.flush()
                os.fsync(self._positions.fileno())
            self._positions.close()
            if exc_type is None:
                self._finish()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def add_molecule(self, molecule: Molecule) -> int:
        """Add ``molecule`` and return its index."""
        self._molecules.append(molecule)
        return len(self._molecules) - 1

    def add_trajectory(
        self,
        molecule_idx: int,
        frames: Iterable[Frames],
        *,
        name: str,
        split: str,
        frame_interval_ps: float | None = None,
        temperature_k: float | None = None,
    ) -> Trajectory:
        """Write one trajectory, block by block, and return its row.

        Parameters
        ----------
        molecule_idx : int
            From :meth:`add_molecule`.
        frames : iterable of Frames
            In the order of time. Every frame is centered in float64 and rounded to float32.
        name, split : str
            Label and split of the trajectory.
        frame_interval_ps : float, optional
            Time between frames. Without it the time stamps must be there and be regular; with it
            and time stamps the two must agree.
        temperature_k : float, optional
            Simulation temperature, in K.

        Raises
        ------
        ValueError
            If there are no frames, a shape is wrong, a position is not finite, or the interval is
            missing, not positive, irregular, or at odds with the time stamps.
        """
        n_atoms = self._molecules[molecule_idx].n_atoms
        first_row = self._n_rows
        n_frames = 0
        stamps: list[NDArray[np.float64]] = []
        for block in frames:
            self._write_positions(block.positions, n_atoms=n_atoms, name=name, n_before=n_frames)
            n_frames += block.positions.shape[0]
            if block.times_ps is not None:
                stamps.append(np.asarray(block.times_ps, dtype=np.float64))
        if n_frames == 0:
            raise ValueError(f"trajectory: expected at least one frame in {name!r}, got none")
        times_ps = np.concatenate(stamps) if stamps else None
        row = Trajectory(
            name=name,
            molecule_idx=molecule_idx,
            split=split,
            n_frames=n_frames,
            frame_interval_ps=frame_interval(times_ps, declared_ps=frame_interval_ps, name=name),
            first_row=first_row,
            temperature_k=temperature_k,
        )
        self._trajectories.append(row)
        if self._on_trajectory is not None:
            self._on_trajectory(row)
        return row

    def _write_positions(
        self, positions: NDArray[np.floating[Any]], *, n_atoms: int, name: str, n_before: int
    ) -> None:
        if positions.ndim != 3 or positions.shape[1:] != (n_atoms, 3):
            raise ValueError(
                f"positions: expected shape (n_frames, {n_atoms}, 3) in {name!r}, "
                f"got {positions.shape}"
            )
        exact = positions.astype(np.float64)
        finite = np.isfinite(exact).all(axis=(1, 2))
        if not finite.all():
            raise ValueError(
                f"positions: expected finite numbers in {name!r}, got NaN or infinity in frame "
                f"{n_before + int(np.argmin(finite))}"
            )
        exact -= exact.mean(axis=1, keepdims=True)
        data = np.ascontiguousarray(exact, dtype=POSITIONS_DTYPE).data
        self._digest.update(data)
        self._positions.write(data)
        self._n_rows += positions.shape[0] * n_atoms

    def _finish(self) -> None:
        if not self._trajectories:
            raise ValueError(f"source: expected trajectories in {self._source_name!r}, got none")
        _write_rows(self._folder / MOLECULES_FILE, [molecule_row(m) for m in self._molecules])
        _write_rows(self._folder / TRAJECTORIES_FILE, [asdict(row) for row in self._trajectories])
        digests = {
            name: file_sha256(self._folder / name) for name in (MOLECULES_FILE, TRAJECTORIES_FILE)
        }
        digests[POSITIONS_FILE] = self._digest.hexdigest()
        rows = self._trajectories
        manifest = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "source": {"name": self._source_name, "converter": self._converter},
            "units": {"length": "nm", "time": "ps", "temperature": "K"},
            "centering": CENTERING,
            "positions": "little-endian float32, (n_frames, n_atoms, 3) per trajectory",
            "n_molecules": len(self._molecules),
            "n_trajectories": len(rows),
            "n_frames": sum(row.n_frames for row in rows),
            "splits": {
                split: sum(row.split == split for row in rows)
                for split in dict.fromkeys(row.split for row in rows)
            },
            "temperatures_k": sorted({row.temperature_k for row in rows} - {None}),  # type: ignore[type-var]
            "files": {
                name: {"bytes": (self._folder / name).stat().st_size, "sha256": digest}
                for name, digest in sorted(digests.items())
            },
            "content_hash": content_hash(digests),
        }
        (self._folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
        _put_in_place(self._folder, self.destination, overwrite=self._overwrite)


def check_destination(destination: Path, *, overwrite: bool) -> None:
    """Raise ``ValueError`` unless a store may be written to ``destination``."""
    if not destination.exists():
        return
    if not overwrite:
        raise ValueError(
            f"destination: expected a path where nothing is yet, got {str(destination)!r}; "
            "choose another or allow overwriting"
        )
    manifest = destination / MANIFEST_FILE
    if not (manifest.is_file() and FORMAT in manifest.read_text("utf-8", errors="replace")):
        raise ValueError(
            f"destination: expected a store to overwrite, got {str(destination)!r}; "
            "remove it yourself if it may go"
        )


def frame_interval(
    times_ps: NDArray[np.float64] | None, *, declared_ps: float | None, name: str
) -> float:
    """Return the time between frames, in ps, from time stamps, a declared value, or both.

    Parameters
    ----------
    times_ps : ndarray, shape (n_frames,), or None
    declared_ps : float or None
        What the user or the source says it is; it wins where the stamps agree with it.
    name : str
        Trajectory in the error messages.

    Raises
    ------
    ValueError
        If there is neither, the interval is not positive, or the stamps are irregular or disagree.
    """
    if declared_ps is not None and (not math.isfinite(declared_ps) or declared_ps <= 0):
        raise ValueError(
            f"frame_interval_ps: expected a time above zero for {name!r}, got {declared_ps}"
        )
    if times_ps is None or times_ps.shape[0] < 2:
        if declared_ps is None:
            raise ValueError(
                f"frame_interval_ps: expected the time between frames of {name!r}, got no time "
                "stamps to find it from; give it"
            )
        return declared_ps
    interval = float(times_ps[-1] - times_ps[0]) / (times_ps.shape[0] - 1)
    if declared_ps is not None:
        interval = declared_ps
    expected = times_ps[0] + interval * np.arange(times_ps.shape[0])
    allowed = _RELATIVE_JITTER * abs(interval) + _STAMP_EPSILON * np.abs(times_ps)
    wrong = ~(np.abs(times_ps - expected) <= allowed)
    if not interval > 0 or wrong.any():
        first = max(int(np.argmax(wrong)), 1)
        raise ValueError(
            f"time stamps: expected one frame every {interval:g} ps in {name!r}, got frame {first} "
            f"at {times_ps[first]:g} ps after {times_ps[first - 1]:g} ps"
        )
    return declared_ps if declared_ps is not None else _shortest_interval(times_ps, interval)


def _shortest_interval(times_ps: NDArray[np.float64], interval: float) -> float:
    """Return ``interval`` with as few digits as the precision of the stamps bears out."""
    known_to = _STAMP_EPSILON * float(np.abs(times_ps).max()) / (times_ps.shape[0] - 1)
    rounded = (float(f"{interval:.{digits}g}") for digits in range(1, 7))
    return next((short for short in rounded if abs(short - interval) <= known_to), interval)


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows)
    path.write_text(f"[\n{lines}\n]\n", "utf-8")


def _put_in_place(folder: Path, destination: Path, *, overwrite: bool) -> None:
    # Asked again: something may have appeared there while the data were written.
    check_destination(destination, overwrite=overwrite)
    if destination.exists():
        old = folder.with_suffix(".old")
        destination.rename(old)
        folder.rename(destination)
        shutil.rmtree(old)
    else:
        folder.rename(destination)
