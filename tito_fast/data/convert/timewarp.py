"""Convert Timewarp data: the published arrays with their PDB files, and the preprocessed HDF5.

The published simulations were written at uneven times (several frames in every window), so frames
are chosen by physical time, never by their number.
"""

import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from tito_fast.data.convert.hdf5_files import dataset, dataset_frames, open_hdf5
from tito_fast.data.convert.time_grid import RegularGrid, integer_steps, regular_grid
from tito_fast.data.convert.topology import rdkit_molecule
from tito_fast.data.convert.writer import Frames, StoreWriter
from tito_fast.data.molecule import FloatArray, IntArray, Molecule
from tito_fast.data.store import Trajectory
from tito_fast.validation import check_positive

ARRAYS_SUFFIX: Final = "-traj-arrays.npz"
PDB_SUFFIX: Final = "-traj-state0.pdb"
H5_SPLITS: Final = ("train", "val", "test")
_BLOCK_ROWS: Final = 1 << 18
_SPACING_TOLERANCE: Final = 1e-4


def convert_timewarp(
    source: Path | str,
    destination: Path | str,
    *,
    spacing_ps: float | None = None,
    splits: Sequence[str] | None = None,
    temperature_k: float | None = None,
    overwrite: bool = False,
    on_trajectory: Callable[[Trajectory], None] | None = None,
) -> Path:
    """Convert pairs of ``<SEQ>-traj-arrays.npz`` and ``<SEQ>-traj-state0.pdb``.

    Of every trajectory the largest evenly spaced set of frames is kept, for the tetrapeptides one
    frame every 5 ps; where frames are missing, the stretches become several trajectories. Bonds
    come from the PDB's residues and the first frame's positions: those of the PDB are unphysical.

    Parameters
    ----------
    source, destination : Path or str
        Folder with the pairs, or with one sub-folder a split; store to make.
    spacing_ps : float, optional
        Require this spacing, in ps, instead of finding it.
    splits : sequence of str, optional
        Take only these sub-folders; pairs without sub-folders become split ``train``.
    temperature_k : float, optional
        Temperature to record, in K; the files do not state it.
    overwrite : bool
        Replace a store at ``destination``.
    on_trajectory : callable, optional
        Called with the row of every trajectory that has been written, to show progress.

    Raises
    ------
    ValueError
        If there are no pairs, a file is missing or malformed, or no frames are evenly spaced.
    """
    source = Path(source)
    if spacing_ps is not None:
        check_positive("spacing_ps", spacing_ps, unit="ps")
    pairs = _find_pairs(source, splits=splits)
    with StoreWriter(
        destination,
        converter="timewarp",
        source_name=source.resolve().name,
        overwrite=overwrite,
        on_trajectory=on_trajectory,
    ) as writer:
        for split, arrays in pairs:
            sequence = arrays.name.removesuffix(ARRAYS_SUFFIX)
            grid, times_ps, step_ps = _read_grid(arrays, spacing_ps=spacing_ps)
            molecule_idx = writer.add_molecule(
                _npz_molecule(arrays, sequence=sequence, times_ps=times_ps)
            )
            for number, run in enumerate(grid.runs):
                writer.add_trajectory(
                    molecule_idx,
                    _npz_frames(arrays, run, times_ps=times_ps),
                    name=sequence if len(grid.runs) == 1 else f"{sequence}/{number}",
                    split=split,
                    frame_interval_ps=float(f"{grid.spacing_steps * step_ps:.6g}"),
                    temperature_k=temperature_k,
                )
    return Path(destination)


