"""A molecule as RDKit sees it, with the stereo of its start structure."""

from typing import Any

import numpy as np

from tito_fast.data.molecule import Molecule


def mol_with_stereo(molecule: Molecule) -> Any:  # noqa: ANN401  RDKit has no types
    """Return an RDKit molecule with the stereo of the start structure at true stereocenters only.

    Parameters
    ----------
    molecule : Molecule

    Returns
    -------
    rdkit.Chem.Mol
        Atoms in the molecule's order, hydrogens explicit, with its positions as conformer; valences
        are not checked and aromatic bonds stay so.
    """
    from rdkit import Chem  # noqa: PLC0415  slow to import

    mol = Chem.RWMol()
    charges = molecule.formal_charges or (0,) * molecule.n_atoms
    for number, charge in zip(molecule.atomic_numbers.tolist(), charges, strict=True):
        atom = Chem.Atom(number)
        atom.SetFormalCharge(int(charge))
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    for (first, second), kind in zip(
        molecule.bond_index.T.tolist(), molecule.bond_type.tolist(), strict=True
    ):
        if first < second:
            mol.AddBond(first, second, Chem.BondType.values[kind])
            if kind == Chem.BondType.AROMATIC:
                mol.GetBondBetweenAtoms(first, second).SetIsAromatic(True)
                mol.GetAtomWithIdx(first).SetIsAromatic(True)
                mol.GetAtomWithIdx(second).SetIsAromatic(True)
    # Neither valences nor Kekulé forms are asked for: stereo needs neither, and a model may be run
    # on bonds that are all written as single.
    flags = Chem.SanitizeFlags
    wanted = flags.SANITIZE_SYMMRINGS | flags.SANITIZE_SETHYBRIDIZATION
    mol.UpdatePropertyCache(strict=False)
    Chem.SanitizeMol(mol, sanitizeOps=wanted)
    conformer = Chem.Conformer(molecule.n_atoms)
    conformer.Set3D(True)
    conformer.SetPositions(np.ascontiguousarray(10.0 * molecule.positions))
    mol.AddConformer(conformer)
    Chem.AssignStereochemistryFrom3D(mol, replaceExistingTags=True)
    return mol
