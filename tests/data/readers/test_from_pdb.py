import numpy as np
import pytest

from tito_fast.data.readers import ReadOptions, from_pdb, from_sdf, from_sequence, from_smiles
from tito_fast.data.topology import write_pdb


def bonds_of(molecule):
    return set(zip(*molecule.bond_index.tolist(), molecule.bond_type.tolist(), strict=True))


def named_bonds(molecule):
    labels = [
        (name, number)
        for name, number in zip(molecule.atom_names, molecule.residue_numbers, strict=True)
    ]
    return {
        (labels[i], labels[j], int(code))
        for i, j, code in zip(*molecule.bond_index, molecule.bond_type, strict=True)
    }


def is_hydrogen(line):
    return line[76:78].strip() == "H"


def test_perception_from_conect_equals_the_sdf(molecules_dir):
    from_file = from_pdb(molecules_dir / "butenediol.pdb")
    stated = from_sdf(molecules_dir / "butenediol.sdf")
    assert bonds_of(from_file) == bonds_of(stated)
    assert from_file.smiles == stated.smiles == "OC/C=C/CO"
    assert "bonds from the file's records" in from_file.notes
    assert "bond orders perceived by RDKit from the connections" in from_file.notes


def test_perception_from_distances_equals_the_sdf(molecules_dir, write, without):
    text = (molecules_dir / "butenediol.pdb").read_text()
    found = from_pdb(write("bare.pdb", without(text, lambda _: False)))
    assert bonds_of(found) == bonds_of(from_sdf(molecules_dir / "butenediol.sdf"))
    assert "bonds from distances" in found.notes


def test_bonds_have_both_directions_sorted(molecules_dir):
    molecule = from_pdb(molecules_dir / "his_ala.pdb")
    pairs = molecule.bond_index.T.tolist()
    assert pairs == sorted(pairs)
    assert {(i, j) for i, j in pairs} == {(j, i) for i, j in pairs}
    assert len(pairs) == 2 * 30  # 30 atoms and one ring


def test_positions_are_nanometres_in_file_order(molecules_dir):
    molecule = from_pdb(molecules_dir / "his_ala.pdb")
    np.testing.assert_allclose(molecule.positions[0], [-0.0602, 0.1573, -0.0326], atol=1e-12)
    assert molecule.atom_names[:3] == ("N", "H", "H2")
    assert set(molecule.residue_names) == {"HIS", "ALA"}


def test_a_zwitterion_gets_its_charges_and_aromatic_ring(molecules_dir):
    molecule = from_pdb(molecules_dir / "his_ala.pdb")
    charged = {
        (residue, name, charge)
        for residue, name, charge in zip(
            molecule.residue_names, molecule.atom_names, molecule.formal_charges, strict=True
        )
        if charge
    }
    assert charged == {("HIS", "N", 1), ("ALA", "OXT", -1)}
    assert molecule.bond_type.tolist().count(12) == 2 * 5
    assert any("residue templates; formal charges: N +1, OXT -1" in n for n in molecule.notes)


def test_bonds_of_a_peptide_file_equal_those_of_its_sequence(molecules_dir):
    assert named_bonds(from_pdb(molecules_dir / "his_ala.pdb")) == named_bonds(from_sequence("HA"))
    capped = from_pdb(molecules_dir / "alanine_dipeptide.pdb")
    assert named_bonds(capped) == named_bonds(from_sequence("ACE-A-NME"))
    assert capped.bond_type.tolist().count(2) == 2 * 2


def test_histidine_with_its_hydrogen_on_nd1_moves_the_double_bond(molecules_dir, write):
    text = (molecules_dir / "his_ala.pdb").read_text()
    moved = text.replace("HE2 HIS", "HD1 HIS").replace(
        "-4.741  -1.248  -2.403", "-2.600  -1.190   1.130"
    )
    assert moved != text
    molecule = from_pdb(write("hid.pdb", moved))
    assert molecule.smiles == "C[C@H](NC(=O)[C@@H]([NH3+])Cc1cnc[nH]1)C(=O)[O-]"


def test_a_template_gives_bond_orders_and_is_noted(molecules_dir):
    options = ReadOptions(smiles_template="OCC=CCO")
    molecule = from_pdb(molecules_dir / "butenediol.pdb", options=options)
    assert bonds_of(molecule) == bonds_of(from_sdf(molecules_dir / "butenediol.sdf"))
    assert "bond orders from the SMILES template OCC=CCO" in molecule.notes