def convert_timewarp_h5(
    source: Path | str,
    destination: Path | str,
    *,
    splits: Sequence[str] | None = None,
    temperature_k: float | None = None,
    overwrite: bool = False,
    on_trajectory: Callable[[Trajectory], None] | None = None,
) -> Path:
    """Convert the preprocessed HDF5 with groups ``<split>/<SEQ>/{traj, time, mol}``.

    Parameters
    ----------
    source, destination : Path or str
        HDF5 file with ``traj`` (n_frames, n_atoms, 3) in nm, ``time`` (n_frames,) in ps and
        ``mol``, a MolBlock whose atoms are in the order of ``traj``; store to make.
    splits : sequence of str, optional
        Take only these; by default those of train, val and test that are there.
    temperature_k : float, optional
        Temperature to record, in K; the file does not state it.
    overwrite : bool
        Replace a store at ``destination``.
    on_trajectory : callable, optional
        Called with the row of every trajectory that has been written, to show progress.

    Raises
    ------
    ValueError
        If a group or dataset is missing, the times are irregular, or MolBlock and positions differ.
    """
    source = Path(source)
    with (
        open_hdf5(source) as file,
        StoreWriter(
            destination,
            converter="timewarp-h5",
            source_name=source.name,
            overwrite=overwrite,
            on_trajectory=on_trajectory,
        ) as writer,
    ):
        wanted = list(splits) if splits is not None else [s for s in H5_SPLITS if s in file]
        for split in wanted:
            if split not in file:
                raise ValueError(f"splits: expected a group {split!r} in {source}, got none")
            for sequence in sorted(file[split]):
                group = file[split][sequence]
                frames = dataset(group, "traj", path=source)
                times = dataset(group, "time", path=source)
                block = dataset(group, "mol", path=source)
                molecule = _molblock_molecule(block[()], name=sequence, frames=frames, path=source)
                writer.add_trajectory(
                    writer.add_molecule(molecule),
                    dataset_frames(frames, times=times),
                    name=sequence,
                    split=split,
                    temperature_k=temperature_k,
                )
    return Path(destination)


def _find_pairs(source: Path, *, splits: Sequence[str] | None) -> list[tuple[str, Path]]:
    if not source.is_dir():
        raise ValueError(f"source: expected a directory, got {str(source)!r}")
    if splits is None and any(source.glob(f"*{ARRAYS_SUFFIX}")):
        folders = [("train", source)]
    else:
        names = splits or sorted(path.name for path in source.iterdir() if path.is_dir())
        folders = [(name, source / name) for name in names]
    pairs = []
    for split, folder in folders:
        if not folder.is_dir():
            raise ValueError(f"splits: expected a folder {split!r} in {source}, got none")
        pairs += [(split, path) for path in sorted(folder.glob(f"*{ARRAYS_SUFFIX}"))]
    if not pairs:
        raise ValueError(f"source: expected files *{ARRAYS_SUFFIX} in {str(source)!r}, got none")
    return pairs


def _read_grid(path: Path, *, spacing_ps: float | None) -> tuple[RegularGrid, FloatArray, float]:
    try:
        # Opened here: numpy leaves the file of a broken archive open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if "time" not in arrays.files or "positions" not in arrays.files:
                raise ValueError("no arrays time and positions")  # noqa: TRY301  reworded below
            times_ps = arrays["time"].astype(np.float64)
            recorded = arrays["step"] if "step" in arrays.files else None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"source: expected an archive with time and positions in {path}, got: {error}"
        ) from error
    try:
        steps, step_ps = integer_steps(times_ps, recorded)
        grid = regular_grid(steps, spacing_steps=_spacing_steps(spacing_ps, step_ps))
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error
    return grid, times_ps, step_ps


def _spacing_steps(spacing_ps: float | None, step_ps: float) -> int | None:
    if spacing_ps is None:
        return None
    steps = round(spacing_ps / step_ps)
    if steps < 1 or abs(steps * step_ps - spacing_ps) > _SPACING_TOLERANCE * spacing_ps:
        raise ValueError(
            f"spacing_ps: expected a multiple of the time step of {step_ps:g} ps, "
            f"got {spacing_ps:g}"
        )
    return steps


