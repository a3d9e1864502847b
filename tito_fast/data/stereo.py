"""A molecule as RDKit sees it, with the stereo of its start structure; the sense of its stereocenters."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import IntArray, Molecule


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


def stereocenter_corners(mol: Any) -> IntArray:  # noqa: ANN401  RDKit has no types
    """Return the atoms that tell the sense of each stereocenter, (n_stereocenters, 4), int64.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        From :func:`mol_with_stereo`.

    Returns
    -------
    ndarray
        The lowest neighbors of the center in rising order, the last of four the apex; with three neighbors the
        center itself is the apex.
    """
    from rdkit import Chem  # noqa: PLC0415  slow to import

    tags = (Chem.ChiralType.CHI_TETRAHEDRAL_CW, Chem.ChiralType.CHI_TETRAHEDRAL_CCW)
    corners = []
    for atom in mol.GetAtoms():
        if atom.GetChiralTag() in tags:
            around = sorted(neighbor.GetIdx() for neighbor in atom.GetNeighbors())
            corners.append([*around, atom.GetIdx()][:4])
    return np.array(corners, dtype=np.int64).reshape(-1, 4)


def corner_senses(positions: NDArray[np.floating], corners: IntArray) -> NDArray[np.bool_]:
    """Return whether the first three atoms turn clockwise seen from the apex.

    Parameters
    ----------
    positions : ndarray, shape (n_frames, n_atoms, 3)
    corners : ndarray, shape (n, 4), int64

    Returns
    -------
    ndarray, shape (n_frames, n), bool
    """
    atoms = positions[:, corners].astype(np.float64)
    a, b, c = (atoms[:, :, corner] - atoms[:, :, 3] for corner in range(3))
    return np.asarray((a * np.cross(b, c)).sum(-1) > 0)
