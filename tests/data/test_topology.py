from dataclasses import replace

import mdtraj as md
import numpy as np
import pytest

from tito_fast.data.molecule import Molecule
from tito_fast.data.readers import from_pdb, from_sequence, from_smiles
from tito_fast.data.topology import to_mdtraj_topology, unique_atom_names, write_pdb

SOURCES = {
    "small": lambda: from_smiles("OC/C=C/CO"),
    "aromatic": lambda: from_smiles("Oc1ccccc1C#N"),
    "halogens": lambda: from_smiles("FC(Cl)(Br)CI"),
    "ion": lambda: from_smiles("C[N+](C)(C)CC(=O)[O-]"),
    "crowded": lambda: from_smiles("FS(F)(F)(F)(F)F"),
    "zwitterion": lambda: from_sequence("KD"),
    "capped": lambda: from_sequence("ACE-IW-NME"),
    "cysteines": lambda: from_sequence("CC"),
}


def line_of_atoms(n_atoms, *, element=6):
    index = np.array([[i for k in range(n_atoms - 1) for i in (k, k + 1)]] * 2, dtype=np.int64)
    index[1] = index[0].reshape(-1, 2)[:, ::-1].reshape(-1)
    order = np.lexsort((index[1], index[0]))
    return Molecule(
        name="line",
        atomic_numbers=np.full(n_atoms, element, dtype=np.int64),
        bond_index=index[:, order],
        bond_type=np.ones(2 * (n_atoms - 1), dtype=np.int64),
        positions=np.arange(3 * n_atoms, dtype=np.float64).reshape(-1, 3) * 1e-3,
        atom_names=("X",) * n_atoms,
        residue_names=("MOL",) * n_atoms,
        residue_numbers=(1,) * n_atoms,
        chain_ids=("A",) * n_atoms,
    )


def bonds_of(topology):
    return sorted(tuple(sorted((a.index, b.index))) for a, b in topology.bonds)


@pytest.mark.parametrize("source", SOURCES)
def test_a_pdb_opens_in_mdtraj_with_the_same_atoms_bonds_and_positions(source, tmp_path):
    molecule = SOURCES[source]()
    write_pdb(molecule, tmp_path / "m.pdb")
    loaded = md.load(tmp_path / "m.pdb")
    numbers = [atom.element.atomic_number for atom in loaded.topology.atoms]
    assert numbers == molecule.atomic_numbers.tolist()
    pairs = sorted((i, j) for i, j in molecule.bond_index.T.tolist() if i < j)
    assert bonds_of(loaded.topology) == pairs
    assert [atom.name for atom in loaded.topology.atoms] == list(molecule.atom_names)
    np.testing.assert_allclose(loaded.xyz[0], molecule.positions, atol=1e-4)


@pytest.mark.parametrize("source", sorted(set(SOURCES) - {"crowded"}))  # SF6: no hydrogens
def test_our_reader_perceives_the_written_file_back(source, tmp_path):
    molecule = SOURCES[source]()
    write_pdb(molecule, tmp_path / "m.pdb")
    back = from_pdb(tmp_path / "m.pdb")
    np.testing.assert_array_equal(back.bond_index, molecule.bond_index)
    np.testing.assert_array_equal(back.bond_type, molecule.bond_type)
    for label in ("smiles", "formal_charges", "atom_names", "residue_names", "residue_numbers"):
        assert getattr(back, label) == getattr(molecule, label)


def test_other_positions_can_be_written(tmp_path):
    molecule = from_smiles("CO")
    write_pdb(molecule, tmp_path / "m.pdb", positions=molecule.positions + 2.5)
    loaded = md.load(tmp_path / "m.pdb").xyz[0]
    np.testing.assert_allclose(loaded, molecule.positions + 2.5, atol=1e-4)


def test_columns_are_those_of_the_format(tmp_path):
    molecule = from_smiles("C[NH3+]")
    write_pdb(molecule, tmp_path / "m.pdb")
    lines = (tmp_path / "m.pdb").read_text().splitlines()
    nitrogen = next(line for line in lines if line[76:78] == " N")
    assert (nitrogen[:6], nitrogen[6:11], nitrogen[12:16]) == ("HETATM", "    2", " N1 ")
    assert (nitrogen[17:20], nitrogen[21], nitrogen[22:26]) == ("MOL", "A", "   1")
    assert nitrogen[78:80] == "1+"
    assert all(len(line) <= 80 for line in lines)
    conect = next(line for line in lines if line.startswith("CONECT    2"))
    assert conect == "CONECT    2    1    6    7    8"


