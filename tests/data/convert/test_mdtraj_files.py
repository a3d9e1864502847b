import json

import h5py
import numpy as np
import pytest
from rdkit import Chem

from tito_fast.data.convert.mdtraj_files import (
    convert_mdtraj,
    convert_trajectories,
    read_molecule,
)
from tito_fast.data.store import check_store, open_store

XTC_PRECISION_NM = 0.0005 + 1e-6


def bonds(molecule):
    return {
        (int(i), int(j), int(kind))
        for i, j, kind in zip(*molecule.bond_index, molecule.bond_type, strict=True)
    }


def bonds_of_rdkit(mol):
    forward = {
        (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), int(bond.GetBondType()))
        for bond in mol.GetBonds()
    }
    return forward | {(j, i, kind) for i, j, kind in forward}


def test_a_tree_of_molecules_becomes_a_store(tmp_path, embedded, shaken, write_run, centered):
    mols = {"nitrile": embedded("CCC#N"), "furan": embedded("c1ccoc1"), "acid": embedded("CC(=O)O")}
    frames = {name: shaken(mol, 12) for name, mol in mols.items()}
    for split, name in (("train", "nitrile"), ("train", "furan"), ("val", "acid")):
        write_run(
            tmp_path / "set" / split / name,
            mols[name],
            frames[name],
            times=np.arange(1, 13) * 0.5,
        )
    (tmp_path / "set" / "train" / "nitrile" / "system.json").write_text(
        json.dumps({"smiles": "CCC#N", "temperature_K": 300.0, "n_frames": 12})
    )
    seen = []
    store = open_store(
        convert_mdtraj(tmp_path / "set", tmp_path / "out", on_trajectory=seen.append)
    )
    assert check_store(store.path) == []
    assert seen == list(store.trajectories)
    assert [(row.name, row.split) for row in store.trajectories] == [
        ("furan", "train"),
        ("nitrile", "train"),
        ("acid", "val"),
    ]
    for row, molecule in zip(store.trajectories, store.molecules, strict=True):
        assert row.frame_interval_ps == 0.5
        assert bonds(molecule) == bonds_of_rdkit(mols[row.name])
        found = store.trajectory_positions(store.trajectories.index(row))
        # Centering moves every atom by the mean of the rounding errors besides its own.
        assert np.abs(found - centered(frames[row.name])).max() < 2 * XTC_PRECISION_NM
    assert store.molecules[1].smiles == "CCC#N"
    assert [row.temperature_k for row in store.trajectories] == [None, 300.0, None]
    assert {12} == set(store.molecules[0].bond_type.tolist()) - {1}


def test_runs_of_one_molecule_share_it(tmp_path, embedded, shaken, write_run):
    mol = embedded("CCO")
    for seed, name in enumerate(("run1", "run2")):
        folder = write_run(
            tmp_path / "set" / "train" / name, mol, shaken(mol, 5, seed=seed), times=np.arange(5)
        )
        (folder / "system.json").write_text(json.dumps({"sequence": "ETHANOL", "smiles": "CCO"}))
    write_run(
        tmp_path / "set" / "train" / "run3",
        embedded("CCN"),
        shaken(embedded("CCN"), 5),
        times=np.arange(5),
    )
    store = open_store(convert_mdtraj(tmp_path / "set", tmp_path / "out"))
    assert [molecule.name for molecule in store.molecules] == ["ETHANOL", "run3"]
    assert [row.molecule_idx for row in store.trajectories] == [0, 0, 1]
    assert [row.name for row in store.trajectories] == ["run1", "run2", "run3"]


def test_only_the_named_splits_are_taken(tmp_path, embedded, shaken, write_run):
    mol = embedded("CO")
    for split in ("train", "val"):
        write_run(tmp_path / "set" / split / "a", mol, shaken(mol, 4), times=np.arange(4))
    store = open_store(convert_mdtraj(tmp_path / "set", tmp_path / "out", splits=["val"]))
    assert store.splits == ("val",)
    with pytest.raises(ValueError, match=r"splits: expected a folder 'test' in"):
        convert_mdtraj(tmp_path / "set", tmp_path / "out2", splits=["test"])


