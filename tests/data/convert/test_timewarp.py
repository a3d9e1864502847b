import h5py
import numpy as np
import pytest
from rdkit import Chem

from tito_fast.data.convert.timewarp import convert_timewarp, convert_timewarp_h5
from tito_fast.data.readers import from_pdb, from_sequence
from tito_fast.data.store import check_store, open_store

STEP_PS = 0.0005
LOG_OFFSETS = np.array([1, 10, 100, 1000, 10_000])


@pytest.fixture(scope="module")
def dipeptide(tmp_path_factory):
    """Return the PDB text and positions (n_atoms, 3), nm, of a phenylalanine-serine dipeptide."""
    molecule = from_sequence("FS")
    lines = [
        f"ATOM  {idx + 1:5d} {name:<4s} {residue:3s} A{number:4d}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {symbol:>2s}"
        for idx, (name, residue, number, (x, y, z), symbol) in enumerate(
            zip(
                [f" {n}" if len(n) < 4 else n for n in molecule.atom_names],
                molecule.residue_names,
                molecule.residue_numbers,
                10 * molecule.positions,
                [Chem.GetPeriodicTable().GetElementSymbol(int(z)) for z in molecule.atomic_numbers],
                strict=True,
            )
        )
    ]
    return "\n".join([*lines, "TER", "END", ""]), molecule.positions


def write_pair(folder, dipeptide, steps, *, sequence="FS", seed=0, **changes):
    """Write <SEQ>-traj-arrays.npz and <SEQ>-traj-state0.pdb as the published set has them."""
    folder.mkdir(parents=True, exist_ok=True)
    text, base = dipeptide
    rng = np.random.default_rng(seed)
    noise = rng.normal(scale=0.002, size=(len(steps), *base.shape))
    arrays = {
        "positions": (base + noise + 1.5).astype(np.float32),
        "velocities": noise.astype(np.float32),
        "forces": noise.astype(np.float32),
        "energies": np.zeros((len(steps), 2)),
        "time": np.asarray(steps) * STEP_PS,
        "step": np.asarray(steps),
    }
    arrays = {name: value for name, value in {**arrays, **changes}.items() if value is not None}
    np.savez_compressed(folder / f"{sequence}-traj-arrays.npz", **arrays)
    (folder / f"{sequence}-traj-state0.pdb").write_text(text)
    return arrays.get("positions")


def log_steps(n_windows):
    return (2_000_000 + np.arange(n_windows)[:, None] * 10_000 + LOG_OFFSETS).reshape(-1)


def test_one_frame_every_5_ps_is_kept(tmp_path, dipeptide, centered):
    positions = write_pair(tmp_path / "4AA" / "train", dipeptide, log_steps(20))
    other = write_pair(tmp_path / "4AA" / "test", dipeptide, log_steps(7), sequence="SF", seed=1)
    store = open_store(convert_timewarp(tmp_path / "4AA", tmp_path / "out", temperature_k=310.0))
    assert check_store(store.path) == []
    assert [(row.name, row.split, row.n_frames) for row in store.trajectories] == [
        ("SF", "test", 7),
        ("FS", "train", 20),
    ]
    assert {row.frame_interval_ps for row in store.trajectories} == {5.0}
    assert {row.temperature_k for row in store.trajectories} == {310.0}
    # What the authors keep as well: every fifth record from the first.
    for idx, expected in ((0, other), (1, positions)):
        np.testing.assert_allclose(
            store.trajectory_positions(idx), centered(expected[::5]), atol=1e-6
        )


def test_bonds_are_those_of_the_residues_at_the_first_frame(tmp_path, dipeptide):
    write_pair(tmp_path / "in", dipeptide, log_steps(3))
    pdb = tmp_path / "in" / "FS-traj-state0.pdb"
    expected = from_pdb(pdb)
    # The published PDB files hold unphysical positions; nothing may be taken from them.
    garbled = [
        line[:30] + f"{idx % 9 * 0.01:8.3f}" * 3 + line[54:] if line.startswith("ATOM") else line
        for idx, line in enumerate(pdb.read_text().splitlines())
    ]
    pdb.write_text("\n".join(garbled))
    molecule = open_store(convert_timewarp(tmp_path / "in", tmp_path / "out")).molecules[0]
    np.testing.assert_array_equal(molecule.bond_index, expected.bond_index)
    np.testing.assert_array_equal(molecule.bond_type, expected.bond_type)
    assert set(molecule.bond_type.tolist()) == {1, 2, 12}
    assert molecule.name == "FS"
    assert molecule.smiles == expected.smiles
    assert "@" in molecule.smiles
    assert set(molecule.residue_names) == {"PHE", "SER"}


