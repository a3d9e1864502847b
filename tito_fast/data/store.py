"""The trajectory store: a directory of memory-mapped positions, molecules, and checksums.

A store holds four files. ``positions.f32`` is all frames of all trajectories, one after another, as
little-endian float32 nm without a header; ``molecules.json`` and ``trajectories.json`` are tables
with one row a line; ``manifest.json`` names the format, the units and the checksum of each file.
Every frame is stored with the geometric center of its molecule at the origin.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import IntArray, Molecule

FORMAT: Final = "tito_fast store"
FORMAT_VERSION: Final = 1
MANIFEST_FILE: Final = "manifest.json"
MOLECULES_FILE: Final = "molecules.json"
TRAJECTORIES_FILE: Final = "trajectories.json"
POSITIONS_FILE: Final = "positions.f32"
POSITIONS_DTYPE: Final = np.dtype("<f4")
CENTERING: Final = "geometric center of the molecule removed from every frame"

_CHECK_ROWS: Final = 1 << 20
# Rounding to float32 moves a center by about 1e-7 nm; 1e-4 nm is a frame that was not centered.
_CENTER_TOLERANCE_NM: Final = 1e-4
# Bond length over the sum of covalent radii: thermal motion changes it by some 15 %; positions in Å
# or with permuted atoms are off by much more.
_MEAN_BOND_RATIO: Final = (0.75, 1.3)
_BOND_RATIO: Final = (0.5, 1.7)


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """One row of the trajectory table.

    Parameters
    ----------
    name : str
        The label that the source gave it.
    molecule_idx : int
        Its molecule in ``Store.molecules``.
    split : str
        ``train``, ``val``, ``test``, or whatever the source calls it.
    n_frames : int
    frame_interval_ps : float
        Time between consecutive frames, in ps.
    first_row : int
        Row of its first atom in ``Store.positions``; frame ``f`` starts ``f * n_atoms`` rows later.
    temperature_k : float or None
        In K, where it is known.
    """

    name: str
    molecule_idx: int
    split: str
    n_frames: int
    frame_interval_ps: float
    first_row: int
    temperature_k: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Store:
    """An open store. Positions stay on disk until they are read.

    Parameters
    ----------
    path : Path
    manifest : dict
        ``manifest.json`` as it stands.
    molecules : tuple of Molecule
    trajectories : tuple of Trajectory
    positions : ndarray, shape (n_rows, 3), float32
        Memory-mapped and read-only, in nm.
    """

    path: Path
    manifest: dict[str, Any]
    molecules: tuple[Molecule, ...]
    trajectories: tuple[Trajectory, ...]
    positions: NDArray[np.float32]

    @property
    def content_hash(self) -> str:
        """Hash of positions and tables; independent of the path and of when it was written."""
        return str(self.manifest["content_hash"])

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in the order in which they appear."""
        return tuple(dict.fromkeys(row.split for row in self.trajectories))

    @property
    def n_frames(self) -> int:
        """Number of frames of all trajectories."""
        return sum(row.n_frames for row in self.trajectories)

    def split_indices(self, split: str) -> IntArray:
        """Return the indices of the trajectories in ``split``, (n_trajectories,), int64.

        A split belongs to a trajectory, not to a molecule: runs of one molecule may be dealt to
        several splits.

        Raises
        ------
        ValueError
            If no trajectory is in ``split``.
        """
        if split not in self.splits:
            raise ValueError(f"split: expected one of {', '.join(self.splits)}, got {split!r}")
        rows = [idx for idx, row in enumerate(self.trajectories) if row.split == split]
        return np.array(rows, dtype=np.int64)

    def trajectory_positions(self, trajectory_idx: int) -> NDArray[np.float32]:
        """Return the frames of one trajectory, (n_frames, n_atoms, 3), nm, without reading them."""
        row = self.trajectories[trajectory_idx]
        n_atoms = self.molecules[row.molecule_idx].n_atoms
        rows = self.positions[row.first_row : row.first_row + row.n_frames * n_atoms]
        return rows.reshape(row.n_frames, n_atoms, 3)


