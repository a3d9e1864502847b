import h5py
import numpy as np
import pytest
from rdkit import Chem

from tito_fast.data.convert.mdqm9 import convert_mdqm9
from tito_fast.data.store import check_store, open_store

SMILES = ["CCO", "CC#N", "C=O", "CC(=O)N", "CCF"]
TIME_LAG_PS = [1.031, 1.2, 1.3, 2.281, 1.5]


@pytest.fixture
def mdqm9(tmp_path, embedded, shaken):
    """Write the set in the layout of MDQM9-nc and return its folder, molecules and frames."""
    folder = tmp_path / "mdqm9-nc"
    (folder / "splits").mkdir(parents=True)
    mols = [embedded(smiles) for smiles in SMILES]
    with Chem.SDWriter(str(folder / "mdqm9-nc.sdf")) as writer:
        for idx, mol in enumerate(mols):
            mol.SetProp("_Name", f"gdb_{idx}")
            writer.write(mol)
    frames = [shaken(mol, 8 + idx, seed=idx) for idx, mol in enumerate(mols)]
    with h5py.File(folder / "mdqm9-nc.hdf5", "w") as file:
        for idx, (mol, positions) in enumerate(zip(mols, frames, strict=True)):
            group = file.create_group(f"{idx:05d}")
            numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
            group["data/atoms"] = np.array(numbers)
            group["data/heavy_atoms"] = np.flatnonzero(np.array(numbers) > 1)
            group["data/time_lag"] = TIME_LAG_PS[idx]
            group["data/partial_charges"] = np.zeros(len(numbers))
            group["data/ref_atoms"] = np.arange(3)
            group["data/groups"] = np.zeros(len(numbers))
            group["trajectories/md_0"] = positions
            group["trajectories/re_0"] = positions[:2]
    for split, indices in (("train", [4, 0, 2]), ("val", [1]), ("test", [3])):
        np.save(folder / "splits" / f"{split}_indices.npy", np.array(indices))
    np.save(folder / "splits" / "7_ha.npy", np.array([0]))
    return folder, mols, frames


def edit(folder, change):
    with h5py.File(folder / "mdqm9-nc.hdf5", "a") as file:
        change(file)


def test_every_molecule_and_its_dynamics_are_taken(tmp_path, mdqm9, centered):
    folder, mols, frames = mdqm9
    store = open_store(convert_mdqm9(folder, tmp_path / "out", temperature_k=300.0))
    assert check_store(store.path) == []
    assert [row.name for row in store.trajectories] == [
        f"{idx:05d}/md_0" for idx in (4, 0, 2, 1, 3)
    ]
    assert [row.split for row in store.trajectories] == ["train"] * 3 + ["val", "test"]
    for number, idx in enumerate((4, 0, 2, 1, 3)):
        row, molecule = store.trajectories[number], store.molecules[number]
        assert row.frame_interval_ps == TIME_LAG_PS[idx]
        assert row.n_frames == 8 + idx
        assert row.temperature_k == 300.0
        np.testing.assert_allclose(
            store.trajectory_positions(number), centered(frames[idx]), atol=1e-7
        )
        orders = {
            (b.GetBeginAtomIdx(), b.GetEndAtomIdx()): int(b.GetBondType())
            for b in mols[idx].GetBonds()
        }
        found = dict(
            zip(
                zip(*molecule.bond_index.tolist(), strict=True),
                molecule.bond_type.tolist(),
                strict=True,
            )
        )
        assert found == orders | {(j, i): kind for (i, j), kind in orders.items()}
        assert molecule.name == f"{idx:05d}"
        assert molecule.smiles == Chem.CanonSmiles(SMILES[idx])
        assert f"SDF title: gdb_{idx}" in molecule.notes


def test_a_few_molecules_of_some_splits_can_be_taken(tmp_path, mdqm9):
    store = open_store(
        convert_mdqm9(mdqm9[0], tmp_path / "out", splits=["val", "train"], n_molecules=2)
    )
    assert [row.name[:5] for row in store.trajectories] == ["00001", "00004", "00000"]


def test_elements_as_symbols_are_read(tmp_path, mdqm9):
    folder, mols, _ = mdqm9
    symbols = [atom.GetSymbol() for atom in mols[1].GetAtoms()]

    def change(file):
        del file["00001/data/atoms"]
        file["00001/data/atoms"] = np.array(symbols, dtype="S2")

    edit(folder, change)
    store = open_store(convert_mdqm9(folder, tmp_path / "out", splits=["val"]))
    assert store.molecules[0].atomic_numbers.tolist() == [6, 6, 7, 1, 1, 1]


def test_an_sdf_that_is_shifted_by_one_is_refused(tmp_path, mdqm9):
    folder = mdqm9[0]
    np.save(folder / "splits" / "val_indices.npy", np.array([1]))

    def shift(file):
        file.move("00001", "spare")
        file.move("00002", "00001")

    edit(folder, shift)
    with pytest.raises(
        ValueError, match=r"atoms: expected 6 as in the bonds, got 4 in group /00001"
    ):
        convert_mdqm9(folder, tmp_path / "out", splits=["val"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("00001", r"source: expected group 00001 in .*mdqm9-nc.hdf5, got none"),
        ("00001/trajectories/md_0", r"source: expected a dataset /00001/trajectories/md_0 in"),
        ("00001/data/time_lag", r"source: expected a dataset /00001/data/time_lag in"),
        ("00001/data/atoms", r"source: expected a dataset /00001/data/atoms in"),
    ],
)
def test_missing_parts_are_named(tmp_path, mdqm9, missing, message):
    edit(mdqm9[0], lambda file: file.pop(missing))
    with pytest.raises(ValueError, match=message):
        convert_mdqm9(mdqm9[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (np.array([99]), r"sdf: expected entries 0 to 4 in .*, got 99|expected group 00099"),
        (np.array([0]), r"splits: expected every molecule once, got 0 in train and val"),
        (np.array([1.5]), r"splits: expected integers of shape \(n_molecules,\)"),
        (np.array([[1]]), r"splits: expected integers of shape \(n_molecules,\)"),
    ],
)
def test_bad_split_files_are_refused(tmp_path, mdqm9, indices, message):
    np.save(mdqm9[0] / "splits" / "val_indices.npy", indices)
    with pytest.raises(ValueError, match=message):
        convert_mdqm9(mdqm9[0], tmp_path / "out")


def test_a_wrong_folder_is_refused(tmp_path, mdqm9):
    folder = mdqm9[0]
    with pytest.raises(ValueError, match=r"source: expected a directory, got .*none"):
        convert_mdqm9(tmp_path / "none", tmp_path / "out")
    with pytest.raises(ValueError, match=r"source: expected one file .hdf5 or .h5 in .*, got 0"):
        convert_mdqm9(tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match=r"splits: expected a file .*extra_indices.npy, got none"):
        convert_mdqm9(folder, tmp_path / "out", splits=["extra"])
    with pytest.raises(ValueError, match=r"n_molecules: expected at least 1, got 0"):
        convert_mdqm9(folder, tmp_path / "out", n_molecules=0)
    whole = (folder / "mdqm9-nc.hdf5").read_bytes()
    (folder / "mdqm9-nc.hdf5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"source: expected a complete HDF5 file"):
        convert_mdqm9(folder, tmp_path / "out")
    for file in (folder / "splits").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"splits: expected <split>_indices.npy in"):
        convert_mdqm9(folder, tmp_path / "out")
