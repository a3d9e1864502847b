"""One pass over the frames of a source: torsions to disk, geometry and validity counted."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from tito_fast.analysis.features import bond_torsions, torsion_features
from tito_fast.analysis.geometry import GeometryCounter, GeometryDistributions
from tito_fast.analysis.series import Series
from tito_fast.analysis.sources import Source, SourceTrajectory
from tito_fast.analysis.streams import Columns, Thinned, cut_frames, joined_frames
from tito_fast.data.molecule import FloatArray, IntArray, Molecule
from tito_fast.data.torsions import rotatable_torsions, torsion_angles
from tito_fast.data.validity import ValidityCounter

Role = Literal["run", "reference"]
FeatureSet = Literal["all", "rotatable"]
FEATURE_SETS: Final = ("all", "rotatable")

MAX_ENERGY_FRAMES: Final = 2000
"""At most so many evenly spaced frames are kept for energies, and at least half as many."""

_BLOCK_ROWS: Final = 1 << 17
_MAX_UNITS: Final = 256
_MIN_UNITS: Final = 64
_FIRST_BLOCK: Final = 64
_EVEN: Final = 1e-3


@dataclass(frozen=True, eq=False, kw_only=True)
class Torsions:
    """Which torsions of a molecule are looked at.

    Parameters
    ----------
    bonds : ndarray, shape (n_bonds, 4), int64
        About every bond with a neighbor on both sides, as the authors take them.
    rotatable : ndarray, shape (n_rotatable, 4), int64
    """

    bonds: IntArray
    rotatable: IntArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Recording:
    """What is kept of a source.

    Parameters
    ----------
    source : Source
    torsions : Torsions
    bond_angles, rotatable_angles : list of ndarray, shape (n_frames, n_torsions), float32
        In radians, one per trajectory; memory maps beyond ``streams.MEMORY_LIMIT_BYTES``.
    features : list of ndarray, shape (n_frames, n_features), float32
        Cosines and sines of the chosen torsions.
    times_ps : list of ndarray, shape (n_frames,), float64
    geometry : GeometryDistributions
        Units are replicas, or blocks of few long trajectories.
    validity : dict
        As ``validity.json``; a replica of it is a trajectory, or some of many.
    energy_positions : list of ndarray, shape (n_kept, n_atoms, 3), float32
        Evenly spaced frames of each trajectory.
    n_start_frames : int
        Frames left out because they were given.
    notes : tuple of str
    """

    source: Source
    torsions: Torsions
    bond_angles: list[Series]
    rotatable_angles: list[Series]
    features: list[Series]
    times_ps: list[FloatArray]
    geometry: GeometryDistributions
    validity: dict[str, Any]
    energy_positions: list[NDArray[np.float32]]
    n_start_frames: int
    notes: tuple[str, ...]

    @property
    def n_frames(self) -> list[int]:
        """Frames of each trajectory."""
        return [len(one) for one in self.times_ps]

    @property
    def torsion_angles(self) -> list[Series]:
        """Angles of the rotatable bonds, or of all bonds where nothing rotates."""
        return self.rotatable_angles if len(self.torsions.rotatable) else self.bond_angles

    @property
    def torsion_atoms(self) -> IntArray:
        """Atoms of :attr:`torsion_angles`, (n_torsions, 4)."""
        return self.torsions.rotatable if len(self.torsions.rotatable) else self.torsions.bonds


def record(
    source: Source,
    *,
    molecule: Molecule,
    role: Role,
    folder: Path,
    features: FeatureSet = "all",
    keep_energies: bool = False,
    chunk_frames: int | None = None,
) -> Recording:
    """Read all frames of a source once.

    Parameters
    ----------
    source : Source
    molecule : Molecule
        Whose bonds and stereo count, of the same atoms as the source's.
    role : "run" | "reference"
        Of a run, frames at the start that were given are left out.
    folder : path
        Where torsions are kept that are too large for memory.
    features : "all" | "rotatable"
    keep_energies : bool
        Keep evenly spaced frames.
    chunk_frames : int, optional
        Frames looked at together; the result is the same, bit for bit.

    Returns
    -------
    Recording

    Raises
    ------
    ValueError
        If there is no frame, or no way to tell times.

    Notes
    -----
    A trajectory is cut before its first frame that is not finite, and a note says so. Memory for
    positions is a few MB, whatever the length; per frame 8 bytes stay, and the torsions on disk.
    """
    torsions = Torsions(bonds=bond_torsions(molecule), rotatable=rotatable_torsions(molecule))
    reader = _Reader(
        molecule,
        torsions,
        n_trajectories=len(source.trajectories),
        features=features,
        folder=folder,
    )
    times, kept, notes, n_starts = [], [], [], 0
    for index, trajectory in enumerate(source.trajectories):
        part = reader.read(
            index,
            trajectory,
            drop_first=lambda stamp: _is_start(source, role, stamp),
            chunk_frames=chunk_frames,
            keep=MAX_ENERGY_FRAMES // len(source.trajectories) + 1 if keep_energies else 0,
        )
        n_starts += part.n_dropped
        times.append(_times(source, part, trajectory.name, role))
        kept.append(part.kept)
        if part.is_cut:
            notes.append(
                f"{role}: {trajectory.name} is cut at frame {part.n_read}, which is not finite"
            )
    if not sum(len(one) for one in times):
        raise ValueError(f"{role}: expected frames after the start, got none in {source.label}")
    columns = reader.columns
    return Recording(
        source=source,
        torsions=torsions,
        bond_angles=columns["bonds"].series(),
        rotatable_angles=columns["rotatable"].series(),
        features=columns["features"].series(),
        times_ps=times,
        geometry=reader.geometry.result(),
        validity=reader.validity.result(),
        energy_positions=kept,
        n_start_frames=n_starts,
        notes=tuple(notes),
    )


@dataclass(eq=False)
class _Part:
    """What was read of one trajectory."""

    n_read: int = 0
    n_dropped: int = 0
    is_cut: bool = False
    stamps: FloatArray | None = None
    kept: NDArray[np.float32] = None  # type: ignore[assignment]  # set when all is read


class _Reader:
    def __init__(
        self,
        molecule: Molecule,
        torsions: Torsions,
        *,
        n_trajectories: int,
        features: FeatureSet,
        folder: Path,
    ) -> None:
        self._torsions = torsions
        self._features = features
        self._n_atoms = molecule.n_atoms
        self._n_trajectories = n_trajectories
        # Powers of two, so that blocks can be joined in pairs.
        per_trajectory = max(1, _MIN_UNITS // n_trajectories)
        self._n_units = 1 << (per_trajectory.bit_length() - 1)
        groups = min(n_trajectories, _MAX_UNITS)
        self._group = (np.arange(n_trajectories) * groups // n_trajectories).astype(np.int64)
        self.geometry = GeometryCounter(
            molecule, series_idx=np.repeat(np.arange(groups), self._n_units).astype(np.int64)
        )
        self.validity = ValidityCounter(molecule)
        n_chosen = len(torsions.bonds if features == "all" else torsions.rotatable)
        widths = {
            "bonds": len(torsions.bonds),
            "rotatable": len(torsions.rotatable),
            "features": 2 * n_chosen,
        }
        self.columns = {
            name: Columns(width, folder / f"{name}.f32") for name, width in widths.items()
        }

    def read(
        self,
        index: int,
        trajectory: SourceTrajectory,
        *,
        drop_first: Callable[[float | None], bool],
        chunk_frames: int | None,
        keep: int,
    ) -> _Part:
        part = _Part()
        stamps: list[FloatArray] = []
        thinned = Thinned(keep)
        for column in self.columns.values():
            column.begin()
        blocks = trajectory.blocks()
        if chunk_frames is not None:
            blocks = cut_frames(blocks, chunk_frames)
        is_first, counted = True, 0
        block_frames = _FIRST_BLOCK
        for positions, times in joined_frames(blocks, max(1, _BLOCK_ROWS // self._n_atoms)):
            if is_first and drop_first(None if times is None else float(times[0])):
                positions, times = positions[1:], None if times is None else times[1:]  # noqa: PLW2901
                part.n_dropped = 1
            is_first = False
            is_finite = np.isfinite(positions).all(axis=(1, 2))
            n_good = len(positions) if is_finite.all() else int(np.argmin(is_finite))
            # The first frame that is not finite is counted as such.
            seen = positions[: n_good + 1]
            self.validity.update(np.full(len(seen), self._group[index]), seen)
            good = positions[:n_good]
            block_frames = self._count(index, good, counted, block_frames)
            counted += n_good
            self._append(good)
            thinned.add(good)
            if times is not None:
                stamps.append(np.asarray(times[:n_good], dtype=np.float64))
            if n_good < len(positions):
                part.is_cut = True
                break
        part.n_read = counted
        part.stamps = np.concatenate(stamps) if stamps else None
        part.kept = thinned.positions(self._n_atoms)
        return part

    def _append(self, positions: NDArray[Any]) -> None:
        bonds = torsion_angles(positions, self._torsions.bonds)
        rotatable = torsion_angles(positions, self._torsions.rotatable)
        self.columns["bonds"].append(bonds)
        self.columns["rotatable"].append(rotatable)
        chosen = bonds if self._features == "all" else rotatable
        self.columns["features"].append(torsion_features(chosen))

    def _count(self, index: int, frames: NDArray[Any], counted: int, block_frames: int) -> int:
        """Count geometry in blocks of equal length, doubled whenever there are too many."""
        n_units, first = self._n_units, int(self._group[index]) * self._n_units
        done = 0
        while done < len(frames):
            if n_units == 1:
                self.geometry.update(frames[done:], unit=first)
                break
            block = (counted + done) // block_frames
            if block >= n_units:
                self.geometry.join_pairs(first, first + n_units)
                block_frames *= 2
                continue
            stop = min(len(frames), (block + 1) * block_frames - counted)
            self.geometry.update(frames[done:stop], unit=first + block)
            done = stop
        return block_frames


def _is_start(source: Source, role: Role, stamp: float | None) -> bool:
    if role == "reference":
        return False
    if source.starts_elsewhere:
        # A start may be left out, as where it could not be relaxed.
        return stamp is None or stamp == 0.0
    return source.kind == "files" and stamp == 0.0


def _times(source: Source, part: _Part, name: str, role: Role) -> FloatArray:
    """Return the times of the frames that were read, exact where the source knows them."""
    n_frames, stamps = part.n_read, part.stamps
    if source.exact_times_ps is not None:
        return _exact_times(source.exact_times_ps[part.n_dropped :], stamps, n_frames)
    if source.kind == "store" or stamps is None:
        if source.interval_ps is None:
            option = "--frame-interval" if role == "reference" else "--lag"
            raise ValueError(
                f"{role}: expected time stamps in {name}, got a format without; pass {option} with the time "
                "between frames"
            )
        return source.interval_ps * (part.n_dropped + np.arange(n_frames, dtype=np.float64))
    if n_frames < 2:
        return stamps
    interval = (stamps[-1] - stamps[0]) / (n_frames - 1)
    steps = np.diff(stamps)
    # Time stamps are float32 in most formats.
    slack = _EVEN * interval + 4 * np.spacing(np.float32(np.abs(stamps).max()))
    if not interval > 0 or np.abs(steps - interval).max() > slack:
        raise ValueError(
            f"{role}: expected frames evenly spaced in time in {name}, got {steps.min():g} to "
            f"{steps.max():g} ps between frames; write it anew with one interval"
        )
    interval = float(f"{interval:.6g}")
    return np.asarray(stamps[0] + interval * np.arange(n_frames))


def _exact_times(exact: FloatArray, stamps: FloatArray | None, n_frames: int) -> FloatArray:
    """Return the recorded times, those nearest to the stamps where frames are missing."""
    if stamps is not None and n_frames and len(exact):
        nearest = np.searchsorted((exact[1:] + exact[:-1]) / 2, stamps)
        if (np.diff(nearest) > 0).all():
            return exact[nearest]
    return exact[:n_frames]
