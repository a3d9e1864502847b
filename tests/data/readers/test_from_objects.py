import mdtraj as md
import numpy as np
import pytest
from rdkit import Chem

from tito_fast.data.readers import (
    ReadOptions,
    from_mdtraj,
    from_pdb,
    from_rdkit,
    from_sequence,
    from_smiles,
)
from tito_fast.data.topology import to_mdtraj_topology


def as_trajectory(molecule, *frames):
    return md.Trajectory(
        np.stack(frames or (molecule.positions,)).astype(np.float32), to_mdtraj_topology(molecule)
    )


@pytest.mark.parametrize("source", ["CCCCO", "OC/C=C/CO", "c1ccccc1O", "CC(=O)[O-]"])
def test_mdtraj_keeps_stated_orders_charges_and_stereo(source):
    molecule = from_smiles(source)
    back = from_mdtraj(as_trajectory(molecule))
    np.testing.assert_array_equal(back.bond_index, molecule.bond_index)
    np.testing.assert_array_equal(back.bond_type, molecule.bond_type)
    assert back.smiles == molecule.smiles
    assert back.formal_charges == molecule.formal_charges
    assert "bond orders as stated by the topology" in back.notes
    np.testing.assert_allclose(back.positions, molecule.positions, atol=1e-6)


def test_the_frame_is_the_start(molecules_dir):
    molecule = from_pdb(molecules_dir / "his_ala.pdb")
    trajectory = as_trajectory(molecule, molecule.positions, molecule.positions + 1.0)
    for frame, shift in ((0, 0.0), (1, 1.0), (-1, 1.0)):
        read = from_mdtraj(trajectory, frame=frame)
        np.testing.assert_allclose(read.positions, molecule.positions + shift, atol=1e-6)
    with pytest.raises(ValueError, match="frame: expected 0 to 1, got 2"):
        from_mdtraj(trajectory, frame=2)


def test_an_mdtraj_pdb_without_orders_is_perceived(molecules_dir):
    read = from_mdtraj(md.load(molecules_dir / "butenediol.pdb"))
    assert read.smiles == "OC/C=C/CO"
    assert "bond orders perceived by RDKit from the connections" in read.notes
    options = ReadOptions(smiles_template="OCC=CCO", name="diol")
    templated = from_mdtraj(md.load(molecules_dir / "butenediol.pdb"), options=options)
    assert templated.name == "diol"
    assert "bond orders from the SMILES template OCC=CCO" in templated.notes


def test_a_peptide_topology_alone_comes_out_left_handed():
    molecule = from_sequence("ACE-TIC-NME")
    rebuilt = from_mdtraj(to_mdtraj_topology(molecule))
    assert rebuilt.smiles == molecule.smiles
    assert any("ETKDGv3" in note for note in rebuilt.notes)


def test_a_topology_without_bonds_or_positions_is_refused():
    topology = md.Topology()
    residue = topology.add_residue("MOL", topology.add_chain())
    for name in ("O1", "H1"):
        topology.add_atom(name, md.element.get_by_symbol(name[0]), residue)
    with pytest.raises(ValueError, match="got 0 bonds for 2 atoms and no positions"):
        from_mdtraj(topology)


def test_bad_trajectories_are_refused():
    with pytest.raises(TypeError, match="expected an mdtraj Trajectory or Topology, got str"):
        from_mdtraj("traj.xtc")
    with pytest.raises(ValueError, match="trajectory: expected at least one atom, got none"):
        from_mdtraj(md.Topology())
    molecule = from_smiles("CO")
    with pytest.raises(ValueError, match=r"trajectory: expected finite coordinates, got \[nan"):
        from_mdtraj(as_trajectory(molecule, molecule.positions * np.nan))


def test_rdkit_molecules_keep_order_orders_and_positions(molecules_dir):
    mol = Chem.MolFromMolFile(str(molecules_dir / "butenediol.sdf"), removeHs=False)
    molecule = from_rdkit(mol)
    assert molecule.smiles == "OC/C=C/CO"
    assert molecule.name == "train06_C4H8O2"
    expected = mol.GetConformer().GetPositions() / 10
    np.testing.assert_allclose(molecule.positions, expected, atol=1e-12)


def test_rdkit_molecules_are_not_changed():
    mol = Chem.AddHs(Chem.MolFromSmiles("CC(O)N"))
    before = mol.ToBinary()
    molecule = from_rdkit(mol)
    assert mol.ToBinary() == before
    assert mol.GetNumConformers() == 0
    assert molecule.notes[1] == f"stereo left open at 1 place(s); isomer taken: {molecule.smiles}"


def test_rdkit_molecules_without_hydrogens_are_refused_or_completed():
    mol = Chem.MolFromSmiles("CCO")
    with pytest.raises(ValueError, match=r"mol: expected all hydrogens as atoms, got .* lacks 6"):
        from_rdkit(mol)
    assert from_rdkit(mol, options=ReadOptions(add_hydrogens=True)).n_atoms == 9


def test_bad_rdkit_molecules_are_refused():
    with pytest.raises(TypeError, match=r"mol: expected an rdkit\.Chem\.Mol, got str"):
        from_rdkit("CCO")
    with pytest.raises(ValueError, match="mol: expected at least one atom, got none"):
        from_rdkit(Chem.Mol())
    with pytest.raises(ValueError, match="expected a chemically valid molecule, got: Explicit val"):
        from_rdkit(Chem.MolFromSmiles("C(C)(C)(C)(C)C", sanitize=False))
