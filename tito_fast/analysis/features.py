"""Torsions of bonds as features of a conformation."""

import numpy as np
from numpy.typing import NDArray

from tito_fast.data.molecule import FloatArray, IntArray, Molecule


def bond_torsions(molecule: Molecule) -> IntArray:
    """Return one torsion for each bond that has a neighbor on both sides.

    All bonds count, hydrogens included; the rotatable bonds alone are
    :func:`tito_fast.data.torsions.rotatable_torsions`.

    Parameters
    ----------
    molecule : Molecule

    Returns
    -------
    ndarray, shape (n_torsions, 4), int64
        Atoms a-b-c-d about the bond b-c with b < c; a and d are the neighbors of lowest number on either
        side. Sorted by b, then c.

    Notes
    -----
    In a ring of three, a and d may be one atom: its torsion is 0 in every frame, a constant that TICA
    and VAMP leave out. About a linear part (nitrile, alkyne) the angle is defined but noise, and 0 where
    three atoms lie exactly on a line; it is never NaN for finite positions. Both are as in the code of
    the reference.

    References
    ----------
    The features of TITO (arXiv 2510.07589), as its released code computes them.
    """
    neighbors: list[list[int]] = [[] for _ in range(molecule.n_atoms)]
    for source, receiver in molecule.bond_index.T.tolist():
        neighbors[source].append(receiver)
    torsions = []
    for b, c in sorted({(b, c) for b, c in molecule.bond_index.T.tolist() if b < c}):
        before = [atom for atom in neighbors[b] if atom != c]
        after = [atom for atom in neighbors[c] if atom != b]
        if before and after:
            torsions.append((min(before), b, c, min(after)))
    return np.array(torsions, dtype=np.int64).reshape(-1, 4)


def torsion_features(angles: NDArray[np.floating]) -> FloatArray:
    """Return cosines and sines of angles.

    Parameters
    ----------
    angles : ndarray, shape (..., n_torsions)
        In radians.

    Returns
    -------
    ndarray, shape (..., 2 n_torsions), float64
        All cosines, then all sines.

    Examples
    --------
    >>> torsion_features(np.array([0.0, np.pi / 2])).round(3)
    array([1., 0., 0., 1.])
    """
    wide = np.asarray(angles, dtype=np.float64)
    result = np.empty((*wide.shape[:-1], 2 * wide.shape[-1]))
    np.cos(wide, out=result[..., : wide.shape[-1]])
    np.sin(wide, out=result[..., wide.shape[-1] :])
    return result
