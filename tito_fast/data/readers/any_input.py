"""Tells a path from a SMILES from a peptide sequence."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tito_fast.data.molecule import Molecule
from tito_fast.data.readers.options import ReadOptions
from tito_fast.data.readers.pdb import from_pdb
from tito_fast.data.readers.residues import RESIDUE_OF_LETTER
from tito_fast.data.readers.sdf import from_sdf
from tito_fast.data.readers.sequence import from_sequence, parse_sequence
from tito_fast.data.readers.smiles import from_smiles, parse_smiles, why_not_smiles

_READERS: Final = {".pdb": from_pdb, ".ent": from_pdb, ".sdf": from_sdf, ".mol": from_sdf}
_TRAJECTORIES: Final = (".xtc", ".trr", ".dcd", ".h5", ".hdf5", ".nc", ".npz", ".lh5", ".netcdf")
_OTHER_FILES: Final = (".mol2", ".cif", ".mmcif", ".gro", ".xyz", ".prmtop", ".psf", ".gz", ".smi")


def read_molecule(text: str | os.PathLike[str], *, options: ReadOptions | None = None) -> Molecule:
    """Return the molecule that ``text`` names: a file, a SMILES or a peptide sequence.

    The first that fits is taken:

    1. ``smiles:...`` or ``peptide:...`` says it.
    2. An existing file, by its ending: ``.pdb``, ``.ent``, ``.sdf`` or ``.mol``.
    3. A text that looks like a path (one of these endings, or a start with ``/``, ``./``, ``../``
       or ``~``) and is not there is an error.
    4. ``ACE-...`` or ``...-NME`` is a sequence.
    5. A valid SMILES is a SMILES, even where all its letters are amino acids (``CCC``).
    6. Capitals that are all amino acids are a sequence (``AAAA``).

    Parameters
    ----------
    text : str or path
        A ``Path`` is always a file.
    options : ReadOptions, optional

    Returns
    -------
    Molecule
        Positions in nm. Where both 5 and 6 fit, the notes say what was taken.

    Raises
    ------
    FileNotFoundError
        If it looks like a path and there is no such file.
    ValueError
        If it is none of these, or the reader refuses it.

    Examples
    --------
    >>> read_molecule("CCO").smiles
    'CCO'
    """
    options = options or ReadOptions()
    if isinstance(text, os.PathLike):
        return _from_file(Path(text), options)
    entry = text.strip()
    if entry.startswith("smiles:"):
        return from_smiles(entry.removeprefix("smiles:"), options=options)
    if entry.startswith("peptide:"):
        return from_sequence(entry.removeprefix("peptide:"), options=options)
    if entry and (_is_file(entry) or _looks_like_path(entry)):
        return _from_file(Path(entry).expanduser(), options)
    return _from_notation(entry, options)


def read_molecules(
    inputs: str | Path | Molecule | Sequence[str | Path | Molecule],
) -> list[Molecule]:
    """Return the molecules of one or several inputs, each as :func:`read_molecule` reads it.

    Raises
    ------
    ValueError
        If there are none.
    """
    many = [inputs] if isinstance(inputs, str | Path | Molecule) else list(inputs)
    if not many:
        raise ValueError("input: expected at least one molecule, got none")
    return [each if isinstance(each, Molecule) else read_molecule(each) for each in many]


def _from_notation(entry: str, options: ReadOptions) -> Molecule:
    if entry.startswith("ACE-") or entry.endswith("-NME"):
        return from_sequence(entry, options=options)
    sequence = parse_sequence(entry)
    is_peptide = sequence is not None and set(sequence.letters) <= set(RESIDUE_OF_LETTER)
    if parse_smiles(entry) is not None:
        molecule = from_smiles(entry, options=options)
        if not is_peptide:
            return molecule
        return _with_note(molecule, f"read as SMILES; write peptide:{entry} for the sequence")
    if is_peptide:
        molecule = from_sequence(entry, options=options)
        return _with_note(molecule, "read as a peptide sequence: it is not a valid SMILES")
    reason = why_not_smiles(entry)
    if sequence is not None:
        unknown = sorted(set(sequence.letters) - set(RESIDUE_OF_LETTER))
        reason = reason or f" (no amino acids: {', '.join(unknown)})"
    raise ValueError(
        "input: expected a file (.pdb, .sdf, .mol), a SMILES or a peptide sequence (AAAA, "
        f"ACE-AAAA-NME), got {entry!r}, which is none of them{reason}; no such file exists"
    )


def _is_file(entry: str) -> bool:
    try:
        return Path(entry).is_file()
    except (OSError, ValueError):
        # A long SMILES is no valid file name.
        return False


def _looks_like_path(entry: str) -> bool:
    known = (*_READERS, *_TRAJECTORIES, *_OTHER_FILES)
    return entry.lower().endswith(known) or entry.startswith(("/", "./", "../", "~"))


def _from_file(path: Path, options: ReadOptions) -> Molecule:
    if not path.exists():
        raise FileNotFoundError(f"input: no such file, got {str(path)!r}")
    if path.is_dir():
        raise ValueError(f"input: expected a file, got the folder {str(path)!r}")
    ending = path.suffix.lower()
    if ending in _READERS:
        return _READERS[ending](path, options=options)
    if ending in _TRAJECTORIES:
        raise ValueError(
            f"input: expected a structure (.pdb, .sdf, .mol), got the trajectory {str(path)!r}, "
            "which has no bonds; give its topology here and start from its frames with --start"
        )
    raise ValueError(
        f"input: expected a file that ends in .pdb, .ent, .sdf or .mol, got {str(path)!r}; "
        "convert it"
    )


def _with_note(molecule: Molecule, note: str) -> Molecule:
    return replace(molecule, notes=(note, *molecule.notes))
