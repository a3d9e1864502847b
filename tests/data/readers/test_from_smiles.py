import numpy as np
import pytest

from tito_fast.data.readers import ReadOptions, from_smiles


def bond_lengths(molecule):
    i, j = molecule.bond_index
    return np.linalg.norm(molecule.positions[i] - molecule.positions[j], axis=1)


@pytest.mark.parametrize("smiles", ["CCCCO", "OC/C=C/CO", "c1ccccc1O", "N#CCCl", "CS(C)(=O)=O"])
def test_hydrogens_and_a_sensible_3d_structure_are_made(smiles):
    molecule = from_smiles(smiles)
    assert molecule.name == smiles
    lengths = bond_lengths(molecule)
    assert lengths.min() > 0.09
    assert lengths.max() < 0.19
    assert molecule.notes == ("start structure from ETKDGv3 (seed 0), relaxed with MMFF94",)
    degree = np.bincount(molecule.bond_index[0], minlength=molecule.n_atoms)
    assert (degree[molecule.atomic_numbers == 1] == 1).all()


def test_the_seed_decides_the_structure():
    one, again, other = (from_smiles("CCCCO", options=ReadOptions(seed=seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.positions, again.positions)
    assert np.abs(one.positions - other.positions).max() > 0.01


@pytest.mark.parametrize(
    ("smiles", "n_open"), [("CC=CC", 1), ("CC(O)C=NO", 2), ("CC(F)Cl", 1), ("C[C@H](O)F", 0)]
)
def test_open_stereo_is_one_isomer_and_said(smiles, n_open):
    molecule = from_smiles(smiles)
    notes = [note for note in molecule.notes if note.startswith("stereo left open")]
    assert len(notes) == bool(n_open)
    if n_open:
        assert notes == [f"stereo left open at {n_open} place(s); isomer taken: {molecule.smiles}"]
        assert any(mark in molecule.smiles for mark in "@/\\")
    assert from_smiles(smiles).smiles == molecule.smiles


@pytest.mark.parametrize("smiles", ["C/C=C/C", "C/C=C\\C", "C[C@H](N)O", "C[C@@H](N)O"])
def test_stated_stereo_is_kept(smiles):
    assert from_smiles(smiles).smiles == smiles


def test_charges_are_recorded_and_relaxed_in_a_dielectric():
    molecule = from_smiles("[NH3+]CC(=O)[O-]")
    assert molecule.formal_charges == (1, 0, 0, 0, -1, 0, 0, 0, 0, 0)
    assert molecule.notes[0].endswith("relaxed with MMFF94 in water's dielectric")


def test_uff_relaxes_what_mmff_does_not_know():
    assert from_smiles("C[Se]C").notes[0].endswith("relaxed with UFF")


def test_isotope_labels_are_dropped_and_said():
    molecule = from_smiles("[2H]C([2H])([2H])O")
    assert molecule.smiles == "CO"
    assert molecule.notes[0] == "isotope labels of 3 atom(s) ignored"


def test_names_stay_unique_beyond_a_hundred_atoms_of_an_element():
    molecule = from_smiles("C" * 17)
    assert len(set(molecule.atom_names)) == molecule.n_atoms
    assert "H36" in molecule.atom_names


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("X1", "smiles: expected a valid SMILES, got 'X1'"),
        ("", "smiles: expected a valid SMILES, got ''"),
        ("C C", "smiles: expected a valid SMILES, got 'C C'"),
        ("C(C)(C)(C)(C)C", r"Explicit valence for atom # 0 C, 5"),
        ("CC.O", r"expected one molecule, got 2 fragments \(C2H6, H2O\)"),
        ("[Na+].[Cl-]", r"2 fragments \(Na\+, Cl-\)"),
        ("C[CH2]", r"got a radical at atom 2 \(C\)"),
        ("*C", r"expected chemical elements, got '\*' as atom 1"),
        ("C->[Fe]", "got dative between atoms 1 and 2"),
    ],
)
def test_what_cannot_be_simulated_is_refused(smiles, message):
    with pytest.raises(ValueError, match=message):
        from_smiles(smiles)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="seed: expected 0 to 2147483647, got -1"):
        ReadOptions(seed=-1)
    with pytest.raises(ValueError, match="name: expected a label, got ' '"):
        ReadOptions(name=" ")
    with pytest.raises(ValueError, match="expected none for a SMILES"):
        from_smiles("CC", options=ReadOptions(smiles_template="CC"))
