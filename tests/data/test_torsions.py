"""Which bonds turn, their angles against MDTraj, and the divergence of their distributions."""

import mdtraj as md
import numpy as np
import pytest
from rdkit import Chem
from scipy.spatial.distance import jensenshannon

from tito_fast.data.readers import from_smiles
from tito_fast.data.torsions import (
    jsd,
    rotatable_torsions,
    torsion_angles,
    torsion_histograms,
    torsion_jsd,
)


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("CCCCO", [[0, 1, 2, 3], [1, 2, 3, 4]]),
        ("CNC=O", [[0, 1, 2, 3]]),  # an amide bond counts
        ("C=NCC#N", [[0, 1, 2, 3]]),  # nothing turns about the bond to a nitrile
        ("OC/C=C/CO", [[0, 1, 2, 3], [2, 3, 4, 5]]),  # not the double bond
        ("CC(C)C", []),  # all ends are terminal
        ("C1CCCCC1", []),  # a ring
        ("C1CC1CC2CC2", [[0, 2, 3, 4], [2, 3, 4, 5]]),  # bonds between rings
        ("c1ccccc1c1ccccc1", [[0, 5, 6, 7]]),
        ("C", []),
        ("O", []),
    ],
)
def test_rotatable_bonds_are_those_a_chemist_would_name(smiles, expected):
    torsions = rotatable_torsions(from_smiles(smiles))
    assert torsions.dtype == np.int64
    assert torsions.shape == (len(expected), 4)
    assert torsions.tolist() == expected


@pytest.mark.parametrize("smiles", ["CC(C)CC(N)C(=O)O", "CC1CCC(CC1)OC(C)=O", "CCOC(=O)CC#CCC"])
def test_rotatable_bonds_agree_with_a_search_by_pattern(smiles):
    molecule = from_smiles(smiles)
    pattern = Chem.MolFromSmarts("[!$(*#*)&!D1]-&!@[!$(*#*)&!D1]")
    matches = Chem.MolFromSmiles(smiles).GetSubstructMatches(pattern)
    found = {frozenset(torsion[1:3]) for torsion in rotatable_torsions(molecule).tolist()}
    assert found == {frozenset(match) for match in matches}


def test_angles_are_those_of_mdtraj():
    rng = np.random.default_rng(0)
    positions = rng.standard_normal((63, 9, 3)).astype(np.float32)
    torsions = np.array([[0, 1, 2, 3], [8, 2, 5, 1], [3, 4, 5, 6]])
    topology = md.Topology()
    residue = topology.add_residue("MOL", topology.add_chain())
    for _ in range(9):
        topology.add_atom("C", md.element.carbon, residue)
    expected = md.compute_dihedrals(md.Trajectory(positions, topology), torsions, periodic=False)
    np.testing.assert_allclose(torsion_angles(positions, torsions), expected, atol=2e-5)
    # Leading sizes are kept, and a mirror image turns the sign.
    folded = torsion_angles(positions.reshape(7, 9, 9, 3), torsions)
    np.testing.assert_array_equal(folded.reshape(63, 3), torsion_angles(positions, torsions))
    np.testing.assert_array_equal(
        torsion_angles(positions * [1, 1, -1], torsions), -torsion_angles(positions, torsions)
    )


def test_histograms_count_every_frame_once():
    angles = np.array([[-np.pi, 0.0], [np.pi, 0.1], [np.pi - 0.01, -0.1]])
    histograms = torsion_histograms(angles, n_bins=4)
    np.testing.assert_allclose(histograms, [[2 / 3, 0, 0, 1 / 3], [0, 1 / 3, 2 / 3, 0]])
    np.testing.assert_allclose(torsion_histograms(angles).sum(axis=1), 1.0)


def test_the_divergence_is_that_of_scipy_squared():
    rng = np.random.default_rng(1)
    p, q = rng.random((5, 36)), rng.random((5, 36))
    p[0, :9] = 0
    np.testing.assert_allclose(jsd(p, q), jensenshannon(p, q, axis=1) ** 2, atol=1e-14)
    np.testing.assert_array_equal(jsd(p, p), 0.0)
    np.testing.assert_allclose(jsd(p, q), jsd(q, p))
    a, b = rng.uniform(-3, 0, (50, 2)), rng.uniform(0.1, 3, (70, 2))
    np.testing.assert_allclose(torsion_jsd(a, b), np.log(2))
    assert torsion_jsd(np.zeros((3, 0)), np.zeros((4, 0))).shape == (0,)


def test_the_divergence_of_samples_shrinks_as_the_docstring_says():
    rng = np.random.default_rng(2)
    a, b = (rng.uniform(-np.pi, np.pi, (n, 200)) for n in (2000, 3000))
    expected = 35 / 8 * (1 / 2000 + 1 / 3000)
    np.testing.assert_allclose(torsion_jsd(a, b).mean(), expected, rtol=0.1)


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"positions: expected shape \(..., n_atoms, 3\), got"):
        torsion_angles(np.zeros((4, 2)), np.zeros((1, 4), dtype=np.int64))
    with pytest.raises(ValueError, match=r"torsions: expected shape \(n_torsions, 4\), got"):
        torsion_angles(np.zeros((4, 3)), np.zeros((1, 3), dtype=np.int64))
    with pytest.raises(ValueError, match="torsions: expected atoms 0 to 3, got others"):
        torsion_angles(np.zeros((4, 3)), np.array([[0, 1, 2, 4]]))
    with pytest.raises(ValueError, match=r"angles: expected shape \(n_frames, n_torsions\) with"):
        torsion_histograms(np.zeros((0, 2)))
    with pytest.raises(ValueError, match="angles: expected finite angles, got NaN"):
        torsion_jsd(np.array([[np.nan]]), np.zeros((1, 1)))
    with pytest.raises(ValueError, match="angles_b: expected 2 torsions as angles_a, got 1"):
        torsion_jsd(np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(ValueError, match="n_bins: expected at least 1, got 0"):
        torsion_histograms(np.zeros((3, 2)), n_bins=0)
    with pytest.raises(ValueError, match=r"q: expected the shape of p, \(2,\), got \(3,\)"):
        jsd(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="p: expected values at or above zero with a sum"):
        jsd(np.zeros(2), np.ones(2))
