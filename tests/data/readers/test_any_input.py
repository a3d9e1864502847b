import subprocess
import sys

import pytest

from tito_fast.data import readers
from tito_fast.data.readers import ReadOptions, read_molecule


@pytest.mark.parametrize("text", ["CCCCO", "CC=CC", "smiles:CC", " CCO "])
def test_a_valid_smiles_is_a_smiles(text):
    assert read_molecule(text).residue_names[0] == "MOL"


@pytest.mark.parametrize("text", ["AAAA", "ACE-A-NME", "peptide:CC", "ACE-C", "KR"])
def test_amino_acids_that_are_no_smiles_are_a_sequence(text):
    molecule = read_molecule(text)
    assert "MOL" not in molecule.residue_names


def test_what_fits_both_is_a_smiles_and_says_so():
    molecule = read_molecule("CCC")
    assert molecule.n_atoms == 11
    assert molecule.notes[0] == "read as SMILES; write peptide:CCC for the sequence"
    assert read_molecule("AA").notes[0] == "read as a peptide sequence: it is not a valid SMILES"


def test_files_are_read_by_their_ending(molecules_dir):
    for name in ("butenediol.pdb", "butenediol.sdf"):
        assert read_molecule(molecules_dir / name).smiles == "OC/C=C/CO"
        assert read_molecule(str(molecules_dir / name)).name == "butenediol"
    named = read_molecule(molecules_dir / "butenediol.pdb", options=ReadOptions(name="diol"))
    assert named.name == "diol"


def test_a_folder_of_the_same_name_does_not_hide_a_sequence(tmp_path, monkeypatch):
    (tmp_path / "AAAA").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_molecule("AAAA").n_atoms == 43


@pytest.mark.parametrize("text", ["no.pdb", "./thing", "/no/where.sdf", "a/b.SDF", "traj.xtc"])
def test_a_path_that_is_not_there_is_said(text):
    with pytest.raises(FileNotFoundError, match="input: no such file, got '"):
        read_molecule(text)


def test_trajectories_and_other_formats_are_refused_with_advice(tmp_path):
    for name, message in (
        ("run.xtc", r"got the trajectory '.*run.xtc', which has no bonds; give its topology"),
        ("thing.mol2", r"ends in \.pdb, \.ent, \.sdf or \.mol, got '.*thing.mol2'; convert it"),
    ):
        (tmp_path / name).write_text("x")
        with pytest.raises(ValueError, match=message):
            read_molecule(tmp_path / name)
    with pytest.raises(ValueError, match="expected a file, got the folder"):
        read_molecule(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("AXBA", r"none of them \(no amino acids: B, X\); no such file exists"),
        ("", "got '', which is none of them; no such file exists"),
        ("hello world", "which is none of them"),
        ("FC(F)(F)(F)F", r"none of them \(Explicit valence for atom # 1 C, 5"),
        ("peptide:CCO", "natural amino acids .* got 'CCO' with O"),
        ("smiles:AAAA", "smiles: expected a valid SMILES, got 'AAAA'"),
    ],
)
def test_what_is_nothing_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        read_molecule(text)


def test_importing_the_package_loads_no_slow_package():
    code = (
        "import sys, tito_fast.data.readers as r; r.ReadOptions();"
        "assert not {'rdkit', 'mdtraj'} & set(sys.modules);"
        "r.read_molecule; assert 'rdkit' in sys.modules"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)  # noqa: S603 - our own code


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'from_xyz'"):
        readers.from_xyz  # noqa: B018
