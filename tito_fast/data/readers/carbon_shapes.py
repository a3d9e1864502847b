"""Whether carbons with few neighbors have the shape of a multiple bond, or lack hydrogens."""

from itertools import combinations

import numpy as np
from rdkit import Chem

from tito_fast.data.molecule import FloatArray

# Measured on 300 K dynamics of 128 small molecules: the three angles of an sp2 carbon sum to
# 345° or more in 99.9 % of frames (median 359.8°), those of an sp3 carbon without one of its
# hydrogens to 331° in the median; the angle of an sp carbon never fell below 160°.
_MIN_SP2_ANGLE_SUM = 335.0
_MIN_SP_ANGLE = 140.0


def first_bent_carbon(mol: Chem.Mol, positions: FloatArray) -> tuple[int, str] | None:
    """Return index and description of the first carbon too bent for its number of neighbors.

    Atoms of three-membered rings are left out: their angles say nothing.

    Parameters
    ----------
    mol : Chem.Mol
        With all bonds.
    positions : ndarray, shape (n_atoms, 3)
        In nm.
    """
    rings = mol.GetRingInfo()
    for atom in mol.GetAtoms():
        i = atom.GetIdx()
        if atom.GetAtomicNum() != 6 or rings.IsAtomInRingOfSize(i, 3):
            continue
        arms = [positions[other.GetIdx()] - positions[i] for other in atom.GetNeighbors()]
        angles = [_angle(one, two) for one, two in combinations(arms, 2)]
        if len(arms) == 2 and angles[0] < _MIN_SP_ANGLE:
            return i, f"two neighbors at {angles[0]:.0f}°"
        if len(arms) == 3 and sum(angles) < _MIN_SP2_ANGLE_SUM:
            return i, f"three neighbors out of plane (angles sum to {sum(angles):.0f}°)"
    return None


def _angle(one: FloatArray, two: FloatArray) -> float:
    cosine = float(one @ two / (np.linalg.norm(one) * np.linalg.norm(two)))
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