def test_bonds_come_from_the_pdb_where_there_is_no_sdf(tmp_path, embedded, shaken, write_run):
    mol = embedded("CC(=O)N")
    write_run(
        tmp_path / "set" / "train" / "amide", mol, shaken(mol, 4), times=np.arange(4), sdf=False
    )
    molecule = open_store(convert_mdtraj(tmp_path / "set", tmp_path / "out")).molecules[0]
    assert bonds(molecule) == bonds_of_rdkit(mol)
    assert any("bond orders" in note for note in molecule.notes)


def test_an_sdf_in_another_atom_order_is_refused(tmp_path, embedded, shaken, write_run):
    mol = embedded("CCO")
    folder = write_run(tmp_path / "set" / "train" / "a", mol, shaken(mol, 4), times=np.arange(4))
    other = Chem.RenumberAtoms(mol, [2, 1, 0, *range(3, 9)])
    (folder / "molecule.sdf").write_text(Chem.MolToMolBlock(other) + "$$$$\n")
    with pytest.raises(
        ValueError, match=r"atoms: expected the order of the bonds, got element 6 in place of 8"
    ):
        convert_mdtraj(tmp_path / "set", tmp_path / "out")
    (folder / "molecule.sdf").write_text(Chem.MolToMolBlock(embedded("CO")) + "$$$$\n")
    with pytest.raises(ValueError, match=r"atoms: expected 6 as in the bonds, got 9"):
        convert_mdtraj(tmp_path / "set", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1, 2, 3, 5, 6], r"time stamps: expected one frame every .* ps in 'a'"),
        ([1, 1, 1, 1, 1], r"time stamps: expected one frame every 0 ps in 'a'"),
        ([5, 4, 3, 2, 1], r"time stamps: expected one frame every -1 ps in 'a'"),
    ],
)
def test_irregular_time_stamps_are_refused(tmp_path, embedded, shaken, write_run, times, message):
    mol = embedded("CO")
    write_run(tmp_path / "set" / "train" / "a", mol, shaken(mol, 5), times=times)
    with pytest.raises(ValueError, match=message):
        convert_mdtraj(tmp_path / "set", tmp_path / "out")


def test_an_interval_at_odds_with_the_time_stamps_is_refused(tmp_path, embedded, shaken, write_run):
    mol = embedded("CO")
    write_run(tmp_path / "set" / "train" / "a", mol, shaken(mol, 5), times=np.arange(5))
    with pytest.raises(
        ValueError, match=r"time stamps: expected one frame every 2 ps in 'a', got frame 1"
    ):
        convert_mdtraj(tmp_path / "set", tmp_path / "out", frame_interval_ps=2.0)


def test_long_float32_time_stamps_count_as_regular(tmp_path, embedded, shaken, write_run):
    mol = embedded("CO")
    times = (40_000.0 + np.arange(50) * 0.2).astype(np.float32)
    write_run(tmp_path / "set" / "train" / "a", mol, shaken(mol, 50), times=times)
    store = open_store(convert_mdtraj(tmp_path / "set", tmp_path / "out"))
    assert store.trajectories[0].frame_interval_ps == 0.2


def test_a_file_without_time_stamps_needs_an_interval(tmp_path, embedded, shaken, write_run):
    mol = embedded("CO")
    write_run(
        tmp_path / "set" / "train" / "a", mol, shaken(mol, 5), times=np.arange(5), suffix=".dcd"
    )
    with pytest.raises(
        ValueError, match=r"frame_interval_ps: expected the time between frames of 'a'"
    ):
        convert_mdtraj(tmp_path / "set", tmp_path / "out")
    store = open_store(convert_mdtraj(tmp_path / "set", tmp_path / "out", frame_interval_ps=0.25))
    assert store.trajectories[0].frame_interval_ps == 0.25


