"""Where replicas start from."""

from pathlib import Path

import numpy as np

from tito_fast.data.molecule import FloatArray, Molecule


def starts_of(molecule: Molecule, start: FloatArray | None) -> FloatArray:
    """Return the start frames (n_starts, n_atoms, 3), nm, centered.

    Raises
    ------
    ValueError
        If the frames are of another shape or not finite.
    """
    frames = molecule.positions[None] if start is None else np.asarray(start, dtype=np.float64)
    if frames.ndim != 3 or frames.shape[0] == 0 or frames.shape[1:] != (molecule.n_atoms, 3):
        raise ValueError(
            f"start: expected frames of shape (n_frames, {molecule.n_atoms}, 3) for {molecule.name!r}, "
            f"got {frames.shape}"
        )
    if not np.isfinite(frames).all():
        raise ValueError(
            f"start: expected finite coordinates for {molecule.name!r}, got NaN or infinity"
        )
    centered: FloatArray = frames - frames.mean(axis=1, keepdims=True)
    return centered


def read_start(path: Path, molecule: Molecule) -> FloatArray:
    """Return the frames (n_frames, n_atoms, 3), nm, of a trajectory of ``molecule``, atoms in its order.

    Raises
    ------
    FileNotFoundError, ValueError
        No such file; a file that MDTraj cannot read; another number of atoms.
    """
    import mdtraj as md  # noqa: PLC0415  slow, and only needed here

    from tito_fast.data.topology import to_mdtraj_topology  # noqa: PLC0415  imports mdtraj

    if not path.is_file():
        raise FileNotFoundError(f"start: no such file: {path}")
    own_topology = path.suffix.lower() in (".pdb", ".h5", ".gro")
    try:
        trajectory = (
            md.load(path) if own_topology else md.load(path, top=to_mdtraj_topology(molecule))
        )
    except (OSError, ValueError, RuntimeError, EOFError, IndexError, KeyError) as error:
        raise ValueError(
            f"start: expected a trajectory of {molecule.n_atoms} atoms that MDTraj reads, got {path}: {error}"
        ) from error
    return np.asarray(trajectory.xyz, dtype=np.float64)
