"""The last step of every reader: an RDKit molecule with coordinates becomes a ``Molecule``."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdMolDescriptors
from scipy.spatial.distance import pdist

from tito_fast.data.molecule import FloatArray, Molecule
from tito_fast.data.readers.conformers import embed
from tito_fast.data.readers.hydrogens import add_hydrogens, n_missing_hydrogens
from tito_fast.data.readers.options import ReadOptions
from tito_fast.data.topology import unique_atom_names

# Codes that the networks' bond table was made for: single, double, triple, aromatic.
_BOND_CODES = (1, 2, 3, 12)
# Half of the shortest bond there is (H-H, 0.074 nm): closer atoms are a garbled file.
_MIN_DISTANCE_NM = 0.035


def check_parts(mol: Chem.Mol, *, source: str) -> None:
    """Refuse molecules that no reader accepts.

    Raises
    ------
    ValueError
        If there are no atoms, placeholders for atoms, several fragments, radicals or bonds of
        other kinds than single, double, triple and aromatic.
    """
    if mol.GetNumAtoms() == 0:
        raise ValueError(f"{source}: expected at least one atom, got none")
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() == 0:
            raise ValueError(
                f"{source}: expected chemical elements, got {atom.GetSymbol()!r} as atom "
                f"{atom.GetIdx() + 1}"
            )
    with rdBase.BlockLogs():
        fragments = Chem.GetMolFrags(mol, asMols=True, sanitizeFrags=False)
        if len(fragments) > 1:
            formulas = ", ".join(_formula(fragment) for fragment in fragments)
            raise ValueError(
                f"{source}: expected one molecule, got {len(fragments)} fragments ({formulas}); "
                "keep the one to simulate"
            )
    for atom in mol.GetAtoms():
        if atom.GetNumRadicalElectrons():
            raise ValueError(
                f"{source}: expected a closed-shell molecule, got a radical at atom "
                f"{atom.GetIdx() + 1} ({atom.GetSymbol()})"
            )
    for bond in mol.GetBonds():
        if int(bond.GetBondType()) not in _BOND_CODES:
            raise ValueError(
                f"{source}: expected single, double, triple or aromatic bonds, got "
                f"{str(bond.GetBondType()).lower()} between atoms {bond.GetBeginAtomIdx() + 1} "
                f"and {bond.GetEndAtomIdx() + 1}"
            )


def finish(
    mol: Chem.Mol,
    *,
    name: str,
    source: str,
    options: ReadOptions,
    notes: Sequence[str] = (),
    implicit_hydrogens: bool = False,
) -> Molecule:
    """Return the ``Molecule`` of a sanitized RDKit molecule, completed as ``options`` say.

    Parameters
    ----------
    mol : Chem.Mol
        Sanitized. Without a 3D conformer one is built.
    name : str
        Label where ``options`` give none.
    source : str
        What to call the input in error messages.
    options : ReadOptions
    notes : sequence of str
        What was decided so far.
    implicit_hydrogens : bool
        Whether the input has hydrogens implied by its nature, as a SMILES does, so that adding
        them is no decision.

    Raises
    ------
    ValueError
        If the molecule is one that no reader accepts, lacks hydrogens, or has garbled coordinates.
    """
    check_parts(mol, source=source)
    decided = list(notes)
    isotopes = sum(atom.GetIsotope() != 0 for atom in mol.GetAtoms())
    if isotopes:
        decided.append(f"isotope labels of {isotopes} atom(s) ignored")
        mol = _without_isotopes(mol)
    mol, n_either = _without_either_bonds(mol)
    positions = _positions_3d(mol)
    check_positions(positions, source=source)
    if n_either and positions is not None:
        decided.append(f"E/Z of {n_either} bond(s) marked 'either' taken from the coordinates")
    n_missing = n_missing_hydrogens(mol)
    if n_missing and not (implicit_hydrogens or options.add_hydrogens):
        raise ValueError(
            f"{source}: expected all hydrogens as atoms, got a molecule that lacks {n_missing}; "
            "give a file with hydrogens or pass add_hydrogens=True (--add-hydrogens)"
        )
    if n_missing:
        if positions is None:
            mol = Chem.Mol(mol)
            mol.RemoveAllConformers()
        mol = add_hydrogens(mol)
        if not implicit_hydrogens:
            decided.append(f"{n_missing} hydrogens added")
    if positions is None:
        mol, embedding_notes = embed(mol, seed=options.seed, source=source)
        decided.extend(embedding_notes)
    else:
        mol = Chem.Mol(mol)
        with rdBase.BlockLogs():
            Chem.AssignStereochemistryFrom3D(mol)
    positions = _positions_3d(mol)
    check_positions(positions, source=source)
    return _molecule(mol, positions, options.name or name, tuple(decided))


def _molecule(
    mol: Chem.Mol, positions: FloatArray | None, name: str, notes: tuple[str, ...]
) -> Molecule:
    if positions is None:  # pragma: no cover - finish() always gives positions
        raise RuntimeError("positions: expected coordinates after embedding, got none")
    infos = [atom.GetPDBResidueInfo() for atom in mol.GetAtoms()]
    atomic_numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64)
    residue_names = tuple(
        info.GetResidueName().strip() or "MOL" if info else "MOL" for info in infos
    )
    residue_numbers = tuple(info.GetResidueNumber() or 1 if info else 1 for info in infos)
    chain_ids = tuple(info.GetChainId().strip() or "A" if info else "A" for info in infos)
    bond_index, bond_type = _bonds(mol)
    with rdBase.BlockLogs():
        smiles = _implicit_smiles(mol)
    return Molecule(
        name=name,
        atomic_numbers=atomic_numbers,
        bond_index=bond_index,
        bond_type=bond_type,
        positions=positions,
        atom_names=unique_atom_names(
            [info.GetName().strip() if info else "" for info in infos],
            atomic_numbers=atomic_numbers,
            residues=list(zip(chain_ids, residue_numbers, residue_names, strict=True)),
        ),
        residue_names=residue_names,
        residue_numbers=residue_numbers,
        chain_ids=chain_ids,
        smiles=smiles,
        formal_charges=tuple(atom.GetFormalCharge() for atom in mol.GetAtoms()),
        notes=notes,
    )


def _bonds(mol: Chem.Mol) -> tuple[np.ndarray, np.ndarray]:
    """Return both directions of every bond, sorted by first and then by second atom."""
    rows = sorted(
        (i, j, int(bond.GetBondType()))
        for bond in mol.GetBonds()
        for i, j in (
            (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()),
            (bond.GetEndAtomIdx(), bond.GetBeginAtomIdx()),
        )
    )
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return np.ascontiguousarray(table[:, :2].T), table[:, 2].copy()


def _positions_3d(mol: Chem.Mol) -> FloatArray | None:
    """Return the first conformer in nm, or None where there is none in 3D."""
    if mol.GetNumConformers() == 0 or not mol.GetConformer().Is3D():
        return None
    return np.asarray(mol.GetConformer().GetPositions(), dtype=np.float64) / 10.0


def check_positions(positions: FloatArray | None, *, source: str) -> None:
    """Refuse coordinates that are not finite, or put two atoms in one place.

    Raises
    ------
    ValueError
        If an atom of ``positions`` (n_atoms, 3), in nm, is such.
    """
    if positions is None:
        return
    if not np.isfinite(positions).all():
        atom = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
        raise ValueError(
            f"{source}: expected finite coordinates, got {positions[atom].tolist()} for atom "
            f"{atom + 1}"
        )
    if len(positions) > 1 and pdist(positions).min() < _MIN_DISTANCE_NM:
        raise ValueError(
            f"{source}: expected atoms at least {_MIN_DISTANCE_NM} nm apart, got two at "
            f"{pdist(positions).min():.4f} nm; are the coordinates garbled or in another unit?"
        )


def _formula(mol: Chem.Mol) -> str:
    mol.UpdatePropertyCache(strict=False)
    return str(rdMolDescriptors.CalcMolFormula(mol)) or str(
        Counter(atom.GetSymbol() for atom in mol.GetAtoms())
    )


def _without_isotopes(mol: Chem.Mol) -> Chem.Mol:
    plain = Chem.Mol(mol)
    for atom in plain.GetAtoms():
        atom.SetIsotope(0)
    return plain


def _without_either_bonds(mol: Chem.Mol) -> tuple[Chem.Mol, int]:
    """Return ``mol`` without marks that double bonds may be E or Z, and how many there were.

    RDKit would keep such a mark even where coordinates decide.
    """
    plain = Chem.Mol(mol)
    marked = [bond for bond in plain.GetBonds() if bond.GetStereo() == Chem.BondStereo.STEREOANY]
    for bond in marked:
        bond.SetStereo(Chem.BondStereo.STEREONONE)
        bond.SetBondDir(Chem.BondDir.NONE)
    return plain, len(marked)


def _implicit_smiles(mol: Chem.Mol) -> str:
    """Return the isomeric SMILES without any hydrogen atom, imine N-H included."""
    parameters: Any = Chem.RemoveHsParameters()
    parameters.removeDefiningBondStereo = True
    return str(Chem.MolToSmiles(Chem.RemoveHs(mol, parameters)))