def test_a_truncated_trajectory_is_refused(tmp_path, embedded, shaken, write_run):
    mol = embedded("CCO")
    folder = write_run(tmp_path / "set" / "train" / "a", mol, shaken(mol, 20), times=np.arange(20))
    file = folder / "trajectory.xtc"
    whole = file.read_bytes()
    (folder / "system.json").write_text(json.dumps({"n_frames": 20}))
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"trajectory: expected"):
        convert_mdtraj(tmp_path / "set", tmp_path / "out")
    # Cut at a frame's border, so that only the number of frames tells.
    file.write_bytes(whole[: len(whole) // 20 * 10])
    with pytest.raises(ValueError, match=r"trajectory: expected 20 frames as .* got 10"):
        convert_mdtraj(tmp_path / "set", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_source_without_trajectories_is_refused(tmp_path, embedded, shaken, write_run):
    with pytest.raises(ValueError, match=r"source: expected a directory"):
        convert_mdtraj(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "set" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"source: expected folders <split>/<name>/topology.pdb"):
        convert_mdtraj(tmp_path / "set", tmp_path / "out")
    mol = embedded("CO")
    folder = write_run(tmp_path / "set" / "train" / "a", mol, shaken(mol, 3), times=np.arange(3))
    (folder / "system.json").write_text("{")
    with pytest.raises(ValueError, match=r"system: expected JSON in"):
        convert_mdtraj(tmp_path / "set", tmp_path / "out")
    (folder / "system.json").write_text("[]")
    with pytest.raises(ValueError, match=r"system: expected a JSON object in .*, got list"):
        convert_mdtraj(tmp_path / "set", tmp_path / "out")
    (folder / "trajectory.xtc").unlink()
    with pytest.raises(ValueError, match=r"source: expected a trajectory file in"):
        convert_mdtraj(tmp_path / "set", tmp_path / "out")


def test_files_of_one_molecule_become_trajectories_of_their_own(
    tmp_path, embedded, shaken, write_run, centered
):
    mol = embedded("CC(=O)O")
    folder = write_run(tmp_path / "in", mol, shaken(mol, 6), times=np.arange(6))
    topology, sdf = folder / "topology.pdb", folder / "molecule.sdf"
    second = shaken(mol, 4, seed=1)
    with h5py.File(folder / "b.h5", "w") as file:  # the datasets that mdtraj's HDF5 has
        file["coordinates"] = second
        file["time"] = np.arange(4, dtype=np.float32)
    store = open_store(
        convert_trajectories(
            read_molecule(topology, sdf=sdf, name="acid"),
            topology,
            [folder / "trajectory.xtc", folder / "b.h5"],
            tmp_path / "out",
            split="val",
            temperature_k=310.0,
        )
    )
    assert check_store(store.path) == []
    assert [(row.name, row.n_frames) for row in store.trajectories] == [("trajectory", 6), ("b", 4)]
    assert {(row.split, row.temperature_k) for row in store.trajectories} == {("val", 310.0)}
    assert len(store.molecules) == 1
    np.testing.assert_allclose(store.trajectory_positions(1), centered(second), atol=1e-6)


def test_bad_files_are_refused_by_name(tmp_path, embedded, shaken, write_run):
    mol = embedded("CO")
    folder = write_run(tmp_path / "in", mol, shaken(mol, 3), times=np.arange(3))
    topology = folder / "topology.pdb"
    molecule = read_molecule(topology, sdf=folder / "molecule.sdf", name="m")
    with pytest.raises(ValueError, match=r"trajectory: expected a file, got .*none.xtc"):
        convert_trajectories(molecule, topology, [folder / "none.xtc"], tmp_path / "out")
    with pytest.raises(ValueError, match=r"topology: expected a file, got .*none.pdb"):
        convert_trajectories(molecule, folder / "none.pdb", [], tmp_path / "out")
    (folder / "text.xtc").write_text("not a trajectory")
    with pytest.raises(ValueError, match=r"trajectory: expected frames of 6 atoms in .*text.xtc"):
        convert_trajectories(molecule, topology, [folder / "text.xtc"], tmp_path / "out")
    larger = embedded("CCO")
    other = write_run(tmp_path / "other", larger, shaken(larger, 3), times=np.arange(3))
    with pytest.raises(ValueError, match=r"trajectory: expected frames of 6 atoms in"):
        convert_trajectories(molecule, topology, [other / "trajectory.xtc"], tmp_path / "out")
    with pytest.raises(ValueError, match=r"atoms: expected 6 as in the bonds, got 9 in .*topology"):
        convert_trajectories(molecule, other / "topology.pdb", [], tmp_path / "out")
    assert not (tmp_path / "out").exists()