def _npz_frames(path: Path, indices: IntArray, *, times_ps: FloatArray) -> Iterator[Frames]:
    """Yield the frames ``indices`` (rising) of ``positions`` without unpacking all of them."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("positions.npy") as member:
            shape, dtype = _npy_header(member, path=path)
            if shape[0] != times_ps.shape[0]:
                raise ValueError(
                    f"positions: expected {times_ps.shape[0]} frames as time in {path}, "
                    f"got {shape[0]}"
                )
            n_block = max(_BLOCK_ROWS // shape[1], 1)
            for start in range(0, int(indices[-1]) + 1, n_block):
                n_frames = min(n_block, shape[0] - start)
                data = member.read(n_frames * shape[1] * 3 * dtype.itemsize)
                block = np.frombuffer(data, dtype=dtype).reshape(n_frames, shape[1], 3)
                first, last = np.searchsorted(indices, (start, start + n_frames))
                chosen = indices[first:last]
                yield Frames(positions=block[chosen - start], times_ps=times_ps[chosen])
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise ValueError(f"source: expected a complete archive {path}, got: {error}") from error


def _npy_header(member: IO[bytes], *, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, is_fortran, dtype = read(member)
    if len(shape) != 3 or shape[2] != 3 or is_fortran or dtype.kind != "f":
        raise ValueError(
            f"positions: expected floats of shape (n_frames, n_atoms, 3) in {path}, "
            f"got {dtype} {shape}"
        )
    return shape, dtype


def _npz_molecule(arrays: Path, *, sequence: str, times_ps: FloatArray) -> Molecule:
    from tito_fast.data.readers import ReadOptions, from_pdb  # noqa: PLC0415  imports RDKit

    pdb = arrays.with_name(f"{sequence}{PDB_SUFFIX}")
    if not pdb.is_file():
        raise ValueError(f"source: expected {pdb.name} beside {arrays}, got no such file")
    first = next(_npz_frames(arrays, np.array([0]), times_ps=times_ps)).positions[0]
    with tempfile.TemporaryDirectory() as folder:
        moved = Path(folder) / pdb.name
        moved.write_text(_with_coordinates(pdb, first.astype(np.float64)), "utf-8")
        return from_pdb(moved, options=ReadOptions(name=sequence))


def _with_coordinates(pdb: Path, positions: FloatArray) -> str:
    """Return the text of ``pdb`` with ``positions`` (n_atoms, 3), nm, in its atom records."""
    lines = pdb.read_text("utf-8").splitlines()
    is_atom = [line.startswith(("ATOM", "HETATM")) for line in lines]
    if sum(is_atom) != positions.shape[0]:
        raise ValueError(
            f"atoms: expected {positions.shape[0]} as in the arrays, got {sum(is_atom)} in {pdb}"
        )
    centered = iter(10 * (positions - positions.mean(axis=0)))
    for number, line in enumerate(lines):
        if is_atom[number]:
            x, y, z = next(centered)
            lines[number] = f"{line[:30]}{x:8.3f}{y:8.3f}{z:8.3f}{line[54:]}"
    return "\n".join(lines) + "\n"


def _molblock_molecule(
    block: Any,  # noqa: ANN401  bytes, text or an array of one
    *,
    name: str,
    frames: Any,  # noqa: ANN401  h5py has no types
    path: Path,
) -> Molecule:
    from rdkit import Chem  # noqa: PLC0415  slow to import

    if isinstance(block, np.ndarray):
        block = block.reshape(-1)[0]
    text = block.decode() if isinstance(block, bytes) else str(block)
    mol = Chem.MolFromMolBlock(text, removeHs=False)
    if mol is None or mol.GetNumAtoms() == 0:
        raise ValueError(f"mol: expected a MolBlock for {name!r} in {path}, got {text[:40]!r}")
    if frames.ndim != 3 or frames.shape[1:] != (mol.GetNumAtoms(), 3) or not frames.shape[0]:
        raise ValueError(
            f"traj: expected shape (n_frames, {mol.GetNumAtoms()}, 3) as in mol for {name!r} "
            f"in {path}, got {frames.shape}"
        )
    return rdkit_molecule(mol, name=name, positions=frames[0].astype(np.float64))
