"""PDB files that lack atoms: completed by PDBFixer where it is installed, named where it is not."""

import io
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tito_fast.data.molecule import Molecule
from tito_fast.data.readers import ReadOptions, read_molecule
from tito_fast.data.readers.pdb import from_raw_structure
from tito_fast.data.readers.pdb_records import parse_pdb
from tito_fast.data.readers.residues import RESIDUE_OF_LETTER, canonical_residue
from tito_fast.data.readers.text_file import read_text
from tito_fast.md.openmm_import import import_openmm

_ENDINGS: Final = (".pdb", ".ent")
_PH: Final = 7.0
_MAX_NAMED: Final = 6


def read_complete(text: str | Path, *, options: ReadOptions | None = None) -> Molecule:
    """Return the molecule of any input; a PDB file of a peptide that lacks atoms is completed.

    Parameters
    ----------
    text : str or path
        As :func:`tito_fast.read_molecule` takes it.
    options : ReadOptions, optional
        With a template for the bond orders nothing is completed.

    Returns
    -------
    Molecule
        The notes name the atoms that were added: heavy ones, and hydrogens as at pH 7. No residues are.

    Raises
    ------
    ValueError
        If it is no molecule, or atoms are missing and PDBFixer is not installed; the message names them.

    Notes
    -----
    PDBFixer (extra ``md``) is asked only where a file is refused as it is. Equal files give equal positions.
    """
    options = options or ReadOptions()
    try:
        return read_molecule(text, options=options)
    except ValueError as error:
        path = Path(text).expanduser()
        if path.suffix.lower() not in _ENDINGS or options.smiles_template is not None:
            raise
        missing = _missing_of_file(path)
        if missing is None:
            raise
        fixer = _fixer(path, missing, error)
        added = _complete(fixer)
        if not added:
            raise
        return _read_completed(fixer, path, added, options)


def missing_heavy_atoms(
    residue_names: Sequence[str],
    residue_labels: Sequence[tuple[str, int]],
    atom_names: Sequence[str],
) -> dict[str, list[str]]:
    """Return the heavy atoms that natural amino acids lack, by residue such as ``PHE 3``.

    Parameters
    ----------
    residue_names, atom_names : sequence of str
        One per atom.
    residue_labels : sequence of (str, int)
        Chain and number of the residue, one per atom.

    Returns
    -------
    dict of list of str
        The oxygen that ends a chain is none of them.
    """
    present: dict[tuple[str, int, str], set[str]] = {}
    for name, (chain, number), atom in zip(residue_names, residue_labels, atom_names, strict=True):
        present.setdefault((chain, number, name.strip()), set()).add(atom.strip())
    found = {}
    for (_, number, name), atoms in present.items():
        lacking = [atom for atom in _heavy_atoms(canonical_residue(name)) if atom not in atoms]
        if lacking:
            found[f"{name} {number}"] = lacking
    return found


def _heavy_atoms(residue: str) -> list[str]:
    """Return the names of the heavy atoms inside a chain; none of a residue that is not natural."""
    from rdkit import Chem  # noqa: PLC0415  slow to import

    letters = {name: letter for letter, name in RESIDUE_OF_LETTER.items()}
    if residue not in letters:
        return []
    mol = Chem.MolFromSequence(letters[residue])
    names = [atom.GetPDBResidueInfo().GetName().strip() for atom in mol.GetAtoms()]
    return [name for name in names if name != "OXT"]


def _missing_of_file(path: Path) -> dict[str, list[str]] | None:
    """Return the heavy atoms that a file lacks; None where it is no peptide, or cannot be read."""
    try:
        raw = parse_pdb(read_text(path, expected="a PDB file"), source=f"path {str(path)!r}")
    except (ValueError, OSError):
        return None
    known = {*RESIDUE_OF_LETTER.values(), "ACE", "NME"}
    if not {canonical_residue(name.strip()) for name in raw.residue_names} <= known:
        return None
    labels = list(zip(raw.chain_ids, raw.residue_numbers, strict=True))
    return missing_heavy_atoms(raw.residue_names, labels, raw.atom_names)


def _fixer(path: Path, missing: Mapping[str, list[str]], error: ValueError) -> Any:  # noqa: ANN401  no types
    try:
        import pdbfixer  # noqa: PLC0415  optional
    except ImportError:
        what = f"missing are {_named(missing)}, and hydrogens may be" if missing else str(error)
        raise ValueError(
            f"{path}: expected a structure with all atoms, got one that lacks some ({what}); complete it, "
            "or install PDBFixer, which then does: pip install 'tito_fast[md]'"
        ) from error
    platform = import_openmm().Platform.getPlatformByName("Reference")
    return pdbfixer.PDBFixer(filename=str(path), platform=platform)


def _complete(fixer: Any) -> str:  # noqa: ANN401  PDBFixer has no types
    """Add the atoms that residues lack, and return what was added in words; empty for nothing."""
    fixer.findMissingResidues()
    # Residues that SEQRES names and nobody saw are a model's matter, not a repair's.
    fixer.missingResidues = {}
    fixer.findMissingAtoms()
    heavy: dict[str, list[str]] = {}
    for residue, atoms in fixer.missingAtoms.items():
        heavy.setdefault(f"{residue.name} {residue.id}", []).extend(atom.name for atom in atoms)
    for residue, names in fixer.missingTerminals.items():
        heavy.setdefault(f"{residue.name} {residue.id}", []).extend(names)
    fixer.addMissingAtoms(seed=0)
    before = fixer.topology.getNumAtoms()
    # OpenMM throws its first directions of hydrogens with Python's own generator.
    state = random.getstate()
    random.seed(0)
    try:
        fixer.addMissingHydrogens(_PH)
    finally:
        random.setstate(state)
    n_hydrogens = fixer.topology.getNumAtoms() - before
    parts = [_named(heavy)] if heavy else []
    if n_hydrogens:
        parts.append(f"{n_hydrogens} hydrogens")
    return " and ".join(parts)


def _read_completed(fixer: Any, path: Path, added: str, options: ReadOptions) -> Molecule:  # noqa: ANN401  as above
    from openmm.app import PDBFile  # noqa: PLC0415  optional

    text = io.StringIO()
    PDBFile.writeFile(fixer.topology, fixer.positions, text, keepIds=True)
    source = f"path {str(path)!r}, completed by PDBFixer"
    raw = parse_pdb(text.getvalue(), source=source)
    molecule = from_raw_structure(
        raw, name=options.name or path.stem, source=source, options=options
    )
    note = f"{path.name} lacked atoms: PDBFixer added {added}, protonated as at pH {_PH:g}"
    return replace(molecule, notes=(note, *molecule.notes))


def _named(missing: Mapping[str, list[str]]) -> str:
    """Return ``CE1, CZ of PHE 3`` and so on, a few by name."""
    parts = [f"{', '.join(atoms)} of {residue}" for residue, atoms in missing.items()]
    if len(parts) > _MAX_NAMED:
        parts = [*parts[:_MAX_NAMED], f"atoms of {len(parts) - _MAX_NAMED} further residues"]
    return "; ".join(parts)
