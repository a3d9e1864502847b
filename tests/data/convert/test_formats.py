import numpy as np
import pytest

from tito_fast.data.convert.formats import detect_format
from tito_fast.data.convert.mdtraj_files import convert_mdtraj
from tito_fast.data.run_directory import RunDirectory
from tito_fast.data.store import open_store


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["train/a/topology.pdb", "train/a/trajectory.xtc"], "mdtraj"),
        (["mdqm9-nc.hdf5", "mdqm9-nc.sdf", "splits/train_indices.npy"], "mdqm9"),
        (["AAAA-traj-arrays.npz", "AAAA-traj-state0.pdb"], "timewarp"),
        (["test/AAAA-traj-arrays.npz"], "timewarp"),
    ],
)
def test_a_layout_is_told_by_its_names(tmp_path, files, expected):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert detect_format(tmp_path) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.h5", "timewarp-h5"), ("a.hdf5", "timewarp-h5"), ("a.pdb", "mdtraj")],
)
def test_a_file_is_told_by_its_suffix(tmp_path, name, expected):
    (tmp_path / name).touch()
    assert detect_format(tmp_path / name) == expected


def test_an_unknown_layout_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"source: expected <split>/<name>/topology.pdb, .* none"):
        detect_format(tmp_path)
    with pytest.raises(ValueError, match=r"source: expected a file or directory, got"):
        detect_format(tmp_path / "none")


def test_the_directory_of_a_run_and_a_folder_of_them_are_recognized(tmp_path, make_molecule):
    molecule = make_molecule(12)
    path = tmp_path / "both" / "one"
    settings = {"lag_times_ps": [10.0], "format": "xtc"}
    with RunDirectory.open(path, settings, molecule=molecule, n_steps=3, n_replicas=1) as run:
        writer = run.open_writer(0, token=0)
        writer.append(np.repeat(molecule.positions[None], 4, axis=0), 10.0 * np.arange(4))
        writer.close()
    assert detect_format(path) == detect_format(path.parent) == "mdtraj"
    for source in (path, path.parent):
        store = open_store(convert_mdtraj(source, tmp_path / f"store of {source.name}"))
        assert [row.n_frames for row in store.trajectories] == [4]
        assert store.trajectories[0].frame_interval_ps == 10.0
        # Bonds are the run's own: a PDB file has no orders.
        np.testing.assert_array_equal(store.molecules[0].bond_type, molecule.bond_type)
    (path / "rep_0001.xtc").touch()
    assert len(open_store(convert_mdtraj(path, tmp_path / "again")).trajectories) == 1
    (path / "rep_0000.xtc").unlink()
    with pytest.raises(ValueError, match="source: expected a trajectory file in"):
        convert_mdtraj(path, tmp_path / "none")