def test_regular_and_windowed_reporters_are_read(tmp_path, dipeptide, centered):
    rng = np.random.default_rng(0)
    rows = [
        k * 10_000 + np.append(rng.choice(np.arange(1, 100), 4, replace=False), 0)
        for k in range(1, 15)
    ]
    steps = np.sort(np.concatenate(rows))
    windowed = write_pair(tmp_path / "in", dipeptide, steps)
    regular = write_pair(tmp_path / "in", dipeptide, 2000 * np.arange(9), sequence="SF")
    store = open_store(convert_timewarp(tmp_path / "in", tmp_path / "out"))
    assert [(row.name, row.n_frames, row.frame_interval_ps) for row in store.trajectories] == [
        ("FS", 14, 5.0),
        ("SF", 9, 1.0),
    ]
    kept = centered(windowed[steps % 10_000 == 0])
    np.testing.assert_allclose(store.trajectory_positions(0), kept, atol=1e-6)
    np.testing.assert_allclose(store.trajectory_positions(1), centered(regular), atol=1e-6)


def test_a_gap_makes_two_trajectories(tmp_path, dipeptide, centered):
    steps = np.delete(10_000 * np.arange(1, 13), 7)
    positions = write_pair(tmp_path / "in", dipeptide, steps)
    store = open_store(convert_timewarp(tmp_path / "in", tmp_path / "out"))
    assert [(row.name, row.n_frames) for row in store.trajectories] == [("FS/0", 7), ("FS/1", 4)]
    assert [row.molecule_idx for row in store.trajectories] == [0, 0]
    np.testing.assert_allclose(store.trajectory_positions(0), centered(positions[:7]), atol=1e-6)
    np.testing.assert_allclose(store.trajectory_positions(1), centered(positions[7:]), atol=1e-6)


def test_a_spacing_can_be_required(tmp_path, dipeptide):
    write_pair(tmp_path / "in", dipeptide, 10_000 * np.arange(1, 13))
    store = open_store(convert_timewarp(tmp_path / "in", tmp_path / "out", spacing_ps=10.0))
    assert [(row.n_frames, row.frame_interval_ps) for row in store.trajectories] == [(6, 10.0)]
    with pytest.raises(ValueError, match=r"FS-traj-arrays.npz: steps: expected frames 2000 steps"):
        convert_timewarp(tmp_path / "in", tmp_path / "out2", spacing_ps=1.0)
    with pytest.raises(ValueError, match=r"spacing_ps: expected a multiple of the time step of"):
        convert_timewarp(tmp_path / "in", tmp_path / "out2", spacing_ps=1.00033)
    with pytest.raises(ValueError, match=r"spacing_ps: expected a value above zero, got -5 ps"):
        convert_timewarp(tmp_path / "in", tmp_path / "out2", spacing_ps=-5.0)


def test_times_alone_suffice(tmp_path, dipeptide):
    write_pair(tmp_path / "in", dipeptide, log_steps(6), step=None)
    store = open_store(convert_timewarp(tmp_path / "in", tmp_path / "out"))
    assert [(row.n_frames, row.frame_interval_ps) for row in store.trajectories] == [(6, 5.0)]


def test_frames_beyond_one_block_are_all_read(tmp_path, dipeptide, centered, monkeypatch):
    monkeypatch.setattr("tito_fast.data.convert.timewarp._BLOCK_ROWS", 200)
    positions = write_pair(tmp_path / "in", dipeptide, log_steps(20))
    store = open_store(convert_timewarp(tmp_path / "in", tmp_path / "out"))
    np.testing.assert_allclose(store.trajectory_positions(0), centered(positions[::5]), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time": None}, r"expected an archive with time and positions in"),
        ({"positions": None}, r"expected an archive with time and positions in"),
        ({"positions": np.zeros((14, 5))}, r"positions: expected floats of shape"),
        (
            {"positions": np.zeros((14, 5, 3))},
            r"positions: expected 15 frames as time in .* got 14",
        ),
        ({"positions": np.zeros((15, 5, 3))}, r"atoms: expected 5 as in the arrays, got \d+ in"),
        ({"time": np.zeros(15)}, r"FS-traj-arrays.npz: time: expected 0 ps for every step"),
    ],
)
def test_malformed_arrays_are_refused(tmp_path, dipeptide, changes, message):
    write_pair(tmp_path / "in", dipeptide, log_steps(3), **changes)
    with pytest.raises(ValueError, match=message):
        convert_timewarp(tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_and_truncated_files_are_refused(tmp_path, dipeptide):
    with pytest.raises(ValueError, match=r"source: expected a directory, got"):
        convert_timewarp(tmp_path / "none", tmp_path / "out")
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match=r"source: expected files \*-traj-arrays.npz in"):
        convert_timewarp(tmp_path / "in", tmp_path / "out")
    write_pair(tmp_path / "in", dipeptide, log_steps(3))
    with pytest.raises(ValueError, match=r"splits: expected a folder 'test' in"):
        convert_timewarp(tmp_path / "in", tmp_path / "out", splits=["test"])
    arrays = tmp_path / "in" / "FS-traj-arrays.npz"
    whole = arrays.read_bytes()
    arrays.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"expected an archive with time and positions in"):
        convert_timewarp(tmp_path / "in", tmp_path / "out")
    arrays.write_bytes(whole)
    (tmp_path / "in" / "FS-traj-state0.pdb").unlink()
    with pytest.raises(ValueError, match=r"source: expected FS-traj-state0.pdb beside"):
        convert_timewarp(tmp_path / "in", tmp_path / "out")