def open_store(path: Path | str) -> Store:
    """Return the store at ``path``.

    Reads the tables and maps the positions; checksums are left to :func:`check_store`.

    Raises
    ------
    ValueError
        If ``path`` is not a store, is of a newer format, or a file is missing or of a wrong size.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    for name, entry in manifest["files"].items():
        file = path / name
        found = file.stat().st_size if file.is_file() else None
        if found != entry["bytes"]:
            got = "no such file" if found is None else f"{found} bytes"
            raise ValueError(
                f"store: expected {entry['bytes']} bytes in {file}, got {got}; "
                "convert the data again"
            )
    molecules = tuple(molecule_from_row(row) for row in _read_rows(path / MOLECULES_FILE))
    trajectories = tuple(_trajectory_from_row(row) for row in _read_rows(path / TRAJECTORIES_FILE))
    positions_file = path / POSITIONS_FILE
    n_rows = positions_file.stat().st_size // (3 * POSITIONS_DTYPE.itemsize)
    _check_rows(path, molecules, trajectories, n_rows)
    positions = np.memmap(positions_file, dtype=POSITIONS_DTYPE, mode="r", shape=(n_rows, 3))
    return Store(
        path=path,
        manifest=manifest,
        molecules=molecules,
        trajectories=trajectories,
        # A plain array over the map: subclass checks cost more than a small read.
        positions=cast("NDArray[np.float32]", positions.view(np.ndarray)),
    )


def check_store(path: Path | str) -> list[str]:
    """Return what is wrong with the store at ``path``, one sentence each; empty if nothing is.

    Verifies checksums, sizes and tables, and of every trajectory: finite positions, centered
    frames, a positive frame interval, and bond lengths against the sums of covalent radii.

    Notes
    -----
    Reads every byte twice; memory does not grow with the size of the store.
    """
    path = Path(path)
    try:
        store = open_store(path)
    except ValueError as error:
        return [str(error)]
    problems = []
    digests = {name: file_sha256(path / name) for name in store.manifest["files"]}
    for name, entry in store.manifest["files"].items():
        if digests[name] != entry["sha256"]:
            problems.append(f"{name}: expected sha256 {entry['sha256']}, got {digests[name]}")
    if not problems and content_hash(digests) != store.content_hash:
        problems.append(f"{MANIFEST_FILE}: content_hash does not belong to the files")
    for idx in range(len(store.trajectories)):
        problems += _trajectory_problems(store, idx)
    return problems


def content_hash(digests: dict[str, str]) -> str:
    """Return the hash of a store from the sha256 of each of its files."""
    text = "\n".join(f"{name} {digests[name]}" for name in sorted(digests))
    return hashlib.sha256(f"{FORMAT} {FORMAT_VERSION}\n{text}".encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def molecule_row(molecule: Molecule) -> dict[str, Any]:
    """Return ``molecule`` as the row of ``molecules.json`` that :func:`molecule_from_row` reads."""
    return {
        "name": molecule.name,
        "smiles": molecule.smiles,
        "atomic_numbers": molecule.atomic_numbers.tolist(),
        "bond_index": molecule.bond_index.tolist(),
        "bond_type": molecule.bond_type.tolist(),
        "positions": molecule.positions.tolist(),
        "atom_names": molecule.atom_names,
        "residue_names": molecule.residue_names,
        "residue_numbers": molecule.residue_numbers,
        "chain_ids": molecule.chain_ids,
        "formal_charges": molecule.formal_charges,
        "notes": molecule.notes,
    }


def molecule_from_row(row: dict[str, Any]) -> Molecule:
    """Return the molecule of a row of ``molecules.json``."""
    return Molecule(
        name=row["name"],
        smiles=row["smiles"],
        atomic_numbers=np.array(row["atomic_numbers"], dtype=np.int64),
        bond_index=np.array(row["bond_index"], dtype=np.int64).reshape(2, -1),
        bond_type=np.array(row["bond_type"], dtype=np.int64),
        positions=np.array(row["positions"], dtype=np.float64),
        atom_names=tuple(row["atom_names"]),
        residue_names=tuple(row["residue_names"]),
        residue_numbers=tuple(row["residue_numbers"]),
        chain_ids=tuple(row["chain_ids"]),
        formal_charges=tuple(row["formal_charges"]),
        notes=tuple(row["notes"]),
    )


def _trajectory_from_row(row: dict[str, Any]) -> Trajectory:
    return Trajectory(**row)


def _read_manifest(path: Path) -> dict[str, Any]:
    if not (path / MANIFEST_FILE).is_file():
        raise ValueError(
            f"store: expected a directory with {MANIFEST_FILE}, got {str(path)!r}; "
            "make one with tito-fast data convert"
        )
    manifest = _read_json(path / MANIFEST_FILE)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"store: expected a manifest of a {FORMAT}, got {path / MANIFEST_FILE}")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"store: expected format_version {FORMAT_VERSION}, got "
            f"{manifest.get('format_version')!r} in {path}; convert the data again"
        )
    expected = {MOLECULES_FILE, TRAJECTORIES_FILE, POSITIONS_FILE}
    if set(manifest.get("files", ())) != expected or "content_hash" not in manifest:
        raise ValueError(f"store: expected files and content_hash in {path / MANIFEST_FILE}")
    return manifest


def _read_json(path: Path) -> Any:  # noqa: ANN401  what a JSON file holds is known to its reader
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"store: expected JSON in {path}, got {error}") from error


def _read_rows(path: Path) -> list[dict[str, Any]]:
    rows = _read_json(path)
    if not isinstance(rows, list):
        raise ValueError(f"store: expected a list of rows in {path}, got {type(rows).__name__}")  # noqa: TRY004  the value of a file
    return rows


def _check_rows(
    path: Path, molecules: tuple[Molecule, ...], trajectories: tuple[Trajectory, ...], n_rows: int
) -> None:
    end = 0
    for row in trajectories:
        if not 0 <= row.molecule_idx < len(molecules):
            raise ValueError(
                f"store: expected molecules 0 to {len(molecules) - 1}, got {row.molecule_idx} "
                f"for {row.name!r} in {path}"
            )
        if row.first_row != end:
            raise ValueError(
                f"store: expected first_row {end}, got {row.first_row} for {row.name!r} in {path}"
            )
        end += row.n_frames * molecules[row.molecule_idx].n_atoms
    if end != n_rows:
        raise ValueError(f"store: expected {end} rows in {path / POSITIONS_FILE}, got {n_rows}")


def _trajectory_problems(store: Store, trajectory_idx: int) -> list[str]:
    row = store.trajectories[trajectory_idx]
    molecule = store.molecules[row.molecule_idx]
    label = f"trajectory {trajectory_idx} ({row.name})"
    problems = []
    if not math.isfinite(row.frame_interval_ps) or row.frame_interval_ps <= 0:
        problems.append(f"{label}: expected an interval above zero, got {row.frame_interval_ps} ps")
    frames = store.trajectory_positions(trajectory_idx)
    n_step = max(_CHECK_ROWS // molecule.n_atoms, 1)
    bonds = _BondLengths(molecule)
    furthest_nm = 0.0
    for start in range(0, row.n_frames, n_step):
        block = frames[start : start + n_step].astype(np.float64)
        finite = np.isfinite(block).all(axis=(1, 2))
        if not finite.all():
            bad = start + int(np.argmin(finite))
            return [
                *problems,
                f"{label}: expected finite positions, got NaN or infinity in frame {bad}",
            ]
        furthest_nm = max(furthest_nm, float(np.abs(block.mean(axis=1)).max()))
        bonds.add(block)
    if furthest_nm > _CENTER_TOLERANCE_NM:
        problems.append(f"{label}: expected centered frames, got a center {furthest_nm:.3g} nm off")
    return problems + [f"{label}: {problem}" for problem in bonds.problems()]


class _BondLengths:
    """Mean and range of every bond length over blocks of frames, judged by covalent radii."""

    def __init__(self, molecule: Molecule) -> None:
        forward = molecule.bond_index[0] < molecule.bond_index[1]
        self._source, self._receiver = molecule.bond_index[:, forward]
        radii = _covalent_radii_nm(molecule.atomic_numbers)
        self._expected = radii[self._source] + radii[self._receiver]
        self._n_frames = 0
        self._sum = np.zeros_like(self._expected)
        self._low = np.full_like(self._expected, np.inf)
        self._high = np.zeros_like(self._expected)

    def add(self, positions: NDArray[np.float64]) -> None:
        """Take ``positions`` (n_frames, n_atoms, 3) into account."""
        bond_vec = positions[:, self._source] - positions[:, self._receiver]
        lengths = np.linalg.norm(bond_vec, axis=-1)
        self._n_frames += lengths.shape[0]
        self._sum += lengths.sum(axis=0)
        self._low = np.minimum(self._low, lengths.min(axis=0))
        self._high = np.maximum(self._high, lengths.max(axis=0))

    def problems(self) -> list[str]:
        """Return a sentence on the bonds of implausible length, if there are any."""
        mean = self._sum / max(self._n_frames, 1)
        wrong = (
            (mean < _MEAN_BOND_RATIO[0] * self._expected)
            | (mean > _MEAN_BOND_RATIO[1] * self._expected)
            | (self._low < _BOND_RATIO[0] * self._expected)
            | (self._high > _BOND_RATIO[1] * self._expected)
        )
        if not self._n_frames or not wrong.any():
            return []
        first = int(np.argmax(wrong))
        return [
            f"expected bond lengths near the sum of covalent radii, got {int(wrong.sum())} others; "
            f"atoms {self._source[first]} and {self._receiver[first]}: mean {mean[first]:.4f} nm, "
            f"{self._low[first]:.4f} to {self._high[first]:.4f} nm, "
            f"radii {self._expected[first]:.4f} nm"
        ]


def _covalent_radii_nm(atomic_numbers: IntArray) -> NDArray[np.float64]:
    from rdkit.Chem import GetPeriodicTable  # noqa: PLC0415  slow to import, needed here only

    table = GetPeriodicTable()
    return np.array([0.1 * table.GetRcovalent(int(number)) for number in atomic_numbers])