def test_a_template_overrides_perception(write):
    # Two atoms 0.15 nm apart: perception closes the shells, the template says ions.
    lines = [
        "HETATM    1  C1  MOL A   1       0.000   0.000   0.000  1.00  0.00           C  ",
        "HETATM    2  N1  MOL A   1       1.160   0.000   0.000  1.00  0.00           N  ",
        "HETATM    3  H1  MOL A   1       2.160   0.000   0.000  1.00  0.00           H  ",
    ]
    path = write("hnc.pdb", "\n".join(lines))
    molecule = from_pdb(path, options=ReadOptions(smiles_template="[C-]#[NH+]"))
    assert molecule.formal_charges == (-1, 1, 0)
    assert molecule.bond_type.tolist() == [3, 3, 1, 1]


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("CCCCCO", "with 14 atoms and 13 bonds, got 'CCCCCO', whose connections differ"),
        ("OC/C=C\\CO", "expected the stereochemistry of the coordinates, OC/C=C/CO"),
        ("OC((C", r"smiles_template: expected a valid SMILES, got 'OC\(\(C'"),
    ],
)
def test_a_template_of_another_molecule_is_refused(molecules_dir, template, message):
    with pytest.raises(ValueError, match=message):
        from_pdb(molecules_dir / "butenediol.pdb", options=ReadOptions(smiles_template=template))


def test_hydrogens_are_refused_or_added_to_a_peptide(molecules_dir, write, without):
    full = from_pdb(molecules_dir / "his_ala.pdb")
    text = without((molecules_dir / "his_ala.pdb").read_text(), is_hydrogen)
    path = write("heavy.pdb", text)
    with pytest.raises(ValueError, match=r"expected hydrogens, got 16 atoms without any.*add_hyd"):
        from_pdb(path)
    completed = from_pdb(path, options=ReadOptions(add_hydrogens=True))
    assert named_bonds(completed) == named_bonds(full)
    assert completed.smiles == full.smiles
    assert "14 hydrogens added" in completed.notes
    heavy = completed.atomic_numbers != 1
    np.testing.assert_allclose(
        completed.positions[heavy], full.positions[full.atomic_numbers != 1], atol=1e-12
    )
    i, j = completed.bond_index
    lengths = np.linalg.norm(completed.positions[i] - completed.positions[j], axis=1)
    assert lengths.min() > 0.09
    assert lengths.max() < 0.16


def test_one_missing_hydrogen_is_refused_or_added(molecules_dir, write, without):
    full = from_pdb(molecules_dir / "his_ala.pdb")
    text = (molecules_dir / "his_ala.pdb").read_text()
    path = write("one_less.pdb", without(text, lambda line: line[12:16].strip() == "HB1"))
    with pytest.raises(ValueError, match=r"closed-shell molecule, got atom 26 \(CB of ALA 2\)"):
        from_pdb(path)
    completed = from_pdb(path, options=ReadOptions(add_hydrogens=True))
    assert completed.smiles == full.smiles
    assert completed.n_atoms == full.n_atoms


def test_a_missing_amide_hydrogen_is_not_taken_for_an_anion(molecules_dir, write, without):
    text = (molecules_dir / "his_ala.pdb").read_text()
    path = write("no_h.pdb", without(text, lambda line: line[12:20] == " H   ALA"))
    with pytest.raises(ValueError, match=r"got none on atom 20 \(N of ALA 2\)"):
        from_pdb(path)


def test_hydrogens_of_other_molecules_need_a_template(molecules_dir, write, without):
    path = write("heavy.pdb", without((molecules_dir / "butenediol.pdb").read_text(), is_hydrogen))
    with pytest.raises(ValueError, match=r"got 'MOL', which is not an amino acid; pass smiles_t"):
        from_pdb(path, options=ReadOptions(add_hydrogens=True))
    options = ReadOptions(add_hydrogens=True, smiles_template="OCC=CCO")
    completed = from_pdb(path, options=options)
    assert completed.smiles == "OC/C=C/CO"
    assert completed.n_atoms == 14


def test_adding_hydrogens_changes_nothing_where_none_is_missing(molecules_dir):
    plain = from_pdb(molecules_dir / "his_ala.pdb")
    asked = from_pdb(molecules_dir / "his_ala.pdb", options=ReadOptions(add_hydrogens=True))
    assert asked.notes == plain.notes
    np.testing.assert_array_equal(asked.positions, plain.positions)


def test_a_bent_carbon_with_too_few_neighbors_is_not_closed_by_a_double_bond(
    molecules_dir, write, without
):
    text = (molecules_dir / "butenediol.pdb").read_text()
    # Two hydrogens fewer leave an even number of electrons, which a multiple bond would take.
    path = write("less.pdb", without(text, lambda line: line[12:16].strip() in ("H2", "H3")))
    with pytest.raises(ValueError, match=r"expected all hydrogens, got atom 2 \(C1, carbon\) with"):
        from_pdb(path)


