"""PDB files that lack atoms are completed, with a note; without PDBFixer they are refused by name."""

import sys

import numpy as np
import pytest

from tito_fast.data.readers import ReadOptions, from_sequence
from tito_fast.data.topology import write_pdb
from tito_fast.md.repair import read_complete


@pytest.fixture(scope="module")
def whole():
    return from_sequence("ACE-AF-NME")


@pytest.fixture
def write(whole, tmp_path):
    """Write the peptide without some of its atoms."""

    def write(is_left_out):
        path = tmp_path / "peptide.pdb"
        write_pdb(whole, path)
        kept = [
            line
            for line in path.read_text().splitlines()
            if line.startswith(("ATOM", "HETATM"))
            and not is_left_out(line[17:20].strip(), line[12:16].strip())
        ]
        path.write_text("\n".join([*kept, "END", ""]))
        return path

    return write


def without_hydrogens(_residue, atom):
    return atom.startswith("H")


def without_a_ring(residue, atom):
    return atom.startswith("H") or (residue == "PHE" and atom in ("CE1", "CZ"))


@pytest.mark.parametrize(
    ("left_out", "added"),
    [
        (without_hydrogens, "PDBFixer added 21 hydrogens"),
        (without_a_ring, "PDBFixer added CE1, CZ of PHE 3 and 21 hydrogens"),
    ],
)
def test_missing_atoms_are_added_and_named(whole, write, left_out, added):
    pytest.importorskip("pdbfixer", reason="PDBFixer is not installed; it completes structures")
    path = write(left_out)
    molecule = read_complete(path)
    assert molecule.name == "peptide"
    assert added in molecule.notes[0]
    assert molecule.smiles == whole.smiles
    assert sorted(molecule.atomic_numbers.tolist()) == sorted(whole.atomic_numbers.tolist())
    again = read_complete(str(path), options=ReadOptions(name="other"))
    assert again.name == "other"
    np.testing.assert_array_equal(again.positions, molecule.positions)


def test_whole_files_and_other_inputs_are_read_as_they_are(whole, write):
    molecule = read_complete(write(lambda *_: False))
    assert not any("PDBFixer" in note for note in molecule.notes)
    np.testing.assert_allclose(molecule.positions, whole.positions, atol=1e-4)
    assert read_complete("CCO").smiles == "CCO"
    with pytest.raises(ValueError, match="input: expected a file"):
        read_complete("no molecule")


def test_without_pdbfixer_the_atoms_are_named(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pdbfixer", None)
    path = write(without_a_ring)
    expected = (
        r"missing are CE1, CZ of PHE 3, and hydrogens may be\); complete it, or install PDBFixer"
    )
    with pytest.raises(ValueError, match=expected):
        read_complete(path)
    path = write(without_hydrogens)
    with pytest.raises(
        ValueError, match=r"without any; give a file with hydrogens.* or install PDB"
    ):
        read_complete(path)


def test_what_is_no_peptide_is_refused_as_before(write):
    path = write(without_hydrogens)
    path.write_text(path.read_text().replace("PHE", "LIG"))
    with pytest.raises(ValueError, match=r"pass add_hydrogens=True"):
        read_complete(path)
    with pytest.raises(ValueError, match=r"smiles_template|template"):
        read_complete(path, options=ReadOptions(smiles_template="C"))
