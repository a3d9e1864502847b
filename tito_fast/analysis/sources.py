"""What can be evaluated: runs, trajectory files, folders and stores, read in blocks of frames."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from tito_fast.data.convert.mdtraj_files import (
    SDF_FILE,
    SYSTEM_FILE,
    TOPOLOGY_FILE,
    TRAJECTORY_SUFFIXES,
    is_run_directory,
    read_frames,
    read_molecule,
)
from tito_fast.data.convert.writer import Frames
from tito_fast.data.molecule import FloatArray, Molecule
from tito_fast.data.run_directory import molecule_of_run, read_run, run_times_ps, trajectory_files
from tito_fast.data.store import MANIFEST_FILE, open_store
from tito_fast.data.topology import to_mdtraj_topology

SourceKind = Literal["rollout", "simulation", "relaxation", "files", "store"]

SYSTEM_XML: Final = "system.xml"
_BLOCK_ROWS: Final = 1 << 18
_DIRECTORIES: Final = (
    "a directory of tito-fast sample, simulate or relax, a folder with trajectory.xtc and topology.pdb, "
    "a store, or a trajectory file"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class SourceTrajectory:
    """One trajectory, to be read as often as wanted.

    Parameters
    ----------
    name : str
    blocks : callable
        Returns an iterator over consecutive frames.
    """

    name: str
    blocks: Callable[[], Iterator[Frames]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """Trajectories of one molecule.

    Parameters
    ----------
    label : str
        What the user gave.
    kind : SourceKind
    molecule : Molecule
    trajectories : tuple of SourceTrajectory
    files : tuple of Path
        All that was read, for the record.
    exact_times_ps : ndarray, shape (n_frames,), float64, or None
        Of the frames of every trajectory, where a run recorded them.
    interval_ps : float or None
        Between frames, where it is known without time stamps.
    system_xml : Path or None
        The force field of a simulation.
    settings : dict
        Of a run, as it recorded them.
    """

    label: str
    kind: SourceKind
    molecule: Molecule
    trajectories: tuple[SourceTrajectory, ...]
    files: tuple[Path, ...]
    exact_times_ps: FloatArray | None = None
    interval_ps: float | None = None
    system_xml: Path | None = None
    settings: dict[str, Any]

    @property
    def starts_elsewhere(self) -> bool:
        """Whether the first frame is a start that was given, not sampled."""
        return self.kind in {"rollout", "relaxation"}


def open_source(
    paths: Sequence[Path],
    *,
    argument: str,
    topology: Path | None = None,
    like: Molecule | None = None,
    interval_ps: float | None = None,
) -> Source:
    """Return the trajectories at ``paths``: one directory, or one or several files of one molecule.

    Parameters
    ----------
    paths : sequence of path
    argument : str
        What an error calls it: ``run`` or ``reference``.
    topology : path, optional
        Structure of trajectory files.
    like : Molecule, optional
        Which molecule of a store is meant, and that of files without a topology.
    interval_ps : float, optional
        Between frames, for files without time stamps.

    Returns
    -------
    Source

    Raises
    ------
    ValueError
        If there is nothing of the kind, or files are unreadable.
    """
    for path in paths:
        if not path.exists():
            raise ValueError(f"{argument}: expected {_DIRECTORIES}, got no such file: {path}")
    folders = [path for path in paths if path.is_dir()]
    if folders and len(paths) > 1:
        raise ValueError(
            f"{argument}: expected one directory, or several files, got {len(paths)} with {folders[0]}"
        )
    if not folders:
        return _files(paths, argument, topology=topology, like=like, interval_ps=interval_ps)
    folder = folders[0]
    if is_run_directory(folder):
        return _run(folder, argument)
    if (folder / MANIFEST_FILE).is_file():
        return _store(folder, argument, like=like)
    if is_trajectory_folder(folder):
        return _folder(folder, interval_ps=interval_ps)
    raise ValueError(f"{argument}: expected {_DIRECTORIES}, got the directory {folder}")


def is_trajectory_folder(path: Path) -> bool:
    """Whether ``path`` holds ``topology.pdb`` and ``trajectory.*``."""
    return (path / TOPOLOGY_FILE).is_file() and bool(_trajectories_in(path))


def is_source(path: Path) -> bool:
    """Whether ``path`` holds trajectories itself, and not in sub-folders."""
    if not path.is_dir():
        return path.is_file()
    return is_run_directory(path) or (path / MANIFEST_FILE).is_file() or is_trajectory_folder(path)


def _trajectories_in(folder: Path) -> list[Path]:
    return [
        file
        for file in sorted(folder.glob("trajectory*"))
        if file.suffix.lower() in TRAJECTORY_SUFFIXES
    ]


def _run(folder: Path, argument: str) -> Source:
    record = read_run(folder)
    files = trajectory_files(folder)
    if not files:
        raise ValueError(
            f"{argument}: expected trajectories in {folder}, got none; the run is empty"
        )
    topology = folder / TOPOLOGY_FILE
    system = folder / SYSTEM_XML
    return Source(
        label=str(folder),
        kind=record.get("kind", "rollout"),
        molecule=molecule_of_run(folder),
        trajectories=tuple(_file_trajectory(file, topology) for file in files),
        files=(*files, folder / "run.json"),
        exact_times_ps=run_times_ps(folder),
        system_xml=system if system.is_file() else None,
        settings=record["settings"],
    )


def _folder(folder: Path, *, interval_ps: float | None) -> Source:
    files = _trajectories_in(folder)
    topology, system = folder / TOPOLOGY_FILE, folder / SYSTEM_XML
    molecule, settings = _molecule_beside(topology)
    return Source(
        label=str(folder),
        kind="files",
        molecule=molecule,
        trajectories=tuple(_file_trajectory(file, topology) for file in files),
        files=(*files, topology),
        interval_ps=settings.get("frame_interval_ps", interval_ps),
        system_xml=system if system.is_file() else None,
        settings={},
    )


def _files(
    paths: Sequence[Path],
    argument: str,
    *,
    topology: Path | None,
    like: Molecule | None,
    interval_ps: float | None,
) -> Source:
    for path in paths:
        if path.suffix.lower() not in TRAJECTORY_SUFFIXES:
            raise ValueError(
                f"{argument}: expected a trajectory ({', '.join(TRAJECTORY_SUFFIXES)}), got {path}"
            )
    beside = paths[0].parent / TOPOLOGY_FILE
    chosen = topology or (beside if beside.is_file() else None)
    if chosen is not None:
        molecule, _ = _molecule_beside(chosen)
        trajectories = [_file_trajectory(path, chosen) for path in paths]
    elif like is not None:
        molecule = like
        trajectories = [_like_trajectory(path, like) for path in paths]
    else:
        raise ValueError(
            f"{argument}: expected a topology for {paths[0]}, got none; pass --topology with a PDB file"
        )
    return Source(
        label=", ".join(map(str, paths)),
        kind="files",
        molecule=molecule,
        trajectories=tuple(trajectories),
        files=(*paths, *([chosen] if chosen else [])),
        interval_ps=interval_ps,
        settings={},
    )


def _store(folder: Path, argument: str, *, like: Molecule | None) -> Source:
    store = open_store(folder)
    wanted = [
        idx
        for idx, molecule in enumerate(store.molecules)
        if like is None or molecule.name == like.name
    ]
    if not wanted and like is not None:
        wanted = [idx for idx, molecule in enumerate(store.molecules) if _is_same(molecule, like)]
    if len(wanted) != 1:
        names = ", ".join(molecule.name for molecule in store.molecules[:8])
        which = "one molecule" if like is None else f"the molecule {like.name!r}"
        raise ValueError(f"{argument}: expected {which} in the store {folder}, got {names}")
    rows = [idx for idx, row in enumerate(store.trajectories) if row.molecule_idx == wanted[0]]
    intervals = sorted({store.trajectories[idx].frame_interval_ps for idx in rows})
    if len(intervals) != 1:
        raise ValueError(
            f"{argument}: expected one frame interval in the store {folder}, got "
            f"{', '.join(f'{each:g} ps' for each in intervals)}"
        )
    molecule = store.molecules[wanted[0]]
    size = max(1, _BLOCK_ROWS // molecule.n_atoms)

    def trajectory(idx: int) -> SourceTrajectory:
        def blocks() -> Iterator[Frames]:
            positions = store.trajectory_positions(idx)
            for start in range(0, len(positions), size):
                yield Frames(positions=positions[start : start + size])

        return SourceTrajectory(name=store.trajectories[idx].name, blocks=blocks)

    return Source(
        label=str(folder),
        kind="store",
        molecule=molecule,
        trajectories=tuple(trajectory(idx) for idx in rows),
        files=(folder / MANIFEST_FILE,),
        interval_ps=intervals[0],
        settings={},
    )


def _is_same(one: Molecule, other: Molecule) -> bool:
    return bool(
        np.array_equal(one.atomic_numbers, other.atomic_numbers)
        and bonds_of(one) == bonds_of(other)
    )


def bonds_of(molecule: Molecule) -> set[tuple[int, int]]:
    """Return the pairs of bonded atoms, the lower first."""
    return {(i, j) for i, j in molecule.bond_index.T.tolist() if i < j}


def check_same_atoms(run: Molecule, reference: Molecule, *, source: str) -> None:
    """Check that run and reference are of one molecule, atom by atom.

    Raises
    ------
    ValueError
        If numbers of atoms, elements or bonds differ; it says whether only the order does.
    """
    if run.n_atoms != reference.n_atoms:
        raise ValueError(
            f"reference: expected the {run.n_atoms} atoms of the run, got {reference.n_atoms} in {source}"
        )
    advice = (
        "sample again from a structure file with the reference's order of atoms (SDF or PDB), "
        "or reorder one of them"
    )
    differs = run.atomic_numbers != reference.atomic_numbers
    if differs.any():
        first = int(np.argmax(differs))
        given = (
            f"got element {reference.atomic_numbers[first]} in place of {run.atomic_numbers[first]}"
        )
        if np.array_equal(np.sort(run.atomic_numbers), np.sort(reference.atomic_numbers)):
            raise ValueError(
                "reference: expected the atoms in the order of the run, got the same elements in another "
                f"order in {source} (the first difference is atom {first}); {advice}"
            )
        raise ValueError(
            f"reference: expected the run's elements, {given} at atom {first} in {source}"
        )
    only_run, only_reference = (
        bonds_of(run) - bonds_of(reference),
        bonds_of(reference) - bonds_of(run),
    )
    if only_run or only_reference:
        first_bond = min(only_run or only_reference)
        whose = "the run alone" if only_run else "the reference alone"
        raise ValueError(
            "reference: expected the bonds of the run, got the same elements bonded otherwise in "
            f"{source} (atoms {first_bond[0]} and {first_bond[1]} are bonded in {whose}); it is another "
            f"molecule or another order of atoms: {advice}"
        )


def _molecule_beside(topology: Path) -> tuple[Molecule, dict[str, Any]]:
    """Return the molecule of a topology with the bond orders of the files beside it, and their settings."""
    folder = topology.parent
    settings: dict[str, Any] = {}
    sdf: Path | None = None
    # A structure of another name is not what these files describe.
    if topology.name == TOPOLOGY_FILE:
        sdf = folder / SDF_FILE if (folder / SDF_FILE).is_file() else None
        if (folder / SYSTEM_FILE).is_file():
            try:
                settings = json.loads((folder / SYSTEM_FILE).read_text("utf-8"))
            except ValueError as error:
                raise ValueError(f"{folder / SYSTEM_FILE}: expected JSON, got {error}") from error
    name = folder.resolve().name if topology.name == TOPOLOGY_FILE else topology.stem
    smiles = settings.get("smiles")
    molecule = read_molecule(topology, sdf=sdf, name=name, smiles=smiles)
    return replace(molecule, smiles=smiles or molecule.smiles), settings


def _file_trajectory(file: Path, topology: Path) -> SourceTrajectory:
    return SourceTrajectory(name=file.stem, blocks=lambda: read_frames(file, topology))


def _like_trajectory(file: Path, molecule: Molecule) -> SourceTrajectory:
    """Return a file of which only the molecule is known, not a topology file."""

    def blocks() -> Iterator[Frames]:
        import mdtraj  # noqa: PLC0415  slow to import

        if file.suffix.lower() == ".h5":
            yield from read_frames(file, file)
            return
        structure = mdtraj.Trajectory(molecule.positions[None], to_mdtraj_topology(molecule))
        yield from read_frames(file, file, structure=structure)

    return SourceTrajectory(name=file.stem, blocks=blocks)
