"""Torsions of all bonds, as the authors choose them."""

import numpy as np
import pytest

from tito_fast.analysis.features import bond_torsions, torsion_features
from tito_fast.data.readers import from_smiles
from tito_fast.data.torsions import rotatable_torsions, torsion_angles


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("CO", [[2, 0, 1, 5]]),  # H-C-O-H: hydrogens are neighbors
        ("C=C", [[2, 0, 1, 4]]),  # double bonds count
        ("CC#N", [[3, 0, 1, 2]]),  # a linear part counts, too
        ("C1CC1", [[2, 0, 1, 2], [1, 0, 2, 1], [0, 1, 2, 0]]),
        ("O", []),
    ],
)
def test_every_bond_with_neighbors_on_both_sides_has_one(smiles, expected):
    torsions = bond_torsions(from_smiles(smiles))
    assert torsions.dtype == np.int64
    assert torsions.shape == (len(expected), 4)
    assert torsions.tolist() == expected


def test_bonds_are_sorted_and_neighbors_are_the_first(make_molecule):
    molecule = make_molecule(63)
    torsions = bond_torsions(molecule)
    bonds = {tuple(bond) for bond in molecule.bond_index.T.tolist()}
    assert torsions[:, 1:3].tolist() == sorted(torsions[:, 1:3].tolist())
    for a, b, c, d in torsions.tolist():
        assert b < c
        assert a == min(atom for atom in range(63) if (b, atom) in bonds and atom != c)
        assert d == min(atom for atom in range(63) if (c, atom) in bonds and atom != b)
    about = {tuple(pair) for pair in torsions[:, 1:3].tolist()}
    for b, c in bonds - about:
        ends = [sum((atom, other) in bonds for other in range(63)) for atom in (b, c)]
        assert b > c or min(ends) == 1


def test_rotatable_bonds_are_among_them():
    molecule = from_smiles("CC(C)CC(N)C(=O)O")
    all_bonds = {tuple(pair) for pair in bond_torsions(molecule)[:, 1:3].tolist()}
    assert {tuple(pair) for pair in rotatable_torsions(molecule)[:, 1:3].tolist()} < all_bonds


def test_features_are_cosines_then_sines_and_never_nan():
    angles = np.random.default_rng(0).uniform(-np.pi, np.pi, (3, 5, 4)).astype(np.float32)
    features = torsion_features(angles)
    assert features.dtype == np.float64
    np.testing.assert_allclose(features[..., :4], np.cos(angles), atol=1e-6)
    np.testing.assert_allclose(features[..., 4:], np.sin(angles), atol=1e-6)
    # Three atoms on a line, and a ring of three with one atom at both ends.
    line = np.array([[0.0, 0, 0], [0, 0, 1], [0, 0, 2], [1, 0, 2], [0, 1, 1]])
    degenerate = torsion_angles(line, np.array([[0, 1, 2, 3], [4, 1, 2, 4]]))
    np.testing.assert_array_equal(torsion_features(degenerate), [1, 1, 0, 0])