@pytest.fixture
def preprocessed(tmp_path, embedded, shaken, centered):
    """Write the authors' HDF5: {train,val,test}/{SEQ}/{traj,time,energies,mol} and data/std."""
    path = tmp_path / "timewarp.h5"
    mols = {
        "train/AF": embedded("N[C@@H](C)C(=O)N[C@@H](Cc1ccccc1)C(=O)O"),
        "val/G": embedded("NCC(=O)O"),
    }
    frames = {}
    with h5py.File(path, "w") as file:
        file["data/std"] = 0.277
        for key, mol in mols.items():
            frames[key] = centered(shaken(mol, 6)).astype(np.float32)
            file[f"{key}/traj"] = frames[key]
            file[f"{key}/time"] = 5.0 + 5.0 * np.arange(6)
            file[f"{key}/energies"] = np.zeros((6, 2))
            file[f"{key}/mol"] = Chem.MolToMolBlock(mol)
    return path, mols, frames


def test_the_preprocessed_file_is_read(tmp_path, preprocessed):
    path, mols, frames = preprocessed
    store = open_store(convert_timewarp_h5(path, tmp_path / "out", temperature_k=310.0))
    assert check_store(store.path) == []
    assert [(row.split, row.name) for row in store.trajectories] == [("train", "AF"), ("val", "G")]
    for idx, key in enumerate(frames):
        assert store.trajectories[idx].frame_interval_ps == 5.0
        assert store.trajectories[idx].temperature_k == 310.0
        np.testing.assert_allclose(store.trajectory_positions(idx), frames[key], atol=1e-7)
        molecule = store.molecules[idx]
        assert molecule.bond_type.shape[0] == 2 * mols[key].GetNumBonds()
        assert molecule.smiles == Chem.MolToSmiles(Chem.RemoveHs(mols[key]))
    assert set(store.molecules[0].bond_type.tolist()) == {1, 2, 12}
    only = open_store(convert_timewarp_h5(path, tmp_path / "val", splits=["val"]))
    assert only.splits == ("val",)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("time", 5.0 * np.array([0, 1, 2, 4, 5, 6]), r"time stamps: expected one frame every 6 ps"),
        ("time", np.arange(5.0), r"source: expected 6 time stamps in /train/AF/time, got \(5,\)"),
        ("time", None, r"source: expected a dataset /train/AF/time in"),
        ("traj", np.zeros((6, 3, 3)), r"traj: expected shape \(n_frames, 33, 3\) as in mol"),
        ("mol", "no molecule", r"mol: expected a MolBlock for 'AF' in .*, got 'no molecule'"),
    ],
)
def test_a_malformed_preprocessed_file_is_refused(tmp_path, preprocessed, name, value, message):
    path = preprocessed[0]
    with h5py.File(path, "a") as file:
        del file[f"train/AF/{name}"]
        if value is not None:
            file[f"train/AF/{name}"] = value
    with pytest.raises(ValueError, match=message):
        convert_timewarp_h5(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_of_another_kind_is_refused(tmp_path, preprocessed):
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match=r"source: expected a complete HDF5 file, got .*text.h5"):
        convert_timewarp_h5(tmp_path / "text.h5", tmp_path / "out")
    with pytest.raises(ValueError, match=r"source: expected an HDF5 file, got .*none.h5"):
        convert_timewarp_h5(tmp_path / "none.h5", tmp_path / "out")
    with pytest.raises(ValueError, match=r"splits: expected a group 'test' in"):
        convert_timewarp_h5(preprocessed[0], tmp_path / "out", splits=["test"])