def test_several_fragments_are_refused_by_formula(molecules_dir, write):
    text = (molecules_dir / "his_ala.pdb").read_text()
    water = [
        "HETATM   31  O   HOH B   1      30.000  30.000  30.000  1.00  0.00           O",
        "HETATM   32  H1  HOH B   1      30.900  30.000  30.000  1.00  0.00           H",
        "HETATM   33  H2  HOH B   1      30.000  30.900  30.000  1.00  0.00           H",
    ]
    path = write("wet.pdb", text.replace("END", "\n".join([*water, "END"])))
    with pytest.raises(ValueError, match=r"got 2 fragments \(C9H14N4O3, H2O\)"):
        from_pdb(path)


def test_the_first_of_several_models_and_locations_is_taken(molecules_dir, write):
    text = (molecules_dir / "his_ala.pdb").read_text().replace("END\n", "")
    shifted = text.replace("-0.602   1.573", "-9.602   9.573")
    both = f"MODEL        1\n{text}ENDMDL\nMODEL        2\n{shifted}ENDMDL\nEND\n"
    molecule = from_pdb(write("two.pdb", both))
    assert molecule.notes[0] == "the first of 2 models was taken"
    assert molecule.positions[0, 0] == pytest.approx(-0.0602)
    first = text.splitlines()[1]
    with_locations = text.replace(
        first,
        first[:16]
        + "A"
        + first[17:]
        + "\n"
        + first[:16]
        + "B"
        + first[17:30]
        + "  -9.602"
        + first[38:],
    )
    molecule = from_pdb(write("locations.pdb", with_locations))
    assert molecule.n_atoms == 30
    assert molecule.positions[0, 0] == pytest.approx(-0.0602)
    assert "alternate locations: the first was taken for 1 atoms" in molecule.notes


def test_elements_missing_from_the_file_come_from_names(molecules_dir, write):
    text = (molecules_dir / "his_ala.pdb").read_text()
    cut = "\n".join(line[:66] for line in text.splitlines())
    molecule = from_pdb(write("cut.pdb", cut))
    full = from_pdb(molecules_dir / "his_ala.pdb")
    np.testing.assert_array_equal(molecule.atomic_numbers, full.atomic_numbers)
    assert "elements of 30 atoms taken from their names" in molecule.notes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text[: text.index("-2.395") + 9],
            "expected three coordinates in columns 31-54 of line 9",
        ),
        (
            lambda text: text.replace("           O", "          Qx"),
            "in columns 77-78 of line 2, got 'Qx'",
        ),
        (
            lambda text: text.replace("  -2.623", "     nan"),
            "expected finite coordinates in line 2",
        ),
        (lambda _: "REMARK nothing\nEND\n", "with ATOM or HETATM records, got none"),
        (lambda _: "", "which is empty"),
        (lambda _: "%PDF-1.4\n", "which is a PDF document"),
        (lambda _: "x\0y", "which is a binary or compressed file"),
        (
            lambda text: text.replace("CONECT    1", "CONECT   99"),
            "got '99' in line 17; the file is trunc",
        ),
        (lambda text: text.replace("HETATM    2", "HETATM    1"), "got '1' again in line 3"),
        (
            lambda text: text.replace("A   1  ", "A   x  "),
            "expected a residue number in columns 23-26",
        ),
    ],
)
def test_a_garbled_file_is_one_clear_sentence(molecules_dir, write, change, message):
    text = (molecules_dir / "butenediol.pdb").read_text()
    with pytest.raises(ValueError, match=message) as caught:
        from_pdb(write("bad.pdb", change(text)))
    assert "\n" not in str(caught.value)


def test_atoms_in_one_place_are_refused(molecules_dir, write):
    lines = (molecules_dir / "butenediol.pdb").read_text().splitlines()
    zeros = [
        line[:30] + "   0.000" * 3 + line[54:] if line.startswith("HETATM") else line
        for line in lines
    ]
    with pytest.raises(ValueError, match=r"at least 0\.035 nm apart, got two at 0\.0000 nm"):
        from_pdb(write("zeros.pdb", "\n".join(zeros)))


def test_a_molecule_that_has_no_hydrogens_needs_a_template_to_say_so(tmp_path):
    written = tmp_path / "m.pdb"
    write_pdb(from_smiles("FC(F)=C(F)F"), written)
    with pytest.raises(ValueError, match="if the molecule has none, pass smiles_template"):
        from_pdb(written)
    back = from_pdb(written, options=ReadOptions(smiles_template="FC(F)=C(F)F"))
    assert back.smiles == "FC(F)=C(F)F"
    assert back.n_atoms == 6


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected a PDB file, got '.*none.pdb': no such"):
        from_pdb(tmp_path / "none.pdb")
    with pytest.raises(ValueError, match="expected a PDB file, got the folder"):
        from_pdb(tmp_path)


def test_an_sdf_named_pdb_is_recognised(molecules_dir, write):
    text = (molecules_dir / "butenediol.sdf").read_text()
    with pytest.raises(ValueError, match=r"it looks like an SDF or MOL file: name it \.sdf"):
        from_pdb(write("wrong.pdb", text))
