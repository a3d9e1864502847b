"""Molecules for the converters: elements, labels and bonds out of SDF, MolBlock and PDB."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tito_fast.data.molecule import FloatArray, IntArray, Molecule

if TYPE_CHECKING:
    import mdtraj


def rdkit_molecule(mol: Any, *, name: str, positions: FloatArray) -> Molecule:  # noqa: ANN401  RDKit has no types
    """Return the molecule of an RDKit ``mol`` with ``positions`` (n_atoms, 3) in nm.

    Atoms keep the order of ``mol``; labels are element and number, as an SDF has none.
    """
    from rdkit import Chem  # noqa: PLC0415  slow to import

    bonds = [
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), int(bond.GetBondType()))
        for bond in mol.GetBonds()
    ]
    begin, end, kind = np.array(bonds, dtype=np.int64).reshape(-1, 3).T
    atoms = list(mol.GetAtoms())
    return Molecule(
        name=name,
        atomic_numbers=np.array([atom.GetAtomicNum() for atom in atoms], dtype=np.int64),
        bond_index=np.stack([np.concatenate([begin, end]), np.concatenate([end, begin])]),
        bond_type=np.concatenate([kind, kind]),
        positions=np.asarray(positions, dtype=np.float64),
        atom_names=tuple(f"{atom.GetSymbol()}{idx + 1}" for idx, atom in enumerate(atoms)),
        residue_names=("UNL",) * len(atoms),
        residue_numbers=(1,) * len(atoms),
        chain_ids=("A",) * len(atoms),
        smiles=str(Chem.MolToSmiles(Chem.RemoveHs(mol))),
        formal_charges=tuple(atom.GetFormalCharge() for atom in atoms),
    )


def conformer_nm(mol: Any) -> FloatArray:  # noqa: ANN401  RDKit has no types
    """Return the coordinates of the only conformer of ``mol``, (n_atoms, 3), in nm."""
    return np.asarray(mol.GetConformer().GetPositions(), dtype=np.float64) * 0.1


def read_sdf_entry(path: Path, *, name: str) -> Molecule:
    """Return the first entry of an SDF or MOL file, hydrogens included, as a molecule.

    Raises
    ------
    ValueError
        If RDKit finds no molecule with coordinates there.
    """
    from rdkit import Chem  # noqa: PLC0415  slow to import

    if not path.is_file():
        raise ValueError(f"sdf: expected a file, got {str(path)!r}")
    mol = next(iter(Chem.SDMolSupplier(str(path), removeHs=False)), None)
    if mol is None or mol.GetNumConformers() == 0:
        raise ValueError(f"sdf: expected a molecule with coordinates in {path}, got none")
    Chem.AssignStereochemistryFrom3D(mol)
    return rdkit_molecule(mol, name=name, positions=conformer_nm(mol))


def with_pdb_labels(molecule: Molecule, trajectory: "mdtraj.Trajectory") -> Molecule:
    """Return ``molecule`` with the atom labels of an mdtraj ``trajectory`` and its first frame.

    Raises
    ------
    ValueError
        If the elements differ in number or order.
    """
    check_same_elements(molecule, elements_of(trajectory), other=f"the topology of {molecule.name}")
    atoms = list(trajectory.topology.atoms)
    return replace(
        molecule,
        positions=np.asarray(trajectory.xyz[0], dtype=np.float64),
        atom_names=tuple(atom.name for atom in atoms),
        residue_names=tuple(atom.residue.name for atom in atoms),
        residue_numbers=tuple(atom.residue.resSeq for atom in atoms),
        chain_ids=tuple(atom.residue.chain.chain_id or "A" for atom in atoms),
    )


def elements_of(trajectory: "mdtraj.Trajectory") -> IntArray:
    """Return the atomic numbers of an mdtraj ``trajectory``, (n_atoms,), int64.

    Raises
    ------
    ValueError
        If an atom has no element, as virtual sites.
    """
    atoms = list(trajectory.topology.atoms)
    numbers = np.array([0 if a.element is None else a.element.atomic_number for a in atoms])
    if not (numbers > 0).all():
        bad = int(np.argmin(numbers))
        raise ValueError(f"topology: expected an element for every atom, got none for atom {bad}")
    return numbers.astype(np.int64)


def check_same_elements(molecule: Molecule, numbers: IntArray, *, other: str) -> None:
    """Raise ``ValueError`` unless ``numbers`` are the atomic numbers of ``molecule``, in order."""
    have = molecule.atomic_numbers
    if have.shape != numbers.shape:
        raise ValueError(
            f"atoms: expected {have.shape[0]} as in the bonds, got {numbers.shape[0]} in {other}"
        )
    if (have != numbers).any():
        first = int(np.argmax(have != numbers))
        raise ValueError(
            f"atoms: expected the order of the bonds, got element {numbers[first]} in place of "
            f"{have[first]} at atom {first} in {other}"
        )
