"""Convert MDQM9-nc: one HDF5 of trajectories, one SDF of molecules, and index files of splits.

HDF5 group ``%05d`` belongs to the entry of that number (from 0) in the SDF. It holds ``data/atoms``
(atomic numbers), ``data/time_lag`` (ps between frames) and ``trajectories/md_0`` (nm).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from tito_fast.data.convert.hdf5_files import dataset, dataset_frames, open_hdf5
from tito_fast.data.convert.topology import check_same_elements, rdkit_molecule
from tito_fast.data.convert.writer import StoreWriter
from tito_fast.data.molecule import IntArray, Molecule
from tito_fast.data.store import Trajectory
from tito_fast.validation import check_at_least

SPLITS: Final = ("train", "val", "test")
HDF5_SUFFIXES: Final = (".hdf5", ".h5")


def convert_mdqm9(
    source: Path | str,
    destination: Path | str,
    *,
    splits: Sequence[str] | None = None,
    n_molecules: int | None = None,
    temperature_k: float | None = None,
    overwrite: bool = False,
    on_trajectory: Callable[[Trajectory], None] | None = None,
) -> Path:
    """Convert the folder ``source`` of MDQM9-nc and return ``destination``.

    Takes ``trajectories/md_0`` of every molecule; the replica exchange ``re_0`` is no dynamics and
    stays out.

    Parameters
    ----------
    source, destination : Path or str
        Folder with one ``.hdf5``, one ``.sdf`` and ``splits/<split>_indices.npy``; store to make.
    splits : sequence of str, optional
        Take only these; by default those of train, val and test that have an index file.
    n_molecules : int, optional
        Take the first ``n_molecules`` of every split only.
    temperature_k : float, optional
        Temperature to record, in K; the files do not state it.
    overwrite : bool
        Replace a store at ``destination``.
    on_trajectory : callable, optional
        Called with the row of every trajectory that has been written, to show progress.

    Raises
    ------
    ValueError
        If a file, group or index is missing, or SDF and HDF5 disagree on the atoms.
    """
    source = Path(source)
    hdf5_path = _only_file(source, HDF5_SUFFIXES)
    sdf_path = _only_file(source, (".sdf",))
    if n_molecules is not None:
        check_at_least("n_molecules", n_molecules, 1)
    indices = _read_splits(source / "splits", splits=splits)
    supplier = _open_sdf(sdf_path)
    with (
        open_hdf5(hdf5_path) as file,
        StoreWriter(
            destination,
            converter="mdqm9",
            source_name=source.resolve().name,
            overwrite=overwrite,
            on_trajectory=on_trajectory,
        ) as writer,
    ):
        for split, entries in indices.items():
            for entry in entries[:n_molecules].tolist():
                group = file.get(f"{entry:05d}")
                if group is None:
                    raise ValueError(f"source: expected group {entry:05d} in {hdf5_path}, got none")
                frames = dataset(group, "trajectories/md_0", path=hdf5_path)
                molecule = _entry_molecule(supplier, entry, path=sdf_path)
                numbers = _atomic_numbers(dataset(group, "data/atoms", path=hdf5_path)[...])
                check_same_elements(molecule, numbers, other=f"group {group.name} of {hdf5_path}")
                time_lag = dataset(group, "data/time_lag", path=hdf5_path)[...]
                writer.add_trajectory(
                    writer.add_molecule(molecule),
                    dataset_frames(frames),
                    name=f"{entry:05d}/md_0",
                    split=split,
                    frame_interval_ps=float(np.asarray(time_lag, dtype=np.float64).reshape(())),
                    temperature_k=temperature_k,
                )
    return Path(destination)


def _only_file(folder: Path, suffixes: tuple[str, ...]) -> Path:
    if not folder.is_dir():
        raise ValueError(f"source: expected a directory, got {str(folder)!r}")
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in suffixes)
    if len(files) != 1:
        raise ValueError(
            f"source: expected one file {' or '.join(suffixes)} in {str(folder)!r}, "
            f"got {len(files)}"
        )
    return files[0]


def _read_splits(folder: Path, *, splits: Sequence[str] | None) -> dict[str, IntArray]:
    wanted = (
        list(splits)
        if splits is not None
        else [split for split in SPLITS if (folder / f"{split}_indices.npy").is_file()]
    )
    if not wanted:
        raise ValueError(f"splits: expected <split>_indices.npy in {str(folder)!r}, got none")
    indices: dict[str, IntArray] = {}
    owner: dict[int, str] = {}
    for split in wanted:
        path = folder / f"{split}_indices.npy"
        if not path.is_file():
            raise ValueError(f"splits: expected a file {path}, got none")
        try:
            entries = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(f"splits: expected an array in {path}, got: {error}") from error
        if entries.ndim != 1 or not np.issubdtype(entries.dtype, np.integer):
            raise ValueError(
                f"splits: expected integers of shape (n_molecules,) in {path}, "
                f"got {entries.dtype} {entries.shape}"
            )
        for entry in entries.tolist():
            if entry in owner:
                raise ValueError(
                    f"splits: expected every molecule once, got {entry} in {owner[entry]} "
                    f"and {split}"
                )
            owner[entry] = split
        indices[split] = entries.astype(np.int64)
    return indices


def _open_sdf(path: Path) -> Any:  # noqa: ANN401  RDKit has no types
    from rdkit import Chem  # noqa: PLC0415  slow to import

    return Chem.SDMolSupplier(str(path), removeHs=False)


def _entry_molecule(supplier: Any, entry: int, *, path: Path) -> Molecule:  # noqa: ANN401  RDKit has no types
    if not 0 <= entry < len(supplier):
        raise ValueError(
            f"sdf: expected entries 0 to {len(supplier) - 1} in {path}, got {entry} from the splits"
        )
    mol = supplier[entry]
    if mol is None or mol.GetNumConformers() == 0:
        raise ValueError(f"sdf: expected a molecule in entry {entry} of {path}, got none")
    title = mol.GetProp("_Name") if mol.HasProp("_Name") else ""
    molecule = rdkit_molecule(mol, name=f"{entry:05d}")
    return replace(
        molecule, notes=(*molecule.notes, f"SDF title: {title}") if title else molecule.notes
    )


def _atomic_numbers(atoms: Any) -> IntArray:  # noqa: ANN401  an array of numbers or of symbols
    atoms = np.asarray(atoms).reshape(-1)
    if np.issubdtype(atoms.dtype, np.integer):
        return np.asarray(atoms, dtype=np.int64)
    from rdkit.Chem import GetPeriodicTable  # noqa: PLC0415  slow to import

    table = GetPeriodicTable()
    symbols = [item.decode() if isinstance(item, bytes) else str(item) for item in atoms.tolist()]
    return np.array([table.GetAtomicNumber(symbol) for symbol in symbols], dtype=np.int64)