def test_mdtraj_bonds_have_types_orders_and_charges():
    molecule = from_smiles("[O-]C(=O)c1ccccc1C#N")
    topology = to_mdtraj_topology(molecule)
    kinds = [str(bond.type) for bond in topology.bonds]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "Single": 7,
        "Double": 1,
        "Triple": 1,
        "Aromatic": 6,
    }
    assert [atom.formal_charge for atom in topology.atoms] == list(molecule.formal_charges)
    assert topology.n_bonds == molecule.bond_index.shape[1] // 2


def test_mdtraj_topology_keeps_residues_and_chains():
    molecule = from_sequence("ACE-GA-NME")
    topology = to_mdtraj_topology(molecule)
    assert [str(residue) for residue in topology.residues] == ["ACE1", "GLY2", "ALA3", "NME4"]
    split = replace(molecule, chain_ids=("A",) * 6 + ("B",) * (molecule.n_atoms - 6))
    assert [chain.chain_id for chain in to_mdtraj_topology(split).chains] == ["A", "B"]


def test_an_unknown_bond_code_is_refused():
    molecule = replace(line_of_atoms(2), bond_type=np.array([17, 17]))
    with pytest.raises(ValueError, match="bond_type: expected one of 1, 2, 3, 12, got 17"):
        to_mdtraj_topology(molecule)


def test_names_are_unique_and_short_for_thousands_of_atoms():
    numbers = np.full(3000, 6)
    names = unique_atom_names(["C"] * 3000, atomic_numbers=numbers, residues=[0] * 3000)
    assert len(set(names)) == 3000
    assert max(map(len, names)) == 4
    assert names[0] == "C1"
    assert names[998:1000] == ("C999", "CA00")


def test_names_that_serve_are_kept_and_others_replaced_by_residue():
    names = unique_atom_names(
        ["CA", "CB", "CA", "CA", "TOOLONG", "H"],
        atomic_numbers=np.array([6, 6, 6, 6, 6, 1]),
        residues=[1, 1, 2, 2, 3, 3],
    )
    assert names == ("CA", "CB", "C1", "C2", "C1", "H1")


def test_more_atoms_than_names_are_refused():
    n_atoms = 26 * 36 + 100
    numbers = np.full(n_atoms, 17)
    with pytest.raises(ValueError, match=r"atom_names: expected atoms .* of element CL"):
        unique_atom_names(["x"] * n_atoms, atomic_numbers=numbers, residues=[0] * n_atoms)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"residue_numbers": (10_000,) * 3}, "residue_numbers: expected -999 to 9999 .* got 10000"),
        ({"residue_names": ("LONG",) * 3}, "residue_names: expected one to three .* got 'LONG'"),
        ({"chain_ids": ("AB",) * 3}, "chain_ids: expected one character .* got 'AB'"),
        ({"positions": np.full((3, 3), 2e3)}, r"expected -99\.9 to 999\.9 nm .* center them"),
    ],
)
def test_what_does_not_fit_the_columns_is_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        write_pdb(replace(line_of_atoms(3), **change), tmp_path / "m.pdb")
    assert list(tmp_path.iterdir()) == []


def test_too_many_atoms_are_refused(tmp_path):
    with pytest.raises(ValueError, match="expected at most 99999 atoms in a PDB file, got 100000"):
        write_pdb(line_of_atoms(100_000), tmp_path / "m.pdb")


def test_bad_positions_are_refused(tmp_path):
    molecule = line_of_atoms(3)
    with pytest.raises(ValueError, match=r"expected shape \(3, 3\), got \(2, 3\)"):
        write_pdb(molecule, tmp_path / "m.pdb", positions=np.zeros((2, 3)))
    with pytest.raises(ValueError, match="expected finite coordinates, got NaN"):
        write_pdb(molecule, tmp_path / "m.pdb", positions=np.full((3, 3), np.nan))


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "m.pdb"
    path.write_text("old")

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_pdb(line_of_atoms(3), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
