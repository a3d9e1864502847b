"""Which pairs of atoms are far apart in a molecule's graph, and how close they may come."""

from typing import Final

import numpy as np

from tito_fast.data.molecule import FloatArray, IntArray, Molecule

CLASH_SHARE_HYDROGEN: Final = 0.5
CLASH_SHARE_HEAVY: Final = 0.65
"""Share of the sum of the two van der Waals radii below which atoms clash.

No pair in the 788,000 frames of our MD of small molecules and dipeptides is that close: the least is
0.52 with a hydrogen (a hydrogen bond) and 0.75 without.
"""

MIN_BONDS_APART: Final = 3
"""Atoms fewer bonds apart are held by a bond or an angle, and cannot clash."""

_HYDROGEN = 1


def far_pairs(molecule: Molecule) -> IntArray:
    """Return the pairs of atoms at least ``MIN_BONDS_APART`` bonds apart, or not joined at all.

    Parameters
    ----------
    molecule : Molecule

    Returns
    -------
    ndarray, shape (2, n_pairs), int64
        The lower atom first.
    """
    n_atoms = molecule.n_atoms
    is_bonded = np.zeros((n_atoms, n_atoms), dtype=bool)
    is_bonded[molecule.bond_index[0], molecule.bond_index[1]] = True
    is_near = is_bonded | (is_bonded.astype(np.int64) @ is_bonded.astype(np.int64) > 0)
    return np.stack(np.nonzero(np.triu(~is_near, k=1))).astype(np.int64)


def vdw_sums_nm(molecule: Molecule, pairs: IntArray) -> FloatArray:
    """Return the sums of the van der Waals radii of pairs of atoms, as RDKit has them.

    Parameters
    ----------
    molecule : Molecule
    pairs : ndarray, shape (2, n_pairs), int64

    Returns
    -------
    ndarray, shape (n_pairs,), float64
        In nm.
    """
    from rdkit import Chem  # noqa: PLC0415  slow to import

    table = Chem.GetPeriodicTable()
    radii_nm = np.array(
        [0.1 * table.GetRvdw(number) for number in molecule.atomic_numbers.tolist()]
    )
    return np.asarray(radii_nm[pairs].sum(axis=0))


def clash_shares(molecule: Molecule, pairs: IntArray) -> FloatArray:
    """Return the share of the sum of van der Waals radii below which each pair clashes.

    Parameters
    ----------
    molecule : Molecule
    pairs : ndarray, shape (2, n_pairs), int64

    Returns
    -------
    ndarray, shape (n_pairs,), float64
    """
    has_hydrogen = (molecule.atomic_numbers[pairs] == _HYDROGEN).any(axis=0)
    return np.where(has_hydrogen, CLASH_SHARE_HYDROGEN, CLASH_SHARE_HEAVY)
