import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from tito_fast.data.readers import ReadOptions, from_sdf


def embedded(smiles):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=7) == 0
    return mol


def test_bond_orders_stereo_and_positions_are_those_of_the_file(molecules_dir):
    molecule = from_sdf(molecules_dir / "butenediol.sdf")
    assert molecule.name == "butenediol"
    assert molecule.smiles == "OC/C=C/CO"
    assert sorted(set(molecule.bond_type.tolist())) == [1, 2]
    np.testing.assert_allclose(molecule.positions[0], [-0.26235, 0.03067, 0.02427], atol=1e-12)
    assert molecule.atom_names[:3] == ("O1", "C1", "C2")
    assert molecule.notes == ()
    assert molecule.formal_charges == (0,) * 14


def test_charges_and_aromatic_codes_are_kept(write):
    mol = embedded("C[N+](C)(C)Cc1ccccc1")
    molecule = from_sdf(write("cation.sdf", Chem.MolToMolBlock(mol)))
    assert molecule.formal_charges[1] == 1
    assert sum(molecule.formal_charges) == 1
    assert molecule.bond_type.tolist().count(12) == 12


def test_v3000_and_a_block_without_dimension_give_the_same_molecule(write):
    mol = embedded("C[C@H](N)O")
    block = Chem.MolToMolBlock(mol)
    one = from_sdf(write("a.mol", block))
    two = from_sdf(write("b.sdf", Chem.MolToV3KMolBlock(mol)))
    three = from_sdf(write("c.sdf", block.replace("3D", "  ", 1)))
    for other in (two, three):
        assert other.smiles == one.smiles == "C[C@H](N)O"
        np.testing.assert_allclose(other.positions, one.positions, atol=1e-5)


def test_e_or_z_marked_either_is_taken_from_the_coordinates(write):
    mol = embedded("C/C=C\\C")
    block = Chem.MolToMolBlock(mol).replace("  2  3  2  0", "  2  3  2  3")
    molecule = from_sdf(write("either.sdf", block))
    assert molecule.smiles == "C/C=C\\C"
    assert molecule.notes == ("E/Z of 1 bond(s) marked 'either' taken from the coordinates",)


def test_missing_hydrogens_are_refused_or_added_in_place(write):
    full = embedded("C[C@H](N)O")
    path = write("heavy.sdf", Chem.MolToMolBlock(Chem.RemoveHs(full)))
    with pytest.raises(ValueError, match=r"a molecule that lacks 7; give a file .* add_hydrogens"):
        from_sdf(path)
    molecule = from_sdf(path, options=ReadOptions(add_hydrogens=True))
    assert molecule.smiles == "C[C@H](N)O"
    assert molecule.notes == ("7 hydrogens added",)
    heavy = full.GetConformer().GetPositions()[:4] / 10
    np.testing.assert_allclose(molecule.positions[:4], heavy, atol=1e-5)


def test_flat_coordinates_become_3d_and_the_isomer_is_noted(write):
    path = write("flat.sdf", Chem.MolToMolBlock(Chem.MolFromSmiles("CC(O)N")))
    options = ReadOptions(add_hydrogens=True, seed=3)
    molecule = from_sdf(path, options=options)
    assert np.ptp(molecule.positions, axis=0).min() > 0.05
    assert any(note.startswith("start structure from ETKDGv3 (seed 3)") for note in molecule.notes)
    assert f"stereo left open at 1 place(s); isomer taken: {molecule.smiles}" in molecule.notes
    np.testing.assert_array_equal(molecule.positions, from_sdf(path, options=options).positions)


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("CC.O", r"got 2 fragments \(C2H6, H2O\)"),
        ("[CH2]C", r"got a radical at atom 1 \(C\)"),
    ],
)
def test_fragments_and_radicals_are_refused(write, smiles, message):
    block = Chem.MolToMolBlock(Chem.AddHs(Chem.MolFromSmiles(smiles)))
    with pytest.raises(ValueError, match=message):
        from_sdf(write("bad.sdf", block))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:500], "got one without 'M  END'; it is truncated"),
        (lambda text: text[:700] + "\nM  END\n", "cannot parse; it is truncated or garbled"),
        (lambda text: text.replace(" O   0", " Qq  0"), "got the unknown element 'Qq'"),
        (lambda text: text.replace("   -2.6235", "       nan"), "not finite"),
        (lambda text: text + text, "expected one molecule, got 2; split the file"),
        (lambda text: text.replace("\n  1  2  1  0", "\n  1  2  3  0"), "Explicit valence for atom"),
        (lambda _: "\n     RDKit          3D\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n",
         "expected at least one atom, got none"),
        (lambda _: "%PDF-1.4 thing", "which is a PDF document"),
        (lambda _: "hello\n", "V2000 or V3000 in its counts line"),
        (lambda _: " \n", "which is empty"),
    ],
)  # fmt: skip
def test_a_garbled_file_is_one_clear_sentence(molecules_dir, write, change, message):
    text = (molecules_dir / "butenediol.sdf").read_text()
    with pytest.raises(ValueError, match=message) as caught:
        from_sdf(write("bad.sdf", change(text)))
    assert "\n" not in str(caught.value)


def test_a_pdb_named_sdf_is_recognised(molecules_dir, write):
    text = (molecules_dir / "butenediol.pdb").read_text()
    with pytest.raises(ValueError, match=r"it looks like a PDB file: name it \.pdb"):
        from_sdf(write("wrong.sdf", text))


def test_a_template_is_refused_where_orders_are_stated(molecules_dir):
    with pytest.raises(ValueError, match="expected none for an SDF or MOL file, which states"):
        from_sdf(molecules_dir / "butenediol.sdf", options=ReadOptions(smiles_template="CC"))
