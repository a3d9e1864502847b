"""Samples are the molecule that was asked for, or are told apart from it."""

import numpy as np
import pytest

from tito_fast import read_molecule
from tito_fast.data.configuration_checks import bond_cutoffs_nm, check_configurations
from tito_fast.data.readers import from_sequence


@pytest.fixture(scope="module")
def dipeptide():
    """Ala-Val: two stereocenters."""
    return from_sequence("AV")


def shaken(molecule, n, *, scale=0.003, seed=0):
    noise = np.random.default_rng(seed).normal(scale=scale, size=(n, molecule.n_atoms, 3))
    return molecule.positions + noise


def test_sound_samples_are_kept_as_they_are(dipeptide):
    positions = shaken(dipeptide, 7).astype(np.float32)
    before = positions.copy()
    checked = check_configurations(dipeptide, positions)
    assert checked.is_kept.all()
    assert np.array_equal(checked.positions, before)
    assert checked.positions.dtype == np.float32
    assert checked.share_kept == 1.0
    assert checked.counts == {
        "samples": 7,
        "not_finite": 0,
        "wrong_topology": 0,
        "wrong_chirality": 0,
        "kept": 7,
        "reordered": 0,
        "mirrored": 0,
    }


@pytest.mark.parametrize("name", ["peptide:MC", "peptide:RW", "CC(=O)NN", "c1ccsc1Br"])
def test_the_start_structure_has_its_own_bonds(name):
    molecule = read_molecule(name)
    assert check_configurations(molecule, molecule.positions[None]).counts["kept"] == 1


def test_mirror_images_are_mirrored_back(dipeptide):
    right = shaken(dipeptide, 3)
    samples = np.concatenate([right, -right[:2]])
    checked = check_configurations(dipeptide, samples)
    assert checked.is_kept.all()
    assert checked.is_mirrored.tolist() == [False] * 3 + [True] * 2
    np.testing.assert_array_equal(checked.positions[3:], right[:2])
    plain = check_configurations(dipeptide, samples, mirror=False)
    assert plain.is_kept.tolist() == [True] * 3 + [False] * 2
    assert plain.counts["wrong_chirality"] == 2
    np.testing.assert_array_equal(plain.positions, samples)


def test_one_wrong_center_of_two_is_wrong_chirality():
    molecule = read_molecule("C[C@H](F)[C@H](F)Cl")
    other = read_molecule("C[C@H](F)[C@@H](F)Cl")
    assert molecule.atomic_numbers.tolist() == other.atomic_numbers.tolist()
    checked = check_configurations(molecule, np.stack([molecule.positions, other.positions]))
    assert checked.is_kept.tolist() == [True, False]
    assert checked.counts["wrong_chirality"] == 1
    assert checked.counts["mirrored"] == 0


def test_molecules_without_stereocenters_are_never_mirrored():
    molecule = read_molecule("CCO")
    checked = check_configurations(molecule, -molecule.positions[None])
    assert (checked.counts["kept"], checked.counts["mirrored"]) == (1, 0)


def test_equal_atoms_in_another_order_are_put_in_the_molecules(dipeptide):
    hydrogens = np.flatnonzero(dipeptide.atomic_numbers == 1)
    order = np.arange(dipeptide.n_atoms)
    order[hydrogens] = np.roll(hydrogens, 5)
    sample = dipeptide.positions[order]
    checked = check_configurations(dipeptide, sample[None])
    assert checked.counts["reordered"] == checked.counts["kept"] == 1
    found = checked.positions[0]
    assert not np.array_equal(found, sample)
    # The same set of atoms, now with the molecule's bonds.
    assert {tuple(row) for row in found} == {tuple(row) for row in dipeptide.positions}
    bonds = dipeptide.bond_index
    lengths = np.linalg.norm(found[bonds[0]] - found[bonds[1]], axis=1)
    assert lengths.max() < 0.16
    strict = check_configurations(dipeptide, sample[None], reorder=False)
    assert (strict.counts["kept"], strict.counts["wrong_topology"]) == (0, 1)


def test_broken_bonds_and_other_isomers_are_wrong_topology():
    ethanol, ether = read_molecule("CCO"), read_molecule("COC")
    assert sorted(ethanol.atomic_numbers) == sorted(ether.atomic_numbers)
    order = np.empty(ethanol.n_atoms, dtype=int)
    order[np.argsort(ethanol.atomic_numbers, kind="stable")] = np.argsort(
        ether.atomic_numbers, kind="stable"
    )
    isomer = ether.positions[order]
    broken = ethanol.positions.copy()
    broken[0] += 1.0
    missing = ethanol.positions.copy()
    missing[1] = np.nan
    checked = check_configurations(ethanol, np.stack([isomer, broken, missing, ethanol.positions]))
    assert checked.is_kept.tolist() == [False, False, False, True]
    assert checked.counts["wrong_topology"] == 2
    assert checked.counts["not_finite"] == 1


def test_an_isomer_with_the_same_bonds_by_element_is_told_apart():
    normal, branched = read_molecule("CCCC"), read_molecule("CC(C)C")
    assert normal.atomic_numbers.tolist() == branched.atomic_numbers.tolist()
    checked = check_configurations(normal, branched.positions[None])
    assert checked.counts["wrong_topology"] == 1


def test_cutoffs_are_the_published_ones():
    cysteine = read_molecule("peptide:CG")
    numbers = cysteine.atomic_numbers
    h, c, n, o, s = (int(np.flatnonzero(numbers == number)[0]) for number in (1, 6, 7, 8, 16))
    pairs = np.array([[h, h, s, c, n, s], [c, s, c, c, o, n]])
    assert bond_cutoffs_nm(cysteine, pairs).tolist() == [0.14, 0.14, 0.22, 0.18, 0.0, 0.22]
    hydrazide = read_molecule("CC(=O)NN")
    nitrogens = np.flatnonzero(hydrazide.atomic_numbers == 7)
    assert bond_cutoffs_nm(hydrazide, nitrogens[:, None]).tolist() == [0.18]


def test_no_samples_and_wrong_shapes(dipeptide):
    checked = check_configurations(dipeptide, np.zeros((0, dipeptide.n_atoms, 3)))
    assert checked.share_kept is None
    assert checked.counts["samples"] == 0
    with pytest.raises(ValueError, match=r"positions: expected shape \(n_samples, 29, 3\)"):
        check_configurations(dipeptide, np.zeros((2, 5, 3)))
