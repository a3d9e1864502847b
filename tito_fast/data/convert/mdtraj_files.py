"""Convert trajectories that mdtraj reads: one molecule's files, or a tree of molecules."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tito_fast.data.convert.hdf5_files import dataset, dataset_frames, open_hdf5
from tito_fast.data.convert.topology import (
    check_same_elements,
    elements_of,
    with_pdb_labels,
)
from tito_fast.data.convert.writer import Frames, StoreWriter
from tito_fast.data.molecule import Molecule
from tito_fast.data.run_directory import RUN_FILE, molecule_of_run, trajectory_files
from tito_fast.data.store import Trajectory

TOPOLOGY_FILE: Final = "topology.pdb"
SDF_FILE: Final = "molecule.sdf"
SYSTEM_FILE: Final = "system.json"
# Formats whose files carry time stamps that mdtraj passes on; it numbers the frames of the others.
TIMED_SUFFIXES: Final = (".xtc", ".trr", ".h5", ".nc", ".netcdf")
TRAJECTORY_SUFFIXES: Final = (*TIMED_SUFFIXES, ".dcd", ".xyz", ".lammpstrj", ".mdcrd", ".pdb")
_BLOCK_ROWS: Final = 1 << 18


@dataclass(frozen=True, kw_only=True)
class _Run:
    folder: Path
    split: str
    files: tuple[Path, ...]
    system: dict[str, Any]


def convert_mdtraj(
    source: Path | str,
    destination: Path | str,
    *,
    splits: Sequence[str] | None = None,
    frame_interval_ps: float | None = None,
    overwrite: bool = False,
    on_trajectory: Callable[[Trajectory], None] | None = None,
) -> Path:
    """Convert the tree ``source/<split>/<name>/``, or the directory of a run, and return ``destination``.

    Each folder holds ``topology.pdb``, one or more ``trajectory*`` files, and, where they exist,
    ``molecule.sdf`` (bond orders; atoms in the order of the trajectory) and ``system.json``
    (``smiles``, ``sequence``, ``frame_interval_ps``, ``n_frames``, ``temperature_K``). Folders of
    one and the same molecule become several trajectories of it. The directory of a run (``run.json`` with
    ``rep_0000.xtc`` and so on), or a folder of such directories, is read as one split.

    Parameters
    ----------
    source, destination : Path or str
        The tree, and the store to make.
    splits : sequence of str, optional
        Take only these sub-folders; all of them by default. For the directory of a run, the one split
        to write, ``train`` by default.
    frame_interval_ps : float, optional
        Time between frames, for files without time stamps and without ``system.json``.
    overwrite : bool
        Replace a store at ``destination``.
    on_trajectory : callable, optional
        Called with the row of every trajectory that has been written, to show progress.

    Raises
    ------
    ValueError
        If the tree holds no trajectory, or a file is missing, unreadable or at odds with another.
    """
    source = Path(source)
    runs = _find_runs(source, splits=splits)
    molecules: dict[tuple[Any, ...], int] = {}
    with StoreWriter(
        destination,
        converter="mdtraj",
        source_name=source.resolve().name,
        overwrite=overwrite,
        on_trajectory=on_trajectory,
    ) as writer:
        for run in runs:
            molecule = _run_molecule(run)
            key = _identity(molecule)
            if key not in molecules:
                molecules[key] = writer.add_molecule(molecule)
            for file in run.files:
                label = run.folder.name if len(run.files) == 1 else f"{run.folder.name}/{file.stem}"
                row = writer.add_trajectory(
                    molecules[key],
                    read_frames(file, run.folder / TOPOLOGY_FILE),
                    name=label,
                    split=run.split,
                    frame_interval_ps=run.system.get("frame_interval_ps", frame_interval_ps),
                    temperature_k=run.system.get("temperature_K"),
                )
                declared = run.system.get("n_frames", row.n_frames)
                if len(run.files) == 1 and declared != row.n_frames:
                    raise ValueError(
                        f"trajectory: expected {declared} frames as {run.folder / SYSTEM_FILE} "
                        f"says, got {row.n_frames} in {file}; the file may be truncated"
                    )
    return Path(destination)


def convert_trajectories(
    molecule: Molecule,
    topology: Path | str,
    trajectories: Sequence[Path | str],
    destination: Path | str,
    *,
    split: str = "train",
    frame_interval_ps: float | None = None,
    temperature_k: float | None = None,
    overwrite: bool = False,
) -> Path:
    """Convert trajectory files of one molecule and return ``destination``.

    Every file becomes a trajectory of its own, so no pair crosses from one to the next.

    Parameters
    ----------
    molecule : Molecule
        From :func:`read_molecule` or any reader; atoms in the order of the trajectories.
    topology : Path or str
        Structure file that mdtraj reads the trajectories with.
    trajectories : sequence of Path or str
    destination : Path or str
        The store to make.
    split : str
        Split of all the trajectories.
    frame_interval_ps : float, optional
        Time between frames; needed where the files have no time stamps.
    temperature_k : float, optional
        Temperature to record, in K.
    overwrite : bool
        Replace a store at ``destination``.

    Raises
    ------
    ValueError
        If a file is missing or unreadable, or its atoms are not those of ``molecule``.
    """
    topology = Path(topology)
    elements = elements_of(read_topology(topology))
    check_same_elements(molecule, elements, other=str(topology))
    with StoreWriter(
        destination, converter="mdtraj", source_name=molecule.name, overwrite=overwrite
    ) as writer:
        molecule_idx = writer.add_molecule(molecule)
        for file in map(Path, trajectories):
            writer.add_trajectory(
                molecule_idx,
                read_frames(file, topology),
                name=file.stem,
                split=split,
                frame_interval_ps=frame_interval_ps,
                temperature_k=temperature_k,
            )
    return Path(destination)


def read_frames(file: Path, topology: Path, *, structure: Any = None) -> Iterator[Frames]:  # noqa: ANN401  mdtraj has no types
    """Yield the frames of a trajectory file in blocks.

    Time stamps are passed on from formats that have them.

    Parameters
    ----------
    file, topology : Path
    structure : mdtraj.Trajectory, optional
        Of the atoms, in place of the topology file.

    Raises
    ------
    ValueError
        If the file is missing or mdtraj cannot read it with this topology.
    """
    import mdtraj  # noqa: PLC0415  slow to import

    if not file.is_file():
        raise ValueError(f"trajectory: expected a file, got {str(file)!r}")
    if file.suffix.lower() == ".h5":
        yield from _read_mdtraj_h5(file)
        return
    reference = read_topology(topology) if structure is None else structure
    is_timed = file.suffix.lower() in TIMED_SUFFIXES
    n_block = max(_BLOCK_ROWS // reference.n_atoms, 1)
    options: dict[str, Any] = {} if file.suffix.lower() == ".pdb" else {"top": reference}
    try:
        for block in mdtraj.iterload(str(file), chunk=n_block, **options):
            yield Frames(positions=block.xyz, times_ps=block.time if is_timed else None)
    except (OSError, RuntimeError, ValueError, TypeError, EOFError) as error:
        raise ValueError(
            f"trajectory: expected frames of {reference.n_atoms} atoms in {file}, got: {error}"
        ) from error


def _read_mdtraj_h5(file: Path) -> Iterator[Frames]:
    # Read directly: mdtraj needs PyTables for its own format.
    with open_hdf5(file) as content:
        times = content.get("time")
        yield from dataset_frames(dataset(content, "coordinates", path=file), times=times)


def read_topology(path: Path) -> Any:  # noqa: ANN401  mdtraj has no types
    """Return the structure of a topology file as an mdtraj trajectory.

    Raises
    ------
    ValueError
        If the file is missing or unreadable.
    """
    import mdtraj  # noqa: PLC0415  slow to import

    if not path.is_file():
        raise ValueError(f"topology: expected a file, got {str(path)!r}")
    try:
        return mdtraj.load(str(path))
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"topology: expected a structure in {path}, got: {error}") from error


def read_molecule(
    topology: Path, *, sdf: Path | None, name: str, smiles: str | None = None
) -> Molecule:
    """Return the molecule of a topology file, with the bonds of ``sdf`` where there is one.

    Without it :func:`tito_fast.data.readers.from_pdb` finds them, with ``smiles`` as a template
    where it is given.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file is unreadable, or SDF and topology disagree on the atoms.
    """
    from tito_fast.data.readers import (  # noqa: PLC0415  imports RDKit
        ReadOptions,
        from_pdb,
        from_sdf,
    )

    if sdf is not None:
        molecule = from_sdf(sdf, options=ReadOptions(name=name))
        return with_pdb_labels(molecule, read_topology(topology))
    return from_pdb(topology, options=ReadOptions(name=name, smiles_template=smiles))


def _find_runs(source: Path, *, splits: Sequence[str] | None) -> list[_Run]:
    if not source.is_dir():
        raise ValueError(f"source: expected a directory, got {str(source)!r}")
    if is_run_directory(source) or has_run_directories(source):
        names = list(splits) if splits is not None else ["train"]
        if len(names) != 1:
            raise ValueError(f"splits: expected one for the run {source}, got {', '.join(names)}")
        folders = [source] if is_run_directory(source) else sorted(source.iterdir())
        return [_run(folder, names[0]) for folder in folders if is_run_directory(folder)]
    wanted = (
        list(splits)
        if splits is not None
        else sorted(p.name for p in source.iterdir() if p.is_dir())
    )
    runs = []
    for split in wanted:
        if not (source / split).is_dir():
            raise ValueError(f"splits: expected a folder {split!r} in {source}, got none")
        runs += [
            _run(folder, split)
            for folder in sorted((source / split).iterdir())
            if (folder / TOPOLOGY_FILE).is_file()
        ]
    if not runs:
        raise ValueError(
            f"source: expected folders <split>/<name>/{TOPOLOGY_FILE} in {str(source)!r}, got none"
        )
    return runs


def is_run_directory(path: Path) -> bool:
    """Whether ``path`` is what sampling or simulating a molecule leaves."""
    return (path / RUN_FILE).is_file() and (path / TOPOLOGY_FILE).is_file()


def has_run_directories(path: Path) -> bool:
    """Whether ``path`` holds directories of runs, as of several molecules in one call."""
    return any(is_run_directory(folder) for folder in path.iterdir())


def _run(folder: Path, split: str) -> _Run:
    if is_run_directory(folder):
        # Empty: a replica that was lost, or stopped, before its first frame.
        files = tuple(file for file in trajectory_files(folder) if file.stat().st_size)
    else:
        files = tuple(
            file
            for file in sorted(folder.glob("trajectory*"))
            if file.suffix.lower() in TRAJECTORY_SUFFIXES
        )
    if not files:
        raise ValueError(f"source: expected a trajectory file in {folder}, got none")
    return _Run(folder=folder, split=split, files=files, system=_read_system(folder))


def _read_system(folder: Path) -> dict[str, Any]:
    path = folder / SYSTEM_FILE
    if not path.is_file():
        return {}
    try:
        system = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"system: expected JSON in {path}, got {error}") from error
    if not isinstance(system, dict):
        raise ValueError(f"system: expected a JSON object in {path}, got {type(system).__name__}")  # noqa: TRY004  the value of a file
    return system


def _run_molecule(run: _Run) -> Molecule:
    if is_run_directory(run.folder):
        return molecule_of_run(run.folder)
    sdf = run.folder / SDF_FILE
    # Runs of one molecule share its name, so a name that belongs to the run is the second choice.
    name = run.system.get("sequence") or run.folder.name
    molecule = read_molecule(
        run.folder / TOPOLOGY_FILE,
        sdf=sdf if sdf.is_file() else None,
        name=str(name),
        smiles=run.system.get("smiles"),
    )
    return replace(molecule, smiles=run.system.get("smiles") or molecule.smiles)


def _identity(molecule: Molecule) -> tuple[Any, ...]:
    return (
        molecule.atomic_numbers.tobytes(),
        molecule.bond_index.tobytes(),
        molecule.bond_type.tobytes(),
        molecule.atom_names,
        molecule.residue_names,
        molecule.smiles,
    )
